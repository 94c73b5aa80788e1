//! What every engine promises, driven on a real file.

use bytes::Bytes;
use jiff::Timestamp;

use crate::event::{EventId, Facts, Kept};

pub(super) fn kept(seq: u64, json_bytes: usize) -> Kept {
    Kept {
        seq,
        id: EventId::derive("magpipe", &seq.to_string()),
        kind: "call.completed".to_owned(),
        subject: format!("magpipe/{seq}"),
        route: "magpipe".to_owned(),
        time: Timestamp::UNIX_EPOCH,
        kept_at: Timestamp::UNIX_EPOCH,
        facts: Facts::default(),
        json: Bytes::from(vec![b' '; json_bytes]),
    }
}
