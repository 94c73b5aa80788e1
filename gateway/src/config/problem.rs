//! What is wrong with a configuration: all of it at once, each with its place and what to do about it.

use std::fmt;

use serde::Serialize;

use super::{Config, Limits, Plugin, Provider, Route, raw::Lines};

/// One thing to change in the file. Never holds a secret, nor a value that may be one.
///
/// Displayed as `callfeed.toml:12: route[acme].path: has to start with a slash; write "/hooks/acme"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as the operator named it.
    file: String,
    /// Counted from 1; 0 when the problem is with the whole file.
    pub line: usize,
    /// Where in the configuration, e.g. `route[acme].secrets.signing`. Blocks go by their name, or by `#` and their
    /// number, as do items of lists. Empty for a problem with the file or its syntax.
    pub path: String,
    pub severity: Severity,
    /// What is wrong, fit to follow the path.
    pub message: String,
    /// What to do. May be empty.
    pub remedy: String,
}

/// Whether the gateway starts all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Error,
    Warning,
}

impl Problem {
    /// Something the gateway does not start with.
    pub fn new(line: usize, path: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: String::new(),
            line,
            path: path.into(),
            severity: Severity::Error,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// Something the operator should know and may want.
    pub fn warning(
        line: usize,
        path: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::new(line, path, message, remedy)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.file.is_empty() {
            "configuration"
        } else {
            &self.file
        })?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        f.write_str(": ")?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Why there is no configuration: every problem found, warnings included, in the order of the file.
///
/// Displayed one a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `file` is the name to print.
    pub fn new(file: String, mut problems: Vec<Problem>) -> Self {
        for problem in &mut problems {
            problem.file.clone_from(&file);
        }
        // Stable: problems of one line stay in the order of the checks.
        problems.sort_by_key(|problem| problem.line);
        Self(problems)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    pub(super) fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A configuration the gateway can start with, and what is still worth a word.
#[derive(Debug, Clone)]
pub struct Checked {
    pub config: Config,
    pub warnings: Vec<Problem>,
    pub(super) source: Source,
}

impl Checked {
    /// The line of a path such as `route[acme].options.header`; where the file does not have it, that of the
    /// closest table around it.
    pub fn line_of(&self, path: &str) -> usize {
        self.source.lines.line_of(path)
    }

    /// The problems found by later checks together with the warnings so far, as one list. Where the file has a
    /// problem's path, or the start of it, that is its line.
    pub fn refuse(&self, problems: Vec<Problem>) -> Problems {
        self.source.join(&self.warnings, problems)
    }

    /// Adds to the warnings what later checks found worth a word.
    pub fn warn(&mut self, problems: Vec<Problem>) {
        self.warnings = self.source.join(&self.warnings, problems).0;
    }
}

/// A configuration the gateway cannot start with, and what could be read of it all the same, so that later checks can
/// add to the list.
#[derive(Debug)]
pub struct Refused {
    pub problems: Problems,
    pub readable: Box<Readable>,
    pub(super) source: Source,
}

/// The part of a refused configuration that plugins have a say in. What could not be read of a route stands at its
/// default: good for finding further problems and for nothing else.
#[derive(Debug, Default)]
pub struct Readable {
    pub limits: Limits,
    pub plugins: Vec<Plugin>,
    pub providers: Vec<Provider>,
    pub routes: Vec<Route>,
    /// Names of plugins whose blocks could not be read: a route that names one is not wrong for that.
    pub plugins_unreadable: Vec<String>,
    /// The parser understood the whole file. Otherwise what a route refers to may be in what it did not understand.
    pub whole: bool,
}

impl Refused {
    /// What was wrong already together with the problems found by later checks, as one list; lines as
    /// [`Checked::refuse`] finds them.
    pub fn refuse(&self, problems: Vec<Problem>) -> Problems {
        self.source.join(&self.problems.0, problems)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problems.fmt(f)
    }
}

impl std::error::Error for Refused {}

/// The file that problems are found in.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    pub(super) file: String,
    pub(super) lines: Lines,
}

impl Source {
    fn join(&self, earlier: &[Problem], mut later: Vec<Problem>) -> Problems {
        for problem in &mut later {
            match self.lines.line_of(&problem.path) {
                0 => {}
                line => problem.line = line,
            }
        }
        let mut problems = earlier.to_vec();
        problems.append(&mut later);
        Problems::new(self.file.clone(), problems)
    }
}
