//! Rows by the row rule: the 16 lanes of a block are 16 invocations.
//!
//! [`Lanes`] writes passes over rows: sums, maxima, and what is done to each element; what a pass finds is known to every
//! invocation of the row in the next one. Rows of a block or less share a workgroup; a longer row has one of its own, in
//! which 16 blocks are under way at a time; the shortest have one invocation each.
//!
//! *Invariant:* where invocations wait for each other, all of a workgroup do: a row beyond the last one is empty, but its
//! invocations go on.

use std::fmt::Display;

use super::super::kernel::Kernel;
use crate::number::HUGE_BITS;
use crate::reference::reduce::{LANES, ROW_BLOCK};

/// A row of at most so many elements is one invocation's.
const ALONE_MAX: usize = 32;
/// Invocations of a workgroup that has a row for each, or for each 16, of them.
const SHARED: u32 = 64;
/// Invocations of a workgroup that has one row.
const WIDE: u32 = 256;
/// Elements that are read ahead where nothing else is said, in short rows and in long ones.
const AHEAD: [usize; 2] = [4, 8];
/// Elements that such a workgroup goes through in a round: a block for each 16 invocations.
const ROUND: usize = WIDE as usize / LANES * ROW_BLOCK;

/// How invocations share rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// Each has a row.
    Alone,
    /// 16 have a row, or a block of one.
    Lanes,
    /// All of a workgroup have a row.
    Workgroup,
}

/// A kernel over rows, under construction.
///
/// The text knows `row`, and `there`: whether there is such a row. In a pass, `i` is an element's index in its row.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Where tensors are bound and arguments are added.
    pub(super) kernel: Kernel,
    sharing: Sharing,
    /// Rounds of a row that has a workgroup.
    rounds: String,
    /// Elements that an invocation reads before it uses the first of them, in a sum or maximum.
    pub(super) ahead: usize,
    /// Numbers of workgroup memory in use.
    used: u32,
}

impl Lanes {
    /// Whole rows of `n` elements.
    pub(super) fn rows(label: &'static str, rows: usize, n: usize) -> Self {
        let sharing = match n {
            n if n <= ALONE_MAX => Sharing::Alone,
            n if n <= ROW_BLOCK => Sharing::Lanes,
            _ => Sharing::Workgroup,
        };
        let mut lanes = Self::sharing(label, rows, sharing);
        let (count, n_) = (lanes.kernel.arg(rows), lanes.kernel.arg(n));
        lanes.kernel.code(&format!("let row = unit;\nlet there = row < {count};"));
        lanes.kernel.code(&format!("let first = 0u;\nlet end = select(0u, {n_}, there);"));
        if sharing == Sharing::Workgroup {
            lanes.rounds = lanes.kernel.arg(n.div_ceil(ROUND));
        }
        lanes
    }

    /// Blocks of rows of `n` elements: block `unit % blocks` of row `unit / blocks`, `units` in all.
    pub(super) fn blocks(label: &'static str, units: usize, n: usize) -> Self {
        let mut lanes = Self::sharing(label, units, Sharing::Lanes);
        let (count, n_, blocks) =
            (lanes.kernel.arg(units), lanes.kernel.arg(n), lanes.kernel.arg(n.div_ceil(ROW_BLOCK)));
        lanes.kernel.code(&format!(
            "let row = unit / {blocks};\nlet there = unit < {count};\nlet first = unit % {blocks} * {ROW_BLOCK}u;\n\
             let end = select(0u, min(first + {ROW_BLOCK}u, {n_}), there);"
        ));
        lanes
    }

    fn sharing(label: &'static str, units: usize, sharing: Sharing) -> Self {
        let (size, each, unit, member) = match sharing {
            Sharing::Alone => (SHARED, 1, format!("linear(group) * {SHARED}u + lane"), "0u"),
            Sharing::Lanes => {
                (SHARED, LANES, format!("linear(group) * {}u + (lane >> 4u)", SHARED as usize / LANES), "lane & 15u")
            }
            Sharing::Workgroup => (WIDE, WIDE as usize, "linear(group)".to_owned(), "lane"),
        };
        let ahead = AHEAD[usize::from(sharing == Sharing::Workgroup)];
        let mut kernel = Kernel::new(label, [size, 1, 1]);
        kernel.groups_of(units.div_ceil(size as usize / each) as u64);
        kernel.code(&format!("let unit = {unit};\nlet member = {member};"));
        Self { kernel, sharing, rounds: String::new(), ahead, used: 0 }
    }

    /// Invocations of a row or block; the text knows `member`, which of them.
    pub(super) fn members(&self) -> u32 {
        match self.sharing {
            Sharing::Alone => 1,
            Sharing::Lanes => LANES as u32,
            Sharing::Workgroup => WIDE,
        }
    }

    /// Invocations of a workgroup.
    pub(super) fn invocations(&self) -> u32 {
        if self.sharing == Sharing::Workgroup { WIDE } else { SHARED }
    }

    /// Runs statements for each element, `i`, of the row; each invocation takes its elements in ascending order.
    pub(super) fn each(&mut self, body: &str) {
        // Several elements in an iteration: of a long row there are too many for one each, see `fold`.
        let times = if self.sharing == Sharing::Workgroup { self.ahead } else { 1 };
        let text = self.walk(|start, end, step| {
            let bodies = (0..times).map(|k| match k * step {
                0 => format!("{{\nlet i = next;\n{body}\n}}"),
                later => format!("if (next + {later}u < {end}) {{\nlet i = next + {later}u;\n{body}\n}}"),
            });
            let bodies = bodies.collect::<Vec<_>>().join("\n");
            format!("for (var next = {start}; next < {end}; next += {}u) {{\n{bodies}\n}}", times * step)
        });
        self.kernel.code(&text);
    }

    /// What goes through the row, made of loops that have a first element, an end, and a distance.
    fn walk(&self, part: impl Fn(&str, &str, usize) -> String) -> String {
        match self.sharing {
            Sharing::Alone => part("0u", "end", 1),
            Sharing::Lanes => part("first + member", "end", LANES),
            Sharing::Workgroup => format!(
                "for (var round = 0u; round < {}; round += 1u) {{\nlet stop = min(round * {ROUND}u + {ROUND}u, end);\n\
                 {}\n}}",
                self.rounds,
                part(&format!("round * {ROUND}u + lane"), "stop", WIDE as usize)
            ),
        }
    }

    /// Runs statements once for the row.
    pub(super) fn once(&mut self, body: &str) {
        self.kernel.code(&format!("if (there && member == 0u) {{\n{body}\n}}"));
    }

    /// In one pass, sums over the row by the row rule: names, and what is summed. A sum has not passed `canon`.
    pub(super) fn sums<E: Display>(&mut self, sums: &[(&str, E)]) {
        match self.sharing {
            Sharing::Alone => self.sums_alone(sums),
            Sharing::Lanes => self.sums_by_lanes(sums),
            Sharing::Workgroup => self.sums_by_workgroup(sums),
        }
    }

    fn sums_alone<E: Display>(&mut self, sums: &[(&str, E)]) {
        let body = text(sums, |_, name, x| format!("{name}_[i & 15u] = plus({name}_[i & 15u], {x});"));
        self.kernel.code(&text(sums, |_, name, _| format!("var {name}_ = array<f32, {LANES}>();")));
        self.each(&body);
        let tree = |name: &str| format!("lane_tree({})", fours(|k| format!("{name}_[{k}]")));
        self.kernel.code(&text(sums, |_, name, _| format!("let {name} = {};", tree(name))));
    }

    /// A loop that adds elements to sums.
    fn add_up<E: Display>(&self, start: &str, end: &str, step: usize, sums: &[(&str, E)]) -> String {
        let names: Vec<String> = sums.iter().map(|(name, _)| format!("{name}_")).collect();
        let folds: Vec<(&str, &E)> = names.iter().zip(sums).map(|(name, (_, x))| (name.as_str(), x)).collect();
        fold(["i", start, end], step, self.ahead, "plus", &folds)
    }

    fn sums_by_lanes<E: Display>(&mut self, sums: &[(&str, E)]) {
        self.kernel.code(&text(sums, |_, name, _| format!("var {name}_ = 0.0;")));
        let loops = self.walk(|start, end, step| self.add_up(start, end, step, sums));
        self.kernel.code(&loops);
        let at = self.memory(sums.len() as u32);
        self.kernel.code(&text(sums, |k, name, _| format!("lanes[{}u + lane] = {name}_;", at + k * SHARED)));
        self.kernel.code("workgroupBarrier();");
        let tree = |k, name: &str, _: &E| format!("let {name} = tree({}u + (lane & 48u));", at + k * SHARED);
        self.kernel.code(&text(sums, tree));
    }

    /// Three levels: in a round 16 blocks; the sums of a round's blocks go to the 16 lanes of the second level; the sum of
    /// 256 rounds goes to a lane of the third.
    fn sums_by_workgroup<E: Display>(&mut self, sums: &[(&str, E)]) {
        let rounds = self.rounds.clone();
        let at = self.memory(sums.len() as u32);
        let store = |level: &'static str| {
            move |k: u32, name: &str, _: &E| format!("lanes[{}u + lane] = {name}{level};", at + k * WIDE)
        };
        let open = [
            text(sums, |_, name, _| format!("var {name}_3 = 0.0;")),
            format!("for (var big = 0u; big * 256u < {rounds}; big += 1u) {{"),
            text(sums, |_, name, _| format!("var {name}_2 = 0.0;")),
            format!("let rounds = min(big * 256u + 256u, {rounds});"),
            "for (var round = big * 256u; round < rounds; round += 1u) {".to_owned(),
            format!("let first = round * {ROUND}u + (lane >> 4u) * {ROW_BLOCK}u;"),
            format!("let stop = min(first + {ROW_BLOCK}u, end);"),
            text(sums, |_, name, _| format!("var {name}_ = 0.0;")),
            self.add_up("first + (lane & 15u)", "stop", LANES, sums),
            text(sums, store("_")),
            "workgroupBarrier();\nif (lane < 16u) {".to_owned(),
            text(sums, |k, name, _| format!("{name}_2 = plus({name}_2, tree({}u + lane * 16u));", at + k * WIDE)),
            "}\nworkgroupBarrier();\n}".to_owned(),
            text(sums, store("_2")),
            "workgroupBarrier();\nif (lane == (big & 15u)) {".to_owned(),
            text(sums, |k, name, _| format!("{name}_3 = plus({name}_3, tree({}u));", at + k * WIDE)),
            "}\nworkgroupBarrier();\n}".to_owned(),
            text(sums, store("_3")),
            "workgroupBarrier();".to_owned(),
            text(sums, |k, name, _| format!("let {name} = tree({}u);", at + k * WIDE)),
        ];
        open.iter().for_each(|text| self.kernel.code(text));
    }

    /// The largest of something over the row, where there is one.
    pub(super) fn max(&mut self, name: &str, x: impl Display) {
        self.kernel.code(&format!("var {name}_ = {};", lowest()));
        let folds = [(&*format!("{name}_"), x)];
        let loops = self.walk(|start, end, step| fold(["i", start, end], step, self.ahead, "c_max", &folds));
        self.kernel.code(&loops);
        match self.sharing {
            Sharing::Alone => self.kernel.code(&format!("let {name} = {name}_;")),
            Sharing::Lanes => {
                let at = self.memory(1);
                self.kernel.code(&format!(
                    "lanes[{at}u + lane] = {name}_;\nworkgroupBarrier();\nlet {name} = most({at}u + (lane & 48u));"
                ));
            }
            Sharing::Workgroup => {
                let [at, then] = [self.memory(1), self.memory(1)];
                self.kernel.code(&format!(
                    "lanes[{at}u + lane] = {name}_;\nworkgroupBarrier();\nif (lane < 16u) {{\n\
                     lanes[{then}u + lane] = most({at}u + lane * 16u);\n}}\nworkgroupBarrier();\n\
                     let {name} = most({then}u);"
                ));
            }
        }
    }

    /// So many numbers of workgroup memory for each invocation: the first one's index.
    fn memory(&mut self, count: u32) -> u32 {
        let at = self.used;
        self.used += count * self.invocations();
        at
    }

    /// The kernel, of about `work` operations.
    pub(super) fn finish(mut self, work: usize) -> Kernel {
        if self.used > 0 {
            self.kernel.declare(&format!("var<workgroup> lanes: array<f32, {}>;", self.used));
            let tree = fours(|k| format!("lanes[at + {k}u]"));
            self.kernel.declare(&format!("fn tree(at: u32) -> f32 {{ return lane_tree({tree}); }}"));
            self.kernel.declare(
                "fn most(at: u32) -> f32 {\nvar most = lanes[at];\nfor (var k = 1u; k < 16u; k += 1u) {\n\
                 most = c_max(most, lanes[at + k]);\n}\nreturn most;\n}",
            );
        }
        self.kernel.work = work as u64;
        self.kernel
    }
}

/// A loop over an index from `start` to below `end`, in steps, that folds something into each of some variables, in
/// order. It reads several elements before it uses the first one: a device waits long for memory, but for many reads at once
/// not longer. And it has fewer iterations: Mesa's software device ends loops silently when an invocation has had 65,535
/// iterations, of all its loops together.
pub(super) fn fold<E: Display>(
    [index, start, end]: [&str; 3],
    step: usize,
    ahead: usize,
    function: &str,
    folds: &[(&str, E)],
) -> String {
    let each = |statement: &dyn Fn(usize, usize, &str, &E) -> String| {
        let all = (0..ahead).flat_map(|k| folds.iter().enumerate().map(move |(at, (name, x))| (k, at, name, x)));
        all.map(|(k, at, name, x)| statement(k, at, name, x)).collect::<Vec<_>>().join("\n")
    };
    let read = each(&|k, at, _, x| {
        format!("var x{at}_{k} = 0.0;\n{{ let {index} = next + {}u; x{at}_{k} = {x}; }}", k * step)
    });
    let used = each(&|k, at, name, _| format!("{name} = {function}({name}, x{at}_{k});"));
    let rest = text(folds, |_, name, x| format!("{name} = {function}({name}, {x});"));
    format!(
        "{{\nvar next = {start};\nfor (; next + {}u < {end}; next += {}u) {{\n{read}\n{used}\n}}\n\
         for (; next < {end}; next += {step}u) {{\nlet {index} = next;\n{rest}\n}}\n}}",
        (ahead - 1) * step,
        ahead * step
    )
}

/// No canonical number is less, an expression.
pub(super) fn lowest() -> String {
    format!("bitcast<f32>({}u)", HUGE_BITS | crate::number::SIGN)
}

/// A statement for each sum, which has a number, a name and what is summed.
fn text<E>(sums: &[(&str, E)], statement: impl Fn(u32, &str, &E) -> String) -> String {
    let statements = sums.iter().zip(0..).map(|((name, x), k)| statement(k, name, x));
    statements.collect::<Vec<_>>().join("\n")
}

/// 16 numbers as four vectors.
fn fours(lane: impl Fn(usize) -> String) -> String {
    let four = |k: usize| format!("vec4<f32>({}, {}, {}, {})", lane(k), lane(k + 1), lane(k + 2), lane(k + 3));
    [0, 4, 8, 12].map(four).join(", ")
}
