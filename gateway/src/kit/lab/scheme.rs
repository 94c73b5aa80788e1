//! How a provider proves its requests: with what, of what, and how that is written in them.

use serde_json::Value;

use super::{
    message::Message,
    place::{self, Place, Presented},
};
use crate::{
    config::SEPARATORS,
    plugin::{Hash, KeyEncoding, PublicKey},
};

/// How a request is proven to be the provider's.
#[derive(Debug, Clone)]
pub struct Scheme {
    /// The place of the secret in the list of candidates.
    pub candidate: usize,
    /// How the secret is written.
    pub encoding: KeyEncoding,
    pub proof: Proof,
}

#[derive(Debug, Clone)]
pub enum Proof {
    Signature(Signature),
    /// A JSON Web Signature.
    Jws {
        place: Place,
        algorithm: &'static str,
        claims: Value,
    },
    /// The secret itself, behind this text.
    Token {
        place: Place,
        prefix: String,
    },
    /// The secret as the password of basic authentication.
    Basic,
}

#[derive(Debug, Clone)]
pub struct Signature {
    pub presented: Presented,
    pub algorithm: Algorithm,
    pub message: Message,
}

impl Signature {
    /// The value with what is in it in braces.
    pub fn shown(&self) -> String {
        let Presented { value, span, .. } = &self.presented;
        let holes = |text: &str| match &self.message.moment {
            Some(moment) if self.says_when() => text.replace(&moment.text, "{timestamp}"),
            _ => text.to_owned(),
        };
        format!(
            "{}{{signature}}{}",
            holes(&value[..span.start]),
            holes(&value[span.end..])
        )
    }

    /// How the value may be put together: its items between separators, without those that are neither signature nor time,
    /// or the whole.
    pub(super) fn patterns(&self) -> Vec<Pattern> {
        let whole = self.shown();
        let mut patterns = Vec::new();
        for letter in SEPARATORS.into_iter().filter(|letter| whole.contains(*letter)) {
            let items = whole.split(letter).map(str::trim);
            let (held, others): (Vec<_>, Vec<_>) = items.partition(|item| item.contains('{'));
            let shows_separator = held.len() > 1;
            let is_item = match held[..] {
                // Before a signature without a name stands what kind it is, unless that is of this request alone.
                ["{signature}"] => others.into_iter().any(place::varies),
                [item] => !item.starts_with('{'),
                _ => true,
            };
            let pattern = |separator| Pattern {
                text: held.join(&letter.to_string()),
                separator,
            };
            patterns.extend((is_item && shows_separator).then(|| pattern(None)));
            patterns.extend(is_item.then(|| pattern(Some(letter))));
        }
        patterns.push(Pattern {
            text: whole,
            separator: None,
        });
        patterns
    }

    /// Whether the time of signing stands beside the signature.
    pub fn says_when(&self) -> bool {
        let Presented { place, value, .. } = &self.presented;
        let in_words = |text: &str| place::words(value).into_iter().any(|word| value[word] == *text);
        let moment = self.message.moment.as_ref();
        moment.is_some_and(|moment| moment.place == *place || in_words(&moment.text))
    }
}

/// What a header's value is made of, in the words of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub text: String,
    /// Where the text does not show it.
    pub separator: Option<char>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    HmacSha1,
    HmacSha256,
    HmacSha384,
    HmacSha512,
    /// A plain hash, of this name, with the secret in what it is of.
    Digest(&'static str),
    Ed25519,
    EcdsaP256Der,
    EcdsaP256Raw,
    RsaPkcs1,
}

impl Algorithm {
    /// As the configuration has it, or the contract where the configuration does not.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha1",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
            Self::Digest(hash) => hash,
            Self::Ed25519 => PublicKey::Ed25519.as_str(),
            Self::EcdsaP256Der => PublicKey::EcdsaP256Der.as_str(),
            Self::EcdsaP256Raw => PublicKey::EcdsaP256Raw.as_str(),
            Self::RsaPkcs1 => PublicKey::RsaPkcs1.as_str(),
        }
    }
}

impl From<Hash> for Algorithm {
    fn from(hash: Hash) -> Self {
        match hash {
            Hash::Sha1 => Self::HmacSha1,
            Hash::Sha256 => Self::HmacSha256,
            Hash::Sha384 => Self::HmacSha384,
            Hash::Sha512 => Self::HmacSha512,
        }
    }
}

impl From<PublicKey> for Algorithm {
    fn from(kind: PublicKey) -> Self {
        match kind {
            PublicKey::Ed25519 => Self::Ed25519,
            PublicKey::EcdsaP256Der => Self::EcdsaP256Der,
            PublicKey::EcdsaP256Raw => Self::EcdsaP256Raw,
            PublicKey::RsaPkcs1 => Self::RsaPkcs1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Budget, Candidate, Capture, search},
        *,
    };
    use crate::config::Secret;

    /// Under `key`, of `1780315197.{}`.
    const HMAC: &str = "f0107ab66f26a7549f8c06c9ea38167af231bf7fb089aca1732468687eb74cd1";

    /// The one that is presented as this.
    fn signature(value: &str) -> Signature {
        let text =
            format!("POST /hooks/acme HTTP/1.1\nhost: h.example\nx-signature: {value}\nx-time: 1780315197\n\n{{}}");
        let capture = Capture::read(text.as_bytes(), None).unwrap();
        let candidate = Candidate {
            label: "a secret".to_owned(),
            env: None,
            secret: Secret::new("key"),
            is_trimmed: false,
        };
        let texts = place::texts(&capture.webhook);
        let found = search::search(&capture, &texts, &[candidate], &mut Budget(1 << 20)).found;
        match found.unwrap().proof {
            Proof::Signature(signature) => signature,
            other => panic!("{value}: {other:?}"),
        }
    }

    #[test]
    fn a_pattern_has_what_matters() {
        for (value, pattern) in [
            (
                format!("t=1780315197,v0={HMAC}"),
                ("t={timestamp},v0={signature}", None),
            ),
            (
                format!("t=1780315197, v0={HMAC}"),
                ("t={timestamp},v0={signature}", None),
            ),
            (
                format!("v=1;sig={HMAC};t=1780315197"),
                ("sig={signature};t={timestamp}", None),
            ),
            (format!("hmac;1;1780315197;{HMAC}"), ("{timestamp};{signature}", None)),
            (
                format!("t=1780315197 v1:{HMAC} v1:0"),
                ("t={timestamp} v1:{signature}", None),
            ),
            (format!("v1={HMAC}, v1=0"), ("v1={signature}", Some(','))),
            (format!("0;{HMAC}"), ("0;{signature}", None)),
            (format!("{};{HMAC}", HMAC.replace('f', "0")), ("{signature}", Some(';'))),
            (format!("v1,{HMAC}"), ("v1,{signature}", None)),
            (format!("v1,{HMAC} v1,0"), ("v1,{signature}", Some(' '))),
        ] {
            let fitting = signature(&value);
            let patterns = fitting.patterns();
            assert_eq!((&*patterns[0].text, patterns[0].separator), pattern, "{value}");
            assert_eq!(patterns.last().map(|last| &last.text), Some(&fitting.shown()));
        }
    }
}
