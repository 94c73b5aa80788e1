//! What a command asks of the running gateway, at its admin address.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::{ConfigFile, Failure, say};
use crate::{clock, config::Secret, simulate, telemetry::one_line};

/// How long the gateway may take to answer: a reload waits for attempts under way.
const PATIENCE: Duration = Duration::from_secs(120);
/// Before a gateway that is busy is asked again.
const BUSY_PAUSES_MS: [u64; 4] = [100, 300, 900, 2700];
/// Bytes that are told of an answer that is no gateway's.
const TOLD_BYTES: usize = 200;

/// Where the running gateway is.
#[derive(Debug, clap::Args)]
pub(super) struct Running {
    /// The gateway's admin address, where it is not the one of the configuration.
    #[arg(long, value_name = "URL")]
    admin: Option<reqwest::Url>,
}

impl Running {
    /// Whether the command line says where it is.
    pub(super) fn is_named(&self) -> bool {
        self.admin.is_some()
    }

    /// Posts a wish and says what came of it.
    pub(super) async fn ask(&self, file: &ConfigFile, path: &str) -> Result<(), Failure> {
        let text = self.reach(file)?.post(path).await?;
        say(text.trim());
        Ok(())
    }

    /// The way to the gateway, for one who has much to ask.
    pub(super) fn reach(&self, file: &ConfigFile) -> Result<Reached, Failure> {
        let reached = self.reach_if_on(file)?;
        reached.ok_or_else(|| {
            anyhow::anyhow!("admin.listen is off, so a running gateway cannot be asked; turn it on").into()
        })
    }

    /// The same for one who can do without: `None` when `admin.listen` is off.
    pub(super) fn reach_if_on(&self, file: &ConfigFile) -> Result<Option<Reached>, Failure> {
        let admin = file.admin()?;
        let base = match (&self.admin, admin.listen) {
            (Some(url), _) => url.clone(),
            (None, Some(address)) => format!("http://{address}/").parse()?,
            (None, None) => return Ok(None),
        };
        Ok(Some(Reached {
            client: simulate::client(PATIENCE)?,
            base,
            token: admin.token,
        }))
    }
}

/// What came of asking the gateway to read its configuration again.
pub(super) enum Reload {
    /// In its own words.
    Done(String),
    /// It goes on as before, and says why.
    Refused(String),
    /// It goes on as before: it does not take wishes from here.
    Unauthorized(String),
    /// Nobody listens there.
    NoGateway(reqwest::Url),
}

/// What came of one wish among many.
pub(super) enum Answer {
    Done(Value),
    /// This one cannot be fulfilled, and why. Others may be.
    NotThisOne(String),
}

/// A running gateway that can be asked.
pub(super) struct Reached {
    client: reqwest::Client,
    base: reqwest::Url,
    token: Option<Secret>,
}

impl Reached {
    /// The answer, where the gateway did what it was asked.
    pub(super) async fn post(&self, path: &str) -> anyhow::Result<String> {
        done(self.ask(Method::POST, path).await?)
    }

    /// # Errors
    ///
    /// When nobody answers.
    pub(super) async fn probe(&self) -> anyhow::Result<()> {
        self.ask(Method::GET, "healthz").await.map(drop)
    }

    /// For one who has something to put back when the gateway refuses. Another error says that it is not known whether it did.
    pub(super) async fn reload(&self) -> anyhow::Result<Reload> {
        match self.ask(Method::POST, "reload").await {
            Ok((status, text)) => {
                let text = text.trim().to_owned();
                match status {
                    // Its own word, and no proxy's before it.
                    StatusCode::UNPROCESSABLE_ENTITY => Ok(Reload::Refused(text)),
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(Reload::Unauthorized(text)),
                    status if status.is_success() => Ok(Reload::Done(text)),
                    status => anyhow::bail!("it answered {status}: {}", one_line(&text, TOLD_BYTES)),
                }
            }
            Err(error) => match error.downcast_ref::<reqwest::Error>() {
                Some(failed) if failed.is_connect() => Ok(Reload::NoGateway(self.base.clone())),
                _ => Err(error),
            },
        }
    }

    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let url = self.base.join(path)?;
        let mut request = self.client.request(method, url.clone());
        if let Some(token) = &self.token {
            request = request.bearer_auth(String::from_utf8_lossy(token.expose()));
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("failed to reach the gateway at {url}; is it running?"))?;
        let status = answer.status();
        let text = answer.text().await.context("failed to read the answer")?;
        Ok((status, text))
    }

    /// One wish among many: what is in the way of this one alone is no failure, and a gateway that is busy is asked again.
    pub(super) async fn post_one(&self, path: &str) -> anyhow::Result<Answer> {
        let mut pauses = BUSY_PAUSES_MS.into_iter().map(Duration::from_millis);
        loop {
            let (status, text) = self.ask(Method::POST, path).await?;
            if status == StatusCode::SERVICE_UNAVAILABLE
                && let Some(pause) = pauses.next()
            {
                clock::sleep(pause).await;
                continue;
            }
            return match status {
                StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE => {
                    Ok(Answer::NotThisOne(text.trim().to_owned()))
                }
                _ => parse(&done((status, text))?).map(Answer::Done),
            };
        }
    }

    /// The same, for an answer that is JSON.
    pub(super) async fn post_json(&self, path: &str) -> anyhow::Result<Value> {
        parse(&self.post(path).await?)
    }

    /// What the gateway tells, as JSON.
    pub(super) async fn get_json(&self, path: &str) -> anyhow::Result<Value> {
        parse(&done(self.ask(Method::GET, path).await?)?)
    }
}

fn done((status, text): (StatusCode, String)) -> anyhow::Result<String> {
    anyhow::ensure!(status.is_success(), "{}", text.trim());
    Ok(text)
}

fn parse(text: &str) -> anyhow::Result<Value> {
    serde_json::from_str(text).context("the gateway's answer is not JSON; is it another version?")
}
