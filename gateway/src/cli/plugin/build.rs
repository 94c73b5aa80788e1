//! `callfeed plugin build`.

use std::path::PathBuf;

use serde_json::json;

use super::{
    mebibytes,
    pack::{Choice, pack},
};
use crate::{
    cli::{Failure, display, say, say_error},
    kit::project,
};

/// Build a project, whatever its language.
///
/// One in Rust (Cargo.toml), JavaScript (package.json) or Python (pyproject.toml) is built with the tools of its language,
/// and the component put into its folder. What is missing on this machine is named, with the command that installs it.
///
/// The component carries the project's cases, and a gateway runs it with them before it serves it. The secrets in a
/// route.toml are in it then: they have to be made up.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The project's folder.
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let built = project::build(&args.directory, &mut |step| say_error(&format!("  {}", step.command)))?;
    let shown = display(&args.directory.join(format!("{}.wasm", built.name)));
    let packed = pack(&built.path, &args.choice, &args.directory.join("cases"))?;
    if args.json {
        let json = json!({
            "name": built.name, "language": built.language.as_str(), "file": shown, "bytes": packed.bytes,
            "cases": packed.cases, "left_out": packed.left_out,
        });
        say(&json.to_string());
        return Ok(());
    }
    packed.tell_left_out();
    say(&format!(
        "{shown}: {}, with {} cases. Next:\n",
        mebibytes(packed.bytes),
        packed.cases
    ));
    say(&format!("  callfeed plugin test {}", display(&args.directory)));
    Ok(())
}
