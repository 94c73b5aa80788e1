//! What a build needs of the machine. What is missing is named, with the command that installs it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::Error;

const NODE: u32 = 20;
const PYTHON: [u32; 2] = [3, 10];
const TARGET: &str = "wasm32-wasip2";

const INSTALL_RUST: &str = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh";
const INSTALL_TARGET: &str = "rustup target add wasm32-wasip2";
#[cfg(target_os = "macos")]
const INSTALL_NODE: &str = "brew install node";
#[cfg(not(target_os = "macos"))]
const INSTALL_NODE: &str = "apt-get install nodejs npm (or https://nodejs.org, where that is older)";
#[cfg(target_os = "macos")]
const INSTALL_PYTHON: &str = "brew install python";
#[cfg(not(target_os = "macos"))]
const INSTALL_PYTHON: &str = "apt-get install python3 python3-venv python3-pip";

fn missing(what: impl Into<String>, remedy: &'static str) -> Error {
    Error::Missing {
        what: what.into(),
        remedy,
    }
}

/// Cargo, with a compiler that has the standard library for components.
pub(super) fn cargo() -> Result<PathBuf, Error> {
    let cargo = find("cargo").next().ok_or_else(|| missing("cargo", INSTALL_RUST))?;
    let rustc = find("rustc").next().ok_or_else(|| missing("rustc", INSTALL_RUST))?;
    let libdir = answer(&rustc, &["--print", "target-libdir", "--target", TARGET]);
    let has_std = libdir.is_some_and(|libdir| {
        let mut entries = fs::read_dir(libdir.trim()).into_iter().flatten().flatten();
        entries.any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    });
    match has_std {
        true => Ok(cargo),
        false => Err(missing(format!("the Rust target {TARGET}"), INSTALL_TARGET)),
    }
}

/// npm, beside a Node that is new enough.
pub(super) fn npm() -> Result<PathBuf, Error> {
    let version = |node: &PathBuf| Some(number(answer(node, &["--version"])?.strip_prefix('v')?));
    let newest = find("node").filter_map(|node| version(&node)).next();
    match newest {
        Some(NODE..) => find("npm").next().ok_or_else(|| missing("npm", INSTALL_NODE)),
        Some(older) => Err(missing(
            format!("Node {NODE} or later (there is Node {older})"),
            INSTALL_NODE,
        )),
        None => Err(missing(format!("Node {NODE} or later"), INSTALL_NODE)),
    }
}

/// A Python that is new enough and can make virtual environments.
pub(super) fn python() -> Result<PathBuf, Error> {
    const VERSION: &str = "import sys; print(*sys.version_info[:2], sep='.')";
    let mut found = None;
    for python in ["python3", "python"].into_iter().flat_map(find) {
        let Some(version) = answer(&python, &["-c", VERSION]) else {
            continue;
        };
        if version.trim().split('.').map(number).ge(PYTHON) {
            return match answer(&python, &["-c", "import venv, ensurepip"]) {
                Some(_) => Ok(python),
                None => Err(missing("Python's venv", INSTALL_PYTHON)),
            };
        }
        found.get_or_insert(version.trim().to_owned());
    }
    let [major, minor] = PYTHON;
    let there = found.map_or_else(String::new, |version| format!(" (there is Python {version})"));
    Err(missing(
        format!("Python {major}.{minor} or later{there}"),
        INSTALL_PYTHON,
    ))
}

/// The programs of this name in `PATH`, in its order.
fn find(name: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders
        .into_iter()
        .map(move |folder| folder.join(&file))
        .filter(|program| program.is_file())
}

/// What a program says on standard output, if it does as it is told.
fn answer(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let said = output.status.success().then_some(output.stdout)?;
    String::from_utf8(said).ok()
}

/// The leading number of a version.
fn number(version: &str) -> u32 {
    let major = version.split('.').next();
    major.and_then(|major| major.trim().parse().ok()).unwrap_or_default()
}
