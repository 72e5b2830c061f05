//! Convolutions as contractions of unfolded inputs; a place outside of a tensor is a zero that keeps its index.
//!
//! The order of k is (c, kh, kw) forward, (o, kh, kw) for the gradient of the input, (n, oh, ow) for that of the kernel.

use super::Here;
use super::contract::{contract, operand};
use crate::graph::Conv2d;

/// Lengths of x [images, channels, input], w [outputs, channels / groups, kernel], y [images, outputs, output].
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// How the kernel slides.
    pub options: Conv2d,
    /// N.
    pub images: usize,
    /// C.
    pub channels: usize,
    /// O.
    pub outputs: usize,
    /// H and W.
    pub input: [usize; 2],
    /// KH and KW.
    pub kernel: [usize; 2],
    /// OH and OW.
    pub output: [usize; 2],
}

impl Sizes {
    /// From the shapes of x, w and y.
    pub fn new(options: Conv2d, x: &[u32], w: &[u32], y: &[u32]) -> Self {
        let pair = |shape: &[u32]| [shape[2] as usize, shape[3] as usize];
        Self {
            options,
            images: x[0] as usize,
            channels: x[1] as usize,
            outputs: w[0] as usize,
            input: pair(x),
            kernel: pair(w),
            output: pair(y),
        }
    }

    /// Channels, and outputs, of a group.
    pub fn of_group(&self) -> [usize; 2] {
        let groups = self.options.groups as usize;
        [self.channels / groups, self.outputs / groups]
    }

    /// Every output pixel, row-major.
    fn pixels(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        places(self.output)
    }

    /// The element of x that kernel element `tap` meets at output pixel `at`, if it is inside.
    fn input_at(&self, image: usize, channel: usize, tap: [usize; 2], at: [usize; 2]) -> Option<usize> {
        let mut index = image * self.channels + channel;
        for axis in 0..2 {
            let [stride, padding, dilation] = self.along(axis);
            let place = (at[axis] * stride + tap[axis] * dilation).checked_sub(padding)?;
            if place >= self.input[axis] {
                return None;
            }
            index = index * self.input[axis] + place;
        }
        Some(index)
    }

    /// The element of y at which kernel element `tap` meets input pixel `at`, if there is one.
    fn output_at(&self, image: usize, output: usize, tap: [usize; 2], at: [usize; 2]) -> Option<usize> {
        let mut index = image * self.outputs + output;
        for axis in 0..2 {
            let [stride, padding, dilation] = self.along(axis);
            let steps = (at[axis] + padding).checked_sub(tap[axis] * dilation)?;
            if steps % stride != 0 || steps / stride >= self.output[axis] {
                return None;
            }
            index = index * self.output[axis] + steps / stride;
        }
        Some(index)
    }

    /// Stride, padding and dilation along an axis.
    fn along(&self, axis: usize) -> [usize; 3] {
        let Conv2d { stride, padding, dilation, .. } = self.options;
        [stride, padding, dilation].map(|pair| pair[axis] as usize)
    }
}

/// Index pairs below these lengths, row-major.
fn places([rows, columns]: [usize; 2]) -> impl Iterator<Item = [usize; 2]> {
    (0..rows * columns).map(move |i| [i / columns, i % columns])
}

/// The element, 0 where there is none.
fn or_zero(x: &[f32], at: Option<usize>) -> f32 {
    at.map_or(0.0, |at| x[at])
}

/// y from x and w.
fn forward(sizes: &Sizes, x: &[f32], w: &[f32]) -> Vec<f32> {
    let (x, w) = (operand(x), operand(w));
    let [channels, outputs] = sizes.of_group();
    let k = channels * sizes.kernel[0] * sizes.kernel[1];
    let mut y = Vec::with_capacity(sizes.images * sizes.outputs * sizes.output[0] * sizes.output[1]);
    for image in 0..sizes.images {
        for output in 0..sizes.outputs {
            let group = output / outputs;
            for at in sizes.pixels() {
                let unfolded: Vec<f32> = (group * channels..(group + 1) * channels)
                    .flat_map(|c| places(sizes.kernel).map(move |tap| (c, tap)))
                    .map(|(c, tap)| or_zero(&x, sizes.input_at(image, c, tap, at)))
                    .collect();
                y.push(contract(&w[output * k..][..k], &unfolded));
            }
        }
    }
    y
}

/// The gradient of x from w and that of y.
fn input_grad(sizes: &Sizes, w: &[f32], dy: &[f32]) -> Vec<f32> {
    let (w, dy) = (operand(w), operand(dy));
    let [channels, outputs] = sizes.of_group();
    let taps = sizes.kernel[0] * sizes.kernel[1];
    let mut dx = Vec::with_capacity(sizes.images * sizes.channels * sizes.input[0] * sizes.input[1]);
    for image in 0..sizes.images {
        for channel in 0..sizes.channels {
            let (group, channel) = (channel / channels, channel % channels);
            let terms = || {
                (group * outputs..(group + 1) * outputs)
                    .flat_map(|o| places(sizes.kernel).enumerate().map(move |(i, tap)| (o, i, tap)))
            };
            let weights: Vec<f32> = terms().map(|(o, i, _)| w[(o * channels + channel) * taps + i]).collect();
            for at in places(sizes.input) {
                let unfolded: Vec<f32> =
                    terms().map(|(o, _, tap)| or_zero(&dy, sizes.output_at(image, o, tap, at))).collect();
                dx.push(contract(&weights, &unfolded));
            }
        }
    }
    dx
}

/// The gradient of w from x and that of y.
fn weight_grad(sizes: &Sizes, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (x, dy) = (operand(x), operand(dy));
    let [channels, outputs] = sizes.of_group();
    let pixels = sizes.output[0] * sizes.output[1];
    let mut dw = Vec::with_capacity(sizes.outputs * channels * sizes.kernel[0] * sizes.kernel[1]);
    for output in 0..sizes.outputs {
        let gradient: Vec<f32> = (0..sizes.images)
            .flat_map(|image| &dy[(image * sizes.outputs + output) * pixels..][..pixels])
            .copied()
            .collect();
        for channel in output / outputs * channels..(output / outputs + 1) * channels {
            for tap in places(sizes.kernel) {
                let unfolded: Vec<f32> = (0..sizes.images)
                    .flat_map(|image| sizes.pixels().map(move |at| (image, at)))
                    .map(|(image, at)| or_zero(&x, sizes.input_at(image, channel, tap, at)))
                    .collect();
                dw.push(contract(&gradient, &unfolded));
            }
        }
    }
    dw
}

impl Here<'_> {
    pub(super) fn conv2d(&self, options: Conv2d) -> Vec<f32> {
        let sizes = Sizes::new(options, self.dims(0), self.dims(1), self.out());
        forward(&sizes, self.floats(0), self.floats(1))
    }

    pub(super) fn conv2d_input_grad(&self, options: Conv2d) -> Vec<f32> {
        let sizes = Sizes::new(options, self.out(), self.dims(0), self.dims(1));
        input_grad(&sizes, self.floats(0), self.floats(1))
    }

    pub(super) fn conv2d_weight_grad(&self, options: Conv2d) -> Vec<f32> {
        let sizes = Sizes::new(options, self.dims(0), self.out(), self.dims(1));
        weight_grad(&sizes, self.floats(0), self.floats(1))
    }
}
