//! What was found as configuration.

use std::path::Path;

use serde_json::Value;

use super::{
    Candidate, Findings, Lab,
    capture::{Capture, Shown},
    place::{self, Encoding, Place},
    provider::{self, Example, Recognised},
    scheme::{Algorithm, Proof, Scheme, Signature},
};
use crate::{
    config::{self, STANDARD_WEBHOOKS, Secret},
    plugin::{self, KeyEncoding},
};

/// Where providers name their events, usual places first.
const EVENT_NAMES: [&str; 10] = [
    "/event",
    "/type",
    "/event_type",
    "/eventType",
    "/event/type",
    "/data/event_type",
    "/data/type",
    "/action",
    "/topic",
    "/status",
];
const EVENT_BYTES_MAX: usize = 100;
/// Of headers, besides the provider's name.
const COMMON_WORDS: [&str; 12] = [
    "x",
    "signature",
    "sig",
    "webhook",
    "webhooks",
    "hook",
    "hub",
    "hmac",
    "token",
    "api",
    "key",
    "authorization",
];

/// What to write into the configuration, and what else there is to do.
#[derive(Debug)]
pub struct Block {
    /// `[[provider]]`, `[[plugin]]` and `[[route]]`; empty where a plugin has to be written first.
    pub toml: String,
    pub notes: Vec<String>,
}

/// The configuration for what was found, with the secret that fits.
pub(super) async fn write(
    lab: &Lab,
    findings: &Findings,
    capture: &Capture,
    candidates: &[Candidate],
) -> Option<Block> {
    let of_scheme = findings.scheme.as_ref().map(|scheme| scheme.candidate);
    let of_provider = findings.provider().map(|recognised| recognised.candidate);
    let candidate = &candidates[of_provider.or(of_scheme)?];
    let mut block = block(lab, findings, capture, candidate).await?;
    if candidate.is_trimmed {
        block.notes.insert(
            0,
            format!(
                "the secret {} fits without the white space around it, and a gateway would not cut that off and answer 401: \
                 take it out (only the newline at the end of {{ file = … }} is no part of a secret)",
                candidate.label
            ),
        );
    }
    Some(block)
}

/// Of a provider that is known, else of the scheme.
async fn block(lab: &Lab, findings: &Findings, capture: &Capture, candidate: &Candidate) -> Option<Block> {
    let url_note = || {
        format!(
            "the URL is signed: it has to stay what the provider was told, {}; server.public_url, or `urls` of the route, \
             says it to the gateway",
            Shown(&capture.urls[0])
        )
    };
    if let Some(recognised) = findings.provider() {
        let mut toml = String::new();
        built_in(&mut toml, recognised, capture, candidate);
        let notes = recognised.signs_url.then(url_note).into_iter().collect();
        return Some(Block { toml, notes });
    }
    let scheme = findings.scheme.as_ref()?;
    let signs_url =
        matches!(&scheme.proof, Proof::Signature(signature) if signature.message.template().contains("{url}"));
    if let Some(example) = findings.example {
        let more = if signs_url { urls(capture) } else { String::new() };
        let mut block = of_example(example, candidate, more);
        block.notes.extend(signs_url.then(url_note));
        return Some(block);
    }
    let name = name(scheme);
    let mut notes = Vec::new();
    let mut candidate = candidate.clone();
    if let Proof::Basic = scheme.proof {
        let (_, credentials) = capture.header("authorization")?.split_once(' ')?;
        candidate.secret = Secret::new(credentials);
        // That of the candidate has the password alone.
        let variable = variable(&name, "basic");
        notes.push(format!(
            "the secret is what follows `Basic `, the base64 of user, colon and password: \
             export {variable}=\"$(printf %s 'USER:PASSWORD' | base64 | tr -d '\\n')\""
        ));
        candidate.env = Some(variable);
    }
    for head in heads(scheme) {
        let Some(toml) = provider_and_route(&name, &head, scheme, capture, &candidate) else {
            continue;
        };
        if holds(lab, &toml, capture, &candidate.secret).await {
            notes.push(
                "a gateway accepts this request with it, at the time it was signed; what becomes of its events is for `types` \
                 and [provider.data] to say: config.example.toml has every word of them"
                    .to_owned(),
            );
            return Some(Block { toml, notes });
        }
    }
    let near = near(scheme);
    let is_digest = matches!(
        &scheme.proof,
        Proof::Signature(Signature {
            algorithm: Algorithm::Digest(_),
            ..
        })
    );
    let digest_note =
        || "a plain hash is proven with verify-digest, of which the secret is one of the parts".to_owned();
    Some(Block {
        toml: String::new(),
        notes: vec![
            format!("a [[provider]] block cannot say this; `callfeed plugin new {name} --lang rust` begins a plugin that can"),
            format!("the nearest example is plugins/{near}"),
        ]
        .into_iter()
        .chain(is_digest.then(digest_note))
        .chain(signs_url.then(url_note))
        .collect(),
    })
}

fn built_in(toml: &mut String, recognised: &Recognised, capture: &Capture, candidate: &Candidate) {
    let Recognised { provider, secret, .. } = recognised;
    let mut more = String::new();
    if let Value::Object(options) = &recognised.options
        && !options.is_empty()
    {
        let options: Vec<_> = options
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        more = format!("options = {{ {} }}\n", options.join(", "));
    }
    if recognised.signs_url {
        more += &urls(capture);
    }
    route(toml, provider, secret, candidate, &more);
}

fn of_example(example: &Example, candidate: &Candidate, mut more: String) -> Block {
    let Example { name, file, .. } = example;
    let path = quoted(&format!("plugins/examples/{name}/{file}"));
    let mut toml = format!("[[plugin]]\nname = {}\npath = {path}\n\n", quoted(name));
    if example.allow_hmac {
        more += "allow_hmac = true\n";
    }
    route(&mut toml, name, example.secret, candidate, &more);
    let mut notes = vec![format!("`callfeed plugin build plugins/examples/{name}` makes {file}")];
    if example.is_described {
        notes.push(format!(
            "or without a plugin: plugins/examples/{name}/provider.toml instead of [[plugin]]"
        ));
    }
    if example.allow_hmac {
        notes.push("allow_hmac: it asks for an answer signed with the secret when the URL is entered".to_owned());
    }
    Block { toml, notes }
}

/// What the provider was told, where that was said; a query may have a token in it.
fn urls(capture: &Capture) -> String {
    match &capture.urls[..] {
        [url] if !url.contains('?') => format!("urls = [{}]\n", quoted(url)),
        _ => String::new(),
    }
}

fn route(toml: &mut String, name: &str, secret: &str, candidate: &Candidate, more: &str) {
    let variable = candidate.env.clone().unwrap_or_else(|| variable(name, secret));
    let (name, variable) = (quoted(name), quoted(&variable));
    *toml += &format!(
        "[[route]]\nname = {name}\nprovider = {name}\nsecrets = {{ {secret} = [{{ env = {variable} }}] }}\n{more}"
    );
}

fn variable(name: &str, secret: &str) -> String {
    format!("{name}_{secret}").to_ascii_uppercase().replace('-', "_")
}

/// As the configuration reads it: JSON's escapes are TOML's, too.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The provider's name, if a header has it.
fn name(scheme: &Scheme) -> String {
    let place = match &scheme.proof {
        Proof::Signature(signature) => Some(&signature.presented.place),
        Proof::Token { place, .. } | Proof::Jws { place, .. } => Some(place),
        Proof::Basic => None,
    };
    let word = match place {
        Some(Place::Header(header)) => header.split(['-', '_']).find(|word| {
            let is_name = |word: &str| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_alphabetic());
            is_name(word) && !COMMON_WORDS.contains(word)
        }),
        _ => None,
    };
    match word {
        Some(word) if plugin::built_in(word).is_none() => word.to_owned(),
        _ => "acme".to_owned(),
    }
}

/// How the scheme may be said: the lines of a `[[provider]]` that prove its webhooks.
fn heads(scheme: &Scheme) -> Vec<String> {
    match &scheme.proof {
        Proof::Signature(signature) => signature_heads(scheme, signature),
        Proof::Token { place, prefix } => {
            let place = match place {
                Place::Header(name) => format!("header:{name}"),
                Place::Query(name) => format!("query:{name}"),
                Place::Field(name) => format!("body:/{}", name.replace('~', "~0").replace('/', "~1")),
                Place::Member(pointer) => format!("body:{pointer}"),
                Place::Body => return Vec::new(),
            };
            let prefix = match prefix.as_str() {
                "" => String::new(),
                prefix => format!(", prefix = {}", quoted(prefix)),
            };
            vec![format!("token = {{ in = {}{prefix} }}\n", quoted(&place))]
        }
        Proof::Basic => vec!["token = { in = \"header:authorization\", prefix = \"Basic \" }\n".to_owned()],
        Proof::Jws { .. } => Vec::new(),
    }
}

fn signature_heads(scheme: &Scheme, signature: &Signature) -> Vec<String> {
    let Place::Header(header) = &signature.presented.place else {
        return Vec::new();
    };
    let (message, encoding) = (&signature.message, signature.presented.encoding);
    if !message.is_declarable() || encoding == Encoding::Base64Url {
        return Vec::new();
    }
    if let Some(name) = standard_name(scheme, signature, header) {
        return vec![format!("signature = {}\n", quoted(name))];
    }
    let is_public = signature.algorithm == Algorithm::Ed25519;
    let secret = match (scheme.encoding, is_public) {
        (KeyEncoding::Utf8, false) | (KeyEncoding::Base64, true) => String::new(),
        (encoding, _) => format!("secret = {{ encoding = {} }}\n", quoted(encoding.as_str())),
    };
    let heads = signature.patterns().into_iter().map(|pattern| {
        let mut keys = vec![("header", header.clone())];
        if pattern.text != "{signature}" {
            keys.push(("pattern", pattern.text));
        }
        keys.extend(pattern.separator.map(|letter| ("separator", letter.to_string())));
        if message.template() != "{body}" {
            keys.push(("message", message.template()));
        }
        if signature.algorithm != Algorithm::HmacSha256 {
            keys.push(("algorithm", signature.algorithm.as_str().to_owned()));
        }
        if (encoding == Encoding::Base64) != is_public {
            keys.push(("encoding", encoding.as_str().to_owned()));
        }
        if let Some(moment) = &message.moment {
            if let (false, Place::Header(header)) = (signature.says_when(), &moment.place) {
                keys.push(("timestamp_header", header.clone()));
            }
            if moment.unit != place::Unit::Seconds {
                keys.push(("timestamp", moment.unit.as_str().to_owned()));
            }
        }
        let keys: Vec<_> = keys
            .iter()
            .map(|(key, value)| format!("{key} = {}", quoted(value)))
            .collect();
        format!("{secret}signature = {{ {} }}\n", keys.join(", "))
    });
    heads.collect()
}

/// The scheme's name, where the configuration has one for it.
fn standard_name(scheme: &Scheme, signature: &Signature, header: &str) -> Option<&'static str> {
    let (name, prefix) = STANDARD_WEBHOOKS
        .into_iter()
        .find(|(_, prefix)| header.strip_prefix(prefix) == Some("signature"))?;
    let message = &signature.message;
    let moment = message.moment.as_ref()?;
    let is_standard = scheme.encoding == KeyEncoding::StandardWebhooks
        && message.template() == format!("{{header:{prefix}id}}.{{timestamp}}.{{body}}")
        && moment.place == Place::Header(format!("{prefix}timestamp"));
    is_standard.then_some(name)
}

/// A provider's block and its route's; `None` when no block is of such requests.
fn provider_and_route(
    name: &str,
    head: &str,
    scheme: &Scheme,
    capture: &Capture,
    candidate: &Candidate,
) -> Option<String> {
    let mut toml = format!("[[provider]]\nname = {}\n{head}", quoted(name));
    match capture.webhook.method.as_str() {
        "POST" => {}
        method @ ("PUT" | "PATCH") => toml += &format!("methods = [{}]\n", quoted(method)),
        _ => return None,
    }
    if place::is_form(&capture.webhook) {
        toml += "content_types = [\"application/x-www-form-urlencoded\"]\n";
    }
    let (pointer, event) = event(capture);
    let event = quoted(event.as_deref().unwrap_or("*"));
    toml += &format!(
        "event = {}\ntypes = {{ {event} = \"provider.other\" }}\n\n",
        quoted(&pointer)
    );
    let secret = match &scheme.proof {
        Proof::Signature(signature) if signature.algorithm == Algorithm::Ed25519 => "public_key",
        Proof::Signature(_) | Proof::Jws { .. } => "signing",
        Proof::Token { .. } | Proof::Basic => "token",
    };
    route(&mut toml, name, secret, candidate, "");
    Some(toml)
}

/// Where the event's name seems to be, and what it is.
fn event(capture: &Capture) -> (String, Option<String>) {
    let texts = place::texts(&capture.webhook);
    let pointers = texts.iter().filter_map(|text| match &text.place {
        Place::Member(pointer) => Some((pointer.clone(), &text.value)),
        Place::Field(name) => Some((format!("/{name}"), &text.value)),
        _ => None,
    });
    let pointers: Vec<_> = pointers.filter(|(_, value)| value.len() <= EVENT_BYTES_MAX).collect();
    let found = EVENT_NAMES
        .iter()
        .find_map(|usual| pointers.iter().find(|(pointer, _)| pointer == usual));
    let found = found.or_else(|| {
        pointers
            .iter()
            .find(|(pointer, _)| pointer.to_ascii_lowercase().ends_with("status"))
    });
    match found {
        Some((pointer, value)) => (pointer.clone(), Some((*value).clone())),
        None => (EVENT_NAMES[0].to_owned(), None),
    }
}

/// Whether a gateway with this configuration accepts the request.
async fn holds(lab: &Lab, toml: &str, capture: &Capture, secret: &Secret) -> bool {
    let Ok(secret) = std::str::from_utf8(secret.expose()) else {
        return false;
    };
    let Ok(checked) = config::parse(toml, "lab", &|_| Some(secret.to_owned()), Path::new("")) else {
        return false;
    };
    let ([provider], [route]) = (&checked.config.providers[..], &checked.config.routes[..]) else {
        return false;
    };
    let Ok(plugin) = lab.stand.declare(provider).await else {
        return false;
    };
    let mut route = route.clone();
    capture.path().clone_into(&mut route.path);
    route.urls.clone_from(&capture.urls);
    let answer = provider::judge(lab, &plugin, &route, &capture.webhook).await;
    answer.is_some_and(|answer| answer.is_authentic())
}

/// The plugin of this repository that checks something of the kind.
fn near(scheme: &Scheme) -> String {
    let example = |name| format!("examples/{}", Example::named(name).name);
    match &scheme.proof {
        Proof::Jws { .. } => example("dialpad"),
        Proof::Token { .. } | Proof::Basic => example("aircall"),
        Proof::Signature(signature) => {
            let template = signature.message.template();
            match template.as_str() {
                _ if template.contains("{url}") || template.contains("{parameters") => example("twilio"),
                _ if template.contains("{body,") => "topcalls".to_owned(),
                _ if signature.message.moment.is_some() => example("quo"),
                _ => "voxagent".to_owned(),
            }
        }
    }
}
