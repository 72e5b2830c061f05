//! Sums and maxima over axes, and where the largest elements are.
//!
//! Sums whose axes include the last one follow the row rule, any other one the column rule; how the elements stand in
//! memory decides only how they are reached. Where there are few results, blocks or chunks are summed side by side into a
//! tensor of their sums, which is summed in turn.

use crate::graph::NodeId;
use crate::reference::reduce::{CHUNK, ROW_BLOCK};

use super::super::kernel::{Bound, Kernel, View, Word};
use super::super::plan::Building;
use super::LANES;
use super::lanes::{self, Lanes, lowest};

/// Long rows that keep a device busy, each in a workgroup.
const ROWS_ENOUGH: usize = 128;
/// Chunks of a column that one invocation sums.
const CHUNKS_ALONE: usize = 2;
/// Elements that an invocation reads before it uses the first of them.
const AHEAD: usize = 8;
/// Iterations of a loop, of two that are nested because one might be too long.
const LOOP: usize = 4096;

/// Elements of a row, or of a block of it, that are put in order by counting.
const SORTED: usize = 1024;

/// Length and distance of axes, outermost first.
type Axes = Vec<(usize, usize)>;

/// How elements become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fold {
    Sum,
    Max,
}

impl Fold {
    /// What a fold starts from.
    fn start(self) -> String {
        match self {
            Self::Sum => "0.0".to_owned(),
            Self::Max => lowest(),
        }
    }

    /// The function of two numbers.
    fn function(self) -> &'static str {
        match self {
            Self::Sum => "plus",
            Self::Max => "c_max",
        }
    }

    /// What a result passes at last: it is a node's.
    fn end(self, x: &str) -> String {
        match self {
            Self::Sum => format!("canon({x})"),
            Self::Max => x.to_owned(),
        }
    }
}

/// Which elements of a tensor each result is made of.
#[derive(Clone, Debug)]
struct Reduction {
    /// Axes that stay, and axes that go; neighbours are joined.
    kept: Axes,
    gone: Axes,
}

impl Reduction {
    fn new(shape: &[u32], axes: &[u8]) -> Self {
        let (mut kept, mut gone) = (Axes::new(), Axes::new());
        let mut distance: usize = shape.iter().map(|&len| len as usize).product();
        for (axis, &len) in shape.iter().enumerate() {
            let len = len as usize;
            distance /= len;
            if len == 1 {
                continue;
            }
            let axes = if axes.contains(&(axis as u8)) { &mut gone } else { &mut kept };
            match axes.last_mut() {
                Some(outer) if outer.1 == len * distance => *outer = (outer.0 * len, distance),
                _ => axes.push((len, distance)),
            }
        }
        Self { kept, gone }
    }

    /// Rows of `n` elements each.
    fn rows(rows: usize, n: usize) -> Self {
        Self { kept: vec![(rows, n)], gone: vec![(n, 1)] }
    }

    fn results(&self) -> usize {
        self.kept.iter().map(|&(len, _)| len).product()
    }

    /// Elements that one result is made of.
    fn len(&self) -> usize {
        self.gone.iter().map(|&(len, _)| len).product()
    }

    /// Declares `kept(result)`, where a result's first element is, and `gone(index)`, how far another one is from it.
    fn declare(&self, kernel: &mut Kernel) {
        for (name, axes) in [("kept", &self.kept), ("gone", &self.gone)] {
            let mut text = format!("fn {name}(index: u32) -> u32 {{\n");
            match axes[..] {
                [] => text.push_str("return 0u;\n"),
                [(_, distance)] => text.push_str(&format!("return index * {};\n", kernel.arg(distance))),
                [(_, outer), ref inner @ ..] => {
                    text.push_str("var rest = index;\nvar at = 0u;\n");
                    for &(len, distance) in inner.iter().rev() {
                        let (len, distance) = (kernel.arg(len), kernel.arg(distance));
                        text.push_str(&format!("at += rest % {len} * {distance};\nrest /= {len};\n"));
                    }
                    text.push_str(&format!("return at + rest * {};\n", kernel.arg(outer)));
                }
            }
            text.push('}');
            kernel.declare(&text);
        }
    }
}

/// Sum over axes.
pub(super) fn sum(building: &mut Building<'_, '_>, id: NodeId, axes: &[u8]) {
    let (from, to) = (building.operand(id, 0), building.result(id));
    let reduction = Reduction::new(&from.shape, axes);
    let by_rows = axes.iter().any(|&axis| usize::from(axis) + 1 == from.shape.len());
    if by_rows && reduction.len() > 1 {
        fold_rows(building, &from, &to, &reduction, Fold::Sum);
    } else {
        let carried = building.is_sum(id).then(|| Carried::new(building, &reduction));
        fold_columns(building, &from, &to, &reduction, Fold::Sum, carried);
    }
}

/// Maximum over axes.
pub(super) fn max(building: &mut Building<'_, '_>, id: NodeId, axes: &[u8]) {
    let (from, to) = (building.operand(id, 0), building.result(id));
    let reduction = Reduction::new(&from.shape, axes);
    // Exact, so its order is free: as elements stand in memory.
    if matches!(reduction.gone[..], [.., (_, 1)]) {
        fold_rows(building, &from, &to, &reduction, Fold::Max);
    } else {
        fold_columns(building, &from, &to, &reduction, Fold::Max, None);
    }
}

/// The row rule.
fn fold_rows(building: &mut Building<'_, '_>, from: &View, to: &View, reduction: &Reduction, fold: Fold) {
    let (results, n) = (reduction.results(), reduction.len());
    let blocks = n.div_ceil(ROW_BLOCK);
    if blocks == 1 || results >= ROWS_ENOUGH {
        let label = if fold == Fold::Sum { "row sums" } else { "row maxima" };
        building.push(rows(Lanes::rows(label, results, n), from, to, reduction, fold, "row", true));
        return;
    }
    let label = if fold == Fold::Sum { "block sums" } else { "block maxima" };
    let sums = building.scratch(results * blocks);
    let lanes = Lanes::blocks(label, results * blocks, n);
    building.push(rows(lanes, from, &sums, reduction, fold, "unit", false));
    fold_rows(building, &sums, to, &Reduction::rows(results, blocks), fold);
}

/// Rows, or blocks of them, to the numbers at `index`.
fn rows(
    mut lanes: Lanes,
    from: &View,
    to: &View,
    reduction: &Reduction,
    fold: Fold,
    index: &str,
    whole: bool,
) -> Kernel {
    reduction.declare(&mut lanes.kernel);
    let (from, to) = (lanes.kernel.read(from), lanes.kernel.write(to));
    lanes.kernel.code("let at = kept(row);");
    lanes.ahead = AHEAD;
    let x = from.at("at + gone(i)");
    match fold {
        Fold::Sum => lanes.sums(&[("y", x)]),
        Fold::Max => lanes.max("y", x),
    }
    let y = if whole { fold.end("y") } else { "y".to_owned() };
    lanes.once(&format!("{} = {y};", to.at(index)));
    lanes.finish(4 * reduction.results() * reduction.len())
}

/// A sum by the column rule that runs over all slices of the batch: the result holds the total so far.
struct Carried {
    /// The sum of a chunk that a slice leaves unfinished.
    unfinished: View,
}

impl Carried {
    fn new(building: &mut Building<'_, '_>, reduction: &Reduction) -> Self {
        Self { unfinished: building.carried(reduction.results()) }
    }
}

/// What the text of a sum in slices knows: `before`, the elements of a result that earlier slices had; `is_first`,
/// `is_last`; and `skew`, how many of a chunk's elements earlier slices had. Without slices, the same of one.
fn declare_slices(kernel: &mut Kernel, len: usize, carried: bool) {
    let n = kernel.arg(len);
    if carried {
        let before = kernel.word(Word::Slice { first: 0, advance: len as u32 });
        let [first, last] = [Word::IsFirst, Word::IsLast].map(|word| kernel.word(word));
        kernel.code(&format!(
            "let skew = {before} % {CHUNK}u;\nlet is_first = {first} == 1u;\nlet is_last = {last} == 1u;"
        ));
    } else {
        kernel.code("let skew = 0u;\nlet is_last = true;");
    }
    kernel.code(&format!("let n = {n};\nlet chunks = (skew + n + {}u) / {CHUNK}u;", CHUNK - 1));
}

/// Folds the elements of chunk `chunk` into `part`, for the result whose first element is at `at`.
fn fold_chunk(from: &Bound, fold: Fold) -> String {
    let elements = ["k", "begin", "stop"];
    format!(
        "let begin = select(chunk * {CHUNK}u - skew, 0u, chunk == 0u);\n\
         let stop = min(chunk * {CHUNK}u + {CHUNK}u - skew, n);\n{}",
        lanes::fold(elements, 1, AHEAD, fold.function(), &[("part", from.at("at + gone(k)"))])
    )
}

/// The column rule.
fn fold_columns(
    building: &mut Building<'_, '_>,
    from: &View,
    to: &View,
    reduction: &Reduction,
    fold: Fold,
    carried: Option<Carried>,
) {
    let (results, len) = (reduction.results(), reduction.len());
    // A slice may begin and end within a chunk.
    let aligned = carried.is_none() || len.is_multiple_of(CHUNK);
    let chunks = if aligned { len.div_ceil(CHUNK) } else { (len + CHUNK - 2) / CHUNK + 1 };
    if chunks <= CHUNKS_ALONE {
        building.push(columns(from, to, reduction, fold, carried));
        return;
    }
    let parts = building.scratch(results * chunks);
    building.push(chunk_parts(from, &parts, reduction, fold, chunks, carried.as_ref()));
    building.push(chunk_total(&parts, to, reduction, fold, carried));
}

/// All chunks of a result, a few, in one invocation.
fn columns(from: &View, to: &View, reduction: &Reduction, fold: Fold, carried: Option<Carried>) -> Kernel {
    let label = if fold == Fold::Sum { "column sums" } else { "column maxima" };
    let mut kernel = Kernel::new(label, [LANES, 1, 1]);
    kernel.each(reduction.results());
    reduction.declare(&mut kernel);
    let (from, to) = (kernel.read(from), kernel.write(to));
    declare_slices(&mut kernel, reduction.len(), carried.is_some());
    let start = fold.start();
    kernel.code(&format!("let at = kept(i);\nvar total = {start};\nvar part = {start};"));
    let unfinished = carried.map(|carried| kernel.write(&carried.unfinished).at("i"));
    if let Some(unfinished) = &unfinished {
        kernel.code(&format!("if (!is_first) {{ total = {}; part = {unfinished}; }}", to.at("i")));
    }
    kernel.code(&format!(
        "for (var chunk = 0u; chunk < chunks; chunk += 1u) {{\n{}\n\
         if (is_last || chunk * {CHUNK}u + {CHUNK}u - skew <= n) {{\ntotal = {}(total, part);\npart = {start};\n}}\n}}",
        fold_chunk(&from, fold),
        fold.function()
    ));
    kernel.code(&settle(&to.at("i"), unfinished.as_deref(), fold));
    kernel.work = 4 * (reduction.results() * reduction.len()) as u64;
    kernel
}

/// What is written of `total` and, but for the last slice, of `part`.
fn settle(to: &str, unfinished: Option<&str>, fold: Fold) -> String {
    let end = format!("{to} = {};", fold.end("total"));
    match unfinished {
        Some(unfinished) => {
            format!("if (is_last) {{\n{end}\n}} else {{\n{to} = total;\n{unfinished} = part;\n}}")
        }
        None => end,
    }
}

/// Chunks side by side: chunk c of result r goes to c · results + r.
fn chunk_parts(
    from: &View,
    parts: &View,
    reduction: &Reduction,
    fold: Fold,
    chunks: usize,
    carried: Option<&Carried>,
) -> Kernel {
    let label = if fold == Fold::Sum { "chunk sums" } else { "chunk maxima" };
    let mut kernel = Kernel::new(label, [LANES, 1, 1]);
    kernel.each(reduction.results() * chunks);
    reduction.declare(&mut kernel);
    let results = kernel.arg(reduction.results());
    let (from, parts) = (kernel.read(from), kernel.write(parts));
    declare_slices(&mut kernel, reduction.len(), carried.is_some());
    kernel.code(&format!(
        "let chunk = i / {results};\nif (chunk >= chunks) {{ return; }}\nlet result = i % {results};\n\
         let at = kept(result);\nvar part = {};",
        fold.start()
    ));
    if let Some(carried) = carried {
        let unfinished = kernel.read(&carried.unfinished);
        kernel.code(&format!("if (chunk == 0u && !is_first) {{ part = {}; }}", unfinished.at("result")));
    }
    kernel.code(&fold_chunk(&from, fold));
    kernel.code(&format!("{} = part;", parts.at("i")));
    kernel.work = 4 * (reduction.results() * reduction.len()) as u64;
    kernel
}

/// What chunks came to, in order.
fn chunk_total(parts: &View, to: &View, reduction: &Reduction, fold: Fold, carried: Option<Carried>) -> Kernel {
    let label = if fold == Fold::Sum { "sums of chunks" } else { "maxima of chunks" };
    let mut kernel = Kernel::new(label, [LANES, 1, 1]);
    kernel.each(reduction.results());
    let results = kernel.arg(reduction.results());
    let (from, to) = (kernel.read(parts), kernel.write(to));
    declare_slices(&mut kernel, reduction.len(), carried.is_some());
    kernel.code(&format!("var total = {};", fold.start()));
    let unfinished = carried.map(|carried| kernel.write(&carried.unfinished).at("i"));
    if unfinished.is_some() {
        kernel.code(&format!(
            "var part = 0.0;\nif (!is_first) {{ total = {}; }}\nlet unfinished = !is_last && (skew + n) % {CHUNK}u != 0u;\n\
             let done = chunks - select(0u, 1u, unfinished);\nif (unfinished) {{ part = {}; }}",
            to.at("i"),
            from.at(format!("done * {results} + i"))
        ));
    } else {
        kernel.code("let done = chunks;");
    }
    let next = from.at(format!("chunk * {results} + i"));
    kernel.code(&format!(
        "for (var outer = 0u; outer < done; outer += {LOOP}u) {{\nlet end = min(outer + {LOOP}u, done);\n{}\n}}",
        lanes::fold(["chunk", "outer", "end"], 1, AHEAD, fold.function(), &[("total", next)])
    ));
    kernel.code(&settle(&to.at("i"), unfinished.as_deref(), fold));
    kernel.work = 4 * (parts.len()) as u64;
    kernel
}

/// Index of the first maximum of the last axis.
pub(super) fn argmax(building: &mut Building<'_, '_>, id: NodeId) {
    let (from, to) = (building.operand(id, 0), building.result(id));
    let n = from.last();
    let mut lanes = Lanes::rows("argmax", from.len() / n, n);
    let work = 4 * from.len();
    let n = lanes.kernel.arg(n);
    let (from, to) = (lanes.kernel.read(&from), lanes.kernel.write_ints(&to));
    // Each invocation's elements ascend: the first of the largest is kept.
    lanes.kernel.code(&format!("let at = row * {n};\nvar best = {};\nvar best_at = 0xffffffffu;", lowest()));
    lanes.each(&format!(
        "let x = {};\nif (best_at == 0xffffffffu || x > best) {{ best = x; best_at = i; }}",
        from.at("at + i")
    ));
    let members = lanes.members();
    if members > 1 {
        let size = lanes.invocations();
        lanes.kernel.declare(&format!(
            "var<workgroup> values: array<f32, {size}>;\nvar<workgroup> places: array<u32, {size}>;"
        ));
        lanes.kernel.code("values[lane] = best;\nplaces[lane] = best_at;\nworkgroupBarrier();");
        lanes.once(&format!(
            "for (var k = 1u; k < {members}u; k += 1u) {{\nlet x = values[lane + k];\nlet place = places[lane + k];\n\
             if ((x > best) | ((x == best) & (place < best_at))) {{ best = x; best_at = place; }}\n}}"
        ));
    }
    lanes.once(&format!("{} = i32(best_at);", to.at("row")));
    building.push(lanes.finish(work));
}

/// Indices of the k largest elements of the last axis, largest first, ties by index.
///
/// Each element counts those before it, which is where its index goes. In a long row it counts those of its block only;
/// in other blocks, which are in order by then, it looks for its place.
pub(super) fn topk(building: &mut Building<'_, '_>, id: NodeId, k: u32) {
    let (from, to) = (building.operand(id, 0), building.result(id));
    let k = k as usize;
    if from.last() <= SORTED {
        building.push(ranks(&from, None, &to, k));
        return;
    }
    let [values, places] = [building.scratch(from.len()), building.scratch(from.len())];
    building.push(ranks(&from, Some(&values), &places, SORTED));
    let (len, n) = (from.len(), from.last());
    let mut kernel = Kernel::new("largest of blocks", [LANES, 1, 1]);
    kernel.each(len);
    let [n_, k, blocks] = [n, k, n.div_ceil(SORTED)].map(|n| kernel.arg(n));
    let (values, places, to) = (kernel.read(&values), kernel.read_ints(&places), kernel.write_ints(&to));
    // Elements of an earlier block are before equal ones, those of a later block are after them. How many there are is
    // found bit by bit, without a loop: see `lanes::fold`.
    let bits = (0..=SORTED.ilog2()).rev().map(|bit| {
        format!(
            "if (before + {0}u <= size) {{\nlet y = {1};\n\
             if ((y > x) | ((y == x) & (block < own))) {{ before += {0}u; }}\n}}",
            1 << bit,
            values.at(format!("at + first + before + {}u", (1 << bit) - 1))
        )
    });
    kernel.code(&format!(
        "let row = i / {n_};\nlet at = row * {n_};\nlet own = i % {n_} / {SORTED}u;\nlet x = {};\n\
         var rank = i % {n_} % {SORTED}u;\n\
         for (var block = 0u; block < {blocks} && rank < {k}; block += 1u) {{\nif (block != own) {{\n\
         let first = block * {SORTED}u;\nlet size = min({SORTED}u, {n_} - first);\nvar before = 0u;\n{}\n\
         rank += before;\n}}\n}}\n\
         if (rank < {k}) {{ {} = {}; }}",
        values.at("i"),
        bits.collect::<Vec<_>>().join("\n"),
        to.at(format!("row * {k} + rank")),
        places.at("i"),
    ));
    kernel.work = (len * n.div_ceil(SORTED) * 40) as u64;
    building.push(kernel);
}

/// The first k of each row or, of a longer one, of each block of it: the elements' indices, and the elements.
fn ranks(from: &View, values: Option<&View>, to: &View, k: usize) -> Kernel {
    let (len, n) = (from.len(), from.last());
    let mut kernel = Kernel::new("largest", [LANES, 1, 1]);
    kernel.each(len);
    let (n_, k) = (kernel.arg(n), kernel.arg(k));
    let (from, to) = (kernel.read(from), kernel.write_ints(to));
    let x = from.at("i");
    kernel.code(&format!(
        "let row = i / {n_};\nlet own = i % {n_};\nlet at = row * {n_};\nlet x = {x};\nvar rank = 0u;\n\
         let first = own / {SORTED}u * {SORTED}u;\nlet end = min(first + {SORTED}u, {n_});\n\
         for (var j = first; j < end; j += 1u) {{\nlet y = {};\n\
         rank += select(0u, 1u, (y > x) | ((y == x) & (j < own)));\n}}",
        from.at("at + j"),
    ));
    match values {
        Some(values) => {
            let values = kernel.write(values);
            let sorted = "at + first + rank";
            kernel.code(&format!("{} = x;\n{} = i32(own);", values.at(sorted), to.at(sorted)));
        }
        None => {
            let place = to.at(format!("row * {k} + rank"));
            kernel.code(&format!("if (rank < {k}) {{ {place} = i32(own); }}"));
        }
    }
    kernel.work = (4 * len * n.min(SORTED)) as u64;
    kernel
}
