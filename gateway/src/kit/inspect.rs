//! What a plugin is.

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
    /// Compiled.
    pub load: Duration,
    /// From the cache of compiled plugins, as at every start of a gateway but the first.
    pub load_cached: Duration,
}

/// Loads a plugin twice, with a cache in this directory.
///
/// # Errors
///
/// Why it cannot be one.
pub async fn inspect(
    limits: &Limits,
    cache: &Path,
    load: impl AsyncFn(&Stand) -> Result<Arc<Plugin>, plugin::Error>,
) -> Result<Inspected, plugin::Error> {
    let stand = Stand::new(&Limits {
        plugin_cache: Some(cache.to_owned()),
        ..limits.clone()
    })?;
    let began = Instant::now();
    load(&stand).await?;
    let compiled = began.elapsed();
    let began = Instant::now();
    let plugin = load(&stand).await?;
    Ok(Inspected {
        plugin,
        load: compiled,
        load_cached: began.elapsed(),
    })
}
