//! Operands of contractions: where an element stands, and how a workgroup brings a slab of them to its memory.
//!
//! An operand is lines (rows of the first, columns of the second) of k elements. A slab of it stands in workgroup memory
//! as groups of four lines, k by k. Where rows in memory are whole fours they are read as such: along lines they are
//! groups already; along k, an invocation reads fours of four lines and turns them. Else it reads one by one.
//!
//! *Invariant:* each element is rounded as an operand before it stands in a slab. Beyond the last k a slab holds 0. Beyond
//! the last line it may hold any element: no result is made of it.

use std::fmt::Write as _;

use super::super::kernel::{Bound, Kernel, View};

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
    /// Done once.
    pub(super) once: String,
    /// Reads the slab that begins at k = `next`; there is nothing from `stop` on.
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
                "var {v} = vec4<f32>();\nlet {v}k = {v}g / {line}u;\n\
                 let {v}at = batch * {batch} + min({start} / 4u + {v}g % {line}u, {last});"
            );
            let _ = writeln!(
                text.fetch,
                "{v} = vec4<f32>();\nif ({v}on && next + {v}k < stop) {{ {v} = {}; }}",
                from.at(format!("{v}at + (next + {v}k) * {step}"))
            );
            text.put(name, slab, &v, &[(format!("{v}g"), v.clone())]);
        }
        text
    }

    fn fetch_squares(&self, kernel: &mut Kernel, name: &str, start: &str, slab: Slab) -> Fetch {
        let (step, runs) = match self.layout {
            Layout::AlongK { step } => (step, None),
            Layout::InRuns { step, run, far } => (step, Some([run, far])),
            _ => return Fetch::default(),
        };
        let from = kernel.read_fours(&self.view);
        let [batch, step, last] = [self.batch / 4, step / 4, self.lines - 1].map(|n| kernel.arg(n));
        let along = along_k(kernel, runs.map(|runs| runs.map(|n| n / 4)));
        let (line, deep) = (slab.lines / 4, slab.depth / 4);
        let mut text = Fetch::default();
        for v in text.turns(name, slab, slab.groups() / 4) {
            let _ = writeln!(text.once, "let {v}k = {v}g % {deep}u;\nlet {v}l = {v}g / {deep}u;");
            let _ =
                writeln!(text.fetch, "let {v}here = {v}on && next + {v}k * 4u < stop;\nlet {v}n = next / 4u + {v}k;");
            for i in 0..4 {
                let _ = writeln!(
                    text.once,
                    "var {v}{i} = vec4<f32>();\n\
                     let {v}at{i} = batch * {batch} + min({start} + {v}l * 4u + {i}u, {last}) * {step};"
                );
                let _ = writeln!(text.fetch, "{v}{i} = vec4<f32>();");
            }
            let loads: String =
                (0..4).map(|i| format!("{v}{i} = {};\n", from.at(format!("{v}at{i} + {v}o")))).collect();
            let _ = writeln!(text.fetch, "if ({v}here) {{\nlet {v}o = {};\n{loads}}}", along(&format!("{v}n")));
            let turned = |(i, c): (usize, &str)| {
                let value = format!("vec4<f32>({v}0.{c}, {v}1.{c}, {v}2.{c}, {v}3.{c})");
                (format!("({v}k * 4u + {i}u) * {line}u + {v}l"), value)
            };
            let puts: Vec<_> = ["x", "y", "z", "w"].into_iter().enumerate().map(turned).collect();
            text.put(name, slab, &v, &puts);
        }
        text
    }

    fn fetch_ones(&self, kernel: &mut Kernel, name: &str, start: &str, slab: Slab) -> Fetch {
        let from = kernel.read(&self.view);
        let [batch, last] = [self.batch, self.lines - 1].map(|n| kernel.arg(n));
        let place = self.place(kernel);
        let base = format!("batch * {batch}");
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
                text.once.push_str(&place.of_line(&format!("{v}{i}"), &index));
                loads.push_str(&place.load(&from, &base, &format!("{v}{i}"), &format!("{v}n"), &format!("{v}.{c}")));
            }
            let at = place.of_k(&format!("{v}n"), &format!("next + {v}k"));
            let _ = writeln!(text.fetch, "{v} = vec4<f32>();\nif ({v}on && next + {v}k < stop) {{\n{at}{loads}}}");
            text.put(name, slab, &v, &[(format!("{v}k * {line}u + {v}l"), v.clone())]);
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

    fn place(&self, kernel: &mut Kernel) -> Place {
        let strided = |line: String, k: Box<dyn Fn(&str) -> String>| Place::Strided { line, k };
        match &self.layout {
            Layout::AlongK { step } => strided(kernel.arg(*step), Box::new(along_k(kernel, None))),
            Layout::InRuns { step, run, far } => {
                strided(kernel.arg(*step), Box::new(along_k(kernel, Some([*run, *far]))))
            }
            Layout::AlongLines { step } => {
                let step = kernel.arg(*step);
                strided("1u".into(), Box::new(move |k| format!("({k}) * {step}")))
            }
            Layout::Patches(patches) => Place::Patches(patches.texts(kernel)),
        }
    }
}

/// Elements from a line's first to that of `k`, an expression.
fn along_k(kernel: &mut Kernel, runs: Option<[usize; 2]>) -> impl Fn(&str) -> String + 'static {
    let runs = runs.map(|runs| runs.map(|n| kernel.arg(n)));
    move |k| match &runs {
        Some([run, far]) => format!("({k}) / {run} * {far} + ({k}) % {run}"),
        None => k.to_string(),
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

    /// Puts groups of four at their places, each rounded.
    fn put(&mut self, name: &str, slab: Slab, v: &str, groups: &[(String, String)]) {
        let half = slab.groups();
        let put = |(at, value): &(String, String)| format!("s{name}[turn * {half}u + {at}] = round12_4({value});\n");
        let _ = write!(self.put, "if ({v}on) {{\n{}}}\n", groups.iter().map(put).collect::<String>());
    }
}

/// Texts that say where single elements stand: of what a line and a k contribute, by these names.
enum Place {
    /// A line's part is a multiple of its index.
    Strided { line: String, k: Box<dyn Fn(&str) -> String> },
    /// See [`Patches`].
    Patches(PatchTexts),
}

impl Place {
    fn of_line(&self, name: &str, index: &str) -> String {
        match self {
            Self::Strided { line, .. } => format!("let {name}at = {index} * {line};\n"),
            Self::Patches(texts) if texts.of_pixels => (texts.pixel)(name, index),
            Self::Patches(texts) => (texts.tap)(name, index),
        }
    }

    fn of_k(&self, name: &str, index: &str) -> String {
        match self {
            Self::Strided { k, .. } => format!("let {name}at = {};\n", k(index)),
            Self::Patches(texts) if texts.of_pixels => (texts.tap)(name, index),
            Self::Patches(texts) => (texts.pixel)(name, index),
        }
    }

    /// Reads the element of a line and a k to `target`, which is 0.
    fn load(&self, from: &Bound, base: &str, line: &str, k: &str, target: &str) -> String {
        match self {
            Self::Strided { .. } => format!("{target} = {};\n", from.at(format!("{base} + {line}at + {k}at"))),
            Self::Patches(texts) => {
                let (pixel, tap) = if texts.of_pixels { (line, k) } else { (k, line) };
                format!("{{\n{}}}\n", (texts.load)(from, base, pixel, tap, target))
            }
        }
    }
}

/// A text of a name and an expression.
type Text = Box<dyn Fn(&str, &str) -> String>;
/// A text of a bound tensor, an expression and three names.
type LoadText = Box<dyn Fn(&Bound, &str, &str, &str, &str) -> String>;

/// Texts of [`Patches`]: what a pixel and a tap contribute to an element's place, and how it is read.
struct PatchTexts {
    of_pixels: bool,
    pixel: Text,
    tap: Text,
    load: LoadText,
}

impl Patches {
    fn texts(&self, kernel: &mut Kernel) -> PatchTexts {
        let area = |[rows, columns]: [usize; 2]| rows * columns;
        let Self { of_pixels, back, image, size, pixels, kernel: taps, stride, padding, dilation } = self.clone();
        let mut args = |numbers: [usize; 2]| numbers.map(|n| kernel.arg(n));
        let [image, plane] = args([image, area(size)]);
        let [count, wide] = args([area(pixels), pixels[1]]);
        let [taps, across] = args([area(taps), taps[1]]);
        let ([rows, columns], [down, right]) = (args(size), args(padding));
        let (dilation, steps) = (args(dilation), args(stride));
        // Backwards, a pixel is one of the larger image: it is the kernel's place that moves by strides.
        let strides = if back { ["1u".to_string(), "1u".to_string()] } else { steps.clone() };
        let sign = if back { "+" } else { "-" };
        let strided = back && stride != [1, 1];
        PatchTexts {
            of_pixels,
            pixel: Box::new(move |v, index| {
                format!(
                    "let {v}i = {index};\nlet {v}r = {v}i % {count};\nlet {v}o = {v}i / {count} * {image};\n\
                     let {v}y = {v}r / {wide} * {} {sign} {down};\nlet {v}x = {v}r % {wide} * {} {sign} {right};\n",
                    strides[0], strides[1]
                )
            }),
            tap: Box::new(move |v, index| {
                format!(
                    "let {v}i = {index};\nlet {v}r = {v}i % {taps};\nlet {v}o = {v}i / {taps} * {plane};\n\
                     let {v}y = {v}r / {across} * {};\nlet {v}x = {v}r % {across} * {};\n",
                    dilation[0], dilation[1]
                )
            }),
            // A place before the first wraps around, and is beyond the last.
            load: Box::new(move |from, base, pixel, tap, target| {
                let at = from.at(format!("{base} + {pixel}o + {tap}o + y * {columns} + x"));
                let sign = if back { "-" } else { "+" };
                let place = format!("let y = {pixel}y {sign} {tap}y;\nlet x = {pixel}x {sign} {tap}x;\n");
                if strided {
                    let place = place.replace("let y", "let ys").replace("let x", "let xs");
                    let [down, right] = &steps;
                    format!(
                        "{place}let y = ys / {down};\nlet x = xs / {right};\nif (y < {rows} && x < {columns} && \
                         y * {down} == ys && x * {right} == xs) {{ {target} = {at}; }}\n"
                    )
                } else {
                    format!("{place}if (y < {rows} && x < {columns}) {{ {target} = {at}; }}\n")
                }
            }),
        }
    }
}
