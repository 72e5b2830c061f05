//! `cairn id`, `cairn store`, `cairn completions`: housekeeping.

use std::io::Write;
use std::time::Instant;

use clap::CommandFactory;
use serde_json::json;

use crate::cli::{Cli, Store};
use crate::context::Context;
use crate::format;
use crate::output::Tone;

pub(crate) fn id(context: &Context) -> anyhow::Result<()> {
    let keys = context.home.keys();
    context.home.create()?;
    let (peer, author, verifier) = (keys.peer()?.public(), keys.author()?.public(), keys.verifier()?.public());
    let ui = &context.ui;
    ui.object(&json!({ "home": context.home.root(), "peer": peer, "author": author, "verifier": verifier }));
    ui.result(format!("peer      {}", ui.paint(Tone::Name, peer.to_string())));
    ui.result(format!("author    {}", ui.paint(Tone::Name, author.to_string())));
    ui.result(format!("verifier  {}", ui.paint(Tone::Name, verifier.to_string())));
    ui.note(format!("secret keys: {}", context.home.root().join("keys").display()));
    Ok(())
}

pub(crate) fn store(context: &Context, command: &Store) -> anyhow::Result<()> {
    let started = Instant::now();
    let done = match command {
        Store::Check => {
            let store = context.home.reader()?;
            store.check()?;
            let (mut blobs, mut missing) = (0, 0);
            for track in store.tracks()? {
                for data in &track.data {
                    // Reading hashes every byte.
                    match store.blobs().get(data.blob)? {
                        Some(_) => blobs += 1,
                        None => missing += 1,
                    }
                }
            }
            context.ui.object(&json!({
                "ok": true,
                "tracks": store.tracks()?.len(),
                "blobs": blobs,
                "blobs_missing": missing,
                "seconds": format::seconds(started.elapsed()),
            }));
            "the database, every chain and every data file are whole"
        }
        Store::Rebuild => {
            // Only what is there can be rebuilt.
            drop(context.home.reader()?);
            context.home.writer()?.rebuild()?;
            context.ui.object(&json!({ "ok": true, "seconds": format::seconds(started.elapsed()) }));
            "the leaderboards are derived anew from the chains"
        }
    };
    context.ui.result(format!("{} {done}", context.ui.paint(Tone::Good, "ok:")));
    Ok(())
}

pub(crate) fn completions(shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cairn", &mut script);
    // A closed pipe is no error.
    let _ = std::io::stdout().lock().write_all(&script);
}
