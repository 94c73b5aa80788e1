//! `callfeed plugin install` and `callfeed plugin rollback`.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use serde_json::json;

use super::file::{self, Swap};
use crate::{
    cli::{
        ConfigFile, Failure, display,
        running::{Reload, Running},
        say, say_error, say_foreign,
    },
    config::{self, Limits},
    kit::{Stand, rehearse},
    plugin::{self, Plugin},
};

/// Put a new version in place and have the running gateway go over to it.
///
/// No webhook is lost or waits: those in hand end with the version they began with, the next ones begin with the new one.
///
/// The file has to be what the gateway takes: a component of its contract that comes through the cases it carries.
/// Otherwise nothing changes; and when the gateway refuses it, all is put back as it was. The file that was there stays
/// beside it, with `.previous` after its name, for `callfeed plugin rollback`.
///
/// The gateway reads all of its configuration again, as for `callfeed reload`.
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

/// Go back to the version before.
///
/// The file before the present one is put in its place, and the running gateway goes over to it, all as `callfeed plugin
/// install` does. The two change places: a second rollback goes forward again.
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
    let _lock = place.lock()?;
    exchange(&place, &args.file, &wasm, Swap::install, &args.common).await
}

pub(super) async fn rollback(args: RollbackArgs) -> Result<(), Failure> {
    let place = Place::find(&args.common.config, &args.name)?;
    let _lock = place.lock()?;
    let previous = place.plugin.previous();
    if !previous.is_file() {
        let previous = display(&previous);
        return Err(anyhow::anyhow!(
            "there is no {previous}, so nothing to go back to; `callfeed plugin install` keeps one"
        )
        .into());
    }
    let wasm = place.read(&previous)?;
    let back = |path: &Path, previous: &Path, _: &[u8]| Swap::back(path, previous);
    exchange(&place, &previous, &wasm, back, &args.common).await
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
        let plugin = plugins.swap_remove(at);
        for path in [&plugin.path, &plugin.previous()] {
            if path.is_symlink() {
                let path = display(path);
                return Err(anyhow::anyhow!(
                    "{path} is a link, and only a file is replaced: point it to the other version and `callfeed reload`, or put \
                     a file in its place"
                )
                .into());
            }
        }
        Ok(Self {
            plugin,
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

    /// Keeps others from putting anything in place meanwhile, or says that they do.
    fn lock(&self) -> anyhow::Result<File> {
        let directory = file::directory(&self.plugin.path);
        let lock = File::open(directory).with_context(|| format!("failed to open {}", display(directory)))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => anyhow::bail!(
                "another `callfeed plugin install` or `rollback` is at work in {}; try again when it has ended",
                display(directory)
            ),
            // Not every file system has locks.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(lock),
        }
    }

    /// Holds a file to what the gateway holds it to when it loads it, and says how many cases it came through.
    async fn prove(&self, file: &Path, wasm: &[u8]) -> anyhow::Result<(Arc<Plugin>, usize)> {
        let shown = display(file);
        let stand = Stand::new(&self.limits)?;
        let loaded = stand.load(&self.plugin.name, wasm).await;
        let plugin =
            loaded.map_err(|error| anyhow::anyhow!("{shown} is not a plugin this gateway can run: {error}"))?;
        let rehearsed = rehearse(&stand, &plugin, file).await.map_err(|unfit| {
            anyhow::anyhow!("{shown} {unfit}; nothing has changed, and `callfeed plugin test {shown}` shows all of it")
        })?;
        if let Some(slow) = rehearsed.slow() {
            say_error(&format!("warning: {shown} {slow}"));
        }
        Ok((plugin, rehearsed.cases))
    }
}

/// Puts a file in a plugin's place, and back again if the gateway does not take it.
async fn exchange(
    place: &Place,
    from: &Path,
    wasm: &[u8],
    swap: impl FnOnce(&Path, &Path, &[u8]) -> anyhow::Result<Swap>,
    common: &Common,
) -> Result<(), Failure> {
    let Place { plugin, .. } = place;
    let (fit, cases) = place.prove(from, wasm).await?;
    let gateway = common.running.reach_if_on(&common.config)?;
    if let Some(gateway) = &gateway
        && common.running.is_named()
    {
        gateway.probe().await?;
    }
    let (path, previous) = (display(&plugin.path), display(&plugin.previous()));
    let present = file::read(&plugin.path).with_context(|| format!("failed to read {path}"))?;
    let swap = match present.as_deref() == Some(wasm) {
        true => None,
        false => Some(swap(&plugin.path, &plugin.previous(), wasm)?),
    };
    if swap.as_ref().is_some_and(|swap| !swap.is_owner_kept) {
        say_error(&format!(
            "{path} belongs to who runs this now, not to the owner or group of the file before it, {previous}: that takes the \
             right to give files away"
        ));
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
                undo(swap)?;
                let what = format!("the gateway refuses it; {path} is as it was, and so is what serves:\n{why}");
                return Err(anyhow::anyhow!(what).into());
            }
            Ok(Reload::Unauthorized(why)) => {
                undo(swap)?;
                let what = format!("this command may not ask the gateway ({why}); {path} is as it was");
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
    let tried = match cases {
        0 => "it carries no cases of its own".to_owned(),
        cases => format!("of its own cases {cases} passed"),
    };
    say_foreign(&format!(
        "{path} is {} {}; {tried}",
        descriptor.display_name, descriptor.version
    ));
    if swap.is_none() {
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

fn undo(swap: Option<Swap>) -> anyhow::Result<()> {
    let undone = swap.map_or(Ok(()), Swap::undo);
    undone.context("the gateway goes on as it was, but the files are not")
}
