//! Which event a webhook is about.
//!
//! The vendor prints no event name in any body. A name can come from the operator, from the body should it gain one, or
//! from the URL, which is chosen per subscription; else the state of the call tells.

use callfeed_plugin::{Request, json::Object, kind};

/// Members in which a transfer's destination has been seen or may be guessed; the vendor documents none.
pub(crate) const TRANSFER_KEYS: [&str; 5] = [
    "transfer_to",
    "transferred_to",
    "transfer_number",
    "transfer_phone_number",
    "transfer_destination",
];

/// Members in which an event name would be.
pub(crate) const NAME_KEYS: [&str; 2] = ["event", "event_type"];

/// An event's name, as named or inferred.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

impl Name {
    /// The operator's word counts first. The body's counts more than the URL's, because only the body is signed: a
    /// captured webhook could be posted again to another path.
    pub(crate) fn of(request: &Request, bound: Option<String>, body: &Object<'_>) -> Name {
        let in_body = || {
            NAME_KEYS
                .into_iter()
                .find_map(|key| body.peek_str(key))
                .map(String::from)
        };
        let in_path = || {
            Some(request.path.trim_matches('/'))
                .filter(|path| is_name(path))
                .map(str::to_owned)
        };
        let in_query = || {
            request
                .query_value("event")
                .filter(|name| is_name(name))
                .map(str::to_owned)
        };
        Name(
            bound
                .or_else(in_body)
                .or_else(in_path)
                .or_else(in_query)
                .unwrap_or_else(|| inferred(body).to_owned()),
        )
    }

    /// The name without a disposition: `call.completed.booked_callback` is one more subscription to `call.completed`.
    pub(crate) fn family(&self) -> &str {
        if self.disposition().is_some() {
            COMPLETED
        } else {
            &self.0
        }
    }

    /// The disposition a subscription was filtered by.
    pub(crate) fn disposition(&self) -> Option<&str> {
        self.0
            .strip_prefix(COMPLETED)?
            .strip_prefix('.')
            .filter(|disposition| !disposition.is_empty())
    }

    /// The unified type.
    pub(crate) fn kind(&self) -> &'static str {
        match self.family() {
            "call.queued" => kind::CALL_INITIATED,
            "call.started" => kind::CALL_ANSWERED,
            COMPLETED => kind::CALL_COMPLETED,
            "call.failed" => kind::CALL_FAILED,
            "call.transferred" => kind::CALL_TRANSFERRED,
            "campaign.started" => kind::CAMPAIGN_STARTED,
            "campaign.paused" => kind::CAMPAIGN_PAUSED,
            "campaign.resumed" => kind::CAMPAIGN_RESUMED,
            "campaign.completed" => kind::CAMPAIGN_COMPLETED,
            "campaign.stopped" => kind::CAMPAIGN_STOPPED,
            _ => kind::PROVIDER_OTHER,
        }
    }
}

const COMPLETED: &str = "call.completed";

/// What follows the route's path, or stands in the query, may be meant for somebody else.
fn is_name(text: &str) -> bool {
    ["call.", "campaign.", "lead."]
        .into_iter()
        .any(|prefix| text.starts_with(prefix))
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.'))
}

fn inferred(body: &Object<'_>) -> &'static str {
    if !body.has("call_id") {
        return if body.has("campaign_id") { "campaign" } else { "unknown" };
    }
    if TRANSFER_KEYS.into_iter().any(|key| body.has(key)) {
        return "call.transferred";
    }
    let status = body.peek_str("status");
    let call_status = body.peek_str("call_status");
    // The telephony's word goes first: `status: completed` only says that the vendor's gateway is done with the call.
    match (call_status.as_deref(), status.as_deref()) {
        (Some("failed" | "no-answer" | "busy" | "rejected" | "cancelled"), _) | (_, Some("failed" | "cancelled")) => {
            "call.failed"
        }
        (_, Some("completed")) => COMPLETED,
        (Some("in-progress"), _) | (_, Some("in_progress")) => "call.started",
        (_, Some("pending" | "queued")) => "call.queued",
        _ => "unknown",
    }
}
