//! The child's side: limit oneself, read one request, work, report.
//!
//! *Invariant:* limits are set before input is read; when the parent goes, so does the child.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use super::wire::{Message, Request, read_frame, write_frame};

/// Bytes beyond what the program may need: code, the parser, stacks, the data, the allocator's slack.
const OVERHEAD_BYTES: u64 = 512 << 20;
/// Open files of a job: three pipes, the data, what the runtime and a GPU's driver need.
const FILES_MAX: u64 = 256;

/// How a job reports; an error means that the parent is gone.
pub type Report<'a> = dyn FnMut(Message) -> io::Result<()> + 'a;

/// Runs as a job: arguments are the limits on memory in bytes and on processor time in seconds, `work`
/// is what is done with the request.
pub fn child_main(
    memory_bytes: u64,
    cpu_seconds: u64,
    work: &mut dyn FnMut(&Request, &mut Report<'_>) -> io::Result<()>,
) -> ExitCode {
    match run(memory_bytes, cpu_seconds, work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("job: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(
    memory_bytes: u64,
    cpu_seconds: u64,
    work: &mut dyn FnMut(&Request, &mut Report<'_>) -> io::Result<()>,
) -> io::Result<()> {
    confine(memory_bytes.saturating_add(OVERHEAD_BYTES), cpu_seconds)?;
    let request = read_frame::<Request>(&mut io::stdin().lock())?
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no request"))?;
    leave_with_parent()?;
    let mut out = io::stdout().lock();
    work(&request, &mut |message| write_frame(&mut out, &message))?;
    write_frame(&mut out, &Message::Done)?;
    out.flush()
}

/// The parent keeps our input open for as long as it lives; its end is ours.
fn leave_with_parent() -> io::Result<()> {
    std::thread::Builder::new()
        .name("parent".into())
        .stack_size(64 * 1024)
        .spawn(|| {
            let mut byte = [0];
            while matches!(io::stdin().lock().read(&mut byte), Ok(1)) {}
            std::process::exit(1);
        })
        .map(drop)
}

#[cfg(unix)]
fn confine(memory_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = |resource, value: u64| {
        let value = getrlimit(resource).maximum.map_or(value, |most| most.min(value));
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) }).map_err(io::Error::from)
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, FILES_MAX)?;
    limit(Resource::Data, memory_bytes)?;
    // The kernel warns (and so ends) at the first limit and kills at the second.
    let hard = cpu_seconds.saturating_add(2);
    let cpu = Rlimit { current: Some(cpu_seconds), maximum: Some(hard) };
    setrlimit(Resource::Cpu, cpu).map_err(io::Error::from)
}

#[cfg(not(unix))]
fn confine(_memory_bytes: u64, _cpu_seconds: u64) -> io::Result<()> {
    // The parent's deadline is the only limit here.
    Ok(())
}
