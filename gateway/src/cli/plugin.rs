//! `callfeed plugin`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::Subcommand;

use super::{Failure, display, say_error};
use crate::{
    config::{self, Limits, Provider},
    kit::{Case, Files, Stand},
    plugin::{self, Plugin},
};

mod bench;
mod build;
mod file;
mod inspect;
mod install;
mod lab;
mod new;
mod pack;
mod test;

/// Make a plugin, show whether it is right and what a call costs, or put another version in place.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

// Each command says in its file what it is for, and a variant's own words would hide that.
#[derive(Debug, Subcommand)]
enum Command {
    New(new::Args),
    Build(build::Args),
    Test(test::Args),
    Inspect(inspect::Args),
    Bench(bench::Args),
    Lab(lab::Args),
    Pack(pack::Args),
    Install(install::InstallArgs),
    Rollback(install::RollbackArgs),
}

/// Which plugin, with which cases, under which bounds.
#[derive(Debug, clap::Args)]
struct Subject {
    /// A component (`acme.wasm`), the folder of a project with a built one in it, the name of a built-in plugin, or a file with
    /// a `[[provider]]`: `provider.toml`, or a whole configuration.
    #[arg(value_name = "PLUGIN")]
    plugin: PathBuf,
    /// Which `[[provider]]` of the file, where it has several.
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// The folder of its cases. Unless given: `cases` in the project's folder or beside the file, and for a built-in plugin
    /// that of a checkout one stands in; without a folder the cases that the file carries.
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Processor time a call may take, in milliseconds, as `limits.plugin_time` of a gateway.
    #[arg(long, value_name = "MS", default_value_t = default_time())]
    time: u64,
    /// Memory a call may take, in MiB, as `limits.plugin_memory` of a gateway.
    #[arg(long, value_name = "MIB", default_value_t = Limits::default().plugin_memory_bytes >> 20)]
    memory: usize,
}

/// What makes a plugin, and where its cases should be.
struct Found {
    /// The file's name without its extension, or that of the built-in plugin or of the described provider.
    name: String,
    /// As it is shown.
    file: String,
    file_bytes: u64,
    source: Source,
    /// Their folder.
    cases: Option<PathBuf>,
}

enum Source {
    Component(Bytes),
    Description(Box<Provider>),
}

/// Of a gateway, in milliseconds.
fn default_time() -> u64 {
    u64::try_from(Limits::default().plugin_time.as_millis()).unwrap_or(u64::MAX)
}

impl Subject {
    fn limits(&self) -> Limits {
        Limits {
            plugin_time: Duration::from_millis(self.time),
            plugin_memory_bytes: self.memory << 20,
            // One call at a time, and one plugin that is being loaded.
            plugins_in_flight: 2,
            ..Limits::default()
        }
    }

    fn find(&self) -> Result<Found, Failure> {
        let is_description = self.plugin.extension().is_some_and(|extension| extension == "toml");
        if is_description && self.plugin.is_file() {
            return self.find_description();
        }
        if self.provider.is_some() {
            return Err(anyhow!(
                "--provider chooses a [[provider]] of a TOML file, and {} is none",
                self.shown()
            )
            .into());
        }
        let name = self.plugin.to_str().unwrap_or_default();
        if let Some(wasm) = plugin::built_in(name).filter(|_| !self.plugin.exists()) {
            return Ok(Found {
                name: name.to_owned(),
                file: name.to_owned(),
                file_bytes: wasm.len() as u64,
                source: Source::Component(Bytes::from_static(wasm)),
                cases: self.cases(Path::new("plugins").join(name).join("cases")),
            });
        }
        let metadata = fs::metadata(&self.plugin).with_context(|| {
            let names: Vec<_> = plugin::built_in_names().collect();
            format!(
                "failed to find {}: it is neither a file nor a built-in plugin ({})",
                self.shown(),
                names.join(", ")
            )
        })?;
        let (file, cases) = match metadata.is_dir() {
            true => (built(&self.plugin)?, self.plugin.join("cases")),
            false => (self.plugin.clone(), self.plugin.with_file_name("cases")),
        };
        let wasm = plugin::read_file(&file, self.limits().plugin_file_bytes)?;
        Ok(Found {
            name: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            file: display(&file),
            file_bytes: wasm.len() as u64,
            source: Source::Component(wasm),
            cases: self.cases(cases),
        })
    }

    fn find_description(&self) -> Result<Found, Failure> {
        let (providers, warnings) = config::load_providers(&self.plugin).map_err(Failure::Config)?;
        let is_wanted = |provider: &&Provider| self.provider.as_ref().is_none_or(|name| provider.name == *name);
        let mut wanted = providers.iter().filter(is_wanted);
        let (Some(provider), None) = (wanted.next(), wanted.next()) else {
            let names: Vec<_> = providers.iter().map(|provider| provider.name.as_str()).collect();
            let found = match names.is_empty() {
                true => "no [[provider]]".to_owned(),
                false => format!(
                    "[[provider]] blocks of these names: {}; choose with --provider",
                    names.join(", ")
                ),
            };
            return Err(anyhow!("{} has {found}", self.shown()).into());
        };
        let of_it = format!("provider[{}]", provider.name);
        for warning in warnings.iter().filter(|warning| warning.path.starts_with(&of_it)) {
            say_error(&warning.to_string());
        }
        Ok(Found {
            name: provider.name.clone(),
            file: self.shown(),
            file_bytes: fs::metadata(&self.plugin)?.len(),
            source: Source::Description(Box::new(provider.clone())),
            cases: self.cases(self.plugin.with_file_name("cases")),
        })
    }

    fn shown(&self) -> String {
        display(&self.plugin)
    }

    fn cases(&self, usual: PathBuf) -> Option<PathBuf> {
        self.cases.clone().or_else(|| usual.is_dir().then_some(usual))
    }
}

impl Found {
    async fn load(&self, stand: &Stand) -> Result<Arc<Plugin>, plugin::Error> {
        match &self.source {
            Source::Component(wasm) => stand.load(&self.name, wasm).await,
            Source::Description(provider) => stand.declare(provider).await,
        }
    }

    fn read_cases(&self, provider: &str) -> Result<Vec<Case>, Failure> {
        if let Some(directory) = &self.cases {
            return Ok(Case::read_all(directory, provider)?);
        }
        match self.carried()? {
            Some(files) => Ok(Case::all_in(&files, provider)?),
            None => Err(anyhow!(
                "{} has no cases here: name their folder with --cases; in it, one folder a case with request.http and \
                 expected.json, and route.toml with the secrets they are signed with",
                self.file
            )
            .into()),
        }
    }

    /// The cases that the file carries.
    fn carried(&self) -> anyhow::Result<Option<Files>> {
        let Source::Component(wasm) = &self.source else {
            return Ok(None);
        };
        let section = plugin::cases(wasm)?;
        let files = section.map(|section| Files::embedded(section, Path::new(&self.file)));
        Ok(files.transpose()?)
    }

    /// Whether it carries cases, and not those of the folder.
    fn carries_others(&self) -> anyhow::Result<bool> {
        let (Some(carried), Some(folder)) = (self.carried()?, &self.cases) else {
            return Ok(false);
        };
        Ok(Files::read(folder)?
            .to_embed()
            .is_ok_and(|(here, _)| !here.are(&carried)))
    }
}

/// The component that was built last in a project's folder.
fn built(project: &Path) -> anyhow::Result<PathBuf> {
    const FOLDERS: [&str; 5] = [
        "",
        "dist",
        "build",
        "target/wasm32-wasip2/release",
        "target/wasm32-wasip2/plugin",
    ];
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for folder in FOLDERS {
        let Ok(entries) = fs::read_dir(project.join(folder)) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "wasm")
                && let Ok(changed) = entry.metadata().and_then(|metadata| metadata.modified())
            {
                files.push((changed, path));
            }
        }
    }
    match files.into_iter().max() {
        Some((_, path)) => Ok(path),
        None => bail!(
            "there is no built plugin in {}: looked for *.wasm in it and in its {}; `callfeed plugin build` \
             makes it",
            display(project),
            FOLDERS[1..].join(", ")
        ),
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::New(args) => new::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Test(args) => test::run(args).await,
        Command::Inspect(args) => inspect::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Lab(args) => lab::run(args).await,
        Command::Pack(args) => pack::run(&args),
        Command::Install(args) => install::install(args).await,
        Command::Rollback(args) => install::rollback(args).await,
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
