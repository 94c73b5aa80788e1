//! A call, an e-mail or a lead of Magnétis as a unified event.

use std::borrow::Cow;

use callfeed_plugin::{
    Event, Outcome, Rejection, Request,
    data::{Attribution, Call, CallOutcome, CallState, Data, Direction, Email, Lead, Parameter, Party, Seconds, Step},
    environment,
    json::{Document, Object},
    kind, phone,
    remarks::{self, Remarks},
    time::Time,
};

use crate::{
    Options,
    canonical::{
        php::{self, Json},
        tree::Tree,
    },
    time::{Clarity, Zone},
};

/// The one variable of the older webhooks, and what stands for the event they do not name.
pub(crate) const LEGACY: &str = "calltracking_event";

/// What the console's test button sends, whatever the resource.
const TEST: &str = "test";

pub(crate) fn map(request: &Request) -> Result<Outcome, Rejection> {
    let Options {
        time_zone,
        international_prefix,
        ..
    } = environment::options()?;
    let zone =
        Zone::named(&time_zone).ok_or_else(|| Rejection::unsupported("options-invalid").detail("no such time zone"))?;
    let text = text(request)?;
    let document = Document::parse(&text)?;
    let mut body = document.object()?;
    let (root, event) = if body.peek_raw(LEGACY).is_some() {
        (LEGACY, Cow::Borrowed(LEGACY))
    } else {
        (
            "data",
            body.peek_str("event")
                .ok_or_else(|| Rejection::malformed("event-missing"))?,
        )
    };
    let Some((resource, kind)) = Resource::of(root, &event, &mut body)? else {
        return other(event, root, body, &document, request.received_at_ms).map(Outcome::event);
    };
    let data = body.open(root).ok_or_else(|| Rejection::malformed("data-missing"))?;
    let mut reading = Reading {
        zone,
        international_prefix,
        root,
        remarks: Remarks::default(),
    };
    let mut unified = Data {
        provider_event: event.clone(),
        ..Data::default()
    };
    let occurred_at = match kind {
        kind::EMAIL_RECEIVED => {
            let email = reading.email(data);
            let at = email.received_at.clone();
            unified.email = Some(email);
            at
        }
        kind::LEAD_CREATED => {
            let lead = reading.lead(data);
            let at = lead.created_at.clone();
            unified.lead = Some(lead);
            at
        }
        _ => {
            let call = reading.call(kind, data);
            let at = if kind == kind::CALL_RINGING {
                ringing_at(&call)
            } else {
                call.ended_at.clone()
            };
            unified.call = Some(call);
            at
        }
    };
    unified.attribution = attribution(data);
    // Beside the older variable it names nothing.
    if root != LEGACY {
        body.take_str("event");
    }

    if let (Some(at), false) = (&occurred_at, resource.is_test()) {
        watch_zone(&time_zone, request.received_at_ms, at);
    }
    let remarks = reading.remarks.into_raw();
    if let Some(remarks) = &remarks {
        body.add(remarks::KEY, remarks);
    }
    let unified = Data { extra: body, ..unified };
    Ok(Outcome::event(
        resource
            .event(kind, request.received_at_ms)
            .at(occurred_at.as_ref())
            .data(&unified),
    ))
}

/// An event this plugin has no name for, whole under `extra`.
fn other<'a>(
    name: Cow<'a, str>,
    root: &str,
    mut body: Object<'a>,
    document: &Document<'_>,
    received_at_ms: u64,
) -> Result<Event, Rejection> {
    let mut id = format!("{name}:{}", document.fingerprint()?);
    let is_test = name == TEST;
    if is_test {
        id = pressed(&id, received_at_ms);
    }
    let about = body.open(root).and_then(|data| data.peek_id(id_key(root)));
    let subject = about.map_or_else(|| id.clone(), Cow::into_owned);
    let event = Event::new(kind::PROVIDER_OTHER, id, subject).test(is_test);
    Ok(event.data(&Data {
        provider_event: name,
        extra: body,
        ..Data::default()
    }))
}

/// The id of a test. The console sends the same sample whenever its button is pressed, and who presses it again wants
/// to see it again; a test that the vendor repeats by itself, for want of an answer, therefore counts twice.
fn pressed(id: &str, received_at_ms: u64) -> String {
    format!("{id}:{received_at_ms}")
}

/// The body as a JSON document, also where it is a form: nested as PHP nests it, and a variable that holds JSON opened.
fn text(request: &Request) -> Result<Cow<'_, str>, Rejection> {
    if request.form.is_empty() {
        return request.text().map(Cow::Borrowed);
    }
    let fields = request
        .form
        .iter()
        .map(|field| (field.name.as_str(), field.value.as_str()));
    let mut variables = php::nest(fields).ok_or_else(|| Rejection::malformed("form-invalid"))?;
    for (_, value) in &mut variables {
        if let Tree::Text(text) = value
            && let Ok(inner) = Tree::from_json(text)
            && inner.is_nested()
        {
            *value = inner;
        }
    }
    Ok(Cow::Owned(php::json_encode(&Tree::Object(variables), Json::Unescaped)))
}

/// What a webhook is about, read from the places every resource has in common.
struct Resource<'e, 'a> {
    event: &'e str,
    id: Cow<'a, str>,
}

impl<'e, 'a> Resource<'e, 'a> {
    /// With its unified type; `None` for an event or a resource of another name.
    fn of(root: &str, event: &'e str, body: &mut Object<'a>) -> Result<Option<(Self, &'static str)>, Rejection> {
        let is_known = matches!(
            event,
            "call:ringing" | "call:completed" | "call:missed" | "email:received" | "lead:created"
        ) || root == LEGACY;
        let Some(data) = body.open(root) else {
            return if is_known {
                Err(Rejection::malformed("data-missing"))
            } else {
                Ok(None)
            };
        };
        let Some(id) = data.peek_id(id_key(root)) else {
            return if is_known {
                Err(Rejection::malformed("id-missing"))
            } else {
                Ok(None)
            };
        };
        let kind = match event {
            "call:ringing" => kind::CALL_RINGING,
            "call:completed" | LEGACY => ended(data),
            "call:missed" => kind::CALL_MISSED,
            "email:received" => kind::EMAIL_RECEIVED,
            "lead:created" => kind::LEAD_CREATED,
            // The console sends a sample of any resource under this one name.
            TEST if id.starts_with("call-") => ended(data),
            TEST if id.starts_with("email-") => kind::EMAIL_RECEIVED,
            TEST if id.starts_with("lead-") => kind::LEAD_CREATED,
            _ => return Ok(None),
        };
        Ok(Some((Self { event, id }, kind)))
    }

    fn is_test(&self) -> bool {
        self.event == TEST
    }

    /// A missed call may be reported twice, as missed and as completed: that is one event.
    fn event(&self, kind: &str, received_at_ms: u64) -> Event {
        let name = if kind == kind::CALL_MISSED && self.event == "call:completed" {
            "call:missed"
        } else {
            self.event
        };
        let id = format!("{name}:{}", self.id);
        let id = if self.is_test() {
            pressed(&id, received_at_ms)
        } else {
            id
        };
        Event::new(kind, id, &*self.id).test(self.is_test())
    }
}

/// A call that was missed ends as well.
fn ended(data: &mut Object<'_>) -> &'static str {
    if outcome(data) == Some(CallOutcome::Missed) {
        kind::CALL_MISSED
    } else {
        kind::CALL_COMPLETED
    }
}

fn id_key(root: &str) -> &'static str {
    if root == LEGACY { "idcall" } else { "id" }
}

/// What is needed to read a resource, and what there is to say about it.
struct Reading {
    zone: Zone,
    international_prefix: String,
    root: &'static str,
    remarks: Remarks,
}

impl Reading {
    fn call<'a>(&mut self, kind: &str, data: &mut Object<'a>) -> Call<'a> {
        let ended = kind != kind::CALL_RINGING;
        let started_at = self.time(data, "date", "date", None);
        let floor = started_at.as_ref().map(Time::ms);
        let outcome = match kind {
            kind::CALL_RINGING => None,
            kind::CALL_MISSED => Some(CallOutcome::Missed),
            _ => outcome(data),
        };
        let steps = self.steps(data, floor);
        let step = |name: &str| {
            steps
                .iter()
                .rev()
                .find(|step| step.name == name)
                .and_then(|step| step.at.clone())
        };
        let answered_at = step("call:answered");
        let completed_at = step("call:completed");
        let between =
            |from: &Option<Time<'_>>, to: &Option<Time<'_>>| Seconds::from_ms(to.as_ref()?.ms() - from.as_ref()?.ms());
        let duration = if ended {
            number(data, "duration").filter(|seconds| *seconds >= 0.0)
        } else {
            None
        };
        Call {
            id: self.id(data),
            direction: Direction::Inbound,
            state: Some(if ended { CallState::Ended } else { CallState::Ringing }),
            outcome,
            from: self.party(
                data,
                &["calling_number", "callingnumber"],
                "calling_country",
                "calling_type",
            ),
            to: self.party(
                data,
                &["tracked_number", "trackednumber"],
                "tracked_country",
                "tracked_type",
            ),
            forwarded_to: self.party(data, &["recipient_number", "recipientnumber"], "", ""),
            talk_seconds: between(&answered_at, &completed_at),
            // The duration counts from the first step to the last.
            ended_at: completed_at
                .or_else(|| Time::from_ms(started_at.as_ref()?.ms().saturating_add((duration? * 1000.0) as i64))),
            duration_seconds: duration.and_then(|duration| {
                data.take_i64("duration");
                Seconds::new(duration)
            }),
            started_at,
            answered_at,
            steps,
            ..Call::default()
        }
    }

    fn steps<'a>(&mut self, data: &mut Object<'a>, mut floor: Option<i64>) -> Vec<Step<'a>> {
        let Some(list) = data.open_list("events") else {
            return Vec::new();
        };
        let mut steps = Vec::new();
        for (index, item) in list.items().enumerate() {
            let Some(item) = item.open() else { continue };
            let Some(name) = item.take_str("name") else { continue };
            let at = self.time(item, "date", &format!("events[{index}].date"), floor);
            floor = at.as_ref().map(Time::ms).or(floor);
            steps.push(Step {
                name,
                at,
                value: item.take_raw("value"),
            });
        }
        steps
    }

    fn email<'a>(&mut self, data: &mut Object<'a>) -> Email<'a> {
        Email {
            received_at: self.time(data, "date", "date", None),
            id: self.id(data),
            from: data.take_filled("from"),
            to: data.take_filled("to"),
            subject: data.take_filled("subject"),
            text: data.take_filled("text").or_else(|| data.take_filled("body")),
        }
    }

    fn lead<'a>(&mut self, data: &mut Object<'a>) -> Lead<'a> {
        Lead {
            created_at: self.time(data, "date", "date", None),
            id: self.id(data),
            source_type: data.take_filled("source_type"),
            source_id: data.take_id("source_id"),
            name: data.take_filled("name"),
            phone: self.party(data, &["phone", "calling_number"], "calling_country", "calling_type"),
            email: data.take_filled("email"),
        }
    }

    /// A local time. Read, not taken: it gets a zone on its way into the event.
    fn time<'a>(&mut self, object: &Object<'_>, key: &str, path: &str, floor: Option<i64>) -> Option<Time<'a>> {
        let text = object.peek_str(key)?;
        let Some(moment) = self.zone.place(&text, floor) else {
            self.remark(path, "not-a-time");
            return None;
        };
        match moment.clarity {
            Clarity::Plain => {}
            Clarity::Repeated => self.remark(path, "local-time-repeated"),
            Clarity::Skipped => self.remark(path, "local-time-skipped"),
        }
        Time::from_ms(moment.at_ms)
    }

    /// The vendor writes numbers with `00` and the country code. How it writes a withheld one is not known, so whatever
    /// does not say its country stays as it is.
    fn party<'a>(&mut self, data: &mut Object<'a>, keys: &[&str], country: &str, line_type: &str) -> Option<Party<'a>> {
        let key = keys.iter().find(|key| data.has(key))?;
        // An empty text, which would be taken as an id of nobody, stays as well.
        let raw = data.take_id(key)?;
        let number = raw
            .strip_prefix(&*self.international_prefix)
            .and_then(phone::e164_from_digits)
            .or_else(|| phone::e164(&raw))
            .map(Cow::Owned);
        if number.is_none() {
            self.remark(key, "not-international");
        }
        Some(Party {
            number,
            raw,
            name: None,
            country: data.take_filled(country),
            line_type: data.take_filled(line_type),
        })
    }

    /// The id, which the [`Resource`] has found there.
    fn id<'a>(&self, data: &mut Object<'a>) -> Cow<'a, str> {
        data.take_id(id_key(self.root)).expect("the resource has an id")
    }

    fn remark(&mut self, path: &str, remark: &'static str) {
        self.remarks.add(format!("{}.{path}", self.root), remark);
    }
}

/// How a call ended, or `None` where nothing tells.
///
/// The flag counts first, then the status, then whether anybody answered. What the last step says does not: the vendor's
/// own sample has `no-answer` there, for a call that was answered.
fn outcome(data: &mut Object<'_>) -> Option<CallOutcome> {
    if let Some(missed) = flag(data, "missed") {
        return Some(if missed {
            CallOutcome::Missed
        } else {
            CallOutcome::Completed
        });
    }
    match data.peek_str("end_status").as_deref() {
        Some("completed" | "answered") => return Some(CallOutcome::Completed),
        Some("missed" | "no-answer") => return Some(CallOutcome::Missed),
        Some("busy") => return Some(CallOutcome::Busy),
        Some("rejected") => return Some(CallOutcome::Rejected),
        Some("cancelled" | "canceled") => return Some(CallOutcome::Cancelled),
        Some("failed") => return Some(CallOutcome::Failed),
        _ => {}
    }
    let steps = data.open_list("events")?;
    steps.items().next()?;
    let is_answered = steps
        .objects()
        .any(|step| step.peek_str("name").as_deref() == Some("call:answered"));
    Some(if is_answered {
        CallOutcome::Completed
    } else {
        CallOutcome::Missed
    })
}

/// When it rang: the last of the steps so far.
fn ringing_at<'a>(call: &Call<'a>) -> Option<Time<'a>> {
    call.steps
        .iter()
        .rev()
        .find_map(|step| step.at.clone())
        .or_else(|| call.started_at.clone())
}

/// The channel and the traces of the visit.
fn attribution<'a>(data: &mut Object<'a>) -> Option<Attribution<'a>> {
    let channel = data
        .take_filled("channel_name")
        .or_else(|| data.take_filled("channelname"));
    let channel_type = data.take_filled("channel_type");
    let first_time_caller = data
        .take_bool("firsttime_caller")
        .or_else(|| flag(data, "firsttime_caller"));
    let mut attribution = Attribution {
        channel,
        channel_type,
        first_time_caller,
        ..Attribution::default()
    };
    // An empty visitor is `[]`, as PHP prints an empty array; there is nothing to open then.
    if let Some(visitor) = data.open("visitor") {
        attribution.gclid = visitor.take_filled("gclid");
        attribution.msclkid = visitor.take_filled("msclkid");
        attribution.ga = visitor.take_filled("ga");
        if let Some(utm) = visitor.open_list("utm") {
            attribution.utm = utm.objects().filter_map(parameter).collect();
        } else if let Some(utm) = visitor.open("utm") {
            let keys: Vec<String> = utm.keys().map(str::to_owned).collect();
            attribution.utm = keys
                .into_iter()
                .filter_map(|key| {
                    Some(Parameter {
                        value: utm.take_str(&key)?,
                        key: key.into(),
                    })
                })
                .collect();
        }
        attribution.parameters = visitor.take_raw_object("custom_params");
    }
    let is_known = attribution.channel.is_some()
        || attribution.channel_type.is_some()
        || attribution.first_time_caller.is_some()
        || attribution.gclid.is_some()
        || attribution.msclkid.is_some()
        || attribution.ga.is_some()
        || !attribution.utm.is_empty()
        || attribution.parameters.is_some();
    is_known.then_some(attribution)
}

fn parameter<'a>(entry: &mut Object<'a>) -> Option<Parameter<'a>> {
    // Both or neither: half a parameter stays where it is.
    entry.peek_str("value")?;
    Some(Parameter {
        key: entry.take_str("key")?,
        value: entry.take_str("value")?,
    })
}

/// A boolean, also as PHP prints one into a form.
fn flag(data: &Object<'_>, key: &str) -> Option<bool> {
    data.peek_bool(key).or_else(|| match data.peek_raw(key)?.get() {
        r#""1""# | r#""true""# | "1" => Some(true),
        r#""0""# | r#""""# | r#""false""# | "0" => Some(false),
        _ => None,
    })
}

/// A number, also written as a text. Read, not taken.
fn number(data: &Object<'_>, key: &str) -> Option<f64> {
    data.peek_f64(key)
        .or_else(|| data.peek_str(key)?.trim().parse().ok())
        .filter(|number: &f64| number.is_finite())
}

/// The zone is an assumption, and this is how a wrong one shows: webhooks come at once, so a call that ended in an hour
/// to come, or whole hours ago, was clocked elsewhere. A late retry looks like the latter, so only a steady one means
/// anything, and nothing is corrected.
fn watch_zone(zone: &str, received_at_ms: u64, at: &Time<'_>) {
    const MINUTE: i64 = 60_000;
    let late = i64::try_from(received_at_ms)
        .unwrap_or(i64::MAX)
        .saturating_sub(at.ms());
    let near = |hours: i64| (late - hours * 60 * MINUTE).abs() <= 2 * MINUTE;
    if late < -2 * MINUTE {
        environment::warn(&format!(
            "the webhook's time is in the future: is the provider's clock really in {zone}?"
        ));
    } else if near(1) || near(2) {
        environment::log(
            environment::Level::Info,
            &format!("the webhook came a whole number of hours late; if all do, the provider's clock is not in {zone}"),
        );
    }
}
