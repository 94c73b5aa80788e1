//! {{title}}'s webhooks as unified events.

use callfeed_plugin::{
    Descriptor, Event, Outcome, Provider, Rejection, Request, SecretSpec, Verdict,
    crypto::{self, Part},
    data::{Agent, Call, CallState, Data, Direction},
    encoding, kind, register,
    time::Time,
};

const SIGNATURE: &str = "x-{{name}}-signature";

/// The plugin.
pub struct Plugin;

register!(Plugin);

impl Provider for Plugin {
    fn describe() -> Descriptor {
        Descriptor::new("{{name}}", "{{title}}", env!("CARGO_PKG_VERSION"))
            .headers(&[SIGNATURE])
            .secret(SecretSpec::utf8("signing", "Where an operator finds the signing key at {{title}}"))
            .event("call.ended", kind::CALL_COMPLETED)
            .event("*", kind::PROVIDER_OTHER)
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        let header = request.header(SIGNATURE).ok_or_else(|| Rejection::unauthenticated("signature-missing"))?;
        let signature = encoding::hex(header).ok_or_else(|| Rejection::unauthenticated("signature-malformed"))?;
        crypto::verify_hmac("signing", "sha256", &[Part::Body], &signature)?;
        Ok(Verdict::authentic("hex"))
    }

    fn normalize(request: &Request, _payload: Option<&str>) -> Result<Outcome, Rejection> {
        let document = request.json()?;
        let mut body = document.object()?;
        let name = body.take_str("event").ok_or_else(|| Rejection::malformed("event-missing"))?;
        // The same in every delivery of one event. Not told elsewhere, so it stays.
        let id = body.peek_id("id").ok_or_else(|| Rejection::malformed("id-missing"))?;
        let call_id = body.open("call").and_then(|call| call.peek_id("id"));
        if name == "call.ended"
            && let Some(call_id) = call_id.clone()
        {
            let ended_at = body.take_time("occurred_at");
            let mut call = Call { id: call_id.clone(), state: Some(CallState::Ended), ..Call::default() };
            if let Some(said) = body.open("call") {
                said.take_id("id");
                call.direction = match said.peek_str("direction").as_deref() {
                    Some("in") => Direction::Inbound,
                    Some("out") => Direction::Outbound,
                    _ => Direction::Unknown,
                };
                call.from = said.take_party("from");
                call.to = said.take_party("to");
                call.started_at = said.take_time("started_at");
                call.duration_seconds = said.take_seconds("seconds");
                call.agent = Agent::known(None, said.take_filled("agent"));
            }
            call.ended_at = ended_at;
            let event = Event::new(kind::CALL_COMPLETED, id, call_id).at(call.ended_at.as_ref());
            let data = Data { provider_event: name, call: Some(call), extra: body, ..Data::default() };
            return Ok(Outcome::event(event.data(&data)));
        }
        // What this plugin has no name for is kept whole.
        let at = body.peek_str("occurred_at").and_then(Time::parse);
        let subject = call_id.unwrap_or_else(|| id.clone());
        let event = Event::new(kind::PROVIDER_OTHER, id, subject).at(at.as_ref());
        Ok(Outcome::event(event.data(&Data { provider_event: name, extra: body, ..Data::default() })))
    }
}
