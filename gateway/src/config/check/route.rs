//! `[[route]]`: a path bound to a plugin, its secrets and options.

use super::{Names, http_url, name_in};
use crate::config::{
    Route, Secret,
    raw::{Table, Value, quote},
    secret::{self, Literal, Surroundings},
};

pub(super) fn read(
    t: &mut Table<'_>,
    names: &mut Names,
    paths: &mut Paths,
    around: &Surroundings<'_>,
) -> Option<Route> {
    let name = names.take(t);
    let path = match t.take("path") {
        Some(value) => route_path(&value),
        None => name.as_ref().map(|name| format!("/hooks/{name}")),
    };
    if let Some(path) = &path {
        paths.take(path, t);
    }
    let remedy = "name the plugin, such as provider = \"magpipe\"";
    let provider = t.require("provider", remedy).and_then(|value| name_in(&value));
    let secrets = t.take("secrets").map(|value| {
        let secrets = value.entries()?.into_iter().map(|(name, value)| {
            let live = value.items_or_one().into_iter();
            (
                name.to_owned(),
                live.filter_map(|value| secret::read(value, around, Literal::Warned))
                    .collect(),
            )
        });
        Some(secrets.collect::<Vec<(String, Vec<Secret>)>>())
    });
    let options = t.take("options").map(|value| value.json_object());
    let allow_unsigned = t.boolean("allow_unsigned", false);
    if allow_unsigned {
        let message = "anyone who knows the URL can post events here";
        t.report().warn(
            &t.path_of("allow_unsigned"),
            message,
            "keep the URL secret, or have the provider sign",
        );
    } else if secrets
        .as_ref()
        .is_none_or(|secrets| secrets.as_ref().is_some_and(Vec::is_empty))
    {
        let message = "has neither secrets nor allow_unsigned, so no webhook could be accepted";
        let remedy = "write secrets = { signing = { env = \"NAME\" } }, or allow_unsigned = true";
        t.report().absent(t.path(), message, remedy);
    }
    let allow_hmac = t.boolean("allow_hmac", false);
    let urls = t.take("urls").map(|value| {
        let urls = value.items().into_iter().filter_map(|value| told_url(&value));
        urls.collect()
    });
    // What is wrong has been reported and refuses the whole; the rest of the route can still be held against its plugin.
    Some(Route {
        name: name?,
        path: path.unwrap_or_default(),
        provider: provider?,
        secrets: secrets.flatten().unwrap_or_default(),
        options: options.flatten().unwrap_or_else(|| serde_json::json!({})),
        allow_unsigned,
        allow_hmac,
        urls: urls.unwrap_or_default(),
        line: t.report().line_of(t.path()),
    })
}

fn route_path(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if !text.starts_with('/') {
        value.problem(
            "does not start with a slash",
            format!("write {}", quote(&format!("/{text}"))),
        );
        return None;
    }
    let path = text.strip_suffix('/').unwrap_or(text);
    if path.is_empty() {
        value.problem(
            "is the root, where every path would be this route's",
            "write a path such as \"/hooks/acme\"",
        );
        return None;
    }
    let is_plain = |segment: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
    };
    if !path[1..].split('/').all(is_plain) {
        let remedy = "use letters, digits, - . _ ~ between single slashes";
        value.problem(format!("{} is not a plain path", quote(text)), remedy);
        return None;
    }
    Some(path.to_owned())
}

/// A URL the provider was told. Kept as written: providers sign the text, query included.
fn told_url(value: &Value<'_>) -> Option<String> {
    http_url(value, "https://hooks.example.com/hooks/acme")?;
    value.text().map(str::to_owned)
}

/// The paths taken so far, with their routes.
///
/// A plugin is told what follows its route's path, so one path inside another would make two routes of one URL.
#[derive(Default)]
pub(super) struct Paths(Vec<(String, String)>);

impl Paths {
    fn take(&mut self, path: &str, t: &Table<'_>) {
        let is_inside = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
        for (other, owner) in &self.0 {
            let relation = if path == other {
                "is also"
            } else if is_inside(path, other) {
                "lies inside"
            } else if is_inside(other, path) {
                "contains"
            } else {
                continue;
            };
            let line = t.report().line_of(owner);
            let message = format!("{path} {relation} that of {owner} in line {line}");
            t.report().problem(&t.path_of("path"), message, "choose another");
        }
        self.0.push((path.to_owned(), t.path().to_owned()));
    }
}
