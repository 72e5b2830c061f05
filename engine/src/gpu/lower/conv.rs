//! Convolutions as contractions of images that are unfolded while they are read: see [`mod@crate::reference`].
//!
//! A group of channels is a batch. The order of k is (c, kh, kw) forward, (o, kh, kw) for the gradient of the input,
//! (n, oh, ow) for that of the kernel; columns are the pixels of all images or, for the kernel's gradient, its elements.

use crate::graph::{Conv2d, NodeId};
use crate::reference::conv::Sizes;

use super::super::plan::Building;
use super::operand::{Layout, Operand, Patches};
use super::product::{Output, Product};

/// Elements of a plane.
fn area([rows, columns]: [usize; 2]) -> usize {
    rows * columns
}

/// What kernel elements meet in x.
fn patches(sizes: &Sizes, of_pixels: bool) -> Patches {
    let pair = |pair: [u32; 2]| pair.map(|n| n as usize);
    let Conv2d { stride, padding, dilation, .. } = sizes.options;
    Patches {
        of_pixels,
        back: false,
        image: sizes.channels * area(sizes.input),
        size: sizes.input,
        pixels: sizes.output,
        kernel: sizes.kernel,
        stride: pair(stride),
        padding: pair(padding),
        dilation: pair(dilation),
    }
}

/// y from x and w.
pub(super) fn forward(building: &mut Building<'_, '_>, id: NodeId, options: Conv2d) {
    let (x, w, view) = (building.operand(id, 0), building.operand(id, 1), building.result(id));
    let sizes = Sizes::new(options, &x.shape, &w.shape, &view.shape);
    let [channels, outputs] = sizes.of_group();
    let (pixels, k) = (area(sizes.output), channels * area(sizes.kernel));
    let layout = Layout::Patches(patches(&sizes, true));
    let product = Product {
        label: "conv2d",
        batches: options.groups as usize,
        k,
        a: Operand { view: w, lines: outputs, batch: outputs * k, layout: Layout::AlongK { step: k } },
        b: Operand { view: x, lines: sizes.images * pixels, batch: channels * area(sizes.input), layout },
        output: Output { view, step: pixels, batch: outputs * pixels, images: Some([pixels, sizes.outputs * pixels]) },
        is_sum: false,
    };
    product.lower(building);
}

/// The gradient of x from w and that of y.
pub(super) fn input_grad(building: &mut Building<'_, '_>, id: NodeId, options: Conv2d) {
    let (w, dy, view) = (building.operand(id, 0), building.operand(id, 1), building.result(id));
    let sizes = Sizes::new(options, &view.shape, &w.shape, &dy.shape);
    let [channels, outputs] = sizes.of_group();
    let (pixels, taps, inputs) = (area(sizes.output), area(sizes.kernel), area(sizes.input));
    let layout = Layout::Patches(Patches {
        back: true,
        image: sizes.outputs * pixels,
        size: sizes.output,
        pixels: sizes.input,
        ..patches(&sizes, true)
    });
    let of_kernel = Layout::InRuns { step: taps, run: taps, far: channels * taps };
    let product = Product {
        label: "conv2d's input gradient",
        batches: options.groups as usize,
        k: outputs * taps,
        a: Operand { view: w, lines: channels, batch: outputs * channels * taps, layout: of_kernel },
        b: Operand { view: dy, lines: sizes.images * inputs, batch: outputs * pixels, layout },
        output: Output {
            view,
            step: inputs,
            batch: channels * inputs,
            images: Some([inputs, sizes.channels * inputs]),
        },
        is_sum: false,
    };
    product.lower(building);
}

/// The gradient of w from x and that of y.
pub(super) fn weight_grad(building: &mut Building<'_, '_>, id: NodeId, options: Conv2d) {
    let (x, dy, view) = (building.operand(id, 0), building.operand(id, 1), building.result(id));
    let sizes = Sizes::new(options, &x.shape, &view.shape, &dy.shape);
    let [channels, outputs] = sizes.of_group();
    let (pixels, weights) = (area(sizes.output), channels * area(sizes.kernel));
    let of_outputs = Layout::InRuns { step: pixels, run: pixels, far: sizes.outputs * pixels };
    let layout = Layout::Patches(patches(&sizes, false));
    let product = Product {
        label: "conv2d's kernel gradient",
        batches: options.groups as usize,
        k: sizes.images * pixels,
        a: Operand { view: dy, lines: outputs, batch: outputs * pixels, layout: of_outputs },
        b: Operand { view: x, lines: weights, batch: channels * area(sizes.input), layout },
        output: Output { view, step: weights, batch: outputs * weights, images: None },
        is_sum: building.is_sum(id),
    };
    product.lower(building);
}
