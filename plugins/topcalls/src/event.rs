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
pub(crate) struct Name {
    pub(crate) text: String,
    /// What was found in the URL and does not go with the body.
    pub(crate) url_overruled: bool,
    /// Whether the operator, the body or the URL gave it; else it is inferred.
    is_given: bool,
}

impl Name {
    /// The operator's word counts first. The body's counts more than the URL's, because only the body is signed: a
    /// captured webhook could be posted again to another path. So the URL may only say what the body allows.
    pub(crate) fn of(request: &Request, bound: Option<String>, body: &Object<'_>) -> Name {
        let in_body = || {
            NAME_KEYS
                .into_iter()
                .find_map(|key| body.peek_str(key))
                .map(String::from)
        };
        if let Some(text) = bound.or_else(in_body) {
            return Name {
                text,
                url_overruled: false,
                is_given: true,
            };
        }
        let in_url = [Some(request.path.trim_matches('/')), request.query_value("event")]
            .into_iter()
            .flatten()
            .find(|text| is_name(text));
        match in_url {
            Some(text) if is_compatible(text, body) => Name {
                text: text.to_owned(),
                url_overruled: false,
                is_given: true,
            },
            _ => Name {
                text: inferred(body).to_owned(),
                url_overruled: in_url.is_some(),
                is_given: false,
            },
        }
    }

    /// The call's end, where its state told of a transfer and the call is over as well: nobody may ever name it.
    pub(crate) fn end(&self, body: &Object<'_>) -> Option<Name> {
        let reached = reached(body);
        (!self.is_given && self.text == TRANSFERRED && is_end(reached)).then(|| Name {
            text: reached.to_owned(),
            url_overruled: self.url_overruled,
            is_given: false,
        })
    }

    /// Whether somebody named the event; else its state told.
    pub(crate) fn is_given(&self) -> bool {
        self.is_given
    }

    /// The name without a disposition: `call.completed.booked_callback` is one more subscription to `call.completed`.
    pub(crate) fn family(&self) -> &str {
        if self.disposition().is_some() {
            COMPLETED
        } else {
            &self.text
        }
    }

    /// The disposition a subscription was filtered by.
    pub(crate) fn disposition(&self) -> Option<&str> {
        disposition(&self.text)
    }

    /// The unified type.
    pub(crate) fn kind(&self) -> &'static str {
        match self.family() {
            "call.queued" => kind::CALL_INITIATED,
            "call.started" => kind::CALL_ANSWERED,
            COMPLETED => kind::CALL_COMPLETED,
            "call.failed" => kind::CALL_FAILED,
            TRANSFERRED => kind::CALL_TRANSFERRED,
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
const TRANSFERRED: &str = "call.transferred";

/// What follows the route's path, or stands in the query, may be meant for somebody else.
fn is_name(text: &str) -> bool {
    ["call.", "campaign.", "lead."]
        .into_iter()
        .any(|prefix| text.starts_with(prefix))
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.'))
}

fn disposition(name: &str) -> Option<&str> {
    name.strip_prefix(COMPLETED)?
        .strip_prefix('.')
        .filter(|disposition| !disposition.is_empty())
}

/// Whether the URL's name is one of the vendor's, and one that this body can have.
fn is_compatible(name: &str, body: &Object<'_>) -> bool {
    if !body.has("call_id") {
        return match name {
            "lead.status_changed" => body.has("lead_id"),
            _ => body.has("campaign_id") && is_compatible_campaign(name, body.peek_str("status").as_deref()),
        };
    }
    let reached = reached(body);
    if let Some(disposition) = disposition(name) {
        let same = body
            .peek_filled("disposition")
            .is_none_or(|stated| stated == disposition);
        return same && is_compatible(COMPLETED, body);
    }
    match name {
        // Where the call failed the vendor may still say that it is done with it.
        COMPLETED => {
            reached == COMPLETED || reached == UNKNOWN || body.peek_str("status").as_deref() == Some("completed")
        }
        TRANSFERRED => has_transfer(body) || reached == UNKNOWN,
        "call.queued" | "call.started" | "call.failed" => reached == name || reached == UNKNOWN,
        _ => false,
    }
}

/// A campaign's `status`, where it has one of the known ones, is that after the event.
fn is_compatible_campaign(name: &str, status: Option<&str>) -> bool {
    let after = match name {
        "campaign.started" | "campaign.resumed" | "campaign.activated" => "running",
        "campaign.paused" => "paused",
        "campaign.completed" => "completed",
        "campaign.stopped" => "stopped",
        _ => return false,
    };
    status.is_none_or(|status| status == after || !CAMPAIGN_STATUSES.contains(&status))
}

const CAMPAIGN_STATUSES: [&str; 4] = ["running", "paused", "completed", "stopped"];

const UNKNOWN: &str = "unknown";

fn inferred(body: &Object<'_>) -> &'static str {
    if !body.has("call_id") {
        return if body.has("campaign_id") { "campaign" } else { UNKNOWN };
    }
    if has_transfer(body) {
        return TRANSFERRED;
    }
    reached(body)
}

fn has_transfer(body: &Object<'_>) -> bool {
    TRANSFER_KEYS.into_iter().any(|key| body.has(key))
}

fn is_end(reached: &str) -> bool {
    matches!(reached, COMPLETED | "call.failed")
}

/// How far the call has come.
fn reached(body: &Object<'_>) -> &'static str {
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
        _ => UNKNOWN,
    }
}
