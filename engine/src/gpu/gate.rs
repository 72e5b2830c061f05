//! The conformance gate: whether a device keeps the arithmetic is measured, not believed.
//!
//! Start at [`examine`]. Every operation computes at least [`VECTORS`] numbers, and small programs train for [`STEPS`]
//! steps, here and on the cpu backend, which equals the reference; one bit that differs is enough to fail.
//! Contractions are written in three forms; the fastest that passes is the device's.
//!
//! *Invariant:* the same binary asks every device the same questions.

mod cases;
mod numbers;
mod programs;
mod speed;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::OnceLock;

use cairn_protocol::limits::ARITHMETIC_VERSION;
use cairn_protocol::{Hash32, Seed, hash};

use super::plan::Plan;
use super::{Choice, Form, Limits};
use crate::backend::{BackendError, Executor, Feed, Kind, Options, prepare};
use crate::graph::{Graph, GraphError, NodeId};
use crate::run::Control;
use cases::Case;

/// Numbers that each operation computes at least.
pub const VECTORS: u64 = 1 << 20;
/// Training steps of each program.
pub const STEPS: u64 = 3;
/// Seed of everything random.
const SEED: Seed = Seed([11; 32]);
/// What turns WGSL into a driver's language; another version is another shader.
const TRANSLATOR: &str = "naga 30.0.2";
/// How far an examination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Parts done.
    pub done: u32,
    /// Parts; there may be more when a form fails.
    pub of: u32,
    /// What is examined next.
    pub what: &'a str,
}

/// What an examination found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every bit was equal.
    Passed {
        /// The fastest form of contractions that passed.
        form: Form,
        /// Operations a second of large products in this form.
        speed: u64,
        /// Numbers that were compared.
        compared: u64,
    },
    /// Some bits were not.
    Failed(Difference),
}

/// The first numbers that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The operation, or the program's step and tensor.
    pub what: String,
    /// How its contractions were written, where that matters.
    pub form: Option<Form>,
    /// Numbers of it that differ.
    pub differing: u64,
    /// Numbers of it that were compared at the time.
    pub compared: u64,
    /// The first that differs.
    pub at: u64,
    /// Its bits on the cpu backend.
    pub expected: u32,
    /// Its bits on the device.
    pub found: u32,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, form, differing, compared, at, expected, found } = self;
        let form = form.map(|form| format!(" ({})", form.name())).unwrap_or_default();
        write!(
            f,
            "{what}{form}: {differing} of {compared} numbers differ, number {at} first: {found:08x} instead of \
             {expected:08x}"
        )
    }
}

impl Difference {
    /// Where two tensors differ.
    fn between(what: &str, form: Option<Form>, expected: &[f32], found: &[f32]) -> Option<Self> {
        let differ = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
        let missing = expected.len().abs_diff(found.len()) as u64;
        let differing = expected.iter().zip(found).filter(|&pair| differ(pair)).count() as u64 + missing;
        (differing > 0).then(|| {
            let at = expected.iter().zip(found).position(differ).unwrap_or(expected.len().min(found.len()));
            let bits = |tensor: &[f32]| tensor.get(at).map_or(u32::MAX, |x| x.to_bits());
            Self {
                what: what.to_owned(),
                form,
                differing,
                compared: expected.len() as u64,
                at: at as u64,
                expected: bits(expected),
                found: bits(found),
            }
        })
    }
}

/// What an examination needs, built once for it.
struct Questions {
    cases: Vec<Case>,
    programs: Vec<programs::Training>,
}

fn unsound(error: GraphError) -> BackendError {
    BackendError::Feed(error.to_string())
}

impl Questions {
    fn new() -> Result<Self, GraphError> {
        Ok(Self { cases: cases::all()?, programs: programs::all()? })
    }

    /// Parts that do not depend on the form of contractions, and parts that do.
    fn parts(&self) -> [u32; 2] {
        let contracting = self.cases.iter().filter(|case| case.contracts).count();
        [(self.cases.len() - contracting) as u32, (contracting + self.programs.len()) as u32]
    }
}

/// Options of the backend that a device is compared with, which equals the reference.
fn cpu() -> Options {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Options { kind: Kind::Cpu, threads, isa: None, fuse: true, micro_batch: None }
}

fn gpu(choice: Choice) -> Options {
    Options { kind: Kind::Gpu(choice), ..cpu() }
}

/// Why an examination ended early.
enum End {
    Stopped,
    Differs(Box<Difference>),
    Broken(BackendError),
}

impl From<BackendError> for End {
    fn from(error: BackendError) -> Self {
        Self::Broken(error)
    }
}

struct Examination<'w> {
    adapter: u8,
    watch: &'w mut dyn FnMut(Progress<'_>) -> Control,
    done: u32,
    of: u32,
    compared: u64,
}

/// Measures whether an adapter keeps the arithmetic. `watch` is told of each part before it is examined, and may stop
/// it.
///
/// # Errors
/// The device does not open, is lost, hangs, lacks memory or does not compile a kernel, or `watch` stopped it:
/// nothing is known of it then.
pub fn examine(adapter: u8, watch: &mut dyn FnMut(Progress<'_>) -> Control) -> Result<Verdict, BackendError> {
    let questions = Questions::new().map_err(unsound)?;
    let [plain, contracting] = questions.parts();
    let of = Form::ALL.len() as u32 + plain + contracting;
    let mut examination = Examination { adapter, watch, done: 0, of, compared: 0 };
    match examination.run(&questions, contracting) {
        Ok(verdict) => Ok(verdict),
        Err(End::Differs(difference)) => Ok(Verdict::Failed(*difference)),
        Err(End::Broken(error)) => Err(error),
        Err(End::Stopped) => Err(BackendError::Resources("the examination was stopped".into())),
    }
}

impl Examination<'_> {
    fn run(&mut self, questions: &Questions, contracting: u32) -> Result<Verdict, End> {
        let mut forms = Vec::with_capacity(Form::ALL.len());
        for form in Form::ALL {
            self.next(&format!("speed of products, {}", form.name()))?;
            forms.push((speed::of(self.choice(form))?, form));
        }
        forms.sort_by_key(|&(speed, _)| std::cmp::Reverse(speed));
        let (_, first) = forms[0];
        for case in questions.cases.iter().filter(|case| !case.contracts) {
            self.case(case, first, None)?;
        }
        let mut failed = None;
        for (speed, form) in forms {
            match self.contractions(questions, form) {
                Ok(()) => return Ok(Verdict::Passed { form, speed, compared: self.compared }),
                // Another form may still pass.
                Err(End::Differs(difference)) => drop(failed.get_or_insert(difference)),
                Err(end) => return Err(end),
            }
            self.of = self.done + contracting;
        }
        match failed {
            Some(difference) => Err(End::Differs(difference)),
            None => Err(End::Stopped),
        }
    }

    /// All that depends on the form of contractions.
    fn contractions(&mut self, questions: &Questions, form: Form) -> Result<(), End> {
        for case in questions.cases.iter().filter(|case| case.contracts) {
            self.case(case, form, Some(form))?;
        }
        for training in &questions.programs {
            self.next(training.name)?;
            self.compared += training.compare(self.choice(form)).map_err(|end| match end {
                End::Differs(difference) => End::Differs(Box::new(Difference { form: Some(form), ..*difference })),
                other => other,
            })?;
        }
        Ok(())
    }

    fn choice(&self, form: Form) -> Choice {
        Choice { adapter: self.adapter, form }
    }

    fn next(&mut self, what: &str) -> Result<(), End> {
        let control = (self.watch)(Progress { done: self.done, of: self.of.max(self.done + 1), what });
        self.done += 1;
        if control == Control::Stop { Err(End::Stopped) } else { Ok(()) }
    }

    /// Compares one case on all its draws.
    fn case(&mut self, case: &Case, form: Form, shown: Option<Form>) -> Result<(), End> {
        self.next(case.name)?;
        let mut device = prepare(&gpu(self.choice(form)), &case.graph, &case.wanted)?;
        let mut host = prepare(&cpu(), &case.graph, &case.wanted)?;
        for draw in 0..case.draws {
            let point = case.point(draw);
            let [found, expected] = [point.run(device.as_mut(), case)?, point.run(host.as_mut(), case)?];
            for ((expected, found), &id) in expected.iter().zip(&found).zip(&case.wanted) {
                self.compared += expected.len() as u64;
                let what = format!("{} in `{}`", case.operation(id), case.name);
                if let Some(difference) = Difference::between(&what, shown, expected, found) {
                    return Err(End::Differs(Box::new(difference)));
                }
            }
        }
        Ok(())
    }
}

impl cases::Point {
    fn run(&self, executor: &mut dyn Executor, case: &Case) -> Result<Vec<Vec<f32>>, BackendError> {
        let mut out = vec![vec![]; case.wanted.len()];
        let [a, b] = &self.inputs;
        let feed = Feed {
            inputs: [a, b],
            params: &self.params,
            states: &[],
            tables: &self.tables,
            seed: &SEED,
            step: self.step,
        };
        executor.run(&feed, &mut out)?;
        Ok(out)
    }
}

/// Hash of all WGSL that the gate compiles, of what translates it, and of the arithmetic's version: results of a
/// measurement hold for these shaders only. It needs no device.
///
/// # Errors
/// The gate's own graphs are not sound.
pub fn fingerprint() -> Result<Hash32, BackendError> {
    static KNOWN: OnceLock<Hash32> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(*known);
    }
    let questions = Questions::new().map_err(unsound)?;
    let mut sources = BTreeSet::new();
    let mut add = |graph: &Graph, wanted: &[NodeId], micro_batch: Option<u32>, form: Form| {
        let plan = Plan::new(graph, wanted, true, micro_batch, form, Limits::LEAST)?;
        sources.extend(plan.once.iter().chain(plan.stages.iter().flatten()).map(super::kernel::Kernel::source));
        Ok::<(), BackendError>(())
    };
    for case in &questions.cases {
        for form in if case.contracts { &Form::ALL[..] } else { &Form::ALL[..1] } {
            add(&case.graph, &case.wanted, None, *form)?;
        }
    }
    for training in &questions.programs {
        for form in Form::ALL {
            add(training.graph(), &training.wanted, training.micro_batch, form)?;
        }
    }
    let version = ARITHMETIC_VERSION.to_be_bytes();
    let parts: Vec<&[u8]> = [&version[..], TRANSLATOR.as_bytes()]
        .into_iter()
        .chain(sources.iter().map(|source| source.as_bytes()))
        .collect();
    Ok(*KNOWN.get_or_init(|| Hash32(hash("shaders", &parts))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_operation_computes_enough_numbers() {
        let questions = Questions::new().unwrap();
        let mut vectors: BTreeMap<String, u64> = cases::operations().into_iter().map(|name| (name, 0)).collect();
        for case in &questions.cases {
            for (name, count) in case.vectors() {
                *vectors.entry(name).or_default() += count * u64::from(case.draws);
            }
        }
        let few: Vec<_> = vectors.iter().filter(|&(_, &count)| count < VECTORS).collect();
        assert!(few.is_empty(), "{few:?}");
    }

    #[test]
    fn what_translates_shaders_is_what_the_workspace_uses() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        let (name, version) = TRANSLATOR.split_once(' ').unwrap();
        assert!(
            lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")),
            "tell the new version in TRANSLATOR"
        );
    }

    #[test]
    fn a_difference_says_what_and_how_much() {
        let same = [0.0, 1.0, 2.0];
        assert_eq!(Difference::between("exp", None, &same, &same), None);
        let other = [0.0, f32::from_bits(1.0f32.to_bits() + 1), 2.0];
        let found = Difference::between("exp", Some(Form::Fma), &same, &other).unwrap();
        assert_eq!(found.to_string(), "exp (fma): 1 of 3 numbers differ, number 1 first: 3f800001 instead of 3f800000");
        assert_eq!(Difference::between("exp", None, &same, &same[..2]).unwrap().differing, 1);
    }
}
