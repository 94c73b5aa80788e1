//! The commands. Tables for people on a terminal, `--json` for programs, exit codes that mean something.

use std::{
    borrow::Cow,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{
    config::{self, Checked, Problems, Refused},
    telemetry,
};

mod check;
mod deliveries;
mod demo;
mod erase;
mod events;
mod plugin;
mod quarantine;
mod reload;
mod renormalize;
mod running;
mod secret;
mod send;
mod serve;
mod subscribers;
mod table;

use running::Running;

/// One gateway between many call providers and many consumers: receives webhooks of any provider, keeps them durably,
/// and passes one kind of signed event on to every subscriber.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 the command line or the configuration is wrong.\n\n\
    Start here:\n  callfeed demo                          see five providers turn into one feed\n  \
    callfeed check --config callfeed.toml  is the configuration right?\n  \
    callfeed serve --config callfeed.toml  run it"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How log lines look on standard error; CALLFEED_LOG=debug sets how many there are.
    #[arg(long, global = true, value_enum, default_value = "auto", help_heading = "Logging")]
    log_format: telemetry::Format,
}

// Each command says in its file what it is for, and a variant's own words would hide that.
#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Check(check::Args),
    Demo(demo::Args),
    Send(send::Args),
    Events(events::Args),
    Deliveries(deliveries::Args),
    Subscribers(subscribers::Args),
    Quarantine(quarantine::Args),
    Renormalize(renormalize::Args),
    Erase(erase::Args),
    Reload(reload::Args),
    Plugin(plugin::Args),
    Secret(secret::Args),
}

/// The file that says everything.
#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(
        long = "config",
        short = 'c',
        value_name = "FILE",
        default_value = "callfeed.toml",
        env = "CALLFEED_CONFIG",
        // Also behind the words of a command.
        global = true
    )]
    path: PathBuf,
}

impl ConfigFile {
    /// Reads the file, or says everything that is wrong with it.
    fn load(&self) -> Result<Checked, Failure> {
        self.read().map_err(|refused| Failure::Config(refused.problems))
    }

    /// Reads the file for who can find further problems in it.
    fn read(&self) -> Result<Checked, Refused> {
        config::load(&self.path)
    }

    /// Reads where events are kept and nothing else, so that no secret is needed to see them.
    fn store(&self) -> Result<config::Store, Failure> {
        config::load_store(&self.path).map_err(Failure::Config)
    }

    /// Reads which files are plugins, under which bounds, and nothing else.
    fn plugins(&self) -> Result<(Vec<config::Plugin>, config::Limits), Failure> {
        config::load_plugins(&self.path).map_err(Failure::Config)
    }

    /// Reads where the running gateway is asked and nothing else.
    fn admin(&self) -> Result<config::Admin, Failure> {
        config::load_admin(&self.path).map_err(Failure::Config)
    }
}

/// Why a command ends without having done what it was asked.
#[derive(Debug)]
enum Failure {
    /// Exit code 2.
    Config(Problems),
    /// Exit code 1.
    Failed(anyhow::Error),
    /// Exit code 2; the problems have been said.
    ConfigSaid,
    /// Exit code 1; the command has said what there is to say.
    Silent,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs one command and says how it went.
pub async fn run(cli: Cli) -> ExitCode {
    let level = match cli.command {
        Command::Serve(_) => "info",
        // Thousands of odd bodies are meant to be complained of.
        Command::Plugin(_) => "error",
        _ => "warn",
    };
    telemetry::log_to_stderr(cli.log_format, level);
    let done = match cli.command {
        Command::Serve(args) => serve::run(args).await,
        Command::Check(args) => check::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Send(args) => send::run(args).await,
        Command::Events(args) => events::run(args).await,
        Command::Deliveries(args) => deliveries::run(args).await,
        Command::Subscribers(args) => subscribers::run(args).await,
        Command::Quarantine(args) => quarantine::run(args).await,
        Command::Renormalize(args) => renormalize::run(args).await,
        Command::Erase(args) => erase::run(args).await,
        Command::Reload(args) => reload::run(args).await,
        Command::Plugin(args) => plugin::run(args).await,
        Command::Secret(args) => secret::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Silent) => ExitCode::FAILURE,
        Err(Failure::ConfigSaid) => ExitCode::from(2),
        Err(Failure::Failed(error)) => fail(&error),
        Err(Failure::Config(problems)) => {
            say_error(&problems.to_string());
            ExitCode::from(2)
        }
    }
}

/// Says why the process ends, causes included.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    say_error(&format!("callfeed: {error:#}"));
    ExitCode::FAILURE
}

/// A line on standard output. A reader that went away, as `head` does, is no failure.
fn say(line: &str) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// Text that somebody else wrote: as it is for programs, without what would drive a terminal for people.
fn say_foreign(text: &str) {
    say(&for_terminal(text));
}

fn for_terminal(text: &str) -> Cow<'_, str> {
    if std::io::stdout().is_terminal() {
        escape(text)
    } else {
        Cow::Borrowed(text)
    }
}

/// Writes control characters out, as JSON does.
fn escape(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmful(c) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

fn say_error(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// The file's name for messages.
fn display(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_does_not_drive_the_terminal() {
        assert_eq!(escape("a\tb\né"), "a\tb\né");
        assert_eq!(
            escape("\u{1b}]0;x\u{7}\r\u{9b}2J"),
            "\\u001b]0;x\\u0007\\u000d\\u009b2J"
        );
    }
}
