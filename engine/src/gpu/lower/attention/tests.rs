//! Every text that the kernels can have is valid WGSL; that they compute the right bits, the exactness suite tests.

use crate::gpu::plan::Plan;
use crate::gpu::{Form, Limits};
use crate::graph::{Attention, AttentionInput, Graph, NodeId, Shape};

/// All kernels of the attention of q [2, heads, queries, width] on keys, and of its gradients.
fn check(options: Attention, [heads, key_heads, queries, keys, width]: [u32; 5], form: Form) {
    let mut g = Graph::default();
    let mut param = |i: u32, shape: [u32; 4]| g.param(i, Shape(shape.to_vec())).unwrap();
    let q = param(0, [2, heads, queries, width]);
    let [k, v] = [1, 2].map(|i| param(i, [2, key_heads, keys, width]));
    let dy = param(3, [2, heads, queries, width]);
    let y = g.attention(q, k, v, options).unwrap();
    let of = [AttentionInput::Q, AttentionInput::K, AttentionInput::V];
    let gradients = of.map(|of| g.attention_grad([q, k, v, y, dy], options, of).unwrap());
    valid(&g, &[&[y], &gradients[..]].concat(), form);
    gradients.iter().for_each(|&gradient| valid(&g, &[gradient], form));
}

fn valid(graph: &Graph, wanted: &[NodeId], form: Form) {
    let limits = Limits { binding: 1 << 30, memory: 1 << 34 };
    let plan = Plan::new(graph, wanted, true, None, form, limits).unwrap();
    assert!(plan.stages.iter().flatten().count() > 0);
    for kernel in plan.stages.iter().flatten() {
        let source = kernel.source();
        let module = naga::front::wgsl::parse_str(&source).unwrap_or_else(|error| {
            panic!("{}: {}\n{source}", kernel.label, error.emit_to_string(&source));
        });
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::empty())
            .validate(&module)
            .unwrap_or_else(|error| panic!("{}: {}\n{source}", kernel.label, error.emit_to_string(&source)));
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let memory: u32 = module
            .global_variables
            .iter()
            .filter(|(_, variable)| variable.space == naga::AddressSpace::WorkGroup)
            .map(|(_, variable)| layouter[variable.ty].size)
            .sum();
        assert!(memory <= 16_384, "{}: {memory} bytes of workgroup memory", kernel.label);
        assert!(kernel.bindings.len() <= crate::gpu::kernel::BUFFERS_MAX);
    }
}

#[test]
fn kernels_of_every_structure_are_valid() {
    let plain = Attention { causal: false, window: 0, scale: 0.5f32.to_bits(), soft_cap: 0 };
    for form in [Form::Plain, Form::Fma, Form::Barrier] {
        for options in [plain, Attention { causal: true, soft_cap: 2.0f32.to_bits(), ..plain }] {
            for n in [1, 17, 64, 300, 5000] {
                check(options, [2, 1, n, n, 16], form);
            }
        }
        for width in [1, 4, 8, 12, 20, 36, 64, 100, 128, 130, 260, 600] {
            check(plain, [1, 1, 200, 20, width], form);
            check(plain, [1, 1, 20, 100, width], form);
        }
    }
}
