//! The tiled kernel of contractions: its WGSL text.
//!
//! A workgroup computes a tile of the result. Slabs of both operands, some k deep, stand in workgroup memory, rounded,
//! k by k in groups of four lines; two slabs each, so that one is filled while the other is used and one barrier a slab
//! is enough. Each invocation holds its results in registers: 4 or 8 rows by 4 or 8 columns, in vectors along the
//! columns, and for every k takes as many groups of four from workgroup memory as it has fours of rows and of columns.
//!
//! *Invariant:* one result is one register's component; its sums are taken k by k in order. A slab holds 0 beyond the
//! last k, which changes no sum.

use std::fmt::Write as _;

use crate::reference::reduce::CHUNK;

use super::super::Form;
use super::super::kernel::{Kernel, Word};
use super::operand::{Fetch, Slab};
use super::product::{Output, Product};

/// Most turns of an invocation's loops together: a device ends them at 65,535.
const TURNS_MAX: usize = 50_000;

/// Sizes of a workgroup's part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tile {
    rows: u32,
    columns: u32,
    /// k of a slab: divides 256.
    depth: u32,
    /// Rows and columns of one invocation: 4 or 8.
    own: [u32; 2],
    /// Share of a device's operations a clock that it is thought to reach where there are many.
    efficiency: f64,
}

/// What a workgroup does of its results' sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    /// One chunk, whose results stand so many elements behind those of the chunk before.
    Chunk {
        /// 0 where there is one chunk only.
        apart: usize,
    },
    /// Some successive chunks.
    Whole {
        /// 1 where the total starts from +0; else it goes on with what the result holds.
        begin: Word,
        /// The first of them.
        from: usize,
        /// Behind the last.
        until: usize,
    },
}

impl Tile {
    /// From small to large: of equally good ones, the first is taken.
    pub(super) const ALL: [Self; 8] = [
        Self { rows: 16, columns: 16, depth: 16, own: [4, 4], efficiency: 0.5 },
        Self { rows: 16, columns: 64, depth: 16, own: [4, 4], efficiency: 0.5 },
        Self { rows: 64, columns: 16, depth: 16, own: [4, 4], efficiency: 0.5 },
        Self { rows: 4, columns: 128, depth: 8, own: [4, 4], efficiency: 0.25 },
        Self { rows: 128, columns: 4, depth: 8, own: [4, 4], efficiency: 0.25 },
        Self { rows: 32, columns: 32, depth: 16, own: [4, 4], efficiency: 0.5 },
        Self { rows: 64, columns: 64, depth: 16, own: [4, 4], efficiency: 0.6 },
        Self { rows: 128, columns: 128, depth: 8, own: [8, 8], efficiency: 1.0 },
    ];

    /// Invocations along columns and rows.
    fn grid(self) -> [u32; 2] {
        [self.columns / self.own[1], self.rows / self.own[0]]
    }

    /// Invocations of a workgroup.
    pub(super) fn lanes(self) -> u32 {
        self.grid().iter().product()
    }

    /// Results of one invocation.
    pub(super) fn own(self) -> u32 {
        self.own.iter().product()
    }

    /// Most chunks that a kernel does one after another.
    pub(super) fn chunks_max(self) -> usize {
        // Of each, a turn for every slab, and its own.
        TURNS_MAX / (CHUNK / self.depth as usize + 1)
    }

    /// Share of a device's operations a clock.
    pub(super) fn efficiency(self) -> f64 {
        self.efficiency
    }

    /// Tiles along columns and rows.
    fn tiles(self, product: &Product) -> [usize; 2] {
        [product.columns().div_ceil(self.columns as usize), product.rows().div_ceil(self.rows as usize)]
    }

    /// Workgroups, each doing all of its results' sums.
    pub(super) fn groups(self, product: &Product) -> u64 {
        self.tiles(product).iter().fold(product.batches as u64, |all, &n| all.saturating_mul(n as u64))
    }

    /// The kernel; `finish` is 1 where `canon` ends it.
    pub(super) fn kernel(self, product: &Product, form: Form, output: &Output, part: Part, finish: Word) -> Kernel {
        let mut kernel = Kernel::new(product.label, [self.lanes(), 1, 1]);
        kernel.work = match part {
            Part::Whole { from, until, .. } => product.work() / product.chunks() as u64 * (until - from) as u64,
            Part::Chunk { .. } => product.work(),
        };
        self.find(&mut kernel, product, part);
        let [a, b] = self.fetches(&mut kernel, product);
        self.declare(&mut kernel, product, output, part, finish);
        let k = kernel.arg(product.k);
        let (begin, span) = match part {
            Part::Whole { begin, from, until } => {
                let (begin, [from, until]) = (kernel.word(begin), [from, until].map(|chunk| kernel.arg(chunk)));
                let span = format!(
                    "let chunk0 = {from};\nlet chunks = {until};\nlet first = chunk0 * {CHUNK}u;\n\
                     let stop = min(chunks * {CHUNK}u, {k});"
                );
                (Some(begin), span)
            }
            Part::Chunk { .. } => {
                (None, format!("let first = chunk * {CHUNK}u;\nlet stop = min(first + {CHUNK}u, {k});"))
            }
        };
        kernel.code(&format!("{span}\n{}{}var turn = 0u;", a.once, b.once));
        kernel.code(&self.own_place());
        kernel.code(&self.each_own("c", |c, _, _| format!("var {c} = vec4<f32>();")));
        let (fetch, put) = (a.fetch + &b.fetch, a.put + &b.put);
        let slab = format!(
            "let next = at + {}u;\n{fetch}{}turn = 1u - turn;\n{put}workgroupBarrier();\n",
            self.depth,
            self.steps(form)
        );
        let slabs = |first: &str, end: &str| {
            format!("for (var at = {first}; at < {end}; at += {}u) {{\n{slab}}}\n", self.depth)
        };
        let fill = format!("{{\nlet next = first;\n{fetch}{put}}}\nworkgroupBarrier();\n");
        if let Some(begin) = &begin {
            let resume = self.each_own("t", |t, row, column| format!("{t} = resume({row}, {column}, base);"));
            let sums = self.each_own("t", |t, _, _| format!("{t} = guarded({t} + c{});", &t[1..]));
            kernel.code(&format!(
                "{}if ({begin} == 0u) {{\n{resume}}}\n{fill}\
                 for (var chunk = chunk0; chunk < chunks; chunk += 1u) {{\n{}\
                 let end = min(chunk * {CHUNK}u + {CHUNK}u, stop);\n{}{sums}}}",
                self.each_own("t", |t, _, _| format!("var {t} = vec4<f32>();")),
                self.each_own("c", |c, _, _| format!("{c} = vec4<f32>();")),
                slabs(&format!("chunk * {CHUNK}u"), "end"),
            ));
        } else {
            kernel.code(&format!("{fill}{}", slabs("first", "stop")));
        }
        let result = if begin.is_some() { "t" } else { "c" };
        kernel.code(&self.each_own(result, |x, row, column| format!("emit({row}, {column}, base, {x});")));
        kernel
    }

    /// Declares which tile of which batch, and which chunk, a workgroup does.
    fn find(self, kernel: &mut Kernel, product: &Product, part: Part) {
        let chunks = if let Part::Chunk { .. } = part { product.chunks() } else { 1 };
        let groups = self.groups(product).saturating_mul(chunks as u64);
        kernel.groups_of(groups);
        let [across, down] = self.tiles(product);
        let [groups, across, all, down, batches] =
            [groups as usize, across, across * down, down, product.batches].map(|n| kernel.arg(n));
        let Self { rows, columns, .. } = self;
        kernel.code(&format!(
            "let tile = linear(group);\nif (tile >= {groups}) {{ return; }}\n\
             let column0 = tile % {across} * {columns}u;\nlet row0 = tile / {across} % {down} * {rows}u;\n\
             let batch = tile / {all} % {batches};\nlet chunk = tile / {all} / {batches};"
        ));
    }

    /// How both operands come to workgroup memory.
    fn fetches(self, kernel: &mut Kernel, product: &Product) -> [Fetch; 2] {
        let Self { rows, columns, depth, .. } = self;
        let slab = |lines, skip| Slab { lines, depth, lanes: self.lanes(), skip };
        let a = slab(rows, 0);
        // Where few invocations fetch a, others fetch b.
        let busy = product.a.busy(a);
        let b = slab(columns, if busy + product.b.busy(slab(columns, 0)) <= self.lanes() { busy } else { 0 });
        for (name, slab) in [("a", a), ("b", b)] {
            // Nested, so that the guards of indices that a device may need are the same for every k.
            let line = format!("array<vec4<f32>, {}>", slab.lines / 4);
            kernel.declare(&format!("var<workgroup> s{name}: array<array<{line}, {depth}>, 2>;"));
        }
        [product.a.fetch(kernel, "a", "row0", a), product.b.fetch(kernel, "b", "column0", b)]
    }

    /// Declares which rows and columns an invocation has: those of groups of four `ty` and `tx`, and again half a tile
    /// further where it has eight. Neighbours in a register file of 32 form a block, which takes less from memory than
    /// a line.
    fn own_place(self) -> String {
        let [across, down] = self.grid();
        if across % 8 == 0 && down % 4 == 0 {
            let blocks = across / 8;
            format!(
                "let tx = lane / 32u % {blocks}u * 8u + lane % 8u;\nlet ty = lane / {}u * 4u + lane / 8u % 4u;",
                32 * blocks
            )
        } else {
            format!("let tx = lane % {across}u;\nlet ty = lane / {across}u;")
        }
    }

    /// A line of text for each of an invocation's vectors: its name, its row and its first column.
    fn each_own(self, name: &str, line: impl Fn(&str, &str, &str) -> String) -> String {
        let mut text = String::new();
        for row in 0..self.own[0] {
            for four in 0..self.own[1] / 4 {
                let row_at = format!("row0 + ty * 4u + {}u", row / 4 * (self.rows / 2) + row % 4);
                let column = format!("column0 + tx * 4u + {}u", four * (self.columns / 2));
                let _ = writeln!(text, "{}", line(&format!("{name}{row}_{four}"), &row_at, &column));
            }
        }
        text
    }

    /// All products of a slab.
    fn steps(self, form: Form) -> String {
        let mut text = String::new();
        for k in 0..self.depth {
            text.push_str("{\n");
            for (name, own, lane, lines) in
                [("a", self.own[0], "ty", self.rows), ("b", self.own[1], "tx", self.columns)]
            {
                for four in 0..own / 4 {
                    let _ = writeln!(text, "let {name}{four} = s{name}[turn][{k}][{lane} + {}u];", four * (lines / 8));
                }
            }
            for row in 0..self.own[0] {
                let a = format!("a{}.{}", row / 4, ["x", "y", "z", "w"][row as usize % 4]);
                for four in 0..self.own[1] / 4 {
                    let c = format!("c{row}_{four}");
                    let sum = match form {
                        Form::Plain => format!("{a} * b{four} + {c}"),
                        Form::Fma => format!("fma(vec4<f32>({a}), b{four}, {c})"),
                        Form::Barrier => format!("guarded({a} * b{four} + {c})"),
                    };
                    let _ = writeln!(text, "{c} = {sum};");
                }
            }
            text.push_str("}\n");
        }
        text
    }

    /// Declares how results are written: `emit` and, for a total that goes on, `resume`; and where the batch's begin,
    /// `base`.
    fn declare(self, kernel: &mut Kernel, product: &Product, output: &Output, part: Part, finish: Word) {
        let Output { view, step, batch, images } = output;
        let [rows, columns, step_arg, batch] =
            [product.rows(), product.columns(), *step, *batch].map(|n| kernel.arg(n));
        let apart = if let Part::Chunk { apart } = part { apart } else { 0 };
        let apart = kernel.arg(apart);
        kernel.code(&format!("let base = batch * {batch} + chunk * {apart};"));
        let finish = kernel.word(finish);
        kernel.declare(&format!(
            "fn guarded(x: vec4<f32>) -> vec4<f32> {{\nreturn bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) ^ \
             vec4<u32>(arguments.words[0].x));\n}}\n\
             fn ended(x: vec4<f32>) -> vec4<f32> {{\nif ({finish} == 1u) {{ return canon_4(x); }}\nreturn x;\n}}"
        ));
        let fours = images.is_none() && view.by_four() && step.is_multiple_of(4) && product.columns().is_multiple_of(4);
        let place = match images {
            Some([pixels, apart]) => {
                let [pixels, apart] = [*pixels, *apart].map(|n| kernel.arg(n));
                format!("let place = columns / {pixels} * {apart} + columns % {pixels};")
            }
            None => "let place = columns;".to_string(),
        };
        let (emit, resume) = if fours {
            let at = kernel.write_fours(view).at(format!("(base + row * {step_arg} + column) / 4u"));
            (format!("if (column < {columns}) {{ {at} = y; }}"), format!("if (column < {columns}) {{ y = {at}; }}"))
        } else {
            let output = kernel.write(view);
            let place = format!("let columns = vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u);\n{place}\n");
            let each = |text: &dyn Fn(&str, &str) -> String| -> String {
                let one = |c: &str| {
                    let at = output.at(format!("base + row * {step_arg} + place.{c}"));
                    format!("if (columns.{c} < {columns}) {{ {} }}\n", text(&at, &format!("y.{c}")))
                };
                ["x", "y", "z", "w"].map(one).concat()
            };
            (
                format!("{place}{}", each(&|at, y| format!("{at} = {y};"))),
                format!("{place}{}", each(&|at, y| format!("{y} = {at};"))),
            )
        };
        kernel.declare(&format!(
            "fn emit(row: u32, column: u32, base: u32, x: vec4<f32>) {{\nif (row >= {rows}) {{ return; }}\n\
             let y = ended(x);\n{emit}\n}}"
        ));
        if let Part::Whole { .. } = part {
            kernel.declare(&format!(
                "fn resume(row: u32, column: u32, base: u32) -> vec4<f32> {{\nvar y = vec4<f32>();\n\
                 if (row >= {rows}) {{ return y; }}\n{resume}\nreturn y;\n}}"
            ));
        }
    }
}
