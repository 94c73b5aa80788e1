//! `JSON.stringify(JSON.parse(text))`, byte for byte.
//!
//! The vendor's own receiver signs the body after Express has parsed it, so what is signed is not the body but what
//! ECMAScript makes of it (ECMA-262 §25.5). One pass, no tree: every value is written in its final form as it is read, and
//! only objects with integer-like keys are put in order afterwards.
//!
//! Two things that ECMAScript accepts are refused: a key that occurs twice, and `__proto__`. With them, the text that is
//! signed would no longer say which of two bodies was sent.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// Deeper documents are refused. It keeps the recursion within a plugin's stack; no webhook comes near it.
const DEPTH_MAX: usize = 128;

/// Why a text has no re-serialised form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Not JSON; the byte at which that became clear.
    Syntax(usize),
    DuplicateKey,
    ProtoKey,
    TooDeep,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Syntax(at) => write!(f, "not JSON at byte {at}"),
            Error::DuplicateKey => f.write_str("a key occurs twice"),
            Error::ProtoKey => f.write_str("a key is `__proto__`"),
            Error::TooDeep => write!(f, "nested deeper than {DEPTH_MAX} levels"),
        }
    }
}

/// The re-serialised form of a text.
///
/// # Errors
///
/// When the text is not JSON, or says something that two readers may understand in two ways.
pub fn reserialise(text: &str) -> Result<String, Error> {
    let mut reader = Reader {
        text,
        at: 0,
        depth: 0,
        out: String::with_capacity(text.len()),
    };
    reader.white_space();
    reader.value()?;
    reader.white_space();
    if reader.at != text.len() {
        return Err(Error::Syntax(reader.at));
    }
    Ok(reader.out)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    out: String,
}

/// One member of an object, as ranges of the output.
struct Member {
    key: Range<usize>,
    whole: Range<usize>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fail<T>(&self) -> Result<T, Error> {
        Err(Error::Syntax(self.at))
    }

    fn expect(&mut self, byte: u8) -> Result<(), Error> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            self.fail()
        }
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<(), Error> {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.fail(),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Error> {
        // Bytes, because the text may continue with anything and a slice of it may not be a slice of characters.
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.fail();
        }
        self.at += word.len();
        self.out.push_str(word);
        Ok(())
    }

    fn array(&mut self) -> Result<(), Error> {
        self.expect(b'[')?;
        self.out.push('[');
        self.white_space();
        if self.peek() != Some(b']') {
            loop {
                self.white_space();
                self.value()?;
                self.white_space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
                self.out.push(',');
            }
        }
        self.expect(b']')?;
        self.out.push(']');
        Ok(())
    }

    fn object(&mut self) -> Result<(), Error> {
        self.expect(b'{')?;
        self.out.push('{');
        let first = self.out.len();
        let mut members = Vec::new();
        self.white_space();
        if self.peek() != Some(b'}') {
            loop {
                self.white_space();
                let start = self.out.len();
                self.string()?;
                let key = start..self.out.len();
                self.white_space();
                self.expect(b':')?;
                self.out.push(':');
                self.white_space();
                self.value()?;
                members.push(Member {
                    key,
                    whole: start..self.out.len(),
                });
                self.white_space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
                self.out.push(',');
            }
        }
        self.expect(b'}')?;
        self.check_keys(&members)?;
        self.order(first, &members);
        self.out.push('}');
        Ok(())
    }

    fn check_keys(&self, members: &[Member]) -> Result<(), Error> {
        // Keys are compared as printed: the printed form is the same exactly when the key is.
        let mut seen = HashSet::with_capacity(members.len());
        for member in members {
            let key = &self.out[member.key.clone()];
            if key == "\"__proto__\"" {
                return Err(Error::ProtoKey);
            }
            if !seen.insert(key) {
                return Err(Error::DuplicateKey);
            }
        }
        Ok(())
    }

    /// OrdinaryOwnPropertyKeys (§10.1.11.1): array indexes first, ascending; then strings as they came.
    fn order(&mut self, first: usize, members: &[Member]) {
        let index = |member: &Member| array_index(self.out[member.key.clone()].trim_matches('"'));
        let mut indexed: Vec<(u32, &Member)> = members.iter().filter_map(|m| index(m).map(|i| (i, m))).collect();
        if indexed.is_empty() {
            return;
        }
        indexed.sort_by_key(|(index, _)| *index);
        let named = members.iter().filter(|m| index(m).is_none());
        let mut ordered = String::with_capacity(self.out.len() - first);
        for member in indexed.into_iter().map(|(_, member)| member).chain(named) {
            if !ordered.is_empty() {
                ordered.push(',');
            }
            ordered.push_str(&self.out[member.whole.clone()]);
        }
        self.out.truncate(first);
        self.out.push_str(&ordered);
    }

    fn number(&mut self) -> Result<(), Error> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return self.fail(),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let Ok(number) = self.text[start..self.at].parse::<f64>() else {
            return Err(Error::Syntax(start));
        };
        if number.is_finite() {
            // Number::toString (§6.1.6.1.20): the shortest digits that read back as the same number.
            self.out.push_str(ryu_js::Buffer::new().format_finite(number));
        } else {
            // SerializeJSONProperty (§25.5.2.2): what is not finite becomes null; `1e400` reads as Infinity.
            self.out.push_str("null");
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.fail() } else { Ok(()) }
    }

    fn string(&mut self) -> Result<(), Error> {
        self.expect(b'"')?;
        self.out.push('"');
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            // Whatever is not special prints as itself, also DEL, U+2028 and everything beyond ASCII.
            self.out.push_str(&self.text[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.out.push('"');
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                _ => return self.fail(),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Error> {
        self.expect(b'\\')?;
        let Some(letter) = self.peek() else { return self.fail() };
        self.at += 1;
        match letter {
            b'"' | b'\\' | b'/' => self.print(char::from(letter)),
            b'b' => self.print('\u{8}'),
            b'f' => self.print('\u{c}'),
            b'n' => self.print('\n'),
            b'r' => self.print('\r'),
            b't' => self.print('\t'),
            b'u' => {
                let unit = self.code_unit()?;
                self.code_point(unit)?;
            }
            _ => {
                self.at -= 1;
                return self.fail();
            }
        }
        Ok(())
    }

    fn code_unit(&mut self) -> Result<u16, Error> {
        let mut unit = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return self.fail();
            };
            unit = unit << 4 | digit as u16;
            self.at += 1;
        }
        Ok(unit)
    }

    fn code_point(&mut self, unit: u16) -> Result<(), Error> {
        let mut unit = unit;
        loop {
            let following = if matches!(unit, 0xd800..=0xdbff) && self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                self.at += 2;
                Some(self.code_unit()?)
            } else {
                None
            };
            match (
                char::decode_utf16([unit].into_iter().chain(following)).next(),
                following,
            ) {
                (Some(Ok(character)), _) => {
                    self.print(character);
                    return Ok(());
                }
                // The first of two had no partner; the second may begin a pair of its own.
                (_, Some(next)) => {
                    self.lone_surrogate(unit);
                    unit = next;
                }
                (_, None) => {
                    self.lone_surrogate(unit);
                    return Ok(());
                }
            }
        }
    }

    /// Well-formed `JSON.stringify`: what UTF-8 cannot hold stays an escape.
    fn lone_surrogate(&mut self, unit: u16) {
        self.out.push_str(&format!("\\u{unit:04x}"));
    }

    /// QuoteJSONString (§25.5.2.3).
    fn print(&mut self, character: char) {
        match character {
            '"' => self.out.push_str("\\\""),
            '\\' => self.out.push_str("\\\\"),
            '\u{8}' => self.out.push_str("\\b"),
            '\u{c}' => self.out.push_str("\\f"),
            '\n' => self.out.push_str("\\n"),
            '\r' => self.out.push_str("\\r"),
            '\t' => self.out.push_str("\\t"),
            '\0'..='\u{1f}' => self.out.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => self.out.push(character),
        }
    }
}

/// The array index a key spells (§6.1.7): canonical decimal, at most 2³² − 2.
fn array_index(key: &str) -> Option<u32> {
    let index: u32 = key.parse().ok()?;
    let canonical = key == "0" || !key.starts_with(['0', '+']);
    (canonical && index < u32::MAX).then_some(index)
}

#[cfg(test)]
mod tests;
