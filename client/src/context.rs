//! What every command has: how to talk, where the home is, when to stop.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::cli::Global;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::output::Ui;

/// The surroundings of a command.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) ui: Ui,
    pub(crate) home: Home,
    pub(crate) interrupt: Interrupt,
}

impl Context {
    pub(crate) fn new(global: &Global) -> anyhow::Result<Self> {
        Ok(Self {
            ui: Ui::new(global.json, global.quiet, global.verbose),
            home: Home::locate(global.home.as_deref())?,
            interrupt: Interrupt::install().context("cannot listen for Ctrl-C")?,
        })
    }
}

/// This program's own binary, for processes that it starts.
pub(crate) fn own_binary() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}

/// Processors to use when nobody says how many.
pub(crate) fn processors() -> u16 {
    std::thread::available_parallelism().map_or(1, |n| u16::try_from(n.get()).unwrap_or(u16::MAX))
}
