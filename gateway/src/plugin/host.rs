//! The host's side of a call: keyed operations with secrets the plugin never sees, and the evidence they leave.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    Assurance, Conditions, Grant,
    cryptography::{Hash, PublicKey},
    grant::{Key, KeyEncoding},
    limits::{Bounds, Clockwork, Growth, HASHED_BYTES, LOG_BYTES, LOG_LINES, SlowLane},
    v1::{
        crypto::{self, Failure, JwsRules, Part},
        environment,
    },
};
use crate::{clock, telemetry::one_line};

/// How many times its ticks a trial may take: it is judged by its processor time, and ticks pass while others work.
const TRIAL_PATIENCE: u32 = 8;

/// What a plugin says stands under this name in the log.
const PLUGIN: &str = "callfeed::plugin";

/// Which export is running; keyed operations belong to `verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// While the plugin is loaded: there is no webhook and no grant.
    Describe,
    Verify,
    Normalize,
}

/// What one call may use and what it has left behind.
pub(super) struct CallState {
    /// `None` while the plugin is being described.
    grant: Option<Arc<Grant>>,
    pub(super) body: Bytes,
    received_at_ms: u64,
    pub(super) phase: Phase,
    /// The strongest proof seen during `verify`.
    pub(super) evidence: Option<Assurance>,
    /// The secret of the last check that succeeded, and which of its live values fitted.
    fitting: Option<(String, usize)>,
    /// The operator's fault, whatever the plugin makes of it.
    pub(super) misconfigured: Option<String>,
    pub(super) growth: Growth,
    pub(super) clockwork: Clockwork,
    host_calls_left: u32,
    hashed_bytes_left: usize,
    log_lines_left: u32,
    /// Whether a webhook that nothing has proven yet has a voice in the log; asked at its first line.
    voice: Option<bool>,
    pub(super) conditions: Conditions,
    /// What keyed operations and hashes took; measured in a trial only.
    pub(super) crypto_time: Option<Duration>,
}

impl CallState {
    pub(super) fn new(
        grant: Option<Arc<Grant>>,
        body: Bytes,
        received_at_ms: u64,
        bounds: &Bounds,
        lane: &SlowLane,
    ) -> Self {
        Self {
            phase: if grant.is_some() {
                Phase::Verify
            } else {
                Phase::Describe
            },
            grant,
            body,
            received_at_ms,
            evidence: None,
            fitting: None,
            misconfigured: None,
            growth: bounds.growth(),
            clockwork: Clockwork::new(bounds.ticks, lane),
            host_calls_left: bounds.host_calls,
            hashed_bytes_left: HASHED_BYTES,
            log_lines_left: LOG_LINES,
            voice: None,
            conditions: Conditions::default(),
            crypto_time: None,
        }
    }

    /// Puts the call under conditions of a trial, and measures it.
    pub(super) fn on_trial(mut self, conditions: Conditions) -> Self {
        self.conditions = conditions;
        self.clockwork.extend(TRIAL_PATIENCE);
        self.crypto_time = Some(Duration::ZERO);
        self
    }

    /// Runs one operation of the host's, and measures it in a trial.
    fn measured<T>(&mut self, operation: impl FnOnce(&mut Self) -> T) -> T {
        let Some(before) = self.crypto_time else {
            return operation(self);
        };
        let began = clock::processor_time();
        let done = operation(self);
        self.crypto_time = Some(before + (clock::processor_time() - began));
        done
    }

    pub(super) fn received_at_ms(&self) -> u64 {
        self.received_at_ms
    }

    /// Whether the plugin may write into the log now: `Some` with the number of webhooks that might not, to be said once.
    fn voice(&mut self) -> Option<Option<u64>> {
        match (&self.grant, self.evidence, self.voice) {
            (None, ..) | (_, Some(_), _) | (.., Some(true)) => Some(None),
            (.., Some(false)) => None,
            (Some(grant), None, None) => {
                let spoken = grant.unproven.speak();
                self.voice = Some(spoken.is_some());
                spoken.map(|more| Some(more).filter(|more| *more > 0))
            }
        }
    }

    fn charge_call(&mut self) -> Result<(), Failure> {
        match self.host_calls_left.checked_sub(1) {
            Some(left) => {
                self.host_calls_left = left;
                Ok(())
            }
            None => Err(Failure::Refused(
                "more calls of the host than limits.plugin_host_calls allows".into(),
            )),
        }
    }

    fn charge_bytes(&mut self, message: &[Part], times: usize) -> Result<(), Failure> {
        let length: usize = message
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.len(),
                Part::Bytes(bytes) => bytes.len(),
                Part::Body => self.body.len(),
                Part::Secret(_) => 0,
            })
            .sum();
        self.charge(length.saturating_mul(times))
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Failure> {
        match self.hashed_bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.hashed_bytes_left = left;
                Ok(())
            }
            None => Err(Failure::Refused(format!(
                "more than {HASHED_BYTES} bytes to hash for one webhook"
            ))),
        }
    }

    /// The grant, for operations that prove something: only `verify` may use them.
    fn verifying(&mut self) -> Result<Arc<Grant>, Failure> {
        self.charge_call()?;
        match (&self.grant, self.phase) {
            (Some(grant), Phase::Verify) => Ok(Arc::clone(grant)),
            _ => Err(Failure::Refused("only verify may check signatures".into())),
        }
    }

    /// The live keys of a declared secret that is shared with the provider. A public key is no secret, and whoever takes
    /// one for it lets everybody in.
    fn shared_keys<'g>(&mut self, grant: &'g Grant, secret: &str) -> Result<&'g [Key], Failure> {
        let encoding = grant.plugin.descriptor.secret(secret).map(|spec| spec.encoding);
        if encoding == Some(KeyEncoding::Pem) {
            return Err(Failure::Refused(format!("secret {secret:?} is a public key")));
        }
        self.keys(grant, secret)
    }

    /// The live keys of a declared secret.
    fn keys<'g>(&mut self, grant: &'g Grant, secret: &str) -> Result<&'g [Key], Failure> {
        if grant.plugin.descriptor.secret(secret).is_none() {
            return Err(Failure::Refused(format!(
                "secret {secret:?} is not declared in the descriptor"
            )));
        }
        grant.keys(secret).ok_or_else(|| {
            let what = format!("route {:?} has no value for the secret {secret:?}", grant.route);
            // On a route that takes unsigned webhooks a missing secret is what the operator asked for.
            if !grant.allow_unsigned {
                self.misconfigured.get_or_insert(what.clone());
            }
            Failure::Misconfigured(what)
        })
    }

    fn proven(&mut self, proof: Assurance) {
        self.evidence = self.evidence.max(Some(proof));
    }

    fn update(&self, message: &[Part], grant: &Grant, mut sink: impl FnMut(&[u8])) -> Result<(), Failure> {
        for part in message {
            match part {
                Part::Text(text) => sink(text.as_bytes()),
                Part::Bytes(bytes) => sink(bytes),
                Part::Body => sink(&self.body),
                Part::Secret(_) => {
                    let route = &grant.route;
                    return Err(Failure::Refused(format!(
                        "route {route:?}: a secret part belongs to verify-digest"
                    )));
                }
            }
        }
        Ok(())
    }

    fn mac(&self, hash: Hash, key: &Key, message: &[Part], grant: &Grant) -> Result<Vec<u8>, Failure> {
        hash.hmac(key.bytes(), |sink| self.update(message, grant, sink))
    }

    fn mac_fits(
        &self,
        hash: Hash,
        key: &Key,
        message: &[Part],
        expected: &[u8],
        grant: &Grant,
    ) -> Result<bool, Failure> {
        // In constant time, but for a wrong length, which is no secret.
        Ok(self.mac(hash, key, message, grant)?.ct_eq(expected).into())
    }

    /// A public-key signature against every live key.
    fn signature_fits(
        &mut self,
        grant: &Grant,
        key: &str,
        kind: PublicKey,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Failure> {
        let encoding = grant.plugin.descriptor.secret(key).map(|spec| spec.encoding);
        if encoding == Some(KeyEncoding::Utf8) {
            return Err(Failure::Refused(format!(
                "secret {key:?} is text; a public key is base64, hex or pem"
            )));
        }
        let keys = self.keys(grant, key)?;
        // All of them, always: the time taken must not tell which key is live.
        let fitting = keys.iter().filter(|key| kind.fits(key.bytes(), message, signature));
        if fitting.count() > 0 || self.conditions.believing {
            Ok(())
        } else {
            Err(Failure::Mismatch)
        }
    }

    fn check_hmac(&mut self, secret: &str, hash: Hash, message: &[Part], signature: &[u8]) -> Result<(), Failure> {
        let grant = self.verifying()?;
        let keys = self.shared_keys(&grant, secret)?;
        self.charge_bytes(message, keys.len())?;
        let mut fitting = None;
        for (place, key) in keys.iter().enumerate() {
            if self.mac_fits(hash, key, message, signature, &grant)? {
                fitting = Some(place);
            }
        }
        self.judge(secret, fitting, strength(message))
    }

    fn judge(&mut self, secret: &str, fitting: Option<usize>, proof: Assurance) -> Result<(), Failure> {
        match fitting {
            Some(place) => self.fitting = Some((secret.to_owned(), place)),
            None if self.conditions.believing => {}
            None => return Err(Failure::Mismatch),
        }
        self.proven(proof);
        Ok(())
    }
}

/// What a fitting signature over these parts proves.
fn strength(message: &[Part]) -> Assurance {
    if message.iter().any(|part| matches!(part, Part::Body)) {
        Assurance::SignedBody
    } else {
        Assurance::SignedDerived
    }
}

fn hash_named(name: &str) -> Result<Hash, Failure> {
    Hash::named(name).ok_or_else(|| Failure::Refused(format!("hash {name:?} is not served")))
}

impl CallState {
    fn check_token(&mut self, secret: String, presented: Vec<u8>) -> Result<(), Failure> {
        let grant = self.verifying()?;
        let keys = self.shared_keys(&grant, &secret)?;
        self.charge(presented.len().saturating_mul(keys.len()))?;
        let mut fitting = None;
        for (place, key) in keys.iter().enumerate() {
            // Digests, so that the comparison does not depend on the length of the secret.
            if Sha256::digest(key.bytes()).ct_eq(&Sha256::digest(&presented)).into() {
                fitting = Some(place);
            }
        }
        self.judge(&secret, fitting, Assurance::Token)
    }

    fn check_digest(&mut self, algorithm: String, message: Vec<Part>, expected: Vec<u8>) -> Result<(), Failure> {
        let grant = self.verifying()?;
        let hash = hash_named(&algorithm)?;
        let secrets: Vec<&str> = message
            .iter()
            .filter_map(|part| match part {
                Part::Secret(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        let [name] = secrets[..] else {
            return Err(Failure::Refused(
                "a digest is checked over exactly one secret part".into(),
            ));
        };
        let keys = self.shared_keys(&grant, name)?;
        self.charge_bytes(&message, keys.len())?;
        let mut fitting = None;
        for (place, key) in keys.iter().enumerate() {
            let digest = hash.digest(|sink| {
                for part in &message {
                    match part {
                        Part::Text(text) => sink(text.as_bytes()),
                        Part::Bytes(bytes) => sink(bytes),
                        Part::Body => sink(&self.body),
                        Part::Secret(_) => sink(key.bytes()),
                    }
                }
                Ok(())
            })?;
            if digest.ct_eq(&expected).into() {
                fitting = Some(place);
            }
        }
        self.judge(name, fitting, strength(&message))
    }

    fn check_signature(
        &mut self,
        key: String,
        algorithm: String,
        message: Vec<Part>,
        signature: Vec<u8>,
    ) -> Result<(), Failure> {
        let grant = self.verifying()?;
        self.charge_bytes(&message, grant.keys(&key).map_or(1, <[Key]>::len))?;
        let kind = PublicKey::named(&algorithm)
            .ok_or_else(|| Failure::Refused(format!("algorithm {algorithm:?} is not served for signatures")))?;
        let mut text = Vec::new();
        self.update(&message, &grant, |bytes| text.extend_from_slice(bytes))?;
        self.signature_fits(&grant, &key, kind, &text, &signature)?;
        self.proven(strength(&message));
        Ok(())
    }

    fn check_jws(&mut self, key: String, token: String, rules: JwsRules) -> Result<String, Failure> {
        let grant = self.verifying()?;
        let mut segments = token.split('.');
        let (Some(head), Some(claims), Some(signature), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(Failure::Mismatch);
        };
        let decode = |segment: &str| BASE64_URL_SAFE_NO_PAD.decode(segment).map_err(|_| Failure::Mismatch);
        let header: Value = serde_json::from_slice(&decode(head)?).map_err(|_| Failure::Mismatch)?;
        // The sender does not choose the algorithm (RFC 8725 §3.1), and `crit` names what must be understood (RFC 7515).
        if header["alg"] != rules.algorithm.as_str() || header.get("crit").is_some() {
            return Err(Failure::Mismatch);
        }
        let signed = vec![Part::Text(format!("{head}.{claims}"))];
        self.charge_bytes(&signed, grant.keys(&key).map_or(1, <[Key]>::len))?;
        let signature = decode(signature)?;
        match rules.algorithm.as_str() {
            "HS256" => {
                let keys = self.shared_keys(&grant, &key)?;
                let mut fits = false;
                for key in keys {
                    fits |= self.mac_fits(Hash::Sha256, key, &signed, &signature, &grant)?;
                }
                if !fits && !self.conditions.believing {
                    return Err(Failure::Mismatch);
                }
            }
            other => {
                let kind = PublicKey::of_jws(other)
                    .ok_or_else(|| Failure::Refused(format!("algorithm {other:?} is not served for JWS")))?;
                let [Part::Text(text)] = &signed[..] else {
                    return Err(Failure::Mismatch);
                };
                self.signature_fits(&grant, &key, kind, text.as_bytes(), &signature)?;
            }
        }
        let claims = String::from_utf8(decode(claims)?).map_err(|_| Failure::Mismatch)?;
        let parsed: Value = serde_json::from_str(&claims).map_err(|_| Failure::Mismatch)?;
        if !self.conditions.believing && !claims_hold(&parsed, &rules, self.received_at_ms) {
            return Err(Failure::Mismatch);
        }
        // `contains` takes linear time; a sender can make a search by windows take seconds.
        let in_body = std::str::from_utf8(&self.body).is_ok_and(|body| body.contains(&token));
        self.proven(if in_body {
            Assurance::SignedBody
        } else {
            Assurance::Token
        });
        Ok(claims)
    }

    fn make_hmac(&mut self, secret: String, algorithm: String, message: Vec<Part>) -> Result<Vec<u8>, Failure> {
        self.charge_call()?;
        let Some(grant) = self.grant.clone() else {
            return Err(Failure::Refused("there is no webhook to answer".into()));
        };
        let may = grant
            .plugin
            .descriptor
            .secret(&secret)
            .is_some_and(|spec| spec.may_hmac);
        if !may {
            return Err(Failure::Refused(format!("hmac with {secret:?} needs may-hmac")));
        }
        if self.evidence.is_none() {
            return Err(Failure::Refused(
                "hmac is served after a successful check of the same webhook".into(),
            ));
        }
        if !grant.allow_hmac {
            let route = &grant.route;
            let what = format!(
                "route {route:?} needs allow_hmac = true: its provider asks for an answer signed with {secret:?}"
            );
            self.misconfigured.get_or_insert(what.clone());
            return Err(Failure::Misconfigured(what));
        }
        self.charge_bytes(&message, 1)?;
        // During a rotation the provider expects the value it signs with.
        let place = match &self.fitting {
            Some((fitting, place)) if *fitting == secret => *place,
            _ => 0,
        };
        let Some(key) = self.keys(&grant, &secret)?.get(place) else {
            return Err(Failure::Misconfigured(format!("secret {secret:?} has no value")));
        };
        self.mac(hash_named(&algorithm)?, key, &message, &grant)
    }

    fn make_hash(&mut self, algorithm: String, message: Vec<Part>) -> Result<Vec<u8>, Failure> {
        self.charge_call()?;
        self.charge_bytes(&message, 1)?;
        hash_named(&algorithm)?.digest(|sink| {
            for part in &message {
                match part {
                    Part::Text(text) => sink(text.as_bytes()),
                    Part::Bytes(bytes) => sink(bytes),
                    Part::Body => sink(&self.body),
                    Part::Secret(_) => return Err(Failure::Refused("a plain hash takes no secret part".into())),
                }
            }
            Ok(())
        })
    }
}

impl crypto::Host for CallState {
    fn verify_hmac(
        &mut self,
        secret: String,
        algorithm: String,
        message: Vec<Part>,
        signature: Vec<u8>,
    ) -> Result<(), Failure> {
        self.measured(|this| this.check_hmac(&secret, hash_named(&algorithm)?, &message, &signature))
    }

    fn verify_token(&mut self, secret: String, presented: Vec<u8>) -> Result<(), Failure> {
        self.measured(|this| this.check_token(secret, presented))
    }

    fn verify_digest(&mut self, algorithm: String, message: Vec<Part>, expected: Vec<u8>) -> Result<(), Failure> {
        self.measured(|this| this.check_digest(algorithm, message, expected))
    }

    fn verify_signature(
        &mut self,
        key: String,
        algorithm: String,
        message: Vec<Part>,
        signature: Vec<u8>,
    ) -> Result<(), Failure> {
        self.measured(|this| this.check_signature(key, algorithm, message, signature))
    }

    fn verify_jws(&mut self, key: String, token: String, rules: JwsRules) -> Result<String, Failure> {
        self.measured(|this| this.check_jws(key, token, rules))
    }

    fn hmac(&mut self, secret: String, algorithm: String, message: Vec<Part>) -> Result<Vec<u8>, Failure> {
        self.measured(|this| this.make_hmac(secret, algorithm, message))
    }

    fn hash(&mut self, algorithm: String, message: Vec<Part>) -> Result<Vec<u8>, Failure> {
        self.measured(|this| this.make_hash(algorithm, message))
    }
}

/// `exp`, `nbf`, `iat`, `iss` and `aud` of RFC 7519 §4.1, against the time of receipt.
fn claims_hold(claims: &Value, rules: &JwsRules, received_at_ms: u64) -> bool {
    let now = received_at_ms as f64 / 1e3;
    let leeway = f64::from(rules.leeway_seconds);
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(()),
    };
    let (Ok(expires), Ok(not_before), Ok(issued)) = (time("exp"), time("nbf"), time("iat")) else {
        return false;
    };
    let audience = |wanted: &str| match &claims["aud"] {
        Value::String(one) => one == wanted,
        Value::Array(many) => many.iter().any(|one| one == wanted),
        _ => false,
    };
    expires.map_or(!rules.require_expiry, |at| now <= at + leeway)
        && not_before.is_none_or(|at| now + leeway >= at)
        && issued.is_none_or(|at| now + leeway >= at)
        && rules.issuer.as_deref().is_none_or(|wanted| claims["iss"] == wanted)
        && rules.audience.as_deref().is_none_or(audience)
}

impl environment::Host for CallState {
    fn log(&mut self, level: environment::Level, message: String) {
        use environment::Level;
        let is_heard = match level {
            Level::Debug => tracing::enabled!(target: PLUGIN, tracing::Level::DEBUG),
            Level::Info => tracing::enabled!(target: PLUGIN, tracing::Level::INFO),
            Level::Warn => tracing::enabled!(target: PLUGIN, tracing::Level::WARN),
            Level::Error => tracing::enabled!(target: PLUGIN, tracing::Level::ERROR),
        };
        let Some(left) = self.log_lines_left.checked_sub(1).filter(|_| is_heard) else {
            return;
        };
        self.log_lines_left = left;
        let Some(more) = self.voice() else { return };
        let (plugin, route, message) = match &self.grant {
            Some(grant) => (
                grant.plugin.name.as_str(),
                grant.route.as_str(),
                grant.told(&message, LOG_BYTES),
            ),
            None => ("", "", one_line(&message, LOG_BYTES)),
        };
        match level {
            Level::Debug => tracing::debug!(target: PLUGIN, plugin, route, more, "{message}"),
            Level::Info => tracing::info!(target: PLUGIN, plugin, route, more, "{message}"),
            Level::Warn => tracing::warn!(target: PLUGIN, plugin, route, more, "{message}"),
            Level::Error => tracing::error!(target: PLUGIN, plugin, route, more, "{message}"),
        }
    }

    fn now_ms(&mut self) -> u64 {
        self.received_at_ms
    }

    fn options(&mut self) -> String {
        self.grant
            .as_ref()
            .map_or_else(|| "{}".to_owned(), |grant| grant.options.clone())
    }
}
