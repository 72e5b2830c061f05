//! The research loop's decisions: what to try next, what a result means, when to claim.
//!
//! The driver runs what [`Search::propose`] gives and tells [`Search::learn`] how it ended.
//!
//! *Invariant:* pure: the same seed, heads, results and reports give the same tries. A graph that this
//! node ran is not run again, except once more with a fresh seed before it is claimed, and a graph
//! that was claimed is not claimed again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cairn_protocol::{Claim, CommitId, Draft, GraphId, Hash32, Report, ReportStatus, Researcher, Run, Text};

use super::knobs::{Knobs, Known};
use super::random::Random;
use super::space::{Literals, literals_of};
use super::summary;

/// Kind of this proposer in reports and commits.
pub const KIND: &str = "knobs";
/// Results that are remembered; beyond them the oldest is forgotten.
const RESULTS_MAX: usize = 4096;
/// Reports that wait for a base that is not known yet.
const UNPLACED_MAX: usize = 1024;
/// Programs whose constants are remembered.
const BASES_MAX: usize = 1024;
/// The part of the margin by which a claim's mean must beat it: the worst of three official seeds is about
/// that much worse than the mean.
const CAUTION: i64 = 5;
/// Units of 2⁻²⁴ in one.
const UNIT: f64 = (1u32 << 24) as f64;

/// The program that research starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its commit; none for the baseline.
    pub parent: Option<CommitId>,
    /// Its source.
    pub source: String,
    /// Its graph.
    pub graph: GraphId,
}

/// What is to be beaten, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The record.
    pub record: Claim,
    /// The margin, in units of 2⁻²⁴.
    pub margin: i64,
}

impl Goal {
    /// Metric − (record − margin): not positive is good enough.
    pub fn short(&self, metric: i64) -> i64 {
        metric.saturating_sub(self.record.metric.saturating_sub(self.margin))
    }

    fn reached(&self, metric: i64, test: i64) -> bool {
        self.short(metric) <= 0 && test <= self.record.test.saturating_add(self.margin)
    }
}

/// One thing to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// The head it started from.
    pub base: GraphId,
    /// That head's commit.
    pub parent: Option<CommitId>,
    /// The whole program.
    pub source: String,
    /// Its constants.
    pub literals: Literals,
    /// `param old → new`.
    pub summary: String,
    /// Exploration seed, as a number.
    pub seed: u64,
    /// Whether it repeats a promising run with a fresh seed.
    pub again: bool,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It ran to its end.
    Done {
        /// Validation metric.
        metric: i64,
        /// Test metric.
        test: i64,
    },
    /// It was stopped because it fell behind.
    Stopped,
    /// A number left the finite range.
    Diverged,
    /// It was refused before it ran.
    Refused,
}

#[derive(Clone, Debug, Default)]
struct Result {
    metrics: Vec<i64>,
    /// Own results outlive those that others say they have.
    own: bool,
}

/// The research of one worker on one track.
#[derive(Debug)]
pub struct Search {
    random: Random,
    goal: Goal,
    head: Option<(Head, Knobs)>,
    bases: BTreeMap<GraphId, Literals>,
    results: BTreeMap<Literals, Result>,
    order: VecDeque<Literals>,
    tried: BTreeSet<Literals>,
    graphs: BTreeMap<GraphId, Literals>,
    claimed: BTreeSet<GraphId>,
    unplaced: VecDeque<(Report, bool)>,
    promising: Option<Promising>,
    runs: u64,
}

#[derive(Clone, Debug)]
struct Promising {
    first: Try,
    graph: GraphId,
}

impl Search {
    /// A search whose choices depend on `seed`.
    pub fn new(seed: u64, goal: Goal) -> Self {
        Self {
            random: Random::new(seed),
            goal,
            head: None,
            bases: BTreeMap::new(),
            results: BTreeMap::new(),
            order: VecDeque::new(),
            tried: BTreeSet::new(),
            graphs: BTreeMap::new(),
            claimed: BTreeSet::new(),
            unplaced: VecDeque::new(),
            promising: None,
            runs: 0,
        }
    }

    /// Remembers a program that results may be relative to.
    pub fn know(&mut self, graph: GraphId, source: &str) {
        let literals = literals_of(source);
        self.tried.insert(literals.clone());
        if self.bases.len() < BASES_MAX {
            self.bases.insert(graph, literals);
        }
        self.claimed.insert(graph);
        let waiting: Vec<(Report, bool)> = self.unplaced.drain(..).collect();
        waiting.iter().for_each(|(report, own)| self.hear(report, *own));
    }

    /// Starts from a new head and against a new record.
    pub fn start(&mut self, head: Head, goal: Goal) {
        self.goal = goal;
        self.know(head.graph, &head.source);
        // Whoever holds the record got it with fresh seeds: the best estimate of this program there is.
        if let Some(literals) = self.bases.get(&head.graph).cloned() {
            self.remember(literals, Some(goal.record.metric), false);
        }
        let knobs = Knobs::new(&head.source, &mut self.random);
        self.head = Some((head, knobs));
        self.promising = None;
    }

    /// Aims at another goal from the same head: a claim under way will, most likely, be the record.
    pub fn aim(&mut self, goal: Goal) {
        let reached = |promising: &Promising| {
            let metrics = self.results.get(&promising.first.literals).map(|result| &result.metrics);
            metrics.is_some_and(|metrics| metrics.iter().all(|metric| goal.short(*metric) <= 0))
        };
        if !self.promising.as_ref().is_some_and(reached) {
            self.promising = None;
        }
        self.goal = goal;
    }

    /// What is to be beaten now.
    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// A graph that must not be claimed (again).
    pub fn claimed(&mut self, graph: GraphId) {
        self.claimed.insert(graph);
    }

    /// The next try; none if nothing new was found, so that a new head or reports are worth waiting for.
    pub fn propose(&mut self) -> Option<Try> {
        let seed = self.random.next();
        if let Some(promising) = &self.promising {
            return Some(Try { seed, again: true, ..promising.first.clone() });
        }
        let known = self.known();
        let (head, knobs) = self.head.as_mut()?;
        let literals = knobs.propose(&known, &self.tried, &mut self.random)?;
        let summary = summary::write(&knobs.space().changes(&literals))?;
        let source = knobs.space().edit(&literals);
        let (base, parent) = (head.graph, head.parent);
        self.tried.insert(literals.clone());
        Some(Try { base, parent, source, literals, summary, seed, again: false })
    }

    fn known(&self) -> Vec<Known> {
        let mean = |metrics: &[i64]| {
            let sum: i128 = metrics.iter().map(|metric| i128::from(*metric)).sum();
            (!metrics.is_empty()).then(|| sum as f64 / metrics.len() as f64 / UNIT)
        };
        let known = |(literals, result): (&Literals, &Result)| Known {
            literals: literals.clone(),
            metric: mean(&result.metrics),
        };
        self.results.iter().map(known).collect()
    }

    /// Whether a traced try is worth running: false where its graph was run or claimed before.
    pub fn worth_running(&mut self, what: &Try, graph: GraphId) -> bool {
        if what.again {
            return true;
        }
        if let Some(same) = self.graphs.get(&graph) {
            // The same graph under other constants: what is known of one holds for the other.
            let metric = self.results.get(same).and_then(|result| result.metrics.first().copied());
            self.remember(what.literals.clone(), metric, true);
            return false;
        }
        self.graphs.insert(graph, what.literals.clone());
        !self.claimed.contains(&graph)
    }

    /// Learns how a try ended; gives a draft where it is worth a claim. `graph` is none where it was refused.
    pub fn learn(&mut self, what: &Try, graph: Option<GraphId>, ended: Ended) -> Option<Draft> {
        self.runs = self.runs.saturating_add(u64::from(ended != Ended::Refused));
        let metric = if let Ended::Done { metric, .. } = ended { Some(metric) } else { None };
        self.remember(what.literals.clone(), metric, true);
        let first = self.promising.take();
        let (Some(graph), Ended::Done { metric, test }) = (graph, ended) else { return None };
        if !self.goal.reached(metric, test) || self.claimed.contains(&graph) {
            return None;
        }
        let Some(_) = first.filter(|promising| promising.graph == graph && what.again) else {
            self.promising = Some(Promising { first: what.clone(), graph });
            return None;
        };
        let metrics = self.results.get(&what.literals).map(|result| result.metrics.clone()).unwrap_or_default();
        let mean = metrics.iter().sum::<i64>() / i64::try_from(metrics.len()).unwrap_or(1).max(1);
        if self.goal.short(mean.saturating_add(self.goal.margin / CAUTION)) > 0 {
            return None;
        }
        self.claimed.insert(graph);
        self.draft(what, graph, &metrics)
    }

    fn draft(&self, what: &Try, graph: GraphId, metrics: &[i64]) -> Option<Draft> {
        let shown: Vec<String> = metrics.iter().map(|metric| format!("{:.4}", *metric as f64 / UNIT)).collect();
        let why = format!(
            "Explored with {} seeds: {} against a record of {:.4}. Found among {} runs by varying the program's constants.",
            shown.len(),
            shown.join(", "),
            self.goal.record.metric as f64 / UNIT,
            self.runs,
        );
        Some(Draft {
            parent: what.parent,
            source: what.source.as_str().try_into().ok()?,
            graph,
            title: Text::truncated(&what.summary),
            why: Text::truncated(&why),
            idea: None,
            researcher: Researcher {
                kind: Text::truncated(KIND),
                model: Text::truncated(""),
                program: Hash32::default(),
            },
        })
    }

    /// The runs since the last claim, which starts counting anew.
    pub fn take_effort(&mut self) -> u64 {
        std::mem::take(&mut self.runs)
    }

    /// What an official run reached: better evidence than the explored metrics that led to it.
    pub fn official(&mut self, graph: GraphId, runs: &[Run]) {
        self.claimed.insert(graph);
        if let Some(result) = self.graphs.get(&graph).and_then(|literals| self.results.get_mut(literals)) {
            result.metrics = runs.iter().map(|run| run.metric).collect();
        }
    }

    /// Learns from a report, one's own (after a restart) or another worker's.
    ///
    /// Reports can lie: others' results that would beat the record are not believed, since whoever has
    /// such a result claims it.
    pub fn hear(&mut self, report: &Report, own: bool) {
        let Some(changes) = summary::read(&report.summary) else { return };
        let Some(base) = self.bases.get(&report.base) else {
            if self.unplaced.len() >= UNPLACED_MAX {
                self.unplaced.pop_front();
            }
            self.unplaced.push_back((report.clone(), own));
            return;
        };
        let mut literals = base.clone();
        for change in changes {
            match literals.get_mut(&change.name) {
                Some(literal) if *literal == change.old => *literal = change.new,
                _ => return,
            }
        }
        let metric = (report.status == ReportStatus::Done).then_some(report.metric);
        if !own && metric.is_some_and(|metric| self.goal.short(metric) <= 0) {
            return;
        }
        if own {
            self.tried.insert(literals.clone());
            if report.status != ReportStatus::Refused {
                self.graphs.insert(report.graph, literals.clone());
            }
        }
        self.remember(literals, metric, own);
    }

    fn remember(&mut self, literals: Literals, metric: Option<i64>, own: bool) {
        match self.results.get_mut(&literals) {
            // What others say does not change what was measured here.
            Some(result) if own || !result.own => {
                result.own |= own;
                result.metrics.extend(metric);
                result.metrics.truncate(16);
            }
            Some(_) => {}
            None => {
                self.order.push_back(literals.clone());
                self.results.insert(literals, Result { metrics: metric.into_iter().collect(), own });
            }
        }
        if self.results.len() > RESULTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.results.remove(&oldest);
            self.tried.remove(&oldest);
        }
    }

    /// Results that are remembered.
    pub fn known_results(&self) -> usize {
        self.results.len()
    }
}

/// The report on a try.
pub fn report(what: &Try, graph: Option<GraphId>, ended: Ended) -> Report {
    let (status, metric) = match ended {
        Ended::Done { metric, .. } => (ReportStatus::Done, metric),
        Ended::Stopped => (ReportStatus::Stopped, 0),
        Ended::Diverged => (ReportStatus::Diverged, 0),
        Ended::Refused => (ReportStatus::Refused, 0),
    };
    Report {
        base: what.base,
        graph: graph.unwrap_or_default(),
        summary: Text::truncated(&what.summary),
        metric,
        seed: what.seed,
        status,
        proposer: Text::truncated(KIND),
    }
}
