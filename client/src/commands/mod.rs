//! One module for each command or family of commands.

mod bench;
mod board;
mod demo;
mod doctor;
mod history;
mod house;
mod job;
mod participate;
mod replay;
mod run;
mod trace;
mod track;
mod tracks;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::context::Context;

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let context = match &cli.command {
        // These need no home, and a job must not do anything before it has limited itself.
        Command::Job { memory, cpu } => return Ok(job::run(*memory, *cpu)),
        Command::BenchPeer { subject, threads, gpu } => {
            return bench::serve(subject, *threads, gpu.as_deref()).map(|()| ExitCode::SUCCESS);
        }
        Command::Completions { shell } => {
            house::completions(*shell);
            return Ok(ExitCode::SUCCESS);
        }
        _ => Context::new(&cli.global)?,
    };
    let done = match &cli.command {
        Command::Demo(options) => return demo::run(&context, options),
        Command::Node(options) => return participate::node(&context, options),
        Command::Verifier(options) => return participate::verifier(&context, options),
        Command::Replay(options) => return replay::run(&context, options),
        Command::Doctor(options) => return doctor::run(&context, options),
        Command::Tracks => tracks::list(&context),
        Command::Join(options) => tracks::join(&context, options),
        Command::Leave(options) => tracks::leave(&context, options),
        Command::Board(options) => board::run(&context, options),
        Command::Log(options) => history::log(&context, options),
        Command::Show(options) => history::show(&context, options),
        Command::Diff(options) => history::diff(&context, options),
        Command::Trace(options) => trace::run(&context, options),
        Command::Run(options) => run::run(&context, options),
        Command::Track(command) => track::run(&context, command),
        Command::Bench(options) => bench::run(&context, options),
        Command::Id => house::id(&context),
        Command::Store(command) => house::store(&context, command),
        Command::Job { .. } | Command::BenchPeer { .. } | Command::Completions { .. } => Ok(()),
    };
    done.map(|()| ExitCode::SUCCESS)
}
