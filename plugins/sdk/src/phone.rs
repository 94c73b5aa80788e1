//! Telephone numbers in E.164.
//!
//! Only what a text says by itself is believed: without a `+`, or another sign of an international number, a number's
//! country is unknown, and so is its E.164 form.

/// Reads a number written internationally: `+1 (604) 555-1234` is `+16045551234`.
///
/// Blanks, dots, hyphens, slashes and brackets are dropped; 7 to 15 digits have to remain, the first not 0. A trunk
/// zero in brackets, `+44 (0)20 …`, is no part of the number and yet looks like one: such a text is not read.
pub fn e164(text: &str) -> Option<String> {
    digits(text.strip_prefix('+')?)
}

/// Reads a number that begins with the international prefix `00`: `0033 6 12 34 56 78` is `+33612345678`.
pub fn e164_from_00(text: &str) -> Option<String> {
    digits(text.strip_prefix("00")?)
}

/// Reads a number of which it is known that it begins with the country code, although nothing marks it: `16045551234`.
pub fn e164_from_digits(text: &str) -> Option<String> {
    digits(text)
}

fn digits(text: &str) -> Option<String> {
    const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
    if text.contains("(0)") {
        return None;
    }
    let mut number = String::with_capacity(DIGITS.end() + 1);
    number.push('+');
    for character in text.chars() {
        match character {
            '0'..='9' => number.push(character),
            ' ' | '\u{a0}' | '\u{202f}' | '-' | '\u{2011}' | '.' | '/' | '(' | ')' => {}
            _ => return None,
        }
    }
    (DIGITS.contains(&(number.len() - 1)) && !number.starts_with("+0")).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_international_numbers() {
        for text in [
            "+16045551234",
            "+1 (604) 555-1234",
            "+1.604.555.1234",
            "+1\u{a0}604\u{a0}555\u{a0}1234",
        ] {
            assert_eq!(e164(text).as_deref(), Some("+16045551234"), "{text}");
        }
        assert_eq!(e164_from_00("0033 6 12 34 56 78").as_deref(), Some("+33612345678"));
        assert_eq!(e164_from_digits("16045551234").as_deref(), Some("+16045551234"));
    }

    #[test]
    fn leaves_everything_else() {
        for text in [
            "",
            "+",
            "16045551234",
            "+123456",
            "+1234567890123456",
            "+0604555123",
            "+44 (0)20 7946 0000",
        ] {
            assert_eq!(e164(text), None, "{text}");
        }
        for text in [
            "salprebox:SALPRE_AABBCCDD",
            "anonymous",
            "+1604555123x",
            "++16045551234",
            "+1604555123\u{0664}",
        ] {
            assert_eq!(e164(text), None, "{text}");
        }
        assert_eq!(e164_from_00("0612345678"), None);
        assert_eq!(e164_from_digits("+16045551234"), None);
    }
}
