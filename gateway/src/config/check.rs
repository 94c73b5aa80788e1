//! From the file's shape to its meaning: what every key is, what it may be, and what has to fit together.

mod data_path;
mod provider;
mod route;
mod subscriber;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Url;
use rustls::{
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

pub(crate) use self::provider::{SEPARATORS, STANDARD_WEBHOOKS};
use super::{
    Admin, Checked, Config, Limits, Location, Plugin, Problem, Problems, Provider, Readable, Refused, Route, Server,
    Store, Subscriber, Tls, days,
    problem::Source,
    raw::{Document, Report, Table, Value, is_name, print_duration, quote},
    secret::{self, Literal, Surroundings, read_file, warn_if_readable_by_others},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

const CONFIG_BYTES_MAX: u64 = 4 << 20;
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Reads a configuration file, with the environment of this process for its secrets.
///
/// # Errors
///
/// Every problem of the file at once, or the one that kept it from being read.
pub fn load(path: &Path) -> Result<Checked, Refused> {
    let file_name = path.to_string_lossy();
    match text_of(path) {
        Ok(text) => parse(&text, &file_name, &|name| std::env::var(name).ok(), base_dir(path)),
        Err(problem) => Err(Refused {
            problems: Problems::new(file_name.to_string(), vec![problem]),
            readable: Box::default(),
            source: Source {
                file: file_name.to_string(),
                ..Source::default()
            },
        }),
    }
}

/// Reads `[store]` alone: for who wants what was kept, and needs no secret for it.
///
/// # Errors
///
/// Every problem of the file's syntax and of `[store]`, or the one that kept the file from being read.
pub fn load_store(path: &Path) -> Result<Store, Problems> {
    load_part(path, &|_| None, |root, around| {
        root.section("store", |t| store(t, around))
    })
}

/// Reads `[admin]` alone, with the environment of this process for its token: for who asks a running gateway.
///
/// # Errors
///
/// Every problem of the file's syntax and of `[admin]`, or the one that kept the file from being read.
pub fn load_admin(path: &Path) -> Result<Admin, Problems> {
    let env = |name: &str| std::env::var(name).ok();
    load_part(path, &env, |root, around| root.section("admin", |t| admin(t, around)))
}

/// Reads every `[[provider]]` alone, with the warnings there are: for who tries a description out, and needs neither routes
/// nor secrets for it.
///
/// # Errors
///
/// Every problem of the file's syntax and of these blocks, or the one that kept the file from being read.
pub fn load_providers(path: &Path) -> Result<(Vec<Provider>, Vec<Problem>), Problems> {
    let (providers, warnings) = load_part_with_warnings(path, &|_| None, |root, _| {
        let mut names = Names::default();
        root.blocks("provider", |t| provider::read(t, &mut names))
    })?;
    // One that could not be read is a problem.
    Ok((providers.into_iter().flatten().flatten().collect(), warnings))
}

/// Reads the `[[plugin]]` blocks and `[limits]`: for who puts another file in a plugin's place, or the first one, so that
/// none has to be there.
///
/// # Errors
///
/// Every problem of the file's syntax and of these, or the one that kept the file from being read.
pub fn load_plugins(path: &Path) -> Result<(Vec<Plugin>, Limits), Problems> {
    load_part(path, &|_| None, |root, around| {
        let mut names = Names::default();
        let plugins = root.blocks("plugin", |t| {
            let (name, path) = (names.take(t), plugin_path(t, around));
            Some(Plugin {
                name: name?,
                path: path?,
                line: t.report().line_of(t.path()),
            })
        });
        let limits = root.section("limits", |t| limits(t, around));
        (plugins.into_iter().flatten().flatten().collect(), limits)
    })
}

fn load_part<T>(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    read: impl FnOnce(&mut Table<'_>, &Surroundings<'_>) -> T,
) -> Result<T, Problems> {
    load_part_with_warnings(path, env, read).map(|(part, _)| part)
}

fn load_part_with_warnings<T>(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    read: impl FnOnce(&mut Table<'_>, &Surroundings<'_>) -> T,
) -> Result<(T, Vec<Problem>), Problems> {
    let file_name = path.to_string_lossy();
    let text = text_of(path).map_err(|problem| Problems::new(file_name.to_string(), vec![problem]))?;
    let around = Surroundings {
        env,
        base_dir: base_dir(path),
    };
    let document = Document::parse(&text);
    let part = document.read_part(|root| read(root, &around));
    let failed = document.report().has_errors();
    let (problems, _) = document.finish();
    let problems = Problems::new(file_name.to_string(), problems);
    if failed {
        Err(problems)
    } else {
        Ok((part, problems.into_vec()))
    }
}

/// Relative paths in the file start here.
fn base_dir(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn text_of(path: &Path) -> Result<String, Problem> {
    let bytes = read_file(path, CONFIG_BYTES_MAX).map_err(|error| {
        let remedy = "name another file with --config; config.example.toml shows every key";
        Problem::new(0, "", format!("cannot be read: {error}"), remedy)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Problem::new(line, "", "is not UTF-8", "save the file as UTF-8")
    })
}

/// Checks a configuration: `file_name` is for messages, `env` looks up the environment, relative paths start at
/// `base_dir`.
///
/// # Errors
///
/// Every problem at once.
pub fn parse(
    text: &str,
    file_name: &str,
    env: &dyn Fn(&str) -> Option<String>,
    base_dir: &Path,
) -> Result<Checked, Refused> {
    let document = Document::parse(text);
    let (config, readable) = document.read(|root| config(root, &Surroundings { env, base_dir }));
    let failed = document.report().has_errors();
    let (problems, lines) = document.finish();
    let file = file_name.to_owned();
    let problems = Problems::new(file.clone(), problems);
    let source = Source { file, lines };
    match config {
        Some(config) if !failed => Ok(Checked {
            config,
            warnings: problems.into_vec(),
            source,
        }),
        _ => Err(Refused {
            problems,
            readable: Box::new(readable),
            source,
        }),
    }
}

/// A configuration that counts only when the report has no error, and what can be read of it in any case.
pub(super) fn config(root: &mut Table<'_>, around: &Surroundings<'_>) -> (Option<Config>, Readable) {
    let server = root.section("server", |t| server(t, around));
    let admin = root.section("admin", |t| admin(t, around));
    let store = root.section("store", |t| store(t, around));
    let mut limits = root.section("limits", |t| limits(t, around));
    // Beside the store: a place that the gateway may write to, and that lasts.
    let Location::Sqlite(file) = &store.location;
    limits
        .plugin_cache
        .get_or_insert_with(|| file.with_file_name("plugin-cache"));
    check_cache(&limits, root.report());

    let [mut plugin_names, mut route_names, mut subscriber_names] = <[Names; 3]>::default();
    let plugins = root.blocks("plugin", |t| plugin(t, &mut plugin_names, around));
    // Routes name either kind, so the names are of one list.
    let providers = root.blocks("provider", |t| provider::read(t, &mut plugin_names));
    let mut paths = route::Paths::default();
    let routes = root.blocks("route", |t| route::read(t, &mut route_names, &mut paths, around));
    let read = |t: &mut Table<'_>| subscriber::read(t, &mut subscriber_names, &route_names, around);
    let subscribers = root.blocks("subscriber", read);

    let report = root.report();
    check_addresses(&server, &admin, report);
    if routes.as_ref().is_some_and(Vec::is_empty) {
        report.absent(
            "route",
            "there is none, so nothing can be received",
            "add a [[route]] block",
        );
    }
    if subscribers.as_ref().is_some_and(Vec::is_empty) {
        let remedy = "add a [[subscriber]] block when someone should get them";
        report.absent_warn("subscriber", "there is none, so events are kept and go nowhere", remedy);
    }
    check_retention(&store, subscribers.iter().flatten().flatten(), report);

    let readable = readable(&limits, &plugins, &providers, &routes, &plugin_names, report);
    let config = || {
        Some(Config {
            server,
            admin,
            store,
            limits,
            plugins: plugins?.into_iter().collect::<Option<_>>()?,
            providers: providers?.into_iter().collect::<Option<_>>()?,
            routes: routes?.into_iter().collect::<Option<_>>()?,
            subscribers: subscribers?.into_iter().collect::<Option<_>>()?,
        })
    };
    (config(), readable)
}

fn readable(
    limits: &Limits,
    plugins: &Option<Vec<Option<Plugin>>>,
    providers: &Option<Vec<Option<Provider>>>,
    routes: &Option<Vec<Option<Route>>>,
    plugin_names: &Names,
    report: &Report,
) -> Readable {
    let plugins: Vec<Plugin> = plugins.iter().flatten().flatten().cloned().collect();
    let providers: Vec<Provider> = providers.iter().flatten().flatten().cloned().collect();
    let is_read = |name: &str| {
        plugins.iter().any(|plugin| plugin.name == name) || providers.iter().any(|provider| provider.name == name)
    };
    let unreadable = plugin_names.iter().filter(|name| !is_read(name));
    let routes = routes.iter().flatten().flatten();
    Readable {
        limits: limits.clone(),
        plugins_unreadable: unreadable.map(str::to_owned).collect(),
        routes: routes
            .filter(|route| !report.is_doubtful(route.line))
            .cloned()
            .collect(),
        plugins,
        providers,
        whole: report.is_whole(),
    }
}

fn server(t: &mut Table<'_>, around: &Surroundings<'_>) -> Server {
    let default = Server::default();
    Server {
        listen: t.take("listen").map_or(default.listen, |value| address(&value)),
        public_url: t.take("public_url").and_then(|value| public_url(&value)),
        tls: t.take("tls").and_then(|value| value.table(|t| tls(t, around))?),
        body_bytes_max: t.size("max_body", KIB..=64 * MIB, default.body_bytes_max),
        // The HTTP library needs 8 KiB to read a head at all.
        header_bytes_max: t.size("max_header_bytes", 8 * KIB..=MIB, default.header_bytes_max),
        headers_max: t.integer("max_headers", 10..=1000, default.headers_max),
        header_timeout: t.duration("header_timeout", 100 * MS..=5 * MINUTE, default.header_timeout),
        body_timeout: t.duration("body_timeout", 100 * MS..=5 * MINUTE, default.body_timeout),
        answer_timeout: t.duration("answer_timeout", 100 * MS..=5 * MINUTE, default.answer_timeout),
        idle_timeout: t.duration("idle_timeout", SECOND..=HOUR, default.idle_timeout),
        connections_max: t.integer("max_connections", 1..=1_000_000, default.connections_max),
        in_hand_bytes_max: t.size("max_in_hand", MIB..=64 * 1024 * MIB, default.in_hand_bytes_max),
        grace: t.duration("grace", Duration::ZERO..=10 * MINUTE, default.grace),
    }
}

fn admin(t: &mut Table<'_>, around: &Surroundings<'_>) -> Admin {
    let listen = match t.take("listen") {
        None => Admin::default().listen,
        Some(value) if value.is("off") => None,
        Some(value) => Some(address(&value)),
    };
    let path = t.path_of("token");
    let value = t.take("token");
    let is_given = value.is_some();
    let token = value.and_then(|value| secret::read(value, around, Literal::Warned));
    if let Some(token) = &token
        && !token.expose().iter().all(u8::is_ascii_graphic)
    {
        let remedy = "use letters, digits and punctuation, without spaces";
        t.report()
            .problem(&path, "has characters that an HTTP header cannot carry", remedy);
    }
    if let Some(listen) = listen
        && !listen.ip().is_loopback()
        && !is_given
    {
        let remedy = "set token = { env = \"CALLFEED_ADMIN_TOKEN\" } or listen on 127.0.0.1";
        t.report().absent(
            &path,
            format!("is missing, and {listen} is not a loopback address"),
            remedy,
        );
    }
    Admin { listen, token }
}

fn store(t: &mut Table<'_>, around: &Surroundings<'_>) -> Store {
    let default = Store::default();
    let Location::Sqlite(file) = default.location;
    let location = t.take("url").and_then(|value| location(&value, around));
    let keep = MINUTE..=days(3650);
    let keep_events = t.duration("keep_events", keep.clone(), default.keep_events);
    let keep_ids = t.take("keep_ids").and_then(|value| {
        let keep_ids = value.duration(keep.clone())?;
        if keep_ids < keep_events {
            value.problem(
                format!("is shorter than keep_events ({})", print_duration(keep_events)),
                "leave it out, or name a longer time: what is kept is recognised",
            );
        }
        Some(keep_ids)
    });
    Store {
        location: location.unwrap_or_else(|| Location::Sqlite(around.base_dir.join(file))),
        keep_events,
        keep_ids: keep_ids.unwrap_or(keep_events),
        keep_webhooks: t.duration("keep_webhooks", keep.clone(), default.keep_webhooks),
        keep_attempts: t.duration("keep_attempts", keep, default.keep_attempts),
        disk_floor_bytes: t.size("disk_floor", 0..=u64::MAX, default.disk_floor_bytes),
        queue_max: t.integer("queue", 1..=100_000, default.queue_max),
    }
}

/// The text is never shown: a database URL has a password more often than not.
fn location(value: &Value<'_>, around: &Surroundings<'_>) -> Option<Location> {
    const REMEDY: &str = "write url = \"sqlite:callfeed.db\"";
    let text = value.text()?;
    if text.starts_with("postgres:") || text.starts_with("postgresql:") {
        value.problem("names PostgreSQL, and this build keeps events in SQLite", REMEDY);
        return None;
    }
    let Some(file) = text.strip_prefix("sqlite:") else {
        value.problem("does not start with sqlite:", REMEDY);
        return None;
    };
    let file = file.strip_prefix("//").unwrap_or(file);
    if file.is_empty() || file.contains(['?', '#']) {
        value.problem("is not sqlite: and a path", REMEDY);
        return None;
    }
    if file.starts_with(":memory:") {
        value.problem("would lose every event with the process", REMEDY);
        return None;
    }
    let file = around.resolve(file);
    let dir = file
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !dir.is_dir() {
        let message = format!("directory {} does not exist", quote(&dir.to_string_lossy()));
        value.problem(message, "make it or name another");
        return None;
    }
    if file.is_dir() {
        value.problem("is a directory", REMEDY);
        return None;
    }
    Some(Location::Sqlite(file))
}

fn limits(t: &mut Table<'_>, around: &Surroundings<'_>) -> Limits {
    let default = Limits::default();
    Limits {
        plugin_time: t.duration("plugin_time", MS..=10 * SECOND, default.plugin_time),
        plugin_memory_bytes: t.size("plugin_memory", MIB..=1024 * MIB, default.plugin_memory_bytes),
        plugin_output_bytes: t.size("plugin_output", KIB..=64 * MIB, default.plugin_output_bytes),
        plugin_events_max: t.integer("plugin_events", 1..=10_000, default.plugin_events_max),
        plugin_host_calls_max: t.integer("plugin_host_calls", 1..=1_000_000, default.plugin_host_calls_max),
        plugins_in_flight: t.integer("plugins_in_flight", 1..=1000, default.plugins_in_flight),
        plugin_wait: t.duration("plugin_wait", Duration::ZERO..=MINUTE, default.plugin_wait),
        plugin_file_bytes: t.size("plugin_file", KIB as u64..=1 << 30, default.plugin_file_bytes),
        plugin_cache: t
            .take("plugin_cache")
            .and_then(|value| Some(around.resolve(value.text()?))),
    }
}

/// Compiled code that lies there is run, so nobody else may be able to put it there.
#[cfg(unix)]
fn check_cache(limits: &Limits, report: &Report) {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(directory) = &limits.plugin_cache else { return };
    if std::fs::metadata(directory).is_ok_and(|metadata| metadata.permissions().mode() & 0o022 != 0) {
        let message = format!("others may write to {}", quote(&directory.to_string_lossy()));
        let remedy = format!("chmod 700 {}", directory.display());
        report.problem("limits.plugin_cache", message, remedy);
    }
}

#[cfg(not(unix))]
fn check_cache(_: &Limits, _: &Report) {}

fn plugin(t: &mut Table<'_>, names: &mut Names, around: &Surroundings<'_>) -> Option<Plugin> {
    let (name, path) = (names.take(t), plugin_path(t, around));
    if let Some(path) = path.as_deref().filter(|path| !path.is_file()) {
        let message = format!("there is no file {}", quote(&path.to_string_lossy()));
        t.report().problem(&t.path_of("path"), message, "check the path");
        return None;
    }
    Some(Plugin {
        name: name?,
        path: path?,
        line: t.report().line_of(t.path()),
    })
}

fn plugin_path(t: &mut Table<'_>, around: &Surroundings<'_>) -> Option<PathBuf> {
    let value = t.require("path", "name the plugin's file, such as path = \"acme.wasm\"")?;
    Some(around.resolve(value.text()?))
}

/// The names taken so far by blocks of one kind, with their lines.
#[derive(Default)]
struct Names(BTreeMap<String, usize>);

impl Names {
    /// Reads the block's `name`.
    fn take(&mut self, t: &mut Table<'_>) -> Option<String> {
        let value = t.require("name", "give it a name of a-z, 0-9, - and _")?;
        let name = name_in(&value)?;
        if let Some(line) = self.0.get(&name) {
            value.problem(
                format!("{name} is also the name of the one in line {line}"),
                "choose another",
            );
            return None;
        }
        self.0.insert(name.clone(), t.report().line_of(t.path()));
        Some(name)
    }

    fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn name_in(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if !is_name(text) {
        let remedy = "use at most 63 of a-z, 0-9, - and _, and start with a letter or digit";
        value.problem(format!("{} is not a name", quote(text)), remedy);
        return None;
    }
    Some(text.to_owned())
}

/// A choice; the first is the default.
fn one_of<T: Copy, const N: usize>(t: &mut Table<'_>, key: &'static str, choices: [(&str, T); N]) -> T {
    let chosen = t.take(key).and_then(|value| {
        let text = value.text()?;
        let chosen = choices.iter().find(|(name, _)| *name == text);
        if chosen.is_none() {
            let names = choices.map(|(name, _)| format!("\"{name}\""));
            value.problem(
                format!("{} is not known", quote(text)),
                format!("choose one of {}", names.join(", ")),
            );
        }
        chosen
    });
    chosen.map_or(choices[0].1, |(_, choice)| *choice)
}

fn address(value: &Value<'_>) -> SocketAddr {
    // Stands for one that cannot be read, and contradicts nothing.
    const UNREADABLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let Some(text) = value.text() else { return UNREADABLE };
    text.parse().unwrap_or_else(|_| {
        let remedy = match text.rsplit_once(':') {
            Some(("", port)) if port.parse::<u16>().is_ok() => format!("write \"0.0.0.0:{port}\""),
            Some(("localhost", port)) if port.parse::<u16>().is_ok() => format!("write \"127.0.0.1:{port}\""),
            _ => "write an IP address and a port, such as \"0.0.0.0:8080\" or \"[::]:8080\"".to_owned(),
        };
        value.problem(format!("{} is not an address to listen on", quote(text)), remedy);
        UNREADABLE
    })
}

/// An absolute http or https URL. The text is never shown: URLs carry tokens.
fn http_url(value: &Value<'_>, example: &str) -> Option<Url> {
    let text = value.text()?;
    // The parser would drop them without a word.
    if text.contains(|character: char| character.is_whitespace() || character.is_control()) {
        value.problem("has a space or a line break in it", "remove it, or write %20");
        return None;
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            value.problem(
                format!("is not a URL: {error}"),
                format!("write one such as \"{example}\""),
            );
            return None;
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        value.problem("is neither http nor https", format!("write one such as \"{example}\""));
        return None;
    }
    if url.fragment().is_some() {
        value.problem("has a fragment, which is never sent", "remove what follows the #");
        return None;
    }
    Some(url)
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn public_url(value: &Value<'_>) -> Option<String> {
    const EXAMPLE: &str = "https://hooks.example.com";
    let url = http_url(value, EXAMPLE)?;
    if has_user(&url) || url.query().is_some() {
        value.problem(
            "has more than scheme, host and path",
            format!("write one such as \"{EXAMPLE}\""),
        );
        return None;
    }
    // As written, not as the parser would print it: providers sign the text they were told.
    Some(value.text()?.trim_end_matches('/').to_owned())
}

fn tls(t: &mut Table<'_>, around: &Surroundings<'_>) -> Option<Tls> {
    let mut pem = |key| {
        let value = t.require(key, "name a PEM file")?;
        let path = around.resolve(value.text()?);
        let shown = quote(&path.to_string_lossy());
        match read_file(&path, PEM_BYTES_MAX) {
            Ok(bytes) => Some((value, path, shown, bytes)),
            Err(error) => {
                value.problem(
                    format!("file {shown} cannot be read: {error}"),
                    "check the path and its permissions",
                );
                None
            }
        }
    };
    let (certificate, key) = (pem("certificate"), pem("key"));
    let chain = certificate.and_then(|(value, path, shown, bytes)| {
        match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
            Ok(chain) if !chain.is_empty() => Some((path, chain)),
            _ => {
                value.problem(
                    format!("file {shown} holds no PEM certificate"),
                    "give the chain, the server's own first",
                );
                None
            }
        }
    });
    let key = key.and_then(
        |(value, path, shown, bytes)| match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) => {
                warn_if_readable_by_others(&path, value.path(), t.report());
                Some((path, key))
            }
            Err(_) => {
                value.problem(
                    format!("file {shown} holds no PEM private key"),
                    "give the certificate's own key, unencrypted",
                );
                None
            }
        },
    );
    let ((certificate, chain), (key, der)) = (chain?, key?);
    if let Err(error) = CertifiedKey::from_der(chain, der, &default_provider()) {
        let remedy = "give the key that belongs to the first certificate";
        t.report().problem(
            t.path(),
            format!("certificate and key do not work together: {error}"),
            remedy,
        );
        return None;
    }
    Some(Tls { certificate, key })
}

fn check_addresses(server: &Server, admin: &Admin, report: &Report) {
    let Some(admin) = admin.listen else { return };
    // [::] takes the IPv4 addresses too.
    let covers =
        |one: IpAddr, other: IpAddr| one == other || (one.is_unspecified() && (one.is_ipv6() || other.is_ipv4()));
    let (one, other) = (server.listen.ip(), admin.ip());
    // Port 0 takes a free one each time.
    if server.listen.port() == admin.port() && admin.port() != 0 && (covers(one, other) || covers(other, one)) {
        let message = format!("{admin} is taken by server.listen");
        report.problem("admin.listen", message, "choose another port, or \"off\"");
    }
}

/// A delivery whose event is older than events are kept is not tried again.
fn check_retention<'s>(store: &Store, subscribers: impl Iterator<Item = &'s Subscriber>, report: &Report) {
    for subscriber in subscribers {
        let whole: Duration = subscriber.schedule.iter().sum();
        if whole >= store.keep_events {
            let (whole, kept) = (print_duration(whole), print_duration(store.keep_events));
            let message = format!("attempts are spread over {whole}, but events are kept for {kept}");
            let path = format!("subscriber[{}].schedule", subscriber.name);
            report.warn(&path, message, "shorten it or raise store.keep_events");
        }
    }
}
