//! The research loop's hands: a thread that runs what [`Search`] proposes, one job after the other.
//!
//! *Invariant:* it shares nothing with the loop that owns machine and store: orders come in and results
//! go out over bounded channels.

use std::sync::Arc;
use std::sync::mpsc as queue;
use std::time::{Duration, Instant};

use cairn_program::job::{Allowance, Audit, JobError, Message as Said, Outcome, Stopper, perform};
use cairn_protocol::{Draft, GraphId, Report, Run, Seed};

use super::Message;
use super::device::Place;
use super::official::Workshop;
use crate::event::Event;
use crate::research::{Curve, Ended, Goal, Head, Pace, Search, Try, report};

/// Orders that wait for the thread; more make the loop drop reports, never heads.
const ORDERS_MAX: usize = 1024;
/// How long the thread waits for news when nothing is worth a try, or jobs fail.
const REST: Duration = Duration::from_secs(2);

/// What the loop tells the thread.
#[derive(Debug)]
pub(super) enum Order {
    /// Another program that results may be relative to.
    Know(GraphId, String),
    /// Research starts from here now.
    Head(Head, Goal),
    /// What is to be beaten from now on.
    Aim(Goal),
    /// Results of a batch of reports, one's own or not.
    Reports(Vec<Report>, bool),
    /// What an official run of a graph reached.
    Official(GraphId, Vec<Run>),
}

/// A change that is worth an official run.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) draft: Box<Draft>,
    pub(super) effort: u64,
    /// Worst explored metrics.
    pub(super) metric: i64,
    pub(super) test: i64,
}

/// The thread, as its owner sees it.
pub(super) struct Explorer {
    orders: queue::SyncSender<Order>,
    stopper: Arc<Stopper>,
}

impl Explorer {
    pub(super) fn start(workshop: Workshop, search: Search, early_stop: bool) -> std::io::Result<Self> {
        let (orders, inbox) = queue::sync_channel(ORDERS_MAX);
        let stopper = Arc::new(Stopper::default());
        let explorer =
            Thread { workshop, search, orders: inbox, stopper: stopper.clone(), early_stop, best: None, first: None };
        std::thread::Builder::new().name("explore".into()).spawn(move || explorer.run())?;
        Ok(Self { orders, stopper })
    }

    /// Gives an order; false where too many wait.
    pub(super) fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }

    pub(super) fn stop(&self) {
        self.stopper.stop();
    }
}

struct Thread {
    workshop: Workshop,
    search: Search,
    orders: queue::Receiver<Order>,
    stopper: Arc<Stopper>,
    early_stop: bool,
    /// Metric and curve of the best run so far.
    best: Option<(i64, Curve)>,
    /// Metrics of the run that the present try repeats.
    first: Option<(i64, i64)>,
}

/// How a job ended for the search.
struct Finished {
    graph: Option<GraphId>,
    ended: Ended,
    note: String,
}

impl Thread {
    fn run(mut self) {
        while !self.stopper.stopped() {
            let news = self.orders.try_iter().fold(0, |count, order| {
                obey(&mut self.search, order);
                count + 1
            });
            let tried = self.search.propose().map(|what| self.try_one(&what));
            let rest = match tried {
                None => news == 0,
                Some(Ok(())) => false,
                Some(Err(JobError::Stopped)) => continue,
                Some(Err(error)) => {
                    self.tell(Message::Trouble(format!("a try failed: {error}")));
                    true
                }
            };
            if rest {
                match self.orders.recv_timeout(REST) {
                    Ok(order) => obey(&mut self.search, order),
                    Err(queue::RecvTimeoutError::Timeout) => {}
                    Err(queue::RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    fn tell(&self, message: Message) {
        // The loop that takes these is over if nobody listens; then we are stopped as well.
        let _ = self.workshop.inbox.blocking_send(message);
    }

    fn try_one(&mut self, what: &Try) -> Result<(), JobError> {
        let started = Instant::now();
        let Some(finished) = self.attempt(what)? else { return Ok(()) };
        let Finished { graph, ended, note } = finished;
        let metrics = if let Ended::Done { metric, test } = ended { Some((metric, test)) } else { None };
        self.tell(Message::Event(Event::Tried {
            summary: what.summary.clone(),
            status: report(what, graph, ended).status,
            metric: metrics.map(|(metric, _)| metric),
            short: metrics.map(|(metric, _)| self.search.goal().short(metric)),
            seed: what.seed,
            note,
            took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }));
        self.tell(Message::Tried(Box::new(report(what, graph, ended))));
        let draft = self.search.learn(what, graph, ended);
        let first = if what.again { self.first.take() } else { None };
        if let (Some(draft), Some((metric, test))) = (draft, metrics) {
            let (before, before_test) = first.unwrap_or((metric, test));
            let effort = self.search.take_effort();
            let (metric, test) = (metric.max(before), test.max(before_test));
            self.tell(Message::Found(Candidate { draft: Box::new(draft), effort, metric, test }));
        }
        self.first = metrics;
        Ok(())
    }

    /// Traces and runs; none where the graph was run before. What the device cannot do, or got wrong, the processor
    /// does.
    fn attempt(&mut self, what: &Try) -> Result<Option<Finished>, JobError> {
        let place = self.workshop.place(Some(what.base), &what.source, &self.stopper)?;
        if place.device.is_some() {
            let audit = self.workshop.devices.audit_due();
            let mut agrees = None;
            let finished = self.attempt_on(what, &place, audit, &mut agrees);
            match (finished, audit) {
                (_, Some(audit)) if agrees == Some(false) => self.workshop.caught(audit.segment),
                (Err(JobError::Stopped), _) => return Err(JobError::Stopped),
                (Ok(finished), _) => {
                    self.workshop.devices.went_well(agrees == Some(true));
                    return Ok(finished);
                }
                (Err(error), _) => self.workshop.failed(&error),
            }
        }
        self.attempt_on(what, &Place::cpu(self.workshop.threads), None, &mut None)
    }

    fn attempt_on(
        &mut self,
        what: &Try,
        place: &Place,
        audit: Option<Audit>,
        agrees: &mut Option<bool>,
    ) -> Result<Option<Finished>, JobError> {
        let seeds = vec![Seed::numbered(what.seed)];
        let (request, allowance) = self.workshop.run(&what.source, seeds, place, audit)?;
        // Official runs and replays on the same machine go first.
        let allowance = Allowance { gives_way: true, ..allowance };
        // A promising run is repeated in full.
        let best = self.best.as_ref().map(|(_, curve)| curve.clone()).filter(|_| self.early_stop && !what.again);
        let (mut pace, mut traced, mut known, mut behind) = (Pace::new(best), None, false, false);
        let mut steps = 0;
        let inbox = self.workshop.inbox.clone();
        let search = &mut self.search;
        let mut listen = |said: &Said| {
            match said {
                Said::Traced(summary) => {
                    (traced, steps) = (Some(summary.graph), summary.steps);
                    known = !search.worth_running(what, summary.graph);
                    if !known {
                        let _ = inbox.blocking_send(Message::Event(Event::Trying { summary: what.summary.clone() }));
                    }
                }
                Said::Step { step, loss_bits, .. } => behind = !pace.step(*step, steps, f32::from_bits(*loss_bits)),
                Said::Audited { agrees: found, .. } => *agrees = Some(*found),
                _ => {}
            }
            !known && !behind && *agrees != Some(false)
        };
        let outcome = perform(&self.workshop.exe, request, allowance, &self.stopper, &mut listen);
        let finished = |graph, ended, note: &str| Ok(Some(Finished { graph, ended, note: note.to_string() }));
        match outcome {
            Err(JobError::Stopped) if known => Ok(None),
            Err(JobError::Stopped) if behind => finished(traced, Ended::Stopped, "far behind the best run"),
            // What the program needs and may not have is the program's fault, where no driver has a part in it.
            Err(error @ (JobError::Memory | JobError::Cpu(_))) if place.device.is_none() => {
                finished(traced, Ended::Stopped, &error.to_string())
            }
            Err(error) => Err(error),
            Ok(Outcome::Refused(refusal)) => {
                finished(None, Ended::Refused, &format!("{}: {}", refusal.kind, refusal.message))
            }
            Ok(Outcome::Diverged { traced, at: (_, step, tensor) }) => {
                finished(Some(traced.graph), Ended::Diverged, &format!("{tensor} at step {step}"))
            }
            Ok(Outcome::Done { traced, runs, .. }) => {
                let Some(run) = runs.first() else { return Err(JobError::Failed("a run without a result".into())) };
                if self.best.as_ref().is_none_or(|(best, _)| run.metric < *best) {
                    self.best = Some((run.metric, pace.curve()));
                }
                finished(Some(traced.graph), Ended::Done { metric: run.metric, test: run.test }, "")
            }
        }
    }
}

fn obey(search: &mut Search, order: Order) {
    match order {
        Order::Know(graph, source) => search.know(graph, &source),
        Order::Head(head, goal) => search.start(head, goal),
        Order::Aim(goal) => search.aim(goal),
        Order::Reports(reports, own) => reports.iter().for_each(|report| search.hear(report, own)),
        Order::Official(graph, runs) => search.official(graph, &runs),
    }
}
