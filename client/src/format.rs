//! Numbers as people read them.

use std::time::Duration;

/// A metric in nats.
pub(crate) fn nats(units: i64) -> f64 {
    // A metric is below 2^34 units, so the float is exact.
    units as f64 / f64::from(1u32 << 24)
}

/// A metric as text: five decimals tell one margin from the next.
pub(crate) fn metric(units: i64) -> String {
    format!("{:.5}", nats(units))
}

/// A difference of metrics, with its sign.
pub(crate) fn difference(units: i64) -> String {
    format!("{:+.5}", nats(units))
}

/// `1.23 G`.
pub(crate) fn operations(count: u64) -> String {
    scaled(count as f64, 1000.0, &["", " k", " M", " G", " T", " P"])
}

/// `1.2 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    scaled(count as f64, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut units = units.iter().peekable();
    while let Some(unit) = units.next() {
        if value < base || units.peek().is_none() {
            let decimals = if value >= 100.0 || value.fract() == 0.0 { 0 } else { 1 + usize::from(value < 10.0) };
            return format!("{value:.decimals$}{unit}");
        }
        value /= base;
    }
    String::new()
}

/// `850 ms`, `12.3 s`, `4 min 5 s`, `2 h 3 min`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time.as_millis() < 1000 => format!("{} ms", time.as_millis()),
        0..=59 => format!("{:.1} s", time.as_secs_f64()),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Seconds with milliseconds, for JSON.
pub(crate) fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}

/// `1 entry`, `2 entries`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What a stranger wrote, without anything that a terminal would obey or that would turn the text around.
pub(crate) fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| if (c.is_control() && !matches!(c, '\n' | '\t')) || turns(c) { '\u{fffd}' } else { c })
        .collect()
}

/// A curve of at most `width` characters.
pub(crate) fn sparkline(values: &[f32], width: usize) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let finite: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let low = finite.iter().copied().fold(f32::INFINITY, f32::min);
    let high = finite.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let per = finite.len().div_ceil(width.max(1)).max(1);
    finite
        .chunks(per)
        .map(|chunk| {
            let mean = chunk.iter().sum::<f32>() / chunk.len() as f32;
            let place = if high > low { (mean - low) / (high - low) * 7.0 } else { 0.0 };
            LEVELS.get(place.round().clamp(0.0, 7.0) as usize).copied().unwrap_or(' ')
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(metric(35_651_584), "2.12500");
        assert_eq!(difference(-167_772), "-0.01000");
        assert_eq!(operations(250_000_000), "250 M");
        assert_eq!(operations(999), "999");
        assert_eq!(operations(1_234), "1.23 k");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(0), "0 B");
        assert_eq!(duration(Duration::from_millis(850)), "850 ms");
        assert_eq!(duration(Duration::from_secs(245)), "4 min 5 s");
        assert_eq!(duration(Duration::from_secs(7_380)), "2 h 3 min");
    }

    #[test]
    fn a_terminal_obeys_nobody_elses_text() {
        assert_eq!(plain("a\tb\n\u{1b}[2Jc\u{202e}d\u{9b}"), "a\tb\n\u{fffd}[2Jc\u{fffd}d\u{fffd}");
    }

    #[test]
    fn a_curve_fits_its_width_and_ignores_what_is_not_finite() {
        let values: Vec<f32> = (0..100).map(|i| 100.0 - i as f32).collect();
        let curve = sparkline(&values, 20);
        assert_eq!(curve.chars().count(), 20);
        assert!(curve.starts_with('█') && curve.ends_with('▁'), "{curve}");
        assert_eq!(sparkline(&[f32::NAN], 20), "");
    }
}
