//! Elements moved without change: permutations, slices, padding, joining.
//!
//! *Invariant:* values are raw words here, so integers travel as well as floats.

use crate::graph::{NodeId, Shape};
use crate::plan::spread::{Walk, distances, merged};

use super::super::kernel::{BUFFERS_MAX, Kernel, View};
use super::super::plan::Building;
use super::chain::LANES;

/// Rows and columns of a tile that goes through workgroup memory.
const TILE: usize = 32;
/// Shortest axis whose transposition is worth tiles.
const TILED_MIN: usize = 8;

/// Declares `name` in the text: where the element of this number (a variable) stands in a walk.
pub(super) fn offset(kernel: &mut Kernel, name: &str, number: &str, walk: &Walk) {
    let mut rest = number.to_owned();
    let mut terms = vec![];
    for (axis, &(len, distance)) in walk.iter().enumerate().rev() {
        let mut index = rest.clone();
        if axis > 0 {
            let (len, next) = (kernel.arg(len), format!("{name}_{axis}"));
            kernel.code(&format!("let {next} = {rest} / {len};"));
            index = format!("({rest} - {next} * {len})");
            rest = next;
        }
        match distance {
            0 => {}
            1 => terms.push(index),
            _ => terms.push(format!("{index} * {}", kernel.arg(distance))),
        }
    }
    let sum = if terms.is_empty() { "0u".to_owned() } else { terms.join(" + ") };
    kernel.code(&format!("let {name} = {sum};"));
}

/// Axis lengths of a view as one shape.
fn shape(view: &View) -> Shape {
    Shape(view.shape.clone())
}

/// Elements of all axes from this one on.
fn run(view: &View, axis: u8) -> usize {
    view.shape[usize::from(axis)..].iter().map(|&n| n as usize).product()
}

/// Elements of one index of this axis.
fn one(view: &View, axis: u8) -> usize {
    run(view, axis) / view.shape[usize::from(axis)] as usize
}

/// Words that are moved at a time: four, if all of these tensors are aligned and all of these lengths and distances are
/// multiples of four, and the zero of that.
pub(super) fn by(views: &[&View], lens: &[usize]) -> (usize, &'static str) {
    let fours = views.iter().all(|view| view.by_four()) && lens.iter().all(|len| len.is_multiple_of(4));
    if fours { (4, "vec4<u32>()") } else { (1, "0u") }
}

pub(super) fn permute(building: &mut Building<'_, '_>, id: NodeId, perm: &[u8]) {
    let (from, to) = (building.operand(id, 0), building.result(id));
    let own = distances(&shape(&from));
    let axes = perm.iter().map(|&axis| (from.shape[usize::from(axis)] as usize, own[usize::from(axis)]));
    let walk = merged(axes);
    let contiguous = walk.iter().position(|&(_, distance)| distance == 1);
    let kernel = match (contiguous, walk.last()) {
        (Some(at), Some(&(len, _))) if at + 1 < walk.len() && len >= TILED_MIN && walk[at].0 >= TILED_MIN => {
            transpose(&from, &to, walk, at)
        }
        _ => {
            // Whole pieces of the last axis, if it stays the last one.
            let last = walk.last().map_or(1, |&(len, distance)| if distance == 1 { len } else { 1 });
            let mut lens: Vec<usize> = walk.iter().rev().skip(1).map(|&(_, distance)| distance).collect();
            lens.push(last);
            let (by, _) = by(&[&from, &to], &lens);
            let pieces = walk.iter().enumerate().map(|(axis, &(len, distance))| match axis + 1 == walk.len() {
                true => (len / by, distance),
                false => (len, distance / by),
            });
            let pieces: Walk = pieces.collect();
            let mut kernel = Kernel::new("permute", [LANES, 1, 1]);
            kernel.each(to.len() / by);
            kernel.work = 4 * to.len() as u64;
            let (from, to) = (kernel.read_words_by(&from, by), kernel.write_words_by(&to, by));
            offset(&mut kernel, "at", "i", &pieces);
            kernel.code(&format!("{} = {};", to.at("i"), from.at("at")));
            kernel
        }
    };
    building.push(kernel);
}

/// The last axis of the result and the one that is contiguous in the source change places, tile by tile: both sides see
/// neighbours from neighbouring invocations.
fn transpose(from: &View, to: &View, walk: Walk, contiguous: usize) -> Kernel {
    let beside = distances(&Shape(walk.iter().map(|&(len, _)| len as u32).collect()));
    let (rows, columns) = (walk[walk.len() - 1], walk[contiguous].0);
    let others = || (0..walk.len() - 1).filter(|&axis| axis != contiguous);
    let source: Walk = merged(others().map(|axis| walk[axis]));
    let result: Walk = merged(others().map(|axis| (walk[axis].0, beside[axis])));
    let boxes: usize = others().map(|axis| walk[axis].0).product();
    let tiles = [rows.0.div_ceil(TILE), columns.div_ceil(TILE)];

    let mut kernel = Kernel::new("transpose", [256, 1, 1]);
    let groups = boxes * tiles[0] * tiles[1];
    kernel.groups_of(groups as u64);
    kernel.work = 8 * to.len() as u64;
    let (from, to) = (kernel.read_words(from), kernel.write_words(to));
    let [wide, high] = tiles.map(|tiles| kernel.arg(tiles));
    let (boxes, row_count, row, columns, beside) = (
        kernel.arg(boxes),
        kernel.arg(rows.0),
        kernel.arg(rows.1),
        kernel.arg(columns),
        kernel.arg(beside[contiguous]),
    );
    kernel.declare("var<workgroup> tile: array<u32, 1056>;");
    kernel.code(&format!(
        "let g = linear(group);
let strip = g / {wide};
let box = strip / {high};
let row0 = (g - strip * {wide}) * 32u;
let column0 = (strip - box * {high}) * 32u;
let x = lane & 31u;
let y = lane >> 5u;"
    ));
    offset(&mut kernel, "source", "box", &source);
    offset(&mut kernel, "result", "box", &result);
    kernel.code(&format!(
        "for (var k = y; k < 32u; k += 8u) {{
    if (box < {boxes} && row0 + k < {row_count} && column0 + x < {columns}) {{
        tile[k * 33u + x] = {};
    }}
}}
workgroupBarrier();
for (var k = y; k < 32u; k += 8u) {{
    if (box < {boxes} && row0 + x < {row_count} && column0 + k < {columns}) {{
        {} = tile[x * 33u + k];
    }}
}}",
        from.at(format!("source + (row0 + k) * {row} + column0 + x")),
        to.at(format!("result + (column0 + k) * {beside} + row0 + x")),
    ));
    kernel
}

pub(super) fn slice(building: &mut Building<'_, '_>, id: NodeId, axis: u8, start: u32) {
    let (from, to) = (building.operand(id, 0), building.result(id));
    let lens = [run(&from, axis), run(&to, axis), start as usize * one(&from, axis)];
    let (by, _) = by(&[&from, &to], &lens);
    let mut kernel = Kernel::new("slice", [LANES, 1, 1]);
    kernel.each(to.len() / by);
    kernel.work = 4 * to.len() as u64;
    let [long, short, first] = lens.map(|len| kernel.arg(len / by));
    let (from, to) = (kernel.read_words_by(&from, by), kernel.write_words_by(&to, by));
    let at = format!("i / {short} * {long} + {first} + i % {short}");
    kernel.code(&format!("{} = {};", to.at("i"), from.at(at)));
    building.push(kernel);
}

pub(super) fn pad(building: &mut Building<'_, '_>, id: NodeId, axis: u8, before: u32) {
    let (from, to) = (building.operand(id, 0), building.result(id));
    let lens = [run(&from, axis), run(&to, axis), before as usize * one(&from, axis)];
    let (by, zero) = by(&[&from, &to], &lens);
    let mut kernel = Kernel::new("pad", [LANES, 1, 1]);
    kernel.each(to.len() / by);
    kernel.work = 4 * to.len() as u64;
    let [short, long, first] = lens.map(|len| kernel.arg(len / by));
    let (from, to) = (kernel.read_words_by(&from, by), kernel.write_words_by(&to, by));
    kernel.code(&format!(
        "let row = i / {long};
let within = i - row * {long} - {first};
var word = {zero};
if (within < {short}) {{ word = {}; }}
{} = word;",
        from.at(format!("row * {short} + within")),
        to.at("i")
    ));
    building.push(kernel);
}

pub(super) fn concat(building: &mut Building<'_, '_>, id: NodeId, axis: u8) {
    let to = building.result(id);
    let inputs: Vec<View> = (0..building.analysis.node(id).inputs.len()).map(|k| building.operand(id, k)).collect();
    let long = run(&to, axis);
    let outer = to.len() / long;
    let views: Vec<&View> = inputs.iter().chain([&to]).collect();
    let lens: Vec<usize> = inputs.iter().map(|input| run(input, axis)).collect();
    let (by, zero) = by(&views, &lens);
    let mut first = 0;
    for inputs in inputs.chunks(BUFFERS_MAX - 1) {
        let part: usize = inputs.iter().map(|input| run(input, axis)).sum();
        let mut kernel = Kernel::new("concat", [LANES, 1, 1]);
        kernel.each(outer * part / by);
        kernel.work = 4 * (outer * part) as u64;
        let to = kernel.write_words_by(&to, by);
        let [part_arg, long_arg, first_arg] = [part, long, first].map(|len| kernel.arg(len / by));
        kernel.code(&format!("let row = i / {part_arg};\nlet within = i - row * {part_arg};\nvar word = {zero};"));
        let mut begin = 0;
        for (k, input) in inputs.iter().enumerate() {
            let short = run(input, axis);
            let [begins, ends, len] = [begin, begin + short, short].map(|len| kernel.arg(len / by));
            let from = kernel.read_words_by(input, by);
            let otherwise = if k == 0 { "" } else { "else " };
            let at = from.at(format!("row * {len} + within - {begins}"));
            kernel.code(&format!("{otherwise}if (within < {ends}) {{ word = {at}; }}"));
            begin += short;
        }
        kernel.code(&format!("{} = word;", to.at(format!("row * {long_arg} + {first_arg} + within"))));
        building.push(kernel);
        first += part;
    }
}
