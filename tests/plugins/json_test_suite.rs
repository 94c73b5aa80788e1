//! The cases of JSONTestSuite (Nicolas Seriot, <https://github.com/nst/JSONTestSuite>, MIT) through the SDK's reader and
//! through every plugin: whole, and as a member of a real webhook.
//!
//! `json_test_suite.txt` has what the suite's `test_parsing` says, a case a line: the name, whose first letter is the
//! expectation (`y_` is JSON, `n_` is none, `i_` may be either), and the bytes, or a count, the bytes repeated so often and
//! those that follow.

use callfeed::{
    config::Limits,
    kit::{Answer, Case},
    plugin::{Grant, Request},
    simulate,
};
use callfeed_plugin::json::Document;
use serde_json::Value;

use crate::{
    cases,
    host::{Host, cloud_event},
};

struct Sample {
    name: &'static str,
    bytes: Vec<u8>,
}

impl Sample {
    fn is(&self, expectation: &str) -> bool {
        self.name.starts_with(expectation)
    }
}

fn suite() -> Vec<Sample> {
    let sample = |line: &'static str| {
        let mut fields = line.split('\t');
        let name = fields.next().expect("a line has a name");
        let fields: Vec<&str> = fields.collect();
        let bytes = match fields[..] {
            [bytes] => unescape(bytes),
            [count, repeated, last] => {
                let count = count.parse().expect("it is a number");
                [unescape(repeated).repeat(count), unescape(last)].concat()
            }
            _ => panic!("{name} has other fields"),
        };
        Sample { name, bytes }
    };
    let suite: Vec<_> = include_str!("json_test_suite.txt").lines().map(sample).collect();
    let count = |expectation| suite.iter().filter(|sample| sample.is(expectation)).count();
    assert_eq!((count("y_"), count("n_"), count("i_"), suite.len()), (95, 188, 35, 318));
    suite
}

/// `\xff` is a byte, `\\` a backslash.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        (bytes, rest) = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => ([bytes, vec![b'\\']].concat(), after),
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16).expect("two digits follow") as u8;
                ([bytes, vec![digit(high) << 4 | digit(low)]].concat(), after)
            }
            _ => ([bytes, vec![*first]].concat(), after),
        };
    }
    bytes
}

/// Why a case that is JSON is refused all the same.
fn is_stricter(sample: &Sample, code: &str) -> bool {
    match code {
        // Readers differ in which of the two counts.
        "json-duplicate-key" => sample.name.starts_with("y_object_duplicated_key"),
        "json-too-deep" => sample.name == "i_structure_500_nested_arrays",
        _ => false,
    }
}

#[test]
fn the_reader_takes_what_is_json_and_nothing_else() {
    for sample in suite() {
        let read = std::str::from_utf8(&sample.bytes).map(Document::parse);
        match read {
            Ok(Ok(_)) => assert!(!sample.is("n_"), "{} is taken", sample.name),
            Ok(Err(refused)) => {
                let is_right = !sample.is("y_") || is_stricter(&sample, &refused.code);
                assert!(is_right, "{}: {refused:?}", sample.name);
            }
            Err(_) => assert!(!sample.is("y_"), "{} is UTF-8", sample.name),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_plugin_stands_them() {
    let host = Host::new(&Limits::default());
    let plugins = cases::built_in(&host).await;
    let suite = suite();
    let mut failures = String::new();
    for (provider, plugin) in &plugins {
        let webhook = webhook(provider);
        let grant = webhook.grant(plugin).expect("the route fits");
        let whole = host
            .judge(&grant, signed(&webhook, &grant, &webhook.webhook.body))
            .await;
        assert!(matches!(whole, Answer::Accepted(_)), "{provider}: {whole}");
        for sample in &suite {
            let mut failed =
                |how: &str, line: &str| failures += &format!("\n{provider}, {} {how}: {line}", sample.name);

            // Hardly a case says what an event needs; what is refused is by the plugin's own word, never by a trap.
            let alone = host.judge(&grant, signed(&webhook, &grant, &sample.bytes)).await;
            let is_right = match &alone {
                Answer::Accepted(_) => !sample.is("n_"),
                other => refused(other),
            };
            if !is_right {
                failed("alone", &alone.to_string());
            }

            // In a webhook that says everything else, what is JSON is passed on.
            let body = [
                &webhook.webhook.body[..webhook.webhook.body.len() - 1],
                b",\"case\":",
                &sample.bytes,
                b"}",
            ]
            .concat();
            let ending = host.judge(&grant, signed(&webhook, &grant, &body)).await;
            let is_right = match &ending {
                Answer::Accepted(accepted) => {
                    let sent = std::str::from_utf8(&sample.bytes)
                        .ok()
                        .and_then(|text| Document::parse(text).ok());
                    let sent = sent.map(|sent| serde_json::from_str::<Value>(sent.as_str()).expect("it was checked"));
                    let passed_on = accepted.events.iter().any(|event| {
                        let case = &cloud_event(event)["data"]["extra"]["case"];
                        sent.as_ref().is_some_and(|sent| sent == case)
                    });
                    !sample.is("n_") && passed_on
                }
                // Magnétis signs what PHP makes of a document, and takes no member that the vendor does not send.
                other => {
                    refused(other) && (!sample.is("y_") || provider == "magnetis" || is_stricter(sample, code(other)))
                }
            };
            if !is_right {
                failed("as a member", &ending.to_string());
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// A provider's own sample, ending with its last brace.
fn webhook(provider: &str) -> Case {
    let is_plain =
        |case: &Case| cases::verdict(case) == "accepted" && !case.is_oddity() && case.webhook.body.starts_with(b"{");
    let mut webhook = cases::cases_of(provider)
        .into_iter()
        .find(is_plain)
        .expect("every provider has samples");
    let trimmed = webhook.webhook.body.trim_ascii_end().len();
    webhook.webhook.body.truncate(trimmed);
    webhook
}

/// The webhook with another body, as the provider would sign it.
fn signed(webhook: &Case, grant: &Grant, body: &[u8]) -> Request {
    let mut request = webhook.request(grant).expect("it is within bounds");
    request.body = body.to_vec().into();
    let signed = simulate::sign(&webhook.route, &request.urls[0], "application/json", body);
    // What has no signature by the provider's recipe is sent with an old one.
    for (name, value) in signed.into_iter().flatten() {
        let name = name.to_ascii_lowercase();
        request.headers.retain(|(known, _)| *known != name);
        request.headers.push((name, value));
    }
    request
}

/// Refused in the plugin's own words.
fn refused(answer: &Answer) -> bool {
    matches!(answer, Answer::Rejected(_) | Answer::Quarantined(_))
}

fn code(answer: &Answer) -> &str {
    match answer {
        Answer::Rejected(why) | Answer::Quarantined(why) => &why.code,
        _ => "",
    }
}
