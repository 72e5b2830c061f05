//! `cairn track`: a track of one's own.

mod calibrate;
mod check;
mod open;
mod statistics;

use crate::cli::Track;
use crate::context::Context;

pub(crate) fn run(context: &Context, command: &Track) -> anyhow::Result<()> {
    match command {
        Track::Check { dir } => check::run(context, dir),
        Track::Calibrate(options) => calibrate::run(context, options),
        Track::Open(options) => open::run(context, options),
    }
}

pub(crate) use open::{record, store};
