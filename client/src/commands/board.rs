//! `cairn board`: a track's leaderboard.

use cairn_protocol::{Record, Track};
use cairn_store::{BoardRow, Store};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::cli::Board;
use crate::context::Context;
use crate::ids::Ids;
use crate::output::{Tone, Ui};
use crate::{format, tracks};

pub(crate) fn run(context: &Context, options: &Board) -> anyhow::Result<()> {
    let store = context.home.reader()?;
    let track = tracks::known(&context.home, &store, options.track.as_deref())?;
    let rows = store.leaderboard(track.id())?;
    context.ui.object(&value(&track, &rows));
    if !context.ui.json {
        show(&context.ui, &store, &track, &rows)?;
    }
    Ok(())
}

/// The leaderboard with the names that are fixed for it.
pub(crate) fn value(track: &Track, rows: &[BoardRow]) -> Value {
    let head = rows.last();
    json!({
        "track": track.id(),
        "name": track.name.as_str(),
        "head": {
            "id": head.map_or(json!("baseline"), |row| json!(row.entry)),
            "metric": format::nats(head.map_or(track.baseline.metric, |row| row.metric)),
        },
        "baseline": format::nats(track.baseline.metric),
        "margin": format::nats(track.margin),
        "entries": rows.iter().map(|row| json!({
            "height": row.height,
            "id": row.entry,
            "commit": row.commit,
            "author": row.author,
            "metric": format::nats(row.metric),
            "metric_units": row.metric,
            "test_metric": format::nats(row.test),
            "improvement": format::nats(row.improvement),
            "improvement_units": row.improvement,
            "confirmed_by": row.confirmed_by,
        })).collect::<Vec<Value>>(),
    })
}

/// The leaderboard as a table, best last.
pub(crate) fn show(ui: &Ui, store: &Store, track: &Track, rows: &[BoardRow]) -> anyhow::Result<()> {
    let ids = Ids::read(store)?;
    ui.result(format!(
        "{} {} · {} · margin {} nats",
        ui.paint(Tone::Bold, track.name.as_str()),
        ui.paint(Tone::Name, track.id().short()),
        format::count(rows.len() as u64, "entry", "entries"),
        format::metric(track.margin)
    ));
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["height", "entry", "metric", "test", "improved", "author", "confirmed by", "what"]);
    let numbers = [0, 2, 3, 4, 6];
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let baseline = [
        "0".into(),
        "baseline".into(),
        format::metric(track.baseline.metric),
        format::metric(track.baseline.test),
        String::new(),
        track.owner.short(),
        String::new(),
        "the owner's program".into(),
    ];
    table.add_row(baseline);
    for row in rows {
        let title =
            store.commit(row.commit)?.map_or_else(String::new, |commit| format::plain(&commit.body.draft.title));
        table.add_row([
            row.height.to_string(),
            ids.shorten(&row.entry.to_string()),
            format::metric(row.metric),
            format::metric(row.test),
            format::difference(row.improvement.saturating_neg()),
            row.author.short(),
            row.confirmed_by.to_string(),
            title,
        ]);
    }
    ui.result(table.trim_fmt());
    Ok(())
}
