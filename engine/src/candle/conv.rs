//! Convolutions, one matrix product for each element of the kernel: any stride, padding, dilation and grouping, on any
//! device.

use candle_core::{DType as Type, Device, Tensor};

use super::{Here, Result};
use crate::graph::Conv2d;

/// How one convolution's axes meet. Tensors here are [channel, image, height, width].
struct Shapes<'a> {
    options: &'a Conv2d,
    /// Output pixels.
    output: [usize; 2],
    kernel: [usize; 2],
    device: &'a Device,
}

impl Shapes<'_> {
    fn groups(&self) -> usize {
        self.options.groups as usize
    }

    /// Kernel elements, row-major, and where the output's rows and columns lie in the padded input for each.
    fn taps(&self) -> Result<Vec<([usize; 2], [Tensor; 2])>> {
        let places = |axis: usize, tap: usize| {
            let [stride, dilation] = [self.options.stride[axis], self.options.dilation[axis]].map(i64::from);
            let first = tap as i64 * dilation;
            let ids: Vec<i64> = (0..self.output[axis] as i64).map(|i| first + i * stride).collect();
            Tensor::from_vec(ids, self.output[axis], self.device)
        };
        let taps = (0..self.kernel[0]).flat_map(|i| (0..self.kernel[1]).map(move |j| [i, j]));
        taps.map(|tap| Ok((tap, [places(0, tap[0])?, places(1, tap[1])?]))).collect()
    }

    /// x [N, C, H, W] with its zeros around it, channels first.
    fn padded(&self, x: &Tensor) -> Result<Tensor> {
        let [rows, columns] = self.options.padding.map(|n| n as usize);
        channels_first(x)?.pad_with_zeros(2, rows, rows)?.pad_with_zeros(3, columns, columns)?.contiguous()
    }
}

/// Swaps images and channels, either way.
fn channels_first(x: &Tensor) -> Result<Tensor> {
    x.permute((1, 0, 2, 3))?.contiguous()
}

/// Group `i` of `groups` along the first axis.
fn group(x: &Tensor, i: usize, groups: usize) -> Result<Tensor> {
    let n = x.dim(0)? / groups;
    x.narrow(0, i * n, n)?.contiguous()
}

/// The first axis by all others.
fn matrix(x: &Tensor) -> Result<Tensor> {
    x.flatten_from(1)
}

/// One element of the kernel of a group: [outputs, channels].
fn tap_of(w: &Tensor, [i, j]: [usize; 2]) -> Result<Tensor> {
    w.narrow(2, i, 1)?.narrow(3, j, 1)?.squeeze(3)?.squeeze(2)?.contiguous()
}

/// What the outputs see through one element of the kernel: [channels, everything else].
fn seen(x: &Tensor, [rows, columns]: &[Tensor; 2]) -> Result<Tensor> {
    matrix(&x.index_select(rows, 2)?.index_select(columns, 3)?)
}

impl Here<'_> {
    fn shapes<'a>(&'a self, options: &'a Conv2d, y: &Tensor, kernel: [usize; 2]) -> Result<Shapes<'a>> {
        Ok(Shapes { options, output: [y.dim(2)?, y.dim(3)?], kernel, device: self.device })
    }

    /// (x, w) -> y.
    pub(super) fn conv2d(&self, options: &Conv2d) -> Result<Tensor> {
        let [x, w] = [self.operands[0], self.operands[1]];
        let out = self.out();
        let kernel = [w.dim(2)?, w.dim(3)?];
        let shapes = Shapes { options, output: [out[2], out[3]], kernel, device: self.device };
        let (x, taps, groups) = (shapes.padded(x)?, shapes.taps()?, shapes.groups());
        let of_group = |i: usize| {
            let (x, w) = (group(&x, i, groups)?, group(w, i, groups)?);
            let mut y: Option<Tensor> = None;
            for (tap, places) in &taps {
                let term = tap_of(&w, *tap)?.matmul(&seen(&x, places)?)?;
                y = Some(y.map_or(Ok(term.clone()), |y| y + &term)?);
            }
            y.map_or_else(|| Tensor::zeros(out.clone(), Type::F32, self.device), Ok)
        };
        let y = Tensor::cat(&(0..groups).map(of_group).collect::<Result<Vec<_>>>()?, 0)?;
        channels_first(&y.reshape((out[1], out[0], out[2], out[3]))?)
    }

    /// (w, dy) -> gradient of x.
    pub(super) fn conv2d_input_grad(&self, options: &Conv2d) -> Result<Tensor> {
        let [w, dy] = [self.operands[0], self.operands[1]];
        let shapes = self.shapes(options, dy, [w.dim(2)?, w.dim(3)?])?;
        let out = self.out();
        let [above, left] = options.padding.map(|n| n as usize);
        let (height, width) = (out[2] + 2 * above, out[3] + 2 * left);
        let (dy, taps, groups) = (channels_first(dy)?, shapes.taps()?, shapes.groups());
        let of_group = |i: usize| {
            let (dy, w) = (matrix(&group(&dy, i, groups)?)?, group(w, i, groups)?);
            let channels = w.dim(1)?;
            let mut dx = Tensor::zeros((channels, out[0], height, width), Type::F32, self.device)?;
            for (tap, [rows, columns]) in &taps {
                let [down, across] = shapes.output;
                let term = tap_of(&w, *tap)?.t()?.matmul(&dy)?.reshape((channels, out[0], down, across))?;
                let wide = Tensor::zeros((channels, out[0], down, width), Type::F32, self.device)?;
                dx = dx.index_add(rows, &wide.index_add(columns, &term, 3)?, 2)?;
            }
            dx.narrow(2, above, out[2])?.narrow(3, left, out[3])
        };
        channels_first(&Tensor::cat(&(0..groups).map(of_group).collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// (x, dy) -> gradient of w.
    pub(super) fn conv2d_weight_grad(&self, options: &Conv2d) -> Result<Tensor> {
        let [x, dy] = [self.operands[0], self.operands[1]];
        let out = self.out();
        let shapes = self.shapes(options, dy, [out[2], out[3]])?;
        let (x, dy) = (shapes.padded(x)?, channels_first(dy)?);
        let (taps, groups) = (shapes.taps()?, shapes.groups());
        let of_group = |i: usize| {
            let (x, dy) = (group(&x, i, groups)?, matrix(&group(&dy, i, groups)?)?);
            let terms: Result<Vec<Tensor>> =
                taps.iter().map(|(_, places)| dy.matmul(&seen(&x, places)?.t()?)).collect();
            Tensor::stack(&terms?, 2)
        };
        Tensor::cat(&(0..groups).map(of_group).collect::<Result<Vec<_>>>()?, 0)?.reshape(out)
    }
}
