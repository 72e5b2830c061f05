//! Golden vectors of the arithmetic: `engine/vectors/*.txt`, in the form that `docs/spec/arithmetic.md` gives.
//!
//! Every backend must reproduce the files, and so must `docs/spec/check_vectors.py`, which shares nothing with this
//! crate. `CAIRN_WRITE_VECTORS=1 cargo test -p cairn-engine vectors` writes them again after a deliberate change.

mod moving;
mod numbers;
mod sums;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cairn_engine::backend::{Feed, Isa, Kind, Options, Tensor, prepare};
use cairn_engine::cpu::available;
use cairn_engine::graph::{DType, Graph, GraphError, NodeId, Shape, Unary};
use cairn_engine::number::from_foreign;
use cairn_protocol::Seed;

const SEED: Seed = Seed([0x5e; 32]);
/// Step at which the vectors are computed: random nodes have it as their counter.
const STEP: u64 = 70_001;

type Built = Result<NodeId, GraphError>;

/// One operation on given operands.
pub(super) struct Vector {
    /// What follows `op`: name and arguments.
    title: String,
    operands: Vec<(Shape, Tensor)>,
    graph: Graph,
    output: NodeId,
}

impl Vector {
    /// A vector of the operation that `build` adds to a graph of these operands.
    pub(super) fn new(
        title: &str,
        operands: Vec<(Shape, Tensor)>,
        build: impl FnOnce(&mut Graph, &[NodeId]) -> Built,
    ) -> Self {
        let mut graph = Graph::default();
        let (mut floats, mut ints) = (0, 0);
        let mut ids = vec![];
        for (shape, tensor) in &operands {
            let count = match tensor {
                Tensor::F32(_) => &mut floats,
                Tensor::I32(_) => &mut ints,
            };
            ids.push(match tensor {
                Tensor::F32(_) => graph.param(*count, shape.clone()).unwrap(),
                Tensor::I32(_) => graph.input(*count as u8, shape.clone(), DType::I32).unwrap(),
            });
            *count += 1;
        }
        let output = build(&mut graph, &ids).unwrap();
        Self { title: title.to_owned(), operands, graph, output }
    }

    /// The result on a backend. Integers pass as floats, exactly: they are small here.
    fn run(&self, options: &Options) -> Tensor {
        let mut graph = self.graph.clone();
        let ints = graph.dtype(self.output) == Ok(DType::I32);
        let wanted = if ints { graph.unary(Unary::ToFloat, self.output).unwrap() } else { self.output };
        let (mut params, mut inputs) = (vec![], vec![]);
        for (_, tensor) in &self.operands {
            match tensor {
                Tensor::F32(values) => params.push(values.clone()),
                Tensor::I32(_) => inputs.push(tensor.clone()),
            }
        }
        inputs.resize(2, Tensor::I32(vec![]));
        let feed = Feed {
            inputs: [&inputs[0], &inputs[1]],
            params: &params,
            states: &[],
            tables: &[],
            seed: &SEED,
            step: STEP,
        };
        let mut out = [vec![0.0; graph.shape(wanted).unwrap().elements() as usize]];
        prepare(options, &graph, &[wanted]).unwrap().run(&feed, &mut out).unwrap();
        let [out] = out;
        if ints { Tensor::I32(out.iter().map(|&x| x as i32).collect()) } else { Tensor::F32(out) }
    }

    /// The vector as text, with the result of this backend.
    fn text(&self, options: &Options) -> String {
        let mut text = format!("op {}\n", self.title);
        for (shape, tensor) in &self.operands {
            line(&mut text, "in", shape, tensor);
        }
        line(&mut text, "out", self.graph.shape(self.output).unwrap(), &self.run(options));
        text
    }
}

/// A tensor's line.
fn line(text: &mut String, what: &str, shape: &Shape, tensor: &Tensor) {
    let axes: Vec<String> = shape.0.iter().map(u32::to_string).collect();
    let shape = if axes.is_empty() { "-".to_owned() } else { axes.join("x") };
    let (kind, words): (_, Vec<u32>) = match tensor {
        Tensor::F32(values) => ("f32", values.iter().map(|x| x.to_bits()).collect()),
        Tensor::I32(values) => ("i32", values.iter().map(|&x| x as u32).collect()),
    };
    write!(text, "{what} {kind} {shape}").unwrap();
    for word in words {
        write!(text, " {word:08x}").unwrap();
    }
    text.push('\n');
}

/// Numbers that depend on a name alone: random bits, shaped by the caller.
pub(super) struct Source(u64);

impl Source {
    pub(super) fn new(name: &str) -> Self {
        let hash = cairn_protocol::hash("test numbers", &[name.as_bytes()]);
        Self(u64::from_be_bytes(hash[..8].try_into().unwrap()))
    }

    pub(super) fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 32) as u32
    }

    /// A canonical number of any exponent.
    pub(super) fn wide(&mut self) -> f32 {
        let exponent = 27 + self.bits() % 161;
        from_foreign(f32::from_bits((self.bits() & 0x807f_ffff) | (exponent << 23)))
    }

    /// A number between 2^-4 and 2^4 in magnitude.
    pub(super) fn near(&mut self) -> f32 {
        let exponent = 123 + self.bits() % 8;
        f32::from_bits((self.bits() & 0x807f_ffff) | (exponent << 23))
    }

    /// Mostly near 1, now and then zero, huge, tiny or a repetition that makes ties and cancellation.
    fn mixed(&mut self, before: &[f32]) -> f32 {
        match self.bits() % 16 {
            0 => 0.0,
            1 => self.wide(),
            2 => before.last().map_or(1.0, |x| from_foreign(-x)),
            3 => before.first().copied().unwrap_or(1.0),
            _ => self.near(),
        }
    }

    pub(super) fn floats(&mut self, shape: &[u32]) -> (Shape, Tensor) {
        let shape = Shape(shape.to_vec());
        let mut values = vec![];
        for _ in 0..shape.elements() {
            values.push(self.mixed(&values));
        }
        (shape, Tensor::F32(values))
    }

    /// Numbers as activations are: between 2^-4 and 2^4.
    pub(super) fn tame(&mut self, shape: &[u32]) -> (Shape, Tensor) {
        let shape = Shape(shape.to_vec());
        let values = (0..shape.elements()).map(|_| self.near()).collect();
        (shape, Tensor::F32(values))
    }

    /// Integers from -1 to `most`.
    pub(super) fn ints(&mut self, shape: &[u32], most: u32) -> (Shape, Tensor) {
        let shape = Shape(shape.to_vec());
        let values = (0..shape.elements()).map(|_| (self.bits() % (most + 2)) as i32 - 1).collect();
        (shape, Tensor::I32(values))
    }
}

/// A file's name, its vectors, and text that is not run as a graph.
type File = (&'static str, Vec<Vector>, String);

fn files() -> Vec<File> {
    vec![
        ("numbers", vec![], numbers::numbers()),
        ("unary", numbers::unary(), String::new()),
        ("binary", numbers::binary(), String::new()),
        ("random", numbers::random(), numbers::init()),
        ("sums", sums::sums(), String::new()),
        ("contractions", sums::contractions(), String::new()),
        ("rows", sums::rows(), String::new()),
        ("attention", sums::attention(), String::new()),
        ("moving", moving::moving(), String::new()),
    ]
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors")).join(format!("{name}.txt"))
}

fn reference() -> Options {
    Options { kind: Kind::Reference, threads: 1, isa: None, fuse: false, micro_batch: None }
}

#[test]
fn golden_vectors_are_those_of_the_reference() {
    let write = std::env::var_os("CAIRN_WRITE_VECTORS").is_some();
    for (name, vectors, text) in files() {
        let mut text =
            format!("# Golden vectors, see docs/spec/arithmetic.md. Written by `cargo xtask vectors`.\n{text}");
        for vector in &vectors {
            text += &vector.text(&reference());
        }
        if write {
            fs::write(path(name), &text).unwrap();
        }
        let stored = fs::read_to_string(path(name)).unwrap();
        for (i, (got, want)) in text.lines().zip(stored.lines()).enumerate() {
            assert!(got == want, "{name}.txt:{}: {}", i + 1, &got[..got.len().min(100)]);
        }
        assert_eq!(text.len(), stored.len(), "{name}.txt");
    }
}

#[test]
fn golden_vectors_are_those_of_the_cpu_backend() {
    let mut all = vec![];
    for isa in available() {
        all.push(Options { kind: Kind::Cpu, threads: 1, isa: Some(isa), fuse: isa != Isa::Scalar, micro_batch: None });
    }
    all.push(Options { kind: Kind::Cpu, threads: 2, isa: None, fuse: true, micro_batch: None });
    for (name, vectors, _) in files() {
        for vector in &vectors {
            let want = vector.text(&reference());
            for options in &all {
                let got = vector.text(options);
                let differ = |(a, b): &(&str, &str)| a != b;
                let first = got.split_whitespace().zip(want.split_whitespace()).find(differ);
                assert!(got == want, "{name}: {} with {options:?}: {first:?}", vector.title);
            }
        }
    }
}

#[test]
fn golden_vectors_are_confirmed_by_the_integer_only_script() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/spec/check_vectors.py");
    let source = fs::read_to_string(script).unwrap();
    assert!(!source.contains("float(") && !source.contains("numpy"), "the script computes with integers");
    let names = files().iter().map(|(name, ..)| path(name)).collect::<Vec<_>>();
    let run = |files: &[PathBuf]| Command::new("python3").arg("-B").arg(script).args(files).output();
    let output = run(&names).expect("python3 is needed: `cargo xtask test` installs it");
    let (told, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{failed}");
    println!("{told}");

    // It must notice one bit in the last element of a file.
    let mut broken = fs::read_to_string(path("sums")).unwrap().trim_end().to_owned();
    let last = broken.pop().unwrap().to_digit(16).unwrap() ^ 1;
    write!(broken, "{last:x}").unwrap();
    let copy = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("broken_vectors.txt");
    fs::write(&copy, broken).unwrap();
    assert!(!run(&[copy]).unwrap().status.success());
}
