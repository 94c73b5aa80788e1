use std::io::Write;
use std::process::{Command, Stdio};

use fastrand::Rng;

use super::{Error, array_index, reserialise as js};

#[track_caller]
fn becomes(text: &str, expected: &str) {
    assert_eq!(js(text).as_deref(), Ok(expected), "from {text}");
}

#[test]
fn numbers_print_as_ecmascript_prints_them() {
    for (text, expected) in [
        ("2.50", "2.5"),
        ("1.0", "1"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("1e21", "1e+21"),
        ("1e20", "100000000000000000000"),
        ("123456789012345680000", "123456789012345680000"),
        ("0.000001", "0.000001"),
        ("0.0000001", "1e-7"),
        ("9007199254740993", "9007199254740992"),
        ("12345678901234567890", "12345678901234567000"),
        ("5e-324", "5e-324"),
        ("1E400", "null"),
        ("-1E400", "null"),
        ("1e-400", "0"),
        ("0.1e1", "1"),
    ] {
        becomes(text, expected);
    }
}

#[test]
fn strings_print_as_ecmascript_prints_them() {
    for (text, expected) in [
        (r#""\u00e9\/\u002f""#, r#""é//""#),
        (r#""\ud83d\ude00""#, r#""😀""#),
        (r#""\uD83D""#, r#""\ud83d""#),
        (r#""\ude00\ud83d""#, r#""\ude00\ud83d""#),
        (r#""\ud83d\ud83d\ude00""#, r#""\ud83d😀""#),
        (r#""\ud83d\u0041""#, r#""\ud83dA""#),
        (r#""\ud83d\n""#, r#""\ud83d\n""#),
        (
            r#""\u0000\u001F\u007f\b\f\n\r\t""#,
            "\"\\u0000\\u001f\u{7f}\\b\\f\\n\\r\\t\"",
        ),
        ("\"\u{2028}\\u2029\"", "\"\u{2028}\u{2029}\""),
    ] {
        becomes(text, expected);
    }
}

#[test]
fn array_indexes_come_first_in_ascending_order() {
    becomes(r#"{"b":1,"10":2,"9":3,"a":4}"#, r#"{"9":3,"10":2,"b":1,"a":4}"#);
    becomes(
        r#"{"4294967295":1,"4294967294":2,"01":3,"-1":4,"1.0":5}"#,
        r#"{"4294967294":2,"4294967295":1,"01":3,"-1":4,"1.0":5}"#,
    );
    becomes(
        r#"{"x":{"2":{"z":0,"0":1},"1":[]},"\u0030":{}}"#,
        r#"{"0":{},"x":{"1":[],"2":{"0":1,"z":0}}}"#,
    );
    assert_eq!(array_index("+1"), None);
}

#[test]
fn white_space_goes() {
    becomes(
        " {\t\"a\" : [ 1 ,\r\n2 ] , \"b\":{ } , \"c\":[ ] } ",
        r#"{"a":[1,2],"b":{},"c":[]}"#,
    );
}

#[test]
fn what_could_mean_two_things_is_refused() {
    assert_eq!(js(r#"{"a":1,"a":2}"#), Err(Error::DuplicateKey));
    assert_eq!(js(r#"{"a":1,"\u0061":2}"#), Err(Error::DuplicateKey));
    assert_eq!(js(r#"[{"x":{"1":1,"1":1}}]"#), Err(Error::DuplicateKey));
    assert_eq!(js(r#"{"__proto__":1}"#), Err(Error::ProtoKey));
    assert_eq!(js(r#"{"a":{"\u005f_proto__":{}}}"#), Err(Error::ProtoKey));
    assert!(js(&format!("{}{}", "[".repeat(128), "]".repeat(128))).is_ok());
    assert_eq!(js(&"[".repeat(129)), Err(Error::TooDeep));
}

#[test]
fn what_is_not_json_is_refused() {
    for text in [
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "nul",
        "nulll",
        "'a'",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u+123\"",
        "\"\\ud83d\\u\"",
        "\u{feff}{}",
        "{} {}",
        "{a:1}",
        "[1 2]",
        "NaN",
        "tru\u{e9}",
        "\u{a0}1",
    ] {
        assert!(matches!(js(text), Err(Error::Syntax(_))), "{text:?} passed");
    }
}

/// The same 200,000 documents through this module and through Node, which is ECMAScript.
#[test]
fn agrees_with_node() {
    let mut random = Random(Rng::with_seed(0x9e37_79b9_7f4a_7c15));
    let mut documents: Vec<String> = Vec::new();
    for _ in 0..40_000 {
        let mut document = String::new();
        random.value(&mut document, 0);
        if random.below(4) == 0 {
            random.damage(&mut document);
        }
        documents.push(document);
    }
    while documents.len() < 120_000 {
        let number = random.double();
        if number.is_finite() {
            documents.push(format!("[{number},{number:e},{number:.17e}]"));
        }
    }
    while documents.len() < 160_000 {
        let mut document = String::new();
        random.string(&mut document);
        documents.push(document);
    }
    while documents.len() < 200_000 {
        let mut document = String::from("{");
        random.list(&mut document, |random, out| {
            random.key(out);
            out.push_str(":0");
        });
        document.push('}');
        documents.push(document);
    }
    let answers = node(&documents);
    assert_eq!(
        answers.len(),
        documents.len(),
        "node answered another number of documents than it was given"
    );

    let mut compared = 0;
    for (document, node_says) in documents.iter().zip(&answers) {
        match js(document) {
            Ok(ours) => {
                assert_eq!(Some(&ours), node_says.as_ref(), "from {document}");
                compared += 1;
            }
            Err(Error::Syntax(at)) => assert_eq!(node_says, &None, "refused at byte {at}: {document}"),
            // Stricter than ECMAScript on purpose; it must still have been JSON.
            Err(Error::DuplicateKey | Error::ProtoKey | Error::TooDeep) => {}
        }
    }
    assert!(compared > 180_000, "only {compared} documents were comparable");
}

/// What Node makes of each document; `None` where `JSON.parse` throws.
fn node(documents: &[String]) -> Vec<Option<String>> {
    const SCRIPT: &str = r#"
        const texts = require("fs").readFileSync(0, "utf8").split("\0");
        process.stdout.write(texts.map((text) => {
            try { return "+" + JSON.stringify(JSON.parse(text)); } catch { return "-"; }
        }).join("\0"));
    "#;
    let mut child = Command::new("node")
        .args(["-e", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test compares with Node: install Node.js 20 or newer and have `node` on the PATH");
    let input = documents.join("\0");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("node runs to its end");
    writer
        .join()
        .expect("the writer does not panic")
        .expect("node reads its input");
    assert!(output.status.success(), "node failed: {}", output.status);
    String::from_utf8(output.stdout)
        .expect("node prints UTF-8")
        .split('\0')
        .map(|answer| answer.strip_prefix('+').map(str::to_owned))
        .collect()
}

/// The same documents on every run.
struct Random(Rng);

impl Random {
    fn next(&mut self) -> u64 {
        self.0.u64(..)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0.usize(..bound)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn space(&mut self, out: &mut String) {
        out.push_str(self.pick(&["", "", "", " ", "\n  ", "\t", "\r\n"]));
    }

    fn value(&mut self, out: &mut String, depth: usize) {
        let kinds = if depth > 5 { 3 } else { 6 };
        match self.below(kinds) {
            0 => self.number(out),
            1 => self.string(out),
            2 => out.push_str(self.pick(&["true", "false", "null", "{}", "[]", "[ ]", "{\n}"])),
            3 => {
                out.push('[');
                self.list(out, |random, out| random.value(out, depth + 1));
                out.push(']');
            }
            _ => {
                out.push('{');
                self.list(out, |random, out| {
                    random.key(out);
                    random.space(out);
                    out.push(':');
                    random.space(out);
                    random.value(out, depth + 1);
                });
                out.push('}');
            }
        }
    }

    fn list(&mut self, out: &mut String, mut item: impl FnMut(&mut Self, &mut String)) {
        let count = self.below(7);
        for at in 0..count {
            if at > 0 {
                out.push(',');
            }
            self.space(out);
            item(self, out);
            self.space(out);
        }
    }

    fn key(&mut self, out: &mut String) {
        match self.below(4) {
            0 => self.string(out),
            1 => {
                let index = match self.below(4) {
                    0 => self.next() >> 32,
                    1 => u64::from(u32::MAX) - 3 + self.below(6) as u64,
                    2 => self.next(),
                    _ => self.below(40) as u64,
                };
                out.push_str(&format!(
                    "\"{}{index}\"",
                    self.pick(&["", "", "", "", "0", "-", "+", " "])
                ));
            }
            2 => {
                let unit = self.below(300);
                out.push_str(&format!("\"k\\u{unit:04x}\""));
            }
            _ => {
                let letters = self.next();
                out.push_str(&format!(
                    "\"{}{letters:x}\"",
                    self.pick(&["", "call_", "é", "1e", "0x"])
                ));
            }
        }
    }

    fn number(&mut self, out: &mut String) {
        let integer = self.next() >> self.below(64);
        let digits = self.next() >> self.below(64);
        let exponent = self.below(340);
        let sign = self.pick(&["", "-"]);
        out.push_str(&match self.below(6) {
            0 => format!("{sign}{integer}"),
            1 => format!("{sign}{integer}.{digits}"),
            2 => format!(
                "{sign}{integer}.{digits}{}{}{exponent}",
                self.pick(&["e", "E"]),
                self.pick(&["", "+", "-"])
            ),
            3 => format!("{sign}{}.{}{digits}", self.below(1000), "0".repeat(self.below(12))),
            4 => format!("{sign}{integer}{}", "0".repeat(self.below(20))),
            _ => self
                .pick(&[
                    "2.50",
                    "1.0",
                    "0",
                    "-0",
                    "0.0",
                    "1e5",
                    "1E-7",
                    "9007199254740993",
                    "1e309",
                ])
                .to_owned(),
        });
    }

    /// Of any bits, and near where doubles or their printing change.
    fn double(&mut self) -> f64 {
        let edge = match self.below(8) {
            0..4 => return f64::from_bits(self.next()),
            // Denormal.
            4 => return f64::from_bits(self.next() >> (12 + self.below(52))),
            // A whole number or a power of two or ten, and its neighbours.
            5 => (self.next() >> self.below(64)) as f64,
            6 => f64::powi(2.0, self.below(2098) as i32 - 1074),
            _ => format!("1e{}", self.below(632) as i32 - 323)
                .parse()
                .expect("it is a number"),
        };
        f64::from_bits(edge.to_bits().wrapping_add(self.below(5) as u64).wrapping_sub(2))
    }

    fn string(&mut self, out: &mut String) {
        out.push('"');
        for _ in 0..self.below(9) {
            match self.below(9) {
                0 => out.push_str(self.pick(&["\\n", "\\/", "\\\"", "\\\\", "\\b", "\\f", "\\r", "\\t", "/"])),
                1 => {
                    let unit = self.below(0x1_0000);
                    out.push_str(&format!("\\u{unit:04X}"));
                }
                2 => {
                    let unit = 0xd800 + self.below(0x800);
                    out.push_str(&format!("\\u{unit:04x}"));
                }
                3 => {
                    let (high, low) = (0xd800 + self.below(0x400), 0xdc00 + self.below(0x400));
                    out.push_str(&format!("\\u{high:04x}\\u{low:04x}"));
                }
                4 => {
                    let unit = self.below(0x30);
                    out.push_str(&format!("\\u{unit:04x}"));
                }
                5 => out.push_str(self.pick(&["é", "😀", "\u{2028}", "\u{7f}", "\u{feff}", "e\u{301}", "\u{fffd}"])),
                _ => out.push_str(self.pick(&["call", " ", "0", "__proto__", "a", "{", "]", ":", ","])),
            }
        }
        out.push('"');
    }

    /// Takes one character out, or puts one in.
    fn damage(&mut self, document: &mut String) {
        let places: Vec<usize> = document.char_indices().map(|(at, _)| at).collect();
        let at = places[self.below(places.len())];
        if self.below(2) == 0 {
            document.remove(at);
        } else {
            document.insert_str(
                at,
                self.pick(&["\"", ",", "0", "\\", "}", "\u{1}", ".", "-", "\u{a0}", "1e"]),
            );
        }
    }
}
