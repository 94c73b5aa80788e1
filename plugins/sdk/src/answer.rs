//! Constructors for what a plugin answers.

use serde::Serialize;

use crate::{
    Accepted, Descriptor, Event, EventSpec, Field, Outcome, Proof, Rejection, RejectionKind, Response, SecretSpec,
    Verdict,
    crypto::Failure,
    data::{Data, Text},
    json::Document,
    kind,
    time::Time,
};

/// The last moment that the gateway can write down: 9999-12-30T22:00:00.999Z.
pub(crate) const AT_MS_MAX: u64 = 253_402_207_200_999;

impl Rejection {
    /// It cannot be shown that the provider sent this. `code` is short and stable: `signature-missing`.
    pub fn unauthenticated(code: &str) -> Self {
        Self::new(RejectionKind::Unauthenticated, code)
    }

    /// It is not what this provider sends.
    pub fn malformed(code: &str) -> Self {
        Self::new(RejectionKind::Malformed, code)
    }

    /// Well formed, but of a kind this plugin cannot take.
    pub fn unsupported(code: &str) -> Self {
        Self::new(RejectionKind::Unsupported, code)
    }

    /// Adds a sentence for the operator's log. No secrets and nothing of the body.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    fn new(kind: RejectionKind, code: &str) -> Self {
        Self {
            kind,
            code: code.to_owned(),
            detail: String::new(),
        }
    }
}

/// A failed check refuses the webhook. For the two failures that are not the sender's fault the gateway knows better
/// than the plugin and answers by itself; the codes are there for a plugin that is tested alone.
impl From<Failure> for Rejection {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Mismatch => Self::unauthenticated("signature-mismatch"),
            Failure::Misconfigured(detail) => Self::unauthenticated("host-misconfigured").detail(detail),
            Failure::Refused(detail) => Self::unauthenticated("host-refused").detail(detail),
        }
    }
}

impl Verdict {
    /// The provider sent this; `form` names which of the accepted forms it was, for logs and metrics.
    pub fn authentic(form: &str) -> Self {
        Self::Authentic(Proof {
            form: form.to_owned(),
            payload: None,
        })
    }

    /// As [`authentic`](Self::authentic), for a provider that signed something other than the body; `payload` is
    /// handed to [`Provider::normalize`](crate::Provider::normalize).
    pub fn authentic_payload(form: &str, payload: String) -> Self {
        Self::Authentic(Proof {
            form: form.to_owned(),
            payload: Some(payload),
        })
    }
}

impl Outcome {
    /// One event, acknowledged in the gateway's own way.
    pub fn event(event: Event) -> Self {
        Self::events(vec![event])
    }

    /// Several events (at least one), in the order they should be delivered.
    pub fn events(events: Vec<Event>) -> Self {
        Self::Accepted(Accepted { events, ack: None })
    }

    /// Understood and of no interest; `reason` is short and stable.
    pub fn ignored(reason: &str) -> Self {
        Self::Ignored(reason.to_owned())
    }
}

impl Response {
    /// Status 200 and a JSON body, for a provider that checks the endpoint by a question:
    /// `Ok(Outcome::Respond(Response::json(&answer)))`.
    pub fn json(body: &impl Serialize) -> Self {
        Self {
            status: 200,
            headers: vec![Field {
                name: "content-type".to_owned(),
                value: "application/json".to_owned(),
            }],
            body: serde_json::to_vec(body).expect("a handshake's answer has string keys"),
        }
    }
}

impl Event {
    /// An event of a unified `kind` (one of [`kind`]), with the provider's own identity of the event and
    /// the subject (normally the call id) whose events keep their order.
    ///
    /// The same event must get the same `id` however often and in whatever bytes the provider sends it.
    pub fn new(kind: &str, id: impl Into<String>, subject: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            id: id.into(),
            subject: subject.into(),
            occurred_at_ms: None,
            test: false,
            data: "{}".to_owned(),
        }
    }

    /// An event the plugin has no name for: [`PROVIDER_OTHER`](kind::PROVIDER_OTHER). What identifies it is everything the
    /// document says, and it is its own subject where it has no other.
    ///
    /// # Errors
    ///
    /// [`Failure::Refused`] when the webhook has used up its share of hashing.
    pub fn other(name: &str, subject: Option<Text<'_>>, document: &Document<'_>) -> Result<Self, Failure> {
        let id = format!("{name}:{}", document.fingerprint()?);
        let subject = subject.map_or_else(|| id.clone(), Text::into_owned);
        Ok(Self::new(kind::PROVIDER_OTHER, id, subject))
    }

    /// When it happened, milliseconds since the Unix epoch. A time before 1970 counts as unknown, and so does one in the
    /// last two days of 9999, where clocks end: that is how some senders write `never`.
    #[must_use]
    pub fn at_ms(mut self, ms: i64) -> Self {
        self.occurred_at_ms = u64::try_from(ms).ok().filter(|ms| *ms <= AT_MS_MAX);
        self
    }

    /// When it happened, if known.
    #[must_use]
    pub fn at(self, time: Option<&Time<'_>>) -> Self {
        match time {
            Some(time) => self.at_ms(time.ms()),
            None => self,
        }
    }

    /// Marks a test delivery from the provider's console.
    #[must_use]
    pub fn test(mut self, test: bool) -> Self {
        self.test = test;
        self
    }

    /// What it says.
    #[must_use]
    pub fn data(mut self, data: &Data<'_>) -> Self {
        self.data = serde_json::to_string(data).expect("the data has string keys and cannot fail to serialize");
        self
    }
}

impl Descriptor {
    /// A provider that posts JSON of at most 1 MiB and signs the body; the rest is added by the methods below.
    ///
    /// `provider` is the stable slug, `version` the plugin's own: `env!("CARGO_PKG_VERSION")`.
    pub fn new(provider: &str, display_name: &str, version: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            display_name: display_name.to_owned(),
            version: version.to_owned(),
            schema: "call-event/1".to_owned(),
            methods: vec!["POST".to_owned()],
            content_types: vec!["application/json".to_owned()],
            headers: Vec::new(),
            max_body_bytes: 1 << 20,
            assurance: "signed-body".to_owned(),
            events: Vec::new(),
            secrets: Vec::new(),
            options_schema: r#"{"type":"object","additionalProperties":false}"#.to_owned(),
            extra: Vec::new(),
        }
    }

    /// The methods it accepts, instead of POST alone.
    #[must_use]
    pub fn methods(mut self, methods: &[&str]) -> Self {
        self.methods = methods.iter().map(|&method| method.to_owned()).collect();
        self
    }

    /// Adds accepted media types, without parameters.
    #[must_use]
    pub fn content_types(mut self, media_types: &[&str]) -> Self {
        self.content_types
            .extend(media_types.iter().map(|&media_type| media_type.to_owned()));
        self
    }

    /// Adds headers the plugin reads: lower-case names, or `option:<JSON pointer>` for those the route's options name.
    #[must_use]
    pub fn headers(mut self, names: &[&str]) -> Self {
        self.headers.extend(names.iter().map(|&name| name.to_owned()));
        self
    }

    /// The largest body it can take, in bytes.
    #[must_use]
    pub fn max_body_bytes(mut self, bytes: u32) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// What `authentic` is backed by: `signed-body` (unless changed), `signed-derived` or `token`.
    #[must_use]
    pub fn assurance(mut self, level: &str) -> Self {
        self.assurance = level.to_owned();
        self
    }

    /// Adds a provider's event and the unified type it becomes.
    #[must_use]
    pub fn event(mut self, native: &str, unified: &str) -> Self {
        self.events.push(EventSpec {
            native: native.to_owned(),
            unified: unified.to_owned(),
        });
        self
    }

    /// Adds a secret.
    #[must_use]
    pub fn secret(mut self, secret: SecretSpec) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Sets the JSON Schema (2020-12) of the route's options; without it a route has none.
    #[must_use]
    pub fn options_schema(mut self, schema: &str) -> Self {
        self.options_schema = schema.to_owned();
        self
    }

    /// Adds further facts, such as the address of the provider's documentation.
    #[must_use]
    pub fn extra(mut self, name: &str, value: &str) -> Self {
        self.extra.push(Field {
            name: name.to_owned(),
            value: value.to_owned(),
        });
        self
    }
}

impl SecretSpec {
    /// A required secret whose bytes are its text in UTF-8. `summary` tells where to find it at the provider.
    pub fn utf8(name: &str, summary: &str) -> Self {
        Self {
            name: name.to_owned(),
            summary: summary.to_owned(),
            encoding: "utf8".to_owned(),
            required: true,
            may_hmac: false,
        }
    }

    /// Another encoding: `base64`, `hex`, `pem` or `standard-webhooks`.
    #[must_use]
    pub fn encoding(mut self, encoding: &str) -> Self {
        self.encoding = encoding.to_owned();
        self
    }

    /// The plugin computes with it for a handshake's answer ([`crypto::hmac`](crate::crypto::hmac)), on routes whose
    /// operator set `allow_hmac`.
    #[must_use]
    pub fn may_hmac(mut self) -> Self {
        self.may_hmac = true;
        self
    }

    /// A route may do without it.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.required = false;
        self
    }
}
