//! The places of a webhook that something is taken from, and the texts that may stand there.

use callfeed_description::{Condition, Pointer, Text};

use super::all;
use crate::config::raw::{Value, quote};

/// What is read of a webhook, or of an item of one of its lists.
#[derive(Default)]
pub(super) struct Scope {
    pub(super) pointers: Vec<Pointer<'static>>,
    pub(super) is_item: bool,
}

impl Scope {
    pub(super) fn place(&mut self, value: &Value<'_>) -> Option<usize> {
        self.place_of(value.any_text()?, value)
    }

    fn place_of(&mut self, text: &str, value: &Value<'_>) -> Option<usize> {
        let pointer = match text {
            "" if self.is_item => Pointer::new(),
            _ => pointer(text, value)?,
        };
        let known = self.pointers.iter().position(|known| *known == pointer);
        Some(known.unwrap_or_else(|| {
            self.pointers.push(pointer);
            self.pointers.len() - 1
        }))
    }

    /// Outer places before inner ones.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.pointers.len()).collect();
        order.sort_by_key(|place| self.pointers[*place].len());
        order
    }

    pub(super) fn conditions(&mut self, value: &Value<'_>) -> Option<Vec<Condition<'static>>> {
        let conditions = value.entries()?.into_iter().map(|(place, value)| {
            let place = self.place_of(place, &value)?;
            let patterns = value.items_or_one();
            let patterns = patterns.iter().map(|value| pattern(value.text()?, value));
            Some((place, all(patterns)?))
        });
        all(conditions)
    }
}

/// A JSON Pointer, RFC 6901.
pub(in super::super) fn pointer(text: &str, value: &Value<'_>) -> Option<Pointer<'static>> {
    let Some(path) = text.strip_prefix('/') else {
        let message = format!("{} is not a JSON pointer", quote(text));
        value.problem(
            message,
            format!("write {}", quote(&format!("/{}", text.replace('.', "/")))),
        );
        return None;
    };
    let segments = path.split('/').map(|segment| {
        let plain = segment.replace("~0", "").replace("~1", "");
        (!plain.contains('~')).then(|| Text::from(&*segment.replace("~1", "/").replace("~0", "~")))
    });
    let segments = segments.collect::<Option<Pointer<'static>>>();
    if segments.is_none() {
        value.problem(
            format!("{} has a ~ that stands for nothing", quote(text)),
            "write ~0 for ~ and ~1 for /",
        );
    }
    segments
}

/// A text, or the beginning of one and `*`.
pub(super) fn pattern(text: &str, value: &Value<'_>) -> Option<Text<'static>> {
    if text.strip_suffix('*').unwrap_or(text).contains('*') {
        value.problem(
            format!("{} has a * that is not its end", quote(text)),
            "put it at the end",
        );
        return None;
    }
    Some(text.into())
}

/// The first that fits counts: whole texts before beginnings, and long beginnings before short ones.
pub(super) fn closest_first<T>(patterns: &mut [(Text<'static>, T)]) {
    patterns.sort_by_key(|(pattern, _)| (pattern.ends_with('*'), usize::MAX - pattern.len()));
}
