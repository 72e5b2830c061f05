//! From source to [`Program`]: evaluate the module, trace each phase and the evaluation, price, tabulate.
//!
//! Start at [`trace`].
//!
//! *Invariant:* the result is a function of the source, the [`TraceContext`] and the [`Limits`]; white space, comments
//! and the names of variables and functions do not reach it.

mod average;
mod budget;
mod build;
mod plan;
mod tables;

use cairn_engine::data::DataSpec;
use cairn_engine::graph::Program;
use cairn_protocol::GraphId;

use crate::ast::Ast;
use crate::diagnostic::{Diagnostic, Frame, Kind, line_and_column};
use crate::fault::{Fault, Outcome, Span};
use crate::limits::Limits;
use crate::lower::lower;
use crate::machine::Machine;
use crate::source::parse_checked;

/// Stack of the thread that traces: calls within calls, each as deep as the syntax allows, fit four times over.
const STACK_BYTES: usize = 64 << 20;

/// What a track fixes.
#[derive(Clone, Debug)]
pub struct TraceContext {
    /// Shapes and sizes of the data.
    pub data: DataSpec,
    /// Metered operations of one run, evaluation included.
    pub budget: u64,
    /// Bytes of the canonical schedule.
    pub memory: u64,
    /// Elements of all parameters.
    pub parameters: u64,
    /// Bits of information in literals.
    pub literal_bits: u64,
}

/// A program that holds all limits, ready to run.
#[derive(Clone, Debug)]
pub struct Traced {
    /// What runs.
    pub program: Program,
    /// Its identity.
    pub graph: GraphId,
    /// Nodes of all graphs.
    pub nodes: u64,
    /// Metered operations of one step of the first phase.
    pub metered_step: u64,
    /// Steps of all phases.
    pub steps: u64,
    /// Metered operations of the whole run, evaluation included.
    pub metered: u64,
    /// Peak memory in bytes, by the canonical schedule.
    pub peak_bytes: u64,
    /// Evaluation steps that tracing took, schedules aside.
    pub fuel: u64,
    /// Bits of information in literals.
    pub literal_bits: u64,
}

/// Traces a program.
///
/// # Errors
/// A [`Diagnostic`] for a program that is no program of the language, fails while it is evaluated, or exceeds a limit.
pub fn trace(source: &str, context: &TraceContext, limits: &Limits) -> Result<Traced, Box<Diagnostic>> {
    on_own_stack(source, || evaluated(source, limits, |machine| plan::program(machine, context)))
}

/// Evaluates a module and gives the text of its variable `result`: what the tests compare with other implementations.
/// Floats are shown as their bits.
#[doc(hidden)]
pub fn evaluate_text(source: &str, limits: &Limits) -> Result<String, Box<Diagnostic>> {
    on_own_stack(source, || {
        evaluated(source, limits, |machine| {
            machine.run()?;
            let value = machine.global("result").unwrap_or(crate::value::Value::None);
            machine.exact_text(value)
        })
    })
}

/// Runs on a thread with a stack that is large enough whatever the caller's is.
fn on_own_stack<T: Send>(
    source: &str,
    work: impl FnOnce() -> Result<T, Box<Diagnostic>> + Send,
) -> Result<T, Box<Diagnostic>> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("trace".into()).stack_size(STACK_BYTES);
        let result = builder.spawn_scoped(scope, work).map(|thread| thread.join());
        match result {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Diagnostic::new(Kind::Internal, "the tracer failed", source, 0..0)),
            Err(error) => {
                let message = format!("no thread for tracing could be started: {error}");
                Err(Diagnostic::new(Kind::Internal, message, source, 0..0))
            }
        }
    })
}

/// Parses and lowers a source and hands it to `work` in a machine; faults become diagnostics.
pub(crate) fn evaluated<T>(
    source: &str,
    limits: &Limits,
    work: impl FnOnce(&mut Machine<'_>) -> Outcome<T>,
) -> Result<T, Box<Diagnostic>> {
    let parsed = parse_checked(source)?;
    let ast = lower(parsed.syntax(), source, limits).map_err(|fault| diagnostic(*fault, source, None))?;
    drop(parsed);
    let mut machine = Machine::new(&ast, limits).map_err(|fault| diagnostic(*fault, source, None))?;
    machine.tracer.line_starts = std::iter::once(0)
        .chain(source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at as u32 + 1))
        .collect();
    work(&mut machine).map_err(|fault| diagnostic(*fault, source, Some(&machine)))
}

fn diagnostic(fault: Fault, source: &str, machine: Option<&Machine<'_>>) -> Box<Diagnostic> {
    let at = fault.at.unwrap_or_default();
    let mut diagnostic = Diagnostic::new(fault.kind, fault.message, source, at.start as usize..at.end as usize);
    diagnostic.hint = fault.hint;
    if let Some(machine) = machine {
        diagnostic.stack = machine.calls.iter().map(|call| frame(machine.ast, call, source)).collect();
    }
    diagnostic
}

fn frame(ast: &Ast, call: &crate::machine::Call, source: &str) -> Frame {
    let function = ast.functions.get(call.function as usize).map_or("?", |function| ast.name(function.name));
    // The engine calls from nowhere in the source.
    let engine = call.at == Span::default();
    let (line, column) = if engine { (0, 0) } else { line_and_column(source, call.at.start as usize) };
    Frame { function: function.to_owned(), line, column }
}
