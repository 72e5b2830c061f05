//! The `cairn` binary: the one program that a volunteer, a verifier and a researcher install.
//!
//! Start at [`cli`] for what it offers, at [`commands`] for what each command does, at [`home`] for what it remembers.
//!
//! *Invariant:* foreign programs are traced and run in job processes only, never here.

mod cli;
mod commands;
mod context;
mod events;
mod failure;
mod format;
mod gpu;
mod home;
mod ids;
mod interrupt;
mod jobs;
mod output;
mod tracks;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::tell_usage(&error),
    };
    let ui = output::Ui::new(cli.global.json, cli.global.quiet, cli.global.verbose);
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => failure::tell(&ui, &error),
    }
}
