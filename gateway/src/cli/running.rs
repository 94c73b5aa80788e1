//! What a command asks of the running gateway, at its admin address.

use std::time::Duration;

use anyhow::Context as _;

use super::{ConfigFile, Failure, say};
use crate::simulate;

/// How long the gateway may take to answer: a reload waits for attempts under way.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the running gateway is.
#[derive(Debug, clap::Args)]
pub(super) struct Running {
    /// The gateway's admin address, where it is not the one of the configuration.
    #[arg(long, value_name = "URL")]
    admin: Option<reqwest::Url>,
}

impl Running {
    /// Posts a wish and says what came of it.
    pub(super) async fn ask(&self, file: &ConfigFile, path: &str) -> Result<(), Failure> {
        let admin = file.admin()?;
        let url = match (&self.admin, admin.listen) {
            (Some(url), _) => url.join(path)?,
            (None, Some(address)) => format!("http://{address}/{path}").parse()?,
            (None, None) => {
                return Err(
                    anyhow::anyhow!("admin.listen is off, so a running gateway cannot be asked; turn it on").into(),
                );
            }
        };
        let mut request = simulate::client(PATIENCE)?.post(url.clone());
        if let Some(token) = &admin.token {
            request = request.bearer_auth(String::from_utf8_lossy(token.expose()));
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("failed to reach the gateway at {url}; is it running?"))?;
        let status = answer.status();
        let text = answer.text().await.context("failed to read the answer")?;
        if !status.is_success() {
            return Err(anyhow::anyhow!("{}", text.trim()).into());
        }
        say(text.trim());
        Ok(())
    }
}
