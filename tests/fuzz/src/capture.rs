//! A captured request, as the lab and `callfeed send --request` read it.

use callfeed::kit::lab::{Capture, Paste};

/// What no message may show: there are secrets in captures.
const SECRET: &str = "not-to-be-seen";

/// A paste of any content.
///
/// It is read or refused in a line that shows nothing of it. What was read and is written plainly reads as the same, and
/// the body is what stands at the end, to the byte.
pub fn capture(input: &[u8]) {
    for url in [
        None,
        Some("https://h.example"),
        Some("https://h.example/hooks/acme?a=b"),
    ] {
        match Capture::read(input, url) {
            Ok(capture) => check(&capture, input),
            Err(error) => {
                let said = error.to_string();
                assert!(
                    !said.contains(SECRET) && !said.chars().any(char::is_control),
                    "{said:?}"
                );
            }
        }
    }
    // What was told is any text, too.
    if let Ok(url) = std::str::from_utf8(input) {
        drop(Capture::read(b"POST /hooks/acme HTTP/1.1\n\n", Some(url)));
    }
}

fn check(capture: &Capture, input: &[u8]) {
    let webhook = &capture.webhook;
    assert!(!capture.urls.is_empty() && capture.urls.iter().all(|url| url.contains("://")));
    assert!(input.ends_with(&webhook.body));
    assert_ne!(capture.length_said(), Some(webhook.body.len()));

    let readings = capture.readings();
    assert_eq!(readings[0], (Paste::Faithful, webhook.body.clone()));
    assert!(
        readings[1..]
            .iter()
            .all(|(paste, body)| paste.remedy().is_some() && *body != webhook.body)
    );

    let is_plain = webhook.target.starts_with('/') && !webhook.target.contains("://");
    let is_line = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let is_method = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_plain || !is_line(&webhook.target) || !is_method(&webhook.method) {
        return;
    }
    let mut plain = format!("{} {} HTTP/1.1\n", webhook.method, webhook.target);
    for (name, value) in &webhook.headers {
        plain += &format!("{name}: {value}\n");
    }
    let plain = [plain.as_bytes(), b"\n", &webhook.body].concat();
    let again = Capture::read(&plain, None).expect("it is a request");
    assert_eq!(again.webhook, *webhook);
}
