//! The unified event types.
//!
//! A plugin may report those its descriptor lists. What a provider sends beyond them becomes [`PROVIDER_OTHER`].

use crate::data::CallOutcome;

/// A call was requested or is being dialled.
pub const CALL_INITIATED: &str = "call.initiated";
/// It rings.
pub const CALL_RINGING: &str = "call.ringing";
/// Somebody, or an agent, took it.
pub const CALL_ANSWERED: &str = "call.answered";
/// A live piece of a transcript.
pub const CALL_TRANSCRIPT: &str = "call.transcript";
/// It is over.
pub const CALL_COMPLETED: &str = "call.completed";
/// It is over and nobody took it.
pub const CALL_MISSED: &str = "call.missed";
/// It did not come about, or broke.
pub const CALL_FAILED: &str = "call.failed";
/// It was handed to somebody else.
pub const CALL_TRANSFERRED: &str = "call.transferred";
/// A text message came in.
pub const MESSAGE_RECEIVED: &str = "message.received";
/// A text message went out.
pub const MESSAGE_SENT: &str = "message.sent";
/// A written conversation is over.
pub const CHAT_COMPLETED: &str = "chat.completed";
/// An e-mail came in.
pub const EMAIL_RECEIVED: &str = "email.received";
/// Somebody became a lead.
pub const LEAD_CREATED: &str = "lead.created";
/// A campaign began.
pub const CAMPAIGN_STARTED: &str = "campaign.started";
/// A campaign pauses.
pub const CAMPAIGN_PAUSED: &str = "campaign.paused";
/// A paused campaign goes on.
pub const CAMPAIGN_RESUMED: &str = "campaign.resumed";
/// A campaign has nobody left to call.
pub const CAMPAIGN_COMPLETED: &str = "campaign.completed";
/// A campaign was ended early.
pub const CAMPAIGN_STOPPED: &str = "campaign.stopped";
/// Something the plugin has no name for; the webhook is whole under `extra`.
pub const PROVIDER_OTHER: &str = "provider.other";

/// The type of a call that is over, by how it ended. One of which nothing is known was held.
pub fn of_ended_call(outcome: Option<CallOutcome>) -> &'static str {
    match outcome {
        None | Some(CallOutcome::Completed) => CALL_COMPLETED,
        Some(CallOutcome::Missed) => CALL_MISSED,
        Some(
            CallOutcome::NoAnswer
            | CallOutcome::Busy
            | CallOutcome::Rejected
            | CallOutcome::Cancelled
            | CallOutcome::Failed,
        ) => CALL_FAILED,
    }
}
