//! The search space of one program: its constants, their scales, and the text edits that change them.
//!
//! A hint beside a constant says its range (`# 1e-4..3e-2 log`); without one the range is guessed from
//! the value.
//!
//! *Invariant:* an edit replaces the bytes of literals and nothing else, so comments stay as they are.

use std::collections::BTreeMap;
use std::ops::Range;

use cairn_program::{Hint, Knob, KnobValue, knobs};

use super::random::Random;
use super::summary::Change;

/// Literals by name of their constant.
pub type Literals = BTreeMap<String, String>;

/// Levels of one constant that are listed one by one.
const LEVELS_MAX: usize = 256;
/// Factor by which a float without a hint may grow or shrink.
const FLOAT_REACH: f64 = 10.0;
/// Factors by which an integer without a hint may grow or shrink: divisors stay divisors.
const INT_FACTORS: [(i64, i64); 9] = [(1, 4), (1, 2), (3, 4), (1, 1), (5, 4), (3, 2), (2, 1), (3, 1), (4, 1)];

/// On which scale neighbouring values are equally far apart.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Linear,
    Log,
    /// Log of the distance to 1: 0.9, 0.99 and 0.999 are equally far apart.
    Complement,
}

impl Scale {
    fn to(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => libm::log(value.max(f64::MIN_POSITIVE)),
            Scale::Complement => -libm::log((1.0 - value).max(1e-12)),
        }
    }

    fn from(self, scaled: f64) -> f64 {
        match self {
            Scale::Linear => scaled,
            Scale::Log => libm::exp(scaled),
            Scale::Complement => 1.0 - libm::exp(-scaled),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Float { low: f64, high: f64, scale: Scale, step: Option<f64> },
    Int { levels: Vec<i64>, scale: Scale },
    Choice { literals: Vec<String> },
}

/// One constant that can be varied.
#[derive(Clone, Debug)]
pub(crate) struct Dimension {
    name: String,
    bytes: Range<usize>,
    literal: String,
    kind: Kind,
}

/// The constants of one source that can be varied.
#[derive(Clone, Debug)]
pub struct Space {
    source: String,
    dimensions: Vec<Dimension>,
}

impl Space {
    /// The space around `source`; empty where the source does not parse.
    pub fn of(source: &str) -> Self {
        let found = knobs(source).unwrap_or_default();
        let dimensions = found.iter().filter_map(|knob| Dimension::of(source, knob)).collect();
        Self { source: source.to_string(), dimensions }
    }

    /// Number of constants that can be varied.
    pub fn len(&self) -> usize {
        self.dimensions.len()
    }

    /// Whether nothing can be varied.
    pub fn is_empty(&self) -> bool {
        self.dimensions.is_empty()
    }

    pub(crate) fn dimensions(&self) -> &[Dimension] {
        &self.dimensions
    }

    /// The literals as they stand in the source.
    pub fn literals(&self) -> Literals {
        self.dimensions.iter().map(|d| (d.name.clone(), d.literal.clone())).collect()
    }

    /// How `literals` differ from the source's, in source order.
    pub fn changes(&self, literals: &Literals) -> Vec<Change> {
        let change = |d: &Dimension| {
            let new = literals.get(&d.name).filter(|new| **new != d.literal)?;
            Some(Change { name: d.name.clone(), old: d.literal.clone(), new: new.clone() })
        };
        self.dimensions.iter().filter_map(change).collect()
    }

    /// The source with `literals` in place of its own.
    pub fn edit(&self, literals: &Literals) -> String {
        let mut text = String::with_capacity(self.source.len() + 64);
        let mut at = 0;
        for dimension in &self.dimensions {
            if let Some(new) = literals.get(&dimension.name) {
                text.push_str(self.source.get(at..dimension.bytes.start).unwrap_or_default());
                text.push_str(new);
                at = dimension.bytes.end;
            }
        }
        text.push_str(self.source.get(at..).unwrap_or_default());
        text
    }

    /// Coordinates of `literals`; none if one is missing, or is no value of this space.
    pub(crate) fn coordinates(&self, literals: &Literals) -> Option<Vec<f64>> {
        self.dimensions.iter().map(|d| d.coordinate(literals.get(&d.name)?)).collect()
    }
}

/// All literals of `source` that are constants, whether or not they can be varied here.
pub(crate) fn literals_of(source: &str) -> Literals {
    Space::of(source).literals()
}

impl Dimension {
    fn of(source: &str, knob: &Knob) -> Option<Self> {
        let literal = source.get(knob.range.clone())?.to_string();
        let kind = match (&knob.value, &knob.hint) {
            (KnobValue::Int(value), Some(Hint::Range { low, high, log, step })) => {
                ints(*value, *low, *high, *log, *step)?
            }
            (KnobValue::Float(value), Some(Hint::Range { low, high, log, step })) => {
                let scale = match log {
                    true => Scale::Log,
                    // Close to 1 only the distance to 1 matters.
                    false if *low >= 0.5 && *high < 1.0 => Scale::Complement,
                    false => Scale::Linear,
                };
                Kind::Float { low: low.min(*value), high: high.max(*value), scale, step: *step }
            }
            (_, Some(Hint::OneOf(choices))) => choice(&literal, choices)?,
            (KnobValue::Int(value), None) => guess_ints(*value)?,
            (KnobValue::Float(value), None) => guess_float(*value)?,
            (KnobValue::Bool(_), _) => choice(&literal, &["False".into(), "True".into()])?,
            (KnobValue::Text(_), _) => return None,
        };
        Some(Self { name: knob.name.clone(), bytes: knob.range.clone(), literal, kind })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Number of unordered choices; none where values are ordered.
    pub(crate) fn choices(&self) -> Option<usize> {
        match &self.kind {
            Kind::Choice { literals } => Some(literals.len()),
            _ => None,
        }
    }

    /// Place of `literal`: 0 to 1 over the range for numbers, the index for choices.
    pub(crate) fn coordinate(&self, literal: &str) -> Option<f64> {
        let place = |value: f64, low: f64, high: f64, scale: Scale| {
            let (low, high) = (scale.to(low), scale.to(high));
            (high > low).then(|| ((scale.to(value) - low) / (high - low)).clamp(-1.0, 2.0))
        };
        let number = || literal.parse::<f64>().ok().filter(|value| value.is_finite());
        match &self.kind {
            Kind::Float { low, high, scale, .. } => place(number()?, *low, *high, *scale),
            Kind::Int { levels, scale } => place(number()?, *levels.first()? as f64, *levels.last()? as f64, *scale),
            Kind::Choice { literals } => literals.iter().position(|known| known == literal).map(|i| i as f64),
        }
    }

    /// The literal nearest to a place from 0 to 1.
    fn literal_at(&self, place: f64) -> Option<String> {
        let place = place.clamp(0.0, 1.0);
        match &self.kind {
            Kind::Float { low, high, scale, step } => {
                let (from, to) = (scale.to(*low), scale.to(*high));
                let mut value = scale.from(from + place * (to - from)).clamp(*low, *high);
                if let Some(step) = step {
                    value = (low + libm::round((value - low) / step) * step).min(*high);
                }
                let digits = if step.is_some() { 4.. } else { 2.. };
                // Rounding must not leave the range: 0.999 is no 1.0.
                let inside = |text: &String| text.parse().is_ok_and(|value| (*low..=*high).contains(&value));
                digits.take(8).map(|digits| float_literal(value, *scale, digits)).find(inside)
            }
            Kind::Int { levels, scale } => {
                let (low, high) = (*levels.first()? as f64, *levels.last()? as f64);
                let wanted = scale.from(scale.to(low) + place * (scale.to(high) - scale.to(low)));
                let near = levels.iter().min_by(|a, b| {
                    let away = |level: &i64| (scale.to(*level as f64) - scale.to(wanted)).abs();
                    away(a).total_cmp(&away(b))
                });
                near.map(i64::to_string)
            }
            Kind::Choice { literals } => {
                literals.get(libm::round(place * (literals.len().saturating_sub(1)) as f64) as usize).cloned()
            }
        }
    }

    /// Another literal: near `literal` most of the time, anywhere now and then.
    pub(crate) fn vary(&self, literal: &str, random: &mut Random) -> Option<String> {
        if let Kind::Choice { literals } = &self.kind {
            let others: Vec<&String> = literals.iter().filter(|known| *known != literal).collect();
            return others.get(random.below(others.len())).map(|other| (*other).clone());
        }
        let place = self.coordinate(literal)?;
        for _ in 0..8 {
            let to = if random.chance(0.25) { random.unit() } else { place + 0.2 * random.normal() };
            let varied = self.literal_at(to)?;
            if varied != literal {
                return Some(varied);
            }
        }
        self.nudge(literal, random.chance(0.5), 0.2)
    }

    /// The literal a good way up or down, or on to the next one where levels are far apart.
    pub(crate) fn nudge(&self, literal: &str, up: bool, by: f64) -> Option<String> {
        let sign = if up { 1.0 } else { -1.0 };
        match &self.kind {
            Kind::Choice { literals } => {
                let at = literals.iter().position(|known| known == literal)?;
                let step = if up { 1 } else { literals.len().saturating_sub(1) };
                literals.get((at + step) % literals.len().max(1)).filter(|other| *other != literal).cloned()
            }
            Kind::Int { levels, .. } => {
                let moved = self.literal_at(self.coordinate(literal)? + sign * by)?;
                if moved != literal {
                    return Some(moved);
                }
                let value: i64 = literal.parse().ok()?;
                let next = if up {
                    levels.iter().find(|level| **level > value)
                } else {
                    levels.iter().rev().find(|level| **level < value)
                };
                next.map(i64::to_string)
            }
            Kind::Float { .. } => {
                self.literal_at(self.coordinate(literal)? + sign * by).filter(|moved| moved != literal)
            }
        }
    }
}

/// Choices as literals, the present one among them.
fn choice(literal: &str, choices: &[String]) -> Option<Kind> {
    let quote = literal.chars().next().filter(|c| matches!(c, '"' | '\''));
    let quoted = |choice: &String| match quote {
        Some(quote) if !choice.starts_with(['"', '\'']) => format!("{quote}{choice}{quote}"),
        _ => choice.clone(),
    };
    let mut literals: Vec<String> = choices.iter().map(quoted).collect();
    if !literals.iter().any(|known| known == literal) {
        literals.push(literal.to_string());
    }
    (literals.len() > 1).then_some(Kind::Choice { literals })
}

fn ints(value: i64, low: f64, high: f64, log: bool, step: Option<f64>) -> Option<Kind> {
    let step = step.unwrap_or(1.0).max(1.0);
    // A range of many levels is thinned; the search needs no finer ones.
    let step = step.max(libm::ceil((high - low) / LEVELS_MAX as f64));
    let mut levels: Vec<i64> = (0..=LEVELS_MAX)
        .map(|i| low + i as f64 * step)
        .take_while(|level| *level <= high)
        .map(|level| libm::round(level) as i64)
        .collect();
    levels.push(value);
    levels.sort_unstable();
    levels.dedup();
    let scale = if log && levels.first().is_some_and(|low| *low > 0) { Scale::Log } else { Scale::Linear };
    (levels.len() > 1).then_some(Kind::Int { levels, scale })
}

fn guess_ints(value: i64) -> Option<Kind> {
    if !(1..=1 << 32).contains(&value) {
        return None;
    }
    let mut levels: Vec<i64> = INT_FACTORS
        .iter()
        .filter(|(times, by)| (value * times) % by == 0 || value < 8)
        .map(|(times, by)| (value * times / by).max(1))
        .collect();
    levels.sort_unstable();
    levels.dedup();
    (levels.len() > 1).then_some(Kind::Int { levels, scale: Scale::Log })
}

fn guess_float(value: f64) -> Option<Kind> {
    let float = |low, high, scale| Some(Kind::Float { low, high, scale, step: None });
    if value == 0.0 {
        return float(0.0, 0.5, Scale::Linear);
    }
    if !(1e-30..=1e30).contains(&value) {
        return None;
    }
    if (0.6..1.0).contains(&value) {
        let away = 1.0 - value;
        return float(1.0 - (away * 4.0).min(0.5), 1.0 - away / FLOAT_REACH, Scale::Complement);
    }
    float(value / FLOAT_REACH, value * FLOAT_REACH, Scale::Log)
}

/// A Python float of few significant digits (of the distance to 1, on the complement's scale): short
/// to read, and cheap where literals are limited.
fn float_literal(value: f64, scale: Scale, digits: usize) -> String {
    let text = match scale {
        Scale::Complement => {
            let away = short(1.0 - value, digits);
            // Rounded on the digits that the distance has, so that no tail of nines appears.
            let places = (digits as f64 - 1.0 - libm::floor(libm::log10(away.max(1e-12)))).max(1.0) as usize;
            format!("{:.*}", places.min(14), 1.0 - away).trim_end_matches('0').to_string()
        }
        Scale::Linear | Scale::Log => {
            let value = short(value, digits);
            if value == 0.0 || (1e-4..1e6).contains(&value.abs()) { format!("{value}") } else { format!("{value:e}") }
        }
    };
    match text.strip_suffix('.') {
        Some(whole) => format!("{whole}.0"),
        None if text.contains(['.', 'e']) => text,
        None => format!("{text}.0"),
    }
}

/// `value` rounded to so many significant decimal digits.
fn short(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits.saturating_sub(1)).parse().unwrap_or(value)
}
