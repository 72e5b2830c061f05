//! Every kernel in the languages of Metal and Direct3D 12, whose compilers are not here: the translator that wgpu uses
//! takes each of them, and none asks for more than the smallest device has.

use std::collections::BTreeSet;

use cairn_engine::gpu::{Form, texts};
use cairn_engine::graph::{Graph, NodeId};
use naga::AddressSpace;
use naga::back::{hlsl, msl};
use naga::valid::{Capabilities, ValidationFlags, Validator};

use crate::cases::CASES;
use crate::programs::{Gpt, Mlp, gpt, mlp};

/// Bytes of workgroup memory that every device has.
const WORKGROUP_MEMORY: u32 = 16 << 10;
/// Invocations of a workgroup that every device takes.
const INVOCATIONS: u32 = 256;
/// Storage buffers of a kernel that every device takes.
const BUFFERS: usize = 8;

/// Kernels of all cases with their gradients, and of whole training steps.
fn all() -> BTreeSet<(&'static str, String)> {
    let mut all = BTreeSet::new();
    let mut add = |graph: &Graph, wanted: &[NodeId]| {
        for form in [Form::Plain, Form::Fma, Form::Barrier] {
            all.extend(texts(graph, wanted, form).unwrap());
        }
    };
    for case in CASES {
        let mut built = case.build();
        let (loss, gradients) = built.differentiate();
        add(&built.graph, &[&[loss, built.output][..], &gradients].concat());
    }
    let large = Gpt { vocab: 600, batch: 8, context: 256, width: 256, depth: 1, heads: 8, key_heads: 8, ..Gpt::TINY };
    for program in [gpt(&Gpt::TINY), gpt(&large), mlp(&Mlp::TINY)] {
        add(&program.phases[0].graph, &program.phases[0].wanted());
    }
    all
}

#[test]
fn every_kernel_translates_to_metal_and_direct3d() {
    let all = all();
    assert!(all.len() > 50, "{} kernels", all.len());
    for (label, text) in &all {
        let module =
            naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{label}: {}", e.emit_to_string(text)));
        let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
            .validate(&module)
            .unwrap_or_else(|error| panic!("{label}: {error:?}\n{text}"));
        let point = &module.entry_points[0];
        assert!(point.workgroup_size.iter().product::<u32>() <= INVOCATIONS, "{label}: {:?}", point.workgroup_size);
        let (mut shared, mut buffers) = (0, 0);
        for (_, variable) in module.global_variables.iter() {
            match variable.space {
                AddressSpace::WorkGroup => shared += module.types[variable.ty].inner.size(module.to_ctx()),
                AddressSpace::Storage { .. } => buffers += 1,
                _ => {}
            }
        }
        assert!(shared <= WORKGROUP_MEMORY, "{label}: {shared} bytes of workgroup memory");
        assert!(buffers <= BUFFERS, "{label}: {buffers} buffers");
        // Bindings go where wgpu puts them: numbered in each class.
        let options = msl::Options { fake_missing_bindings: true, ..msl::Options::default() };
        let pipeline = msl::PipelineOptions::default();
        let (metal, _) = msl::write_string(&module, &info, &options, &pipeline)
            .unwrap_or_else(|error| panic!("{label}, Metal: {error:?}"));
        assert!(metal.contains("kernel void"), "{label}");
        let options = hlsl::Options { fake_missing_bindings: true, ..hlsl::Options::default() };
        let pipeline = hlsl::PipelineOptions::default();
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|error| panic!("{label}, Direct3D: {error:?}"));
        assert!(text.contains("numthreads"), "{label}");
    }
}
