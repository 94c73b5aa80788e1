//! The nouns of callfeed: a webhook as received, the event it becomes, and the event once it has its place in the feed.
//!
//! Pure data and ids. Nothing here reads a clock, a socket or a disk.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Lower-case RFC 4648 base32: 26 characters carry the first 130 bits of the digest.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const PREFIX: &str = "evt_";
const DIGITS: usize = 26;

/// Identifies an event for ever: `evt_` and 26 base32 characters derived from the route and the provider's own identity
/// of the event.
///
/// The same event gets the same id when the provider sends it again, a minute or a week later, with the same or with
/// other bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId([u8; PREFIX.len() + DIGITS]);

/// The text is not an event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event id is evt_ followed by 26 characters of a-z and 2-7")]
pub struct NotAnEventId;

impl EventId {
    /// Derives the id from the route's name and the provider's identity of the event.
    pub fn derive(route: &str, identity: &str) -> Self {
        let digest = Sha256::new()
            // The length keeps ("a", "bc") and ("ab", "c") apart.
            .chain_update((route.len() as u64).to_be_bytes())
            .chain_update(route)
            .chain_update(identity)
            .finalize();
        let mut text = [0; PREFIX.len() + DIGITS];
        text[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        let (mut bits, mut count, mut next) = (0u32, 0u32, digest.iter());
        for digit in &mut text[PREFIX.len()..] {
            if count < 5 {
                bits = (bits << 8) | u32::from(*next.next().expect("130 bits are fewer than the digest's 256"));
                count += 8;
            }
            count -= 5;
            *digit = ALPHABET[((bits >> count) & 31) as usize];
        }
        Self(text)
    }

    /// The first 128 bits of the id, as the store's key for recognising the same event again.
    pub fn key(&self) -> [u8; 16] {
        let mut key = [0; 16];
        let (mut bits, mut count, mut filled) = (0u32, 0u32, 0);
        for digit in &self.0[PREFIX.len()..] {
            bits = (bits << 5) | digit_value(*digit).expect("every constructor checked the alphabet");
            count += 5;
            if count >= 8 && filled < key.len() {
                count -= 8;
                key[filled] = (bits >> count) as u8;
                filled += 1;
            }
        }
        key
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("prefix and alphabet are ASCII")
    }
}

fn digit_value(digit: u8) -> Option<u32> {
    match digit {
        b'a'..=b'z' => Some(u32::from(digit - b'a')),
        b'2'..=b'7' => Some(u32::from(digit - b'2') + 26),
        _ => None,
    }
}

impl std::str::FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        let bytes: [u8; PREFIX.len() + DIGITS] = text.as_bytes().try_into().map_err(|_| NotAnEventId)?;
        let good = text.starts_with(PREFIX) && bytes[PREFIX.len()..].iter().all(|digit| digit_value(*digit).is_some());
        if good { Ok(Self(bytes)) } else { Err(NotAnEventId) }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Every type an event can have, the CloudEvents `type`.
pub const TYPES: [&str; 19] = [
    "call.initiated",
    "call.ringing",
    "call.answered",
    "call.transcript",
    "call.completed",
    "call.missed",
    "call.failed",
    "call.transferred",
    "message.received",
    "message.sent",
    "chat.completed",
    "email.received",
    "lead.created",
    "campaign.started",
    "campaign.paused",
    "campaign.resumed",
    "campaign.completed",
    "campaign.stopped",
    "provider.other",
];

/// The type of what is left of an event that was erased. Never delivered.
pub const ERASED: &str = "erased";

/// A request as received on a route, with what the store keeps of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RawWebhook {
    /// The route's name.
    pub route: String,
    pub received_at: Timestamp,
    pub method: String,
    /// Path and query, with every live secret of the route replaced.
    pub target: String,
    /// Lower-case names in the order received, values with every live secret of the route and every credential
    /// replaced. A value that is not UTF-8 is kept with replacement characters.
    pub headers: Vec<(String, String)>,
    /// The address the request came from.
    pub peer: Option<String>,
    /// Exactly the bytes received.
    pub body: Bytes,
    /// How the plugin found it authentic, e.g. `sha256-prefix`; empty when the plugin names no form.
    pub form: String,
    /// The payload that was really signed, where that is not the body.
    pub payload: Option<String>,
}

/// What a subscriber's filter looks at, kept beside the event so that filtering never parses it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Every number of a party, E.164 where known and as sent otherwise.
    pub numbers: Vec<String>,
    /// `call.duration_seconds`.
    pub duration_seconds: Option<f64>,
    pub test: bool,
}

/// A validated event that has no place in the feed yet.
///
/// Only `inbound::validate` makes one.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: EventId,
    /// The CloudEvents `type`, e.g. `call.completed`.
    pub kind: String,
    /// The CloudEvents `subject`: `<provider>/<call id>`.
    pub subject: String,
    /// The CloudEvents `time`.
    pub time: Timestamp,
    pub facts: Facts,
    /// The event as JSON up to, and without, the `sequence` member and the closing brace.
    pub(crate) open_json: Vec<u8>,
}

impl Event {
    /// Completes the JSON with the place in the feed. The result is what every subscriber gets, byte for byte.
    pub fn close_json(&self, seq: u64) -> Bytes {
        use std::io::Write as _;
        // Room for the longest end, so that the result is allocated once.
        let mut json = Vec::with_capacity(self.open_json.len() + ",\"sequence\":\"18446744073709551615\"}".len());
        json.extend_from_slice(&self.open_json);
        write!(json, ",\"sequence\":\"{seq}\"}}").expect("writing to memory does not fail");
        Bytes::from(json)
    }
}

/// An event with its place in the feed, durable.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The place in the feed: 1, 2, 3 … in the order kept. The CloudEvents `sequence`.
    pub seq: u64,
    pub id: EventId,
    pub kind: String,
    pub subject: String,
    /// The name of the route it came in on.
    pub route: String,
    pub time: Timestamp,
    pub kept_at: Timestamp,
    pub facts: Facts,
    /// The CloudEvent, structured JSON, exactly as delivered.
    pub json: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_has_the_same_id() {
        let id = EventId::derive("magpipe", "call.completed:550e8400");
        assert_eq!(id, EventId::derive("magpipe", "call.completed:550e8400"));
        assert_ne!(id, EventId::derive("magpip", "ecall.completed:550e8400"));
        assert_eq!(id.as_str().parse(), Ok(id));
    }

    #[test]
    fn the_id_is_base32_of_the_digest() {
        // `printf '\0\0\0\0\0\0\0\1ab' | sha256sum | cut -c1-34 | xxd -r -p | base32`, lower case, first 26.
        let id = EventId::derive("a", "b");
        let digest = Sha256::digest(b"\0\0\0\0\0\0\0\x01ab");
        assert_eq!(id.key(), digest[..16]);
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in [
            "",
            "evt_",
            "evt_0123456789abcdefghijklmnop",
            "EVT_aaaaaaaaaaaaaaaaaaaaaaaaaa",
            "evt_é",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(NotAnEventId), "{text}");
        }
    }
}
