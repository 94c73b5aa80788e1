//! Readers of one short text each: numbers, times, hex and base64 in the SDK; headers, ids and command lines in the gateway.

use std::time::Duration;

use callfeed::{
    cli::Cli,
    config::{Secret, SigningKey},
    event::EventId,
    outbound::{
        address,
        schedule::retry_after,
        sign::{self, NotAuthentic, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP},
    },
    telemetry::one_line,
};
use callfeed_plugin::{
    data::Party,
    encoding, phone,
    time::{Time, parse_rfc3339_ms, rfc3339},
};
use clap::Parser as _;
use hyper::header::{HeaderMap, HeaderValue};
use jiff::Timestamp;

/// A text of any content, to each of them.
///
/// What is read prints as what was read, and other readers of the same format agree.
pub fn texts(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    number(&text);
    time(&text);
    bytes(&text);
    wait(&text);
    webhook_headers(&text);
    event_id(&text);
    line(&text);
    dialled(&text);
    // An operator's words; what may not be said is refused, and nothing panics.
    drop(Cli::try_parse_from(
        ["callfeed"].into_iter().chain(text.split_whitespace()),
    ));
}

fn number(text: &str) {
    for number in [
        phone::e164(text),
        phone::e164_from_00(text),
        phone::e164_from_digits(text),
    ]
    .into_iter()
    .flatten()
    {
        let digits = number.strip_prefix('+').expect("E.164 begins with a plus sign");
        assert!(
            (7..=15).contains(&digits.len())
                && digits.bytes().all(|digit| digit.is_ascii_digit())
                && !digits.starts_with('0')
        );
        assert!(
            text.chars()
                .filter(char::is_ascii_digit)
                .collect::<String>()
                .ends_with(digits)
        );
        assert_eq!(phone::e164(&number), Some(number.clone()));
        assert_eq!(phone::e164_from_digits(digits), Some(number));
    }
    assert_eq!(Party::read(text.into()).raw, text);
}

fn time(text: &str) {
    let ms = parse_rfc3339_ms(text);
    let is_leap_second = text.get(17..19) == Some("60");
    if let (Some(ms), Ok(theirs), false) = (ms, text.parse::<Timestamp>(), is_leap_second) {
        assert_eq!(i128::from(ms), theirs.as_nanosecond().div_euclid(1_000_000), "{text}");
    }
    // Years at both ends, and the last two hours of the last one, are none of theirs.
    if ms.is_some() && !is_leap_second && !text.starts_with("0000") && !text.starts_with("9999") {
        assert!(text.parse::<Timestamp>().is_ok(), "{text}");
    }
    if let Some(ms) = ms
        && let Some(printed) = rfc3339(ms)
    {
        assert_eq!(parse_rfc3339_ms(&printed), Some(ms));
        let time = Time::parse(text.into()).expect("it was read just now");
        assert_eq!(time.ms(), ms);
        assert_eq!(parse_rfc3339_ms(time.as_str()), Some(ms));
        assert!(time.as_str().ends_with('Z') && time.as_str().as_bytes()[10] == b'T');
    }
    if let Some(time) = Time::from_unix(text) {
        assert_eq!(parse_rfc3339_ms(time.as_str()), Some(time.ms()));
    }
}

fn bytes(text: &str) {
    if let Some(bytes) = encoding::hex(text) {
        assert_eq!(encoding::to_hex(&bytes), text.to_ascii_lowercase());
    }
    if let Some(bytes) = encoding::base64(text) {
        assert_eq!(encoding::to_base64(&bytes), text);
    }
    assert_eq!(
        encoding::hex(&encoding::to_hex(text.as_bytes())).as_deref(),
        Some(text.as_bytes())
    );
    assert_eq!(
        encoding::base64(&encoding::to_base64(text.as_bytes())).as_deref(),
        Some(text.as_bytes())
    );
}

/// `Retry-After`.
fn wait(text: &str) {
    let now = Timestamp::from_second(1_780_315_200).expect("it is a time");
    let wait = retry_after(text, now);
    if let Ok(seconds) = text.trim().parse::<u64>()
        && !text.contains('+')
    {
        assert_eq!(wait, Some(Duration::from_secs(seconds)));
    }
    // A date says one moment: later, less of it is left.
    let later = now + Duration::from_secs(100);
    if let (Some(wait), Some(less), false) = (
        wait,
        retry_after(text, later),
        text.trim().bytes().all(|b| b.is_ascii_digit()),
    ) {
        assert_eq!(less, wait.saturating_sub(Duration::from_secs(100)));
    }
}

/// The three headers of Standard Webhooks, a line each, then the body. The word `right` stands for the signature that fits.
fn webhook_headers(text: &str) {
    const KEY: &[u8] = b"not to be seen by anyone";
    let mut parts = text.splitn(4, '\n');
    let mut part = || parts.next().unwrap_or_default();
    let (id, timestamp, signatures, body) = (part(), part(), part(), part());
    let at = timestamp
        .parse::<i64>()
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    let theirs = standardwebhooks::Webhook::from_bytes(KEY.to_vec()).expect("any key is one");
    let right = match at {
        // As it is written it is signed.
        Some(at) if at.as_second().to_string() == timestamp => {
            theirs.sign(id, at.as_second(), body.as_bytes()).expect("it is text")
        }
        _ => String::new(),
    };
    let signatures = signatures.replace("right", &right);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (WEBHOOK_ID, id),
        (WEBHOOK_TIMESTAMP, timestamp),
        (WEBHOOK_SIGNATURE, &signatures),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    let keys = [
        SigningKey::Ed25519(Secret::new([7; 32])),
        SigningKey::Hmac(Secret::new(KEY)),
    ];
    let now = at.unwrap_or(Timestamp::UNIX_EPOCH);
    let verdict = sign::verify(&keys, &headers, body.as_bytes(), now);
    let is_whole = headers.len() == 3 && headers.values().all(|value| value.to_str().is_ok());
    let expected = match at {
        _ if !is_whole => Err(NotAuthentic::Header),
        None => Err(NotAuthentic::Header),
        Some(_) if !right.is_empty() && signatures.split(' ').any(|signature| signature == right) => Ok(()),
        Some(_) => Err(NotAuthentic::Signature),
    };
    assert_eq!(verdict, expected);
    if let Ok(late) = now.checked_add(Duration::from_secs(301)) {
        assert!(sign::verify(&keys, &headers, body.as_bytes(), late).is_err());
    }
}

fn event_id(text: &str) {
    if let Ok(id) = text.parse::<EventId>() {
        assert_eq!(id.to_string(), text);
    }
    let id = EventId::derive(text, text);
    assert_eq!(id.as_str().parse(), Ok(id));
    assert_eq!(id.key(), id.as_str().parse::<EventId>().expect("it is one").key());
}

/// What a stranger says, in the log.
fn line(text: &str) {
    for bytes_max in [0, 1, 7, 64] {
        let line = one_line(text, bytes_max);
        assert!(line.len() <= bytes_max + "…".len() && !line.chars().any(char::is_control));
    }
}

fn dialled(text: &str) {
    if let Ok(address) = text.parse()
        && address::check_public(address).is_ok()
    {
        assert_eq!(address::check(address), Ok(()));
    }
}
