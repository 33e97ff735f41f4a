//! The `ringway` command: check, explain, schema, completion, man, quickstart, reload; its messages and exit codes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use tests::gateway::{binary, both, run};
use tests::process::{self, Folder};
use tests::wait::{wait_for, SOON};

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn check_file(text: &str) -> Output {
    let folder = Folder::new();
    let path = folder.write("ringway.toml", text);
    run(&["check", "-c", &path.to_string_lossy()])
}

#[test]
fn a_good_file_checks() {
    let output = check_file(
        "[server]\nlisten = \":8080\"\n\n[[routes]]\nupstream = [\"127.0.0.1:3000\", \"127.0.0.1:3001\"]\n",
    );
    assert_eq!(code(&output), 0, "{}", both(&output));
}

/// Every problem at once, with file, line, column, the line itself and a remedy.
#[test]
fn a_bad_file_is_told_whole() {
    let output = check_file(
        "[server]\nlisten = \":8080\"\n\n[[upstreams]]\nname = \"users\"\nservers = [\"127.0.0.1:1 wieght=1\"]\n\n\
         [[routes]]\nuri = \"/a\"\nupstream = \"user\"\n\n[[routes]]\nuri = \"/b\"\nupstrem_id = \"users\"\npriority = \"high\"\n",
    );
    let text = both(&output);
    assert_eq!(code(&output), 3, "{text}");
    for word in [
        "ringway.toml:6:",
        "weight",
        "ringway.toml:10:12",
        "upstream = \"user\"",
        "users",
        "ringway.toml:14:1",
        "upstream_id",
        "ringway.toml:15:",
        "priority",
    ] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
}

#[test]
fn syntax_errors_have_a_place() {
    let output = check_file("[server]\nlisten = \n");
    assert_eq!(code(&output), 3);
    assert!(both(&output).contains("ringway.toml:2:"), "{}", both(&output));
}

#[test]
fn what_is_not_built_yet_is_said_with_its_place() {
    let output = check_file("[server]\nlisten = \":1\"\n[[upstreams]]\nname = \"a\"\nscheme = \"grpc\"\nservers = [\"127.0.0.1:1\"]\n[[routes]]\nupstream_id = \"a\"\n");
    assert_eq!(code(&output), 3);
    assert!(both(&output).contains("ringway.toml:5:"), "{}", both(&output));
}

#[test]
fn an_unset_variable_is_an_error_not_its_own_text() {
    let output = check_file("[[routes]]\nupstream = [\"${env:RINGWAY_SURELY_NOT_SET}\"]\n");
    assert_eq!(code(&output), 3);
    assert!(both(&output).contains("RINGWAY_SURELY_NOT_SET"), "{}", both(&output));
}

#[test]
fn an_unreachable_route_is_a_warning() {
    let output = check_file(
        "[server]\nlisten = \":8080\"\n[[routes]]\nname = \"first\"\nuri = \"/a\"\nupstream = [\"127.0.0.1:1\"]\n[[routes]]\nname = \"second\"\nuri = \"/a\"\nupstream = [\"127.0.0.1:1\"]\n",
    );
    assert_eq!(code(&output), 0, "{}", both(&output));
    assert!(both(&output).contains("warning") && both(&output).contains("second"), "{}", both(&output));
}

#[test]
fn exit_codes() {
    assert_eq!(code(&run(&["no-such-command"])), 2);
    assert_eq!(code(&run(&["check", "-c", "/no/such/file.toml"])), 3);
    let folder = Folder::new();
    let path = folder.write(
        "ringway.toml",
        format!(
            "[server]\nlisten = \":8080\"\nworkdir = \"{}\"\n[[routes]]\nupstream = [\"127.0.0.1:1\"]\n",
            folder.path().display()
        ),
    );
    let output = run(&["reload", "--wait", "-c", &path.to_string_lossy()]);
    assert_eq!(code(&output), 4, "nothing runs there: {}", both(&output));
    assert_eq!(code(&run(&["--version"])), 0);
    assert_eq!(code(&run(&["--help"])), 0);
}

#[test]
fn explain_says_which_route_and_why_not_the_others() {
    let folder = Folder::new();
    let path = folder.write(
        "ringway.toml",
        "[server]\nlisten = \":8080\"\n[[routes]]\nname = \"v2\"\nhost = \"api.test\"\nuri = \"/users/*\"\nvars = [[\"http_x_version\", \"==\", \"2\"]]\nupstream = [\"127.0.0.1:1\"]\n\
         [[routes]]\nname = \"posts\"\nhost = \"api.test\"\nuri = \"/users/*\"\nmethods = [\"POST\"]\nupstream = [\"127.0.0.1:1\"]\n\
         [[routes]]\nname = \"rest\"\nuri = \"/*\"\nupstream = [\"127.0.0.1:1\"]\n",
    );
    let config = path.to_string_lossy();
    let explain = |arguments: &[&str]| {
        let output = run(&[&["explain", "-c", &config], arguments].concat());
        (code(&output), both(&output))
    };
    let (status, text) = explain(&["GET", "http://api.test/users/7"]);
    assert_eq!(status, 0, "{text}");
    for word in ["rest", "v2", "x_version", "posts", "POST"] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
    let (_, text) = explain(&["GET", "http://api.test/users/7", "-H", "X-Version: 2"]);
    assert!(text.lines().next().is_some_and(|line| line.contains("v2")), "{text}");
}

#[test]
fn schema_completion_man() {
    let schema = run(&["schema"]);
    let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&schema.stdout);
    let parsed = parsed.unwrap_or_else(|error| panic!("{error}: {}", both(&schema)));
    assert!(parsed["properties"]["routes"].is_object(), "{parsed}");
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completion", shell]);
        assert!(code(&output) == 0 && both(&output).contains("quickstart"), "{shell}: {}", both(&output));
    }
    let man = run(&["man"]);
    assert!(code(&man) == 0 && both(&man).contains(".TH"), "{}", both(&man));
}

/// The first five minutes: it starts, and its three curl lines do what they say.
#[test]
fn quickstart_and_its_three_curl_lines() {
    let Some(_curl) = process::installed("curl", "quickstart's curl lines") else { return };
    let folder = Folder::new();
    let mut child = Command::new(binary())
        .arg("quickstart")
        .env("STATE_DIRECTORY", folder.path())
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("ringway can be started");
    let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let for_thread = std::sync::Arc::clone(&lines);
    let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            for_thread.lock().expect("no panic holds it").push(line);
        }
    });
    let result = std::panic::catch_unwind(|| {
        let curls = wait_for("three curl lines", SOON, || {
            let lines = lines.lock().expect("no panic holds it");
            let curls: Vec<String> =
                lines.iter().filter_map(|line| line.find("curl ").map(|at| line[at..].to_owned())).collect();
            (curls.len() >= 3).then_some(curls)
        });
        for line in curls.iter().take(3) {
            let command = format!(
                "set -e; {line} --silent --show-error --fail --max-time 10 --retry 3 --retry-connrefused"
            );
            let output = Command::new("sh").args(["-c", &command]).output().expect("a shell");
            assert!(output.status.success(), "{line}: {}", both(&output));
            assert!(!output.stdout.is_empty(), "{line} printed nothing");
        }
    });
    process::try_signal(&child, rustix::process::Signal::TERM);
    let status = process::wait_end(&mut child, SOON * 2);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    assert!(status.success(), "{status}");
}
