//! Texts that stand for bytes.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Undoes hex, in either case. `None` for an odd length or another character.
pub fn hex(text: &str) -> Option<Vec<u8>> {
    fn nibble(digit: u8) -> Option<u8> {
        match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            b'A'..=b'F' => Some(digit - b'A' + 10),
            _ => None,
        }
    }
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?))
        .collect()
}

/// Bytes as lower-case hex.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Undoes base64 of the standard alphabet (RFC 4648 §4), padding required.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Bytes as base64 of the standard alphabet, padded.
pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The parts of a header that says several things: `t=1739537297,v0=5f2c…`. A part without `=` is passed over.
///
/// Nothing is promised about their order, and a name may occur more than once, as it does while a secret is replaced.
pub fn parameters(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = text.split(',').filter_map(|part| part.split_once('='));
    parts.map(|(name, value)| (name.trim(), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_parameters() {
        let read = |text| parameters(text).collect::<Vec<_>>();
        assert_eq!(read("t=1, v0=ab=,x,v0=cd"), [("t", "1"), ("v0", "ab="), ("v0", "cd")]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn hex_takes_either_case_and_nothing_else() {
        assert_eq!(hex("00fFa9"), Some(vec![0x00, 0xff, 0xa9]));
        assert_eq!(hex(""), Some(vec![]));
        for wrong in ["0", "0g", "+1", " 00", "é"] {
            assert_eq!(hex(wrong), None, "{wrong}");
        }
        assert_eq!(to_hex(&[0x00, 0xff, 0xa9]), "00ffa9");
    }

    #[test]
    fn base64_is_standard_and_padded() {
        assert_eq!(base64("/+8="), Some(vec![0xff, 0xef]));
        assert_eq!(to_base64(&[0xff, 0xef]), "/+8=");
        for wrong in ["/+8", "_-8=", "/+8= "] {
            assert_eq!(base64(wrong), None, "{wrong}");
        }
    }
}
