//! The examples of the manual as programs, to try other implementations with: what each operation accepts and what it
//! refuses. Programs are separated by lines of `%%`; the first line of each is a comment with the operation's name and
//! `accepted` or `refused`.
//!
//! `cargo run -p cairn-program --example manual_programs`

use cairn_program::operations;

fn main() {
    for operation in operations() {
        for (expression, what) in [(operation.example, "accepted"), (operation.refused, "refused")] {
            let (program, _) = operation.program(expression);
            println!("# {} {what}: {expression}\n{program}%%", operation.title());
        }
    }
}
