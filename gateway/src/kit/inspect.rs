//! What a file is.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::Stand;
use crate::{
    config::Limits,
    plugin::{self, Plugin},
};

/// A loaded plugin, and how long that took.
#[derive(Debug)]
pub struct Inspected {
    pub plugin: Arc<Plugin>,
    pub file_bytes: usize,
    /// Compiled.
    pub load: Duration,
    /// From the cache of compiled plugins, as at every start of a gateway but the first.
    pub load_cached: Duration,
}

/// Loads a plugin twice, with a cache in this directory.
///
/// # Errors
///
/// Why the file cannot serve as a plugin.
pub async fn inspect(limits: &Limits, name: &str, wasm: &[u8], cache: &Path) -> Result<Inspected, plugin::Error> {
    let stand = Stand::new(&Limits {
        plugin_cache: Some(cache.to_owned()),
        ..limits.clone()
    })?;
    let began = Instant::now();
    stand.load(name, wasm).await?;
    let load = began.elapsed();
    let began = Instant::now();
    let plugin = stand.load(name, wasm).await?;
    Ok(Inspected {
        plugin,
        file_bytes: wasm.len(),
        load,
        load_cached: began.elapsed(),
    })
}
