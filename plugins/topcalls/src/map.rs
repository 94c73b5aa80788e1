//! A call or campaign of TopCalls as a unified event.

use std::borrow::Cow;

use callfeed_plugin::{
    Event, Outcome, Rejection, Request,
    crypto::Failure,
    data::{
        Call, CallOutcome, CallState, Campaign, Data, Direction, Error, Lead, LeadCounts, Recording, Seconds, Speaker,
        Turn,
    },
    environment,
    json::{Document, Object},
    kind,
    remarks::{self, Remarks},
    time::Time,
};

use crate::{
    DurationUnit, Options,
    event::{NAME_KEYS, Name, TRANSFER_KEYS},
};

/// Members in which the time of something that is no call may be; the vendor documents none.
const MOMENT_KEYS: [&str; 3] = ["timestamp", "occurred_at", "updated_at"];

/// How far a stated duration may be from the one between two times before it is remarked upon.
const TOLERANCE_SECONDS: f64 = 60.0;
const TOLERANCE_SHARE: f64 = 0.05;

pub(crate) fn map(request: &Request, payload: Option<&str>) -> Result<Outcome, Rejection> {
    let text = match payload {
        // What was signed is this, not the body.
        Some(payload) => payload,
        None => request.text()?,
    };
    let Options {
        event: bound,
        duration_unit,
        ..
    } = environment::options()?;
    let document = Document::parse(text)?;
    let body = document.object()?;
    let name = Name::of(request, bound, &body);
    let event = |name, body| event(name, duration_unit, body, &document);
    Ok(Outcome::events(match name.end(&body) {
        None => vec![event(&name, body)?],
        Some(end) => vec![event(&name, document.object()?)?, event(&end, body)?],
    }))
}

/// What a body says as an event of this name.
fn event(name: &Name, unit: DurationUnit, body: Object<'_>, document: &Document<'_>) -> Result<Event, Rejection> {
    // Bound again, as what is added to it lives no longer than this.
    let mut body = body;
    let kind = name.kind();
    let identity = Identity::of(name, kind, &body, document)?;
    let moment = moment(kind, &body);

    let mut remarks = Remarks::default();
    if name.url_overruled {
        remarks.add("event", "url-does-not-fit");
    }

    // Kept whole where the plugin has no idea what it is.
    if kind == kind::PROVIDER_OTHER {
        let remarks = remarks.into_raw();
        if let Some(remarks) = &remarks {
            body.add(remarks::KEY, remarks);
        }
        let data = Data {
            provider_event: (&*name.text).into(),
            extra: body,
            ..Data::default()
        };
        return Ok(identity.event(kind).at(moment.as_ref()).data(&data));
    }

    for key in NAME_KEYS {
        if body.peek_str(key).as_deref() == Some(&*name.text) {
            body.take_str(key);
        }
    }
    let lead = body.take_id("lead_id").map(|id| Lead { id, ..Lead::default() });
    let campaign = campaign(kind, &mut body);
    let call = (!is_campaign(kind)).then(|| call(name, unit, &mut body, &mut remarks));
    let metadata = body.take_raw_object("metadata");

    let remarks = remarks.into_raw();
    if let Some(remarks) = &remarks {
        body.add(remarks::KEY, remarks);
    }
    let data = Data {
        provider_event: (&*name.text).into(),
        call,
        campaign,
        lead,
        metadata,
        extra: body,
        ..Data::default()
    };
    Ok(identity.event(kind).at(moment.as_ref()).data(&data))
}

/// What makes an event the same event when it comes again.
struct Identity<'a> {
    id: String,
    subject: Cow<'a, str>,
}

impl<'a> Identity<'a> {
    /// A call goes through each of its events once, and both of the vendor's subscription systems may report it; so the
    /// event's family and the call are all there is to it. A call has one end, by whichever name it comes.
    /// Anything else may happen again to the same campaign or lead, and what is not known is told apart by all it says.
    fn of(name: &Name, kind: &str, body: &Object<'a>, document: &Document<'_>) -> Result<Self, Rejection> {
        let family = name.family();
        let keys: &[&str] = match kind {
            kind::PROVIDER_OTHER => &["call_id", "lead_id", "campaign_id", "id"],
            _ if is_campaign(kind) => &["campaign_id", "id"],
            _ => &["call_id"],
        };
        let subject = keys.iter().find_map(|key| body.peek_id(key));
        if kind == kind::PROVIDER_OTHER && (subject.is_some() || name.is_given()) {
            let mark = document.fingerprint()?;
            let id = match &subject {
                Some(subject) => format!("{family}:{subject}:{mark}"),
                None => format!("{family}:{mark}"),
            };
            let subject = subject.unwrap_or_else(|| id.clone().into());
            return Ok(Self { id, subject });
        }
        let subject = subject.ok_or_else(|| {
            Rejection::malformed("id-missing").detail(format!("{family} without any of {}", keys.join(", ")))
        })?;
        let id = match kind {
            _ if is_campaign(kind) => format!("{family}:{subject}:{}", occurrence(body, document)?),
            kind::CALL_COMPLETED | kind::CALL_FAILED => format!("end:{subject}"),
            _ => format!("{family}:{subject}"),
        };
        Ok(Self { id, subject })
    }

    fn event(&self, kind: &str) -> Event {
        Event::new(kind, &*self.id, &*self.subject)
    }
}

/// Tells one pause of a campaign from the next: by its time or, where none is sent, by all it says.
fn occurrence<'a>(body: &Object<'a>, document: &Document<'_>) -> Result<Cow<'a, str>, Failure> {
    match MOMENT_KEYS.into_iter().find_map(|key| body.peek_filled(key)) {
        Some(time) => Ok(time),
        None => document.fingerprint().map(Cow::Owned),
    }
}

fn is_campaign(kind: &str) -> bool {
    kind.starts_with("campaign.")
}

/// When it happened. Read, not taken: the call has its own places for these times.
fn moment<'a>(kind: &str, body: &Object<'a>) -> Option<Time<'a>> {
    let keys: &[&str] = match kind {
        kind::CALL_INITIATED => &["created_at"],
        kind::CALL_ANSWERED => &["started_at"],
        kind::CALL_COMPLETED | kind::CALL_FAILED | kind::CALL_TRANSFERRED => &["end_at"],
        _ => &MOMENT_KEYS,
    };
    keys.iter().find_map(|key| Time::parse(body.peek_str(key)?))
}

fn call<'a>(name: &'a Name, unit: DurationUnit, body: &mut Object<'a>, remarks: &mut Remarks) -> Call<'a> {
    let started_at = body.take_time("started_at");
    let ended_at = body.take_time("end_at");
    Call {
        id: body.take_id("call_id").expect("the event's identity has it"),
        // The vendor only places calls.
        direction: Direction::Outbound,
        state: state(name.kind()),
        outcome: outcome(name.kind(), body),
        from: body.take_party("from_phone_number"),
        to: body.take_party("phone_number"),
        forwarded_to: TRANSFER_KEYS.into_iter().find_map(|key| body.take_party(key)),
        duration_seconds: duration(started_at.as_ref(), ended_at.as_ref(), unit, body, remarks),
        started_at,
        ended_at,
        answered_by: body.take_word("answered_by"),
        recording: body.take_str("recording_url").map(|url| Recording {
            url,
            ..Recording::default()
        }),
        transcript: transcript(body),
        summary: body.take_str("call_summary"),
        disposition: body
            .take_str("disposition")
            .or_else(|| name.disposition().map(Cow::Borrowed)),
        error: body.take_str("error_message").map(|message| Error {
            message,
            code: body.take_str("error_code"),
        }),
        ..Call::default()
    }
}

fn state(kind: &str) -> Option<CallState> {
    match kind {
        kind::CALL_INITIATED => Some(CallState::Initiated),
        kind::CALL_ANSWERED => Some(CallState::Answered),
        kind::CALL_TRANSFERRED => Some(CallState::Transferred),
        kind::CALL_COMPLETED | kind::CALL_FAILED => Some(CallState::Ended),
        _ => None,
    }
}

/// `call_status` is the telephony's word. `status` is the gateway's: it tells of a failure, never of a success. What else
/// an event that is called a failure tells, it does by its name.
fn outcome(kind: &str, body: &Object<'_>) -> Option<CallOutcome> {
    match body.peek_str("call_status").as_deref() {
        Some("completed") => return Some(CallOutcome::Completed),
        Some("no-answer") => return Some(CallOutcome::NoAnswer),
        Some("busy") => return Some(CallOutcome::Busy),
        Some("rejected") => return Some(CallOutcome::Rejected),
        Some("cancelled") => return Some(CallOutcome::Cancelled),
        Some("failed") => return Some(CallOutcome::Failed),
        _ => {}
    }
    match body.peek_str("status").as_deref() {
        Some("failed") => Some(CallOutcome::Failed),
        Some("cancelled") => Some(CallOutcome::Cancelled),
        _ => (kind == kind::CALL_FAILED).then_some(CallOutcome::Failed),
    }
}

/// Two times are exact; the stated duration is a rounded number of minutes. A silent change of its unit would show as a
/// large difference between the two.
fn duration(
    started_at: Option<&Time<'_>>,
    ended_at: Option<&Time<'_>>,
    unit: DurationUnit,
    body: &Object<'_>,
    remarks: &mut Remarks,
) -> Option<Seconds> {
    let stated = body.peek_f64("duration").map(|duration| match unit {
        DurationUnit::Minutes => (duration * 60.0).round(),
        DurationUnit::Seconds => duration,
    });
    let elapsed = match (started_at, ended_at) {
        (Some(started_at), Some(ended_at)) if ended_at.ms() >= started_at.ms() => {
            Some((ended_at.ms() - started_at.ms()) as f64 / 1000.0)
        }
        _ => None,
    };
    if elapsed.is_none() && started_at.is_some() && ended_at.is_some() {
        remarks.add("end_at", "before-start");
    }
    if let (Some(stated), Some(elapsed)) = (stated, elapsed)
        && (stated - elapsed).abs() > TOLERANCE_SECONDS + TOLERANCE_SHARE * elapsed
    {
        remarks.add("duration", "differs-from-times");
        environment::warn(
            "a call's duration differs from its start and end by more than a minute and 5 %: is its unit still the same?",
        );
    }
    Seconds::new(elapsed.or(stated)?)
}

fn transcript<'a>(body: &mut Object<'a>) -> Option<Vec<Turn<'a>>> {
    let turns = body.open_list("transcript")?;
    Some(turns.objects().filter_map(turn).collect())
}

fn turn<'a>(turn: &mut Object<'a>) -> Option<Turn<'a>> {
    let text = turn.take_str("text")?;
    let speaker = match turn.peek_str("user").as_deref() {
        Some("assistant" | "agent") => Speaker::Agent,
        Some("user" | "customer" | "human") => Speaker::Customer,
        Some("system") => Speaker::System,
        _ => Speaker::Unknown,
    };
    Some(Turn {
        speaker,
        text,
        at: turn.take_time("created_at"),
    })
}

/// The campaign itself, or the one a call belongs to, of which a call knows only the id.
fn campaign<'a>(kind: &str, body: &mut Object<'a>) -> Option<Campaign<'a>> {
    if !is_campaign(kind) {
        return body.take_id("campaign_id").map(|id| Campaign {
            id: Some(id),
            ..Campaign::default()
        });
    }
    let leads = LeadCounts {
        total: body.take_u64("total_leads"),
        completed: body.take_u64("completed_leads"),
        failed: body.take_u64("failed_leads"),
        pending: body.take_u64("pending_leads"),
    };
    Some(Campaign {
        id: body.take_id("campaign_id").or_else(|| body.take_id("id")),
        name: body.take_str("name"),
        status: body.take_str("status"),
        reason: body.take_str("reason"),
        leads: (leads != LeadCounts::default()).then_some(leads),
        ..Campaign::default()
    })
}
