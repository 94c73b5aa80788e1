//! Before it serves, a plugin is run with the cases that its own file carries. Short: a start or a reload waits for it.

use std::{path::Path, sync::Arc};

use super::{Answer, Case, Files, Stand, answer::places, case};
use crate::{
    plugin::{Conditions, Plugin},
    telemetry::one_line,
};

/// Bytes that are told of a failure, and of one value in it.
const TOLD_BYTES: usize = 1 << 10;
const VALUE_BYTES: usize = 120;

/// Why a plugin does not serve, by its own cases. One line each, without the secrets of the case.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("has cases of its own that cannot be read: {0}")]
    Unreadable(String),
    #[error("fails its own case {case:?}: {what}")]
    Case { case: String, what: String },
}

/// Runs the cases that the file of a plugin carries, under the bounds of a webhook, up to the first that does not come out
/// as it should, and says how many there are.
///
/// # Errors
///
/// That case, and cases that cannot be read.
pub async fn rehearse(stand: &Stand, plugin: &Arc<Plugin>, file: &Path) -> Result<usize, Unfit> {
    let Some(section) = &plugin.cases else {
        return Ok(0);
    };
    let cases = Files::embedded(section, file).and_then(|files| files.cases(&plugin.descriptor.provider));
    let cases = cases.map_err(|error: case::Error| Unfit::Unreadable(one_line(&error.to_string(), TOLD_BYTES)))?;
    for case in &cases {
        try_case(stand, plugin, case).await.map_err(|what| Unfit::Case {
            case: one_line(&case.name, VALUE_BYTES),
            what: one_line(&what, TOLD_BYTES),
        })?;
    }
    Ok(cases.len())
}

async fn try_case(stand: &Stand, plugin: &Arc<Plugin>, case: &Case) -> Result<(), String> {
    let grant = case
        .grant(plugin)
        .map_err(|problems| format!("its route does not fit: {problems}"))?;
    let request = case.request(&grant)?;
    let expected = case
        .expected
        .as_ref()
        .ok_or("it has no expected.json; `callfeed plugin test` writes it with --bless")?;
    let body_bytes = request.body.len();
    let (answer, usage) = stand.try_fairly(&grant, request, Conditions::default()).await;
    if usage.is_over && !matches!(answer, Answer::Stopped { .. }) {
        return Err(stand.over_time(body_bytes, usage));
    }
    let answered = answer.json();
    if *expected == answered {
        return Ok(());
    }
    Err(match expected["verdict"].as_str() {
        Some(verdict) if answered["verdict"] == verdict => {
            places(expected, &answered, &|value| grant.told(value, VALUE_BYTES))
        }
        verdict => format!(
            "{} instead of {}",
            grant.told(&answer.to_string(), TOLD_BYTES / 2),
            one_line(verdict.unwrap_or("what an expected.json can say"), VALUE_BYTES)
        ),
    })
}
