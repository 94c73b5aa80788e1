//! Whether a text speaks of a call or a person. For webhooks that became no event, and so were never understood.
//!
//! Pure, and the same for every engine.

/// What they are known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// The digits of a telephone number, country code first.
    Digits(Vec<u8>),
    /// A value as it was sent: the id of a call, a name, a short number.
    Value(String),
}

/// A shorter number is one inside a company, and stands for a count or a second as often.
const DIGITS_MIN: usize = 7;

/// Between two digits of a number.
const SEPARATORS_MAX: usize = 3;

impl Mark {
    /// Of a party's number as events have it: E.164, or as it was sent.
    pub(super) fn number(number: &str) -> Self {
        let digits: Vec<u8> = number.bytes().filter(u8::is_ascii_digit).collect();
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit() || is_separator(byte));
        if !is_number || digits.len() < DIGITS_MIN {
            return Self::Value(number.to_owned());
        }
        let digits = digits.strip_prefix(b"00").map(<[u8]>::to_vec).unwrap_or(digits);
        Self::Digits(digits)
    }

    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        match self {
            Self::Digits(digits) => {
                let is_encoded = text.iter().any(|byte| matches!(byte, b'%' | b'\\'));
                has_number(text, digits) || (is_encoded && has_number(&decoded(text), digits))
            }
            Self::Value(value) => !value.is_empty() && has_value(text, value),
        }
    }

    /// The same of a path with a query.
    pub(super) fn is_in_target(&self, target: &str) -> bool {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match self {
            Self::Digits(_) => self.is_in(target.as_bytes()),
            Self::Value(value) => self.is_in(query.as_bytes()) || path.split('/').any(|step| step == value),
        }
    }
}

/// Whether one of the values of JSON or of a form is this one.
fn has_value(text: &[u8], wanted: &str) -> bool {
    let is_it = |value: &str| value == wanted || has_json_value(value.as_bytes(), wanted);
    has_json_value(text, wanted) || form_urlencoded::parse(text).any(|(_, value)| is_it(&value))
}

/// Looked for token by token: what was cut off, or has a key twice, is looked through as well. Text in which there is JSON
/// again is as often what a call is told in.
fn has_json_value(text: &[u8], wanted: &str) -> bool {
    let mut rest = text.trim_ascii_start();
    if !matches!(rest, [b'{' | b'[', ..]) {
        return false;
    }
    while let [first, ..] = rest {
        let (token, behind) = rest.split_at(token_bytes(rest));
        let is_key = behind.trim_ascii_start().starts_with(b":");
        let is_it = match first {
            b'"' => serde_json::from_slice::<String>(token)
                .is_ok_and(|value| value == wanted || has_json_value(value.as_bytes(), wanted)),
            _ => token == wanted.as_bytes(),
        };
        if is_it && !is_key {
            return true;
        }
        rest = behind;
    }
    false
}

/// How long the string, the number or the word is that stands here; 1 for everything else.
fn token_bytes(text: &[u8]) -> usize {
    let is_bare = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    match text {
        [b'"', string @ ..] => {
            let mut escaped = false;
            let end = string.iter().position(|byte| {
                let ends = *byte == b'"' && !escaped;
                escaped = *byte == b'\\' && !escaped;
                ends
            });
            end.map_or(text.len(), |end| end + 2)
        }
        _ => text.iter().take_while(|byte| is_bare(byte)).count().max(1),
    }
}

/// Whether it has these digits and no further one before or behind, however they are parted and whether `00` is before
/// them or not.
fn has_number(text: &[u8], digits: &[u8]) -> bool {
    let is_digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let mut starts = (0..text.len()).filter(|at| is_digit(*at) && !at.checked_sub(1).is_some_and(is_digit));
    starts.any(|start| {
        let text = &text[start..];
        begins_with(text, digits) || text.strip_prefix(b"00").is_some_and(|text| begins_with(text, digits))
    })
}

fn begins_with(text: &[u8], digits: &[u8]) -> bool {
    let mut rest = text;
    for digit in digits {
        for _ in 0..SEPARATORS_MAX {
            rest = match rest {
                // As in +33 (0)1: not dialled from abroad.
                [b'(', b'0', b')', behind @ ..] => behind,
                [first, behind @ ..] if is_separator(*first) => behind,
                _ => break,
            };
        }
        match rest {
            [first, behind @ ..] if first == digit => rest = behind,
            _ => return false,
        }
    }
    !rest.first().is_some_and(u8::is_ascii_digit)
}

/// What is no ASCII is most often a space of another width.
fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'/' | b'+') || !byte.is_ascii()
}

/// Without the escapes of forms and of JSON.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let code = match (first, behind) {
            (b'%', code) => hex::<2>(code),
            (b'\\', [b'u', code @ ..]) => hex::<4>(code),
            _ => None,
        };
        let (byte, behind) = code.unwrap_or((*first, behind));
        plain.push(byte);
        rest = behind;
    }
    plain
}

/// The character of this code, or any other that is no ASCII, and what is behind it.
fn hex<const DIGITS: usize>(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, behind) = text.split_first_chunk::<DIGITS>()?;
    let code = digits
        .iter()
        .try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))?;
    Some((u8::try_from(code).unwrap_or(u8::MAX), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_what_only_looks_like_one_stays() {
        for (text, plain) in [
            ("a%2B%33b", "a+3b"),
            (r"\u002b\u0033", "+3"),
            (r"\\u002b", r"\+"),
            (r"100% \u12 %+1 %", r"100% \u12 %+1 %"),
        ] {
            assert_eq!(decoded(text.as_bytes()), plain.as_bytes(), "{text}");
        }
    }

    #[test]
    fn only_what_is_long_enough_is_a_number() {
        let digits = Mark::Digits(b"33123456789".to_vec());
        for number in ["+33123456789", "0033123456789", "+33 (1) 23-45-67.89"] {
            assert_eq!(Mark::number(number), digits, "{number}");
        }
        for value in ["100", "anonymous", "agent 33123456789", ""] {
            assert_eq!(Mark::number(value), Mark::Value(value.to_owned()));
        }
    }
}
