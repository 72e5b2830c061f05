//! Jobs as real processes: what they say is checked, what they take is limited.

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cairn_program::job::{
    Allowance, BackendChoice, GpuChoice, Job, JobError, Message, Outcome, Report, Request, RunSummary, Stopper, Task,
    TraceSummary, Work, adapters, child_main, examine, time, work,
};
use cairn_protocol::limits::SEGMENTS;
use cairn_protocol::{BoundedVec, CommitId, GraphId, Hash32, Seed, Text, VerifierKey, inside_step};

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
        _ => work(request, report),
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
        work: Work::Run { seeds, backend: BackendChoice::cpu(1), audit: None },
    }
}

/// A model of pairs of letters, for the names that ship.
const BIGRAM: &str = "from cairn import param, embedding, adamw, group\n\
    BATCH = 4\n\
    LR = 0.1\n\
    def model(tokens):\n    return embedding(tokens, param('pairs', (27, 27), init='normal', std=0.02))\n\
    def optimizer():\n    return [group('*', adamw(lr=LR))]\n";

/// Operations of a run of it: a validation, a test, and some dozens of steps.
const BUDGET: u64 = 400_000_000;
const NAMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tracks/names/data/names.txt");

fn task(source: &str, data: &str) -> Task {
    Task {
        source: Text::truncated(source),
        converter: Text::truncated("names"),
        data: Text::truncated(data),
        budget: BUDGET,
        memory: 256 << 20,
        parameters: 10_000,
        literal_bits: 10_000,
    }
}

/// What became of a request, and all that was said on the way.
type Heard = (Result<Outcome, JobError>, Vec<Message>);

fn real(task: Task, work: Work) -> Result<Heard, Box<dyn Error>> {
    let job = Job::spawn(&std::env::current_exe()?, Request { task, work }, LONG, 60)?;
    let mut said = Vec::new();
    let outcome = job.finish(&mut |message| {
        said.push(message.clone());
        true
    });
    Ok((outcome, said))
}

fn seeds() -> BoundedVec<Seed, 8> {
    let mut seeds = BoundedVec::default();
    assert!([3, 4].into_iter().all(|seed| seeds.push(Seed([seed; 32])).is_ok()));
    seeds
}

fn running(backend: &str) -> Work {
    let name = Text::truncated(backend);
    Work::Run { seeds: seeds(), backend: BackendChoice { name, ..BackendChoice::cpu(1) }, audit: None }
}

/// A program is run, on either backend, with one result.
fn runs() -> Result<Vec<RunSummary>, Box<dyn Error>> {
    let (outcome, said) = real(task(BIGRAM, NAMES), running("cpu"))?;
    let Outcome::Done { traced, runs, inside } = outcome? else { panic!("a sound program did not run: {said:?}") };
    assert!(traced.steps > u64::from(SEGMENTS) && traced.metered <= BUDGET, "{traced:?}");
    assert!(inside.is_empty() && runs.len() == 2 && runs[0].root != runs[1].root, "{runs:?}");
    let curve: Vec<(u64, f32)> = said
        .iter()
        .filter_map(|message| match message {
            Message::Step { seed: 1, step, loss_bits } => Some((*step, f32::from_bits(*loss_bits))),
            _ => None,
        })
        .collect();
    assert!(curve.len() <= 201 && curve.is_sorted_by(|a, b| a.0 < b.0), "{curve:?}");
    assert_eq!(curve.last().map(|(step, _)| *step), Some(traced.steps));
    let (outcome, _) = real(task(BIGRAM, NAMES), running("reference"))?;
    assert!(matches!(outcome?, Outcome::Done { runs: again, .. } if again == runs), "the backends differ");
    Ok(runs)
}

/// A replay computes the same from the seeds alone; its proofs are the prover's own.
fn replays(runs: &[RunSummary]) -> Result<(), Box<dyn Error>> {
    let replay = |prover: u8| {
        let commit = CommitId([9; 32]);
        let (seeds, prover, backend) = (seeds(), VerifierKey([prover; 32]), BackendChoice::cpu(1));
        let claimed = BoundedVec::default();
        real(
            task(BIGRAM, NAMES),
            Work::Replay { seeds, claimed, prover, commit, audit: Hash32([prover.0[0]; 32]), backend },
        )
    };
    let (outcome, said) = replay(1)?;
    let Outcome::Done { traced, runs: again, inside } = outcome? else { panic!("no replay: {said:?}") };
    assert_eq!((again.as_slice(), inside.len()), (runs, 2));
    let leaves = said.iter().filter_map(|message| match message {
        Message::Segment { leaf, .. } => Some(*leaf),
        _ => None,
    });
    assert!(leaves.eq(runs.iter().flat_map(|run| run.leaves.iter().copied())), "leaves are reported as they come");
    let (outcome, _) = replay(2)?;
    let Outcome::Done { runs: again, inside: others, .. } = outcome? else { panic!("no replay") };
    assert_eq!(again, runs);
    // Two provers hash at the same step of a segment only by chance.
    let drawn = |prover: u8, segment: u16| {
        let len = (u64::from(segment) + 1) * traced.steps / 16 - u64::from(segment) * traced.steps / 16;
        inside_step(VerifierKey([prover; 32]), CommitId([9; 32]), 0, segment, len)
    };
    for segment in 0..SEGMENTS {
        let at = usize::from(segment);
        assert_eq!(inside[0][at] == others[0][at], drawn(1, segment) == drawn(2, segment), "segment {segment}");
    }
    Ok(())
}

/// GPUs are asked for, and programs timed, in processes of their own; what is not there is said plainly.
fn measures() -> Result<(), Box<dyn Error>> {
    let (exe, stopper) = (std::env::current_exe()?, Stopper::default());
    let found = adapters(&exe, &stopper)?;
    assert!(found.iter().all(|adapter| !adapter.key.is_empty() && adapter.buffers_max >= 8), "{found:?}");
    let nobody = examine(&exe, "no such card", Path::new(""), &stopper, &mut |_, _, _| {});
    assert!(matches!(&nobody, Err(JobError::Failed(why)) if why.contains("`no such card`")), "{nobody:?}");

    let gpu = |form: &str| GpuChoice {
        adapter: Text::truncated("no such card"),
        form: Text::truncated(form),
        cache: Text::default(),
    };
    let named = |name: &str| BackendChoice { name: Text::truncated(name), ..BackendChoice::cpu(1) };
    let backends =
        vec![named("cpu"), named("reference"), BackendChoice::gpu(gpu("plain"), 1), BackendChoice::gpu(gpu("bent"), 1)];
    let allowance = Allowance::of(BUDGET, 1, 2);
    let timed = time(&exe, task(BIGRAM, NAMES), Seed([3; 32]), backends.clone(), allowance, &stopper)?;
    let Some((steps, timed)) = timed else { panic!("a sound program was refused") };
    assert!(steps > 16 && timed.len() == 4, "{steps} {timed:?}");
    assert!(timed[..2].iter().all(|timed| timed.trouble.is_empty() && timed.step_us > 0), "{timed:?}");
    assert!(timed[2].trouble.contains("no such card") && timed[3].trouble.contains("`bent`"), "{timed:?}");
    let refused = time(&exe, task("def model(:\n", NAMES), Seed([3; 32]), backends, allowance, &stopper)?;
    assert_eq!(refused, None);
    stopper.stop();
    assert!(matches!(adapters(&exe, &stopper), Err(JobError::Stopped)));
    Ok(())
}

/// What cannot be run is said plainly.
fn refusals() -> Result<(), Box<dyn Error>> {
    let (outcome, _) = real(task("LR = 1.0\ndef model(:\n", NAMES), Work::Trace)?;
    match outcome? {
        Outcome::Refused(why) => assert_eq!((why.kind.as_str(), why.line), ("SyntaxError", 2)),
        other => panic!("not Python: {other:?}"),
    }
    let wild = BIGRAM.replace("LR = 0.1", "LR = 1e30");
    let (outcome, _) = real(task(&wild, NAMES), running("cpu"))?;
    let outcome = outcome?;
    assert!(matches!(&outcome, Outcome::Diverged { at: (0, 2, tensor), .. } if tensor == "pairs"), "{outcome:?}");
    let failed = |task: Task, work: Work, wanted: &str| {
        let (outcome, said) = real(task, work)?;
        assert!(
            matches!(&outcome, Err(JobError::Failed(why)) if why.contains(wanted)),
            "{wanted}: {outcome:?} {said:?}"
        );
        Ok::<(), Box<dyn Error>>(())
    };
    failed(task(BIGRAM, "/nowhere/names.txt"), Work::Trace, "/nowhere/names.txt")?;
    failed(task(BIGRAM, concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")), Work::Trace, "line 1, column 1")?;
    failed(Task { converter: Text::truncated("csv"), ..task(BIGRAM, NAMES) }, Work::Trace, "`csv`")?;
    if !cairn_engine::backend::CANDLE {
        failed(task(BIGRAM, NAMES), running("candle"), "cargo build --features candle")?;
    }
    let (seeds, backend) = (seeds(), BackendChoice { name: Text::truncated("candle"), ..BackendChoice::cpu(1) });
    let (prover, commit, audit) = (VerifierKey([1; 32]), CommitId([9; 32]), Hash32([1; 32]));
    let inexact = Work::Replay { seeds, claimed: BoundedVec::default(), prover, commit, audit, backend };
    failed(task(BIGRAM, NAMES), inexact, "it needs an exact backend")?;
    failed(task(BIGRAM, NAMES), running("abacus"), "`abacus`")
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
    replays(&runs()?)?;
    refusals()?;
    measures()?;
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
