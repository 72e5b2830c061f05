//! Convolutions.

use super::super::{Conv2d, DType, Graph, NodeId, Op};
use super::{Built, GraphError, shape_error};

impl Conv2d {
    /// Output pixels along `axis` (0 is H, 1 is W) for an input of `len` and a kernel of `kernel`; none where the kernel
    /// does not fit the padded input, or a stride or dilation is 0.
    pub fn output_len(&self, axis: usize, len: u32, kernel: u32) -> Option<u64> {
        let [stride, padding, dilation] = [self.stride, self.padding, self.dilation].map(|pair| u64::from(pair[axis]));
        let reach = dilation * (u64::from(kernel).checked_sub(1)?) + 1;
        let room = (u64::from(len) + 2 * padding).checked_sub(reach)?;
        if dilation == 0 { None } else { room.checked_div(stride).map(|steps| steps + 1) }
    }
}

impl Graph {
    /// x [N, C, H, W] and w [O, C/groups, KH, KW]: [N, O, OH, OW].
    pub fn conv2d(&mut self, x: NodeId, w: NodeId, options: Conv2d) -> Built {
        let (x_shape, w_shape) = (self.float("conv2d", x)?, self.float("conv2d", w)?);
        let shape = conv2d_shape(&x_shape, &w_shape, options)?;
        self.push(Op::Conv2d(options), vec![x, w], shape, DType::F32)
    }

    /// Gradient of the input, of height and width `size`, from w and the gradient of the output.
    pub fn conv2d_input_grad(&mut self, w: NodeId, dy: NodeId, options: Conv2d, size: [u32; 2]) -> Built {
        let (w_shape, dy_shape) = (self.float("conv2d gradient", w)?, self.float("conv2d gradient", dy)?);
        let (&[_, channels, ..], &[images, ..]) = (&w_shape[..], &dy_shape[..]) else {
            return shape_error(four_axes("w", &w_shape, "dy", &dy_shape));
        };
        let channels = channels.checked_mul(options.groups);
        let channels = channels.ok_or_else(|| GraphError::Limit("conv2d: too many channels".into()))?;
        let shape = vec![images, channels, size[0], size[1]];
        let wanted = conv2d_shape(&shape, &w_shape, options)?;
        self.same_shape("conv2d gradient", &wanted, &dy_shape)?;
        self.push(Op::Conv2dInputGrad(options), vec![w, dy], shape, DType::F32)
    }

    /// Gradient of the kernel, of height and width `size`, from x and the gradient of the output.
    pub fn conv2d_weight_grad(&mut self, x: NodeId, dy: NodeId, options: Conv2d, size: [u32; 2]) -> Built {
        let (x_shape, dy_shape) = (self.float("conv2d gradient", x)?, self.float("conv2d gradient", dy)?);
        let (&[_, channels, ..], &[_, out_channels, ..]) = (&x_shape[..], &dy_shape[..]) else {
            return shape_error(four_axes("x", &x_shape, "dy", &dy_shape));
        };
        let shape = vec![out_channels, channels / options.groups.max(1), size[0], size[1]];
        let wanted = conv2d_shape(&x_shape, &shape, options)?;
        self.same_shape("conv2d gradient", &wanted, &dy_shape)?;
        self.push(Op::Conv2dWeightGrad(options), vec![x, dy], shape, DType::F32)
    }
}

fn four_axes(a: &str, a_shape: &[u32], b: &str, b_shape: &[u32]) -> String {
    format!("conv2d: {a} {a_shape:?}, {b} {b_shape:?} must have four axes: image or output, channel, height, width")
}

fn conv2d_shape(x: &[u32], w: &[u32], options: Conv2d) -> Result<Vec<u32>, GraphError> {
    let (&[images, channels, height, width], &[out_channels, group_channels, kernel_height, kernel_width]) = (x, w)
    else {
        return shape_error(four_axes("x", x, "w", w));
    };
    let Conv2d { stride, padding, dilation, groups } = options;
    if groups == 0 || channels % groups != 0 || out_channels % groups != 0 {
        return shape_error(format!(
            "conv2d: {groups} groups must divide the {channels} channels of x and the {out_channels} of w"
        ));
    }
    if channels / groups != group_channels {
        return shape_error(format!(
            "conv2d: x {x:?} has {} channels in each of {groups} groups, but w {w:?} takes {group_channels}",
            channels / groups
        ));
    }
    if stride.contains(&0) || dilation.contains(&0) {
        return shape_error(format!("conv2d: stride {stride:?} and dilation {dilation:?} must be at least 1"));
    }
    let mut shape = vec![images, out_channels];
    for (axis, (len, kernel)) in [(height, kernel_height), (width, kernel_width)].into_iter().enumerate() {
        let Some(out) = options.output_len(axis, len, kernel) else {
            return shape_error(format!(
                "conv2d: a kernel of {kernel} with dilation {} does not fit an axis of {len} with padding {}",
                dilation[axis], padding[axis]
            ));
        };
        shape.push(u32::try_from(out).map_err(|_| GraphError::Limit(format!("conv2d: {out} outputs along an axis")))?);
    }
    Ok(shape)
}
