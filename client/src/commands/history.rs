//! `cairn log`, `cairn show`, `cairn diff`: what changed, and why.

use std::io::IsTerminal;
use std::path::Path;

use cairn_protocol::chain::Status;
use cairn_protocol::{ChainState, Commit, CommitId, EntryKind, Record, Signed, Track};
use cairn_store::Store;
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use crate::cli::{Diff, Log, Show};
use crate::context::Context;
use crate::failure::Failure;
use crate::ids::{self, Ids, Target};
use crate::output::{Tone, Ui};
use crate::{format, tracks};

pub(crate) fn log(context: &Context, options: &Log) -> anyhow::Result<()> {
    let store = context.home.reader()?;
    let track = tracks::known(&context.home, &store, options.track.as_deref())?;
    let chain = store.chain(track.id())?;
    let ids = Ids::read(&store)?;
    let mut entries = Vec::new();
    let mut from = 1;
    loop {
        let page = store.entries(track.id(), from, usize::MAX)?;
        let Some(last) = page.last() else { break };
        from = last.entry.height.saturating_add(1);
        entries.extend(page.into_iter().map(|certified| certified.entry));
    }
    let wanted = |kind: &EntryKind| options.all || matches!(kind, EntryKind::Accepted { .. });
    let shown = entries.iter().rev().filter(|entry| wanted(&entry.kind)).take(options.max.unwrap_or(usize::MAX));
    let mut any = false;
    for entry in shown {
        any = true;
        let body = match entry.kind.commit() {
            Some(commit) => store.commit(commit)?,
            None => None,
        };
        context.ui.object(&json!({
            "height": entry.height,
            "id": entry.id(),
            "kind": kind_name(&entry.kind),
            "commit": entry.kind.commit(),
            "why": why_json(&entry.kind),
            "title": body.as_ref().map(|commit| commit.body.draft.title.as_str()),
            "author": body.as_ref().map(|commit| commit.body.author()),
            "metric": body.as_ref().map(|commit| format::nats(commit.body.claim().metric)),
        }));
        if !context.ui.json {
            log_entry(&context.ui, &ids, &chain, entry, body.as_ref());
        }
    }
    if !any {
        context.ui.note(format!("{} has no accepted entry yet; --all shows queued and refused commits", track.name));
    }
    Ok(())
}

fn kind_name(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::Queued { .. } => "queued",
        EntryKind::Accepted { .. } => "accepted",
        EntryKind::Refused { .. } => "refused",
        EntryKind::Roster { .. } => "roster",
    }
}

fn why_json(kind: &EntryKind) -> Value {
    match kind {
        EntryKind::Refused { why, .. } => json!(crate::events::refusal(why)),
        _ => Value::Null,
    }
}

fn log_entry(ui: &Ui, ids: &Ids, chain: &ChainState, entry: &cairn_protocol::Entry, body: Option<&Signed<Commit>>) {
    let tone = match entry.kind {
        EntryKind::Accepted { .. } => Tone::Good,
        EntryKind::Refused { .. } => Tone::Bad,
        _ => Tone::Dim,
    };
    let id = ids.shorten(&entry.id().to_string());
    ui.result(format!(
        "{} {} at height {}",
        ui.paint(Tone::Name, format!("entry {id}")),
        ui.paint(tone, kind_name(&entry.kind)),
        entry.height
    ));
    if let EntryKind::Refused { why, .. } = &entry.kind {
        ui.result(format!("Why:    {}", crate::events::refusal(why)));
    }
    let Some(commit) = entry.kind.commit() else {
        ui.result("");
        return;
    };
    ui.result(format!("Commit: {}", ids.shorten(&commit.to_string())));
    let Some(body) = body else {
        ui.result("        (its body is not here)\n");
        return;
    };
    ui.result(format!("Author: {}", body.body.author().short()));
    let credit = chain.accepted().iter().find(|row| row.commit == commit).map(|row| row.credit);
    let credit =
        credit.map_or_else(String::new, |credit| format!(" ({} nats)", format::difference(credit.saturating_neg())));
    ui.result(format!("Metric: {}{credit}", format::metric(body.body.claim().metric)));
    ui.result(format!("\n    {}", format::plain(&body.body.draft.title)));
    for line in body.body.draft.why.lines() {
        ui.result(format!("    {}", format::plain(line)));
    }
    ui.result("");
}

pub(crate) fn show(context: &Context, options: &Show) -> anyhow::Result<()> {
    let store = context.home.reader()?;
    let ids = Ids::read(&store)?;
    let target = ids::target(&context.home, &store, &ids, &options.id, options.track.as_deref())?;
    let source = source(&store, &ids, &target)?;
    if options.source {
        context.ui.object(&json!({ "source": source }));
        // A file or a pipe gets the very bytes; a terminal must not obey what a stranger wrote.
        let bytes = source.trim_end_matches('\n');
        context.ui.result(if std::io::stdout().is_terminal() { format::plain(bytes) } else { bytes.to_string() });
        return Ok(());
    }
    let Some(id) = target.commit else {
        show_baseline(&context.ui, &target.track, &source);
        return Ok(());
    };
    let commit = body(&store, &ids, id)?;
    let chain = store.chain(target.track.id())?;
    let status = chain.status(id);
    let parent = parent_source(&store, &ids, &target.track, &commit)?;
    context.ui.object(&show_json(&target, &commit, status));
    if !context.ui.json {
        show_commit(&context.ui, &ids, &target, &commit, status);
        print_diff(&context.ui, &parent.0, &parent.1, "this", &source);
    }
    Ok(())
}

fn show_baseline(ui: &Ui, track: &Track, source: &str) {
    ui.object(&json!({
        "id": "baseline",
        "track": track.id(),
        "graph": track.baseline.graph,
        "metric": format::nats(track.baseline.metric),
        "test_metric": format::nats(track.baseline.test),
        "author": track.owner,
        "source": source,
    }));
    ui.result(format!("{} of {}", ui.paint(Tone::Name, "baseline"), track.name));
    ui.result(format!("Author: {}", track.owner.short()));
    ui.result(format!("Metric: {}\n", format::metric(track.baseline.metric)));
    ui.result(format::plain(source.trim_end_matches('\n')));
}

fn show_json(target: &Target, commit: &Signed<Commit>, status: Option<Status>) -> Value {
    let (body, draft) = (&commit.body, &commit.body.draft);
    json!({
        "id": target.entry,
        "commit": commit.id(),
        "track": target.track.id(),
        "status": status_name(status),
        "why_refused": match status {
            Some(Status::Refused(why)) => json!(crate::events::refusal(&why)),
            _ => Value::Null,
        },
        "author": body.author(),
        "parent": draft.parent.map_or(json!("baseline"), |parent| json!(parent)),
        "title": draft.title.as_str(),
        "why": draft.why.as_str(),
        "researcher": draft.researcher.kind.as_str(),
        "effort": body.effort,
        "graph": draft.graph,
        "metric": format::nats(body.claim().metric),
        "metric_units": body.claim().metric,
        "test_metric": format::nats(body.claim().test),
        "runs": body.seeds().iter().zip(body.runs.iter()).map(|(seed, run)| json!({
            "seed": seed,
            "metric": format::nats(run.metric),
            "metric_units": run.metric,
            "test_metric": format::nats(run.test),
            "leaves": run.leaves,
        })).collect::<Vec<Value>>(),
        "source": draft.source.as_str(),
    })
}

fn status_name(status: Option<Status>) -> &'static str {
    match status {
        None => "revealed",
        Some(Status::Queued) => "queued",
        Some(Status::Accepted) => "accepted",
        Some(Status::Refused(_)) => "refused",
    }
}

fn show_commit(ui: &Ui, ids: &Ids, target: &Target, commit: &Signed<Commit>, status: Option<Status>) {
    let (body, draft) = (&commit.body, &commit.body.draft);
    let id = ids.shorten(&commit.id().to_string());
    ui.result(format!("{} of {}", ui.paint(Tone::Name, format!("commit {id}")), target.track.name));
    let place = target.entry.map_or_else(String::new, |entry| format!(", entry {}", ids.shorten(&entry.to_string())));
    ui.result(format!("Status: {}{place}", status_name(status)));
    if let Some(Status::Refused(why)) = status {
        ui.result(format!("Why:    {}", crate::events::refusal(&why)));
    }
    ui.result(format!("Author: {} ({})", body.author().short(), format::plain(&draft.researcher.kind)));
    ui.result(format!("Effort: {} runs, as the author says", body.effort));
    ui.result(format!(
        "Metric: {} nats, worst of {}; test {}",
        ui.paint(Tone::Bold, format::metric(body.claim().metric)),
        body.runs.len(),
        format::metric(body.claim().test)
    ));
    for (seed, run) in body.seeds().iter().zip(body.runs.iter()) {
        ui.result(format!(
            "        seed {}: {}, test {}",
            seed.short(),
            format::metric(run.metric),
            format::metric(run.test)
        ));
    }
    ui.result(format!("\n    {}", format::plain(&draft.title)));
    for line in draft.why.lines() {
        ui.result(format!("    {}", format::plain(line)));
    }
    ui.result("");
}

pub(crate) fn diff(context: &Context, options: &Diff) -> anyhow::Result<()> {
    let (old, new) = match &options.b {
        Some(b) => (side(context, &options.a, options)?, side(context, b, options)?),
        None => {
            let store = context.home.reader()?;
            let ids = Ids::read(&store)?;
            let target = ids::target(&context.home, &store, &ids, &options.a, options.track.as_deref())?;
            let Some(id) = target.commit else {
                return Err(Failure::usage(
                    "the baseline has no parent",
                    "name what to compare it with: cairn diff baseline ID",
                ));
            };
            let commit = body(&store, &ids, id)?;
            let parent = parent_source(&store, &ids, &target.track, &commit)?;
            (parent, (ids.shorten(&id.to_string()), source(&store, &ids, &target)?))
        }
    };
    context.ui.object(&json!({
        "a": old.0,
        "b": new.0,
        "equal": old.1 == new.1,
        "diff": TextDiff::from_lines(&old.1, &new.1).unified_diff().header(&old.0, &new.0).to_string(),
    }));
    if !context.ui.json {
        print_diff(&context.ui, &old.0, &old.1, &new.0, &new.1);
    }
    Ok(())
}

/// Name and source of one side: a file, `baseline`, or an id.
fn side(context: &Context, named: &str, options: &Diff) -> anyhow::Result<(String, String)> {
    if Path::new(named).is_file() {
        return Ok((named.to_string(), std::fs::read_to_string(named)?));
    }
    if named == "baseline"
        && let Some(track) = options.track.as_deref()
        && let Some(track) = tracks::offline(track)?
    {
        return Ok(("baseline".into(), track.program));
    }
    let store = context.home.reader()?;
    let ids = Ids::read(&store)?;
    let target = ids::target(&context.home, &store, &ids, named, options.track.as_deref())?;
    Ok((named.to_string(), source(&store, &ids, &target)?))
}

fn body(store: &Store, ids: &Ids, id: CommitId) -> anyhow::Result<Signed<Commit>> {
    store.commit(id)?.ok_or_else(|| {
        Failure::advice(
            format!("the body of commit {} is not here", ids.shorten(&id.to_string())),
            "run `cairn node --observe --peer ADDRESS` for a moment: it fetches bodies from its peers",
        )
    })
}

fn source(store: &Store, ids: &Ids, target: &Target) -> anyhow::Result<String> {
    match target.commit {
        None => Ok(target.track.baseline.source.to_string()),
        Some(id) => Ok(body(store, ids, id)?.body.draft.source.to_string()),
    }
}

/// Name and source of the program that a commit started from.
fn parent_source(store: &Store, ids: &Ids, track: &Track, commit: &Signed<Commit>) -> anyhow::Result<(String, String)> {
    match commit.body.draft.parent {
        None => Ok(("baseline".into(), track.baseline.source.to_string())),
        Some(parent) => Ok((ids.shorten(&parent.to_string()), body(store, ids, parent)?.body.draft.source.to_string())),
    }
}

/// A unified diff, with colours where they are wanted.
fn print_diff(ui: &Ui, old_name: &str, old: &str, new_name: &str, new: &str) {
    let diff = TextDiff::from_lines(old, new);
    ui.result(ui.paint(Tone::Bold, format!("--- {old_name}")));
    ui.result(ui.paint(Tone::Bold, format!("+++ {new_name}")));
    if old == new {
        ui.note("no difference");
    }
    for hunk in diff.unified_diff().iter_hunks() {
        ui.result(ui.paint(Tone::Name, hunk.header().to_string()));
        for change in hunk.iter_changes() {
            let line = format::plain(change.value().trim_end_matches('\n'));
            ui.result(match change.tag() {
                ChangeTag::Delete => ui.paint(Tone::Bad, format!("-{line}")),
                ChangeTag::Insert => ui.paint(Tone::Good, format!("+{line}")),
                ChangeTag::Equal => format!(" {line}"),
            });
        }
    }
}
