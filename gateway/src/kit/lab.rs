//! The lab: a captured request and a few secrets, and the question which of them proves it, and how.
//!
//! Everything in the request that has the shape of a signature or a token (`place`) is held against everything that
//! providers sign (`message`) under every reading of every secret (`search`), and the built-in plugins are asked as a
//! gateway asks them (`provider`). What fits is written as configuration (`block`), and a scheme's block is believed only
//! after the gateway's own reader and host have accepted the very request with it.
//!
//! Pure but for the plugins that it runs. Nothing here prints a secret: candidates are known by their labels.

use std::time::Duration;

use jiff::Timestamp;

use super::Stand;
use crate::{
    clock,
    config::{Limits, Secret},
    plugin::{self, Plugins},
};

/// Over it lie bodies that no provider sends, with more secrets than anybody has.
const WORK_BYTES_MAX: usize = 1 << 30;

mod block;
mod capture;
mod message;
mod place;
mod provider;
mod scheme;
mod search;

pub use block::Block;
pub use capture::{Capture, Paste, Unreadable};
pub use place::{Encoding, Moment, Place, Presented, Unit};
pub use provider::{EXAMPLES, Example, Recognised};
pub use scheme::{Algorithm, Proof, Scheme, Signature};

/// A secret that may be the right one.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What it is called here: `#1`, the name of its variable, its line.
    pub label: String,
    /// The environment variable it was taken from.
    pub env: Option<String>,
    pub secret: Secret,
    /// It had white space around it, of which a gateway cuts off nothing but a newline at the end of a file.
    pub is_trimmed: bool,
}

/// Work that may still be done for a request, in bytes that are hashed or handed to a plugin.
#[derive(Debug)]
struct Budget(usize);

impl Budget {
    /// Takes what a step costs, before it is done; `false` when that is too much, and from then on every step is.
    fn take(&mut self, bytes: usize) -> bool {
        self.0 = self.0.saturating_sub(bytes);
        !self.is_spent()
    }

    fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

/// What is to be found out about a request.
#[derive(Debug)]
pub struct Findings {
    /// How the body had to be read for anything to fit.
    pub paste: Paste,
    /// The likeliest first.
    pub recognised: Vec<Recognised>,
    pub scheme: Option<Scheme>,
    /// The example that is for this provider.
    pub example: Option<&'static Example>,
    /// Whom a header names, where nothing fits.
    pub named: Option<String>,
    /// What to write into the configuration.
    pub block: Option<Block>,
    pub tried: Tried,
}

/// What was tried of the request as it is here.
#[derive(Debug)]
pub struct Tried {
    /// Headers, parameters and members that could hold a signature.
    pub suspects: Vec<Suspect>,
    /// Readings of the secrets.
    pub keys: usize,
    pub messages: usize,
    /// The body in how many readings.
    pub readings: usize,
    /// The bound on work came before the end.
    pub is_cut: bool,
    /// When the request says it was sent.
    pub sent_at: Option<Timestamp>,
    /// What plugins said that know a header of the request.
    pub refusals: Vec<String>,
}

/// What could hold a signature, and what it would be by its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    pub place: Place,
    pub shape: String,
}

impl Findings {
    /// Whether anything fits.
    pub fn is_match(&self) -> bool {
        self.scheme.is_some() || !self.recognised.is_empty()
    }

    /// The built-in plugin that knows the provider for sure.
    pub fn provider(&self) -> Option<&Recognised> {
        self.recognised.first().filter(|recognised| recognised.is_sure)
    }
}

/// A bench to work at: a gateway's host and the built-in plugins.
#[derive(Debug)]
pub struct Lab {
    stand: Stand,
    plugins: Plugins,
}

impl Lab {
    /// # Errors
    ///
    /// When the WebAssembly engine does not start.
    pub async fn open(limits: Limits) -> Result<Self, plugin::Error> {
        let stand = Stand::new(&Limits {
            // A capture may be large and the machine busy, and nobody waits behind it.
            plugin_time: Duration::from_secs(2),
            plugins_in_flight: 2,
            ..limits
        })?;
        // One that does not load, of a damaged build, is not asked; `callfeed check` says so.
        let (plugins, _) = stand.runtime.load(&[]).await;
        Ok(Self { stand, plugins })
    }

    /// Finds out what proves a request.
    pub async fn examine(&self, capture: &Capture, candidates: &[Candidate]) -> Findings {
        let mut first = None;
        let readings = capture.readings();
        let count = readings.len();
        for (paste, body) in readings {
            let mut findings = self.read(&capture.with_body(body), paste, candidates).await;
            findings.tried.readings = count;
            if findings.is_match() {
                return findings;
            }
            first.get_or_insert(findings);
        }
        first.expect("a body has a reading")
    }

    async fn read(&self, capture: &Capture, paste: Paste, candidates: &[Candidate]) -> Findings {
        let texts = place::texts(&capture.webhook);
        let (mut hashing, mut asking) = (Budget(WORK_BYTES_MAX), Budget(WORK_BYTES_MAX));
        let search = search::search(capture, &texts, candidates, &mut hashing);
        let signed_at = match &search.found {
            Some(Scheme {
                proof: Proof::Signature(signature),
                ..
            }) => signature.message.moment.as_ref(),
            _ => None,
        };
        let sent_at = signed_at.or(search.moments.first()).map(|moment| moment.at);
        let mut capture = capture.clone();
        capture.webhook.received_at = sent_at.unwrap_or_else(clock::now);

        let (recognised, refusals) =
            provider::ask(self, &capture, candidates, search.found.as_ref(), &mut asking).await;
        let example = provider::example(&texts, search.found.as_ref());
        let named = provider::named(self, &capture);
        let mut findings = Findings {
            paste,
            recognised,
            scheme: search.found,
            example,
            named,
            block: None,
            tried: Tried {
                suspects: suspects(&search.presented, &texts),
                keys: search.keys,
                messages: search.messages,
                readings: 1,
                is_cut: hashing.is_spent() || asking.is_spent(),
                sent_at,
                refusals,
            },
        };
        findings.block = block::write(self, &findings, &capture, candidates).await;
        findings
    }
}

fn suspects(presented: &[Presented], texts: &[place::Text]) -> Vec<Suspect> {
    let mut suspects: Vec<_> = presented
        .iter()
        .map(|presented| Suspect {
            place: presented.place.clone(),
            shape: shape(presented),
        })
        .collect();
    suspects.extend(texts.iter().filter(|text| search::is_jws(text)).map(|text| Suspect {
        place: text.place.clone(),
        shape: "a JSON Web Signature".to_owned(),
    }));
    let named = |text: &&place::Text| {
        let name = text.place.name().to_ascii_lowercase();
        ["signature", "hmac", "token", "authorization", "api-key"]
            .iter()
            .any(|word| name.contains(word))
    };
    for text in texts.iter().filter(named) {
        if !suspects.iter().any(|suspect| suspect.place == text.place) {
            suspects.push(Suspect {
                place: text.place.clone(),
                shape: "by its name; its value has the shape of no signature".to_owned(),
            });
        }
    }
    suspects.dedup();
    suspects
}

fn shape(presented: &Presented) -> String {
    let made = match presented.bytes.len() {
        20 => "an HMAC-SHA1",
        32 => "an HMAC-SHA256",
        48 => "an HMAC-SHA384",
        64 => "an HMAC-SHA512 or an Ed25519 signature",
        _ => "a signature under a public key",
    };
    let (bytes, encoding) = (presented.bytes.len(), presented.encoding.as_str());
    format!("{bytes} bytes in {encoding}, as {made} has")
}
