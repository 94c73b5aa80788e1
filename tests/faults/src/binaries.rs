//! What a round runs, built by cargo with the profile that this program was built with.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// The gateway under test and what is preloaded into it.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub gateway: PathBuf,
    pub shim: PathBuf,
}

impl Binaries {
    /// Builds what is not up to date; the gateway only where none is named.
    pub fn build(gateway: Option<&Path>) -> Result<Self> {
        let gateway = match gateway {
            Some(gateway) => gateway.to_owned(),
            None => build("callfeed")?.join("callfeed"),
        };
        ensure!(gateway.exists(), "there is no {}", gateway.display());
        Ok(Self { gateway, shim: shim()? })
    }
}

/// What is preloaded, built.
pub fn shim() -> Result<PathBuf> {
    let shim = build("callfeed-faults-shim")?.join("libcallfeed_faults_shim.so");
    ensure!(shim.exists(), "there is no {}", shim.display());
    Ok(shim)
}

/// Builds a package of the workspace and returns the directory where its files are.
fn build(package: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    // <target>/<profile>/callfeed-faults, or a test in <target>/<profile>/deps
    let directory = this
        .ancestors()
        .skip(1)
        .find(|it| it.file_name() != Some(OsStr::new("deps")));
    let directory = directory.context("this program lies in no directory")?;
    let target = directory.parent().context("the profile lies in no target directory")?;
    let profile = match directory.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--package", package, "--profile", profile])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .arg("--target-dir")
        .arg(target)
        .stdin(Stdio::null());
    // What cargo told this program about its own package would make it build again what it has.
    for (name, _) in std::env::vars_os() {
        let of_this_package = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
            "CARGO_PRIMARY_",
        ];
        let name_text = name.to_str();
        if name_text.is_some_and(|name| of_this_package.iter().any(|prefix| name.starts_with(prefix))) {
            cargo.env_remove(&name);
        }
    }
    let status = cargo.status().context("failed to run cargo")?;
    ensure!(status.success(), "{package} does not build; above says why");
    Ok(directory.to_owned())
}
