//! Logs: for people on a terminal, as JSON for programs.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

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

/// Lets one line through in a second and counts the rest: strangers can cause such lines at will.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    last: Mutex<Option<Instant>>,
    suppressed: AtomicU64,
}

const SPEAK_EVERY: Duration = Duration::from_secs(1);

impl Quiet {
    /// `Some` with the number of lines kept back since the last one.
    pub(crate) fn speak(&self) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < SPEAK_EVERY) {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(Instant::now());
        Some(self.suppressed.swap(0, Ordering::Relaxed))
    }
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
    let asked = std::env::var_os(LEVEL_VARIABLE).filter(|text| !text.is_empty());
    let asked = asked.map(|text| filter(&text.to_string_lossy()));
    let (filter, wrong) = match asked {
        None => (EnvFilter::new(default), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(wrong)) => (EnvFilter::new(default), Some(wrong)),
    };
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
    if let Some(wrong) = wrong {
        tracing::warn!(
            "{LEVEL_VARIABLE} is not understood ({wrong}), so it is {default}; write error, warn, info, debug, trace or \
             a list such as callfeed::outbound=debug,info"
        );
    }
}

/// Reads what the variable says, or says what is wrong with it.
fn filter(text: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for part in text.split(',').map(str::trim) {
        // A word alone would be taken for the name of a module, and silence every other one.
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part));
        if !is_level && !part.contains(['=', '[']) && !part.starts_with("callfeed") {
            return Err(format!("{part:?} is no level"));
        }
    }
    EnvFilter::try_new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_or_refused() {
        for good in [
            "debug",
            "WARN",
            "off",
            "callfeed::outbound=debug,info",
            "callfeed::store, warn",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for wrong in ["", "verbose", "info,verbose", "callfeed=loud", "="] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
    }

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
