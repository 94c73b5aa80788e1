//! Cases in files: a request, and what a plugin should make of it.
//!
//! ```text
//! cases/route.toml                    the route all cases run on
//! cases/<name>/request.http           a request
//! cases/<name>/expected.json          the answer
//! cases/<name>/route.toml             settings of this case that differ
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use serde_json::{Map, Value, json};

use super::{Evidence, RECEIVED_AT_MS, TestHost, with_host};
use crate::{
    Accepted, Body, Descriptor, Event, Field, Outcome, Provider, Rejection, RejectionKind, Request, Response, Verdict,
    answer::AT_MS_MAX, encoding, time,
};

/// What the gateway writes where a token stood in a body, and the length from which it does.
const STRUCK_OUT: &str = "•••";
const TOKEN_BYTES_MIN: usize = 8;

/// Runs every case of a directory, usually `concat!(env!("CARGO_MANIFEST_DIR"), "/cases")`, against a plugin in a
/// native build.
///
/// # Files
///
/// `request.http` is a request line, header lines and an empty line (ending in LF or CRLF), and the body: every byte to
/// the end of the file. A path longer than the route's is handed to the plugin as the rest of it.
///
/// `route.toml` has `secrets` (lists of texts, as an operator would write them), `options`, `allow_unsigned`,
/// `allow_hmac`, `public_url` (`https://hooks.example.com` unless set), `path` (`/hooks/<provider>` unless set) and `received_at`
/// (RFC 3339; [`RECEIVED_AT_MS`] unless set). A case's own file replaces the keys it has. What else there is is for
/// `callfeed plugin test`.
///
/// `expected.json` is one of
///
/// - `{"verdict":"accepted","form":…,"events":[{"kind","id","subject","occurred_at","test","data"}]}`, with
///   `"ack":{"status","content_type","body"}` where the plugin writes the answer
/// - `{"verdict":"ignored","form":…,"reason":…}`
/// - `{"verdict":"rejected","kind":…,"code":…}`: by `verify`, with the code `not-proven` where `verify` called it authentic
///   without a check that is strong enough, on a route that does not allow it
/// - `{"verdict":"quarantined","kind":…,"code":…}`: by `normalize`, or by `verify` after a check that is strong enough,
///   as malformed or unsupported
/// - `{"verdict":"respond","status":…,"content_type":…,"body":…}`
///
/// # What is checked
///
/// The answer is the expected one. Of accepted events also that their kind is declared, that their data is valid under
/// the unified schema, and that every scalar of the body is found again in them: in its own place, in `extra`, or, for
/// a text that became turns of a transcript, in these. A token in the body is struck out before it is mapped, as the
/// gateway does, and need not be found.
///
/// With `BLESS=1` in the environment the expected files are written instead of compared; the other checks stay.
///
/// # Panics
///
/// When a case fails, after all have run; and when a file cannot be read.
pub fn cases<P: Provider>(dir: impl AsRef<Path>) {
    let dir = dir.as_ref();
    let demands = Demands::of::<P>();
    let descriptor = &demands.descriptor;
    let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");

    let mut failures = String::new();
    let mut count = 0;
    for case in directories(dir) {
        count += 1;
        let route = Route::read(descriptor, &[dir.join("route.toml"), case.join("route.toml")]);
        let text = fs::read(case.join("request.http")).expect("a case has a request");
        let request = route.request(descriptor, &text);
        let answer = route.answer::<P>(descriptor, &request);

        let expected_path = case.join("expected.json");
        let rendered = serde_json::to_string_pretty(&answer.json()).expect("a value is JSON") + "\n";
        let mut problems = match &answer {
            Answer::Accepted { events, .. } => demands.unmet(&route.as_mapped(descriptor, &request), events),
            Answer::Other(_) => Vec::new(),
        };
        if bless {
            fs::write(&expected_path, &rendered).expect("the expected file can be written");
        } else {
            let expected = fs::read_to_string(&expected_path).unwrap_or_default();
            let expected: Value = serde_json::from_str(&expected).unwrap_or_default();
            if expected != answer.json() {
                problems.push(format!("not as expected:\n{}", difference(&expected, &answer.json())));
            }
        }
        for problem in problems {
            let name = case.file_name().unwrap_or_default().to_string_lossy();
            write!(failures, "\n{name}: {problem}").expect("a string takes everything");
        }
    }
    assert!(count > 0, "no cases in {}", dir.display());
    assert!(failures.is_empty(), "{failures}");
}

/// Maps every sample of a directory of [`cases`] again and again, each time with one member of its JSON body missing, or
/// of another type or an odd value. Samples are the cases whose name does not begin with `oddity-`.
///
/// A provider may send anything one day. Whatever it is has to become a valid event with nothing lost: never a panic,
/// and never an event that the gateway has to quarantine. It may be refused only where the member says what no event can
/// do without, its name, id or subject: `/event` or `/data/id`, say, and with that `/data`. These are not listed; they are
/// where the sample has what its event has as `provider_event`, as id (after the name and a colon) and as subject.
///
/// # Panics
///
/// When a mapping fails that way, and when a file cannot be read.
pub fn substitutions<P: Provider>(dir: impl AsRef<Path>) {
    let dir = dir.as_ref();
    let demands = Demands::of::<P>();
    let descriptor = &demands.descriptor;
    let odd = json!([
        null, true, false, "", "x", "0", " 7 ", "2023-02-30", "9999-12-31T23:59:59Z", -1, 0, 7, 1.5, 1e300, 18446744073709551615u64, [], {}, [null],
        ["x"], [[]], [{}], {"": ""}, {"id": {}}
    ]);
    let odd = odd.as_array().expect("it is written as one");

    let mut count = 0;
    for case in directories(dir) {
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("oddity-") {
            continue;
        }
        let route = Route::read(descriptor, &[dir.join("route.toml"), case.join("route.toml")]);
        let text = fs::read(case.join("request.http")).expect("a case has a request");
        let mut request = route.as_mapped(descriptor, &route.request(descriptor, &text));
        let Ok(sample) = serde_json::from_slice::<Value>(request.bytes()) else {
            continue;
        };
        let map = |request: &Request| {
            let host = TestHost {
                options: route.options.to_string(),
                body: request.bytes().to_vec(),
                ..TestHost::default()
            };
            with_host(host, || crate::normalize::<P>(request, None))
        };
        let Outcome::Accepted(Accepted { events, ack: _ }) = map(&request) else {
            panic!("{name} becomes no event");
        };
        let mut places = Vec::new();
        pointers(&sample, String::new(), &mut places);
        // Where the token was, anything else would have been refused.
        places.retain(|place| sample.pointer(place).is_none_or(|value| value != STRUCK_OUT));
        let essential = essential(&sample, &places, &events);
        for place in &places {
            let can_be_missed = !essential.iter().any(|essential| is_at_or_above(place, essential));
            for value in odd.iter().map(Some).chain([None]) {
                let mut body = sample.clone();
                replace(&mut body, place, value);
                request.body = Body::Text(body.to_string());
                match map(&request) {
                    Outcome::Accepted(Accepted { events, ack: _ }) => {
                        let problems = demands.unmet(&request, &events);
                        assert!(problems.is_empty(), "{name} with {value:?} at {place}: {problems:#?}");
                    }
                    Outcome::Reject(rejection) => {
                        let code = rejection.code;
                        assert!(!can_be_missed, "{name} with {value:?} at {place} is refused: {code}");
                    }
                    Outcome::Ignored(_) | Outcome::Respond(_) => {}
                }
                count += 1;
            }
        }
    }
    assert!(count > 0, "no JSON samples in {}", dir.display());
}

/// Where a body has the names, ids and subjects of its events: for each, the place nearest to the top.
fn essential<'p>(body: &Value, places: &'p [String], events: &[Event]) -> Vec<&'p str> {
    let said = |place: &str| match body.pointer(place) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let words = events.iter().flat_map(|event| {
        let name = data(event)["provider_event"].as_str().unwrap_or_default().to_owned();
        let id = event
            .id
            .strip_prefix(&format!("{name}:"))
            .unwrap_or(&event.id)
            .to_owned();
        [name, id, event.subject.clone()]
    });
    words
        .filter_map(|word| {
            let at = places.iter().filter(|place| said(place).as_ref() == Some(&word));
            at.min_by_key(|place| place.matches('/').count()).map(String::as_str)
        })
        .collect()
}

/// Whether what is at `place` has within it what is at `inner`.
fn is_at_or_above(place: &str, inner: &str) -> bool {
    inner
        .strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A JSON pointer to everything in a document but the document itself.
fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(members) => {
            let escaped = |key: &String| key.replace('~', "~0").replace('/', "~1");
            members.iter().map(|(key, value)| (escaped(key), value)).collect()
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(at, item)| (at.to_string(), item))
            .collect(),
        _ => Vec::new(),
    };
    for (key, value) in inner {
        let at = format!("{at}/{key}");
        found.push(at.clone());
        pointers(value, at, found);
    }
}

/// Puts another value at a place, or takes away what is there.
fn replace(body: &mut Value, place: &str, value: Option<&Value>) {
    if let Some(value) = value {
        *body.pointer_mut(place).expect("the place is in the body") = value.clone();
        return;
    }
    let (parent, key) = place.rsplit_once('/').expect("a place begins with a slash");
    match body.pointer_mut(parent).expect("the place is in the body") {
        Value::Object(members) => _ = members.remove(&key.replace("~1", "/").replace("~0", "~")),
        Value::Array(items) => _ = items.remove(key.parse().expect("an item's place is its number")),
        _ => {}
    }
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the directory of cases can be read");
    let mut paths: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    paths.retain(|path| path.is_dir());
    paths.sort();
    paths
}

/// The route a case runs on.
struct Route {
    secrets: BTreeMap<String, Vec<Vec<u8>>>,
    options: Value,
    allow_unsigned: bool,
    allow_hmac: bool,
    public_url: String,
    path: String,
    received_at_ms: u64,
}

impl Route {
    fn read(descriptor: &Descriptor, files: &[PathBuf]) -> Self {
        let mut settings = Map::new();
        for file in files.iter().filter(|file| file.exists()) {
            let text = fs::read_to_string(file).expect("the route's file can be read");
            settings.extend(toml::from_str::<Map<String, Value>>(&text).expect("the route's file is TOML"));
        }
        let text =
            |key: &str, default: String| settings.get(key).and_then(Value::as_str).map_or(default, str::to_owned);
        let flag = |key: &str| settings.get(key).and_then(Value::as_bool).unwrap_or_default();
        let secrets = settings
            .get("secrets")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, values)| {
                let spec = descriptor
                    .secrets
                    .iter()
                    .find(|spec| spec.name == *name)
                    .expect("the plugin declares the secret");
                let values = values.as_array().expect("a secret is a list of values");
                (
                    name.clone(),
                    values
                        .iter()
                        .map(|value| key(&spec.encoding, value.as_str().unwrap_or_default()))
                        .collect(),
                )
            });
        let options = settings.get("options").cloned().unwrap_or_else(|| json!({}));
        let options_schema = serde_json::from_str(&descriptor.options_schema).expect("the options' schema is JSON");
        jsonschema::validate(&options_schema, &options).expect("the options are valid");
        Self {
            secrets: secrets.collect(),
            options,
            allow_unsigned: flag("allow_unsigned"),
            allow_hmac: flag("allow_hmac"),
            public_url: text("public_url", "https://hooks.example.com".to_owned()),
            path: text("path", format!("/hooks/{}", descriptor.provider)),
            received_at_ms: settings.get("received_at").map_or(RECEIVED_AT_MS, |text| {
                let ms = text.as_str().and_then(time::parse_rfc3339_ms);
                ms.and_then(|ms| u64::try_from(ms).ok())
                    .expect("received_at is an RFC 3339 time")
            }),
        }
    }

    fn request(&self, descriptor: &Descriptor, file: &[u8]) -> Request {
        let (head, body) = split_head(file);
        let mut lines = head.lines();
        let request_line: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [method, target, "HTTP/1.1"] = request_line[..] else {
            panic!("no request line: {request_line:?}")
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let rest = path.strip_prefix(self.path.as_str()).expect("the path is the route's");

        let headers: Vec<Field> = lines
            .map(|line| {
                let (name, value) = line.split_once(':').expect("a header has a colon");
                TestHost::field(&name.to_ascii_lowercase(), value.trim())
            })
            .collect();
        let is_form = headers.iter().any(|header| {
            header.name == "content-type" && header.value.starts_with("application/x-www-form-urlencoded")
        });
        let form = if is_form { pairs(body) } else { Vec::new() };
        let wanted = self.headers(descriptor);
        Request {
            method: method.to_owned(),
            urls: vec![format!("{}{target}", self.public_url)],
            path: rest.trim_start_matches('/').to_owned(),
            query: pairs(query.as_bytes()),
            headers: headers
                .into_iter()
                .filter(|header| wanted.contains(&header.name))
                .collect(),
            peer: None,
            body: match std::str::from_utf8(body) {
                Ok("") => Body::None,
                Ok(text) => Body::Text(text.to_owned()),
                Err(_) => Body::Binary(body.to_vec()),
            },
            form,
            received_at_ms: self.received_at_ms,
        }
    }

    /// The headers the plugin is shown: those it declares, `option:` entries looked up.
    fn headers(&self, descriptor: &Descriptor) -> Vec<String> {
        let named = |entry: &String| match entry.strip_prefix("option:") {
            None => vec![entry.clone()],
            Some(pointer) => match self.options.pointer(pointer) {
                Some(Value::String(name)) => vec![name.to_ascii_lowercase()],
                Some(Value::Array(names)) => names
                    .iter()
                    .filter_map(Value::as_str)
                    .map(str::to_ascii_lowercase)
                    .collect(),
                _ => Vec::new(),
            },
        };
        descriptor.headers.iter().flat_map(named).collect()
    }

    /// The request without a token in its body, where a token is what proves it.
    fn as_mapped(&self, descriptor: &Descriptor, request: &Request) -> Request {
        let mut request = request.clone();
        if descriptor.assurance == "token"
            && let Body::Text(text) = &mut request.body
        {
            let tokens = self
                .secrets
                .values()
                .flatten()
                .filter_map(|key| std::str::from_utf8(key).ok());
            for token in tokens.filter(|token| token.len() >= TOKEN_BYTES_MIN) {
                *text = text.replace(token, STRUCK_OUT);
            }
            if !request.form.is_empty() {
                request.form = pairs(text.as_bytes());
            }
        }
        request
    }

    fn answer<P: Provider>(&self, descriptor: &Descriptor, request: &Request) -> Answer {
        let host = Rc::new(TestHost {
            secrets: self.secrets.clone(),
            options: self.options.to_string(),
            allow_hmac: self.allow_hmac,
            body: request.bytes().to_vec(),
            now_ms: self.received_at_ms,
            ..TestHost::default()
        });
        let needed = match descriptor.assurance.as_str() {
            "signed-body" => Evidence::SignedBody,
            "signed-derived" => Evidence::SignedDerived,
            "token" => Evidence::Token,
            other => panic!("no assurance `{other}`"),
        };
        let verdict = with_host(host.clone(), || crate::verify::<P>(request));
        let proven = host.seen.evidence.get() >= needed;
        let proof = match verdict {
            Verdict::Authentic(proof) => proof,
            Verdict::Respond(response) => return Answer::respond(&response),
            Verdict::Reject(rejection) => {
                // The provider did send it, so the gateway does not lose it.
                let kept = proven && rejection.kind != RejectionKind::Unauthenticated;
                return Answer::refused(if kept { "quarantined" } else { "rejected" }, &rejection);
            }
        };
        if !proven && !self.allow_unsigned {
            return Answer::Other(json!({ "verdict": "rejected", "kind": "unauthenticated", "code": "not-proven" }));
        }
        let request = self.as_mapped(descriptor, request);
        match with_host(host, || crate::normalize::<P>(&request, proof.payload.as_deref())) {
            Outcome::Accepted(Accepted { events, ack }) => Answer::Accepted {
                form: proof.form,
                events,
                ack,
            },
            Outcome::Ignored(reason) => {
                Answer::Other(json!({ "verdict": "ignored", "form": proof.form, "reason": reason }))
            }
            Outcome::Respond(response) => Answer::respond(&response),
            Outcome::Reject(rejection) => Answer::refused("quarantined", &rejection),
        }
    }
}

/// What the plugin made of a request.
enum Answer {
    Accepted {
        form: String,
        events: Vec<Event>,
        ack: Option<Response>,
    },
    Other(Value),
}

impl Answer {
    fn respond(response: &Response) -> Self {
        let mut answer = response_json(response);
        answer["verdict"] = "respond".into();
        Self::Other(answer)
    }

    fn refused(verdict: &str, rejection: &Rejection) -> Self {
        let kind = match rejection.kind {
            RejectionKind::Unauthenticated => "unauthenticated",
            RejectionKind::Malformed => "malformed",
            RejectionKind::Unsupported => "unsupported",
        };
        Self::Other(json!({ "verdict": verdict, "kind": kind, "code": rejection.code }))
    }

    fn json(&self) -> Value {
        match self {
            Self::Other(answer) => answer.clone(),
            Self::Accepted { form, events, ack } => {
                let events: Vec<Value> = events
                    .iter()
                    .map(|event| {
                        json!({
                            "kind": event.kind,
                            "id": event.id,
                            "subject": event.subject,
                            "occurred_at": event.occurred_at_ms.and_then(|ms| time::rfc3339(i64::try_from(ms).ok()?)),
                            "test": event.test,
                            "data": data(event),
                        })
                    })
                    .collect();
                let mut answer = json!({ "verdict": "accepted", "form": form, "events": events });
                if let Some(ack) = ack {
                    answer["ack"] = response_json(ack);
                }
                answer
            }
        }
    }
}

/// What the gateway and the reader of an event may expect of it, whatever the webhook was.
#[derive(Debug)]
pub struct Demands {
    descriptor: Descriptor,
    schema: jsonschema::Validator,
}

impl Demands {
    /// Those on a plugin's events.
    ///
    /// # Panics
    ///
    /// Never; the unified schema is part of this crate.
    pub fn of<P: Provider>() -> Self {
        let schema: Value = serde_json::from_str(include_str!("../../../../schemas/event/v1/call-event.schema.json"))
            .expect("the event schema is JSON");
        Self {
            descriptor: P::describe(),
            schema: jsonschema::validator_for(&schema).expect("the event schema is a schema"),
        }
    }

    /// What is wrong with the events that a webhook was accepted as: there is none, one's kind is not declared, its data is
    /// not valid under the unified schema, or a scalar of the body is not found again.
    ///
    /// # Panics
    ///
    /// When an event's data is not JSON.
    pub fn unmet(&self, request: &Request, events: &[Event]) -> Vec<String> {
        let mut problems = Vec::new();
        if events.is_empty() {
            problems.push("accepted without an event".to_owned());
        }
        for event in events {
            if !self.descriptor.events.iter().any(|spec| spec.unified == event.kind) {
                problems.push(format!("`{}` is not declared", event.kind));
            }
            if event.id.is_empty() || event.subject.is_empty() {
                problems.push("an event without id or subject".to_owned());
            }
            if event.occurred_at_ms.is_some_and(|ms| ms > AT_MS_MAX) {
                problems.push("it happened later than the gateway can say".to_owned());
            }
            let mut whole = data(event);
            whole["provider"] = self.descriptor.provider.clone().into();
            whole["test"] = event.test.into();
            if event.occurred_at_ms.is_none() {
                whole["time_is_received"] = true.into();
            }
            problems.extend(
                self.schema
                    .iter_errors(&whole)
                    .map(|error| format!("{}: {error}", error.instance_path())),
            );
        }
        problems.extend(
            lost(request, events)
                .into_iter()
                .map(|leaf| format!("not found again: {leaf}")),
        );
        problems
    }
}

fn response_json(response: &Response) -> Value {
    let mut json = json!({ "status": response.status, "body": String::from_utf8_lossy(&response.body) });
    let content_type = response
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-type"));
    if let Some(content_type) = content_type {
        json["content_type"] = content_type.value.as_str().into();
    }
    json
}

fn data(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap_or_else(|error| panic!("the data of {} is not JSON: {error}", event.id))
}

/// The scalars of a body that no event has.
///
/// Each place in the events answers for one scalar only. A party's E.164 number answers for none: what was sent is
/// its `raw`. That an event is a test, or is none, answers for a flag that says so: a boolean with `test` in its name.
fn lost(request: &Request, events: &[Event]) -> Vec<String> {
    let mut found = Vec::new();
    let mut turns: Vec<Vec<String>> = Vec::new();
    for event in events {
        leaves(&data(event), &mut |leaf| found.push(leaf.clone()));
        for block in ["call", "chat"] {
            let transcript = data(event)[block]["transcript"].take();
            let texts = transcript
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|turn| turn["text"].as_str());
            turns.push(texts.map(str::to_owned).collect());
        }
    }
    let mut sent = Vec::new();
    if request.form.is_empty() {
        if let Ok(document) = request.json() {
            let body: Value = serde_json::from_str(document.as_str()).expect("the document was checked");
            leaves(&body, &mut |leaf| sent.push(leaf.clone()));
            if let Some(flag) = test_flag(&body).filter(|flag| events.iter().all(|event| event.test == *flag)) {
                found.push(flag.into());
            }
        }
    } else {
        for field in &request.form {
            match serde_json::from_str(&field.value) {
                // It may also have been taken as the text it is.
                Ok(value @ (Value::Object(_) | Value::Array(_))) if !found.contains(&field.value.clone().into()) => {
                    leaves(&value, &mut |leaf| sent.push(leaf.clone()));
                }
                _ => sent.push(field.value.clone().into()),
            }
        }
    }
    sent.retain(|leaf| leaf != STRUCK_OUT);
    sent.retain(|leaf| match found.iter().position(|other| same(leaf, other)) {
        Some(at) => {
            found.swap_remove(at);
            false
        }
        None => !leaf
            .as_str()
            .is_some_and(|text| turns.iter().any(|turns| consists_of(text, turns))),
    });
    sent.into_iter().map(|leaf| leaf.to_string()).collect()
}

fn leaves(value: &Value, visit: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(members) => {
            let is_party = members.contains_key("raw");
            members
                .iter()
                .filter(|(key, _)| !(is_party && *key == "number"))
                .for_each(|(_, value)| leaves(value, visit));
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(item, visit)),
        scalar => visit(scalar),
    }
}

/// What a body says of being a test, at its top level.
fn test_flag(body: &Value) -> Option<bool> {
    let mut members = body.as_object()?.iter();
    members.find_map(|(key, value)| value.as_bool().filter(|_| key.to_ascii_lowercase().contains("test")))
}

/// `2.50` and `2.5` are the same number.
fn same(left: &Value, right: &Value) -> bool {
    left == right || matches!((left, right), (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64())
}

/// Whether a text is these turns in this order, with nothing but blank space and labels (`Agent: `) between.
fn consists_of(text: &str, turns: &[String]) -> bool {
    // Every place where what was found so far may end: a short turn can be found in a label, too.
    let mut ends = BTreeSet::from([0]);
    for turn in turns {
        let after = |from: &usize| {
            let from = *from;
            places(&text[from..], turn).map(move |at| from + at + turn.len())
        };
        ends = ends.iter().flat_map(after).collect();
    }
    !turns.is_empty() && ends.iter().any(|end| text[*end..].trim().is_empty())
}

/// Where a turn stands in a text with at most a label before it.
fn places<'t>(text: &'t str, turn: &'t str) -> impl Iterator<Item = usize> + 't {
    let before = |at: usize| text[..at].trim();
    let all = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    all.take_while(move |at| before(*at).len() <= 20)
        .filter(move |at| text[*at..].starts_with(turn) && (before(*at).is_empty() || before(*at).ends_with(':')))
}

/// The bytes of a secret's value, in an encoding of [`SecretSpec`](crate::SecretSpec).
fn key(encoding: &str, value: &str) -> Vec<u8> {
    match encoding {
        "utf8" => Some(value.as_bytes().to_vec()),
        "base64" => encoding::base64(value),
        "hex" => encoding::hex(value),
        "standard-webhooks" => encoding::base64(value.strip_prefix("whsec_").unwrap_or(value)),
        other => panic!("no secrets in `{other}` outside the gateway"),
    }
    .expect("the secret is in the encoding the plugin declares")
}

/// The head of a request, and the body.
fn split_head(file: &[u8]) -> (&str, &[u8]) {
    let end = |mark: &[u8]| Some((file.windows(mark.len()).position(|window| window == mark)?, mark.len()));
    let (at, length) = [end(b"\n\n"), end(b"\r\n\r\n")]
        .into_iter()
        .flatten()
        .min()
        .expect("an empty line ends the head");
    (
        std::str::from_utf8(&file[..at]).expect("the head is text"),
        &file[at + length..],
    )
}

/// The pairs of a query string or a form body, decoded.
fn pairs(text: &[u8]) -> Vec<Field> {
    form_urlencoded::parse(text)
        .map(|(name, value)| TestHost::field(&name, &value))
        .collect()
}

/// The lines that differ, `-` expected and `+` answered.
fn difference(expected: &Value, answered: &Value) -> String {
    let pretty = |value| serde_json::to_string_pretty(value).expect("a value is JSON");
    let (expected, answered) = (pretty(expected), pretty(answered));
    let missing = expected
        .lines()
        .filter(|line| !answered.lines().any(|other| other == *line));
    let added = answered
        .lines()
        .filter(|line| !expected.lines().any(|other| other == *line));
    missing
        .map(|line| format!("- {line}\n"))
        .chain(added.map(|line| format!("+ {line}\n")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_leaf_is_found() {
        let request = TestHost::request(
            "POST",
            r#"{"a":"x","b":[1.50,true],"c":"Agent: hi\n\nCaller: ho","d":null,"e":"x"}"#,
        );
        let event = |data: Value| Event {
            data: data.to_string(),
            ..Event::new("call.completed", "1", "1")
        };
        let turns = json!([{ "speaker": "agent", "text": "hi" }, { "speaker": "customer", "text": "ho" }]);
        let whole = json!({ "call": { "transcript": turns, "from": { "number": "x", "raw": "x" } },
            "extra": { "b": [1.5, true], "d": null, "e": "x" } });
        assert_eq!(lost(&request, &[event(whole)]), Vec::<String>::new());
        let short = json!({ "call": { "transcript": [turns[0]], "from": { "number": "x", "raw": "x" } }, "extra": { "b": [1] } });
        assert_eq!(
            lost(&request, &[event(short)]),
            ["1.5", "true", r#""Agent: hi\n\nCaller: ho""#, "null", r#""x""#]
        );
    }

    #[test]
    fn turns_are_found_behind_their_labels() {
        let found =
            |text, turns: &[&str]| consists_of(text, &turns.iter().map(|&turn| turn.into()).collect::<Vec<_>>());
        assert!(found("Agent: t\n\nCaller: a:", &["t", "a:"]));
        assert!(found("\n\nAgent:  ", &["", " "]));
        assert!(!found("Agent: t\n\nCaller: a", &["t"]) && !found("Agent: t", &[]) && !found("no label t", &["t"]));
    }

    #[test]
    fn only_a_flag_of_the_body_is_told_by_the_event() {
        let event = Event::new("call.completed", "1", "1");
        let event = |test| Event {
            data: "{}".to_owned(),
            ..event.clone().test(test)
        };
        let lost = |body: &str, test| lost(&TestHost::request("POST", body), &[event(test)]);
        assert_eq!(lost(r#"{"is_test":true}"#, true), Vec::<String>::new());
        assert_eq!(lost(r#"{"is_test":false}"#, false), Vec::<String>::new());
        assert_eq!(lost(r#"{"is_test":true}"#, false), ["true"]);
        assert_eq!(lost(r#"{"missed":false}"#, false), ["false"]);
        assert_eq!(lost(r#"{"is_test":true,"missed":true}"#, true), ["true"]);
    }

    #[test]
    fn a_name_and_a_subject_are_essential_and_what_they_stand_in() {
        let body = json!({ "event": "ended", "data": { "id": 7, "steps": [{ "name": "ended" }], "seconds": 1 } });
        let event = Event {
            data: json!({ "provider_event": "ended" }).to_string(),
            ..Event::new("call.completed", "ended:7", "7")
        };
        let mut places = Vec::new();
        pointers(&body, String::new(), &mut places);
        let essential = essential(&body, &places, &[event]);
        assert_eq!(essential, ["/event", "/data/id", "/data/id"]);
        let covered = |place| essential.iter().any(|essential| is_at_or_above(place, essential));
        assert!(covered("/data") && covered("/data/id") && covered("/event"));
        assert!(!covered("/data/steps/0/name") && !covered("/data/i") && !covered("/data/seconds"));
    }

    #[test]
    fn a_head_ends_at_the_first_empty_line() {
        assert_eq!(split_head(b"a\nb\n\n\n\r\n\r\nc"), ("a\nb", &b"\n\r\n\r\nc"[..]));
        assert_eq!(split_head(b"a\r\n\r\nb\n\nc"), ("a", &b"b\n\nc"[..]));
    }
}
