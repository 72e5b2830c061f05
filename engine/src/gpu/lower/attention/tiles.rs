//! The pieces of attention's kernels: how a workgroup computes a tile of scores, rows x columns, and sums over columns.
//!
//! A workgroup has 16 invocations for each band of four rows. Invocation `lane` computes the scores of rows 4·band to
//! 4·band+3, `band` = lane / 16, and of the columns slot, slot+16, …, `slot` = lane % 16: each 16th column, as the row
//! rule sums them. The variable `s0` holds the four rows' scores of column `slot`, `s1` those of column slot+16, and so
//! on.
//!
//! A sum over columns, such as of weights times values, goes through workgroup memory, and its elements are dealt out
//! otherwise: an invocation has those of the rows from `own_row` on, in groups of four from `own_column` on.
//!
//! The text of a piece uses variables that the text around it declares: `tile`, the first column of the tile; `stop1`,
//! where the columns end; `fours`, the groups of four in a row of an operand; `block`, which block of them is summed.

use std::fmt::Write as _;

use super::super::super::Form;
use super::super::super::kernel::{Bound, Kernel};

/// Elements of a block of the row rule.
const SPAN: u64 = 4096;
/// Elements of a chunk of a contraction.
const CHUNK: usize = 256;
/// Groups of four that a workgroup's two arrays have room for, each: together 16 KiB.
const ROOM: usize = 512;
/// Most groups of four of a row that a workgroup sums for.
const BLOCK_MAX: usize = 32;
/// Workgroups that a device is well used with: tiles are smaller where there would be fewer.
const GROUPS_ENOUGH: usize = 128;

/// An operand in a kernel: rows of groups of four.
pub(super) struct Source {
    pub(super) bound: Bound,
    pub(super) rounded: bool,
}

/// Which rows of an operand: the expressions of its first row, of the tile's first one counted from there, of their
/// number.
pub(super) struct Lines<'a> {
    pub(super) source: &'a Source,
    pub(super) first: &'a str,
    pub(super) start: &'a str,
    pub(super) count: &'a str,
}

impl Lines<'_> {
    /// Sets `x` to a group of four of a row of the tile, or to zeros where there is none.
    fn load(&self, row: &str, four: &str) -> String {
        let Self { source, first, start, count } = self;
        let mut element = source.bound.at(format!("({first} + {start} + {row}) * fours + {four}"));
        if !source.rounded {
            element = format!("round12_4({element})");
        }
        format!(
            "var x = vec4<f32>();\n\
             if ({start} + {row} < {count} && {four} < fours) {{ x = {element}; }}\n"
        )
    }
}

/// Levels of the row rule over so many elements: blocks, blocks of blocks, …
pub(super) fn levels(len: usize) -> u32 {
    (1..4).find(|&level| len as u64 <= SPAN.pow(level)).unwrap_or(4)
}

/// Walks the columns `from..stop` in spans of 4,096, spans of spans, …: `inner` does the columns `from1..stop1` of one
/// span, `after(level)` ends a span of a level below the last.
pub(super) fn spans(levels: u32, [from, stop]: [&str; 2], inner: &str, after: &dyn Fn(u32) -> String) -> String {
    let mut text = inner.to_owned();
    for level in 1..levels {
        let (above, span) = (level + 1, SPAN.pow(level));
        text = format!(
            "for (var at{above} = from{above} / {span}u * {span}u; at{above} < stop{above}; at{above} += {span}u) {{\n\
             let from{level} = max(from{above}, at{above});\n\
             let stop{level} = min(stop{above}, at{above} + {span}u);\n{text}{}}}\n",
            after(level)
        );
    }
    format!("{{\nlet from{levels} = {from};\nlet stop{levels} = {stop};\n{text}}}\n")
}

/// A sum by the row rule, of four rows at once: each invocation adds its columns to `{name}1`.
pub(super) struct RowSum<'a> {
    pub(super) name: &'a str,
    pub(super) levels: u32,
}

impl RowSum<'_> {
    pub(super) fn declare(&self) -> String {
        (1..=self.levels).map(|level| format!("var {}{level} = vec4<f32>();\n", self.name)).collect()
    }

    /// Ends a span: its sum is one element of the level above.
    pub(super) fn after(&self, level: u32) -> String {
        let (name, above, span) = (self.name, level + 1, SPAN.pow(level));
        format!(
            "let {name}_sum = tree(band * 16u, slot, {name}{level});\n\
             if (((at{above} / {span}u) & 15u) == slot) {{ {name}{above} = added({name}{above}, {name}_sum); }}\n\
             {name}{level} = vec4<f32>();\n"
        )
    }

    /// The sum, an expression.
    pub(super) fn sum(&self) -> String {
        format!("canons(tree(band * 16u, slot, {}{}))", self.name, self.levels)
    }
}

/// How a workgroup is laid over rows and columns.
pub(super) struct Tiles {
    /// Rows: 16, 32 or 64.
    pub(super) rows: usize,
    /// Columns of a tile: 16, 32 or 64.
    pub(super) columns: usize,
    /// Whether there is but one tile of columns.
    pub(super) single: bool,
    /// Blocks of a row of results.
    pub(super) blocks: usize,
    /// Groups of four of a row.
    fours: usize,
    /// Groups of four of a block.
    block: usize,
    /// Groups of four of an operand's row that are contracted between two barriers.
    depth: usize,
    /// Columns that are summed between two barriers.
    unit: usize,
    /// Whether a row is longer than a chunk.
    wide: bool,
    /// Whether there are more columns than a chunk has.
    folded: bool,
    form: Form,
}

impl Tiles {
    /// For `heads` times so many rows and columns, of rows of `fours` groups of four.
    pub(super) fn new(heads: usize, [rows, columns]: [usize; 2], fours: usize, form: Form) -> Self {
        let length = |n: usize| n.next_power_of_two().clamp(16, 64);
        let blocks = fours.div_ceil(BLOCK_MAX);
        let few = heads * blocks * rows.div_ceil(64) < GROUPS_ENOUGH;
        let own = if few { length(rows).min(32) } else { length(rows) };
        let tile = length(columns);
        let room = ROOM / (own + tile);
        let block = fours.min(BLOCK_MAX);
        let power = |n: usize| 1 << n.ilog2();
        Self {
            rows: own,
            columns: tile,
            single: columns <= tile,
            blocks,
            fours,
            block,
            depth: if fours <= room { fours } else { power(room) },
            unit: tile.min(ROOM / (own / 4)).min(power(ROOM / block)),
            wide: fours > CHUNK / 4,
            folded: columns > CHUNK,
            form,
        }
    }

    /// Invocations of a workgroup.
    pub(super) fn invocations(&self) -> u32 {
        4 * self.rows as u32
    }

    /// Columns of scores of an invocation.
    pub(super) fn each(&self) -> std::ops::Range<usize> {
        0..self.columns / 16
    }

    /// Invocations side by side along a row of results, rows of each, and groups of four of each.
    fn own(&self) -> [usize; 3] {
        let side = self.block.next_power_of_two().min(16);
        [side, (side / 4).max(1), self.block.div_ceil(side)]
    }

    /// Declares workgroup memory and functions.
    pub(super) fn declare(&self, kernel: &mut Kernel) {
        let bands = self.rows / 4;
        let stage = ((self.rows + self.columns) * self.depth).max(self.unit * self.block);
        let cells = bands * self.unit.max(16);
        let step = match self.form {
            Form::Plain => "a * b + c",
            Form::Fma => "fma(a, b, c)",
            Form::Barrier => "held(a * b + c)",
        };
        let mut terms: Vec<String> = (0..16).map(|i| format!("cells[first + {i}u]")).collect();
        for half in [8, 4, 2, 1] {
            terms = (0..half).map(|i| format!("added({}, {})", terms[i], terms[i + half])).collect();
        }
        kernel.declare(&format!(
            "var<workgroup> stage: array<vec4<f32>, {stage}>;\n\
             var<workgroup> cells: array<vec4<f32>, {cells}>;\n\
             fn held(x: vec4<f32>) -> vec4<f32> {{\n\
             return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) ^ vec4<u32>(arguments.words[0].x));\n}}\n\
             fn component(x: vec4<f32>, i: u32) -> f32 {{\n\
             return select(select(x.x, x.y, (i & 1u) == 1u), select(x.z, x.w, (i & 1u) == 1u), (i & 2u) == 2u);\n}}\n\
             fn added(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {{ return held(a + b); }}\n\
             fn canons(x: vec4<f32>) -> vec4<f32> {{\n\
             return vec4<f32>(canon(x.x), canon(x.y), canon(x.z), canon(x.w));\n}}\n\
             fn product_step(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>) -> vec4<f32> {{ return {step}; }}\n\
             fn higher(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {{ return select(a, b, a < b); }}\n\
             fn share(first: u32, slot: u32, x: vec4<f32>) {{\n\
             workgroupBarrier();\ncells[first + slot] = x;\nworkgroupBarrier();\n}}\n\
             fn tree(first: u32, slot: u32, x: vec4<f32>) -> vec4<f32> {{\nshare(first, slot, x);\nreturn {};\n}}\n\
             fn highest(first: u32, slot: u32, x: vec4<f32>) -> vec4<f32> {{\n\
             share(first, slot, x);\nvar m = x;\n\
             for (var i = 0u; i < 16u; i++) {{ m = higher(m, cells[first + i]); }}\nreturn m;\n}}",
            terms[0]
        ));
    }

    /// Declares which rows, columns and results are an invocation's.
    pub(super) fn places(&self) -> String {
        let [side, rows, _] = self.own();
        // Rows beyond the tile are nobody's.
        format!(
            "let band = lane / 16u;\nlet slot = lane % 16u;\n\
             let own_row = lane / {side}u * {rows}u;\nlet own_column = lane % {side}u;\n"
        )
    }

    /// Declares the scores' variables of a name.
    pub(super) fn declare_scores(&self, name: &str) -> String {
        self.each().map(|j| format!("var {name}{j} = vec4<f32>();\n")).collect()
    }

    /// Walks the tiles of columns `from..stop`, see [`spans`]: `body` does one.
    pub(super) fn walk(&self, levels: u32, range: [&str; 2], body: &str, after: &dyn Fn(u32) -> String) -> String {
        let columns = self.columns;
        let inner = match self.single {
            true => format!("let tile = 0u;\n{body}"),
            false => format!(
                "for (var tile = from1 / {columns}u * {columns}u; tile < stop1; tile += {columns}u) {{\n{body}}}\n"
            ),
        };
        spans(levels, range, &inner, after)
    }

    /// Contracts rows with columns, to the scores' variables of a name.
    pub(super) fn contract(&self, name: &str, rows: &Lines<'_>, columns: &Lines<'_>) -> String {
        let zero: String = self.each().map(|j| format!("{name}{j} = vec4<f32>();\n")).collect();
        let steps = self.contract_chunk(name, rows, columns);
        if !self.wide {
            return format!("{zero}for (var deep = 0u; deep < fours; deep += {}u) {{\n{steps}}}\n", self.depth);
        }
        let chunk = CHUNK / 4;
        let mut text = "{\n".to_owned();
        for j in self.each() {
            let _ = writeln!(text, "var whole{j} = vec4<f32>();");
        }
        let _ = write!(
            text,
            "for (var chunk = 0u; chunk < fours; chunk += {chunk}u) {{\n{zero}\
             for (var deep = chunk; deep < min(fours, chunk + {chunk}u); deep += {}u) {{\n{steps}}}\n",
            self.depth
        );
        for j in self.each() {
            let _ = writeln!(text, "whole{j} = added(whole{j}, {name}{j});");
        }
        text.push_str("}\n");
        for j in self.each() {
            let _ = writeln!(text, "{name}{j} = whole{j};");
        }
        text.push_str("}\n");
        text
    }

    /// The groups of four from `deep` on: they come to workgroup memory, and from there to the sums.
    fn contract_chunk(&self, name: &str, rows: &Lines<'_>, columns: &Lines<'_>) -> String {
        let depth = self.depth;
        let mut text = "workgroupBarrier();\n".to_owned();
        // Eight neighbours take eight rows: they meet in no bank of memory; four times eight read whole cache lines.
        for (lines, count, at) in [(rows, self.rows, 0), (columns, self.columns, self.rows * depth)] {
            let _ = write!(
                text,
                "for (var n = lane; n < {}u; n += {}u) {{\n\
                 let row = n % 8u + n / {}u * 8u;\nlet four = n / 8u % {depth}u;\n{}\
                 stage[{at}u + four * {count}u + row] = x;\n}}\n",
                count * depth,
                self.invocations(),
                8 * depth,
                lines.load("row", "deep + four"),
            );
        }
        // A chunk is whole pieces, so the piece ends where the row does, at the latest.
        let _ = write!(
            text,
            "workgroupBarrier();\nlet count = min({depth}u, fours - deep);\n\
             for (var four = 0u; four < count; four++) {{\nlet at = four * {}u + band * 4u;\n",
            self.rows
        );
        for i in 0..4 {
            let _ = writeln!(text, "let row{i} = stage[at + {i}u];");
        }
        for j in self.each() {
            let at = self.rows * depth + 16 * j;
            let _ = writeln!(text, "let column{j} = stage[four * {}u + slot + {at}u];", self.columns);
        }
        for c in COMPONENTS {
            let _ = writeln!(text, "let rows_{c} = vec4<f32>(row0.{c}, row1.{c}, row2.{c}, row3.{c});");
            for j in self.each() {
                let _ = writeln!(text, "{name}{j} = product_step(rows_{c}, vec4<f32>(column{j}.{c}), {name}{j});");
            }
        }
        text.push_str("}\n");
        text
    }

    /// Sums over the tile's columns: adds the products of values (rounded, one variable for each column of an
    /// invocation) with an operand's rows to the sums of a name.
    pub(super) fn accumulate(&self, name: &str, values: &str, lines: &Lines<'_>) -> String {
        let (unit, block, bands) = (self.unit, self.block, self.rows / 4);
        let [side, rows, fours] = self.own();
        let turn = bands.min(8) - 1;
        let rounds = self.columns / unit;
        let mut text = format!(
            "for (var part = 0u; part < {rounds}u; part++) {{\nlet first = tile + part * {unit}u;\n\
             if (first >= stop1) {{ break; }}\nworkgroupBarrier();\n"
        );
        for j in self.each() {
            // Turned, so that neighbours do not meet in one bank of memory.
            let column = format!("(slot + {}u)", 16 * j % unit);
            let _ = writeln!(
                text,
                "if (part == {}u) {{ cells[{column} * {bands}u + (band ^ ({column} & {turn}u))] = {values}{j}; }}",
                16 * j / unit
            );
        }
        let from = Lines { start: "first", ..*lines };
        let _ = write!(
            text,
            "for (var n = lane; n < {}u; n += {}u) {{\n\
             let row = n / {block}u;\nlet four = block * {block}u + n % {block}u;\n{}\
             stage[n] = x;\n}}\nworkgroupBarrier();\nif (own_row < {}u) {{\nfor (var n = 0u; n < {unit}u; n++) {{\n\
             let value = cells[n * {bands}u + ((own_row / 4u) ^ (n & {turn}u))];\n",
            unit * block,
            self.invocations(),
            from.load("row", "four"),
            self.rows,
        );
        for k in 0..fours {
            let _ = writeln!(text, "let x{k} = stage[n * {block}u + min(own_column + {}u, {}u)];", side * k, block - 1);
        }
        match rows {
            4 => {}
            2 => text.push_str("let own = select(value.xy, value.zw, (own_row & 2u) == 2u);\n"),
            _ => text.push_str("let own = component(value, own_row);\n"),
        }
        for (i, component) in COMPONENTS.iter().enumerate().take(rows) {
            let own = match rows {
                4 => format!("value.{component}"),
                2 => format!("own.{component}"),
                _ => "own".to_owned(),
            };
            for k in 0..fours {
                let _ = writeln!(text, "{name}{i}_{k} = product_step(vec4<f32>({own}), x{k}, {name}{i}_{k});");
            }
        }
        text.push_str("}\n}\n}\n");
        text
    }

    /// About how many turns of its loops an invocation has for so many contractions and sums over columns of a tile.
    pub(super) fn turns(&self, contractions: usize, sums: usize) -> usize {
        let lanes = self.invocations() as usize;
        let loads = (self.rows * self.depth).div_ceil(lanes) + (self.columns * self.depth).div_ceil(lanes);
        let contraction = self.fours.div_ceil(self.depth) * (loads + self.depth + 1) + self.fours.div_ceil(CHUNK / 4);
        let part = (self.unit * self.block).div_ceil(lanes) + self.unit + 1;
        contractions * contraction + sums * self.columns / self.unit * part + 1
    }

    /// Names of the variables that hold a sum's elements.
    fn sums(&self, name: &str) -> Vec<String> {
        let [_, rows, fours] = self.own();
        (0..rows).flat_map(|i| (0..fours).map(move |k| format!("{name}{i}_{k}"))).collect()
    }

    /// Declares the variables of a sum over columns.
    pub(super) fn declare_sums(&self, name: &str) -> String {
        let declare = |sum: String| match self.folded {
            true => format!("var {sum} = vec4<f32>();\nvar {sum}_whole = vec4<f32>();\n"),
            false => format!("var {sum} = vec4<f32>();\n"),
        };
        self.sums(name).into_iter().map(declare).collect()
    }

    /// Ends a tile: where it ends a chunk, the chunk's sums are complete.
    pub(super) fn end_tile(&self, names: &[&str]) -> String {
        if !self.folded || names.is_empty() {
            return String::new();
        }
        let all: String = names.iter().map(|name| self.fold(name)).collect();
        format!("if (((tile + {}u) & {}u) == 0u) {{\n{all}}}\n", self.columns, CHUNK - 1)
    }

    /// Adds the sums of the chunk under way to the whole.
    pub(super) fn fold(&self, name: &str) -> String {
        if !self.folded {
            return String::new();
        }
        let fold = |sum: String| format!("{sum}_whole = added({sum}_whole, {sum});\n{sum} = vec4<f32>();\n");
        self.sums(name).into_iter().map(fold).collect()
    }

    /// Writes complete sums: `result(i, x, element)` is the statement for the element `element` of row `i` of an
    /// invocation, whose sum is `x`.
    pub(super) fn write(
        &self,
        name: &str,
        out: &Bound,
        [first, start, count]: [&str; 3],
        result: &dyn Fn(usize, &str, &str) -> String,
    ) -> String {
        let [side, rows, fours] = self.own();
        let whole = if self.folded { "_whole" } else { "" };
        let mut text = self.fold(name);
        let _ = writeln!(text, "if (own_row < {}u) {{", self.rows);
        for i in 0..rows {
            let _ = write!(
                text,
                "if ({start} + own_row + {i}u < {count}) {{\nlet row = ({first} + {start} + own_row + {i}u) * width;\n"
            );
            for k in 0..fours {
                let _ = writeln!(text, "{{\nlet column = (block * {}u + own_column + {}u) * 4u;", self.block, side * k);
                for (c, component) in COMPONENTS.iter().enumerate() {
                    let element = out.at(format!("row + column + {c}u"));
                    let result = result(i, &format!("canon({name}{i}_{k}{whole}.{component})"), &element);
                    let _ = writeln!(text, "if (column + {c}u < width) {{ {result} }}");
                }
                text.push_str("}\n");
            }
            text.push_str("}\n");
        }
        text.push_str("}\n");
        text
    }

    /// Of four rows' numbers, in `cells[row / 4]`, that of row `i` of an invocation's sums.
    pub(super) fn own_of_cells(&self, i: usize) -> String {
        format!("component(cells[(own_row + {i}u) / 4u], own_row + {i}u)")
    }
}

/// Of a group of four.
pub(super) const COMPONENTS: [char; 4] = ['x', 'y', 'z', 'w'];
