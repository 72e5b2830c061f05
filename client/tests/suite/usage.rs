//! Wrong usage, help, completions, colours.

use crate::support::{Home, has};

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_possible() {
    let home = Home::new();
    for (arguments, words) in [
        (&["frobnicate"][..], &["frobnicate", "--help"][..]),
        (&["run", "x.py", "--isa", "mmx"], &["mmx", "scalar, neon, avx2, avx512"]),
        (&["run", "x.py", "--seed", "nine"], &["nine", "64 hexadecimal digits"]),
        (&["run", "x.py", "--budget", "lots"], &["lots", "250M"]),
        (&["demo", "--minutes", "0"], &["--minutes", "positive"]),
        (&["demo", "--verifiers", "32"], &["32", "1..=31"]),
        (&["track", "calibrate", ".", "--seeds", "10"], &["10", "30..=10000"]),
        (&["track", "open", "names"], &["--roster"]),
        (&["demo", "--track", "nowhere"], &["nowhere", "names, shakespeare-small"]),
        (&["bench", "--models", "gpt-9", "--only", "steps"], &["gpt-9", "gpt-128, gpt-256"]),
        (&["bench", "--against", "abacus"], &["abacus", "torch"]),
    ] {
        let ran = home.run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.all());
        assert_eq!(ran.out, "", "{arguments:?}");
        for word in words {
            assert!(ran.err.contains(word), "{arguments:?} does not say {word}: {}", ran.err);
        }
    }
}

#[test]
fn an_error_is_json_where_json_is_wanted() {
    let home = Home::new();
    for (arguments, code) in [
        (&["--json", "frobnicate"][..], 2),
        (&["--json", "board"], 1),
        (&["--json", "demo", "--track", "nowhere"], 2),
        (&["--json", "trace", "no-such-file.py"], 1),
    ] {
        let ran = home.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.all());
        has(&ran.last(), &["error", "hint"]);
    }
}

#[test]
fn every_command_has_help_and_names_its_exit_codes_where_they_differ() {
    let home = Home::new();
    let help = home.run(&["--help"]);
    assert_eq!(help.code, 0);
    for word in ["Examples:", "Exit codes:", "130", "--json", "CAIRN_HOME"] {
        assert!(help.out.contains(word), "{word}");
    }
    for command in [
        "demo",
        "node",
        "verifier",
        "tracks",
        "join",
        "leave",
        "board",
        "log",
        "show",
        "diff",
        "trace",
        "run",
        "replay",
        "track",
        "id",
        "doctor",
        "bench",
        "store",
        "completions",
    ] {
        assert!(help.out.contains(&format!("\n  {command} ")), "{command} is not listed");
        let own = home.run(&[command, "--help"]);
        assert_eq!(own.code, 0, "{command}");
        assert!(own.out.contains("Usage: cairn"), "{command}: {}", own.out);
    }
    for hidden in ["job", "bench-peer"] {
        assert!(!help.out.contains(&format!("\n  {hidden}")), "{hidden} is nobody's business");
    }
    for command in ["demo", "run", "trace", "replay"] {
        assert!(home.run(&[command, "--help"]).out.contains("Exit codes:"), "{command}");
    }
}

#[test]
fn completions_come_for_every_shell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = home.run(&["completions", shell]);
        assert!(ran.code == 0 && ran.out.contains("calibrate"), "{shell}");
    }
    assert!(!home.path().join("home").exists(), "completions need no home");
}

#[test]
fn without_a_terminal_there_are_no_colours() {
    let home = Home::new();
    let ran = home.run(&["tracks"]);
    assert_eq!(ran.code, 0);
    assert!(!ran.all().contains('\u{1b}'), "{}", ran.all());
}
