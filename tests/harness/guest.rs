//! Plugins of the tests' own, built to components.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The workspace's root.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests stand inside the workspace")
}

/// The providers under `plugins/examples` whose plugins are in Rust.
pub const EXAMPLES: [&str; 6] = ["aircall", "elevenlabs", "retell", "telnyx", "twilio", "zoom-phone"];

/// The file of an example, by its provider. All are built when the first is asked for.
///
/// # Panics
///
/// When they do not build.
pub fn example_file(provider: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let packages = EXAMPLES.map(|provider| format!("callfeed-plugin-{provider}"));
        build(&packages.each_ref().map(String::as_str))
    });
    folder.join(provider.replace('-', "_")).with_extension("wasm")
}

/// Builds packages to components, and says in which folder they are.
///
/// # Panics
///
/// When they do not build.
pub fn build(packages: &[&str]) -> PathBuf {
    // <target>/<profile>/deps/<test>-<hash>; the gateway's build script keeps its components in the same place.
    let this = std::env::current_exe().expect("a running test has a file");
    let target_dir = this
        .ancestors()
        .nth(3)
        .expect("a test lies in deps/ of its profile")
        .join("plugins");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args([
        "build",
        "--quiet",
        "--profile",
        "plugin",
        "--target",
        "wasm32-wasip2",
        "--locked",
    ]);
    cargo
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .arg("--target-dir")
        .arg(&target_dir);
    // Flags for the host would reach the guest through the environment and break its link, or silently change it.
    for (name, _) in std::env::vars_os() {
        let of_the_host = [
            "CARGO_BUILD_",
            "CARGO_PROFILE_",
            "CARGO_TARGET_",
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
        ];
        let name = name.to_string_lossy().into_owned();
        let single = [
            "RUSTFLAGS",
            "CARGO_INCREMENTAL",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_MAKEFLAGS",
        ];
        if of_the_host.iter().any(|prefix| name.starts_with(prefix)) || single.contains(&name.as_str()) {
            cargo.env_remove(name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "");
    let status = cargo.stdin(Stdio::null()).status().expect("cargo runs");
    assert!(status.success(), "the plugins did not build; above says why");
    target_dir.join("wasm32-wasip2/plugin")
}

/// A file with every occurrence of a text replaced by one of the same length.
///
/// # Panics
///
/// When there is none, or the lengths differ.
pub fn replaced(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths stand in the file too");
    let mut copy = file.to_vec();
    let mut at = 0;
    let mut count = 0;
    while let Some(found) = copy[at..]
        .windows(from.len())
        .position(|window| window == from.as_bytes())
    {
        copy[at + found..at + found + to.len()].copy_from_slice(to.as_bytes());
        at += found + to.len();
        count += 1;
    }
    assert!(count > 0, "{from:?} does not occur");
    copy
}
