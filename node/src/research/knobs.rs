//! The `knobs` proposer: varies the program's own constants, by what worked before.
//!
//! It starts with one constant at a time, a good way up or down, and then asks a [`Model`] of all
//! results which of many small changes and combinations looks best.

use std::collections::BTreeSet;

use super::model::{Model, Point};
use super::random::Random;
use super::space::{Literals, Space};
use super::summary;

/// Candidates that are compared for one proposal.
const CANDIDATES: usize = 96;
/// Constants that may differ from the head's at once: a change that is still one idea.
const CHANGES_MAX: usize = 6;
/// Results before the model is asked.
const RESULTS_MIN: usize = 4;
/// Part of the range that a first look up or down moves.
const FIRST_STEP: f64 = 0.2;
/// Probability of a first look while some constants were never moved alone.
const FIRST_LOOK: f64 = 0.5;

/// A result in words of the source: literals and metric (none where there was no whole run).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) literals: Literals,
    pub(crate) metric: Option<f64>,
}

/// Proposes changes of one head's constants.
#[derive(Debug)]
pub(crate) struct Knobs {
    space: Space,
    /// Constants and directions that nobody looked at alone, in the order in which they are tried.
    first_looks: Vec<(usize, bool)>,
}

impl Knobs {
    pub(crate) fn new(source: &str, random: &mut Random) -> Self {
        let space = Space::of(source);
        let mut first_looks: Vec<(usize, bool)> = (0..space.len()).flat_map(|d| [(d, true), (d, false)]).collect();
        random.shuffle(&mut first_looks);
        Self { space, first_looks }
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// The next literals to try, none of which is in `tried`; none if nothing new was found.
    pub(crate) fn propose(
        &mut self,
        known: &[Known],
        tried: &BTreeSet<Literals>,
        random: &mut Random,
    ) -> Option<Literals> {
        if (known.len() < RESULTS_MIN || random.chance(FIRST_LOOK))
            && let Some(looked) = self.first_look(tried)
        {
            return Some(looked);
        }
        self.modelled(known, tried, random).or_else(|| self.first_look(tried))
    }

    fn first_look(&mut self, tried: &BTreeSet<Literals>) -> Option<Literals> {
        let head = self.space.literals();
        while let Some((d, up)) = self.first_looks.pop() {
            let moved = self.space.dimensions().get(d).and_then(|dimension| {
                let literal = dimension.nudge(head.get(dimension.name())?, up, FIRST_STEP)?;
                let mut literals = head.clone();
                literals.insert(dimension.name().to_string(), literal);
                Some(literals)
            });
            if let Some(literals) = moved.filter(|literals| self.fits(literals, tried)) {
                return Some(literals);
            }
        }
        None
    }

    /// New, short enough to be told, and not too much at once.
    fn fits(&self, literals: &Literals, tried: &BTreeSet<Literals>) -> bool {
        let changes = self.space.changes(literals);
        (1..=CHANGES_MAX).contains(&changes.len()) && !tried.contains(literals) && summary::write(&changes).is_some()
    }

    fn modelled(&self, known: &[Known], tried: &BTreeSet<Literals>, random: &mut Random) -> Option<Literals> {
        let placed: Vec<(&Known, Vec<f64>)> =
            known.iter().filter_map(|k| Some((k, self.space.coordinates(&k.literals)?))).collect();
        let points = placed.iter().map(|(k, place)| Point { place: place.clone(), metric: k.metric }).collect();
        let model = Model::new(&self.space, points);
        let mut best: Vec<&Known> = known.iter().filter(|k| k.metric.is_some()).collect();
        best.sort_by(|a, b| a.metric.unwrap_or(f64::MAX).total_cmp(&b.metric.unwrap_or(f64::MAX)));
        best.truncate((known.len() / 5).clamp(2, 8));
        let mut chosen: Option<(f64, Literals)> = None;
        for _ in 0..CANDIDATES {
            let Some(candidate) = self.candidate(&best, random).filter(|c| self.fits(c, tried)) else { continue };
            let Some(place) = self.space.coordinates(&candidate) else { continue };
            let worth = model.worth(&place);
            if chosen.as_ref().is_none_or(|(most, _)| worth > *most) {
                chosen = Some((worth, candidate));
            }
        }
        chosen.map(|(_, literals)| literals)
    }

    /// One or two constants varied from the head or from a good result, or two good results joined.
    fn candidate(&self, best: &[&Known], random: &mut Random) -> Option<Literals> {
        let head = self.space.literals();
        let pick = |random: &mut Random| {
            // Better results are taken more often: the smaller of two draws.
            let at = random.below(best.len()).min(random.below(best.len()));
            best.get(at).map(|known| self.adopt(&head, &known.literals))
        };
        let mut literals = if random.chance(0.25) { None } else { pick(random) }.unwrap_or_else(|| head.clone());
        if random.chance(0.25)
            && let Some(other) = pick(random)
        {
            for change in self.space.changes(&other) {
                literals.insert(change.name, change.new);
            }
            return Some(literals);
        }
        for _ in 0..=random.below(2) {
            let dimension = self.space.dimensions().get(random.below(self.space.len()))?;
            let varied = dimension.vary(literals.get(dimension.name())?, random)?;
            literals.insert(dimension.name().to_string(), varied);
        }
        Some(literals)
    }

    /// A result's literals, as far as this head has the same constants.
    fn adopt(&self, head: &Literals, known: &Literals) -> Literals {
        let value = |(name, own): (&String, &String)| (name.clone(), known.get(name).unwrap_or(own).clone());
        head.iter().map(value).collect()
    }
}
