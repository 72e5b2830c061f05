//! What nodes and verifiers tell, as JSON (`docs/guide/json.md`) and as lines for people.
//!
//! *Invariant:* every event has the field `event`; metrics are floats in nats, and differences lower is better.

use cairn_node::event::{Event as NodeEvent, GpuStatus};
use cairn_protocol::{Claim, Item, Refusal, ReportStatus};
use cairn_verifier::Event as VerifierEvent;
use serde_json::{Value, json};

use crate::format;

/// Why a commit was refused, in words.
pub(crate) fn refusal(why: &Refusal) -> String {
    match why {
        Refusal::NotARecord => "it does not beat the record by the margin".into(),
        Refusal::TestWorse => "its test metric is worse than the record's by more than the margin".into(),
        Refusal::Refuted(item) => format!("refuted: {}", name(item)),
        Refusal::Skipped(item) => format!("could not be verified: {}", name(item)),
    }
}

fn name(item: &Item) -> String {
    match item {
        Item::Segment { seed, segment } => format!("seed {seed}, segment {segment}"),
        Item::Evaluation { seed } => format!("evaluation of seed {seed}"),
    }
}

fn status(status: &ReportStatus) -> &'static str {
    match status {
        ReportStatus::Done => "done",
        ReportStatus::Stopped => "stopped",
        ReportStatus::Diverged => "diverged",
        ReportStatus::Refused => "refused",
    }
}

fn gpu_status(status: GpuStatus) -> &'static str {
    match status {
        GpuStatus::None => "none",
        GpuStatus::Examining => "examining",
        GpuStatus::Passed => "passed",
        GpuStatus::Failed => "failed",
        GpuStatus::Used => "used",
        GpuStatus::Slower => "slower",
        GpuStatus::Trouble => "trouble",
        GpuStatus::Demoted => "demoted",
    }
}

fn claimed(claim: &Claim) -> Value {
    json!({ "metric": format::nats(claim.metric), "metric_units": claim.metric, "test_metric": format::nats(claim.test) })
}

/// An object with the event's name first.
fn event(name: &str, fields: Value) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("event".into(), name.into());
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object)
}

/// A node's event.
pub(crate) fn node(told: &NodeEvent) -> Value {
    match told {
        NodeEvent::Peers { connected } => event("peers", json!({ "connected": connected })),
        NodeEvent::Synced { height } => event("synced", json!({ "height": height })),
        NodeEvent::Trying { summary } => event("trying", json!({ "summary": summary })),
        NodeEvent::Tried { summary, status: ended, metric, short, seed, note, took_ms } => event(
            "tried",
            json!({
                "summary": summary,
                "status": status(ended),
                "metric": metric.map(format::nats),
                "short": short.map(format::nats),
                "seed": seed,
                "note": note,
                "seconds": *took_ms as f64 / 1000.0,
            }),
        ),
        NodeEvent::Proposed { proposal, title, attempt } => {
            event("proposed", json!({ "proposal": proposal, "title": title, "attempt": attempt }))
        }
        NodeEvent::Running { proposal, title } => event("running", json!({ "proposal": proposal, "title": title })),
        NodeEvent::Claimed { commit, title, claim, record } => event(
            "claimed",
            json!({ "commit": commit, "title": title, "claim": claimed(claim), "record": claimed(record) }),
        ),
        NodeEvent::GaveUp { proposal, graph, why } => {
            event("gave_up", json!({ "proposal": proposal, "graph": graph, "why": why }))
        }
        NodeEvent::Queued { commit, height, claim, mine } => {
            event("queued", json!({ "commit": commit, "height": height, "claim": claimed(claim), "mine": mine }))
        }
        NodeEvent::Accepted { commit, height, claim, credit, mine } => event(
            "accepted",
            json!({
                "commit": commit,
                "height": height,
                "claim": claimed(claim),
                "improvement": format::nats(*credit),
                "mine": mine,
            }),
        ),
        NodeEvent::Refused { commit, height, why, mine } => {
            event("refused", json!({ "commit": commit, "height": height, "why": refusal(why), "mine": mine }))
        }
        NodeEvent::Gpu { name, status, says } => {
            event("gpu", json!({ "name": name, "status": gpu_status(*status), "says": says }))
        }
        NodeEvent::Trouble(what) => event("trouble", json!({ "what": what })),
    }
}

/// A verifier's event.
pub(crate) fn verifier(told: &VerifierEvent) -> Value {
    match told {
        VerifierEvent::Ticketed { proposal, author } => {
            event("ticketed", json!({ "proposal": proposal, "author": author }))
        }
        VerifierEvent::Revealed { commit, author, claim } => {
            event("revealed", json!({ "commit": commit, "author": author, "claim": claimed(claim) }))
        }
        VerifierEvent::Unsound { commit, why } => event("unsound", json!({ "commit": commit, "why": why })),
        VerifierEvent::Queued { commit, height } => event("queued", json!({ "commit": commit, "height": height })),
        VerifierEvent::Replaying { commit } => event("replaying", json!({ "commit": commit })),
        VerifierEvent::Judged { commit, good, bad, cannot } => {
            event("judged", json!({ "commit": commit, "good": good, "bad": bad, "cannot": cannot }))
        }
        VerifierEvent::Accepted { commit, height, claim, credit } => event(
            "accepted",
            json!({ "commit": commit, "height": height, "claim": claimed(claim), "improvement": format::nats(*credit) }),
        ),
        VerifierEvent::Refused { commit, height, why } => {
            event("refused", json!({ "commit": commit, "height": height, "why": refusal(why) }))
        }
    }
}

/// Where a process listens.
pub(crate) fn listening(address: &str) -> Value {
    event("listening", json!({ "address": address }))
}

/// How many peers a process has.
pub(crate) fn peers(connected: usize) -> Value {
    event("peers", json!({ "connected": connected }))
}

/// Something went wrong and will be tried again.
pub(crate) fn trouble(what: &str) -> Value {
    event("trouble", json!({ "what": what }))
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The words.
    pub(crate) text: String,
    /// Good news, bad news, or neither.
    pub(crate) good: Option<bool>,
    /// Whether it replaces the last one of its kind on a terminal instead of staying.
    pub(crate) passing: bool,
}

/// An event as a line for people.
///
/// It is written from the JSON, so that whoever starts processes and listens to them shows the same words.
pub(crate) fn line(event: &Value) -> Line {
    let text = |field: &str| format::plain(event.get(field).and_then(Value::as_str).unwrap_or(""));
    let short = |field: &str| text(field).chars().take(8).collect::<String>();
    let whole = |field: &str| event.get(field).and_then(Value::as_u64).unwrap_or(0);
    let number = |value: Option<&Value>| value.and_then(Value::as_f64);
    let claim = || number(event.pointer("/claim/metric")).map_or_else(String::new, |metric| format!("{metric:.5}"));
    let stays = |text: String| Line { text, good: None, passing: false };
    let passes = |text: String| Line { text, good: None, passing: true };
    match event.get("event").and_then(Value::as_str).unwrap_or("") {
        "listening" => stays(format!("listens on {}", text("address"))),
        "peers" => passes(format!("has {}", format::count(whole("connected"), "peer", "peers"))),
        "synced" => passes(format!("knows the chain up to height {}", whole("height"))),
        "trying" => passes(format!("tries {}", text("summary"))),
        "tried" => {
            let result = match (number(event.get("metric")), number(event.get("short"))) {
                (Some(metric), Some(short)) if short <= 0.0 => format!("{metric:.5}, good enough for a claim"),
                (Some(metric), Some(short)) => format!("{metric:.5}, {short:.5} short"),
                (Some(metric), None) => format!("{metric:.5}"),
                (None, _) => text("status"),
            };
            let note = if text("note").is_empty() { String::new() } else { format!(" ({})", text("note")) };
            stays(format!("tried {}: {result}{note}", text("summary")))
        }
        "proposed" => stays(format!("asks for official seeds: {}", text("title"))),
        "running" => stays(format!("runs officially: {}", text("title"))),
        "claimed" => stays(format!("claims {} with commit {}: {}", claim(), short("commit"), text("title"))),
        "gave_up" => Line { text: format!("gives its claim up: {}", text("why")), good: Some(false), passing: false },
        "ticketed" => stays(format!("signs a ticket for {}", short("author"))),
        "revealed" => stays(format!("sees commit {} claim {}", short("commit"), claim())),
        "unsound" => Line {
            text: format!("finds commit {} unsound: {}", short("commit"), text("why")),
            good: Some(false),
            passing: false,
        },
        "queued" => stays(format!("sees commit {} queued at height {}", short("commit"), whole("height"))),
        "replaying" => stays(format!("replays commit {}", short("commit"))),
        "judged" => {
            let (good, bad, cannot) = (whole("good"), whole("bad"), whole("cannot"));
            let words = match (bad, cannot) {
                (0, 0) => format!("confirms commit {}: all {good} items agree in every bit", short("commit")),
                _ => format!("judges commit {}: {good} good, {bad} bad, {cannot} not checked", short("commit")),
            };
            Line { text: words, good: Some(bad == 0 && cannot == 0), passing: false }
        }
        "accepted" => {
            let better = number(event.get("improvement")).unwrap_or(0.0);
            Line {
                text: format!("new record {} ({better:.5} better) by commit {}", claim(), short("commit")),
                good: Some(true),
                passing: false,
            }
        }
        "refused" => Line {
            text: format!("commit {} is refused: {}", short("commit"), text("why")),
            good: Some(false),
            passing: false,
        },
        "gpu" => {
            let name = text("name");
            let good = match event.get("status").and_then(Value::as_str) {
                Some("passed" | "used") => Some(true),
                Some("failed" | "demoted" | "trouble") => Some(false),
                _ => None,
            };
            let says = text("says");
            let words = if name.is_empty() { says } else { format!("GPU {name}: {says}") };
            Line { text: words, good, passing: false }
        }
        "trouble" => Line { text: text("what"), good: Some(false), passing: false },
        other => stays(format::plain(other)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cairn_protocol::CommitId;

    use super::*;

    #[test]
    fn an_event_has_its_name_first_and_reads_well() {
        let claim = Claim { metric: 35_651_584, test: 35_651_584 };
        let told = NodeEvent::Accepted { commit: CommitId([0xab; 32]), height: 2, claim, credit: 167_772, mine: true };
        let value = node(&told);
        assert!(value.to_string().starts_with(r#"{"event":"accepted","commit":"abab"#), "{value}");
        assert_eq!(value["claim"]["metric_units"], 35_651_584);
        let line = line(&value);
        assert_eq!(line.text, "new record 2.12500 (0.01000 better) by commit abababab");
        assert_eq!((line.good, line.passing), (Some(true), false));
    }

    #[test]
    fn a_stranger_cannot_write_to_the_terminal() {
        let line =
            line(&json!({ "event": "claimed", "title": "\u{1b}[2J", "commit": "00", "claim": { "metric": 1.0 } }));
        assert!(!line.text.contains('\u{1b}'), "{:?}", line.text);
    }
}
