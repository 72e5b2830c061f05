//! From many runs of the baseline to a margin and a first record.
//!
//! *Invariant:* floats serve the owner's measurement only; what enters the record is a whole number of units.

/// Mean and standard deviation (of the sample, n − 1) of metrics, in units.
pub(super) fn mean_sd(units: &[i64]) -> (f64, f64) {
    let n = units.len() as f64;
    let mean = units.iter().map(|&x| x as f64).sum::<f64>() / n;
    let variance = units.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, variance.sqrt())
}

/// The margin: 3.09 · sd · √(2/m) · 1.5, rounded up to a whole unit.
///
/// 3.09 deviations are passed by luck once in a thousand; √(2/m) is the deviation of the difference of two means of m
/// seeds; the factor covers what the measured deviation itself may be off by.
pub(super) fn margin(sd_units: f64, seeds: u8) -> i64 {
    (3.09 * sd_units * (2.0 / f64::from(seeds)).sqrt() * 1.5).ceil().max(1.0) as i64
}

/// The first record: the median over disjoint groups of m seeds of the worst of each group. What is left over of an
/// incomplete group is not used.
pub(super) fn median_of_worst(units: &[i64], seeds: u8) -> i64 {
    let mut worst: Vec<i64> =
        units.chunks_exact(usize::from(seeds.max(1))).filter_map(|group| group.iter().copied().max()).collect();
    worst.sort_unstable();
    // Of two middle ones the worse: the first record is not to be easier on the owner than on others.
    worst.get(worst.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margin_and_record_follow_their_formulas() {
        let (mean, sd) = mean_sd(&[1, 2, 3, 4]);
        assert!((mean - 2.5).abs() < 1e-12 && (sd - 1.290_994_448_735_805_6).abs() < 1e-12);
        // 3.09 · 1000 · √(2/3) · 1.5 = 3784.4…
        assert_eq!(margin(1000.0, 3), 3785);
        assert_eq!(margin(0.0, 3), 1);
        assert_eq!(median_of_worst(&[1, 9, 2, 3, 4, 5, 7, 8, 6, 100], 3), 8);
        assert_eq!(median_of_worst(&[1, 2, 3, 4], 2), 4);
    }
}
