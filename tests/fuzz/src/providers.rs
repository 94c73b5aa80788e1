//! A webhook of any content through a provider's plugin.
//!
//! The input is a request as in a plugin's cases, `request.http`, read with more patience; a header `options` sets the
//! route's.

use std::{rc::Rc, sync::LazyLock};

use callfeed::{
    config::{self, Secret},
    simulate,
};
use callfeed_plugin::{
    Body, Event, Field, Outcome, Provider, Request, Verdict,
    json::Document,
    testing::{Demands, Evidence, TestHost, with_host},
};
use serde_json::Value;

use crate::spelling::spaced;

const FORM: &str = "application/x-www-form-urlencoded";
const BASE: &str = "https://hooks.example.com";

/// Magnétis.
pub fn magnetis(input: &[u8]) {
    static ROUTE: LazyLock<Route> = LazyLock::new(|| {
        let route = Route::of::<native_magnetis::Magnetis>("/hooks/magnetis/acme", "signing", "mgn_test_key_0001");
        Route {
            base: "https://gw.example.com",
            ..route
        }
    });
    ROUTE.take::<native_magnetis::Magnetis>(input);
}

/// Magpipe.
pub fn magpipe(input: &[u8]) {
    const SECRET: &str = "whsec_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static ROUTE: LazyLock<Route> =
        LazyLock::new(|| Route::of::<native_magpipe::Magpipe>("/hooks/magpipe", "signing", SECRET));
    ROUTE.take::<native_magpipe::Magpipe>(input);
}

/// Salpre.
pub fn salpre(input: &[u8]) {
    static ROUTE: LazyLock<Route> =
        LazyLock::new(|| Route::of::<native_salpre::Salpre>("/hooks/salpre", "token", "slp_test_token_0001"));
    ROUTE.take::<native_salpre::Salpre>(input);
}

/// TopCalls.
pub fn topcalls(input: &[u8]) {
    static ROUTE: LazyLock<Route> =
        LazyLock::new(|| Route::of::<native_topcalls::TopCalls>("/hooks/topcalls", "signing", "tc_test_secret_0001"));
    ROUTE.take::<native_topcalls::TopCalls>(input);
}

/// Voxagent.
pub fn voxagent(input: &[u8]) {
    static ROUTE: LazyLock<Route> =
        LazyLock::new(|| Route::of::<native_voxagent::Voxagent>("/hooks/voxagent", "signing", "vox_test_secret_0001"));
    ROUTE.take::<native_voxagent::Voxagent>(input);
}

struct Route {
    provider: String,
    base: &'static str,
    path: &'static str,
    /// Name and value.
    secret: (&'static str, &'static str),
    options: jsonschema::Validator,
    assurance: Evidence,
    takes_forms: bool,
    demands: Demands,
}

/// A webhook as it is read, and what the operator set for it.
struct Webhook {
    request: Request,
    content_type: String,
    options: Value,
}

impl Route {
    fn of<P: Provider>(path: &'static str, secret: &'static str, value: &'static str) -> Self {
        let descriptor = P::describe();
        let options = serde_json::from_str(&descriptor.options_schema).expect("the options' schema is JSON");
        Self {
            provider: descriptor.provider,
            base: BASE,
            path,
            secret: (secret, value),
            options: jsonschema::validator_for(&options).expect("the options' schema is a schema"),
            assurance: match descriptor.assurance.as_str() {
                "token" => Evidence::Token,
                "signed-derived" => Evidence::SignedDerived,
                _ => Evidence::SignedBody,
            },
            takes_forms: descriptor.content_types.iter().any(|media_type| media_type == FORM),
            demands: Demands::of::<P>(),
        }
    }

    fn take<P: Provider>(&self, input: &[u8]) {
        let Webhook {
            mut request,
            content_type,
            options,
        } = self.read(input);
        self.judge::<P>(&request, &options);

        // What the provider itself sends is authentic whatever it says, unless the operator wants another form.
        let Some(signed) = self.sign(&request, &content_type, &options) else {
            return;
        };
        request
            .headers
            .retain(|header| signed.iter().all(|(name, _)| *name != header.name));
        let signed = signed
            .iter()
            .map(|(name, value)| TestHost::field(&name.to_ascii_lowercase(), value));
        request.headers.extend(signed);
        let verdict = self.judge::<P>(&request, &options);
        let is_plain = options == Value::Object(serde_json::Map::new());
        // Magnétis' message may have been made in more than one way; what could be, is refused.
        if is_plain && self.provider != "magnetis" {
            assert!(matches!(verdict, Verdict::Authentic(_)), "{verdict:?}");
        }
    }

    fn read(&self, input: &[u8]) -> Webhook {
        let end = |mark: &[u8]| Some((input.windows(mark.len()).position(|window| window == mark)?, mark.len()));
        let (at, length) = [end(b"\n\n"), end(b"\r\n\r\n")]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or((input.len(), 0));
        let (head, body) = (String::from_utf8_lossy(&input[..at]), &input[at + length..]);
        let mut lines = head.lines();
        let target = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or(self.path);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));

        let mut headers = Vec::new();
        let (mut content_type, mut options) = (String::new(), Value::Object(serde_json::Map::new()));
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let (name, value) = (name.to_ascii_lowercase(), value.trim());
            match name.as_str() {
                "options" => {
                    if let Ok(set) = serde_json::from_str(value)
                        && self.options.is_valid(&set)
                    {
                        options = set;
                    }
                }
                "content-type" => value.clone_into(&mut content_type),
                _ => headers.push(TestHost::field(&name, value)),
            }
        }
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let is_form = self.takes_forms && media_type.eq_ignore_ascii_case(FORM);
        Webhook {
            request: Request {
                method: "POST".to_owned(),
                urls: vec![format!("{}{target}", self.base)],
                path: path
                    .strip_prefix(self.path)
                    .unwrap_or(path)
                    .trim_start_matches('/')
                    .to_owned(),
                query: pairs(query.as_bytes()),
                headers,
                peer: None,
                form: if is_form { pairs(body) } else { Vec::new() },
                body: match std::str::from_utf8(body) {
                    Ok("") => Body::None,
                    Ok(text) => Body::Text(text.to_owned()),
                    Err(_) => Body::Binary(body.to_vec()),
                },
                received_at_ms: callfeed_plugin::testing::RECEIVED_AT_MS,
            },
            content_type,
            options,
        }
    }

    fn sign(&self, request: &Request, content_type: &str, options: &Value) -> Option<Vec<(String, String)>> {
        let (name, value) = self.secret;
        let route = config::Route {
            name: self.provider.clone(),
            path: self.path.to_owned(),
            provider: self.provider.clone(),
            secrets: vec![(name.to_owned(), vec![Secret::new(value)])],
            options: options.clone(),
            allow_unsigned: false,
            allow_hmac: false,
            urls: Vec::new(),
            line: 1,
        };
        simulate::sign(&route, &request.urls[0], content_type, request.bytes()).ok()
    }

    /// Authenticates and maps it.
    fn judge<P: Provider>(&self, request: &Request, options: &Value) -> Verdict {
        let (name, value) = self.secret;
        let host = TestHost {
            options: options.to_string(),
            body: request.bytes().to_vec(),
            ..TestHost::default()
        };
        let host = Rc::new(host.secret(name, value));
        let verdict = with_host(Rc::clone(&host), || callfeed_plugin::verify::<P>(request));
        let payload = match &verdict {
            Verdict::Authentic(proof) => {
                let is_proven = host.seen.evidence.get() >= self.assurance;
                // The gateway takes neither without proof; a plugin that says another thing than that it saw none lies.
                assert!(is_proven || proof.form == "unsigned", "{proof:?} without proof");
                proof.payload.clone()
            }
            Verdict::Respond(_) | Verdict::Reject(_) => None,
        };
        let again = with_host(Rc::clone(&host), || callfeed_plugin::verify::<P>(request));
        assert_eq!(verdict, again, "the second time it is another verdict");

        self.map::<P>(&host, request, payload.as_deref());
        verdict
    }

    fn map<P: Provider>(&self, host: &Rc<TestHost>, request: &Request, payload: Option<&str>) {
        let normalize =
            |request: &Request| with_host(Rc::clone(host), || callfeed_plugin::normalize::<P>(request, payload));
        let outcome = normalize(request);
        assert_eq!(outcome, normalize(request), "the second time it is another outcome");
        let Outcome::Accepted(accepted) = &outcome else {
            return;
        };
        let unmet = self.demands.unmet(request, &accepted.events);
        assert!(unmet.is_empty(), "{unmet:#?}");

        // Of a payload the plugin has made the text itself.
        if payload.is_some() || !request.form.is_empty() {
            return;
        }
        let Some(json) = request.text().ok().filter(|text| Document::parse(text).is_ok()) else {
            return;
        };
        let respelled = Request {
            body: Body::Text(spaced(json)),
            ..request.clone()
        };
        let Outcome::Accepted(respelled) = normalize(&respelled) else {
            panic!("with blank space it is not accepted");
        };
        assert!(
            accepted.events.iter().map(said).eq(respelled.events.iter().map(said)),
            "with blank space it says another thing"
        );
    }
}

/// An event without the blank space of what it carries along.
fn said(event: &Event) -> (&str, &str, &str, Option<u64>, bool, Value) {
    let data = serde_json::from_str(&event.data).expect("the demands were met");
    (
        &event.kind,
        &event.id,
        &event.subject,
        event.occurred_at_ms,
        event.test,
        data,
    )
}

fn pairs(text: &[u8]) -> Vec<Field> {
    form_urlencoded::parse(text)
        .map(|(name, value)| TestHost::field(&name, &value))
        .collect()
}
