//! Other spellings of a JSON document that say the same.

/// With blank space wherever it may be.
pub(crate) fn spaced(json: &str) -> String {
    const BLANKS: [&str; 4] = [" ", "\n", "\t", "\r\n  "];
    let mut spaced = String::with_capacity(2 * json.len());
    let (mut in_string, mut escaped) = (false, false);
    for (at, c) in json.char_indices() {
        let blank = BLANKS[at % BLANKS.len()];
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            spaced.push(c);
        } else if matches!(c, '{' | '}' | '[' | ']' | ',' | ':') {
            spaced.extend([blank, c.encode_utf8(&mut [0; 4]), blank]);
        } else {
            in_string = c == '"';
            spaced.push(c);
        }
    }
    spaced
}

/// With every character of a text as an escape.
pub(crate) fn escaped(json: &str) -> String {
    let mut written = String::with_capacity(6 * json.len());
    let mut rest = json.chars();
    let mut in_string = false;
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                in_string = !in_string;
                written.push(c);
            }
            '\\' => {
                let letter = rest.next();
                let digits = if letter == Some('u') { 4 } else { 0 };
                written.push(c);
                written.extend(letter.into_iter().chain(rest.by_ref().take(digits)));
            }
            c if in_string => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    written.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => written.push(c),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_spellings_say_the_same() {
        let json = r#"{"a\"b":["é\\",1.50,{"😀":"\ud83d\ude00:"}],"":null}"#;
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        for spelling in [spaced(json), escaped(json), escaped(&spaced(json))] {
            assert_eq!(serde_json::from_str::<serde_json::Value>(&spelling).unwrap(), value);
            assert_ne!(spelling, json);
        }
    }
}
