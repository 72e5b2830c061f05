//! Convolutions and pooling, with PyTorch's names and layouts.

use cairn_engine::graph::{Conv2d, NodeId, Shape};

use crate::diagnostic::Kind;
use crate::fault::{Outcome, fail, fail_hint};
use crate::machine::{Arguments, Machine};
use crate::value::Value;

/// Parameters of both convolutions.
const NAMES: [&str; 7] = ["input|x", "weight|w", "bias", "stride", "padding", "dilation", "groups"];

/// How much is padded on both sides, and once more at the end, along each axis.
struct Padding {
    both: [u32; 2],
    end: [u32; 2],
}

impl Machine<'_> {
    /// One int for each of `axes` axes, or one for all; the others of the pair are `rest`.
    fn along_axes(
        &mut self,
        what: &str,
        value: Option<Value>,
        axes: usize,
        least: u32,
        rest: u32,
    ) -> Outcome<[u32; 2]> {
        let given = match value {
            None | Some(Value::None) => return Ok([if axes == 2 { least.max(rest) } else { rest }, least.max(rest)]),
            Some(list @ (Value::Tuple(_) | Value::List(_))) => self.integers(what, &[list])?,
            Some(one) => vec![self.integer(what, one)?; axes],
        };
        let lengths: Option<Vec<u32>> = given.iter().map(|&n| u32::try_from(n).ok().filter(|&n| n >= least)).collect();
        match (lengths.as_deref(), axes) {
            (Some(&[height, width]), 2) => Ok([height, width]),
            (Some(&[width]), 1) => Ok([rest, width]),
            _ => fail(Kind::Shape, format!("{what}: {given:?}; an int of at least {least}, or {axes} of them")),
        }
    }

    /// `padding`: ints, or "valid" for none, or "same" for as many outputs as inputs.
    fn padding(&mut self, what: &str, value: Option<Value>, axes: usize, reach: [u32; 2]) -> Outcome<Padding> {
        let none = Padding { both: [0, 0], end: [0, 0] };
        let Some(Value::Text(text)) = value else {
            return Ok(Padding { both: self.along_axes(&format!("{what}: padding"), value, axes, 0, 0)?, ..none });
        };
        match &*self.text(text)? {
            "valid" => Ok(none),
            "same" => Ok(Padding { both: reach.map(|reach| reach / 2), end: reach.map(|reach| reach % 2) }),
            other => fail_hint(
                Kind::Value,
                format!("{what}: there is no padding \"{other}\""),
                "there are \"same\", \"valid\" and ints",
            ),
        }
    }

    /// A convolution over two axes, of which the first is `axes == 1` alone of length 1.
    fn convolution(&mut self, what: &str, bound: [Option<Value>; 7], axes: usize) -> Outcome<NodeId> {
        let [input, weight, bias, stride, padding, dilation, groups] = bound;
        let mut x = self.image(what, input.unwrap_or(Value::None), axes)?;
        let w = self.image(what, weight.unwrap_or(Value::None), axes)?;
        let stride = self.along_axes(&format!("{what}: stride"), stride, axes, 1, 1)?;
        let dilation = self.along_axes(&format!("{what}: dilation"), dilation, axes, 1, 1)?;
        let kernel = self.shape_of(w)?;
        let reach = [2, 3].map(|axis| kernel.get(axis).copied().unwrap_or(1).saturating_sub(1));
        let reach = [reach[0].saturating_mul(dilation[0]), reach[1].saturating_mul(dilation[1])];
        if stride != [1, 1] && matches!(padding, Some(Value::Text(text)) if &*self.text(text)? == "same") {
            return fail_hint(Kind::Value, format!("{what}: padding=\"same\" with a stride"), "say how many zeros");
        }
        let padding = self.padding(what, padding, axes, reach)?;
        for (axis, end) in (2u8..).zip(padding.end) {
            if end > 0 {
                let padded = self.build(1, |graph| graph.pad(x, axis, 0, end))?;
                x = self.node(what, padded)?;
            }
        }
        let groups = match groups {
            None | Some(Value::None) => 1,
            Some(groups) => match u32::try_from(self.integer(&format!("{what}: groups"), groups)?) {
                Ok(groups) if groups > 0 => groups,
                _ => return fail(Kind::Shape, format!("{what}: at least one group")),
            },
        };
        let options = Conv2d { stride, padding: padding.both, dilation, groups };
        let y = self.build(2, |graph| graph.conv2d(x, w, options))?;
        let y = self.node(what, y)?;
        let Some(bias) = bias.filter(|bias| *bias != Value::None) else { return Ok(y) };
        let bias = self.float_operand(what, bias)?;
        let (channels, shape) = (self.shape_of(y)?.get(1).copied(), self.shape_of(bias)?);
        if channels.is_none_or(|channels| shape != [channels]) {
            return fail(Kind::Shape, format!("{what}: a bias of shape {shape:?} for {channels:?} channels"));
        }
        let column = self.build(1, |graph| graph.reshape(bias, Shape([&shape[..], &[1, 1]].concat())))?;
        let sum = self.add(self.tensor_of(y), column)?;
        self.node(what, sum)
    }

    /// A tensor of four axes; of three, where there is one axis to slide along.
    fn image(&mut self, what: &str, value: Value, axes: usize) -> Outcome<NodeId> {
        let x = self.float_operand(what, value)?;
        let shape = self.shape_of(x)?;
        match (shape[..].as_ref(), axes) {
            ([_, _, _, _], 2) => Ok(x),
            (&[n, channels, length], 1) => {
                let image = self.build(1, |graph| graph.reshape(x, Shape(vec![n, channels, 1, length])))?;
                self.node(what, image)
            }
            _ => fail(Kind::Shape, format!("{what}: a tensor of shape {shape:?}; it has {} axes", axes + 2)),
        }
    }
}

/// `conv2d(input [N, C, H, W], weight [O, C/groups, KH, KW], bias [O], stride, padding, dilation, groups)`.
pub(super) fn conv2d(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let bound = a.bind(m, "conv2d", NAMES, 2)?;
    let y = m.convolution("conv2d", bound, 2)?;
    Ok(m.tensor_of(y))
}

/// `conv1d(input [N, C, L], weight [O, C/groups, K], …)`: conv2d with one row.
pub(super) fn conv1d(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let bound = a.bind(m, "conv1d", NAMES, 2)?;
    let y = m.convolution("conv1d", bound, 1)?;
    m.without_axis(m.tensor_of(y), 2)
}

/// The windows of a pooling without overlap, as axes 3 and 5: [N, C, H/k, k, W/k, k].
fn windows(m: &mut Machine<'_>, a: Arguments, name: &str) -> Outcome<Value> {
    let [x, kernel, stride] = a.bind(m, name, ["input|x", "kernel_size", "stride"], 2)?;
    let mut x = m.image(name, x.unwrap_or(Value::None), 2)?;
    let kernel = m.along_axes(&format!("{name}: kernel_size"), kernel, 2, 1, 1)?;
    if let Some(stride) = stride.filter(|stride| *stride != Value::None)
        && m.along_axes(&format!("{name}: stride"), Some(stride), 2, 1, 1)? != kernel
    {
        return fail_hint(
            Kind::Value,
            format!("{name}: the windows overlap or leave gaps"),
            "the stride is the kernel size; a convolution has others",
        );
    }
    let shape = m.shape_of(x)?;
    let mut cut = Vec::new();
    for (axis, (&length, kernel)) in (2u8..).zip(shape.iter().skip(2).zip(kernel)) {
        let count = length / kernel;
        if count == 0 {
            return fail(Kind::Shape, format!("{name}: windows of {kernel:?} along an axis of length {length}"));
        }
        let whole = m.sliced_axis(x, axis, 0, count * kernel)?;
        x = m.node(name, whole)?;
        cut.extend([count, kernel]);
    }
    let lead = shape.get(..2).unwrap_or_default();
    m.build(1, |graph| graph.reshape(x, Shape([lead, &cut].concat())))
}

/// The largest of each window.
pub(super) fn max_pool2d(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let windows = windows(m, a, "max_pool2d")?;
    let axes = m.new_tuple(&[Value::Int(3), Value::Int(5)])?;
    super::reduce::max(m, Arguments::of(&[windows, axes]))
}

/// The mean of each window.
pub(super) fn avg_pool2d(m: &mut Machine<'_>, a: Arguments) -> Outcome<Value> {
    let windows = windows(m, a, "avg_pool2d")?;
    let axes = m.new_tuple(&[Value::Int(3), Value::Int(5)])?;
    super::reduce::mean(m, Arguments::of(&[windows, axes]))
}
