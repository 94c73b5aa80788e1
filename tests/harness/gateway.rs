use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use callfeed::{config, simulate};
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    binary::{Callfeed, Output, callfeed_bin},
    provider::{Answer, Connection, Webhook, client},
    setup::Setup,
    wait::{PATIENCE, eventually},
};

/// How much of a log is shown with a failure.
const SHOWN_LINES: usize = 60;

/// One line of the log: JSON, or what else was written to standard error.
pub type LogLine = Value;

/// A gateway in a process of its own. Killed when dropped; its log is shown when the story fails.
#[derive(Debug)]
pub struct Gateway {
    setup: Setup,
    config: config::Config,
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
    client: reqwest::Client,
}

/// How a start ended.
#[derive(Debug)]
pub enum Start {
    Up(Box<Gateway>),
    Refused(Output),
}

impl Start {
    /// The exit of a gateway that had to refuse.
    ///
    /// # Panics
    ///
    /// When it came up.
    #[track_caller]
    pub fn refused(self) -> Output {
        match self {
            Self::Up(_) => panic!("the gateway came up"),
            Self::Refused(output) => output,
        }
    }
}

impl Gateway {
    pub(crate) async fn start(setup: Setup) -> Self {
        match Self::try_start(setup).await {
            Start::Up(gateway) => *gateway,
            Start::Refused(output) => panic!("the gateway did not start: {}", output.stderr),
        }
    }

    pub(crate) async fn try_start(setup: Setup) -> Start {
        let path = setup.write();
        let mut process = Process::start(&setup);
        let Some((address, admin)) = process.addresses().await else {
            let status = process.wait().await;
            let stderr = process.log.text();
            return Start::Refused(Output {
                status: status.code(),
                stdout: String::new(),
                stderr,
            });
        };
        let config = config::load(&path)
            .unwrap_or_else(|problems| panic!("{problems}"))
            .config;
        Start::Up(Box::new(Self {
            setup,
            config,
            process,
            address,
            admin,
            client: client(),
        }))
    }

    /// Where webhooks come in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn directory(&self) -> &Path {
        self.setup.directory()
    }

    pub fn config(&self) -> &config::Config {
        &self.config
    }

    pub fn process_id(&self) -> u32 {
        self.process.child.id()
    }

    /// A provider's sample with an identity of its own, signed for the route of this name.
    ///
    /// # Panics
    ///
    /// When there is no such route or sample.
    pub fn sample(&self, route: &str, sample: &str) -> Webhook {
        let found = self.find_sample(route, sample);
        self.signed(route, &found.content_type, found.fresh())
    }

    /// The sample as the provider's documentation has it: sent twice, it is the same event twice.
    ///
    /// # Panics
    ///
    /// When there is no such route or sample.
    pub fn sample_as_it_is(&self, route: &str, sample: &str) -> Webhook {
        let found = self.find_sample(route, sample);
        self.signed(route, &found.content_type, found.body)
    }

    fn find_sample(&self, route: &str, sample: &str) -> simulate::Sample {
        let provider = &self.route(route).provider;
        let mut samples = simulate::samples(provider).into_iter();
        samples
            .find(|known| known.name == sample)
            .unwrap_or_else(|| panic!("{provider} has no sample {sample}"))
    }

    /// Any body, signed as the route's provider signs.
    ///
    /// # Panics
    ///
    /// When there is no such route.
    pub fn signed(&self, route: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Webhook {
        let (route, body) = (self.route(route), body.into());
        let mut headers = vec![("content-type".to_owned(), content_type.to_owned())];
        headers.extend(simulate::sign(route, &route.urls[0], content_type, &body).expect("the route has a secret"));
        Webhook {
            path: route.path.clone(),
            headers,
            body,
        }
    }

    fn route(&self, name: &str) -> &config::Route {
        let mut routes = self.config.routes.iter();
        routes
            .find(|route| route.name == name)
            .unwrap_or_else(|| panic!("there is no route {name}"))
    }

    /// Posts a webhook and returns whatever was answered.
    ///
    /// # Panics
    ///
    /// When nothing was answered.
    pub async fn post(&self, webhook: &Webhook) -> Answer {
        self.try_post(webhook)
            .await
            .unwrap_or_else(|error| panic!("no answer: {error:?}"))
    }

    /// Posts a webhook to a gateway that may not be there any more.
    ///
    /// # Errors
    ///
    /// When nothing was answered.
    pub async fn try_post(&self, webhook: &Webhook) -> reqwest::Result<Answer> {
        webhook.post(&self.client, &self.url(&webhook.path)).await
    }

    /// Posts a webhook that has to be accepted as one event, and returns its id.
    ///
    /// # Panics
    ///
    /// When it is not.
    pub async fn accept(&self, webhook: &Webhook) -> String {
        let mut ids = self.post(webhook).await.accepted();
        assert_eq!(ids.len(), 1, "one webhook, one event");
        ids.remove(0)
    }

    /// A connection to write any bytes to.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    /// Runs a command with this gateway's configuration, such as `["events", "list"]`.
    pub async fn run(&self, args: &[&str]) -> Output {
        Callfeed::run_with(&self.setup.config_path(), args).await
    }

    /// Writes another configuration and has the gateway read it, as `callfeed reload` does.
    ///
    /// # Panics
    ///
    /// When the gateway takes one that is wrong.
    pub async fn reload_with(&mut self, change: impl FnOnce(Setup) -> Setup) -> Output {
        self.setup = change(std::mem::take(&mut self.setup));
        let path = self.setup.write();
        let admin = format!("http://{}", self.admin);
        let output = self.run(&["reload", "--admin", &admin]).await;
        match config::load(&path) {
            Ok(read) => self.config = read.config,
            Err(_) => assert_ne!(output.status, Some(0), "{output:?}"),
        }
        output
    }

    /// Asks it to read its configuration again, and does not wait.
    ///
    /// # Panics
    ///
    /// When the signal cannot be sent.
    pub fn signal_reload(&self) {
        self.process.signal(rustix::process::Signal::HUP);
    }

    /// Every event kept, in the order of the feed, as `callfeed events list` tells.
    pub async fn feed(&self) -> Vec<Value> {
        let mut feed = Vec::new();
        loop {
            let before = feed
                .last()
                .map(|event: &Value| event["sequence"].as_str().unwrap_or_default().to_owned());
            let mut args = vec!["events", "list", "--json", "--limit", "1000"];
            if let Some(before) = &before {
                args.extend(["--before", before]);
            }
            let page = self.run(&args).await.json_lines();
            if page.is_empty() {
                feed.reverse();
                return feed;
            }
            feed.extend(page);
        }
    }

    /// Every delivery on record, newest event first.
    pub async fn deliveries(&self) -> Vec<Value> {
        self.run(&["deliveries", "list", "--json", "--limit", "1000"])
            .await
            .json_lines()
    }

    /// Every attempt on record to deliver an event to a subscriber, once there are at least so many.
    pub async fn attempts(&self, id: &str, subscriber: &str, count: usize) -> Vec<Value> {
        let look = async || {
            let args = ["deliveries", "show", id, "--subscriber", subscriber, "--json"];
            let attempts = self.run(&args).await.json_lines();
            (attempts.len() >= count).then_some(attempts)
        };
        eventually(&format!("{count} attempts on record"), look).await
    }

    /// What the admin address answers.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn admin_get(&self, path: &str) -> Answer {
        let request = self.client.get(format!("http://{}{path}", self.admin));
        Answer::of(request.send().await.expect("the admin address answers"))
            .await
            .expect("the answer is whole")
    }

    /// The value of one metric, with its labels as printed; 0 when there is none.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.admin_get("/metrics").await.body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("metrics are numbers"))
    }

    /// Every log line so far.
    pub fn log(&self) -> Vec<LogLine> {
        self.process.log.lines().clone()
    }

    /// Everything on standard error so far, as text.
    pub fn log_text(&self) -> String {
        self.process.log.text()
    }

    /// Waits for a log line with this message.
    pub async fn logged(&self, message: &str) -> LogLine {
        let look = async || self.log().into_iter().find(|line| line["message"] == message);
        eventually(&format!("{message:?} in the log"), look).await
    }

    /// Makes the events up to a place, and what they came with, so much older on record, as time would. The gateway must have
    /// ended.
    ///
    /// # Panics
    ///
    /// When the store cannot be written to.
    pub fn age(&self, by: Duration, up_to: u64) {
        let path = self.directory().join("callfeed.db");
        let store = rusqlite::Connection::open(path).expect("the store is there");
        let by = i64::try_from(by.as_micros()).expect("a story is no geology");
        for sql in [
            "UPDATE event SET kept_at_us = kept_at_us - ?1 WHERE seq <= ?2",
            "UPDATE attempt SET at_us = at_us - ?1 WHERE seq <= ?2",
            "UPDATE former_key SET kept_at_us = kept_at_us - ?1 WHERE seq <= ?2",
            "UPDATE webhook SET received_at_us = received_at_us - ?1
             WHERE number IN (SELECT webhook FROM event WHERE seq <= ?2)",
        ] {
            let up_to = i64::try_from(up_to).expect("a story is short");
            store.execute(sql, [by, up_to]).expect("the store can be written to");
        }
    }

    /// Ends it as `kill -9` does.
    ///
    /// # Panics
    ///
    /// When it cannot be ended.
    pub async fn kill9(&mut self) {
        self.process.child.kill().expect("a child can be killed");
        self.process.wait().await;
    }

    /// Asks it to stop and does not wait.
    ///
    /// # Panics
    ///
    /// When the signal cannot be sent.
    pub fn signal_stop(&self) {
        self.process.signal(rustix::process::Signal::TERM);
    }

    /// Waits for the end of a process that was asked to stop.
    pub async fn wait(&mut self) -> ExitStatus {
        self.process.wait().await
    }

    /// Asks it to stop and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal_stop();
        self.wait().await
    }

    /// Starts it again on the same directory; kills it first when it still runs.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub async fn restart(&mut self) {
        if self.process.child.try_wait().expect("a child can be asked").is_none() {
            self.kill9().await;
        }
        let mut process = Process::start(&self.setup);
        let Some((address, admin)) = process.addresses().await else {
            panic!("the gateway did not start again: {}", process.log.text());
        };
        (self.process, self.address, self.admin) = (process, address, admin);
        // Connections to the former process are of no use.
        self.client = client();
    }

    /// Starts it again with other settings on the same directory, which is that of the former ones.
    pub async fn restart_with(mut self, change: impl FnOnce(Setup) -> Setup) -> Self {
        self.kill9().await;
        Self::start(change(self.setup)).await
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    fn start(setup: &Setup) -> Self {
        let mut command = match &setup.wrapper {
            None => Command::new(callfeed_bin()),
            Some(commands) => {
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", &format!("{commands}\nexec \"$0\" \"$@\"")])
                    .arg(callfeed_bin());
                shell
            }
        };
        command
            .args(["serve", "--log-format", "json", "--config"])
            .arg(setup.config_path());
        command.env("CALLFEED_LOG", setup.log).env_remove("CALLFEED_CONFIG");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the gateway starts");
        let stderr = child.stderr.take().expect("it was asked for");
        let log = Arc::new(Log::default());
        let reader = std::thread::spawn({
            let log = Arc::clone(&log);
            move || log.read(stderr)
        });
        Self {
            child,
            log,
            reader: Some(reader),
        }
    }

    /// Where it listens, once it does; `None` when it ended before.
    async fn addresses(&mut self) -> Option<(SocketAddr, SocketAddr)> {
        let mut changed = self.log.changed.subscribe();
        let listening = async {
            loop {
                let line = self
                    .log
                    .lines()
                    .iter()
                    .find(|line| line["message"] == "callfeed is listening")
                    .cloned();
                let address = |line: &Value, name: &str| -> SocketAddr {
                    let text = line[name].as_str().expect("the line names its addresses");
                    text.parse().expect("it is an address")
                };
                if let Some(line) = line {
                    return Some((address(&line, "inbound"), address(&line, "admin")));
                }
                if *changed.borrow_and_update() == Seen::End {
                    return None;
                }
                changed.changed().await.expect("the log outlives its reader");
            }
        };
        let waited = tokio::time::timeout(PATIENCE, listening).await;
        waited.unwrap_or_else(|_| panic!("the gateway neither listens nor ends: {}", self.log.text()))
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.expect("a child has an id"), signal).expect("a child can be signalled");
    }

    async fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "the gateway did not end: {}",
                self.log.text()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reading does not fail");
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either it ended by itself, or nobody is interested in how.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the test runner shows it beside the failure")]
            {
                eprintln!("end of the gateway's log:\n{}", self.log.end());
            }
        }
    }
}

#[derive(Debug)]
struct Log {
    lines: Mutex<Vec<LogLine>>,
    changed: watch::Sender<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Lines(usize),
    End,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            lines: Mutex::default(),
            changed: watch::Sender::new(Seen::Lines(0)),
        }
    }
}

impl Log {
    fn read(&self, stderr: ChildStderr) {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = serde_json::from_slice(&line)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&line).into_owned()));
            let count = {
                let mut lines = self.lines();
                lines.push(line);
                lines.len()
            };
            self.changed.send_replace(Seen::Lines(count));
        }
        self.changed.send_replace(Seen::End);
    }

    fn lines(&self) -> MutexGuard<'_, Vec<LogLine>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands nearest to a failure.
    fn end(&self) -> String {
        let text = self.text();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    fn text(&self) -> String {
        let lines = self.lines();
        let lines = lines
            .iter()
            .map(|line| line.as_str().map_or_else(|| line.to_string(), str::to_owned));
        lines.collect::<Vec<_>>().join("\n")
    }
}
