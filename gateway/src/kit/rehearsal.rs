//! Before it serves, a plugin is run with the cases that its own file carries. Short: a start or a reload waits for it. What
//! this machine is busy with does not decide it: a case may take as long as a trial does, and all of them together are
//! bounded by the time of the processor.

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::Value;

use super::{Case, Files, Stand, answer::places, files::EMBEDDED_CASES_MAX};
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
    #[error(
        "takes more than {0:?} of processor time for its own cases together; embed fewer with `callfeed plugin pack`"
    )]
    Long(Duration),
}

/// How a plugin came through its cases.
#[derive(Debug, Default)]
pub struct Rehearsed {
    /// How many there are.
    pub cases: usize,
    time: Duration,
    /// How many took longer than a webhook may, and which the longest.
    slow: usize,
    slowest: Option<(String, Duration)>,
}

impl Rehearsed {
    /// One more case came out as it should. Together they may take what as many webhooks as a file can carry may.
    fn count(&mut self, case: &Case, took: Duration, may_take: Duration) -> Result<(), Unfit> {
        self.cases += 1;
        self.time += took;
        if took > may_take {
            self.slow += 1;
            if self.slowest.as_ref().is_none_or(|(_, longest)| took > *longest) {
                self.slowest = Some((one_line(&case.name, VALUE_BYTES), took));
            }
        }
        let may_take_together = may_take * EMBEDDED_CASES_MAX as u32;
        match self.time > may_take_together {
            true => Err(Unfit::Long(may_take_together)),
            false => Ok(()),
        }
    }

    /// What is worth a word: a case that takes longer than a webhook may. On a machine that is busy, any may.
    pub fn slow(&self) -> Option<String> {
        let (case, took) = self.slowest.as_ref()?;
        Some(format!(
            "took longer than limits.plugin_time for {} of its own {} cases, {:.1} ms of processor time for {case:?}",
            self.slow,
            self.cases,
            took.as_secs_f64() * 1e3
        ))
    }
}

/// Runs the cases that the file of a plugin carries, up to the first that does not come out as it should.
///
/// # Errors
///
/// That case, cases that cannot be read, and cases that take too long together.
pub async fn rehearse(stand: &Stand, plugin: &Arc<Plugin>, file: &Path) -> Result<Rehearsed, Unfit> {
    let mut rehearsed = Rehearsed::default();
    let Some(section) = &plugin.cases else {
        return Ok(rehearsed);
    };
    let cases = Files::embedded(section, file).and_then(|files| Case::all_in(&files, &plugin.descriptor.provider));
    let cases = cases.map_err(|error| Unfit::Unreadable(one_line(&error.to_string(), TOLD_BYTES)))?;
    for case in &cases {
        let took = try_case(stand, plugin, case).await.map_err(|what| Unfit::Case {
            case: one_line(&case.name, VALUE_BYTES),
            what: one_line(&what, TOLD_BYTES),
        })?;
        rehearsed.count(case, took, stand.runtime.limits().plugin_time)?;
    }
    Ok(rehearsed)
}

async fn try_case(stand: &Stand, plugin: &Arc<Plugin>, case: &Case) -> Result<Duration, String> {
    let grant = case
        .grant(plugin)
        .map_err(|problems| format!("its route does not fit: {problems}"))?;
    let request = case.request(&grant)?;
    let expected = case
        .expected
        .as_ref()
        .ok_or("it has no expected.json; `callfeed plugin test` writes it with --bless")?;
    let (answer, usage) = stand.try_out(&grant, request, Conditions::default()).await;
    let mut answered = answer.json();
    leave_mentioned(expected, &mut answered);
    let verdict = expected["verdict"].as_str();
    match verdict {
        Some(_) if *expected == answered => Ok(usage.total()),
        Some(verdict) if answered["verdict"] == verdict => {
            Err(places(expected, &answered, &|value| grant.told(value, VALUE_BYTES)))
        }
        _ => Err(format!(
            "{} instead of {}",
            grant.told(&answer.to_string(), TOLD_BYTES / 2),
            one_line(verdict.unwrap_or("what an expected.json can say"), VALUE_BYTES)
        )),
    }
}

/// Leaves of an answer what an expectation mentions, as the contract promises: a file outlives the gateway it was made with,
/// and a later one may have more to say. `data` is the plugin's alone, and stays whole.
fn leave_mentioned(expected: &Value, answered: &mut Value) {
    match (expected, answered) {
        (Value::Object(expected), Value::Object(answered)) => {
            answered.retain(|name, _| expected.contains_key(name));
            for (name, value) in answered.iter_mut().filter(|(name, _)| *name != "data") {
                leave_mentioned(&expected[name], value);
            }
        }
        (Value::Array(expected), Value::Array(answered)) => {
            for (expected, answered) in expected.iter().zip(answered) {
                leave_mentioned(expected, answered);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_later_gateway_adds_is_not_compared() {
        let expected = json!({ "verdict": "accepted", "events": [{ "kind": "a", "data": { "x": 1 } }] });
        let answered = json!({
            "verdict": "accepted", "later": 1, "events": [{ "kind": "a", "later": 1, "data": { "x": 1 } }],
        });
        let left = |mut answered| {
            leave_mentioned(&expected, &mut answered);
            answered
        };
        assert_eq!(left(answered.clone()), expected);
        for (place, value) in [
            ("/events/0/data", json!({ "x": 1, "more": 1 })),
            ("/events/0/kind", json!("b")),
            ("/events", json!([])),
            ("/events", json!([answered["events"][0], {}])),
        ] {
            let mut changed = answered.clone();
            *changed.pointer_mut(place).unwrap() = value;
            assert_ne!(left(changed), expected, "{place}");
        }
    }

    #[test]
    fn cases_are_bounded_together_and_a_slow_one_is_told() {
        let text = br#"{"one/request.http":"UE9TVCAvaG9va3MvYSBIVFRQLzEuMQoK"}"#;
        let cases = Case::all_in(&Files::embedded(text, Path::new("a.wasm")).unwrap(), "a").unwrap();
        let ms = Duration::from_millis;
        let mut rehearsed = Rehearsed::default();
        rehearsed.count(&cases[0], ms(50), ms(50)).unwrap();
        assert_eq!(rehearsed.slow(), None);
        rehearsed.count(&cases[0], ms(71), ms(50)).unwrap();
        rehearsed.count(&cases[0], ms(60), ms(50)).unwrap();
        assert_eq!(
            rehearsed.slow().unwrap(),
            "took longer than limits.plugin_time for 2 of its own 3 cases, 71.0 ms of processor time for \"one\""
        );
        let over = rehearsed.count(&cases[0], ms(50 * 256), ms(50)).unwrap_err();
        assert!(
            over.to_string().starts_with("takes more than 12.8s of processor time"),
            "{over}"
        );
    }
}
