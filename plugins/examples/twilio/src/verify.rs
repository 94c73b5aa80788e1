//! `X-Twilio-Signature`: base64 of an HMAC-SHA1 under the account's auth token.
//!
//! Over the URL, and of a form also over its parameters: sorted by name, each name directly followed by its values, and
//! nothing between one and the next. A body in another type is not signed itself; the signed URL has its SHA-256 in the
//! parameter `bodySHA256`.

use callfeed_plugin::{
    Rejection, Request, Verdict,
    crypto::{self, Failure, Part},
    encoding,
};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const HEADER: &str = "x-twilio-signature";
pub(crate) const SECRET: &str = "auth_token";

/// Parameters that Twilio documents for voice, as far as an event depends on them.
const DOCUMENTED: [&str; 16] = [
    "AccountSid",
    "AnsweredBy",
    "ApiVersion",
    "CallDuration",
    "CallSid",
    "CallStatus",
    "CallerName",
    "Direction",
    "From",
    "FromCountry",
    "RecordingUrl",
    "SequenceNumber",
    "Timestamp",
    "To",
    "ToCountry",
    "CallbackSource",
];

type Parameters<'r> = BTreeMap<&'r str, BTreeSet<&'r str>>;

pub(crate) fn verify(request: &Request) -> Result<Verdict, Rejection> {
    let header = request
        .header(HEADER)
        .ok_or_else(|| Rejection::unauthenticated("signature-missing"))?;
    let signature = encoding::base64(header).ok_or_else(|| Rejection::unauthenticated("signature-malformed"))?;
    let mut parameters = Parameters::new();
    for field in &request.form {
        parameters.entry(&field.name).or_default().insert(&field.value);
    }
    // Whoever could post a body that nothing binds could write what he wants.
    let bound = if !parameters.is_empty() {
        Bound::Parameters
    } else if request.bytes().is_empty() {
        Bound::Nothing
    } else if has_digest(request)? {
        Bound::Digest
    } else {
        return Err(Rejection::unauthenticated("body-unbound").detail("no form, and not the SHA-256 its URL names"));
    };
    let joined: String = parameters
        .iter()
        .flat_map(|(name, values)| values.iter().flat_map(move |value| [*name, *value]))
        .collect();
    for url in request.urls.iter().flat_map(|url| spellings(url)) {
        match crypto::verify_hmac(SECRET, "sha1", &[Part::Text(&url), Part::Text(&joined)], &signature) {
            Ok(()) if ambiguous(&parameters) => {
                return Err(Rejection::unauthenticated("parameters-ambiguous")
                    .detail("a documented parameter is missing, and another one has its name inside"));
            }
            Ok(()) => return Ok(Verdict::authentic(bound.form())),
            Err(Failure::Mismatch) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(Rejection::unauthenticated("signature-mismatch").detail(format!("over {}", request.urls.join(", "))))
}

/// What binds the content to the signed URL.
enum Bound {
    Parameters,
    Digest,
    /// There is no content but the URL.
    Nothing,
}

impl Bound {
    fn form(self) -> &'static str {
        match self {
            Self::Parameters => "url-and-parameters",
            Self::Digest => "url-and-digest",
            Self::Nothing => "url",
        }
    }
}

/// Whether the URL names the body's SHA-256.
fn has_digest(request: &Request) -> Result<bool, Failure> {
    match request.query_value("bodySHA256").and_then(encoding::hex) {
        Some(digest) => Ok(crypto::hash("sha256", &[Part::Body])? == digest),
        None => Ok(false),
    }
}

/// A URL as it is, and with its default port added or left out: Twilio signs either.
fn spellings(url: &str) -> Vec<String> {
    let mut spellings = vec![url.to_owned()];
    if let Some((scheme, rest)) = url.split_once("://") {
        let port = if scheme == "https" { ":443" } else { ":80" };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        match authority.strip_suffix(port) {
            Some(host) => spellings.push(format!("{scheme}://{host}{path}")),
            None if !authority.contains(':') => spellings.push(format!("{scheme}://{authority}{port}{path}")),
            None => {}
        }
    }
    spellings
}

/// Whether the parameters may have been divided in another way than Twilio did.
///
/// With nothing between a value and the next name, `CallDuration=4` can be hidden in the value before it, or `CallSi=dCA…`
/// sent, under the same signature. What is gone then is still spelt where it belongs, across or within its predecessor.
fn ambiguous(parameters: &Parameters<'_>) -> bool {
    DOCUMENTED
        .iter()
        .filter(|name| !parameters.contains_key(*name))
        .any(|missing| {
            let before = parameters.range(..*missing).next_back();
            before.is_some_and(|(name, values)| {
                let spelt: String = values.iter().flat_map(|value| [*name, *value]).collect();
                spelt.contains(missing)
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use callfeed_plugin::testing::{TestHost, with_host};

    #[test]
    fn a_default_port_is_as_good_as_none() {
        assert_eq!(spellings("https://a.b/c?d"), ["https://a.b/c?d", "https://a.b:443/c?d"]);
        assert_eq!(spellings("https://a.b:443?d"), ["https://a.b:443?d", "https://a.b?d"]);
        assert_eq!(spellings("http://a.b"), ["http://a.b", "http://a.b:80"]);
        assert_eq!(spellings("https://a.b:8443/c"), ["https://a.b:8443/c"]);
    }

    /// The example of the vendor's page on security.
    fn judge(fields: &[(&str, &str)]) -> Verdict {
        let mut request = TestHost::request("POST", "a form");
        request.urls = vec!["https://mycompany.com/myapp.php?foo=1&bar=2".to_owned()];
        request.headers = vec![TestHost::field(HEADER, "RSOYDt4T1cUTdK1PDd93/VVr8B8=")];
        request.form = fields
            .iter()
            .map(|(name, value)| TestHost::field(name, value))
            .collect();
        let host = TestHost::default().secret(SECRET, "12345");
        with_host(host, || verify(&request)).unwrap_or_else(Verdict::Reject)
    }

    #[test]
    fn the_vendors_example_is_right() {
        let fields = [
            ("To", "+18005551212"),
            ("Digits", "1234"),
            ("CallSid", "CA1234567890ABCDE"),
            ("From", "+14158675309"),
            ("Caller", "+14158675309"),
        ];
        assert_eq!(judge(&fields), Verdict::authentic("url-and-parameters"));
        // A value that comes twice is signed once.
        assert_eq!(
            judge(&[&fields[..], &[("Digits", "1234")]].concat()),
            Verdict::authentic("url-and-parameters")
        );
    }

    #[test]
    fn parameters_are_divided_in_one_way_only() {
        let code = |fields: &[(&str, &str)]| match judge(fields) {
            Verdict::Reject(rejection) => rejection.code,
            verdict => panic!("{verdict:?}"),
        };
        let (sid, caller, digits, to) = (
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+14158675309"),
            ("Digits", "1234"),
            ("To", "+18005551212"),
        );
        let hidden = [sid, caller, ("Digits", "1234From+14158675309"), to];
        assert_eq!(code(&hidden), "parameters-ambiguous");
        let cut = [
            ("CallS", "idCA1234567890ABCDE"),
            caller,
            digits,
            ("From", "+14158675309"),
            to,
        ];
        assert_eq!(code(&cut), "parameters-ambiguous");
        let other = [sid, caller, digits, ("From", "+14158675300"), to];
        assert_eq!(code(&other), "signature-mismatch");
    }
}
