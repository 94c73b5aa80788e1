//! What a round runs, built by cargo with the profile that this program was built with.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use harness::build_package;

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
            None => build_package("callfeed").join("callfeed"),
        };
        ensure!(gateway.exists(), "there is no {}", gateway.display());
        Ok(Self { gateway, shim: shim()? })
    }
}

/// What is preloaded, built.
pub fn shim() -> Result<PathBuf> {
    let shim = build_package("callfeed-faults-shim").join("libcallfeed_faults_shim.so");
    ensure!(shim.exists(), "there is no {}", shim.display());
    Ok(shim)
}
