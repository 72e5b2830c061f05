//! Operands of contractions: where an element stands, and how a workgroup brings a slab of them to its memory.
//!
//! An operand is lines (rows of the first, columns of the second) of k elements. A slab of it stands in workgroup memory
//! as groups of four lines, k by k. Where rows in memory are whole fours they are read as such: along lines they are
//! groups already; along k, an invocation reads fours of four lines and turns them. Else it reads one by one.
//!
//! *Invariant:* each element is rounded as an operand before it stands in a slab. Beyond the last k a slab holds 0. Beyond
//! the last line it may hold any element: no result is made of it.

use std::fmt::Write as _;

use super::super::kernel::{Kernel, View};

/// An operand.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    /// All of it.
    pub(super) view: View,
    /// Lines of a batch.
    pub(super) lines: usize,
    /// Elements from a batch to the next.
    pub(super) batch: usize,
    /// Where a line's element stands.
    pub(super) layout: Layout,
}

/// Where an operand's element stands.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    /// At `line * step + k`.
    AlongK {
        /// From a line to the next.
        step: usize,
    },
    /// At `line * step + k / run * far + k % run`.
    InRuns {
        /// From a line to the next.
        step: usize,
        /// Length of a run.
        run: usize,
        /// From a run to the next.
        far: usize,
    },
    /// At `k * step + line`.
    AlongLines {
        /// From a k to the next.
        step: usize,
    },
    /// What kernel elements meet in images; or 0.
    Patches(Patches),
}

/// What elements of a convolution's kernel meet at pixels of images: lines and k are pixels, (image, row, column), and
/// taps, (channel, row, column).
#[derive(Clone, Debug)]
pub(super) struct Patches {
    /// Whether lines are pixels and k are taps, or the other way.
    pub(super) of_pixels: bool,
    /// Whether the images are gradients of what the kernel gives at the pixels it slid over.
    pub(super) back: bool,
    /// Elements from an image to the next.
    pub(super) image: usize,
    /// Rows and columns of the images.
    pub(super) size: [usize; 2],
    /// Rows and columns of the pixels.
    pub(super) pixels: [usize; 2],
    /// Rows and columns of the kernel.
    pub(super) kernel: [usize; 2],
    /// From a pixel to the next (of the smaller image).
    pub(super) stride: [usize; 2],
    /// Zeros around an image.
    pub(super) padding: [usize; 2],
    /// From a tap to the next.
    pub(super) dilation: [usize; 2],
}

/// The part of an operand that stands in workgroup memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slab {
    /// Its lines.
    pub(super) lines: u32,
    /// Its k.
    pub(super) depth: u32,
    /// Invocations of the workgroup.
    pub(super) lanes: u32,
    /// Where few of them read, the first that does.
    pub(super) skip: u32,
}

impl Slab {
    /// Groups of four lines at one k.
    pub(super) fn groups(self) -> u32 {
        self.lines / 4 * self.depth
    }
}

/// Text that brings a slab to workgroup memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetch {
    /// Done once, for slabs from k = `first` on.
    pub(super) once: String,
    /// Reads the slab that begins at k = `next`, behind the one before; there is nothing from `stop` on.
    pub(super) fetch: String,
    /// Puts it in the half `turn` of workgroup memory.
    pub(super) put: String,
}

/// What an invocation reads at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reads {
    /// Four lines at one k, as they stand.
    Lines,
    /// Four k of four lines.
    Square,
    /// Four lines at one k, one by one.
    Ones,
}

impl Operand {
    fn reads(&self) -> Reads {
        let fours = |n: &usize| n.is_multiple_of(4);
        let aligned = self.view.by_four() && fours(&self.batch);
        match &self.layout {
            Layout::AlongK { step } if aligned && fours(step) => Reads::Square,
            Layout::InRuns { step, run, far } if aligned && [step, run, far].into_iter().all(fours) => Reads::Square,
            Layout::AlongLines { step } if aligned && fours(step) && fours(&self.lines) => Reads::Lines,
            _ => Reads::Ones,
        }
    }

    /// Invocations that read, if they are fewer than all.
    pub(super) fn busy(&self, slab: Slab) -> u32 {
        let reads = if self.reads() == Reads::Square { slab.groups() / 4 } else { slab.groups() };
        reads.min(slab.lanes)
    }

    /// Text that fetches slabs of the lines from `start` on, under this name.
    pub(super) fn fetch(&self, kernel: &mut Kernel, name: &str, start: &str, slab: Slab) -> Fetch {
        match self.reads() {
            Reads::Lines => self.fetch_lines(kernel, name, start, slab),
            Reads::Square => self.fetch_squares(kernel, name, start, slab),
            Reads::Ones => self.fetch_ones(kernel, name, start, slab),
        }
    }

    fn fetch_lines(&self, kernel: &mut Kernel, name: &str, start: &str, slab: Slab) -> Fetch {
        let Layout::AlongLines { step } = self.layout else { return Fetch::default() };
        let from = kernel.read_fours(&self.view);
        let [batch, step, last] = [self.batch / 4, step / 4, self.lines / 4 - 1].map(|n| kernel.arg(n));
        let line = slab.lines / 4;
        let mut text = Fetch::default();
        for v in text.turns(name, slab, slab.groups()) {
            let _ = writeln!(
                text.once,
                "var {v} = vec4<f32>();\nlet {v}k = {v}g / {line}u;\nlet {v}l = {v}g % {line}u;\n\
                 let {v}at = batch * {batch} + min({start} / 4u + {v}l, {last});"
            );
            let _ = writeln!(
                text.fetch,
                "{v} = vec4<f32>();\nif ({v}on && next + {v}k < stop) {{ {v} = {}; }}",
                from.at(format!("{v}at + (next + {v}k) * {step}"))
            );
            text.put(name, &v, &[(format!("{v}k"), v.clone())]);
        }
        text
    }

    fn fetch_squares(&self, kernel: &mut Kernel, name: &str, start: &str, slab: Slab) -> Fetch {
        let (step, wheels) = match self.layout {
            Layout::AlongK { step } => (step, None),
            Layout::InRuns { step, run, far } => (step, Some(Wheels::runs(run / 4, far / 4))),
            _ => return Fetch::default(),
        };
        let from = kernel.read_fours(&self.view);
        let [batch, step, last] = [self.batch / 4, step / 4, self.lines - 1].map(|n| kernel.arg(n));
        let walk = wheels.map(|wheels| wheels.walk(kernel, slab.depth as usize / 4));
        let deep = slab.depth / 4;
        let mut text = Fetch::default();
        for v in text.turns(name, slab, slab.groups() / 4) {
            let _ = writeln!(text.once, "let {v}k = {v}g % {deep}u;\nlet {v}l = {v}g / {deep}u;");
            let (mut clear, mut loads) = (String::new(), String::new());
            let at = if walk.is_some() { format!("{v}o + {v}x") } else { format!("next / 4u + {v}k") };
            for i in 0..4 {
                let _ = writeln!(
                    text.once,
                    "var {v}{i} = vec4<f32>();\n\
                     let {v}at{i} = batch * {batch} + min({start} + {v}l * 4u + {i}u, {last}) * {step};"
                );
                let _ = writeln!(clear, "{v}{i} = vec4<f32>();");
                let _ = writeln!(loads, "{v}{i} = {};", from.at(format!("{v}at{i} + {at}")));
            }
            let _ = writeln!(text.fetch, "{clear}if ({v}on && next + {v}k * 4u < stop) {{\n{loads}}}");
            text.walk(walk.as_ref(), &v, &format!("first / 4u + {v}k"));
            let turned = |(i, c): (usize, &str)| {
                let value = format!("vec4<f32>({v}0.{c}, {v}1.{c}, {v}2.{c}, {v}3.{c})");
                (format!("{v}k * 4u + {i}u"), value)
            };
            let puts: Vec<_> = ["x", "y", "z", "w"].into_iter().enumerate().map(turned).collect();
            text.put(name, &v, &puts);
        }
        text
    }

    fn fetch_ones(&self, kernel: &mut Kernel, name: &str, start: &str, slab: Slab) -> Fetch {
        let from = kernel.read(&self.view);
        let [batch, last] = [self.batch, self.lines - 1].map(|n| kernel.arg(n));
        let place = self.place(kernel, slab.depth as usize);
        let line = slab.lines / 4;
        let mut text = Fetch::default();
        for v in text.turns(name, slab, slab.groups()) {
            // Neighbours read what stands side by side.
            let [k, l] = if self.is_along_k() {
                [format!("{v}g / {}u * 4u + {v}g % 4u", 4 * line), format!("{v}g / 4u % {line}u")]
            } else {
                [format!("{v}g / {line}u"), format!("{v}g % {line}u")]
            };
            let _ = writeln!(text.once, "var {v} = vec4<f32>();\nlet {v}k = {k};\nlet {v}l = {l};");
            let mut loads = String::new();
            for (i, c) in ["x", "y", "z", "w"].into_iter().enumerate() {
                let index = format!("min({start} + {v}l * 4u + {i}u, {last})");
                text.once.push_str(&(place.line)(&format!("{v}{i}"), &index));
                let load = |at: &str| format!("{v}.{c} = {};", from.at(format!("batch * {batch} + {at}")));
                loads.push_str(&(place.load)(&format!("{v}{i}"), &v, &load));
            }
            let _ = writeln!(text.fetch, "{v} = vec4<f32>();\nif ({v}on && next + {v}k < stop) {{\n{loads}}}");
            text.walk(place.walk.as_ref(), &v, &format!("first + {v}k"));
            text.put(name, &v, &[(format!("{v}k"), v.clone())]);
        }
        text
    }

    fn is_along_k(&self) -> bool {
        match &self.layout {
            Layout::AlongK { .. } | Layout::InRuns { .. } => true,
            Layout::AlongLines { .. } => false,
            Layout::Patches(patches) => !patches.of_pixels,
        }
    }

    /// How single elements are found, `depth` k further each time.
    fn place(&self, kernel: &mut Kernel, depth: usize) -> Place {
        let strided = |step: String| -> Text { Box::new(move |v, index| format!("let {v}at = {index} * {step};\n")) };
        match &self.layout {
            Layout::AlongK { step } => Place {
                line: strided(kernel.arg(*step)),
                walk: None,
                load: Box::new(|line, k, load| load(&format!("{line}at + next + {k}k")) + "\n"),
            },
            Layout::InRuns { step, run, far } => Place {
                line: strided(kernel.arg(*step)),
                walk: Some(Wheels::runs(*run, *far).walk(kernel, depth)),
                load: Box::new(|line, k, load| load(&format!("{line}at + {k}o + {k}x")) + "\n"),
            },
            Layout::AlongLines { step } => {
                let step = kernel.arg(*step);
                let load = move |line: &str, k: &str, load: &Load<'_>| {
                    load(&format!("{line}at + (next + {k}k) * {step}")) + "\n"
                };
                Place { line: strided("1u".into()), walk: None, load: Box::new(load) }
            }
            Layout::Patches(patches) => patches.place(kernel, depth),
        }
    }
}

impl Fetch {
    /// Names of what an invocation reads, one after another; declares which of all reads it is, and whether there is it.
    fn turns(&mut self, name: &str, slab: Slab, reads: u32) -> Vec<String> {
        let Slab { lanes, skip, .. } = slab;
        let turns = reads.div_ceil(lanes);
        let skip = if reads < lanes { skip } else { 0 };
        let mut named = |turn: u32| {
            let v = format!("{name}{turn}_");
            // Invocations before the first that reads wrap around, and are beyond the last.
            let _ = writeln!(self.once, "let {v}g = lane + {}u - {skip}u;\nlet {v}on = {v}g < {reads}u;", turn * lanes);
            v
        };
        (0..turns).map(&mut named).collect()
    }

    /// Walks from the place of `index` on, once the slab is read.
    fn walk(&mut self, walk: Option<&Walk>, v: &str, index: &str) {
        if let Some(walk) = walk {
            self.once.push_str(&(walk.start)(v, index));
            self.fetch.push_str(&walk.next(v));
        }
    }

    /// Puts groups of four lines, each rounded, where their k says.
    fn put(&mut self, name: &str, v: &str, groups: &[(String, String)]) {
        let put = |(k, value): &(String, String)| format!("s{name}[turn][{k}][{v}l] = round12_4({value});\n");
        let _ = write!(self.put, "if ({v}on) {{\n{}}}\n", groups.iter().map(put).collect::<String>());
    }
}

/// A text of a name and an expression.
type Text = Box<dyn Fn(&str, &str) -> String>;
/// The text that loads the element at a place, an expression.
type Load<'a> = dyn Fn(&str) -> String + 'a;
/// The text that finds the element of a line and a k, by their names, and loads it.
type Find = Box<dyn Fn(&str, &str, &Load<'_>) -> String>;

/// Texts that find single elements: of a line and a k, by their names.
struct Place {
    /// Declares where a line's elements are, of its name and index.
    line: Text,
    /// Where a k's are, if that is not simple.
    walk: Option<Walk>,
    /// Loads the element of a line and a k.
    load: Find,
}

/// A way to count: an index is (outer, row, column), of which each contributes its multiple of a step.
#[derive(Clone, Copy, Debug)]
struct Wheels {
    /// Rows and columns.
    counts: [usize; 2],
    /// From a row to the next, and from a column to the next.
    steps: [usize; 2],
    /// From one outer index to the next.
    far: usize,
}

/// Texts of [`Wheels`] that turn by the same number each time: without a division but at the start.
struct Walk {
    /// Declares the first place.
    start: Text,
    /// What is added each time to outer, row and column.
    by: [String; 3],
    /// Where row and column begin again.
    ends: [String; 2],
    /// From one outer index and from a row to the next.
    steps: [String; 2],
}

impl Wheels {
    /// Runs of elements side by side.
    fn runs(run: usize, far: usize) -> Self {
        Self { counts: [1, run], steps: [1, 1], far }
    }

    /// Declares `o`, `y`, `x` of a name and an index.
    fn text(self, kernel: &mut Kernel) -> Text {
        let [rows, columns] = self.counts.map(|n| kernel.arg(n));
        let [down, right] = self.steps.map(|n| kernel.arg(n));
        let far = kernel.arg(self.far);
        Box::new(move |v, index| {
            format!(
                "var {v}o = {index};\nvar {v}x = {v}o % {columns} * {right};\n\
                 var {v}y = {v}o / {columns} % {rows} * {down};\n{v}o = {v}o / {columns} / {rows} * {far};\n"
            )
        })
    }

    /// The texts of a walk, `by` further each time.
    fn walk(self, kernel: &mut Kernel, by: usize) -> Walk {
        let Self { counts: [rows, columns], steps: [down, right], far } = self;
        let of = [by / columns / rows * far, by / columns % rows * down, by % columns * right];
        Walk {
            start: self.text(kernel),
            by: of.map(|n| kernel.arg(n)),
            ends: [rows * down, columns * right].map(|n| kernel.arg(n)),
            steps: [far, down].map(|n| kernel.arg(n)),
        }
    }
}

impl Walk {
    /// Goes on.
    fn next(&self, v: &str) -> String {
        let Self { by: [o, y, x], ends: [rows, columns], steps: [far, down], .. } = self;
        format!(
            "{v}x += {x};\nif ({v}x >= {columns}) {{\n{v}x -= {columns};\n{v}y += {down};\n}}\n\
             {v}y += {y};\nif ({v}y >= {rows}) {{\n{v}y -= {rows};\n{v}o += {far};\n}}\n{v}o += {o};\n"
        )
    }
}

impl Patches {
    fn place(&self, kernel: &mut Kernel, depth: usize) -> Place {
        let Self { of_pixels, back, image, size, pixels, kernel: taps, stride, padding, dilation } = self.clone();
        // Backwards, pixels are those of the larger image, and it is the smaller one's that are a stride apart.
        let pixels = Wheels { counts: pixels, steps: if back { [1, 1] } else { stride }, far: image };
        let taps = Wheels { counts: taps, steps: dilation, far: size[0] * size[1] };
        let (lines, k) = if of_pixels { (pixels, taps) } else { (taps, pixels) };
        let line = lines.text(kernel);
        let mut args = |numbers: [usize; 2]| numbers.map(|n| kernel.arg(n));
        let ([rows, columns], [down, right], [above, before]) = (args(size), args(stride), args(padding));
        let (pad, of_tap) = if back { ("+", "-") } else { ("-", "+") };
        let strided = back && stride != [1, 1];
        Place {
            line: Box::new(move |v, index| format!("{}{v}y {pad}= {above};\n{v}x {pad}= {before};\n", line(v, index))),
            walk: Some(k.walk(kernel, depth)),
            // A place before the first wraps around, and is beyond the last.
            load: Box::new(move |line, k, load| {
                let load = load(&format!("{line}o + {k}o + y * {columns} + x"));
                let inside = format!("y < {rows} && x < {columns}");
                let place = if strided {
                    format!(
                        "let ys = {line}y - {k}y;\nlet xs = {line}x - {k}x;\nlet y = ys / {down};\nlet x = xs / {right};\n\
                         if ({inside} && y * {down} == ys && x * {right} == xs)"
                    )
                } else {
                    format!("let y = {line}y {of_tap} {k}y;\nlet x = {line}x {of_tap} {k}x;\nif ({inside})")
                };
                format!("{{\n{place} {{ {load} }}\n}}\n")
            }),
        }
    }
}
