//! Every text that the kernels can have is valid WGSL; that they compute the right bits, the exactness suite tests.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use crate::gpu::kernel::BUFFERS_MAX;
use crate::gpu::plan::Plan;
use crate::gpu::{Form, Limits};
use crate::graph::{Attention, AttentionInput, Graph, Shape};

/// Adds the texts of all kernels of the attention of q [2, heads, queries, width] on keys, and of its gradients.
fn add(
    texts: &mut BTreeSet<String>,
    options: Attention,
    [heads, key_heads, queries, keys, width]: [u32; 5],
    form: Form,
) {
    let mut g = Graph::default();
    let mut param = |i: u32, shape: [u32; 4]| g.param(i, Shape(shape.to_vec())).unwrap();
    let q = param(0, [2, heads, queries, width]);
    let [k, v] = [1, 2].map(|i| param(i, [2, key_heads, keys, width]));
    let dy = param(3, [2, heads, queries, width]);
    let y = g.attention(q, k, v, options).unwrap();
    let of = [AttentionInput::Q, AttentionInput::K, AttentionInput::V];
    let [dq, dk, dv] = of.map(|of| g.attention_grad([q, k, v, y, dy], options, of).unwrap());
    let limits = Limits { binding: 1 << 30, memory: 1 << 34 };
    for wanted in [&[y, dq, dk, dv][..], &[dq], &[dk], &[dv]] {
        let plan = Plan::new(&g, wanted, true, None, form, limits).unwrap();
        let kernels: Vec<_> = plan.stages.iter().flatten().collect();
        assert!(!kernels.is_empty());
        assert!(kernels.iter().all(|kernel| kernel.bindings.len() <= BUFFERS_MAX));
        texts.extend(kernels.iter().map(|kernel| kernel.source()));
    }
}

fn valid(source: &str) {
    let module = naga::front::wgsl::parse_str(source)
        .unwrap_or_else(|error| panic!("{}\n{source}", error.emit_to_string(source)));
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::empty())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{}\n{source}", error.emit_to_string(source)));
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap();
    let shared = module.global_variables.iter().filter(|(_, it)| it.space == naga::AddressSpace::WorkGroup);
    let bytes: u32 = shared.map(|(_, variable)| layouter[variable.ty].size).sum();
    assert!(bytes <= 16_384, "{bytes} bytes of workgroup memory\n{source}");
}

#[test]
fn kernels_of_every_structure_are_valid() {
    let plain = Attention { causal: false, window: 0, scale: 0.5f32.to_bits(), soft_cap: 0 };
    let capped = Attention { causal: true, soft_cap: 2.0f32.to_bits(), ..plain };
    let mut texts = BTreeSet::new();
    for n in [1, 17, 64, 300, 5000] {
        add(&mut texts, plain, [2, 1, n, n, 16], Form::Barrier);
        add(&mut texts, capped, [2, 1, n, n, 16], Form::Barrier);
    }
    for width in [1, 4, 8, 12, 20, 36, 64, 100, 128, 130, 260] {
        add(&mut texts, plain, [1, 1, 200, 20, width], Form::Plain);
        add(&mut texts, plain, [100, 100, 20, 100, width], Form::Fma);
    }
    texts.iter().for_each(|text| valid(text));
}
