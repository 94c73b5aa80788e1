//! Where things are: paths such as `route[acme].secrets.signing[#2]`, and their lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use toml::de::{DeTable, DeValue};

use super::{is_name, quote};

/// The line of every key in the file.
#[derive(Debug, Clone, Default)]
pub(in crate::config) struct Lines(BTreeMap<String, usize>);

impl Lines {
    pub(super) fn of(root: &DeTable<'_>, places: &Places<'_>) -> Self {
        let mut lines = Self::default();
        map_table(root, "", places, &mut lines);
        lines
    }

    fn insert(&mut self, path: String, line: usize) {
        self.0.insert(path, line);
    }

    pub(in crate::config) fn line_of(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return 0,
            }
        }
    }
}

/// Notes the line of every key, block and item under `path`.
fn map_table(entries: &DeTable<'_>, path: &str, places: &Places<'_>, lines: &mut Lines) {
    for (key, node) in entries {
        let path = join(path, key.get_ref());
        lines.insert(path.clone(), places.of(key.span().start).0);
        map_value(node.get_ref(), &path, places, lines);
    }
}

fn map_value(node: &DeValue<'_>, path: &str, places: &Places<'_>, lines: &mut Lines) {
    match node {
        DeValue::Table(entries) => map_table(entries, path, places, lines),
        DeValue::Array(nodes) => {
            let mut labels = Labels::new(path);
            for (index, node) in nodes.iter().enumerate() {
                let at_top = !path.contains(['.', '[']);
                let path = if at_top {
                    labels.next(node.get_ref())
                } else {
                    numbered(path, index)
                };
                lines.insert(path.clone(), places.of(node.span().start).0);
                map_value(node.get_ref(), &path, places, lines);
            }
        }
        _ => {}
    }
}

/// Names the blocks of one kind: by their `name` where that tells them apart, else by their number.
pub(super) struct Labels<'a> {
    kind: &'a str,
    index: usize,
    seen: BTreeSet<String>,
}

impl<'a> Labels<'a> {
    pub(super) fn new(kind: &'a str) -> Self {
        Self {
            kind,
            index: 0,
            seen: BTreeSet::new(),
        }
    }

    pub(super) fn next(&mut self, block: &DeValue<'_>) -> String {
        let name = block
            .as_table()
            .and_then(|entries| entries.get("name")?.get_ref().as_str());
        let name = name.filter(|name| is_name(name) && self.seen.insert((*name).to_owned()));
        let label = match name {
            Some(name) => format!("{}[{name}]", self.kind),
            None => numbered(self.kind, self.index),
        };
        self.index += 1;
        label
    }
}

pub(super) fn numbered(path: &str, index: usize) -> String {
    format!("{path}[#{}]", index + 1)
}

pub(in crate::config) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let key = if plain { key.to_owned() } else { quote(key) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Turns offsets into lines and columns.
pub(super) struct Places<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Places<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let ends = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(end, _)| end + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(ends).collect(),
        }
    }

    /// Line and column, both counted from 1.
    pub(super) fn of(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let before = self.text.get(self.starts[line - 1]..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// The lines from the header before `line` to that of the next block. An error in a header may come from a bracket
    /// left open in the block before.
    pub(super) fn block_around(&self, line: usize) -> Range<usize> {
        let first = (1..line).rev().find(|line| self.is_header(*line)).unwrap_or(1);
        let end = self.starts.len() + 1;
        first..(line + 1..end).find(|line| self.is_header(*line)).unwrap_or(end)
    }

    pub(super) fn is_header(&self, line: usize) -> bool {
        self.text[self.starts[line - 1]..].starts_with('[')
    }
}
