//! The file's shape: a cursor over the parsed TOML that takes one key after the other and collects every problem,
//! where a derived deserializer would stop at the first.
//!
//! A take that fails has reported why and gives `None` or the default; the reader goes on to the next key. What it
//! makes in the end counts only when [`Document::finish`] has no error. Nothing here knows what a key means.

mod place;
mod syntax;

use std::{
    cell::RefCell,
    fmt::{Display, Write as _},
    ops::{Range, RangeInclusive},
    time::Duration,
};

use bytesize::ByteSize;
use jiff::{SpanRelativeTo, fmt::friendly::SpanParser};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

pub(super) use self::place::{Lines, join};
use self::{
    place::{Labels, Places, numbered},
    syntax::explain,
};
use super::problem::{Problem, Severity};

/// A parsed file and the problems found in it so far.
pub(super) struct Document<'a> {
    root: DeTable<'a>,
    report: Report,
}

/// Problems collect here while cursors are out.
pub(super) struct Report {
    lines: Lines,
    problems: RefCell<Vec<Problem>>,
    /// The parser understood everything. Otherwise what seems to be missing may be what it did not understand.
    whole: bool,
    /// Lines of blocks with a syntax error, where what was understood may not be what was written.
    doubtful: Vec<Range<usize>>,
    #[cfg(test)]
    pub(super) keys: RefCell<Keys>,
}

/// What the reader asked for and what it found, by shape (`route[].path`), so that a test can tell whether the example
/// shows everything.
#[cfg(test)]
#[derive(Default)]
pub(super) struct Keys {
    pub(super) known: std::collections::BTreeSet<String>,
    pub(super) found: std::collections::BTreeSet<String>,
}

impl<'a> Document<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let root = root.into_inner();
        let places = Places::new(text);

        let lines = Lines::of(&root, &places);
        let (problems, doubtful) = explain(errors, text, &places);
        let report = Report {
            lines,
            problems: RefCell::new(problems),
            whole: doubtful.is_empty(),
            doubtful,
            #[cfg(test)]
            keys: RefCell::default(),
        };
        Self { root, report }
    }

    /// Reads the whole file; keys that `read` does not take are reported as unknown.
    pub(super) fn read<R>(&self, read: impl FnOnce(&mut Table<'_>) -> R) -> R {
        Table::read(Some(&self.root), String::new(), String::new(), &self.report, read)
    }

    pub(super) fn report(&self) -> &Report {
        &self.report
    }

    /// Reads a part of it and nothing around that.
    pub(super) fn read_part<R>(&self, read: impl FnOnce(&mut Table<'_>) -> R) -> R {
        let mut root = Table {
            entries: Some(&self.root),
            path: String::new(),
            shape: String::new(),
            known: Vec::new(),
            report: &self.report,
        };
        read(&mut root)
    }

    /// Every problem found, in no order, and the lines for later ones.
    pub(super) fn finish(self) -> (Vec<Problem>, Lines) {
        (self.report.problems.into_inner(), self.report.lines)
    }
}

impl Report {
    /// Something written is wrong.
    pub(super) fn problem(&self, path: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.push(Problem::new(self.lines.line_of(path), path, message, remedy));
    }

    pub(super) fn warn(&self, path: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.push(Problem::warning(self.lines.line_of(path), path, message, remedy));
    }

    /// Something is not there: said only of a file that was understood completely.
    pub(super) fn absent(&self, path: &str, message: impl Into<String>, remedy: impl Into<String>) {
        if self.whole {
            self.problem(path, message, remedy);
        }
    }

    pub(super) fn absent_warn(&self, path: &str, message: impl Into<String>, remedy: impl Into<String>) {
        if self.whole {
            self.warn(path, message, remedy);
        }
    }

    fn push(&self, problem: Problem) {
        if !self.is_doubtful(problem.line) {
            self.problems.borrow_mut().push(problem);
        }
    }

    pub(super) fn is_doubtful(&self, line: usize) -> bool {
        self.doubtful.iter().any(|block| block.contains(&line))
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn line_of(&self, path: &str) -> usize {
        self.lines.line_of(path)
    }

    pub(super) fn has_errors(&self) -> bool {
        self.problems
            .borrow()
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }
}

/// A table being read. One that is not in the file reads as empty.
pub(super) struct Table<'a> {
    entries: Option<&'a DeTable<'a>>,
    path: String,
    shape: String,
    known: Vec<&'static str>,
    report: &'a Report,
}

impl<'a> Table<'a> {
    fn read<R>(
        entries: Option<&'a DeTable<'a>>,
        path: String,
        shape: String,
        report: &'a Report,
        read: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let mut table = Self {
            entries,
            path,
            shape,
            known: Vec::new(),
            report,
        };
        let result = read(&mut table);
        table.report_unknown_keys();
        result
    }

    fn report_unknown_keys(&self) {
        for key in self.entries.into_iter().flatten().map(|(key, _)| key.get_ref()) {
            if !self.known.contains(&key.as_ref()) {
                let remedy = match nearest(key, self.known.iter().copied()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("known here: {}", self.known.join(", ")),
                };
                self.report.problem(&join(&self.path, key), "unknown key", remedy);
            }
        }
    }

    /// Where this table is, e.g. `route[acme]`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    pub(super) fn report(&self) -> &'a Report {
        self.report
    }

    /// The value of a key, if it is there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let node = self.entries.and_then(|entries| entries.get(key));
        let shape = join(&self.shape, key);
        #[cfg(test)]
        {
            let mut keys = self.report.keys.borrow_mut();
            if node.is_some() {
                keys.found.insert(shape.clone());
            }
            keys.known.insert(shape.clone());
        }
        Some(Value {
            node: node?.get_ref(),
            path: join(&self.path, key),
            shape,
            report: self.report,
        })
    }

    /// The value of a key that has to be there; `remedy` says what to write.
    pub(super) fn require(&mut self, key: &'static str, remedy: &str) -> Option<Value<'a>> {
        let value = self.take(key);
        if value.is_none() {
            self.report.absent(&self.path_of(key), "is missing", remedy);
        }
        value
    }

    /// Reads a table that may be left out.
    pub(super) fn section<R>(&mut self, key: &'static str, read: impl FnOnce(&mut Table<'a>) -> R) -> R {
        let (path, shape) = (join(&self.path, key), join(&self.shape, key));
        let entries = self.take(key).and_then(|value| value.as_table());
        Table::read(entries, path, shape, self.report, read)
    }

    /// Reads `[[key]]` blocks; `None` when something else stands there.
    pub(super) fn blocks<R>(&mut self, key: &'static str, mut read: impl FnMut(&mut Table<'a>) -> R) -> Option<Vec<R>> {
        let Some(value) = self.take(key) else {
            return Some(Vec::new());
        };
        let DeValue::Array(nodes) = value.node else {
            value.wrong_type("blocks", &format!("write [[{key}]]"));
            return None;
        };
        let mut labels = Labels::new(&value.path);
        let mut read_all = Vec::new();
        for node in nodes.iter().map(Spanned::get_ref) {
            let item = Value {
                node,
                path: labels.next(node),
                shape: format!("{}[]", value.shape),
                report: self.report,
            };
            read_all.push(item.table(&mut read));
        }
        read_all.into_iter().collect()
    }

    pub(super) fn integer<T>(&mut self, key: &'static str, range: RangeInclusive<T>, default: T) -> T
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        self.take(key).and_then(|value| value.integer(range)).unwrap_or(default)
    }

    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        self.take(key).and_then(|value| value.boolean()).unwrap_or(default)
    }

    pub(super) fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        self.take(key)
            .and_then(|value| value.duration(range))
            .unwrap_or(default)
    }

    /// A size in bytes.
    pub(super) fn size<T>(&mut self, key: &'static str, range: RangeInclusive<T>, default: T) -> T
    where
        T: TryFrom<u64> + PartialOrd + Copy,
        u64: TryFrom<T>,
    {
        self.take(key).and_then(|value| value.size(range)).unwrap_or(default)
    }
}

/// A value in its place.
pub(super) struct Value<'a> {
    node: &'a DeValue<'a>,
    path: String,
    shape: String,
    report: &'a Report,
}

impl<'a> Value<'a> {
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn problem(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.report.problem(&self.path, message, remedy);
    }

    pub(super) fn warn(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.report.warn(&self.path, message, remedy);
    }

    /// What the value refers to is not there.
    pub(super) fn absent(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.report.absent(&self.path, message, remedy);
    }

    pub(super) fn report(&self) -> &'a Report {
        self.report
    }

    pub(super) fn wrong_type(&self, wanted: &str, remedy: &str) {
        let found = match self.node {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.problem(format!("should be {wanted}, is {found}"), remedy);
    }

    /// Text that is not empty.
    pub(super) fn text(&self) -> Option<&'a str> {
        match self.node {
            DeValue::String(text) if text.trim().is_empty() => {
                self.problem("is empty", "fill it in or leave the key out");
                None
            }
            DeValue::String(text) => Some(text),
            _ => {
                self.wrong_type("text", "put it in quotes");
                None
            }
        }
    }

    /// Text that may be empty.
    pub(super) fn any_text(&self) -> Option<&'a str> {
        match self.node {
            DeValue::String(text) => Some(text),
            _ => self.text(),
        }
    }

    pub(super) fn is(&self, text: &str) -> bool {
        self.node.as_str() == Some(text)
    }

    pub(super) fn is_table(&self) -> bool {
        self.node.is_table()
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.node, DeValue::String(_))
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.node {
            DeValue::Boolean(value) => Some(*value),
            _ => {
                self.wrong_type("true or false", "write one of them, without quotes");
                None
            }
        }
    }

    pub(super) fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let DeValue::Integer(integer) = self.node else {
            self.wrong_type("a whole number", "write it without quotes");
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number));
        if number.is_none() {
            let remedy = format!("choose one from {} to {}", range.start(), range.end());
            self.problem(format!("{} is out of range", cut(&integer.to_string())), remedy);
        }
        number
    }

    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        const REMEDY: &str = "write a number and its unit in quotes, such as \"250ms\", \"15s\", \"1h 30m\" or \"30d\"";
        let DeValue::String(text) = self.node else {
            self.wrong_type("a duration", REMEDY);
            return None;
        };
        let Some(duration) = parse_duration(text) else {
            self.problem(format!("{} is not a duration", quote(text)), REMEDY);
            return None;
        };
        if !range.contains(&duration) {
            let (least, most) = (print_duration(*range.start()), print_duration(*range.end()));
            self.problem(
                format!("{} is out of range", quote(text)),
                format!("choose one from {least} to {most}"),
            );
            return None;
        }
        Some(duration)
    }

    /// A size in bytes.
    pub(super) fn size<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<u64> + PartialOrd + Copy,
        u64: TryFrom<T>,
    {
        const REMEDY: &str = "write a number and its unit in quotes, such as \"64 KiB\" or \"1 MiB\"";
        let DeValue::String(text) = self.node else {
            self.wrong_type("a size", REMEDY);
            return None;
        };
        let Ok(size) = text.parse::<ByteSize>() else {
            self.problem(format!("{} is not a size", quote(text)), REMEDY);
            return None;
        };
        let bytes = T::try_from(size.as_u64()).ok().filter(|bytes| range.contains(bytes));
        if bytes.is_none() {
            let print = |bound: T| {
                ByteSize(u64::try_from(bound).unwrap_or(u64::MAX))
                    .display()
                    .iec()
                    .to_string()
            };
            let remedy = format!("choose one from {} to {}", print(*range.start()), print(*range.end()));
            self.problem(format!("{} is out of range", quote(text)), remedy);
        }
        bytes
    }

    /// The items of a list that has at least one.
    pub(super) fn items(&self) -> Vec<Value<'a>> {
        let DeValue::Array(nodes) = self.node else {
            self.wrong_type("a list", "put it in square brackets");
            return Vec::new();
        };
        if nodes.is_empty() {
            self.problem("is an empty list", "fill it in or leave the key out");
        }
        let items = nodes.iter().enumerate().map(|(index, node)| Value {
            node: node.get_ref(),
            path: numbered(&self.path, index),
            shape: format!("{}[]", self.shape),
            report: self.report,
        });
        items.collect()
    }

    /// The items of a list, or the one value that stands for a list of one.
    pub(super) fn items_or_one(self) -> Vec<Value<'a>> {
        match self.node {
            DeValue::Array(_) => self.items(),
            _ => vec![self],
        }
    }

    fn as_table(&self) -> Option<&'a DeTable<'a>> {
        match self.node {
            DeValue::Table(entries) => Some(entries),
            DeValue::Array(nodes) if nodes.iter().all(|node| node.get_ref().is_table()) => {
                self.wrong_type("one table", "write it once, in single square brackets or in braces");
                None
            }
            _ => {
                self.wrong_type("a table", "write { key = value }");
                None
            }
        }
    }

    /// Reads a table with known keys.
    pub(super) fn table<R>(self, read: impl FnOnce(&mut Table<'a>) -> R) -> Option<R> {
        let entries = self.as_table()?;
        Some(Table::read(Some(entries), self.path, self.shape, self.report, read))
    }

    /// Reads a table whose shape is the same wherever it stands.
    pub(super) fn table_like<R>(mut self, shape: &str, read: impl FnOnce(&mut Table<'a>) -> R) -> Option<R> {
        self.shape = shape.to_owned();
        self.table(read)
    }

    /// The entries of a table whose keys are the operator's to choose.
    pub(super) fn entries(&self) -> Option<Vec<(&'a str, Value<'a>)>> {
        let entries = self.as_table()?.iter().map(|(key, node)| {
            let key = key.get_ref().as_ref();
            let (path, shape) = (join(&self.path, key), format!("{}.*", self.shape));
            (
                key,
                Value {
                    node: node.get_ref(),
                    path,
                    shape,
                    report: self.report,
                },
            )
        });
        Some(entries.collect())
    }

    /// A table as a JSON object.
    pub(super) fn json_object(&self) -> Option<serde_json::Value> {
        let entries = self.as_table()?;
        Some(self.json_table(entries, &self.path))
    }

    fn json_table(&self, entries: &DeTable<'_>, path: &str) -> serde_json::Value {
        let members = entries.iter().map(|(key, node)| {
            let key = key.get_ref();
            (key.to_string(), self.json(node.get_ref(), &join(path, key)))
        });
        serde_json::Value::Object(members.collect())
    }

    fn json(&self, node: &DeValue<'_>, path: &str) -> serde_json::Value {
        let number = |number: Option<serde_json::Number>| {
            if number.is_none() {
                self.report.problem(
                    path,
                    "is a number that JSON does not have",
                    "write a finite number of at most 64 bits",
                );
            }
            number.map_or(serde_json::Value::Null, serde_json::Value::Number)
        };
        match node {
            DeValue::String(text) => serde_json::Value::String(text.to_string()),
            DeValue::Integer(integer) => number(
                i64::from_str_radix(integer.as_str(), integer.radix())
                    .ok()
                    .map(Into::into),
            ),
            DeValue::Float(float) => number(float.as_str().parse().ok().and_then(serde_json::Number::from_f64)),
            DeValue::Boolean(value) => serde_json::Value::Bool(*value),
            DeValue::Datetime(datetime) => serde_json::Value::String(datetime.to_string()),
            DeValue::Array(nodes) => {
                let items = nodes.iter().enumerate();
                items
                    .map(|(index, node)| self.json(node.get_ref(), &numbered(path, index)))
                    .collect()
            }
            DeValue::Table(entries) => self.json_table(entries, path),
        }
    }
}

/// The names of routes, plugins and subscribers: they stand in URLs, ids, labels and paths.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

/// The candidate that `text` was probably meant to be.
pub(super) fn nearest<'c>(text: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let text = cut(text);
    let distances = candidates.map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate));
    let (distance, nearest) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= (nearest.len() / 3).max(1)).then_some(nearest)
}

/// A value the operator wrote, for a message. Not for anything that may be a secret.
pub(super) fn quote(text: &str) -> String {
    let short = cut(text);
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

fn cut(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(end, _)| &text[..end])
}

/// Days have 24 hours.
fn parse_duration(text: &str) -> Option<Duration> {
    let span = SpanParser::new().parse_span(text).ok()?;
    span.to_duration(SpanRelativeTo::days_are_24_hours())
        .ok()?
        .try_into()
        .ok()
}

/// As [`parse_duration`] reads it, to the millisecond.
pub(super) fn print_duration(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, millis) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ] {
        if rest >= millis {
            let space = if text.is_empty() { "" } else { " " };
            write!(text, "{space}{}{unit}", rest / millis).expect("writing to memory does not fail");
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}
