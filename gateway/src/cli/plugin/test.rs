//! `callfeed plugin test`.

use std::{
    fs,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use serde_json::json;

use super::{Found, Subject, mebibytes, milliseconds};
use crate::{
    cli::{Failure, display, say, say_error, say_foreign},
    kit::{self, Check, Options, Outcome, Progress, Report, Stand},
    plugin::Plugin,
};

/// Run a plugin's cases and every check of the kit: nothing forged, nothing lost, nothing that stops it.
///
/// From the cases it works out what else must hold of the plugin: a signed webhook with any byte changed is
/// refused, every secret counts, the same webhook becomes the same events, nothing of a body is lost, and thousands of odd
/// bodies neither stop it nor become what is no event.
///
/// A case is a folder with `request.http`, a webhook signed as the provider signs it, and `expected.json`, what becomes of
/// it (`--bless` writes it); `route.toml` beside the cases has the secrets and options they run with.
///
/// Checks that a plugin's assurance rules out say so: `signed-body` plugins have to refuse every changed body,
/// `signed-derived` ones those that mean something else, and nothing protects the body of a `token` one. Fails with exit
/// code 1 when a check fails.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Run this check alone; may be repeated.
    #[arg(long, value_name = "CHECK", value_parser = PossibleValuesParser::new(
        Check::ALL.map(|check| PossibleValue::new(check.name()).help(check.about()))
    ).try_map(|name| Check::named(&name).ok_or("there is no such check")))]
    only: Vec<Check>,
    /// How many odd bodies are tried.
    #[arg(long, value_name = "N", default_value_t = Options::default().mutations)]
    mutations: usize,
    /// What chance is made of: the same seed makes the same odd bodies.
    #[arg(long, default_value_t = Options::default().seed)]
    seed: u64,
    /// How many bytes of a body or a header are changed; of longer ones as many, evenly spread.
    #[arg(long, value_name = "N", default_value_t = Options::default().bytes)]
    bytes: usize,
    /// How large the largest bodies are that are tried, in KiB; a plugin's own bound applies as well.
    #[arg(long, value_name = "KIB", default_value_t = Options::default().body_bytes_max >> 10)]
    largest_body: usize,
    /// Write what becomes of each case as its expected.json, then run the checks.
    #[arg(long)]
    bless: bool,
    /// Write the webhooks that show the failures into this folder, each as a request.http.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let found = args.subject.find()?;
    if args.bless && found.cases.is_none() {
        return Err(anyhow::anyhow!("there is no folder of cases to write into; name it with --cases").into());
    }
    let stand = Stand::new(&args.subject.limits())?;
    let plugin = match found.load(&stand).await {
        Ok(plugin) => plugin,
        Err(error) => return tell(&args, &found, None, &Report::refused(&error)),
    };
    let provider = plugin.descriptor.provider.clone();
    let mut cases = found.read_cases(&provider)?;
    if args.bless {
        for name in kit::bless(&stand, &plugin, &cases).await? {
            if !args.json {
                say_foreign(&format!("{name}: expected.json written"));
            }
        }
        cases = found.read_cases(&provider)?;
    }
    let options = Options {
        only: args.only.clone(),
        seed: args.seed,
        mutations: args.mutations,
        bytes: args.bytes,
        body_bytes_max: args.largest_body << 10,
    };
    let mut line = ProgressLine::new(!args.json && std::io::stderr().is_terminal());
    let report = kit::examine(&stand, &plugin, &cases, &options, &mut |progress| line.show(progress)).await;
    line.clear();
    if args.subject.cases.is_none() && found.carries_others()? {
        say_error(&format!(
            "{} does not carry the cases that are here now: `callfeed plugin build` puts them in",
            found.file
        ));
    }
    tell(&args, &found, Some(&plugin), &report)
}

fn tell(args: &Args, found: &Found, plugin: Option<&Plugin>, report: &Report) -> Result<(), Failure> {
    let saved = match &args.save {
        Some(directory) => save(directory, &found.name, report)?,
        None => Vec::new(),
    };
    if args.json {
        let mut json = report.json();
        json["plugin"] = found.file.as_str().into();
        json["saved"] = json!(saved.iter().map(|path| display(path)).collect::<Vec<_>>());
        say(&json.to_string());
    } else {
        if let Some(plugin) = plugin {
            let descriptor = &plugin.descriptor;
            say_foreign(&format!(
                "{}: {} {}, {}",
                found.file,
                descriptor.display_name,
                descriptor.version,
                descriptor.assurance.as_str()
            ));
        } else {
            say(&found.file);
        }
        lines(report).iter().for_each(|line| say_foreign(line));
        for path in &saved {
            say(&format!("the webhook that shows it is in {}", display(path)));
        }
        say(&summary(report));
    }
    match report.passed() {
        true => Ok(()),
        false => Err(Failure::Silent),
    }
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in &report.findings {
        let name = finding.check.name();
        match &finding.outcome {
            Outcome::Passed(tried) => lines.push(format!("  ✓ {name:<15} {tried}")),
            Outcome::NotApplicable(reason) => lines.push(format!("  – {name:<15} not applicable: {reason}")),
            Outcome::Failed { failures, count } => {
                lines.push(format!("  ✗ {name:<15} {count} failed; {}", finding.check.about()));
                for failure in failures {
                    lines.push(format!("      {}", failure.what.trim_end().replace('\n', "\n      ")));
                }
                if let Some(more) = count.checked_sub(failures.len() + 1) {
                    lines.push(format!("      and {} more", more + 1));
                }
            }
        }
    }
    lines
}

fn summary(report: &Report) -> String {
    let count = |wanted: fn(&Outcome) -> bool| {
        report
            .findings
            .iter()
            .filter(|finding| wanted(&finding.outcome))
            .count()
    };
    let passed = count(|outcome| matches!(outcome, Outcome::Passed(_)));
    let failed = count(|outcome| matches!(outcome, Outcome::Failed { .. }));
    let verdict = if failed == 0 { "right" } else { "wrong" };
    format!(
        "{verdict}: {passed} checks passed, {failed} failed, {} not applicable; {} calls, at most {} of processor time and {}",
        report.findings.len() - passed - failed,
        report.calls,
        milliseconds(report.time_max),
        mebibytes(report.memory_bytes_max)
    )
}

/// Writes the webhook of every failure that has one.
fn save(directory: &Path, name: &str, report: &Report) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory).with_context(|| format!("failed to make {}", display(directory)))?;
    let mut saved = Vec::new();
    for finding in &report.findings {
        let Outcome::Failed { failures, .. } = &finding.outcome else {
            continue;
        };
        let requests = failures.iter().filter_map(|failure| failure.request.as_ref());
        for (at, request) in requests.enumerate() {
            let path = directory.join(format!("{name}-{}-{}.http", finding.check.name(), at + 1));
            fs::write(&path, request).with_context(|| format!("failed to write {}", display(&path)))?;
            saved.push(path);
        }
    }
    Ok(saved)
}

/// One line on a terminal that is written over.
struct ProgressLine {
    shown: bool,
    last: String,
}

impl ProgressLine {
    fn new(shown: bool) -> Self {
        Self {
            shown,
            last: String::new(),
        }
    }

    fn show(&mut self, progress: Progress) {
        let share = progress.done * 100 / progress.of.max(1);
        let text = format!("{} {share} %", progress.check.name());
        if self.shown && text != self.last {
            drop(write!(std::io::stderr().lock(), "\r\u{1b}[K{text}"));
            self.last = text;
        }
    }

    fn clear(&self) {
        if !self.last.is_empty() {
            drop(write!(std::io::stderr().lock(), "\r\u{1b}[K"));
        }
    }
}
