//! `callfeed plugin new`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde_json::json;

use crate::{
    cli::{Failure, display, say},
    kit::project::{self, Language},
};

/// Write a project that builds and passes as it is.
///
/// It is small and whole: a manifest, the source with one event mapped, cases, and a README. The SDK and the contract are in it. Nothing that is there is overwritten.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The provider's name, as routes and paths will have it: lower-case letters, digits and hyphens.
    name: String,
    /// What to write it in.
    #[arg(long, value_name = "LANGUAGE", value_parser = PossibleValuesParser::new(Language::ALL.map(Language::as_str))
        .try_map(|name| Language::ALL.into_iter().find(|language| language.as_str() == name).ok_or("there is no such language")))]
    lang: Language,
    /// Where to, instead of a folder of its name here.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let directory = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let files = project::create(&args.name, args.lang, &directory)?;
    if args.json {
        say(&json!({ "name": args.name, "language": args.lang.as_str(), "directory": display(&directory), "files": files })
            .to_string());
        return Ok(());
    }
    let shown = display(&directory);
    say(&format!("{shown} has a plugin in {} files. Next:\n", files.len()));
    say(&format!(
        "  cd {shown}\n  callfeed plugin build      # makes {}.wasm\n  callfeed plugin test .     # its cases, and everything \
         else that must hold",
        args.name
    ));
    Ok(())
}
