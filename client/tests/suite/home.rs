//! The home directory: keys, configuration, locks.

use std::fs;

use crate::support::{Home, fields, has};

#[test]
fn keys_are_made_once_and_only_their_owner_reads_them() {
    let home = Home::new();
    let first = home.json(&["id"]);
    assert_eq!(fields(&first), ["home", "peer", "author", "verifier"]);
    assert_eq!(home.json(&["id"]), first);
    let people = home.run(&["id"]);
    assert!(people.out.contains(first["author"].as_str().unwrap()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &str| fs::metadata(home.path().join("home").join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(""), 0o700);
        assert_eq!(mode("keys"), 0o700);
        for key in ["keys/peer", "keys/author", "keys/verifier"] {
            assert_eq!(mode(key), 0o600, "{key}");
        }
        fs::set_permissions(home.path().join("home/keys/author"), fs::Permissions::from_mode(0o640)).unwrap();
        let ran = home.run(&["id"]);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("mode 640") && ran.err.contains("chmod 600"), "{}", ran.err);
    }
}

#[test]
fn the_home_is_named_by_option_or_environment() {
    let home = Home::new();
    let other = home.path().join("other");
    let named = home.json(&["id", "--home", other.to_str().unwrap()]);
    assert_eq!(named["home"], other.to_str().unwrap());
    assert_ne!(named["author"], home.json(&["id"])["author"]);
    assert!(other.join("keys/author").is_file());
}

#[test]
fn an_unknown_configuration_key_names_the_nearest() {
    let home = Home::new();
    home.file("home/config.toml", "# mine\nthread = 2\n");
    let ran = home.run(&["join", &"ab".repeat(32)]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("unknown key `thread`"), "{}", ran.err);
    assert!(ran.err.contains("did you mean `threads`?"), "{}", ran.err);
    home.file("home/config.toml", "threads = \"two\"\n");
    assert!(home.run(&["tracks"]).err.contains("threads"), "a wrong type is named");
}

#[test]
fn joining_is_remembered_and_keeps_comments() {
    let home = Home::new();
    home.file("home/config.toml", "# mine\nthreads = 2 # enough\n");
    let (a, b) = ("ab".repeat(32), "cd".repeat(32));
    home.json(&["join", &a, "--peer", "/ip4/192.0.2.7/tcp/1"]);
    let joined = home.json(&["join", &b]);
    assert_eq!(joined["joined"].as_array().unwrap().len(), 2);
    assert_eq!(joined["joined"][0], b.as_str());
    assert_eq!(joined["peers"][0], "/ip4/192.0.2.7/tcp/1");
    let text = fs::read_to_string(home.path().join("home/config.toml")).unwrap();
    assert!(text.contains("# mine") && text.contains("# enough"), "{text}");
    let left = home.json(&["leave"]);
    assert_eq!(left["track"], b.as_str());
    assert_eq!(home.json(&["leave", "abab"])["track"], a.as_str());
    assert_eq!(home.run(&["leave"]).code, 2);
}

#[test]
fn reading_commands_say_that_there_is_no_store_and_create_nothing() {
    let home = Home::new();
    for command in
        [&["board"][..], &["log"], &["show", "abcd"], &["replay", "abcd"], &["store", "check"], &["store", "rebuild"]]
    {
        let ran = home.run(command);
        assert_eq!(ran.code, 1, "{command:?}: {}", ran.all());
        assert!(ran.err.contains("no store yet") && ran.err.contains("hint:"), "{command:?}: {}", ran.err);
    }
    assert!(!home.path().join("home").exists());
}

#[test]
fn shipped_tracks_are_listed() {
    let home = Home::new();
    let all = home.json(&["tracks"]);
    let names: Vec<&str> = all["shipped"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["names", "shakespeare-small"]);
    has(&all, &["known", "shipped"]);
}
