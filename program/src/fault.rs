//! A refusal on its way out: what is known inside, before the source is at hand.

use crate::diagnostic::Kind;

/// Bytes of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// A refusal; the innermost expression that knows its place fills it in.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) at: Option<Span>,
}

/// What everything in the front end returns.
pub(crate) type Outcome<T> = Result<T, Box<Fault>>;

impl Fault {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { kind, message: message.into(), hint: None, at: None })
    }

    pub(crate) fn hint(mut self: Box<Self>, hint: impl Into<String>) -> Box<Self> {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Sets the place, unless something further inside has.
    pub(crate) fn at(mut self: Box<Self>, span: Span) -> Box<Self> {
        self.at.get_or_insert(span);
        self
    }
}

/// A refusal as a result.
pub(crate) fn fail<T>(kind: Kind, message: impl Into<String>) -> Outcome<T> {
    Err(Fault::new(kind, message))
}

/// A refusal with a hint, as a result.
pub(crate) fn fail_hint<T>(kind: Kind, message: impl Into<String>, hint: impl Into<String>) -> Outcome<T> {
    Err(Fault::new(kind, message).hint(hint))
}

/// The candidate that `name` was probably meant to be: at most a third of it differs.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= allowed && candidate != name)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edit distance with swaps of neighbours, of at most 40 characters of each.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().take(40).collect();
    let b: Vec<char> = b.to_lowercase().chars().take(40).collect();
    let (mut older, mut old): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for (i, x) in a.iter().enumerate() {
        let mut new = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut cost = (old[j] + usize::from(x != y)).min(old[j + 1] + 1).min(new[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                cost = cost.min(older[j - 1] + 1);
            }
            new.push(cost);
        }
        older = std::mem::replace(&mut old, new);
    }
    old.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_found_and_nothing_far() {
        let names = ["softmax", "softplus", "reshape", "param"];
        assert_eq!(nearest("sofmax", names), Some("softmax"));
        assert_eq!(nearest("resahpe", names), Some("reshape"));
        assert_eq!(nearest("Param", names), Some("param"));
        assert_eq!(nearest("gelu", names), None);
    }
}
