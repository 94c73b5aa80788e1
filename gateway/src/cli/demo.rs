//! `callfeed demo`: a real gateway, a real subscriber and all five providers in one process.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Write as _,
    io::IsTerminal as _,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{HeaderMap, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::task::TaskTracker;

use super::{Failure, say, table::Table};
use crate::{
    clock,
    config::{self, Config, Route, SigningKey},
    descriptors,
    gateway::{Gateway, Prepared},
    outbound::sign,
    simulate::{self, Sample},
};

/// Watch the sample webhooks of all five providers turn into one feed.
///
/// Starts a gateway on free loopback ports with a temporary store, and an HTTP subscriber; posts every sample webhook of
/// all five providers, signed as each provider signs, some of them twice; prints the feed as it reaches the subscriber.
/// Exits 0 only if every event arrived, verified, exactly once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Leave the gateway running afterwards and print a ready-made curl line for each provider.
    #[arg(long)]
    keep: bool,
    /// Print each event as it is delivered, and the summary, as JSON objects.
    #[arg(long)]
    json: bool,
}

const PROVIDERS: [&str; 5] = ["magpipe", "magnetis", "voxagent", "topcalls", "salpre"];
/// Magpipe forwards WhatsApp messages unsigned, so they get a route of their own that allows it.
const UNSIGNED_ROUTE: &str = "magpipe-whatsapp";
const SUBSCRIBER: &str = "demo";
/// The samples of a completed call, one of every provider.
const COMPLETED: [&str; 3] = ["call-completed", "conversation-complete", "call-ended"];
const EVENT_BYTES_MAX: usize = 4 << 20;
/// How long the last event may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to look out for an event that comes once too often.
const AFTERMATH: Duration = Duration::from_millis(300);

/// One delivery as the subscriber got it.
struct Arrival {
    at: Instant,
    id: String,
    event: Value,
    verified: Result<(), sign::NotAuthentic>,
}

/// One webhook as it was posted.
struct Posted {
    at: Instant,
    answered_in: Duration,
    ids: Vec<String>,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    // Before there is anything to clean up: a stop at any time must leave nothing behind.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stop = std::pin::pin!(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    descriptors::raise();
    let directory = tempfile::Builder::new().prefix("callfeed-demo-").tempdir()?;
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let text = configuration(socket.local_addr()?, directory.path())?;
    let read = config::parse(&text, "demo", &|_| None, directory.path());
    let prepared = Prepared::new(read).await.map_err(Failure::Config)?;
    let config = prepared.config.clone();
    let gateway = Gateway::start(prepared, None).await?;
    let tasks = TaskTracker::new();
    let arrivals = subscribe(socket, config.subscribers[0].secrets.clone(), &tasks);

    let done = tokio::select! {
        done = play(&args, &config, gateway.address(), arrivals) => Some(done),
        () = &mut stop => None,
    };
    let mut kept = Ok(());
    if args.keep && matches!(done, Some(Ok(_))) {
        kept = keep(&config, gateway.address(), gateway.admin_address(), directory.path());
        if kept.is_ok() {
            stop.await;
        }
    }
    gateway.stop().await;
    kept?;
    match done {
        Some(done) => done?.then_some(()).ok_or(Failure::Silent),
        None if args.keep => Ok(()),
        None => Err(anyhow::anyhow!("stopped before every event had arrived").into()),
    }
}

/// Posts every sample, prints every arrival, and tells whether each event arrived, verified, exactly once.
async fn play(
    args: &Args,
    config: &Config,
    address: SocketAddr,
    mut arrivals: mpsc::Receiver<Arrival>,
) -> anyhow::Result<bool> {
    let feed = Feed::new(args.json);
    feed.head();
    let client = simulate::client(PATIENCE)?;
    let mut posted: Vec<Posted> = Vec::new();
    let mut unrecognised = 0;
    let mut seen: BTreeMap<String, Vec<Arrival>> = BTreeMap::new();
    for provider in PROVIDERS {
        let samples = simulate::samples(provider);
        ensure!(!samples.is_empty(), "there is no sample webhook of {provider}");
        let first = posted.len();
        for sample in &samples {
            posted.push(post(&client, config, address, sample).await?);
            while let Ok(arrival) = arrivals.try_recv() {
                feed.arrived(&arrival);
                seen.entry(arrival.id.clone()).or_default().push(arrival);
            }
        }
        // Providers send again what they think got lost. The same event must not reach anybody twice.
        if let Some(sample) = samples.last() {
            let again = post(&client, config, address, sample).await?;
            let known = |id: &String| posted[first..].iter().any(|posted| posted.ids.contains(id));
            unrecognised += usize::from(!again.ids.iter().all(known));
            posted.push(again);
        }
    }

    let expected: BTreeMap<&str, &Posted> = posted
        .iter()
        .rev()
        .flat_map(|posted| posted.ids.iter().map(move |id| (id.as_str(), posted)))
        .collect();
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < expected.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(Some(arrival)) = tokio::time::timeout(left, arrivals.recv()).await else {
            break;
        };
        feed.arrived(&arrival);
        seen.entry(arrival.id.clone()).or_default().push(arrival);
    }
    while let Ok(Some(arrival)) = tokio::time::timeout(AFTERMATH, arrivals.recv()).await {
        feed.arrived(&arrival);
        seen.entry(arrival.id.clone()).or_default().push(arrival);
    }

    let ids: usize = posted.iter().map(|posted| posted.ids.len()).sum();
    let duplicates = ids - expected.len();
    let mut summary = Summary {
        webhooks: posted.len(),
        duplicates,
        unrecognised,
        expected: expected.len(),
        ..Summary::default()
    };
    summary.accept = posted.iter().map(|posted| posted.answered_in).collect();
    for (id, posted) in &expected {
        match seen.get(*id).map(Vec::as_slice) {
            Some([once]) => {
                summary.delivered += 1;
                summary.unverified += usize::from(once.verified.is_err());
                summary.end_to_end.push(once.at.saturating_duration_since(posted.at));
            }
            Some(_) => summary.repeated += 1,
            None => summary.missing += 1,
        }
    }
    summary.foreign = seen.keys().filter(|id| !expected.contains_key(id.as_str())).count();
    feed.summary(&summary);
    Ok(summary.good())
}

async fn post(
    client: &reqwest::Client,
    config: &Config,
    address: SocketAddr,
    sample: &Sample,
) -> anyhow::Result<Posted> {
    #[derive(Deserialize)]
    struct Answer {
        accepted: Vec<String>,
    }
    let route = route_of(config, sample);
    let url = format!("http://{address}{}", route.path);
    let mut request = client
        .post(&url)
        .header("content-type", &sample.content_type)
        .body(sample.body.clone());
    for (name, value) in headers(route, sample, &sample.body)? {
        request = request.header(name, value);
    }
    let at = Instant::now();
    let answer = request
        .send()
        .await
        .with_context(|| format!("failed to post to {url}"))?;
    let status = answer.status();
    let body = answer.bytes().await.context("failed to read the answer")?;
    let answered_in = at.elapsed();
    let what = format!("{} {}", sample.provider, sample.name);
    ensure!(
        status == StatusCode::OK,
        "{what} was answered {status}: {}",
        String::from_utf8_lossy(&body)
    );
    let answer: Answer = serde_json::from_slice(&body).with_context(|| format!("{what}: the answer is not ours"))?;
    ensure!(
        !answer.accepted.is_empty(),
        "{what} became no event; CALLFEED_LOG=debug says why"
    );
    Ok(Posted {
        at,
        answered_in,
        ids: answer.accepted,
    })
}

fn route_of<'c>(config: &'c Config, sample: &Sample) -> &'c Route {
    let unsigned = sample.provider == "magpipe" && sample.name.starts_with("whatsapp");
    let name = if unsigned { UNSIGNED_ROUTE } else { sample.provider };
    config
        .routes
        .iter()
        .find(|route| route.name == name)
        .expect("the demo's configuration has every route")
}

fn headers(route: &Route, sample: &Sample, body: &[u8]) -> Result<Vec<(String, String)>, simulate::Error> {
    if route.name == UNSIGNED_ROUTE {
        return Ok(Vec::new());
    }
    simulate::sign(route, &route.urls[0], &sample.content_type, body)
}

/// The demo's configuration, as an operator would write it, with secrets made for this run alone.
fn configuration(subscriber: SocketAddr, directory: &Path) -> anyhow::Result<String> {
    let secret = || getrandom::u64().map(|random| format!("{random:016x}{random:016x}{random:016x}{random:016x}"));
    let mut text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ngrace = \"3s\"\n\n[admin]\nlisten = \"127.0.0.1:0\"\n\n[store]\nurl = \"sqlite:{}\"\n",
        directory.join("demo.db").display()
    );
    for provider in PROVIDERS {
        let name = if provider == "salpre" { "token" } else { "signing" };
        write!(
            text,
            "\n[[route]]\nname = \"{provider}\"\nprovider = \"{provider}\"\nsecrets = {{ {name} = [\"{}\"] }}\n\
             urls = [\"https://hooks.example.com/hooks/{provider}\"]\n",
            secret()?
        )?;
    }
    write!(
        text,
        "\n[[route]]\nname = \"{UNSIGNED_ROUTE}\"\nprovider = \"magpipe\"\nallow_unsigned = true\n\n\
         [[subscriber]]\nname = \"{SUBSCRIBER}\"\nurl = \"http://{subscriber}/\"\nsecrets = [\"whsec_{}\"]\n",
        {
            use base64::{Engine as _, prelude::BASE64_STANDARD};
            BASE64_STANDARD.encode(secret()?)
        }
    )?;
    Ok(text)
}

/// Starts the subscriber: verifies what it is sent, answers 204, and hands it on.
fn subscribe(socket: TcpListener, keys: Vec<SigningKey>, tasks: &TaskTracker) -> mpsc::Receiver<Arrival> {
    let (send, receive) = mpsc::channel(1024);
    let keys = Arc::new(keys);
    let connections = tasks.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let (send, keys) = (send.clone(), Arc::clone(&keys));
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let (send, keys) = (send.clone(), Arc::clone(&keys));
                    async move { Ok::<_, Infallible>(arrive(request, &send, &keys).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                // A gateway that hangs up is about to stop.
                drop(connection.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    receive
}

async fn arrive(
    request: Request<Incoming>,
    send: &mpsc::Sender<Arrival>,
    keys: &[SigningKey],
) -> Response<Empty<Bytes>> {
    let (parts, body) = request.into_parts();
    let mut response = Response::new(Empty::new());
    *response.status_mut() = match Limited::new(body, EVENT_BYTES_MAX).collect().await {
        Err(_) => StatusCode::BAD_REQUEST,
        Ok(body) => {
            let arrival = examine(&parts.headers, &body.to_bytes(), keys);
            match send.send(arrival).await {
                Ok(()) => StatusCode::NO_CONTENT,
                Err(_) => StatusCode::SERVICE_UNAVAILABLE,
            }
        }
    };
    response
}

fn examine(headers: &HeaderMap, body: &[u8], keys: &[SigningKey]) -> Arrival {
    let event: Value = serde_json::from_slice(body).unwrap_or_default();
    Arrival {
        at: Instant::now(),
        id: event["id"].as_str().unwrap_or_default().to_owned(),
        verified: sign::verify(keys, headers, body, clock::now()),
        event,
    }
}

/// What the demo prints while it runs.
struct Feed {
    table: Table,
    json: bool,
}

impl Feed {
    fn new(json: bool) -> Self {
        let table = Table::new(&[
            ("time", 20),
            ("provider", 8),
            ("its event", 22),
            ("our type", 18),
            ("call", 41),
            ("from → to", 29),
            ("outcome", 10),
            ("signature", 9),
        ]);
        Self { table, json }
    }

    fn head(&self) {
        if !self.json {
            say(&self.table.head());
        }
    }

    fn arrived(&self, arrival: &Arrival) {
        let event = &arrival.event;
        if self.json {
            say(&json!({ "verified": arrival.verified.is_ok(), "event": event }).to_string());
            return;
        }
        let data = &event["data"];
        let block = if data["call"].is_object() {
            &data["call"]
        } else {
            &data["message"]
        };
        let party = |name: &str| {
            let party = &block[name];
            party["number"]
                .as_str()
                .or(party["raw"].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let (from, to) = (party("from"), party("to"));
        let parties = if from.is_empty() && to.is_empty() {
            String::new()
        } else {
            format!("{from} → {to}")
        };
        let subject = event["subject"].as_str().unwrap_or_default();
        let outcome = data["call"]["outcome"].as_str().unwrap_or_default();
        let mark = match &arrival.verified {
            Ok(()) => "verified".to_owned(),
            Err(error) => format!("NOT VERIFIED: {error}"),
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        say(&self.table.row(&[
            text(&event["time"]).chars().take(19).collect::<String>() + "Z",
            text(&data["provider"]),
            text(&data["provider_event"]),
            text(&event["type"]),
            subject.split_once('/').map_or(subject, |(_, call)| call).to_owned(),
            parties,
            outcome.to_owned(),
            mark,
        ]));
    }

    fn summary(&self, summary: &Summary) {
        let (accept, end_to_end) = (Percentiles::of(&summary.accept), Percentiles::of(&summary.end_to_end));
        if self.json {
            say(&json!({
                "webhooks_accepted": summary.webhooks, "duplicates": summary.duplicates,
                "events": summary.expected, "events_delivered": summary.delivered, "missing": summary.missing,
                "repeated": summary.repeated, "unverified": summary.unverified, "foreign": summary.foreign,
                "duplicates_not_recognised": summary.unrecognised,
                "accept_ms": { "p50": accept.p50, "p99": accept.p99 },
                "end_to_end_ms": { "p50": end_to_end.p50, "p99": end_to_end.p99 },
                "ok": summary.good(),
            })
            .to_string());
            return;
        }
        say("");
        say(&format!("webhooks accepted  {:>6}", summary.webhooks));
        say(&format!(
            "duplicates         {:>6}  recognised, not delivered again",
            summary.duplicates
        ));
        say(&format!(
            "events delivered   {:>6}  of {}, every one verified by the subscriber: {}",
            summary.delivered,
            summary.expected,
            if summary.unverified == 0 { "yes" } else { "NO" }
        ));
        say(&format!(
            "accept             {:>6.1} ms p50  {:>6.1} ms p99   (durable before the answer)",
            accept.p50, accept.p99
        ));
        say(&format!(
            "end to end         {:>6.1} ms p50  {:>6.1} ms p99",
            end_to_end.p50, end_to_end.p99
        ));
        let verdict = match summary.good() {
            true => "every event arrived, verified, exactly once".to_owned(),
            false => format!(
                "NOT GOOD: {} missing, {} more than once, {} not verified, {} that nobody sent, {} duplicates not \
                 recognised",
                summary.missing, summary.repeated, summary.unverified, summary.foreign, summary.unrecognised
            ),
        };
        let bold = std::io::stdout().is_terminal();
        say(&if bold {
            format!("\n\x1b[1m{verdict}\x1b[0m")
        } else {
            format!("\n{verdict}")
        });
    }
}

#[derive(Default)]
struct Summary {
    webhooks: usize,
    duplicates: usize,
    /// Providers whose repeated webhook was taken for another event.
    unrecognised: usize,
    expected: usize,
    delivered: usize,
    missing: usize,
    repeated: usize,
    unverified: usize,
    foreign: usize,
    accept: Vec<Duration>,
    end_to_end: Vec<Duration>,
}

impl Summary {
    fn good(&self) -> bool {
        self.delivered == self.expected
            && self.unverified == 0
            && self.foreign == 0
            && self.repeated == 0
            && self.unrecognised == 0
    }
}

/// Milliseconds.
struct Percentiles {
    p50: f64,
    p99: f64,
}

impl Percentiles {
    fn of(durations: &[Duration]) -> Self {
        let mut sorted: Vec<f64> = durations.iter().map(|duration| duration.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        // Nearest rank.
        let at = |share: f64| match sorted.len() {
            0 => 0.0,
            count => sorted[((share * count as f64).ceil() as usize).clamp(1, count) - 1],
        };
        Self {
            p50: at(0.5),
            p99: at(0.99),
        }
    }
}

/// Says how to go on by hand: one new webhook of each provider, ready to be posted.
fn keep(config: &Config, address: SocketAddr, admin: Option<SocketAddr>, directory: &Path) -> anyhow::Result<()> {
    say("\nStill running. One new webhook of each provider (a second time it is a duplicate):\n");
    for provider in PROVIDERS {
        let samples = simulate::samples(provider);
        // A call that is over tells most.
        let over = |sample: &&Sample| COMPLETED.contains(&sample.name);
        let sample = samples
            .iter()
            .find(over)
            .with_context(|| format!("{provider} has no sample of a completed call"))?;
        let route = route_of(config, sample);
        let body = sample.fresh();
        let file = directory.join(format!("{provider}.json"));
        std::fs::write(&file, &body).with_context(|| format!("failed to write {}", file.display()))?;
        let mut line = format!("curl -H 'content-type: {}'", sample.content_type);
        for (name, value) in headers(route, sample, &body)? {
            write!(line, " -H '{name}: {value}'")?;
        }
        write!(
            line,
            " --data-binary @{} http://{address}{}",
            file.display(),
            route.path
        )?;
        say(&line);
    }
    if let Some(admin) = admin {
        say(&format!("\ncurl http://{admin}/metrics"));
    }
    say("\nCtrl-C ends it.");
    Ok(())
}
