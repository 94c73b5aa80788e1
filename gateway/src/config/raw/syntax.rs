//! What the parser does not understand, said so that the one mistake is found.

use std::{collections::BTreeMap, ops::Range};

use super::{Problem, place::Places, quote};

/// The parser's errors as problems, and the lines of the blocks they make doubtful.
pub(super) fn explain(
    errors: Vec<toml::de::Error>,
    text: &str,
    places: &Places<'_>,
) -> (Vec<Problem>, Vec<Range<usize>>) {
    let mut by_line: BTreeMap<usize, Vec<(usize, &str, &str)>> = BTreeMap::new();
    for error in &errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        let (line, column) = places.of(span.start);
        let written = text.get(span).unwrap_or_default().trim();
        by_line
            .entry(line)
            .or_default()
            .push((column, error.message(), written));
    }

    let (mut problems, mut doubtful) = (Vec::new(), Vec::new());
    let mut last = 0;
    for (line, errors) in by_line {
        // A bracket left open trips the parser on every line after.
        let follows = last + 1 == line
            && errors
                .iter()
                .any(|(_, message, _)| message.starts_with("missing comma"));
        last = line;
        // One mistake often trips it several times on its line.
        let Some((column, message, written)) = errors.into_iter().min().filter(|_| !follows) else {
            continue;
        };
        if message == "duplicate key" {
            let remedy = "keep one of the two; several blocks of a kind are written [[…]]";
            problems.push(Problem::new(
                line,
                "",
                format!("{} is set a second time", quote(written)),
                remedy,
            ));
            continue;
        }
        doubtful.push(places.block_around(line));
        let (what, wanted) = message.split_once(", expected ").unwrap_or((message, ""));
        let (what, remedy) = match what {
            _ if places.is_header(line) && !what.starts_with("unclosed") => (
                "a header is in the wrong place",
                "close the brackets and quotes above it".to_owned(),
            ),
            "string values must be quoted" if written.is_empty() => ("a value is missing", String::new()),
            "string values must be quoted" => ("text without quotes", String::new()),
            // A word that starts like true, false, inf or nan.
            "invalid boolean" | "invalid float" if written.starts_with(|first: char| first.is_ascii_alphabetic()) => {
                ("text without quotes", String::new())
            }
            _ if wanted.is_empty() || wanted == "nothing" => (what, String::new()),
            _ => (what, format!("expected {wanted}")),
        };
        problems.push(Problem::new(
            line,
            "",
            format!("not TOML at column {column}: {what}"),
            remedy,
        ));
    }
    (problems, doubtful)
}
