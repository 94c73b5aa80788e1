//! `callfeed plugin pack`, and what `build` does of it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use super::file;
use crate::{
    cli::{Failure, display, say, say_error},
    kit::Files,
    plugin,
};

/// Write cases into a component, for a gateway to run before it serves it.
///
/// For one that was built without `callfeed plugin build`, which does so itself. They take the place of those it carries;
/// the component is changed in nothing else. The secrets in a route.toml are in it then: they have to be made up.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The component.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Which cases a component carries.
#[derive(Debug, clap::Args)]
pub(super) struct Choice {
    /// The folder of the cases it carries, instead of `cases` beside it.
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Let it carry none.
    #[arg(long, conflicts_with = "cases")]
    no_cases: bool,
}

/// What a component carries now.
pub(super) struct Packed {
    pub(super) bytes: usize,
    pub(super) cases: usize,
    /// The names of those that do not say what should become of them.
    pub(super) left_out: Vec<String>,
}

impl Packed {
    pub(super) fn tell_left_out(&self) {
        for name in &self.left_out {
            say_error(&format!(
                "{name} has no expected.json and is left out; `callfeed plugin test` writes it with --bless"
            ));
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let usual = args.file.with_file_name("cases");
    if args.choice.cases.is_none() && !args.choice.no_cases && !usual.is_dir() {
        return Err(anyhow::anyhow!("there is no folder {}: name one with --cases", display(&usual)).into());
    }
    let packed = pack(&args.file, &args.choice, &usual)?;
    let shown = display(&args.file);
    if args.json {
        say(
            &json!({ "file": shown, "bytes": packed.bytes, "cases": packed.cases, "left_out": packed.left_out })
                .to_string(),
        );
        return Ok(());
    }
    packed.tell_left_out();
    say(&format!("{shown} carries {} cases", packed.cases));
    Ok(())
}

/// Writes the cases of a choice into a component; those of the usual folder, if there is one, where none is chosen.
pub(super) fn pack(component: &Path, choice: &Choice, usual: &Path) -> anyhow::Result<Packed> {
    let wrong = |error: plugin::Error| anyhow::anyhow!("{}: {error}", display(component));
    let wasm = plugin::read_file(component, u64::MAX).map_err(wrong)?;
    let folder = match &choice.cases {
        Some(folder) => Some(folder.as_path()),
        None => Some(usual).filter(|usual| !choice.no_cases && usual.is_dir()),
    };
    let (files, left_out) = match folder {
        Some(folder) => {
            let (files, left_out) = Files::read(folder)?.to_embed()?;
            (Some(files), left_out)
        }
        None => (None, Vec::new()),
    };
    let files = files.filter(|files| !files.names().is_empty());
    let section = files.as_ref().map(Files::section);
    let packed = plugin::with_cases(&wasm, section.as_deref()).map_err(wrong)?;
    if packed != wasm {
        file::replace(component, &packed).with_context(|| format!("failed to write {}", display(component)))?;
    }
    Ok(Packed {
        bytes: packed.len(),
        cases: files.map_or(0, |files| files.names().len()),
        left_out,
    })
}
