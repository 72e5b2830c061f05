//! CPython, when there is one, as the oracle of the language.

use std::io::Write as _;
use std::process::{Command, Stdio};

const SCRIPT: &str = r#"
import struct, sys
def show(v):
    if isinstance(v, float): return "f%016x" % struct.unpack("<Q", struct.pack("<d", v))[0]
    if type(v) is list: return "[" + ", ".join(map(show, v)) + "]"
    if type(v) is tuple: return "(" + ", ".join(map(show, v)) + ")"
    if type(v) is dict: return "{" + ", ".join(repr(k) + ": " + show(x) for k, x in v.items()) + "}"
    return repr(v)
for program in sys.stdin.read().split("\n%%\n"):
    scope = {"__name__": "program"}
    try:
        exec(compile(program, "program", "exec"), scope)
        text = show(scope.get("result"))
    except Exception as e:
        text = {"UnboundLocalError": "NameError"}.get(type(e).__name__, type(e).__name__)
    print(text.replace("\n", "\\n"))
"#;

/// What CPython makes of each program's `result`: its text, floats as their bits, or the name of the exception. None
/// where there is no CPython.
pub(crate) fn results(programs: &[String]) -> Option<Vec<String>> {
    let child = Command::new("python3")
        .args(["-W", "ignore", "-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("no python3 here: the language is not compared with it");
        return None;
    };
    let mut input = child.stdin.take().unwrap();
    let text = programs.join("\n%%\n");
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), programs.len());
    Some(lines)
}
