//! One webhook through a plugin: a fresh instance, `verify`, the host's own judgement, `normalize`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Engine, Store, Trap};

use super::{
    Assurance, Conditions, Fault, Grant, MappedEvent, Plugins, Proof, Rejection, RejectionKind, Request, Verdict,
    builtin, host,
    host::CallState,
    limits::{Bounds, DETAIL_BYTES, SlowLane, Ticker, WORD_BYTES},
    load, v1,
};
use crate::{
    config::{self, Problem},
    telemetry::one_line,
};

/// The engine, its ticker and the places for calls.
#[derive(Debug)]
pub struct Runtime {
    engine: Engine,
    pub(super) ticker: Ticker,
    bounds: Bounds,
    limits: config::Limits,
    places: Arc<Semaphore>,
}

impl Runtime {
    /// # Errors
    ///
    /// [`load::Error::Engine`] when the pool cannot be reserved.
    pub fn new(limits: &config::Limits) -> Result<Self, load::Error> {
        let engine = load::engine(limits)?;
        let ticker = Ticker::start(&engine).map_err(|error| load::Error::Engine(error.to_string()))?;
        Ok(Self {
            engine,
            ticker,
            bounds: Bounds::new(limits),
            limits: limits.clone(),
            places: Arc::new(Semaphore::new(limits.plugins_in_flight)),
        })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn limits(&self) -> &config::Limits {
        &self.limits
    }

    /// The places one plugin may hold at once: not all of them, so that a slow one leaves room for the others.
    pub(super) fn share(&self) -> Arc<Semaphore> {
        let all = self.limits.plugins_in_flight;
        Arc::new(Semaphore::new((all - (all / 4).max(1)).max(1)))
    }

    /// Loads the built-in plugins and those of the configuration: the ones that can be, and a problem of the
    /// configuration for each that cannot.
    pub async fn load(&self, plugins: &[config::Plugin]) -> (Plugins, Vec<Problem>) {
        let mut loaded = Plugins::new();
        let mut problems = Vec::new();
        for (name, wasm) in builtin::PLUGINS {
            match load::compile(self, name, wasm).await {
                Ok(plugin) => drop(loaded.insert((*name).to_owned(), Arc::new(plugin))),
                Err(error) => problems.push(Problem::new(
                    0,
                    format!("plugin[{name}]"),
                    format!("the built-in plugin does not load: {error}"),
                    "this build is damaged; install it again",
                )),
            }
        }
        for plugin in plugins {
            if builtin::PLUGINS.iter().any(|(name, _)| *name == plugin.name) {
                problems.push(Problem::new(
                    plugin.line,
                    format!("plugin[{}].name", plugin.name),
                    "is the name of a built-in plugin",
                    "choose another, and name it as the provider of its routes",
                ));
                continue;
            }
            let result = match load::read_file(&plugin.path, self.limits.plugin_file_bytes) {
                Ok(wasm) => load::compile(self, &plugin.name, &wasm).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(compiled) => drop(loaded.insert(plugin.name.clone(), Arc::new(compiled))),
                Err(error) => problems.push(Problem::new(
                    plugin.line,
                    format!("plugin[{}].path", plugin.name),
                    format!(
                        "{} is not a plugin this gateway can run: {error}",
                        plugin.path.display()
                    ),
                    "point it at a component built against callfeed:provider@1",
                )),
            }
        }
        (loaded, problems)
    }

    /// Asks a plugin to describe itself, under the same bounds as a webhook.
    pub(super) async fn describe(
        &self,
        pre: &v1::ProviderPre<CallState>,
        conditions: Conditions,
    ) -> Result<v1::guest::Descriptor, String> {
        let _running = self.ticker.run();
        // There is no webhook whose time it could be.
        let now_ms = conditions.noise;
        let state = CallState::new(None, Bytes::new(), now_ms, &self.bounds, &SlowLane::new()).on_trial(conditions);
        let mut store = load::bounded_store(&self.engine, state, self.bounds.hostcall_fuel());
        let stopped = |error| self.stopped(error);
        let instance = pre.instantiate_async(&mut store).await.map_err(stopped)?;
        instance
            .callfeed_provider_plugin()
            .call_describe(&mut store)
            .await
            .map_err(stopped)
    }

    /// Runs one webhook through the plugin of its route.
    pub async fn call(&self, grant: &Arc<Grant>, request: Request) -> Verdict {
        let Some(_places) = self.admit(grant).await else {
            return Verdict::Busy;
        };
        let _running = self.ticker.run();
        match self.begin(grant, request).await {
            Ok(mut call) => call.run(self, grant).await,
            Err(what) => Verdict::Failed(Fault::Stopped(what)),
        }
    }

    /// Maps a webhook from the record once more, as `form` and with what was signed, where that is on record. It was found
    /// authentic when it came.
    ///
    /// Where verification itself was what failed, nothing is on record, and it has to succeed now. Only a token cannot be
    /// shown again: the record has no secrets.
    pub async fn map_again(
        &self,
        grant: &Arc<Grant>,
        request: Request,
        form: &str,
        payload: Option<String>,
    ) -> Verdict {
        let Some(_places) = self.admit(grant).await else {
            return Verdict::Busy;
        };
        let _running = self.ticker.run();
        let mut proof = Proof {
            assurance: None,
            form: form.to_owned(),
            payload,
        };
        let is_on_record = !proof.form.is_empty() || proof.payload.is_some();
        if !is_on_record && grant.plugin.descriptor.assurance > Assurance::Token && !grant.allow_unsigned {
            let mut call = match self.begin(grant, request.clone()).await {
                Ok(call) => call,
                Err(what) => return Verdict::Failed(Fault::Stopped(what)),
            };
            proof = match call.verify(self, grant).await {
                Ok(proof) => proof,
                Err(verdict) => return *verdict,
            };
        }
        match self.begin(grant, request).await {
            Ok(mut call) => call.normalize(self, grant, proof).await,
            Err(what) => Verdict::Quarantine {
                proof,
                fault: Fault::Stopped(what),
            },
        }
    }

    /// A fresh instance for one webhook.
    async fn begin(&self, grant: &Arc<Grant>, request: Request) -> Result<Call, String> {
        let state = self.state(grant, &request);
        self.instantiate(grant, request, state).await
    }

    pub(super) fn state(&self, grant: &Arc<Grant>, request: &Request) -> CallState {
        CallState::new(
            Some(Arc::clone(grant)),
            request.body.clone(),
            request.received_at_ms,
            &self.bounds,
            &grant.plugin.lane,
        )
    }

    pub(super) async fn instantiate(&self, grant: &Grant, request: Request, state: CallState) -> Result<Call, String> {
        let mut store = load::bounded_store(&self.engine, state, self.bounds.hostcall_fuel());
        let instance = grant.plugin.pre.instantiate_async(&mut store).await;
        Ok(Call {
            instance: instance.map_err(|error| self.stopped(error))?,
            store,
            request: v1::types::Request::from(request),
        })
    }

    /// Waits for a place, within `limits.plugin_wait`.
    async fn admit(&self, grant: &Grant) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let share = &grant.plugin.share;
        if let (Ok(own), Ok(place)) = (
            Arc::clone(share).try_acquire_owned(),
            Arc::clone(&self.places).try_acquire_owned(),
        ) {
            return Some((own, place));
        }
        let both = async {
            let own = Arc::clone(share).acquire_owned().await.ok()?;
            let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
            Some((own, place))
        };
        tokio::time::timeout(self.limits.plugin_wait, both).await.ok().flatten()
    }

    /// Holds what `normalize` concluded to the bounds.
    fn conclude(&self, grant: &Grant, proof: Proof, outcome: v1::guest::Outcome) -> Verdict {
        let broken = |proof, what: String| Verdict::Quarantine {
            proof,
            fault: Fault::Stopped(what),
        };
        match outcome {
            v1::guest::Outcome::Accepted(accepted) => {
                let count = accepted.events.len();
                if count == 0 || count > self.bounds.events {
                    return broken(
                        proof,
                        format!("it returned {count} events; 1 to {} are allowed", self.bounds.events),
                    );
                }
                let bytes: usize = accepted
                    .events
                    .iter()
                    .map(|e| e.data.len() + e.id.len() + e.subject.len() + e.kind.len())
                    .sum();
                if bytes > self.bounds.output_bytes {
                    let max = self.bounds.output_bytes;
                    return broken(
                        proof,
                        format!("its events of {bytes} bytes are over limits.plugin_output ({max})"),
                    );
                }
                let reply = match accepted.ack.map(v1::reply).transpose() {
                    Ok(reply) => reply,
                    Err(what) => return broken(proof, what),
                };
                Verdict::Accepted {
                    proof,
                    events: accepted.events.into_iter().map(MappedEvent::from).collect(),
                    reply,
                }
            }
            v1::guest::Outcome::Ignored(reason) => Verdict::Ignored {
                proof,
                reason: grant.told(&reason, WORD_BYTES),
            },
            v1::guest::Outcome::Respond(response) => match v1::reply(response) {
                Ok(reply) => Verdict::Respond(reply),
                Err(what) => broken(proof, what),
            },
            v1::guest::Outcome::Reject(rejection) => Verdict::Quarantine {
                proof,
                fault: Fault::Rejected(rejected(grant, rejection)),
            },
        }
    }

    /// Says why a plugin stopped, in the operator's words.
    fn stopped(&self, error: wasmtime::Error) -> String {
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => {
                format!(
                    "it ran longer than limits.plugin_time ({:?})",
                    Duration::from_millis(self.bounds.ticks.into())
                )
            }
            Some(Trap::StackOverflow) => "it used up its stack".into(),
            // Languages keep a second stack at the start of a plugin's memory.
            Some(Trap::MemoryOutOfBounds) => "it left its memory, most likely by using up its stack".into(),
            Some(Trap::UnreachableCodeReached) => "it aborted; its log above says why if it said so".into(),
            _ => one_line(&error.root_cause().to_string(), DETAIL_BYTES),
        }
    }
}

/// One webhook inside its plugin.
pub(super) struct Call {
    pub(super) store: Store<CallState>,
    instance: v1::Provider,
    request: v1::types::Request,
}

impl Call {
    async fn run(&mut self, runtime: &Runtime, grant: &Grant) -> Verdict {
        match self.verify(runtime, grant).await {
            Ok(proof) => self.normalize(runtime, grant, proof).await,
            Err(verdict) => *verdict,
        }
    }

    pub(super) async fn verify(&mut self, runtime: &Runtime, grant: &Grant) -> Result<Proof, Box<Verdict>> {
        let guest = self.instance.callfeed_provider_plugin();
        let verdict = guest
            .call_verify(&mut self.store, &self.request)
            .await
            .map_err(|error| runtime.stopped(error));
        let proof = judge(verdict, self.store.data(), grant)?;
        let max = runtime.bounds.output_bytes;
        if let Some(bytes) = proof.payload().map(str::len).filter(|bytes| *bytes > max) {
            let what = format!("its payload of {bytes} bytes is over limits.plugin_output ({max})");
            return Err(Box::new(Verdict::Quarantine {
                proof: Proof { payload: None, ..proof },
                fault: Fault::Stopped(what),
            }));
        }
        Ok(proof)
    }

    pub(super) async fn normalize(&mut self, runtime: &Runtime, grant: &Grant, proof: Proof) -> Verdict {
        self.store.data_mut().phase = host::Phase::Normalize;
        if proof.assurance == Some(Assurance::Token) {
            self.forget_token(grant);
        }
        let guest = self.instance.callfeed_provider_plugin();
        let outcome = guest
            .call_normalize(&mut self.store, &self.request, proof.payload())
            .await;
        if let Some(what) = self.store.data_mut().misconfigured.take() {
            return Verdict::Misconfigured(what);
        }
        match outcome {
            Err(error) => Verdict::Quarantine {
                proof,
                fault: Fault::Stopped(runtime.stopped(error)),
            },
            Ok(outcome) => runtime.conclude(grant, proof, outcome),
        }
    }

    /// Strikes the token that proved a webhook out of it: what is made of the webhook can then have none, and mapping it
    /// again from the record, which has none, gives the same.
    fn forget_token(&mut self, grant: &Grant) {
        let request = &mut self.request;
        let fields = [&mut request.query, &mut request.headers].into_iter().flatten();
        for text in fields.map(|field| &mut field.value).chain(&mut request.urls) {
            *text = grant.redact(text).into_owned();
        }
        if let Some(body) = grant.redact_body(&self.store.data().body) {
            request.body = v1::body(&body);
            if !request.form.is_empty() {
                request.form = v1::fields(form_urlencoded::parse(&body).into_owned());
            }
            self.store.data_mut().body = body;
        }
    }
}

/// The host's own judgement of what `verify` concluded: it believes what it saw, not what it is told.
fn judge(verdict: Result<v1::guest::Verdict, String>, state: &CallState, grant: &Grant) -> Result<Proof, Box<Verdict>> {
    let wanted = grant.plugin.descriptor.assurance;
    let proven = state.evidence.filter(|evidence| *evidence >= wanted);
    if let Some(what) = &state.misconfigured {
        return Err(Box::new(Verdict::Misconfigured(what.clone())));
    }
    match verdict {
        Ok(v1::guest::Verdict::Authentic(claim)) => {
            if proven.is_none() && !grant.allow_unsigned {
                return Err(Box::new(Verdict::Rejected(Rejection {
                    kind: RejectionKind::Unauthenticated,
                    code: "not-proven".into(),
                    detail: format!("nothing of strength {} was verified for it", wanted.as_str()),
                })));
            }
            let form = grant.told(&claim.form, WORD_BYTES);
            let payload = match state.evidence {
                Some(Assurance::Token) => claim.payload.map(|payload| grant.redact(&payload).into_owned()),
                _ => claim.payload,
            };
            Ok(Proof {
                assurance: state.evidence,
                form,
                payload,
            })
        }
        Ok(v1::guest::Verdict::Respond(response)) => Err(Box::new(match v1::reply(response) {
            Ok(reply) => Verdict::Respond(reply),
            Err(what) => broken(proven, what),
        })),
        Ok(v1::guest::Verdict::Reject(rejection)) => {
            let rejection = rejected(grant, rejection);
            Err(Box::new(match (proven, rejection.kind) {
                // The provider did send it, whatever the plugin thinks of what it says: it must not be lost.
                (Some(assurance), RejectionKind::Malformed | RejectionKind::Unsupported) => Verdict::Quarantine {
                    proof: Proof::bare(assurance),
                    fault: Fault::Rejected(rejection),
                },
                _ => Verdict::Rejected(rejection),
            }))
        }
        Err(what) => Err(Box::new(broken(proven, what))),
    }
}

/// `verify` failed. When the proof was seen before that, the webhook is authentic and must not be lost.
fn broken(proven: Option<Assurance>, what: String) -> Verdict {
    let fault = Fault::Stopped(what);
    match proven {
        Some(assurance) => Verdict::Quarantine {
            proof: Proof::bare(assurance),
            fault,
        },
        None => Verdict::Failed(fault),
    }
}

/// A plugin's refusal in words that fit a log.
fn rejected(grant: &Grant, rejection: v1::types::Rejection) -> Rejection {
    let Rejection { kind, code, detail } = rejection.into();
    Rejection {
        kind,
        code: grant.told(&code, WORD_BYTES),
        detail: grant.told(&detail, DETAIL_BYTES),
    }
}
