//! Whose webhook it is: what the built-in plugins say to it, and which example is for its provider.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Budget, Candidate, Lab,
    capture::Capture,
    place::{Place, Text},
    scheme::{Proof, Scheme},
};
use crate::{
    config::{self, Secret},
    event::RawWebhook,
    inbound,
    kit::{Answer, case},
    plugin::{Descriptor, Plugin},
};

/// What no provider was told.
const ELSEWHERE: &str = "https://elsewhere.invalid/";
const OTHER: &str = "provider.other";
/// What a call costs besides its body, in bytes of the budget.
const CALL_BYTES: usize = 64 << 10;

/// A built-in plugin that finds the webhook authentic.
#[derive(Debug)]
pub struct Recognised {
    pub provider: String,
    pub display_name: String,
    /// The name of the secret.
    pub secret: String,
    /// The place of its value in the list of candidates.
    pub candidate: usize,
    /// The headers of the webhook that the plugin reads.
    pub headers: Vec<String>,
    /// How the plugin found it authentic.
    pub form: String,
    /// What the route needs for that.
    pub options: Value,
    /// The unified types it becomes.
    pub kinds: Vec<String>,
    /// What becomes of it, where that is no event.
    pub outcome: Option<String>,
    /// The URL is a part of what is signed.
    pub signs_url: bool,
    /// The webhook says whose it is. Else the scheme is one that many have, and the plugin knows nothing in the body.
    pub is_sure: bool,
}

/// Asks every built-in plugin, with each candidate as its secret: who finds the webhook authentic, and what those say that
/// know a header of it and do not.
pub(super) async fn ask(
    lab: &Lab,
    capture: &Capture,
    candidates: &[Candidate],
    scheme: Option<&Scheme>,
    budget: &mut Budget,
) -> (Vec<Recognised>, Vec<String>) {
    let (mut recognised, mut refusals) = (Vec::new(), Vec::new());
    for plugin in lab.plugins.values() {
        let mut refusal = None;
        let found = recognise(lab, plugin, capture, candidates, scheme, &mut refusal, budget).await;
        if let Some(refusal) =
            refusal.filter(|_| found.is_none() && owns_a_header(&plugin.descriptor, &capture.webhook))
        {
            refusals.push(format!("{}: {refusal}", plugin.descriptor.display_name));
        }
        recognised.extend(found);
    }
    recognised.sort_by_key(|recognised| !recognised.is_sure);
    (recognised, refusals)
}

async fn recognise(
    lab: &Lab,
    plugin: &Arc<Plugin>,
    capture: &Capture,
    candidates: &[Candidate],
    scheme: Option<&Scheme>,
    refusal: &mut Option<String>,
    budget: &mut Budget,
) -> Option<Recognised> {
    let descriptor = &plugin.descriptor;
    for options in options(descriptor, &capture.webhook, scheme) {
        for (candidate, Candidate { secret, .. }) in candidates.iter().enumerate() {
            if !budget.take(CALL_BYTES + capture.webhook.body.len()) {
                return None;
            }
            let mut route = route(descriptor, capture, secret, options.clone());
            let Some(answer) = judge(lab, plugin, &route, &capture.webhook).await else {
                continue;
            };
            if !answer.is_authentic() {
                refusal.get_or_insert_with(|| answer.to_string());
                continue;
            }
            route.urls = vec![ELSEWHERE.to_owned()];
            let elsewhere = judge(lab, plugin, &route, &capture.webhook).await;
            let kinds: Vec<_> = match &answer {
                Answer::Accepted(accepted) => accepted.mapped.iter().map(|event| event.kind.clone()).collect(),
                _ => Vec::new(),
            };
            let knows_event = kinds.iter().any(|kind| kind != OTHER);
            return Some(Recognised {
                provider: descriptor.provider.clone(),
                display_name: descriptor.display_name.clone(),
                secret: descriptor.secrets.first().map(|spec| spec.name.clone())?,
                candidate,
                headers: headers(plugin, &route, &capture.webhook),
                form: match &answer {
                    Answer::Accepted(accepted) => accepted.form.clone(),
                    Answer::Ignored { form, .. } => form.clone(),
                    _ => String::new(),
                },
                options,
                is_sure: knows_event || owns_a_header(descriptor, &capture.webhook),
                outcome: kinds.is_empty().then(|| answer.to_string()),
                kinds,
                signs_url: !elsewhere.is_some_and(|answer| answer.is_authentic()),
            });
        }
    }
    None
}

/// The options under which a plugin would look at this webhook at all: its defaults, or those that name the header in which
/// something fits.
fn options(descriptor: &Descriptor, webhook: &RawWebhook, scheme: Option<&Scheme>) -> Vec<Value> {
    let mut trials = Vec::new();
    if descriptor.headers.is_empty() || descriptor.headers.iter().any(|name| has_header(webhook, name)) {
        trials.push(json!({}));
    }
    let fitting = match scheme.map(|scheme| &scheme.proof) {
        Some(Proof::Signature(signature)) => Some(&signature.presented.place),
        Some(Proof::Token { place, .. }) => Some(place),
        Some(Proof::Jws { .. } | Proof::Basic) | None => None,
    };
    if let Some(Place::Header(header)) = fitting
        && !descriptor.headers.contains(header)
    {
        let named = descriptor
            .headers
            .iter()
            .filter_map(|name| name.strip_prefix("option:/"));
        trials.extend(named.map(|option| json!({ option: header })));
    }
    trials
}

fn headers(plugin: &Arc<Plugin>, route: &config::Route, webhook: &RawWebhook) -> Vec<String> {
    let declared = case::grant(plugin, route).map_or_else(|_| Vec::new(), |grant| grant.headers.clone());
    let names = declared.iter().map(|name| name.as_str().to_owned());
    names.filter(|name| has_header(webhook, name)).collect()
}

fn has_header(webhook: &RawWebhook, name: &str) -> bool {
    webhook.headers.iter().any(|(known, _)| known == name)
}

/// Whether the webhook has a header that only this provider sends. A plugin whose routes may name the header knows of none.
fn owns_a_header(descriptor: &Descriptor, webhook: &RawWebhook) -> bool {
    let is_fixed = !descriptor.headers.iter().any(|name| name.starts_with("option:"));
    is_fixed && descriptor.headers.iter().any(|name| has_header(webhook, name))
}

fn route(descriptor: &Descriptor, capture: &Capture, secret: &Secret, options: Value) -> config::Route {
    let secrets = descriptor.secrets.iter();
    config::Route {
        name: descriptor.provider.clone(),
        provider: descriptor.provider.clone(),
        path: capture.path().to_owned(),
        secrets: secrets.map(|spec| (spec.name.clone(), vec![secret.clone()])).collect(),
        options,
        allow_unsigned: false,
        allow_hmac: descriptor.secrets.iter().any(|spec| spec.may_hmac),
        urls: capture.urls.clone(),
        line: 1,
    }
}

/// What becomes of a webhook on a route; `None` when the route does not fit the plugin, as where the secret is written in
/// another way.
pub(super) async fn judge(
    lab: &Lab,
    plugin: &Arc<Plugin>,
    route: &config::Route,
    webhook: &RawWebhook,
) -> Option<Answer> {
    let grant = case::grant(plugin, route).ok()?;
    let request = inbound::request_of(webhook, &route.path, &route.urls, &grant.headers).ok()?;
    Some(lab.stand.judge(&grant, request).await)
}

/// A plugin under `plugins/examples`.
#[derive(Debug)]
pub struct Example {
    pub name: &'static str,
    pub display_name: &'static str,
    /// The secret that its routes name.
    pub secret: &'static str,
    /// Its handshake is answered with a MAC, which the route has to allow.
    pub allow_hmac: bool,
    /// The component in its folder.
    pub file: &'static str,
    /// It is described without code, too, in its provider.toml.
    pub is_described: bool,
    known_by: KnownBy,
}

#[derive(Debug)]
enum KnownBy {
    Header(&'static str),
    /// `token` in the body, and this member beside it.
    Token(&'static str),
    /// A JWS that is the body, and one of these among its claims.
    Claims([&'static str; 2]),
}

impl Example {
    const fn signed(
        name: &'static str,
        display_name: &'static str,
        secret: &'static str,
        file: &'static str,
        header: &'static str,
    ) -> Self {
        Self {
            name,
            display_name,
            secret,
            allow_hmac: false,
            file,
            is_described: false,
            known_by: KnownBy::Header(header),
        }
    }

    /// # Panics
    ///
    /// When there is none of this name.
    pub(super) fn named(name: &str) -> &'static Self {
        let mut examples = EXAMPLES.iter();
        examples
            .find(|example| example.name == name)
            .expect("it is in the list")
    }
}

/// Every one there is.
pub static EXAMPLES: [Example; 8] = [
    Example {
        name: "aircall",
        display_name: "Aircall",
        secret: "token",
        allow_hmac: false,
        file: "callfeed-plugin-aircall.wasm",
        is_described: false,
        known_by: KnownBy::Token("/resource"),
    },
    Example {
        name: "dialpad",
        display_name: "Dialpad",
        secret: "signing",
        allow_hmac: false,
        file: "dialpad.wasm",
        is_described: false,
        known_by: KnownBy::Claims(["call_id", "state"]),
    },
    Example {
        is_described: true,
        ..Example::signed(
            "elevenlabs",
            "ElevenLabs",
            "signing",
            "callfeed-plugin-elevenlabs.wasm",
            "elevenlabs-signature",
        )
    },
    Example::signed("quo", "Quo", "signing", "quo.wasm", "openphone-signature"),
    Example {
        is_described: true,
        ..Example::signed(
            "retell",
            "Retell AI",
            "api_key",
            "callfeed-plugin-retell.wasm",
            "x-retell-signature",
        )
    },
    Example {
        is_described: true,
        ..Example::signed(
            "telnyx",
            "Telnyx",
            "public_key",
            "callfeed-plugin-telnyx.wasm",
            "telnyx-signature-ed25519",
        )
    },
    Example::signed(
        "twilio",
        "Twilio",
        "auth_token",
        "callfeed-plugin-twilio.wasm",
        "x-twilio-signature",
    ),
    Example {
        allow_hmac: true,
        ..Example::signed(
            "zoom-phone",
            "Zoom Phone",
            "token",
            "callfeed-plugin-zoom-phone.wasm",
            "x-zm-signature",
        )
    },
];

/// The example for the provider whose scheme this is.
pub(super) fn example(texts: &[Text], scheme: Option<&Scheme>) -> Option<&'static Example> {
    let proof = &scheme?.proof;
    let is_in = |place: &Place| texts.iter().any(|text| text.place == *place);
    let fits = |example: &&Example| match (&example.known_by, proof) {
        (KnownBy::Header(header), Proof::Signature(signature)) => {
            signature.presented.place == Place::Header((*header).to_owned())
        }
        (KnownBy::Token(beside), Proof::Token { place, .. }) => {
            *place == Place::Member("/token".to_owned()) && is_in(&Place::Member((*beside).to_owned()))
        }
        (KnownBy::Claims(names), Proof::Jws { place, claims, .. }) => {
            *place == Place::Body && names.iter().any(|name| !claims[name].is_null())
        }
        _ => false,
    };
    EXAMPLES.iter().find(fits)
}

/// Whom a header of the webhook names.
pub(super) fn named(lab: &Lab, capture: &Capture) -> Option<String> {
    let built_in = lab.plugins.values().map(|plugin| &plugin.descriptor);
    let built_in = built_in.filter(|descriptor| owns_a_header(descriptor, &capture.webhook));
    let built_in = built_in.map(|descriptor| descriptor.display_name.clone());
    let examples = EXAMPLES.iter().filter_map(|example| match example.known_by {
        KnownBy::Header(header) => has_header(&capture.webhook, header).then(|| example.display_name.to_owned()),
        KnownBy::Token(_) | KnownBy::Claims(_) => None,
    });
    built_in.chain(examples).next()
}
