//! Jobs as real processes: what they say is checked, what they take is limited.

use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cairn_program::job::{
    Allowance, BackendChoice, Job, JobError, Message, Outcome, Report, Request, RunSummary, Task, TraceSummary, Work,
    child_main,
};
use cairn_protocol::limits::SEGMENTS;
use cairn_protocol::{BoundedVec, GraphId, Hash32, Seed, Text};

const LONG: Duration = Duration::from_secs(60);

fn traced(metered: u64) -> Message {
    Message::Traced(TraceSummary {
        graph: GraphId([1; 32]),
        nodes: 1,
        metered_step: 1,
        steps: 20,
        metered,
        peak_bytes: 1,
        fuel: 1,
        literal_bits: 1,
    })
}

fn ran(seed: u8, leaves: u16) -> Message {
    let mut list = BoundedVec::default();
    (0..leaves).for_each(|leaf| assert!(list.push(Hash32([leaf as u8; 32])).is_ok()));
    Message::Ran { seed, result: RunSummary { metric: 5, test: 6, leaves: list, root: Hash32([0; 32]) } }
}

/// The child: its source text says how it behaves.
fn behave(request: &Request, report: &mut Report<'_>) -> io::Result<()> {
    match request.task.source.as_str() {
        "honest" => {
            report(traced(10))?;
            report(Message::Step { seed: 0, step: 10, loss_bits: 0 })?;
            report(ran(0, SEGMENTS))?;
            report(ran(1, SEGMENTS))
        }
        "tells its niceness" => {
            let Message::Traced(summary) = traced(10) else { return Ok(()) };
            report(Message::Traced(TraceSummary { fuel: niceness(), ..summary }))?;
            report(ran(0, SEGMENTS))?;
            report(ran(1, SEGMENTS))
        }
        "memory bomb" => {
            report(traced(10))?;
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(vec![1; 32 << 20]);
                std::hint::black_box(&mut hoard);
            }
        }
        "spin" => {
            report(traced(10))?;
            loop {
                std::hint::spin_loop();
            }
        }
        "panic" => panic!("a bug"),
        "over budget" => report(traced(1_000_000)),
        "runs untraced" => report(ran(0, SEGMENTS)),
        "forgets a seed" => {
            report(traced(10))?;
            report(ran(0, SEGMENTS))
        }
        "forgets a leaf" => {
            report(traced(10))?;
            report(ran(0, SEGMENTS - 1))
        }
        "swaps seeds" => {
            report(traced(10))?;
            report(ran(1, SEGMENTS))
        }
        other => Err(io::Error::other(format!("no such behaviour: {other}"))),
    }
}

fn request(source: &str) -> Request {
    let mut seeds = BoundedVec::default();
    for seed in [1u8, 2] {
        assert!(seeds.push(Seed([seed; 32])).is_ok());
    }
    Request {
        task: Task {
            source: Text::truncated(source),
            converter: Text::truncated("names"),
            data: Text::truncated("/nowhere"),
            budget: 1000,
            memory: 64 << 20,
            parameters: 1000,
            literal_bits: 1000,
        },
        work: Work::Run { seeds, backend: BackendChoice::cpu(1) },
    }
}

fn run(source: &str, deadline: Duration, cpu_seconds: u64) -> Result<Result<Outcome, JobError>, Box<dyn Error>> {
    let job = Job::spawn(&std::env::current_exe()?, request(source), deadline, cpu_seconds)?;
    Ok(job.finish(&mut |_| true))
}

#[cfg(unix)]
fn niceness() -> u64 {
    rustix::process::getpriority_process(None).map_or(0, |niceness| u64::try_from(niceness).unwrap_or(0))
}

#[cfg(not(unix))]
fn niceness() -> u64 {
    0
}

fn parent() -> Result<(), Box<dyn Error>> {
    match run("honest", LONG, 30)?? {
        Outcome::Done { runs, traced, .. } => assert_eq!((runs.len(), traced.steps), (2, 20)),
        other => panic!("an honest job: {other:?}"),
    }
    if cfg!(target_os = "linux") {
        let niceness = |gives_way| -> Result<u64, Box<dyn Error>> {
            let allowance = Allowance { gives_way, ..Allowance::of(1000, 2, 1) };
            let job = Job::start(&std::env::current_exe()?, request("tells its niceness"), allowance)?;
            match job.finish(&mut |_| true)? {
                Outcome::Done { traced, .. } => Ok(traced.fuel),
                other => Err(format!("{other:?}").into()),
            }
        };
        assert_eq!(niceness(false)?, self::niceness(), "a job has the priority of its parent");
        assert!(niceness(true)? >= 10, "a job gives way");
        let started = Instant::now();
        let bomb = run("memory bomb", LONG, 30)?;
        assert!(matches!(bomb, Err(JobError::Memory)), "memory bomb: {bomb:?}");
        assert!(started.elapsed() < LONG);
        let spin = run("spin", LONG, 1)?;
        assert!(matches!(spin, Err(JobError::Cpu(1))), "processor time: {spin:?}");
    }
    let late = run("spin", Duration::from_millis(300), 30)?;
    assert!(matches!(late, Err(JobError::Deadline(_))), "deadline: {late:?}");
    let panicked = run("panic", LONG, 30)?;
    assert!(matches!(&panicked, Err(JobError::Died { stderr, .. }) if stderr.contains("a bug")), "panic: {panicked:?}");
    for lie in ["over budget", "runs untraced", "forgets a seed", "forgets a leaf", "swaps seeds"] {
        let outcome = run(lie, LONG, 30)?;
        assert!(matches!(outcome, Err(JobError::Protocol(_))), "{lie}: {outcome:?}");
    }
    let job = Job::spawn(&std::env::current_exe()?, request("spin"), LONG, 30)?;
    let killer = job.killer();
    let killed = job.finish(&mut |_| {
        killer.kill();
        true
    });
    assert!(matches!(killed, Err(JobError::Died { .. })), "killed: {killed:?}");
    let stopped = Job::spawn(&std::env::current_exe()?, request("honest"), LONG, 30)?.finish(&mut |_| false);
    assert!(matches!(stopped, Err(JobError::Stopped)), "stopped: {stopped:?}");
    println!("job: limits, lies and deadlines hold");
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, job, memory, cpu] = arguments.as_slice()
        && job == "job"
    {
        let number = |text: &str| text.parse().unwrap_or(0);
        return child_main(number(memory), number(cpu), &mut behave);
    }
    match parent() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
