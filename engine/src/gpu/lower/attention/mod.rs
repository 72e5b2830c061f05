//! Attention and its gradients, fused: no queries x keys matrix is ever stored.
//!
//! [`queries`] has the kernel of a tile of queries, which walks over keys: the output, what the gradients need to know
//! of each query, the gradient of the queries. [`keys`] has that of a tile of keys, which walks over queries: the
//! gradients of keys and values. Both are written from the pieces in [`tiles`].
//!
//! *Invariant:* tiles that a mask hides whole are skipped, but every key and query keeps its place in the order of
//! sums.

mod keys;
mod queries;
#[cfg(test)]
mod tests;
mod tiles;

use crate::graph::{Attention, AttentionInput, NodeId, Op};
use crate::number::from_foreign;

use super::super::kernel::{Kernel, View};
use super::super::plan::Building;
use super::LANES;
use tiles::{COMPONENTS, Source};

/// More queries or keys than this, and operands are rounded once, beforehand, and not as often as they are read.
const DIRECT_MAX: usize = 128;

/// y = attention(q, k, v).
pub(super) fn forward(building: &mut Building<'_, '_>, id: NodeId, options: &Attention) {
    let [q, k, v] = [0, 1, 2].map(|input| building.operand(id, input));
    let problem = Problem::new(options, &q, &k);
    let y = building.result(id);
    let [q, k, v] = problem.operands(building, [q, k, v]);
    queries::output(building, &problem, [&q, &k, &v], &y);
}

/// The gradients of a unit: all have the same operands.
pub(super) fn backward(building: &mut Building<'_, '_>, unit: &[NodeId], options: &Attention) {
    let Some(&id) = unit.first() else { return };
    let mut gradients: [Option<View>; 3] = [None, None, None];
    let mut again = vec![];
    for &id in unit {
        let Op::AttentionGrad(_, of) = building.analysis.node(id).op else { continue };
        let place = match of {
            AttentionInput::Q => 0,
            AttentionInput::K => 1,
            AttentionInput::V => 2,
        };
        if gradients[place].is_some() {
            again.push(id);
        } else {
            gradients[place] = Some(building.result(id));
        }
    }
    let [q, k, v, y, dy] = [0, 1, 2, 3, 4].map(|input| building.operand(id, input));
    let problem = Problem::new(options, &q, &k);
    let [q, k, v, rounded_dy] = problem.operands(building, [q, k, v, dy.clone()]);
    let operands = [&q, &k, &v, &rounded_dy];
    let [dq, dk, dv] = &gradients;
    let known = (dk.is_some() || dv.is_some()).then(|| building.scratch(3 * problem.lines()));
    // Only the gradient of a score takes the sum of dy·y.
    let rows = (dq.is_some() || dk.is_some()).then_some([&dy, &y]);
    queries::gradients(building, &problem, operands, rows, dq.as_ref(), known.as_ref());
    if let Some(known) = &known {
        keys::gradients(building, &problem, operands, known, [dk.as_ref(), dv.as_ref()]);
    }
    if !again.is_empty() {
        backward(building, &again, options);
    }
}

/// Lengths and options: q [batch, heads, queries, width]; k, v [batch, key_heads, keys, width].
struct Problem {
    batch: usize,
    heads: usize,
    key_heads: usize,
    queries: usize,
    keys: usize,
    width: usize,
    /// Whether queries see only keys up to their own index, and only `window` of them.
    masked: bool,
    window: usize,
    /// Bits of the factor on scores.
    factor: u32,
    /// Bits of the soft cap.
    cap: Option<u32>,
}

impl Problem {
    fn new(options: &Attention, q: &View, k: &View) -> Self {
        let axis = |view: &View, axis: usize| view.shape.get(axis).map_or(1, |&n| n as usize);
        let canonical = |bits: u32| from_foreign(f32::from_bits(bits)).to_bits();
        Self {
            batch: axis(q, 0),
            heads: axis(q, 1),
            key_heads: axis(k, 1),
            queries: axis(q, 2),
            keys: axis(k, 2),
            width: axis(q, 3),
            masked: options.causal || options.window > 0,
            // Indices are below 2^31, and so is their sum with this.
            window: if options.window == 0 { 0x7fff_ffff } else { options.window.min(0x7fff_ffff) as usize },
            factor: canonical(options.scale),
            cap: (options.soft_cap != 0).then(|| canonical(options.soft_cap)),
        }
    }

    /// Rows of q.
    fn lines(&self) -> usize {
        self.batch * self.heads * self.queries
    }

    /// Groups of four in a row.
    fn fours(&self) -> usize {
        self.width.div_ceil(4)
    }

    /// Operations of one contraction of all queries with all keys that they see, about.
    fn product_work(&self) -> u64 {
        let seen = match self.masked {
            true => self.window.min(self.keys.div_ceil(2)),
            false => self.keys,
        };
        2 * (self.lines() * self.width) as u64 * seen as u64
    }

    /// The operands of contractions, as rows of whole groups of four. If they are read often, or do not stand so, they
    /// are rounded into tensors of their own.
    fn operands<const N: usize>(&self, building: &mut Building<'_, '_>, views: [View; N]) -> [Operand; N] {
        let aligned = self.width.is_multiple_of(4) && views.iter().all(View::by_four);
        if aligned && self.queries.max(self.keys) <= DIRECT_MAX {
            return views.map(|view| Operand { view, rounded: false });
        }
        let width = 4 * self.fours();
        let mut kernel = Kernel::new("attention operands", [LANES, 1, 1]);
        let rows = |view: &View| view.len() / self.width;
        kernel.each(views.iter().map(|view| rows(view) * width).max().unwrap_or(0));
        let (own, padded) = (kernel.arg(self.width), kernel.arg(width));
        kernel.code(&format!("let row = i / {padded};\nlet column = i % {padded};"));
        let mut done: Vec<(View, View)> = vec![];
        let operands = views.map(|view| {
            let known = done.iter().find(|(from, _)| *from == view).map(|(_, to)| to.clone());
            let to = known.unwrap_or_else(|| {
                let to = building.scratch(rows(&view) * width);
                let (count, from) = (kernel.arg(rows(&view)), kernel.read(&view));
                let out = kernel.write(&to);
                kernel.work += to.len() as u64;
                kernel.code(&format!(
                    "if (row < {count}) {{\nvar x = 0.0;\nif (column < {own}) {{ x = round12({}); }}\n{} = x;\n}}",
                    from.at(format!("row * {own} + column")),
                    out.at("i"),
                ));
                done.push((view, to.clone()));
                to
            });
            Operand { view: to, rounded: true }
        });
        building.push(kernel);
        operands
    }

    /// Declares the scores' functions: of products `q·k`, four at a time.
    fn declare_scores(&self, kernel: &mut Kernel) {
        let factor = kernel.float(self.factor);
        let (queries, keys) = (kernel.arg(self.queries), kernel.arg(self.keys));
        let score = match self.cap {
            None => format!("fn score(x: f32) -> f32 {{ return c_mul(canon(x), {factor}); }}"),
            Some(cap) => {
                let cap = kernel.float(cap);
                format!(
                    "fn bent(x: f32) -> f32 {{ return c_tanh(c_div(c_mul(canon(x), {factor}), {cap})); }}\n\
                     fn score(x: f32) -> f32 {{ return c_mul({cap}, bent(x)); }}"
                )
            }
        };
        let slope = match self.cap {
            None => "ds".to_owned(),
            Some(_) => "c_mul(ds, c_sub(1.0, c_mul(bent(x), bent(x))))".to_owned(),
        };
        let visible = match self.masked {
            false => String::new(),
            true => format!(" & (key <= query) & (query < key + {})", kernel.arg(self.window)),
        };
        let all = |call: &dyn Fn(char) -> String| format!("vec4<f32>({})", COMPONENTS.map(call).join(", "));
        let scores = all(&|c| format!("score(x.{c})"));
        let weights = all(&|c| format!("c_exp(c_sub(s.{c}, m.{c}))"));
        let products = all(&|c| format!("c_mul(a.{c}, b.{c})"));
        let slopes = all(&|c| format!("slope(p.{c}, dp.{c}, d.{c}, x.{c})"));
        kernel.declare(&format!(
            "{score}\n\
             fn scores(x: vec4<f32>) -> vec4<f32> {{ return {scores}; }}\n\
             fn seen(query: u32, key: u32) -> bool {{ return (query < {queries}) & (key < {keys}){visible}; }}\n\
             fn weights(s: vec4<f32>, m: vec4<f32>, seen: vec4<bool>) -> vec4<f32> {{\n\
             return select(vec4<f32>(), {weights}, seen);\n}}\n\
             fn products(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {{ return {products}; }}\n\
             fn slope(p: f32, dp: f32, d: f32, x: f32) -> f32 {{\n\
             let ds = c_mul(p, c_sub(canon(dp), d));\nreturn c_mul({slope}, {factor});\n}}\n\
             fn slopes(p: vec4<f32>, dp: vec4<f32>, d: vec4<f32>, x: vec4<f32>) -> vec4<f32> {{ return {slopes}; }}"
        ));
    }
}

/// An operand of contractions.
struct Operand {
    view: View,
    /// Whether it is rounded already.
    rounded: bool,
}

impl Operand {
    fn read(&self, kernel: &mut Kernel) -> Source {
        Source { bound: kernel.read_fours(&self.view), rounded: self.rounded }
    }
}
