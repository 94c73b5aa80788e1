//! Lies about what was proven, and misuse of the host's keys.

use callfeed_plugin::{
    Rejection, Request, Verdict,
    crypto::{self, Failure, JwsRules, Part},
    encoding,
};

use super::{honest_check, presented};

/// The verdict of an act about checking; `None` for any other act.
pub(crate) fn verdict(act: &str, request: &Request) -> Option<Result<Verdict, Rejection>> {
    let lie = Ok(Verdict::authentic("trust-me"));
    Some(match act {
        "lie-without-a-check" => lie,
        "lie-after-a-mismatch" => {
            assert_eq!(
                crypto::verify_hmac("signing", "sha256", &[Part::Body], &[0; 32]),
                Err(Failure::Mismatch)
            );
            lie
        }
        // The body is to be signed; a token says nothing of it.
        "lie-with-a-token" => {
            let token = request.header("x-rogue-token").unwrap_or_default();
            crypto::verify_token("token", token.as_bytes()).expect("the token is right");
            lie
        }
        // The very signature, but over a text of the plugin's: the host cannot know that it is the body.
        "lie-over-another-text" => {
            let text = request.text().expect("the body is text");
            let signature = presented(request).expect("there is a signature");
            crypto::verify_hmac("signing", "sha256", &[Part::Text(text)], &signature).expect("the signature is right");
            lie
        }
        "undeclared-secret" => refused(crypto::verify_token("admin", b"")).and(lie),
        "secret-as-text" => refused(crypto::hash("sha256", &[Part::Secret("signing")])).and(lie),
        "secret-in-hmac" => refused(crypto::verify_hmac(
            "signing",
            "sha256",
            &[Part::Secret("token")],
            &[0; 32],
        ))
        .and(lie),
        "unknown-hash" => refused(crypto::verify_hmac("signing", "md4", &[Part::Body], &[0; 16])).and(lie),
        "spare-secret" => {
            assert!(matches!(
                crypto::verify_token("spare", b""),
                Err(Failure::Misconfigured(_))
            ));
            lie
        }
        "hmac-before-proof" => refused(crypto::hmac("answering", "sha256", &[Part::Body])).and(lie),
        "hmac-of-another-secret" => {
            honest_check(request).expect("the signature is right");
            refused(crypto::hmac("signing", "sha256", &[Part::Body])).and(lie)
        }
        "hmac-not-allowed" | "hmac-allowed" => {
            honest_check(request).expect("the signature is right");
            let mac = crypto::hmac("answering", "sha256", &[Part::Text("challenge")]);
            mac.map(|mac| Verdict::authentic(&encoding::to_hex(&mac))).map_err(told)
        }
        // The token is the body's last word.
        "token-in-the-body" => {
            let token = request
                .text()
                .unwrap_or_default()
                .split(' ')
                .next_back()
                .unwrap_or_default();
            let rules = JwsRules {
                algorithm: "HS256",
                issuer: None,
                audience: None,
                leeway_seconds: 0,
                require_expiry: false,
            };
            crypto::verify_jws("signing", token, rules)
                .map(|_| Verdict::authentic("jws"))
                .map_err(Rejection::from)
        }
        // One that ignores the host's refusals and then does as it should.
        "many-calls" => {
            call_often();
            honest_check(request).map(|()| Verdict::authentic("late"))
        }
        _ => return None,
    })
}

/// Shows in the rejection's code that the host refused, and what it said.
fn refused<T>(result: Result<T, Failure>) -> Result<(), Rejection> {
    result.map(drop).map_err(told)
}

fn told(failure: Failure) -> Rejection {
    match failure {
        Failure::Refused(why) => Rejection::unauthenticated("refused").detail(why),
        other => Rejection::unauthenticated("another-failure").detail(format!("{other:?}")),
    }
}

fn call_often() {
    for _ in 0..100_000 {
        drop(crypto::hash("sha256", &[Part::Text("")]));
    }
}

/// Hashes until the host has had enough, which must be long before the last round.
pub(crate) fn hash_gigabytes() -> Result<(), Rejection> {
    let chunk = vec![0; 1 << 20];
    for round in 0..4096 {
        if let Err(Failure::Refused(why)) = crypto::hash("sha512", &[Part::Bytes(&chunk)]) {
            return Err(Rejection::malformed("refused").detail(format!("{why}, in round {round}")));
        }
    }
    Ok(())
}
