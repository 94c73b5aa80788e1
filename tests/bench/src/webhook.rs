//! The webhooks that are sent: Magpipe's `call.completed`, about 3 KB, signed, each about a call of its own.

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

pub(crate) const PATH: &str = "/hooks/magpipe";
pub(crate) const SECRET: &str = "whsec_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(crate) const SIGNATURE_HEADER: &str = "x-magpipe-signature";
pub(crate) const SIGNATURE_PREFIX: &str = "sha256=";

/// The call's id up to its number: by it a receiver knows a webhook again, whatever form it comes in.
const CALL: &str = "ca11feed-0000-4000-8000-";
const DIGITS: usize = 12;

const TURNS: [&str; 9] = [
    "Agent: Hello, thanks for calling Northgate Dental, this is the reception assistant. How can I help you today?",
    "Caller: Hi, I'd like to move my appointment, the one on Thursday morning, because my daughter's school called and I have to be there at nine.",
    "Agent: Of course. May I have your full name and the number we have on file, please?",
    "Caller: It's John Smith, and the number should be the one I'm calling from, ending in one two three four.",
    "Agent: Thank you, John. I can see the check-up on Thursday at 9:30. I have \"next Tuesday\" at 10:15, or the Friday after at 2 in the afternoon. Which one suits you better?",
    "Caller: Tuesday would be great, but could it be a little later? I have to drop someone off in the city first and the bridge is closed until the end of the month.",
    "Agent: I understand. On Tuesday I also have 11:45. Shall I put you down for that one and cancel the Thursday slot?",
    "Caller: Yes, please. And could you send me a text message with the address? We were at the old practice the last time.",
    "Agent: Done: Tuesday at 11:45, the Thursday appointment is cancelled, and a message with the new address is on its way.",
];

/// The body of webhook `number`, in the order and the spacing Magpipe sends it.
pub(crate) fn body(number: u64) -> String {
    let transcript = TURNS
        .iter()
        .chain(&TURNS)
        .map(|turn| turn.replace('"', "\\\""))
        .collect::<Vec<_>>()
        .join("\\n\\n");
    format!(
        concat!(
            r#"{{"event": "call.completed", "timestamp": "2026-02-18T15:30:45.123456Z", "data": {{"#,
            r#""call_record_id": "{call}{number:0digits$x}", "direction": "inbound", "#,
            r#""caller_number": "+16045551234", "service_number": "+16042101966", "#,
            r#""agent_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "agent_name": "Reception Agent", "#,
            r#""duration_seconds": 127, "transcript": "{transcript}", "#,
            r#""summary": "Caller moved the check-up from Thursday to Tuesday at 11:45 and asked for the address.", "#,
            r#""extracted_data": {{"caller_name": "John Smith", "purpose": "reschedule", "preferred_date": "next Tuesday"}}, "#,
            r#""status": "completed"}}}}"#
        ),
        call = CALL,
        number = number,
        digits = DIGITS,
        transcript = transcript,
    )
}

/// The number of the webhook that `bytes`, in whatever form, tells of.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    let start = memchr::memmem::find(bytes, CALL.as_bytes())? + CALL.len();
    let digits = std::str::from_utf8(bytes.get(start..start + DIGITS)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// What Magpipe puts in [`SIGNATURE_HEADER`].
pub(crate) fn signature(body: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut signature = String::from(SIGNATURE_PREFIX);
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())
        .expect("any length is a key")
        .chain_update(body)
        .finalize();
    for byte in mac.into_bytes() {
        write!(signature, "{byte:02x}").expect("writing to memory does not fail");
    }
    signature
}

/// Requests made ready before the clock starts, head and body in one piece: every server gets the same bytes.
pub(crate) struct Stock {
    /// The number of the first one.
    pub(crate) first: u64,
    pub(crate) requests: Vec<Bytes>,
}

impl Stock {
    pub(crate) fn new(first: u64, count: usize) -> Self {
        Self {
            first,
            requests: (first..).take(count).map(request).collect(),
        }
    }
}

fn request(number: u64) -> Bytes {
    let body = body(number);
    let (signature, length) = (signature(body.as_bytes()), body.len());
    Bytes::from(format!(
        "POST {PATH} HTTP/1.1\r\nhost: hooks.example.com\r\nuser-agent: python-httpx/0.27.0\r\naccept: */*\r\n\
         content-type: application/json\r\n{SIGNATURE_HEADER}: {signature}\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_json_of_three_kilobytes_with_its_number() {
        let body = body(48_879);
        assert!((2_900..=3_300).contains(&body.len()), "{}", body.len());
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["data"]["call_record_id"], "ca11feed-0000-4000-8000-00000000beef");
        assert_eq!(number(body.as_bytes()), Some(48_879));
    }

    #[test]
    fn the_signature_is_magpipes() {
        // `printf '{}' | openssl dgst -sha256 -hmac "$SECRET"`
        assert_eq!(
            signature(b"{}"),
            "sha256=f615f334c6e97b3c2d29a62fcfe0b42dae17b995e87ba3befa50e65cd0cb4c23"
        );
    }
}
