//! Early stopping: a run that is clearly behind the best one at two checkpoints in a row is not worth its end.
//!
//! *Invariant:* a run that keeps within [`SLACK`] of the best run's curve is never stopped.

/// Checkpoints of a run.
const CHECKPOINTS: usize = 10;
/// Checkpoints before which nothing is compared: warming up says little.
const GRACE: usize = 3;
/// How far behind is too far, as a share of the best run's loss at the checkpoint.
const SLACK: f64 = 0.08;

/// Mean training loss of a run in each tenth of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve(Vec<f64>);

/// Follows one run beside the best one.
#[derive(Debug)]
pub struct Pace {
    best: Option<Curve>,
    own: Curve,
    sum: f64,
    count: u32,
    behind: u32,
}

impl Pace {
    /// Follows a run beside `best`, if there was one.
    pub fn new(best: Option<Curve>) -> Self {
        Self { best, own: Curve::default(), sum: 0.0, count: 0, behind: 0 }
    }

    /// Takes the loss at `step` of `steps`; false when the run should stop.
    pub fn step(&mut self, step: u64, steps: u64, loss: f32) -> bool {
        let part = (step.saturating_mul(CHECKPOINTS as u64) / steps.max(1)) as usize;
        while self.own.0.len() < part.min(CHECKPOINTS) && self.count > 0 {
            self.own.0.push(self.sum / f64::from(self.count));
            self.compare();
            if self.own.0.len() == part.min(CHECKPOINTS) {
                (self.sum, self.count) = (0.0, 0);
            }
        }
        self.sum += f64::from(loss);
        self.count += 1;
        self.behind < 2
    }

    fn compare(&mut self) {
        let at = self.own.0.len().saturating_sub(1);
        let best = self.best.as_ref().and_then(|best| best.0.get(at));
        let late = |(own, best): (&f64, &f64)| own - best > SLACK * best.abs() || !own.is_finite();
        let behind = at >= GRACE && self.own.0.last().zip(best).is_some_and(late);
        self.behind = if behind { self.behind + 1 } else { 0 };
    }

    /// The curve of the run so far.
    pub fn curve(self) -> Curve {
        self.own
    }
}
