//! Logs: for people on a terminal, as JSON for programs.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Which variable sets the level, e.g. `debug` or `callfeed::outbound=debug,info`.
pub const LEVEL_VARIABLE: &str = "CALLFEED_LOG";

/// Makes one short line of a text that somebody else wrote: strangers must not forge lines or fill a disk.
pub fn one_line(text: &str, bytes_max: usize) -> String {
    let end = text.floor_char_boundary(bytes_max);
    let cut = if end < text.len() { "…" } else { "" };
    let printable = |c: char| {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            ' '
        } else {
            c
        }
    };
    text[..end].chars().map(printable).chain(cut.chars()).collect()
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `text` on a terminal, `json` otherwise.
    Auto,
    Text,
    Json,
}

/// Sends every log line of the process to standard error.
///
/// Does nothing when something else did so before. `default` holds unless the environment says otherwise.
pub fn log_to_stderr(format: Format, default: &str) {
    let filter = EnvFilter::try_from_env(LEVEL_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    let text = match format {
        Format::Auto => io::stderr().is_terminal(),
        Format::Text => true,
        Format::Json => false,
    };
    let lines = tracing_subscriber::registry().with(filter);
    let done = match text {
        true => lines
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(io::stderr)
                    .with_ansi(io::stderr().is_terminal())
                    .with_target(false),
            )
            .try_init(),
        false => lines
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(io::stderr),
            )
            .try_init(),
    };
    // The only failure is that a test or an embedding program was first.
    drop(done);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_one_line() {
        assert_eq!(one_line("all is well", 11), "all is well");
        assert_eq!(
            one_line("first\r\nERROR second \u{1b}[2J", 100),
            "first  ERROR second  [2J"
        );
        assert_eq!(one_line("déjà vu", 2), "d…");
    }
}
