//! What happened in a demo, as its processes told it.

use serde_json::Value;

use super::process::Role;
use crate::format;

/// The try that came nearest to a claim.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Best {
    pub(super) summary: String,
    /// Metric − (record − margin) at that time, in nats: negative is good enough.
    pub(super) short: f64,
    pub(super) metric: f64,
}

/// Counts and the best of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Story {
    pub(super) tries: u64,
    pub(super) claims: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) best: Option<Best>,
    /// Why the last claim came to nothing.
    pub(super) last_failure: Option<String>,
}

impl Story {
    /// Takes an event of a process. What the chain says counts once: from the observer.
    pub(super) fn take(&mut self, role: Role, event: &Value) {
        let text = |field: &str| format::plain(event.get(field).and_then(Value::as_str).unwrap_or(""));
        match (role, event.get("event").and_then(Value::as_str).unwrap_or("")) {
            (Role::Worker, "tried") => {
                self.tries += 1;
                let number = |field: &str| event.get(field).and_then(Value::as_f64);
                if let (Some(short), Some(metric)) = (number("short"), number("metric"))
                    && self.best.as_ref().is_none_or(|best| short < best.short)
                {
                    self.best = Some(Best { summary: text("summary"), short, metric });
                }
            }
            (Role::Worker, "claimed") => self.claims += 1,
            (Role::Worker, "gave_up") => self.last_failure = Some(text("why")),
            (Role::Observer, "accepted") => self.accepted += 1,
            (Role::Observer, "refused") => {
                self.refused += 1;
                self.last_failure = Some(text("why"));
            }
            _ => {}
        }
    }

    /// Whether people want to read this line of this process.
    pub(super) fn worth_showing(role: Role, event: &Value) -> bool {
        let name = event.get("event").and_then(Value::as_str).unwrap_or("");
        match role {
            Role::Worker => matches!(name, "tried" | "proposed" | "running" | "claimed" | "gave_up" | "trouble"),
            Role::Verifier => matches!(name, "judged" | "unsound" | "trouble"),
            Role::Observer => matches!(name, "queued" | "accepted" | "refused" | "trouble"),
        }
    }

    /// Why there is no entry.
    pub(super) fn why_nothing(&self, margin: f64) -> String {
        let claims = match (self.claims, &self.last_failure) {
            (0, None) => String::new(),
            (0, Some(why)) => format!("; a claim was given up: {why}"),
            (claims, None) => format!("; {} not settled in time", format::count(claims, "claim was", "claims were")),
            (claims, Some(why)) => {
                format!("; {}, the last one failed: {why}", format::count(claims, "claim", "claims"))
            }
        };
        match &self.best {
            None if self.tries == 0 => format!("no try came to its end in this time{claims}"),
            None => format!("none of {} tries ended with a metric{claims}", self.tries),
            Some(best) if best.short > 0.0 => format!(
                "the best of {} ({}: {:.5}) was {:.5} nats short of beating the record by the margin of {margin:.5}{claims}",
                format::count(self.tries, "try", "tries"),
                best.summary,
                best.metric,
                best.short
            ),
            Some(best) => format!(
                "the best of {} ({}: {:.5}) was good enough to be claimed{claims}",
                format::count(self.tries, "try", "tries"),
                best.summary,
                best.metric
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_observer_counts_entries() {
        let mut story = Story::default();
        let accepted = json!({ "event": "accepted" });
        for role in [Role::Worker, Role::Verifier, Role::Observer] {
            story.take(role, &accepted);
        }
        assert_eq!(story.accepted, 1);
    }

    #[test]
    fn the_best_try_explains_why_there_is_no_entry() {
        let mut story = Story::default();
        for (summary, short) in [("LR 1 → 2", 0.2), ("LR 1 → 3", 0.1), ("LR 1 → 4", 0.3)] {
            let tried = json!({ "event": "tried", "summary": summary, "metric": 2.0 + short, "short": short });
            story.take(Role::Worker, &tried);
        }
        let why = story.why_nothing(0.01);
        assert!(why.contains("3 tries") && why.contains("LR 1 → 3") && why.contains("0.10000 nats short"), "{why}");
        story.take(Role::Worker, &json!({ "event": "gave_up", "why": "no tickets" }));
        assert!(story.why_nothing(0.01).ends_with("a claim was given up: no tickets"));
        assert_eq!(Story::default().why_nothing(0.01), "no try came to its end in this time");
    }
}
