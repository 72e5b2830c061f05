//! The `cairn` binary: the one program that a volunteer, a verifier and a researcher install.

fn main() -> std::process::ExitCode {
    eprintln!("cairn: this build has no commands yet; see README.md for what works today");
    std::process::ExitCode::from(2)
}
