//! Composite operations along the last axis, and rotary positions: each one kernel, in the steps of
//! `crate::reference::rows`.
//!
//! Elements are read again, and functions of them computed again, in each pass over a row: they are exact.

use crate::graph::{NodeId, RowOp};
use crate::math;
use crate::number::{from_foreign, inverse_count};

use super::super::kernel::{Kernel, View};
use super::super::plan::Building;
use super::LANES;
use super::lanes::Lanes;

/// Pairs of a rotation that are worth an invocation each; of more, an invocation turns several by the same angle.
const TURNS_ALONE: usize = 1 << 16;
/// Most pairs that one invocation turns.
const TURNS_MAX: usize = 64;

/// Lowers a composite operation.
pub(super) fn lower(building: &mut Building<'_, '_>, id: NodeId, op: RowOp) {
    let from = building.operand(id, 0);
    let n = from.last();
    let mut rows = Rows::new(label(op), from.len() / n, n);
    let x = rows.lanes.kernel.read(&from);
    rows.x = x.at("at + i");
    let dy = match op {
        RowOp::SoftmaxGrad | RowOp::LogSoftmaxGrad | RowOp::RmsNormGrad(_) | RowOp::LayerNormGrad(_) => {
            rows.operand(&building.operand(id, 1))
        }
        _ => String::new(),
    };
    let to = building.result(id);
    let to = rows.lanes.kernel.write(&to);
    let put = |y: &str| format!("{} = {y};", to.at("at + i"));
    match op {
        RowOp::Softmax => {
            rows.exponentials();
            rows.lanes.kernel.code("let r = c_recip(z);");
            rows.each(&put(&format!("c_mul(c_exp(c_sub({}, m)), r)", rows.x)));
        }
        RowOp::SoftmaxGrad => {
            rows.sum("s", &format!("c_mul({dy}, {})", rows.x));
            rows.each(&put(&format!("c_mul({}, c_sub({dy}, s))", rows.x)));
        }
        RowOp::LogSoftmax => {
            rows.exponentials();
            rows.lanes.kernel.code("let log_z = c_log(z);");
            rows.each(&put(&format!("c_sub(c_sub({}, m), log_z)", rows.x)));
        }
        RowOp::LogSoftmaxGrad => {
            rows.sum("s", &dy);
            rows.each(&put(&format!("c_sub({dy}, c_mul(c_exp({}), s))", rows.x)));
        }
        RowOp::RmsNorm(eps) => {
            rows.normalise(eps);
            rows.each(&put(&format!("c_mul({}, r)", rows.x)));
        }
        RowOp::RmsNormGrad(eps) => {
            rows.normalise(eps);
            let y = format!("c_mul({}, r)", rows.x);
            rows.mean("s", &format!("c_mul({dy}, {y})"));
            rows.each(&format!("let y = {y};\n{}", put(&format!("c_mul(r, c_sub({dy}, c_mul(y, s)))"))));
        }
        RowOp::LayerNorm(eps) => {
            rows.mean("mean", &rows.x.clone());
            rows.centre();
            rows.normalise(eps);
            rows.each(&put(&format!("c_mul({}, r)", rows.x)));
        }
        RowOp::LayerNormGrad(eps) => {
            // Four passes: of the longest rows, too many iterations together.
            rows.lanes.ahead *= 2;
            let x = rows.x.clone();
            rows.means(&[("mean", &x), ("m", &dy)]);
            rows.centre();
            rows.normalise(eps);
            let y = format!("c_mul({}, r)", rows.x);
            rows.mean("s", &format!("c_mul({dy}, {y})"));
            rows.each(&format!("let y = {y};\n{}", put(&format!("c_mul(r, c_sub(c_sub({dy}, m), c_mul(y, s)))"))));
        }
        RowOp::CrossEntropy => {
            rows.class(building, id);
            rows.exponentials();
            rows.lanes.once(&format!(
                "var loss = 0.0;\nif (known) {{ loss = c_sub(c_log(z), c_sub({}, m)); }}\n{} = loss;",
                x.at("at + own"),
                to.at("row")
            ));
        }
        RowOp::CrossEntropyGrad => {
            rows.class(building, id);
            let g = rows.lanes.kernel.read(&building.operand(id, 2));
            rows.exponentials();
            rows.lanes
                .kernel
                .code(&format!("let r = c_recip(z);\nvar g = 0.0;\nif (known) {{ g = {}; }}", g.at("row")));
            rows.each(&format!(
                "var y = c_mul(c_exp(c_sub({}, m)), r);\nif (i == own) {{ y = c_sub(y, 1.0); }}\n{}",
                rows.x,
                put("c_mul(y, g)")
            ));
        }
    }
    building.push(rows.lanes.finish(from.len() * cost(op)));
}

fn label(op: RowOp) -> &'static str {
    match op {
        RowOp::Softmax => "softmax",
        RowOp::SoftmaxGrad => "softmax gradient",
        RowOp::LogSoftmax => "log softmax",
        RowOp::LogSoftmaxGrad => "log softmax gradient",
        RowOp::RmsNorm(_) => "rms norm",
        RowOp::RmsNormGrad(_) => "rms norm gradient",
        RowOp::LayerNorm(_) => "layer norm",
        RowOp::LayerNormGrad(_) => "layer norm gradient",
        RowOp::CrossEntropy => "cross entropy",
        RowOp::CrossEntropyGrad => "cross entropy gradient",
    }
}

/// Rough number of operations for each element.
fn cost(op: RowOp) -> usize {
    match op {
        RowOp::SoftmaxGrad => 16,
        RowOp::RmsNorm(_) | RowOp::LayerNorm(_) => 24,
        RowOp::RmsNormGrad(_) | RowOp::LayerNormGrad(_) => 48,
        RowOp::Softmax | RowOp::CrossEntropyGrad => 128,
        RowOp::LogSoftmax | RowOp::LogSoftmaxGrad | RowOp::CrossEntropy => 72,
    }
}

/// A kernel over rows of one operand, `x`, that begin at `at`.
struct Rows {
    lanes: Lanes,
    /// Element `i` of what is made of the row.
    x: String,
    /// f32(1/n).
    share: u32,
}

impl Rows {
    fn new(label: &'static str, rows: usize, n: usize) -> Self {
        let mut lanes = Lanes::rows(label, rows, n);
        let n_ = lanes.kernel.arg(n);
        lanes.kernel.code(&format!("let n = {n_};\nlet at = row * n;"));
        Self { lanes, x: String::new(), share: inverse_count(n as u64).to_bits() }
    }

    /// Element `i` of a row of an operand.
    fn operand(&mut self, view: &View) -> String {
        self.lanes.kernel.read(view).at("at + i")
    }

    fn each(&mut self, body: &str) {
        self.lanes.each(body);
    }

    /// Row sum.
    fn sum(&mut self, name: &str, x: &str) {
        let sum = format!("{name}_sum");
        self.lanes.sums(&[(sum.as_str(), x)]);
        self.lanes.kernel.code(&format!("let {name} = canon({sum});"));
    }

    /// Row sum times f32(1/n).
    fn mean(&mut self, name: &str, x: &str) {
        self.means(&[(name, x)]);
    }

    fn means(&mut self, means: &[(&str, &str)]) {
        let share = self.lanes.kernel.float(self.share);
        let names: Vec<String> = means.iter().map(|(name, _)| format!("{name}_sum")).collect();
        let sums: Vec<(&str, &str)> = names.iter().zip(means).map(|(name, &(_, x))| (name.as_str(), x)).collect();
        self.lanes.sums(&sums);
        for (name, _) in means {
            self.lanes.kernel.code(&format!("let {name} = c_mul(canon({name}_sum), {share});"));
        }
    }

    /// The row's maximum m, and z, the sum of e^(x - m).
    fn exponentials(&mut self) {
        self.lanes.max("m", &self.x);
        self.sum("z", &format!("c_exp(c_sub({}, m))", self.x));
    }

    /// r = rsqrt(mean(x·x) + eps).
    fn normalise(&mut self, eps: u32) {
        let eps = self.lanes.kernel.float(from_foreign(f32::from_bits(eps)).to_bits());
        self.mean("square", &format!("square({})", self.x));
        self.lanes.kernel.declare("fn square(x: f32) -> f32 { return c_mul(x, x); }");
        self.lanes.kernel.code(&format!("let r = c_rsqrt(c_add(square, {eps}));"));
    }

    /// From here on, x is the difference from the mean.
    fn centre(&mut self) {
        self.x = format!("c_sub({}, mean)", self.x);
    }

    /// The row's class, and whether its id names one; any other id is padding.
    fn class(&mut self, building: &mut Building<'_, '_>, id: NodeId) {
        let ids = self.lanes.kernel.read_ints(&building.operand(id, 1));
        self.lanes.kernel.code(&format!(
            "var own = 0xffffffffu;\nif (there) {{ own = bitcast<u32>({}); }}\nlet known = own < n;",
            ids.at("row")
        ));
    }
}

/// Rotary positions: each pair (i, i + d/2) of x [.., T, d] is turned by its position's angle, or back.
pub(super) fn rope(building: &mut Building<'_, '_>, id: NodeId, base: u32, inverse: bool) {
    let (from, to) = (building.operand(id, 0), building.result(id));
    let d = from.last();
    let positions = from.shape.iter().rev().nth(1).map_or(1, |&n| n as usize);
    let angles = positions * (d / 2);
    let matrices = from.len() / (positions * d);
    // An angle is some hundred operations: it pays to use one more than once where there are enough of them.
    let turns = (matrices * angles / TURNS_ALONE).clamp(1, TURNS_MAX).min(matrices);
    let mut kernel = Kernel::new("rope", [LANES, 1, 1]);
    kernel.each(angles * matrices.div_ceil(turns));
    kernel.work = (from.len() * 16 + angles * matrices.div_ceil(turns) * 320) as u64;
    let log_base = kernel.float(math::log(from_foreign(f32::from_bits(base))).to_bits());
    let [d, half, angles, turns, matrices, matrix] =
        [d, d / 2, angles, turns, matrices, positions * d].map(|n| kernel.arg(n));
    let (from, to) = (kernel.read(&from), kernel.write(&to));
    let (left, right) = if inverse { ("c_add", "c_sub") } else { ("c_sub", "c_add") };
    kernel.code(&format!(
        "let angle = i % {angles};\nlet t = angle / {half};\nlet pair = angle % {half};\n\
         let share = c_div(to_float(i32(2u * pair)), to_float(i32({d})));\n\
         let frequency = c_exp(c_neg(c_mul(share, {log_base})));\n\
         let turned = c_mul(to_float(i32(t)), frequency);\n\
         let c = c_cos(turned);\nlet s = c_sin(turned);\n\
         let first = i / {angles} * {turns};\nlet end = min(first + {turns}, {matrices});\n\
         for (var matrix = first; matrix < end; matrix += 1u) {{\n\
         let at = matrix * {matrix} + t * {d} + pair;\n\
         let a = {};\nlet b = {};\n\
         {} = {left}(c_mul(a, c), c_mul(b, s));\n\
         {} = {right}(c_mul(b, c), c_mul(a, s));\n}}",
        from.at("at"),
        from.at(format!("at + {half}")),
        to.at("at"),
        to.at(format!("at + {half}")),
    ));
    building.push(kernel);
}
