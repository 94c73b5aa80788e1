//! `[[provider]]`: a provider that needs no code. What proves its webhooks, and what becomes of them.

mod data;
mod scheme;

pub(crate) use self::scheme::{SEPARATORS, STANDARD_WEBHOOKS};
use super::{KIB, MIB, Names};
use crate::config::{
    Provider, ProviderSecret,
    raw::{Table, Value, quote},
};
use callfeed_description::{Algorithm, Description, Scheme};

const ENCODINGS: [&str; 5] = ["utf8", "base64", "hex", "pem", "standard-webhooks"];
const METHODS: [&str; 3] = ["POST", "PUT", "PATCH"];
const CONTENT_TYPES: [&str; 2] = ["application/json", "application/x-www-form-urlencoded"];

pub(super) fn read(t: &mut Table<'_>, names: &mut Names) -> Option<Provider> {
    let name = names.take(t);
    let display_name = t.take("display_name").and_then(|value| shown(&value));
    let scheme = scheme::read(t);
    let secret = t.section("secret", |t| secret(t, scheme.as_ref()));
    let content_types = choices(t, "content_types", CONTENT_TYPES);
    let methods = choices(t, "methods", METHODS);
    let body_bytes_max = t.size("max_body", KIB..=64 * MIB, MIB);
    let mapping = data::read(t);
    let (name, (mut scheme, _), secret, mapping) = (name?, scheme?, secret?, mapping?);
    let secret_name = secret.name.as_str().into();
    match &mut scheme {
        Scheme::Signature(signature) => signature.secret = secret_name,
        Scheme::Token(token) => token.secret = secret_name,
    }
    Some(Provider {
        display_name: display_name.unwrap_or_else(|| name.clone()),
        name,
        secret,
        content_types,
        methods,
        body_bytes_max,
        description: Description { scheme, mapping },
        line: t.report().line_of(t.path()),
    })
}

/// `secret = { name, encoding, summary }`; all of it follows from the scheme unless said.
fn secret(t: &mut Table<'_>, scheme: Option<&(Scheme<'_>, &'static str)>) -> Option<ProviderSecret> {
    let is_public =
        matches!(scheme, Some((Scheme::Signature(signature), _)) if signature.algorithm == Algorithm::Ed25519);
    let default_name = match scheme {
        _ if is_public => "public_key",
        Some((Scheme::Token(_), _)) => "token",
        _ => "signing",
    };
    let name = t.take("name").map(|value| {
        let name = value.text()?;
        let plain = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !plain {
            value.problem(format!("{} is not a name", quote(name)), "use letters, digits, - and _");
        }
        plain.then(|| name.to_owned())
    });
    let encoding = t.take("encoding").map(|value| {
        let text = value.text()?;
        let fitting = |encoding: &&&str| match **encoding {
            "utf8" | "standard-webhooks" => !is_public,
            "pem" => is_public,
            _ => true,
        };
        let known = ENCODINGS.iter().filter(fitting);
        let found = known.clone().find(|known| **known == text);
        if found.is_none() {
            let known: Vec<_> = known.map(|known| format!("\"{known}\"")).collect();
            let kind = if is_public { "a public key" } else { "a shared secret" };
            let message = format!("{} is no way to write {kind}", quote(text));
            value.problem(message, format!("choose one of {}", known.join(", ")));
        }
        found.copied()
    });
    let summary = t.take("summary").and_then(|value| shown(&value));
    Some(ProviderSecret {
        name: name.unwrap_or_else(|| Some(default_name.to_owned()))?,
        encoding: encoding.unwrap_or_else(|| Some(scheme?.1))?,
        summary: summary.unwrap_or_else(|| "as the provider shows it".to_owned()),
    })
}

/// One line for an operator.
fn shown(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.len() > 200 || text.contains(char::is_control) {
        value.problem(
            "is more than one short line",
            "write at most 200 bytes without line breaks",
        );
        return None;
    }
    Some(text.to_owned())
}

/// A list of known words; the first of them unless said.
fn choices<const N: usize>(t: &mut Table<'_>, key: &'static str, known: [&str; N]) -> Vec<String> {
    let Some(value) = t.take(key) else {
        return vec![known[0].to_owned()];
    };
    let items = value.items_or_one();
    let chosen = items.iter().filter_map(|value| {
        let text = value.text()?;
        if !known.contains(&text) {
            let known = known.map(|known| format!("\"{known}\""));
            value.problem(
                format!("{} is not known", quote(text)),
                format!("choose from {}", known.join(", ")),
            );
            return None;
        }
        Some(text.to_owned())
    });
    chosen.collect()
}
