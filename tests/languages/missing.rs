//! On a machine that lacks a tool a build says which, and the command that installs it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

/// What a build of a new project says where only these programs are, scripts of what they answer.
fn build(language: &str, programs: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let project = directory.path().join("acme");
    let path = directory.path().join("bin");
    fs::create_dir(&path).expect("a directory can be made");
    for (name, script) in programs {
        let program = path.join(name);
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a file can be written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("the mode can be set");
    }
    let run = |arguments: &[&str], project: &Path| {
        let mut command = Command::new(harness::callfeed_bin());
        command
            .args(arguments)
            .arg(project)
            .env("PATH", &path)
            .stdin(Stdio::null());
        command.output().expect("the binary runs")
    };
    let new = run(&["plugin", "new", "acme", "--lang", language, "--dir"], &project);
    assert!(new.status.success(), "{}", String::from_utf8_lossy(&new.stderr));
    let output = run(&["plugin", "build"], &project);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).expect("messages are text")
}

#[test]
fn rust_and_its_target() {
    let said = build("rust", &[]);
    assert!(said.contains("cargo is missing. To install it: curl "), "{said}");
    let said = build("rust", &[("cargo", "exit 1"), ("rustc", "echo /nowhere")]);
    let remedy = "the Rust target wasm32-wasip2 is missing. To install it: rustup target add wasm32-wasip2";
    assert!(said.contains(remedy), "{said}");
}

#[test]
fn node_and_npm() {
    let said = build("javascript", &[]);
    assert!(said.contains("Node 20 or later is missing. To install it: "), "{said}");
    let said = build("javascript", &[("node", "echo v18.19.0"), ("npm", "exit 0")]);
    assert!(
        said.contains("Node 20 or later (there is Node 18) is missing"),
        "{said}"
    );
    let said = build("javascript", &[("node", "echo v22.1.0")]);
    assert!(said.contains("npm is missing. To install it: "), "{said}");
}

#[test]
fn python_and_its_environments() {
    let said = build("python", &[]);
    assert!(
        said.contains("Python 3.10 or later is missing. To install it: "),
        "{said}"
    );
    let said = build("python", &[("python3", "echo 3.9")]);
    assert!(
        said.contains("Python 3.10 or later (there is Python 3.9) is missing"),
        "{said}"
    );
    let without_venv = r#"case "$2" in *venv*) exit 1;; *) echo 3.12;; esac"#;
    let said = build("python", &[("python3", without_venv)]);
    assert!(said.contains("Python's venv is missing. To install it: "), "{said}");
}

/// What a tool says is passed on, and which step it was is said last.
#[test]
fn a_step_that_fails_is_named() {
    let programs = [
        ("node", "echo v22.1.0"),
        ("npm", "echo the registry is away >&2; exit 1"),
    ];
    let said = build("javascript", &programs);
    let (npm, own) = (
        said.find("the registry is away"),
        said.find("npm (does it reach a registry?) failed"),
    );
    assert!(npm.is_some() && npm < own, "{said}");
}
