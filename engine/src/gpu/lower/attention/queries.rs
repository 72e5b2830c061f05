//! The kernel of a tile of queries: it walks over the keys that they see, first for the highest score, then for the
//! weights, then, for gradients, once more. Few enough scores are kept from walk to walk; others are computed again.

use crate::gpu::kernel::{Bound, Kernel, View};
use crate::gpu::plan::Building;

use super::tiles::{COMPONENTS, Lines, RowSum, Source, Tiles, levels, spans};
use super::{Operand, Problem};

/// The output.
pub(super) fn output(building: &mut Building<'_, '_>, problem: &Problem, [q, k, v]: [&Operand; 3], y: &View) {
    let mut text = Text::new(building, problem, "attention", [q, k]);
    let v = v.read(&mut text.kernel);
    let values = Lines { source: &v, first: "key_line", start: "tile", count: "keys" };
    let y = text.kernel.write(y);
    let tiles = &text.tiles;
    let sums = tiles.declare_sums("y");
    let weigh = tiles.accumulate("y", "e", &values) + &tiles.end_tile(&["y"]);
    let rounded: String = tiles.each().map(|j| format!("let e{j} = round12_4(weight{j});\n")).collect();
    let place = ["query_line", "row0", "queries"];
    let write = tiles.write("y", &y, place, &|i, x, to| format!("{to} = c_mul({x}, {});", tiles.own_of_cells(i)));
    text.add(&sums);
    text.known(&(rounded + &weigh), false);
    // What the other invocations divide by.
    text.add("workgroupBarrier();\nif (slot == 0u) { cells[band] = recip; }\nworkgroupBarrier();\n");
    text.add(&write);
    text.kernel.work = 3 * problem.product_work();
    building.push(text.kernel);
}

/// What the gradients need to know of each query, and the gradient of queries. `known` has three numbers for each
/// query: the highest score, 1 / sum of weights, and d; the last only where the rows of dy and y are there.
pub(super) fn gradients(
    building: &mut Building<'_, '_>,
    problem: &Problem,
    [q, k, v, dy]: [&Operand; 4],
    rows: Option<[&View; 2]>,
    dq: Option<&View>,
    known: Option<&View>,
) {
    let mut text = Text::new(building, problem, "attention gradients, queries", [q, k]);
    text.known("", dq.is_some());
    match rows {
        Some([dy, y]) => text.row_products(problem, dy, y),
        None => text.add("let d = vec4<f32>();\n"),
    }
    if let Some(known) = known {
        let known = text.kernel.write(known);
        let lines = text.kernel.arg(problem.lines());
        text.add("if (slot == 0u && block == 0u) {\n");
        for (i, c) in COMPONENTS.iter().enumerate() {
            let row = format!("row0 + band * 4u + {i}u");
            let at = |part: usize| known.at(format!("query_line + {row} + {part}u * {lines}"));
            let (m, recip, d) = (at(0), at(1), at(2));
            text.add(&format!("if ({row} < queries) {{ {m} = m.{c}; {recip} = recip.{c}; {d} = d.{c}; }}\n"));
        }
        text.add("}\n");
    }
    text.kernel.work = 2 * problem.product_work();
    if let Some(dq) = dq {
        let (v, dy) = (v.read(&mut text.kernel), dy.read(&mut text.kernel));
        let dq = text.kernel.write(dq);
        text.query_gradient([&v, &dy], &dq);
        text.kernel.work += 3 * problem.product_work();
    }
    building.push(text.kernel);
}

/// Most scores that an invocation keeps, in groups of four: 1 KiB.
const KEPT_MAX: usize = 64;

/// The kernel under construction.
struct Text {
    kernel: Kernel,
    tiles: Tiles,
    levels: u32,
    /// Whether scores are kept, where there is more than one tile.
    kept: bool,
    /// Whether kept scores become weights once these are known: only the slope of a soft cap takes the score.
    weighed: bool,
    q: Source,
    k: Source,
}

impl Text {
    /// Declares what there is to declare, and says which queries are the workgroup's.
    fn new(building: &Building<'_, '_>, problem: &Problem, label: &'static str, [q, k]: [&Operand; 2]) -> Self {
        let heads = problem.batch * problem.heads;
        let tiles = Tiles::new(heads, [problem.queries, problem.keys], problem.fours(), building.form);
        let mut kernel = Kernel::new(label, [tiles.invocations(), 1, 1]);
        tiles.declare(&mut kernel);
        problem.declare_scores(&mut kernel);
        let (q, k) = (q.read(&mut kernel), k.read(&mut kernel));
        let along = problem.queries.div_ceil(tiles.rows);
        let count = heads * along * tiles.blocks;
        kernel.groups_of(count as u64);
        let [all, blocks, along, heads_all] = [count, tiles.blocks, along, heads].map(|n| kernel.arg(n));
        let [heads, key_heads, group] =
            [problem.heads, problem.key_heads, problem.heads / problem.key_heads].map(|n| kernel.arg(n));
        let [queries, keys, width, fours] =
            [problem.queries, problem.keys, problem.width, problem.fours()].map(|n| kernel.arg(n));
        let rows = tiles.rows;
        // The last queries first: under a mask they have the most keys.
        kernel.code(&format!(
            "let index = linear(group);\nif (index >= {all}) {{ return; }}\n\
             let queries = {queries};\nlet keys = {keys};\nlet width = {width};\nlet fours = {fours};\n\
             let block = index % {blocks};\nlet head = index / {blocks} % {heads_all};\n\
             let row0 = ({along} - 1u - index / {blocks} / {heads_all}) * {rows}u;\n\
             let key_head = head / {heads} * {key_heads} + head % {heads} / {group};\n\
             let query_line = head * queries;\nlet key_line = key_head * keys;\n"
        ));
        kernel.code(&tiles.places());
        let window = kernel.arg(problem.window);
        kernel.code(&match problem.masked {
            false => "let first_key = 0u;\nlet end_key = keys;".to_owned(),
            true => format!(
                "let first_key = max(row0 + 1u, {window}) - {window};\nlet end_key = min(keys, row0 + {rows}u);"
            ),
        });
        // A walk meets no more tiles than these, the last of them and the first in part.
        let walk = match problem.masked {
            false => problem.keys,
            true => problem.keys.min(tiles.rows + problem.window + tiles.columns),
        };
        let groups = walk.div_ceil(tiles.columns) * tiles.each().len();
        let kept = groups <= KEPT_MAX;
        if kept && !tiles.single {
            kernel.code(&format!(
                "var kept: array<vec4<f32>, {}>;\nlet first_kept = first_key / {columns}u * {columns}u;",
                groups.next_power_of_two(),
                columns = tiles.columns
            ));
        }
        let weighed = problem.cap.is_none() && (kept || tiles.single);
        Self { kernel, tiles, levels: levels(problem.keys), kept, weighed, q, k }
    }

    fn add(&mut self, text: &str) {
        self.kernel.code(text.trim_end());
    }

    /// Products of queries and keys, and which of them count.
    fn products(&self) -> String {
        let queries = Lines { source: &self.q, first: "query_line", start: "row0", count: "queries" };
        let keys = Lines { source: &self.k, first: "key_line", start: "tile", count: "keys" };
        self.tiles.contract("s", &queries, &keys)
    }

    /// Declares `seen0`, …: which keys the queries see.
    fn seen(&self) -> String {
        let seen = |j: usize| {
            let each = [0, 1, 2, 3].map(|i| format!("seen(row0 + band * 4u + {i}u, tile + slot + {}u)", 16 * j));
            format!("let seen{j} = vec4<bool>({});\n", each.join(", "))
        };
        self.tiles.each().map(seen).collect()
    }

    /// The products again, where more than one tile needed the variables.
    fn again(&self) -> String {
        let load = |(j, place): (usize, String)| format!("s{j} = {place};\n");
        match (self.tiles.single, self.kept) {
            (true, _) => String::new(),
            (_, true) => self.places().map(load).collect(),
            (_, false) => self.products(),
        }
    }

    /// Keeps what the products' variables hold.
    fn keep(&self) -> String {
        let store = |(j, place): (usize, String)| format!("{place} = s{j};\n");
        if self.tiles.single || !self.kept { String::new() } else { self.places().map(store).collect() }
    }

    /// For each column of an invocation, where its scores are kept.
    fn places(&self) -> impl Iterator<Item = (usize, String)> {
        self.tiles.each().map(|j| (j, format!("kept[(tile - first_kept) / 16u + {j}u]")))
    }

    fn walk(&self, body: &str, after: &dyn Fn(u32) -> String) -> String {
        self.tiles.walk(self.levels, ["first_key", "end_key"], body, after)
    }

    /// Declares `m` and `recip`, the highest score of each query and 1 / sum of its weights. `with_weights` does
    /// something with each tile's weights, `weight0`, …; `once_more` says whether another walk follows.
    fn known(&mut self, with_weights: &str, once_more: bool) {
        let tiles = &self.tiles;
        let declare = tiles.declare_scores("s");
        let higher: String =
            tiles.each().map(|j| format!("m = select(m, higher(m, scores(s{j})), seen{j});\n")).collect();
        // Below every score; some key is seen.
        let first = self.products() + &self.keep() + &self.seen() + &higher;
        let first = self.walk(&first, &|_| String::new());
        let z = RowSum { name: "z", levels: self.levels };
        let weights: String = tiles
            .each()
            .map(|j| format!("let weight{j} = weights(scores(s{j}), m, seen{j});\nz1 = added(z1, weight{j});\n"))
            .collect();
        let weighed = match self.weighed && once_more {
            true => tiles.each().map(|j| format!("s{j} = weight{j};\n")).collect::<String>() + &self.keep(),
            false => String::new(),
        };
        let second = self.again() + &self.seen() + &weights + &weighed + with_weights;
        let second = self.walk(&second, &|level| z.after(level));
        let text = format!(
            "{declare}var m = vec4<f32>(bitcast<f32>(0xdd800000u));\n{first}\
             m = highest(band * 16u, slot, m);\n{}{second}\
             let z = {};\nlet recip = vec4<f32>(c_recip(z.x), c_recip(z.y), c_recip(z.z), c_recip(z.w));\n",
            z.declare(),
            z.sum()
        );
        self.add(&text);
    }

    /// Declares `d`, the sums of dy·y over each query's row.
    fn row_products(&mut self, problem: &Problem, dy: &View, y: &View) {
        let (dy, y) = (self.kernel.read(dy), self.kernel.read(y));
        let d = RowSum { name: "d", levels: levels(problem.width) };
        let mut terms = String::new();
        for (i, c) in COMPONENTS.iter().enumerate() {
            let at = format!("(query_line + row0 + band * 4u + {i}u) * width + column");
            terms += &format!(
                "if (row0 + band * 4u + {i}u < queries) {{ d1.{c} = plus(d1.{c}, c_mul({}, {})); }}\n",
                dy.at(&at),
                y.at(&at)
            );
        }
        let inner = format!("for (var column = from1 + slot; column < stop1; column += 16u) {{\n{terms}}}\n");
        let sum = spans(d.levels, ["0u", "width"], &inner, &|level| d.after(level));
        let text = format!("{}{sum}let d = {};\n", d.declare(), d.sum());
        self.add(&text);
    }

    /// The gradient of the queries, from all that is known of them.
    fn query_gradient(&mut self, [v, dy]: [&Source; 2], dq: &Bound) {
        let tiles = &self.tiles;
        let rows = Lines { source: dy, first: "query_line", start: "row0", count: "queries" };
        let values = Lines { source: v, first: "key_line", start: "tile", count: "keys" };
        let keys = Lines { source: &self.k, first: "key_line", start: "tile", count: "keys" };
        let weight = |j| match self.weighed {
            true => format!("s{j}"),
            false => format!("weights(scores(s{j}), m, seen{j})"),
        };
        let slopes: String = tiles
            .each()
            .map(|j| {
                let weight = weight(j);
                format!(
                    "let share{j} = products({weight}, recip);\n\
                     let ds{j} = round12_4(slopes(share{j}, dp{j}, d, s{j}));\n"
                )
            })
            .collect();
        let body = self.again()
            + &tiles.contract("dp", &rows, &values)
            + &self.seen()
            + &slopes
            + &tiles.accumulate("dq", "ds", &keys)
            + &tiles.end_tile(&["dq"]);
        let place = ["query_line", "row0", "queries"];
        let text = tiles.declare_scores("dp")
            + &tiles.declare_sums("dq")
            + &self.walk(&body, &|_| String::new())
            + &tiles.write("dq", dq, place, &|_, x, to| format!("{to} = {x};"));
        self.add(&text);
    }
}
