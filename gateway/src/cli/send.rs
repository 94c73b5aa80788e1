//! `callfeed send`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{ConfigFile, Failure, display, say, say_foreign};
use crate::{
    clock,
    config::{Config, Route, Subscriber},
    event::{EventId, Facts, Kept},
    inbound::SCHEMA_ID,
    kit::lab::Capture,
    outbound::{
        deliver::{Courier, Outcome},
        sign::Signer,
    },
    redaction::shown_url,
    simulate,
};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Headers of a captured request that speak of its connection. The one that sends it again has others.
const OF_CONNECTION: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "expect"];

/// Send a signed test webhook to a route, or a test event to a subscriber.
///
/// The webhook is as its provider would send it, or one that was captured; the event as callfeed would deliver it. Says what
/// was answered, and fails unless that is 2xx.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("destination").required(true).args(["route", "subscriber"]))]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// The route to send a webhook to.
    #[arg(long)]
    route: Option<String>,
    /// The subscriber to send a test event to, signed with its secrets.
    #[arg(long)]
    subscriber: Option<String>,
    /// Which sample webhook; `--list` names them. The first one unless given.
    #[arg(long, conflicts_with = "subscriber")]
    sample: Option<String>,
    /// Send this file's bytes instead of a sample.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subscriber", "sample"])]
    body: Option<PathBuf>,
    /// Send this captured request as it is: its method, its headers, its body, and what follows the route's path. A case's
    /// request.http is one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subscriber", "sample", "body", "same", "unsigned"])]
    request: Option<PathBuf>,
    /// The content type of `--body`.
    #[arg(long, requires = "body", default_value = "application/json")]
    content_type: String,
    /// Send it here instead of to the configured address; what is signed stays the same. What follows the route's path in a
    /// captured request follows this, too, unless it has a query of its own.
    #[arg(long, value_name = "URL")]
    to: Option<reqwest::Url>,
    /// A further header, `name: value`; may be repeated.
    #[arg(long = "header", value_name = "HEADER", conflicts_with = "subscriber")]
    headers: Vec<String>,
    /// Keep the sample's own call id, so that sending twice is the same event twice.
    #[arg(long)]
    same: bool,
    /// Do not sign.
    #[arg(long)]
    unsigned: bool,
    /// Name the samples of the route's provider and send nothing.
    #[arg(long, requires = "route")]
    list: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// A webhook, ready to be posted.
struct Outgoing {
    method: reqwest::Method,
    url: reqwest::Url,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let config = args.config.load()?.config;
    if args.list {
        let route = route(&config, args.route.as_deref().unwrap_or_default())?;
        for sample in simulate::samples(&route.provider) {
            say(sample.name);
        }
        return Ok(());
    }
    match (&args.route, &args.subscriber) {
        (Some(name), _) => {
            let route = route(&config, name)?;
            let outgoing = match &args.request {
                Some(file) => captured(&args, &config, route, file)?,
                None => to_route(&args, &config, route)?,
            };
            post(outgoing, args.json).await
        }
        (None, Some(name)) => deliver(&args, subscriber(&config, name)?.clone()).await,
        (None, None) => Err(anyhow::anyhow!("name a --route or a --subscriber").into()),
    }
}

fn route<'c>(config: &'c Config, name: &str) -> anyhow::Result<&'c Route> {
    let names = || {
        config
            .routes
            .iter()
            .map(|route| route.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let found = config.routes.iter().find(|route| route.name == name);
    found.with_context(|| format!("there is no route {name:?}; there are {}", names()))
}

fn subscriber<'c>(config: &'c Config, name: &str) -> anyhow::Result<&'c Subscriber> {
    let names = || {
        config
            .subscribers
            .iter()
            .map(|one| one.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let found = config.subscribers.iter().find(|one| one.name == name);
    found.with_context(|| format!("there is no subscriber {name:?}; there are {}", names()))
}

fn to_route(args: &Args, config: &Config, route: &Route) -> anyhow::Result<Outgoing> {
    let (body, content_type) = match &args.body {
        Some(file) => {
            let body = std::fs::read(file).with_context(|| format!("failed to read {}", display(file)))?;
            (body, args.content_type.clone())
        }
        None => {
            let samples = simulate::samples(&route.provider);
            let sample = match &args.sample {
                None => samples.first(),
                Some(name) => samples.iter().find(|sample| sample.name == name),
            };
            let sample = sample.with_context(|| match samples.is_empty() {
                true => format!(
                    "there are no samples of {}, which is not built in: send a request of it with --request, or a body \
                     with --body and its headers",
                    route.provider
                ),
                false => format!(
                    "{} has no such sample; `callfeed send --route {} --list` names them",
                    route.provider, route.name
                ),
            })?;
            (
                if args.same { sample.body.clone() } else { sample.fresh() },
                sample.content_type.clone(),
            )
        }
    };
    // What the provider was told is what it signs, wherever the bytes really go.
    let public = route
        .urls
        .first()
        .cloned()
        .unwrap_or_else(|| match &config.server.public_url {
            Some(base) => format!("{base}{}", route.path),
            None => format!("{}://{}{}", scheme(config), config.server.listen, route.path),
        });
    let mut headers = vec![("content-type".to_owned(), content_type.clone())];
    if !args.unsigned {
        headers.extend(simulate::sign(route, &public, &content_type, &body)?);
    }
    headers.extend(extra_headers(&args.headers)?);
    Ok(Outgoing {
        method: reqwest::Method::POST,
        url: dialled(args, config, route, "")?,
        headers,
        body,
    })
}

fn captured(args: &Args, config: &Config, route: &Route, file: &Path) -> anyhow::Result<Outgoing> {
    let text = std::fs::read(file).with_context(|| format!("failed to read {}", display(file)))?;
    let webhook = Capture::read(&text, None).with_context(|| display(file))?.webhook;
    let mut headers = webhook.headers;
    headers.retain(|(name, _)| !OF_CONNECTION.contains(&name.as_str()));
    headers.extend(extra_headers(&args.headers)?);
    Ok(Outgoing {
        method: webhook.method.parse().with_context(|| display(file))?,
        url: dialled(args, config, route, below(&webhook.target, &route.path))?,
        headers,
        body: webhook.body.into(),
    })
}

/// What follows the route's path in a target: a deeper path, a query. Of one that was caught elsewhere, the query.
fn below<'t>(target: &'t str, path: &str) -> &'t str {
    match target.strip_prefix(path) {
        Some(below) if below.is_empty() || below.starts_with(['/', '?']) => below,
        _ => target.find('?').map_or("", |query| &target[query..]),
    }
}

fn scheme(config: &Config) -> &'static str {
    if config.server.tls.is_some() { "https" } else { "http" }
}

/// Where the bytes really go.
fn dialled(args: &Args, config: &Config, route: &Route, below: &str) -> anyhow::Result<reqwest::Url> {
    if let Some(url) = &args.to {
        return Ok(continued(url.clone(), below));
    }
    let target = format!("{}{below}", route.path);
    let url = match (&config.server.tls, &config.server.public_url) {
        (None, _) => {
            let mut listen = config.server.listen;
            if listen.ip().is_unspecified() {
                listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            format!("{}://{listen}{target}", scheme(config))
        }
        // A certificate is for a name, and listening needs none.
        (Some(_), Some(base)) => format!("{base}{target}"),
        (Some(_), None) => bail!(
            "the gateway speaks TLS, and the configuration does not say under which name it is reached: set \
             server.public_url, or say it with --to https://…"
        ),
    };
    Ok(url.parse()?)
}

/// A URL and what follows it, unless it has a query of its own.
fn continued(mut url: reqwest::Url, below: &str) -> reqwest::Url {
    if url.query().is_some() {
        return url;
    }
    let (deeper, query) = match below.split_once('?') {
        Some((deeper, query)) => (deeper, Some(query)),
        None => (below, None),
    };
    if !deeper.is_empty() {
        url.set_path(&format!("{}{deeper}", url.path().trim_end_matches('/')));
    }
    url.set_query(query);
    url
}

/// Makes one real attempt to deliver a test event.
async fn deliver(args: &Args, mut subscriber: Subscriber) -> Result<(), Failure> {
    if let Some(url) = &args.to {
        subscriber.url = url.clone();
    }
    let now = clock::now();
    let id = EventId::derive("callfeed-send", &now.to_string());
    let json = json!({
        "specversion": "1.0", "id": id.as_str(), "source": "/callfeed/send", "type": "provider.other",
        "subject": "callfeed/test", "time": now.to_string(), "datacontenttype": "application/json",
        "dataschema": SCHEMA_ID, "sequence": "0",
        "data": { "provider": "callfeed", "provider_event": "test", "test": true },
    });
    let event = Kept {
        seq: 0,
        id,
        kind: "provider.other".into(),
        subject: "callfeed/test".into(),
        route: "callfeed-send".into(),
        time: now,
        kept_at: now,
        facts: Facts {
            test: true,
            ..Facts::default()
        },
        json: json.to_string().into(),
    };
    let signed = Signer::new(&subscriber.secrets, &subscriber.signature)?.sign(&event, now);
    let attempted = Courier::new(&subscriber)?.deliver(signed).await;
    let (url, outcome, status) = (
        shown_url(&subscriber.url),
        attempted.outcome.as_str(),
        attempted.outcome.status(),
    );
    match args.json {
        true => say(&json!({ "url": url, "outcome": outcome, "status": status,
            "request_headers": attempted.request_headers, "response": attempted.response })
        .to_string()),
        false => {
            let status = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            say(&format!(
                "{url}: {outcome} ({status}) in {:.1} ms",
                attempted.duration.as_secs_f64() * 1e3
            ));
            for line in attempted.request_headers.lines() {
                say(&format!("    > {line}"));
            }
            for line in attempted.response.lines() {
                say_foreign(&format!("    < {line}"));
            }
        }
    }
    if matches!(attempted.outcome, Outcome::Delivered { .. }) {
        Ok(())
    } else {
        Err(Failure::Silent)
    }
}

fn extra_headers(lines: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let split = |line: &String| {
        let (name, value) = line
            .split_once(':')
            .with_context(|| format!("{line:?} is not `name: value`"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    lines.iter().map(split).collect()
}

async fn post(outgoing: Outgoing, json: bool) -> Result<(), Failure> {
    let client = simulate::client(TIMEOUT)?;
    let mut request = client
        .request(outgoing.method, outgoing.url.clone())
        .body(outgoing.body);
    for (name, value) in outgoing.headers {
        request = request.header(name, value);
    }
    let url = shown_url(&outgoing.url);
    let answer = request
        .send()
        .await
        .map_err(reqwest::Error::without_url)
        .with_context(|| format!("failed to reach {url}"))?;
    let status = answer.status();
    let body = answer
        .text()
        .await
        .map_err(reqwest::Error::without_url)
        .context("failed to read the answer")?;
    match json {
        true => say(&json!({ "url": url, "status": status.as_u16(), "body": body }).to_string()),
        false => say_foreign(&format!("{url} answered {status}: {}", body.trim())),
    }
    if status.is_success() {
        Ok(())
    } else {
        Err(Failure::Silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_routes_path_is_sent_wherever_it_goes() {
        for (target, to, sent) in [
            ("/hooks/acme", "http://h.example/in", "http://h.example/in"),
            ("/hooks/acme/v?a=%20b", "http://h.example", "http://h.example/v?a=%20b"),
            ("/hooks/acme/v", "http://h.example/in/", "http://h.example/in/v"),
            ("/hooks/acme?a=b", "http://h.example/in/", "http://h.example/in/?a=b"),
            (
                "/hooks/acme/v?a=b",
                "http://h.example/in?c=d",
                "http://h.example/in?c=d",
            ),
            // Caught elsewhere.
            ("/hooks/acmes?a=b", "http://h.example/in", "http://h.example/in?a=b"),
            ("/", "http://h.example/in", "http://h.example/in"),
        ] {
            let url = continued(to.parse().unwrap(), below(target, "/hooks/acme"));
            assert_eq!(url.as_str(), sent, "{target}");
        }
    }
}
