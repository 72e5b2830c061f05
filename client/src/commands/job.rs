//! `cairn job`: the other end of a job; nobody types it.

use std::process::ExitCode;

use cairn_program::job::{child_main, work};

pub(crate) fn run(memory_bytes: u64, cpu_seconds: u64) -> ExitCode {
    child_main(memory_bytes, cpu_seconds, &mut work)
}
