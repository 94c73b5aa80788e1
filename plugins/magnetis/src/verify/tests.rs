use std::rc::Rc;

use callfeed_plugin::{
    environment::Level,
    testing::{TestHost, with_host},
};

use super::*;

const URL: &str = "https://gw.example.com/hooks/magnetis/acme";
const BODY: &str = r#"{"data":{"id":"call-1"},"event":"call:completed"}"#;

/// Base64 of the HMAC-SHA1 with key `mgn_test_key_0001`, computed apart from this code.
const SIGNED_TOP: &str = "27irk0HVWPDj0nbKriSFqYGULRw=";
const SIGNED_URL_ONLY: &str = "K2tuz/oyTAMwtqhLDT6Ri+nj024=";

fn judge(urls: &[&str], body: &str, signature: &str, options: &str) -> (Verdict, Rc<TestHost>) {
    let mut request = TestHost::request("POST", body);
    request.urls = urls.iter().map(|&url| url.to_owned()).collect();
    request.headers.push(TestHost::field(HEADER, signature));
    let host = TestHost {
        options: options.to_owned(),
        body: body.into(),
        ..TestHost::default()
    };
    let host = Rc::new(host.secret(SECRET, "mgn_test_key_0001"));
    let verdict = with_host(host.clone(), || verify(&request)).unwrap_or_else(Verdict::Reject);
    (verdict, host)
}

#[track_caller]
fn refused(verdict: Verdict) -> Rejection {
    match verdict {
        Verdict::Reject(rejection) => rejection,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn any_configured_url_may_have_been_signed() {
    let slash = format!("{URL}/");
    for urls in [
        vec![URL],
        vec![&*slash, URL],
        vec!["https://old.example.com/", &*slash, URL],
    ] {
        assert_eq!(
            judge(&urls, BODY, SIGNED_TOP, "{}").0,
            Verdict::authentic("json-top-slice")
        );
    }
    assert_eq!(
        refused(judge(&[&slash], BODY, SIGNED_TOP, "{}").0).code,
        "signature-mismatch"
    );
}

#[test]
fn a_mismatch_lists_every_string_once() {
    let (verdict, _) = judge(
        &[URL, "https://b.example/"],
        BODY,
        &format!("{}=", "A".repeat(27)),
        "{}",
    );
    let rejection = refused(verdict);
    assert_eq!(rejection.code, "signature-mismatch");
    let (head, tried) = rejection.detail.split_once("; tried ").unwrap();
    assert_eq!(head, "the body is a JSON object");
    let tried: Vec<&str> = tried.split("; ").collect();
    // The three top-level readings coincide, as do the two recursive ones: there is no list.
    assert_eq!(tried.len(), 9, "{tried:#?}");
    assert_eq!(
        tried[0],
        "json-top-slice with url 1: 80 bytes, sha1 b6516fb95d0d04157887aa5b81b88dba5cd146f4"
    );
    assert_eq!(tried[8], "raw: 49 bytes, sha1 d81c2fe1f20ddfaa1f0dbd456520b96d02c65179");
    for (at, form) in ["json-top-slice", "json-recursive", "json-bracket", "url-raw"]
        .into_iter()
        .enumerate()
    {
        assert!(tried[2 * at].starts_with(&format!("{form} with url 1: ")));
        assert!(tried[2 * at + 1].starts_with(&format!("{form} with url 2: ")));
    }
    assert!(!rejection.detail.contains("mgn_test_key"));
}

#[test]
fn forms_that_do_not_bind_the_body_need_two_words_and_are_logged() {
    let judge = |options| judge(&[URL], BODY, SIGNED_URL_ONLY, options);
    assert_eq!(refused(judge("{}").0).code, "signature-mismatch");
    assert_eq!(refused(judge(r#"{"allow_unbound":true}"#).0).code, "signature-mismatch");
    assert_eq!(
        refused(judge(r#"{"canonicalization":"url-only"}"#).0).code,
        "canonicalization-unbound"
    );
    assert_eq!(
        refused(judge(r#"{"canonicalization":"array-literal"}"#).0).code,
        "canonicalization-unbound"
    );

    let (verdict, host) = judge(r#"{"canonicalization":"url-only","allow_unbound":true}"#);
    assert_eq!(verdict, Verdict::authentic("url-only"));
    let log = host.seen.log.borrow();
    assert!(
        matches!(&log[..], [(Level::Warn, message)] if message.contains("url-only")),
        "{log:?}"
    );
}

#[test]
fn a_query_may_not_begin_the_variables() {
    let holds = |recipe, query: &str, decoded: &str| {
        let fields = [TestHost::field("tenant", decoded)];
        holds_variables(recipe, &format!("{URL}?tenant={query}"), &fields)
    };
    for recipe in [
        Recipe::FormFlat,
        Recipe::JsonTopSlice,
        Recipe::JsonBracket,
        Recipe::UrlRaw,
    ] {
        assert!(!holds(recipe, "7", "7"));
        assert!(!holds(recipe, "database-events", "database-events"));
        for root in ["calltracking_event", "data[id", "data{"] {
            assert!(holds(recipe, root, ""), "{root}");
            assert!(holds(recipe, "percent-encoded", root), "{root}");
        }
    }
    assert!(holds(Recipe::JsonRecursive, "7dataid", "7dataid"));
    assert!(!holds(Recipe::Raw, "data[id]", "data[id]"));
    // The operator's own URL, without a query.
    assert!(!holds_variables(
        Recipe::FormFlat,
        "https://gw.example.com/data[x]",
        &[]
    ));
}

#[test]
fn the_schema_of_the_options_wants_two_words_as_well() {
    let schema = serde_json::from_str(&crate::options_schema()).unwrap();
    let valid = |options| jsonschema::is_valid(&schema, &serde_json::from_str(options).unwrap());
    assert!(valid("{}"));
    assert!(valid(
        r#"{"canonicalization":"json-recursive","time_zone":"Indian/Reunion","international_prefix":"011"}"#
    ));
    assert!(valid(r#"{"canonicalization":"array-literal","allow_unbound":true}"#));
    assert!(!valid(r#"{"canonicalization":"array-literal"}"#));
    assert!(!valid(r#"{"canonicalization":"url-only","allow_unbound":false}"#));
    assert!(!valid(r#"{"canonicalization":"json"}"#));
    assert!(!valid(r#"{"time_zone":"Europe/Atlantis"}"#));
}
