//! `cairn tracks`, `cairn join`, `cairn leave`: which track is meant.

use cairn_protocol::{Record, TrackId};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::cli::{Join, Leave};
use crate::context::Context;
use crate::failure::Failure;
use crate::format;
use crate::home::Config;
use crate::output::Tone;
use crate::tracks::{self, Definition};

pub(crate) fn list(context: &Context) -> anyhow::Result<()> {
    let ui = &context.ui;
    let joined = context.home.config()?.joined;
    let mut known = Vec::new();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["", "track", "id", "record", "entries", "budget", "title"]);
    if let Some(store) = context.home.reader_if_any()? {
        for track in store.tracks()? {
            let rows = store.leaderboard(track.id())?;
            let record = rows.last().map_or(track.baseline.metric, |row| row.metric);
            let mine = joined.contains(&track.id().to_string());
            known.push(json!({
                "id": track.id(),
                "name": track.name.as_str(),
                "title": track.title.as_str(),
                "joined": mine,
                "record": format::nats(record),
                "baseline": format::nats(track.baseline.metric),
                "margin": format::nats(track.margin),
                "entries": rows.len(),
                "tries": store.results_count(track.id())?,
                "budget": track.budget,
                "roster": track.roster,
            }));
            table.add_row([
                if mine { "*".into() } else { String::new() },
                track.name.to_string(),
                track.id().short(),
                format::metric(record),
                rows.len().to_string(),
                format::operations(track.budget),
                format::plain(&track.title),
            ]);
        }
    }
    let mut shipped = Vec::new();
    for track in Definition::shipped_names().filter_map(Definition::shipped) {
        let track = track?;
        shipped.push(json!({
            "name": track.file.name,
            "title": track.file.title,
            "baseline": format::nats(track.file.baseline.metric_units),
            "margin": format::nats(track.file.margin_units),
            "budget": track.file.budget,
        }));
        table.add_row([
            String::new(),
            track.file.name,
            "(shipped)".into(),
            format::metric(track.file.baseline.metric_units),
            "-".into(),
            format::operations(track.file.budget),
            track.file.title,
        ]);
    }
    ui.object(&json!({ "known": known, "shipped": shipped }));
    ui.result(table.trim_fmt());
    if known.is_empty() {
        ui.note("No track is joined here. Shipped tracks can be run at once: cairn run baseline --track names");
    }
    Ok(())
}

pub(crate) fn join(context: &Context, options: &Join) -> anyhow::Result<()> {
    let id = tracks::id(&context.home, Some(&options.track))?.to_string();
    let config = context.home.config()?;
    context.home.create()?;
    let path = context.home.config_path();
    let mut joined = vec![id.clone()];
    joined.extend(config.joined.into_iter().filter(|other| *other != id));
    Config::store_list(&path, "joined", &joined)?;
    let mut peers = config.peers;
    peers.extend(options.peer.iter().filter(|peer| !peers.contains(peer)).cloned().collect::<Vec<_>>());
    if !options.peer.is_empty() {
        Config::store_list(&path, "peers", &peers)?;
    }
    context.ui.object(&json!({ "track": id, "joined": joined, "peers": peers }));
    context.ui.result(format!("joined {}", context.ui.paint(Tone::Name, &id)));
    context.ui.note("`cairn node` now searches for improvements of it");
    Ok(())
}

pub(crate) fn leave(context: &Context, options: &Leave) -> anyhow::Result<()> {
    let mut joined = context.home.config()?.joined;
    let wanted = match &options.track {
        None => joined.first().cloned(),
        // A track whose record never came has an id only.
        Some(named) if named.parse::<TrackId>().is_ok() || joined.iter().any(|id| id.starts_with(named.as_str())) => {
            joined.iter().find(|id| id.starts_with(named.as_str())).cloned()
        }
        Some(named) => Some(tracks::id(&context.home, Some(named))?.to_string()),
    };
    let left = wanted
        .filter(|wanted| joined.contains(wanted))
        .ok_or_else(|| Failure::usage("that track is not joined", "`cairn tracks` marks the joined ones with *"))?;
    joined.retain(|id| *id != left);
    Config::store_list(&context.home.config_path(), "joined", &joined)?;
    let now: Vec<Value> = joined.iter().map(|id| json!(id)).collect();
    context.ui.object(&json!({ "track": left, "joined": now }));
    context.ui.result(format!("left {left}; what is stored here stays"));
    Ok(())
}
