//! Whether a plugin is right: every check, by name, with the first example of where it fails.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    Accepted, Answer, Case, Stand,
    case::{self, written},
};
use crate::{
    event::RawWebhook,
    plugin::{self, Assurance, Conditions, Grant, Plugin, Request},
};

mod claims;
mod forgery;
mod mapping;
mod repetition;
mod secrets;

/// Failures of a check that are told; the others are counted.
const FAILURES_TOLD: usize = 5;

/// Something that must hold of a plugin. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    Loads,
    Imports,
    Describe,
    Cases,
    EveryEvent,
    BodyForgery,
    HeaderForgery,
    UrlForgery,
    Secrets,
    Headers,
    SameOutput,
    SameId,
    NothingLost,
    NoSecrets,
    ValidEvents,
    OddBodies,
    Bounds,
}

impl Check {
    pub const ALL: [Self; 17] = [
        Self::Loads,
        Self::Imports,
        Self::Describe,
        Self::Cases,
        Self::EveryEvent,
        Self::BodyForgery,
        Self::HeaderForgery,
        Self::UrlForgery,
        Self::Secrets,
        Self::Headers,
        Self::SameOutput,
        Self::SameId,
        Self::NothingLost,
        Self::NoSecrets,
        Self::ValidEvents,
        Self::OddBodies,
        Self::Bounds,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Loads => "loads",
            Self::Imports => "imports",
            Self::Describe => "describe",
            Self::Cases => "cases",
            Self::EveryEvent => "every-event",
            Self::BodyForgery => "body-forgery",
            Self::HeaderForgery => "header-forgery",
            Self::UrlForgery => "url-forgery",
            Self::Secrets => "secrets",
            Self::Headers => "headers",
            Self::SameOutput => "same-output",
            Self::SameId => "same-id",
            Self::NothingLost => "nothing-lost",
            Self::NoSecrets => "no-secrets",
            Self::ValidEvents => "valid-events",
            Self::OddBodies => "odd-bodies",
            Self::Bounds => "bounds",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|check| check.name() == name)
    }

    /// What must hold.
    pub fn about(self) -> &'static str {
        match self {
            Self::Loads => "it is a component of the contract that this gateway serves, and its description keeps it",
            Self::Imports => "it imports nothing beyond the contract",
            Self::Describe => "it describes itself the same way every time",
            Self::Cases => "every case becomes what its expected.json says",
            Self::EveryEvent => "every event it declares is in a case",
            Self::BodyForgery => "no byte of a signed body can be changed unnoticed",
            Self::HeaderForgery => "no byte of a signature, a token or a signed header can be changed unnoticed",
            Self::UrlForgery => "no part of the URL that matters can be changed unnoticed",
            Self::Secrets => {
                "every value of a secret works during a rotation; another, an empty or a missing one never does"
            }
            Self::Headers => "it declares the headers it reads, and those alone",
            Self::SameOutput => "the same webhook becomes the same events, whatever clocks and chance say",
            Self::SameId => "the same event again has the same id, and another event another",
            Self::NothingLost => "every scalar of a body is found in its events",
            Self::NoSecrets => "no event and no answer repeats a secret",
            Self::ValidEvents => "every event is valid under the schema, also those of odd bodies",
            Self::OddBodies => "no body, however odd, stops it",
            Self::Bounds => "time and memory stay within bounds, also with the largest bodies",
        }
    }
}

/// What to examine, and how thoroughly.
#[derive(Debug, Clone)]
pub struct Options {
    /// Empty means all.
    pub only: Vec<Check>,
    /// What chance in the checks is made of.
    pub seed: u64,
    /// How many odd bodies are tried.
    pub mutations: usize,
    /// How many bytes of each body and header are changed; of longer ones as many, evenly spread.
    pub bytes: usize,
    /// The largest body tried.
    pub body_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            only: Vec::new(),
            seed: 1,
            mutations: 5_000,
            bytes: 2_048,
            // Many times what a call says, and less than a gateway's plugin_output by what several events may add.
            body_bytes_max: 256 << 10,
        }
    }
}

impl Options {
    fn wants(&self, checks: &[Check]) -> bool {
        self.only.is_empty() || self.only.iter().any(|check| checks.contains(check))
    }
}

/// How far a check has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub check: Check,
    pub done: usize,
    pub of: usize,
}

/// What was found about a plugin.
#[derive(Debug)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// How often the plugin was called, and the most that a call took, in processor time and memory.
    pub calls: u64,
    pub time_max: Duration,
    pub memory_bytes_max: usize,
}

#[derive(Debug)]
pub struct Finding {
    pub check: Check,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub enum Outcome {
    /// With what was tried.
    Passed(String),
    /// The first failures, and how many there are.
    Failed { failures: Vec<Failure>, count: usize },
    /// With the reason.
    NotApplicable(String),
}

#[derive(Debug)]
pub struct Failure {
    pub what: String,
    /// The webhook that shows it, as a `request.http`.
    pub request: Option<Vec<u8>>,
}

impl Report {
    /// Of a file that does not load.
    pub fn refused(error: &plugin::Error) -> Self {
        let failed = match error {
            plugin::Error::ForeignImport(_) => Check::Imports,
            _ => Check::Loads,
        };
        let findings = Check::ALL.into_iter().map(|check| Finding {
            check,
            outcome: match check == failed {
                true => Outcome::Failed {
                    failures: vec![Failure {
                        what: error.to_string(),
                        request: None,
                    }],
                    count: 1,
                },
                false => Outcome::NotApplicable("it does not load".to_owned()),
            },
        });
        Self {
            findings: findings.collect(),
            calls: 0,
            time_max: Duration::ZERO,
            memory_bytes_max: 0,
        }
    }

    pub fn passed(&self) -> bool {
        !self
            .findings
            .iter()
            .any(|finding| matches!(finding.outcome, Outcome::Failed { .. }))
    }

    pub fn finding(&self, check: Check) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.check == check)
    }

    pub fn json(&self) -> Value {
        let checks: Vec<_> = self.findings.iter().map(Finding::json).collect();
        json!({
            "passed": self.passed(), "checks": checks, "calls": self.calls,
            "time_ms_max": self.time_max.as_secs_f64() * 1e3, "memory_bytes_max": self.memory_bytes_max,
        })
    }
}

impl Finding {
    fn json(&self) -> Value {
        let check = self.check.name();
        match &self.outcome {
            Outcome::Passed(tried) => json!({ "check": check, "outcome": "passed", "detail": tried }),
            Outcome::NotApplicable(reason) => {
                json!({ "check": check, "outcome": "not-applicable", "detail": reason })
            }
            Outcome::Failed { failures, count } => {
                let failures: Vec<_> = failures
                    .iter()
                    .map(|failure| {
                        let request = failure.request.as_ref().map(|bytes| String::from_utf8_lossy(bytes));
                        json!({ "what": failure.what, "request": request })
                    })
                    .collect();
                json!({ "check": check, "outcome": "failed", "count": count, "failures": failures })
            }
        }
    }
}

/// Examines a plugin by its cases.
pub async fn examine(
    stand: &Stand,
    plugin: &Arc<Plugin>,
    cases: &[Case],
    options: &Options,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Report {
    let mut exam = Exam {
        stand,
        plugin,
        options,
        progress,
        ledger: BTreeMap::new(),
        report: Report {
            findings: Vec::new(),
            calls: 0,
            time_max: Duration::ZERO,
            memory_bytes_max: 0,
        },
    };
    claims::loads(&mut exam);
    if options.wants(&[Check::Describe]) {
        claims::describe(&mut exam).await;
    }
    // Everything else starts from what became of the cases.
    let ready = claims::cases(&mut exam, cases).await;
    claims::every_event(&mut exam, &ready);
    if options.wants(&[Check::BodyForgery]) {
        forgery::body(&mut exam, &ready).await;
    }
    if options.wants(&[Check::HeaderForgery]) {
        forgery::headers(&mut exam, &ready).await;
    }
    if options.wants(&[Check::UrlForgery]) {
        forgery::url(&mut exam, &ready).await;
    }
    if options.wants(&[Check::Secrets]) {
        secrets::rotation(&mut exam, &ready).await;
    }
    if options.wants(&[Check::Headers]) {
        claims::headers(&mut exam, &ready).await;
    }
    if options.wants(&[Check::SameOutput]) {
        repetition::output(&mut exam, &ready).await;
    }
    if options.wants(&[Check::SameId]) {
        repetition::ids(&mut exam, &ready).await;
    }
    mapping::of_cases(&mut exam, &ready);
    if options.wants(&[Check::NothingLost, Check::ValidEvents, Check::OddBodies]) {
        mapping::of_odd_bodies(&mut exam, &ready).await;
    }
    if options.wants(&[Check::Bounds]) {
        mapping::of_large_bodies(&mut exam, &ready).await;
    }
    exam.conclude()
}

/// An examination under way.
struct Exam<'e> {
    stand: &'e Stand,
    plugin: &'e Arc<Plugin>,
    options: &'e Options,
    progress: &'e mut (dyn FnMut(Progress) + Send),
    ledger: BTreeMap<Check, Entry>,
    report: Report,
}

/// What is known of a check so far.
#[derive(Debug, Default)]
struct Entry {
    failures: Vec<Failure>,
    count: usize,
    /// What was tried; `None` while nothing was.
    tried: Option<String>,
    not_applicable: Option<String>,
}

/// A case whose route fits, and what became of it.
struct Ready<'c> {
    case: &'c Case,
    grant: Arc<Grant>,
    request: Request,
    answer: Answer,
    /// The same route without leave to be unsigned, where the webhook is authentic under it too: then something proves it.
    proven: Option<Arc<Grant>>,
}

impl Ready<'_> {
    fn accepted(&self) -> Option<&Accepted> {
        match &self.answer {
            Answer::Accepted(accepted) => Some(accepted),
            _ => None,
        }
    }
}

impl Exam<'_> {
    fn assurance(&self) -> Assurance {
        self.plugin.descriptor.assurance
    }

    fn step(&mut self, check: Check, done: usize, of: usize) {
        (self.progress)(Progress { check, done, of });
    }

    async fn run(&mut self, grant: &Arc<Grant>, request: Request, conditions: Conditions) -> Answer {
        let body_bytes = request.body.len();
        let (answer, usage) = self.stand.try_fairly(grant, request, conditions).await;
        self.note(usage);
        if usage.is_over {
            let what = match &answer {
                Answer::Stopped { what, .. } => what.clone(),
                _ => self.stand.over_time(body_bytes, usage),
            };
            self.fail(Check::Bounds, what, None);
        }
        answer
    }

    fn note(&mut self, usage: plugin::Usage) {
        self.report.calls += 1;
        self.report.time_max = self.report.time_max.max(usage.total());
        self.report.memory_bytes_max = self.report.memory_bytes_max.max(usage.memory_bytes);
    }

    /// Runs a changed webhook on the route of a case.
    async fn run_changed(
        &mut self,
        ready: &Ready<'_>,
        grant: &Arc<Grant>,
        webhook: &RawWebhook,
        conditions: Conditions,
    ) -> Option<Answer> {
        let request = ready.case.request_of(webhook, &grant.headers).ok()?;
        Some(self.run(grant, request, conditions).await)
    }

    fn fail(&mut self, check: Check, what: String, webhook: Option<&RawWebhook>) {
        let entry = self.ledger.entry(check).or_default();
        entry.count += 1;
        if entry.failures.len() < FAILURES_TOLD {
            entry.failures.push(Failure {
                what,
                request: webhook.map(written),
            });
        }
    }

    fn tried(&mut self, check: Check, what: String) {
        self.ledger.entry(check).or_default().tried = Some(what);
    }

    fn not_applicable(&mut self, check: Check, reason: impl Into<String>) {
        self.ledger.entry(check).or_default().not_applicable = Some(reason.into());
    }

    fn conclude(mut self) -> Report {
        for check in Check::ALL {
            if !self.options.wants(&[check]) {
                continue;
            }
            let entry = self.ledger.remove(&check).unwrap_or_default();
            let outcome = match (entry.count, entry.tried, entry.not_applicable) {
                (1.., ..) => Outcome::Failed {
                    failures: entry.failures,
                    count: entry.count,
                },
                (0, Some(tried), _) => Outcome::Passed(tried),
                (0, None, reason) => Outcome::NotApplicable(
                    reason.unwrap_or_else(|| "no case is right, so nothing can be shown".to_owned()),
                ),
            };
            self.report.findings.push(Finding { check, outcome });
        }
        self.report
    }
}

/// What an answer says, whatever form of signature showed that it is authentic. Empty lists and objects say nothing: a recipe that signs names and values signs neither the name of
/// a list without items nor that there is one.
fn said(answer: &Answer) -> Value {
    fn prune(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.values_mut().for_each(prune);
                members.retain(|_, value| *value != json!([]) && *value != json!({}));
            }
            Value::Array(items) => items.iter_mut().for_each(prune),
            _ => {}
        }
    }
    let mut said = answer.json();
    if let Some(members) = said.as_object_mut() {
        members.remove("form");
    }
    prune(&mut said);
    said
}

/// Evenly spread places of a length, all of them where there are no more than `count`.
fn places(length: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = length.min(count);
    (0..count).map(move |n| n * length / count)
}

fn grant_of(plugin: &Arc<Plugin>, route: &crate::config::Route) -> Result<Arc<Grant>, String> {
    case::grant(plugin, route)
}
