//! `cairn track open`: the record of a track, stored with its data in the home.

use std::path::Path;

use cairn_protocol::{AuthorKey, Track, VerifierKey};
use cairn_store::Store;
use serde_json::json;

use crate::cli::Open;
use crate::context::Context;
use crate::format;
use crate::jobs::{self, Program};
use crate::output::Tone;
use crate::tracks::{self, Definition, Rules};

pub(crate) fn run(context: &Context, options: &Open) -> anyhow::Result<()> {
    let definition = match tracks::offline(&options.dir)? {
        Some(definition) => definition,
        None => Definition::folder(Path::new(&options.dir))?,
    };
    let owner = match options.owner {
        Some(owner) => owner,
        None => context.home.keys().author()?.public(),
    };
    let track = record(context, &definition, owner, &options.roster)?;
    let id = store(&mut context.home.writer()?, &track, &definition)?;
    let ui = &context.ui;
    ui.object(&json!({
        "track": id,
        "name": track.name.as_str(),
        "owner": owner,
        "roster": track.roster,
        "baseline": format::nats(track.baseline.metric),
        "margin": format::nats(track.margin),
    }));
    ui.result(ui.paint(Tone::Name, id.to_string()));
    ui.note(format!(
        "{} is open here with {}; others fetch it from you:\n  cairn verifier --track {id} --peer ADDRESS",
        track.name,
        format::count(track.roster.len() as u64, "verifier", "verifiers")
    ));
    Ok(())
}

/// The record of a track.
pub(crate) fn record(
    context: &Context,
    definition: &Definition,
    owner: AuthorKey,
    roster: &[VerifierKey],
) -> anyhow::Result<Track> {
    definition.data_spec()?;
    let rules = Rules::of_definition(definition, &context.home)?;
    let file = definition.place.join("train.py").display().to_string();
    let program = Program { file, source: definition.program.clone() };
    let traced = jobs::trace(context, &rules, &program, None)?;
    definition.record(traced.graph, owner, roster)
}

/// Stores the record and its data; the track's id.
pub(crate) fn store(
    store: &mut Store,
    track: &Track,
    definition: &Definition,
) -> anyhow::Result<cairn_protocol::TrackId> {
    // The data first: a record without them could not be served.
    store.blobs().put(&definition.data()?)?;
    Ok(store.put_track(track)?)
}
