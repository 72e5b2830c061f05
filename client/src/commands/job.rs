//! `cairn job`: the other end of a job; nobody types it.

use std::process::ExitCode;

use cairn_program::job::{Message, child_main};
use cairn_protocol::Text;

pub(crate) fn run(memory_bytes: u64, cpu_seconds: u64) -> ExitCode {
    child_main(memory_bytes, cpu_seconds, &mut |_, report| report(Message::Failed(Text::truncated("not yet"))))
}
