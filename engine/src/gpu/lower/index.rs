//! Elements chosen by integers: embeddings, taken and gathered elements, and their gradients.
//!
//! Indices are read as unsigned words, so that one below 0 is beyond every table: it reads zero and receives nothing.
//!
//! *Invariant:* what is added to one element is added in ascending position, by one invocation.

use crate::graph::NodeId;

use super::super::kernel::{Kernel, View, Word};
use super::super::plan::Building;
use super::chain::LANES;
use super::moves::by;

/// Lines from which on each is worth an invocation that adds all of it, one after another.
const LINES_MIN: usize = 256;

/// Most turns of an invocation's loops together: a device ends them at 65,535.
const TURNS_MAX: usize = 50_000;

/// A tensor as (outer, along, inner): the lengths before, of, and after an axis.
pub(super) fn around(view: &View, axis: u8) -> [usize; 3] {
    let size = |lens: &[u32]| lens.iter().map(|&n| n as usize).product();
    let axis = usize::from(axis);
    [size(&view.shape[..axis]), view.shape[axis] as usize, size(&view.shape[axis + 1..])]
}

/// Text that does `body` for `name` from 0 to below `count`, by loops that no device cuts short.
pub(super) fn nested(name: &str, count: &str, body: &str) -> String {
    format!(
        "for (var {name}_0 = 0u; {name}_0 < {count}; {name}_0 += 32768u) {{
for (var {name} = {name}_0; {name} < min({name}_0 + 32768u, {count}); {name}++) {{
{body}
}}
}}"
    )
}

pub(super) fn embedding(building: &mut Building<'_, '_>, id: NodeId) {
    let (table, ids, to) = (building.operand(id, 0), building.operand(id, 1), building.result(id));
    let (by, zero) = by(&[&table, &to], &[table.last()]);
    let mut kernel = Kernel::new("embedding", [LANES, 1, 1]);
    kernel.each(to.len() / by);
    kernel.work = 4 * to.len() as u64;
    let (rows, width) = (kernel.arg(table.shape[0] as usize), kernel.arg(table.last() / by));
    let ids = kernel.read_words(&ids);
    let (table, to) = (kernel.read_words_by(&table, by), kernel.write_words_by(&to, by));
    kernel.code(&format!(
        "let position = i / {width};
let id = {};
var words = {zero};
if (id < {rows}) {{ words = {}; }}
{} = words;",
        ids.at("position"),
        table.at(format!("id * {width} + i - position * {width}")),
        to.at("i")
    ));
    building.push(kernel);
}

pub(super) fn take(building: &mut Building<'_, '_>, id: NodeId) {
    let (x, ids, to) = (building.operand(id, 0), building.operand(id, 1), building.result(id));
    let mut kernel = Kernel::new("take", [LANES, 1, 1]);
    kernel.each(to.len());
    kernel.work = 4 * to.len() as u64;
    let n = kernel.arg(x.last());
    let (x, ids, to) = (kernel.read(&x), kernel.read_words(&ids), kernel.write(&to));
    kernel.code(&format!(
        "let id = {};
var x = 0.0;
if (id < {n}) {{ x = {}; }}
{} = x;",
        ids.at("i"),
        x.at(format!("i * {n} + id")),
        to.at("i")
    ));
    building.push(kernel);
}

pub(super) fn take_grad(building: &mut Building<'_, '_>, id: NodeId, n: u32) {
    let (ids, dy, to) = (building.operand(id, 0), building.operand(id, 1), building.result(id));
    let mut kernel = Kernel::new("take_grad", [LANES, 1, 1]);
    kernel.each(to.len());
    kernel.work = 4 * to.len() as u64;
    let n = kernel.arg(n as usize);
    let (ids, dy, to) = (kernel.read_words(&ids), kernel.read(&dy), kernel.write(&to));
    kernel.code(&format!(
        "let row = i / {n};
var x = 0.0;
if ({} == i - row * {n}) {{ x = {}; }}
{} = x;",
        ids.at("row"),
        dy.at("row"),
        to.at("i")
    ));
    building.push(kernel);
}

pub(super) fn gather(building: &mut Building<'_, '_>, id: NodeId, axis: u8) {
    let (x, ids, to) = (building.operand(id, 0), building.operand(id, 1), building.result(id));
    let [_, n, inner] = around(&x, axis);
    let [_, len, _] = around(&ids, axis);
    let mut kernel = Kernel::new("gather", [LANES, 1, 1]);
    kernel.each(to.len());
    kernel.work = 4 * to.len() as u64;
    let (n, run, inner) = (kernel.arg(n), kernel.arg(len * inner), kernel.arg(inner));
    let (x, ids, to) = (kernel.read_words(&x), kernel.read_words(&ids), kernel.write_words(&to));
    kernel.code(&format!(
        "let id = {};
var word = 0u;
if (id < {n}) {{ word = {}; }}
{} = word;",
        ids.at("i"),
        x.at(format!("(i / {run} * {n} + id) * {inner} + i % {inner}")),
        to.at("i")
    ));
    building.push(kernel);
}

pub(super) fn scatter_add(building: &mut Building<'_, '_>, id: NodeId, axis: u8, n: u32) {
    let (ids, src, to) = (building.operand(id, 0), building.operand(id, 1), building.result(id));
    let [outer, len, inner] = around(&ids, axis);
    let axes = [len, n as usize, inner];
    let lines = outer * inner;
    if lines < LINES_MIN {
        building.push(scatter_tiles(&ids, &src, &to, axes, lines));
    } else if len + 2 * n as usize <= TURNS_MAX {
        building.push(scatter_lines(&ids, &src, &to, axes, lines, None));
    } else {
        building.push(super::fill(&to, 0));
        for begin in (0..len).step_by(TURNS_MAX) {
            let some = Some([begin, len.min(begin + TURNS_MAX)]);
            building.push(scatter_lines(&ids, &src, &to, axes, lines, some));
        }
        let mut kernel = Kernel::new("scatter_add ends", [LANES, 1, 1]);
        kernel.each(to.len());
        kernel.work = 4 * to.len() as u64;
        let element = kernel.write(&to).at("i");
        kernel.code(&format!("{element} = canon({element});"));
        building.push(kernel);
    }
}

/// One invocation for each line: it clears its results, adds to them, and makes them canonical; or only adds some of the
/// line's elements.
fn scatter_lines(
    ids: &View,
    src: &View,
    to: &View,
    [len, n, inner]: [usize; 3],
    lines: usize,
    some: Option<[usize; 2]>,
) -> Kernel {
    let mut kernel = Kernel::new("scatter_add", [super::LANES, 1, 1]);
    kernel.each(lines);
    let [begin, end] = some.unwrap_or([0, len]);
    let others = if some.is_some() { 0 } else { 2 * n };
    kernel.work = (4 * lines * (end - begin + others)) as u64;
    let [begin, end, len, n, inner] = [begin, end, len, n, inner].map(|n| kernel.arg(n));
    let (ids, src, to) = (kernel.read_words(ids), kernel.read(src), kernel.write(to));
    let element = to.at(format!("result + k * {inner}"));
    let named = to.at(format!("result + id * {inner}"));
    kernel.code(&format!(
        "let outer = i / {inner};
let source = outer * {len} * {inner} + i - outer * {inner};
let result = outer * {n} * {inner} + i - outer * {inner};"
    ));
    let each = |body: &str| format!("for (var k = 0u; k < {n}; k++) {{ {body} }}");
    if some.is_none() {
        kernel.code(&each(&format!("{element} = 0.0;")));
    }
    kernel.code(&format!(
        "for (var k = {begin}; k < {end}; k++) {{
let id = {};
if (id < {n}) {{ {named} = plus({named}, {}); }}
}}",
        ids.at(format!("source + k * {inner}")),
        src.at(format!("source + k * {inner}"))
    ));
    if some.is_none() {
        kernel.code(&each(&format!("{element} = canon({element});")));
    }
    kernel
}

/// One invocation for each result: its workgroup reads all of the line, 256 elements at a time.
fn scatter_tiles(ids: &View, src: &View, to: &View, [len, n, inner]: [usize; 3], lines: usize) -> Kernel {
    let mut kernel = Kernel::new("scatter_add tiles", [256, 1, 1]);
    let strips = n.div_ceil(256);
    kernel.groups_of((lines * strips) as u64);
    kernel.work = (2 * lines * strips * 256 * len) as u64;
    let (tiles, strips) = (kernel.arg(len.div_ceil(256)), kernel.arg(strips));
    let (lines, len, n, inner) = (kernel.arg(lines), kernel.arg(len), kernel.arg(n), kernel.arg(inner));
    let (ids, src, to) = (kernel.read_words(ids), kernel.read(src), kernel.write(to));
    kernel.declare("var<workgroup> tile_ids: array<u32, 256>;\nvar<workgroup> tile_src: array<f32, 256>;");
    kernel.code(&format!(
        "let g = linear(group);
let line = g / {strips};
let own = (g - line * {strips}) * 256u + lane;
let outer = line / {inner};
let source = outer * {len} * {inner} + line - outer * {inner};
let result = outer * {n} * {inner} + line - outer * {inner};
var sum = 0.0;"
    ));
    let at = format!("source + at * {inner}");
    // Many in a turn: an invocation has few turns.
    let add = |k: u32| format!("if (tile_ids[k + {k}u] == own) {{ sum = plus(sum, tile_src[k + {k}u]); }}\n");
    let adds: String = (0..32).map(add).collect();
    let tile = format!(
        "let at = tile * 256u + lane;
var id = 0xffffffffu;
var x = 0.0;
if (line < {lines} && at < {len}) {{
    id = {};
    x = {};
}}
workgroupBarrier();
tile_ids[lane] = id;
tile_src[lane] = x;
workgroupBarrier();
for (var k = 0u; k < 256u; k += 32u) {{
{adds}}}",
        ids.at(&at),
        src.at(&at)
    );
    kernel.code(&nested("tile", &tiles, &tile));
    kernel.code(&format!(
        "if (line < {lines} && own < {n}) {{ {} = canon(sum); }}",
        to.at(format!("result + own * {inner}"))
    ));
    kernel
}

/// A workgroup for each row of the table and 256 of its columns: it looks for the row's positions among 1,024 ids at a
/// time, lists them in ascending order, and adds them, each invocation one column.
pub(super) fn embedding_grad(building: &mut Building<'_, '_>, id: NodeId, rows: u32) {
    let (ids, dy, to) = (building.operand(id, 0), building.operand(id, 1), building.result(id));
    let (rows, width, count) = (rows as usize, dy.last(), ids.len());
    let strips = width.div_ceil(256);
    let mut kernel = Kernel::new("embedding_grad", [256, 1, 1]);
    kernel.groups_of((rows * strips) as u64);
    kernel.work = (8 * rows * strips * count + dy.len()) as u64;
    // What earlier slices of the batch have added stays in the result as it is.
    let slice = match building.is_sum(id) {
        true => [Word::IsFirst, Word::IsLast],
        false => [Word::Plain(1); 2],
    };
    let [is_first, is_last] = slice.map(|word| kernel.word(word));
    let (strips, tiles) = (kernel.arg(strips), kernel.arg(count.div_ceil(1024)));
    let (rows, width, count) = (kernel.arg(rows), kernel.arg(width), kernel.arg(count));
    let (ids, dy, to) = (kernel.read_words(&ids), kernel.read(&dy), kernel.write(&to));
    kernel.declare(
        "var<workgroup> found: array<atomic<u32>, 32>;
var<workgroup> listed: atomic<u32>;
var<workgroup> list: array<u32, 1024>;",
    );
    let sum_at = to.at(format!("row * {width} + column"));
    kernel.code(&format!(
        "let g = linear(group);
let row = g / {strips};
let column = (g - row * {strips}) * 256u + lane;
let live = row < {rows} && column < {width};
var sum = 0.0;
if (live && {is_first} == 0u) {{ sum = {sum_at}; }}"
    ));
    let term = |k: u32| dy.at(format!("list[k + {k}u] * {width} + column"));
    // Eight at a time: their reads overlap, and an invocation has few turns.
    let reads: String = (0..8).map(|k| format!("let x{k} = {};\n", term(k))).collect();
    let adds: String = (0..8).map(|k| format!("sum = plus(sum, x{k});\n")).collect();
    let count_before =
        |k: u32| format!("rank += select(0u, countOneBits(atomicLoad(&found[w + {k}u])), w + {k}u < (bit >> 5u));\n");
    let counts: String = (0..8).map(count_before).collect();
    let tile = format!(
        "if (lane < 32u) {{ atomicStore(&found[lane], 0u); }}
if (lane == 0u) {{ atomicStore(&listed, 0u); }}
workgroupBarrier();
var mine = 0u;
for (var k = 0u; k < 4u; k++) {{
    let bit = k * 256u + lane;
    let position = tile * 1024u + bit;
    if (position < {count}) {{
        if ({} == row) {{
            mine |= 1u << k;
            atomicOr(&found[bit >> 5u], 1u << (bit & 31u));
            atomicAdd(&listed, 1u);
        }}
    }}
}}
workgroupBarrier();
let length = atomicLoad(&listed);
if (mine != 0u) {{
    for (var k = 0u; k < 4u; k++) {{
        if ((mine & (1u << k)) != 0u) {{
            let bit = k * 256u + lane;
            var rank = countOneBits(atomicLoad(&found[bit >> 5u]) & ((1u << (bit & 31u)) - 1u));
            for (var w = 0u; w < 32u; w += 8u) {{
{counts}}}
            list[rank] = tile * 1024u + bit;
        }}
    }}
}}
workgroupBarrier();
if (live) {{
    var k = 0u;
    for (; k + 8u <= length; k += 8u) {{
{reads}{adds}}}
    for (; k < length; k++) {{ sum = plus(sum, {}); }}
}}",
        ids.at("position"),
        term(0),
    );
    kernel.code(&nested("tile", &tiles, &tile));
    kernel.code(&format!(
        "if (live) {{
    if ({is_last} == 1u) {{ sum = canon(sum); }}
    {sum_at} = sum;
}}"
    ));
    building.push(kernel);
}
