//! The kernel of a tile of keys: it walks over the queries that see them, for the gradients of keys and values.
//!
//! Query heads that share the keys are done one after another: each one's gradient is complete, then added to those
//! before it.

use crate::gpu::kernel::{Kernel, View};
use crate::gpu::plan::Building;

use super::tiles::{Lines, Tiles, levels};
use super::{Operand, Problem};

/// Most turns of an invocation's loops together: a device ends them at 65,535.
const TURNS_MAX: usize = 50_000;

/// The gradients of keys and of values, from what is `known` of each query.
pub(super) fn gradients(
    building: &mut Building<'_, '_>,
    problem: &Problem,
    operands: [&Operand; 4],
    known: &View,
    gradients: [Option<&View>; 2],
) {
    let heads = problem.batch * problem.key_heads;
    let tiles = Tiles::new(heads, [problem.keys, problem.queries], problem.fours(), building.form);
    let sums = gradients.iter().flatten().count();
    let contractions = if gradients[0].is_some() { 2 } else { 1 };
    let turns = problem.queries.div_ceil(tiles.columns) * tiles.turns(contractions, sums);
    // As many query heads in a kernel as may be.
    let at_once = (TURNS_MAX / turns).max(1);
    let group = problem.heads / problem.key_heads;
    for first in (0..group).step_by(at_once) {
        let some = [first, group.min(first + at_once)];
        building.push(kernel(problem, &tiles, operands, known, gradients, some));
    }
}

/// The kernel of some of the query heads that share keys.
fn kernel(
    problem: &Problem,
    tiles: &Tiles,
    [q, k, v, dy]: [&Operand; 4],
    known: &View,
    [dk, dv]: [Option<&View>; 2],
    [first_turn, end_turn]: [usize; 2],
) -> Kernel {
    let heads = problem.batch * problem.key_heads;
    let mut kernel = Kernel::new("attention gradients, keys", [tiles.invocations(), 1, 1]);
    tiles.declare(&mut kernel);
    problem.declare_scores(&mut kernel);
    let (q, k, dy) = (q.read(&mut kernel), k.read(&mut kernel), dy.read(&mut kernel));
    let v = dk.map(|_| v.read(&mut kernel));
    let known = kernel.read(known);
    let (dk, dv) = (dk.map(|view| kernel.write(view)), dv.map(|view| kernel.write(view)));
    place(&mut kernel, problem, tiles, heads);

    let [keys, values] = [Some(&k), v.as_ref()]
        .map(|source| source.map(|source| Lines { source, first: "key_line", start: "row0", count: "keys" }));
    let [queries, rows] =
        [&q, &dy].map(|source| Lines { source, first: "query_line", start: "tile", count: "queries" });

    let mut text = tiles.declare_scores("s");
    let mut body = keys.map_or_else(String::new, |keys| tiles.contract("s", &keys, &queries));
    if let Some(values) = values {
        text += &tiles.declare_scores("dp");
        body += &tiles.contract("dp", &values, &rows);
    }
    body += &shares(tiles, &|part| known.at(format!("query_line + query + {part}u * lines")), dk.is_some());
    let mut names = vec![];
    if dv.is_some() {
        body += &tiles.accumulate("dv", "p", &rows);
        names.push("dv");
    }
    if dk.is_some() {
        body += &tiles.accumulate("dk", "ds", &queries);
        names.push("dk");
    }
    body += &tiles.end_tile(&names);

    let sums: String = names.iter().map(|name| tiles.declare_sums(name)).collect();
    let walk = tiles.walk(levels(problem.queries), ["first_query", "end_query"], &body, &|_| String::new());
    let mut write = String::new();
    for (name, out) in [("dk", &dk), ("dv", &dv)] {
        if let Some(out) = out {
            write += &tiles.write(name, out, ["key_line", "row0", "keys"], &|_, x, to| match problem.shared() {
                true => format!("var x = {x}; if (turn > 0u) {{ x = c_add({to}, x); }} {to} = x;"),
                false => format!("{to} = {x};"),
            });
        }
    }
    kernel.work = problem.product_work() * if dk.is_some() { 4 } else { 2 };
    kernel.work = kernel.work * (end_turn - first_turn) as u64 / (problem.heads / problem.key_heads) as u64;
    let [first_turn, end_turn] = [first_turn, end_turn].map(|n| kernel.arg(n));
    kernel.code(&format!(
        "for (var turn = {first_turn}; turn < {end_turn}; turn++) {{\nlet query_line = (first_head + turn) * queries;\n\
         {text}{sums}{walk}{write}}}"
    ));
    kernel
}

impl Problem {
    /// Whether more than one query head has the same keys.
    fn shared(&self) -> bool {
        self.heads > self.key_heads
    }
}

/// Says which keys are the workgroup's.
fn place(kernel: &mut Kernel, problem: &Problem, tiles: &Tiles, heads: usize) {
    let count = heads * problem.keys.div_ceil(tiles.rows) * tiles.blocks;
    kernel.groups_of(count as u64);
    let [all, blocks, heads_all, key_heads, group] =
        [count, tiles.blocks, heads, problem.key_heads, problem.heads / problem.key_heads].map(|n| kernel.arg(n));
    let [queries, keys, width, fours, lines] =
        [problem.queries, problem.keys, problem.width, problem.fours(), problem.lines()].map(|n| kernel.arg(n));
    let rows = tiles.rows;
    // The first keys first: under a mask they are seen by the most queries.
    kernel.code(&format!(
        "let index = linear(group);\nif (index >= {all}) {{ return; }}\n\
         let queries = {queries};\nlet keys = {keys};\nlet width = {width};\nlet fours = {fours};\n\
         let lines = {lines};\n\
         let block = index % {blocks};\nlet key_head = index / {blocks} % {heads_all};\n\
         let row0 = index / {blocks} / {heads_all} * {rows}u;\nlet key_line = key_head * keys;\n\
         let first_head = (key_head / {key_heads} * {key_heads} + key_head % {key_heads}) * {group};"
    ));
    kernel.code(tiles.places().trim_end());
    let window = kernel.arg(problem.window);
    kernel.code(&match problem.masked {
        false => "let first_query = 0u;\nlet end_query = queries;".to_owned(),
        true => format!("let first_query = row0;\nlet end_query = min(queries, row0 + {}u + {window});", rows - 1),
    });
}

/// Declares what is summed, rounded: `p0`, …, the shares, and `ds0`, …, the gradients of scores. `known(part)` is an
/// element of what is known of the query `query`.
fn shares(tiles: &Tiles, known: &dyn Fn(u32) -> String, slopes: bool) -> String {
    let mut text = String::new();
    for j in tiles.each() {
        let each = [0, 1, 2, 3].map(|i| format!("seen(query, row0 + band * 4u + {i}u)"));
        text += &format!(
            "var p{j} = vec4<f32>();\nvar ds{j} = vec4<f32>();\n{{\nlet query = tile + slot + {}u;\n\
             if (query < queries) {{\n\
             let weight = weights(scores(s{j}), vec4<f32>({}), vec4<bool>({}));\n\
             let share = products(weight, vec4<f32>({}));\np{j} = round12_4(share);\n",
            16 * j,
            known(0),
            each.join(", "),
            known(1),
        );
        if slopes {
            text += &format!("ds{j} = round12_4(slopes(share, dp{j}, vec4<f32>({}), s{j}));\n", known(2));
        }
        text += "}\n}\n";
    }
    text
}
