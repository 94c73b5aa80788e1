//! `callfeed plugin install` and `callfeed plugin rollback`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use serde_json::json;

use super::file;
use crate::{
    cli::{
        ConfigFile, Failure, display,
        running::{Reload, Running},
        say, say_foreign,
    },
    config::{self, Limits},
    kit::{Stand, rehearse},
    plugin::{self, Plugin},
};

#[derive(Debug, clap::Args)]
pub(super) struct InstallArgs {
    /// The plugin's name in the configuration.
    name: String,
    /// The new component.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// The plugin's name in the configuration.
    name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    running: Running,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) async fn install(args: InstallArgs) -> Result<(), Failure> {
    let place = Place::find(&args.common.config, &args.name)?;
    let wasm = place.read(&args.file)?;
    exchange(&place, &args.file, &wasm, &args.common).await
}

pub(super) async fn rollback(args: RollbackArgs) -> Result<(), Failure> {
    let place = Place::find(&args.common.config, &args.name)?;
    let previous = place.plugin.previous();
    if !previous.is_file() {
        let previous = display(&previous);
        return Err(anyhow::anyhow!(
            "there is no {previous}, so nothing to go back to; `callfeed plugin install` keeps one"
        )
        .into());
    }
    let wasm = place.read(&previous)?;
    exchange(&place, &previous, &wasm, &args.common).await
}

/// Where a plugin's file lies, and what holds for it.
struct Place {
    plugin: config::Plugin,
    limits: Limits,
}

impl Place {
    fn find(file: &ConfigFile, name: &str) -> Result<Self, Failure> {
        let (mut plugins, limits) = file.plugins()?;
        let Some(at) = plugins.iter().position(|plugin| plugin.name == name) else {
            let known: Vec<_> = plugins.iter().map(|plugin| plugin.name.as_str()).collect();
            let known = match known[..] {
                [] => "it has none".to_owned(),
                _ => format!("it has {}", known.join(", ")),
            };
            let path = display(&file.path);
            return Err(anyhow::anyhow!("{path} has no [[plugin]] with the name {name:?}: {known}").into());
        };
        Ok(Self {
            plugin: plugins.swap_remove(at),
            // A cache is for the gateway alone to write.
            limits: Limits {
                plugin_cache: None,
                ..limits
            },
        })
    }

    fn read(&self, file: &Path) -> anyhow::Result<bytes::Bytes> {
        plugin::read_file(file, self.limits.plugin_file_bytes)
            .map_err(|error| anyhow::anyhow!("{}: {error}", display(file)))
    }

    /// Holds a file to what the gateway holds it to when it loads it, and says how many cases it came through.
    async fn prove(&self, file: &Path, wasm: &[u8]) -> anyhow::Result<(Arc<Plugin>, usize)> {
        let shown = display(file);
        let stand = Stand::new(&self.limits)?;
        let loaded = stand.load(&self.plugin.name, wasm).await;
        let plugin =
            loaded.map_err(|error| anyhow::anyhow!("{shown} is not a plugin this gateway can run: {error}"))?;
        let cases = rehearse(&stand, &plugin, file).await.map_err(|unfit| {
            anyhow::anyhow!("{shown} {unfit}; nothing has changed, and `callfeed plugin test {shown}` shows all of it")
        })?;
        Ok((plugin, cases))
    }
}

/// What lay in a plugin's place.
struct Former {
    present: Option<Vec<u8>>,
    previous: Option<Vec<u8>>,
}

impl Former {
    fn read(plugin: &config::Plugin) -> anyhow::Result<Self> {
        let read = |path: &Path| file::read(path).with_context(|| format!("failed to read {}", display(path)));
        Ok(Self {
            present: read(&plugin.path)?,
            previous: read(&plugin.previous())?,
        })
    }

    /// The file before the new one first: at every moment there is a whole one in place.
    fn succeed(&self, plugin: &config::Plugin, wasm: &[u8]) -> io::Result<()> {
        if let Some(present) = &self.present {
            file::replace(&plugin.previous(), present)?;
        }
        file::replace(&plugin.path, wasm)
    }

    fn restore(&self, plugin: &config::Plugin) -> io::Result<()> {
        for (path, content) in [(&plugin.path, &self.present), (&plugin.previous(), &self.previous)] {
            match content {
                Some(content) => file::replace(path, content)?,
                None if path.exists() => fs::remove_file(path)?,
                None => {}
            }
        }
        Ok(())
    }
}

/// Puts a file in a plugin's place, and back again if the gateway does not take it.
async fn exchange(place: &Place, from: &Path, wasm: &[u8], common: &Common) -> Result<(), Failure> {
    let Place { plugin, .. } = place;
    let (fit, cases) = place.prove(from, wasm).await?;
    let gateway = common.running.reach_if_on(&common.config)?;
    let former = Former::read(plugin)?;
    let (path, previous) = (display(&plugin.path), display(&plugin.previous()));
    let is_new = former.present.as_deref() != Some(wasm);
    if is_new && let Err(error) = former.succeed(plugin, wasm) {
        // What can be is put back; what cannot is a disk that fails for this, too.
        drop(former.restore(plugin));
        return Err(anyhow::Error::new(error)
            .context(format!("failed to write {path}; nothing has changed"))
            .into());
    }
    let (reloaded, said) = match gateway {
        None => (
            false,
            "admin.listen is off, so a running gateway was not asked: send it SIGHUP".to_owned(),
        ),
        Some(gateway) => match gateway.reload().await {
            Ok(Reload::Done(said)) => (true, said),
            Ok(Reload::NoGateway(url)) => (
                false,
                format!("no gateway answers at {url}: this takes effect at its next start"),
            ),
            Ok(Reload::Refused(why)) => {
                if is_new {
                    former.restore(plugin).with_context(|| {
                        format!("failed to put {path} back after the gateway refused the new one: {why}")
                    })?;
                }
                let what = format!("the gateway refuses it; {path} is as it was, and so is what serves:\n{why}");
                return Err(anyhow::anyhow!(what).into());
            }
            Err(error) => {
                let what = format!(
                    "{path} is the new one, and whether the gateway took it over is not known; `callfeed reload` says"
                );
                return Err(error.context(what).into());
            }
        },
    };
    let descriptor = &fit.descriptor;
    if common.json {
        let kept = plugin.previous().is_file().then_some(&previous);
        say(&json!({
            "plugin": plugin.name, "file": path, "previous": kept, "display_name": descriptor.display_name,
            "version": descriptor.version, "cases": cases, "reloaded": reloaded, "gateway": said,
        })
        .to_string());
        return Ok(());
    }
    say_foreign(&format!(
        "{path} is {} {}; of its own cases {cases} passed",
        descriptor.display_name, descriptor.version
    ));
    if !is_new {
        say("this very file was in place already");
    }
    if plugin.previous().is_file() {
        say(&format!(
            "back to the file before it, {previous}: callfeed plugin rollback {}",
            plugin.name
        ));
    }
    say_foreign(&said);
    Ok(())
}
