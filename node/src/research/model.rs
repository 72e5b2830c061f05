//! Which changes look promising: a tree-structured Parzen estimator (Bergstra et al. 2011, in the
//! multivariate form of Falkner et al. 2018).
//!
//! Results are split into the good few and the rest; a candidate is worth the density of the good
//! at its place over the density of the rest.
//!
//! *Invariant:* the same results in the same order give the same worth.

use super::space::Space;

/// Share of the results that counts as good.
const GOOD_SHARE: f64 = 0.2;
/// Most results that count as good.
const GOOD_MAX: usize = 16;
/// Kernel width in units of a constant's range, for one result.
const WIDTH: f64 = 0.25;
/// Smallest kernel width.
const WIDTH_MIN: f64 = 0.08;
/// Probability that a choice's kernel leaves to the other choices.
const CHOICE_LEAK: f64 = 0.25;

/// One result: where it is, and its metric (none: refused, diverged or stopped).
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) place: Vec<f64>,
    pub(crate) metric: Option<f64>,
}

/// The two densities.
#[derive(Debug)]
pub(crate) struct Model {
    good: Vec<Vec<f64>>,
    rest: Vec<Vec<f64>>,
    /// Number of choices of each constant; none for numbers.
    choices: Vec<Option<usize>>,
    width: f64,
}

impl Model {
    /// A model of `points`, which are in any order; ties stay in theirs.
    pub(crate) fn new(space: &Space, mut points: Vec<Point>) -> Self {
        let worth = |point: &Point| point.metric.unwrap_or(f64::INFINITY);
        points.sort_by(|a, b| worth(a).total_cmp(&worth(b)));
        let measured = points.iter().filter(|point| point.metric.is_some()).count();
        let good = (libm::ceil(GOOD_SHARE * points.len() as f64) as usize).clamp(1, GOOD_MAX).min(measured);
        let places: Vec<Vec<f64>> = points.into_iter().map(|point| point.place).collect();
        let (good, rest) = places.split_at(good.min(places.len()));
        let spread = libm::pow(places.len().max(1) as f64, -1.0 / (4.0 + space.len() as f64));
        Self {
            good: good.to_vec(),
            rest: rest.to_vec(),
            choices: space.dimensions().iter().map(|dimension| dimension.choices()).collect(),
            width: (WIDTH * spread).max(WIDTH_MIN),
        }
    }

    /// Log of the density of the good over that of the rest.
    pub(crate) fn worth(&self, place: &[f64]) -> f64 {
        self.density(&self.good, place) - self.density(&self.rest, place)
    }

    /// Log density, up to a constant that is the same for good and rest. The uniform prior counts as one result.
    fn density(&self, points: &[Vec<f64>], place: &[f64]) -> f64 {
        let prior: f64 = self.choices.iter().map(|choices| self.prior(*choices)).sum();
        let logs: Vec<f64> =
            points.iter().map(|point| self.kernel(point, place)).chain(std::iter::once(prior)).collect();
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        most + libm::log(logs.iter().map(|log| libm::exp(log - most)).sum::<f64>() / logs.len() as f64)
    }

    fn prior(&self, choices: Option<usize>) -> f64 {
        match choices {
            Some(count) => -libm::log(count.max(1) as f64),
            None => 0.0,
        }
    }

    fn kernel(&self, point: &[f64], place: &[f64]) -> f64 {
        let one = |(at, (to, choices)): (&f64, (&f64, &Option<usize>))| match choices {
            Some(_) if at == to => libm::log(1.0 - CHOICE_LEAK),
            Some(count) => libm::log(CHOICE_LEAK / (count.saturating_sub(1).max(1)) as f64),
            None => {
                let away = (at - to) / self.width;
                -0.5 * away * away - libm::log(self.width * libm::sqrt(2.0 * std::f64::consts::PI))
            }
        };
        point.iter().zip(place.iter().zip(&self.choices)).map(one).sum()
    }
}
