use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::{Message, Recipe, Variables};

const KEY: &[u8] = b"mgn_test_key_0001";
const URL: &str = "https://gw.example.com/hooks/magnetis/acme";

/// The vendor's printed call, compact.
const CALL: &str = concat!(
    r#"{"data":{"id":"call-0c5ac87f-6d8b-4e94-9ce2-f4773bced2f5","account":{"id":"acc-efd1bbeb-afbb-4895-a6d5-40a13558af49","#,
    r#""name":"My account"},"calling_country":"FRA","calling_number":"0033612345678","calling_type":"mobile","#,
    r#""channel_name":"Google Ads","channel_type":"googleads","date":"2023-08-30 13:57:30","duration":43,"#,
    r#""end_status":"completed","events":[{"date":"2023-08-30 13:57:30","name":"call:in","value":null},"#,
    r#"{"date":"2023-08-30 13:57:31","name":"call:out","value":"0033687654321"},{"date":"2023-08-30 13:57:33","#,
    r#""name":"call:ringing","value":"0033687654321"},{"date":"2023-08-30 13:57:48","name":"call:answered","#,
    r#""value":"0033687654321"},{"date":"2023-08-30 13:58:13","name":"call:completed","value":"no-answer"}],"#,
    r#""firsttime_caller":true,"flow_status":"completed","google_ads_extension":null,"missed":false,"#,
    r#""number_id":"num-18dd0fdb-7f21-4999-9335-a5d50d8c716e","pool_id":"pul-c8c7912c-5e3e-4b19-8769-4daadea66dea","#,
    r#""recipient_number":"0033687654321","tracked_country":"FRA","tracked_number":"0033412345678","#,
    r#""tracked_type":"geographic","voice_duration":43,"visitor":{"condition_name":"Google Ads","#,
    r#""condition_type":"google_ads","custom_cookies":[],"custom_local_storage":[],"custom_params":[],"#,
    r#""ga":"GA1.1.12345678.87654321","gclid":"EAIaIQobChER4_LZnaeJ4gIV3EdFFh2raA5aEAAYAiAAEgKyCF3_BwE","msclkid":null,"#,
    r#""utm":[{"key":"utm_source","value":"googleads"}],"valuetrack":[],"3rdparty":[]}},"event":"call:completed"}"#,
);

const LEGACY: [(&str, &str); 5] = [
    ("calltracking_event[idcall]", "1234567"),
    ("calltracking_event[accountname]", "Calltracking Agence"),
    ("calltracking_event[date]", "2019-09-01 10:00:00"),
    ("calltracking_event[trackednumber]", "0033988776655"),
    ("calltracking_event[channelname]", "Google Ads"),
];

fn signature(recipe: Recipe, variables: &Variables<'_>, body: &str) -> String {
    let text = match recipe.message(variables).expect("the recipe applies") {
        Message::UrlThen(rest) => format!("{URL}{rest}"),
        Message::UrlThenBody => format!("{URL}{body}"),
        Message::Body => body.to_owned(),
    };
    let mut mac = Hmac::<Sha1>::new_from_slice(KEY).expect("any key length is fine");
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[track_caller]
fn json_message(recipe: Recipe, body: &str, expected: &str) {
    assert_eq!(
        recipe.message(&Variables::of_json(body)),
        Some(Message::UrlThen(expected.to_owned()))
    );
}

#[test]
fn json_vectors() {
    let variables = Variables::of_json(CALL);
    for (recipe, expected) in [
        (Recipe::JsonTopSlice, "/VH39+vbmE1T80iafMyfXOm9GGc="),
        (Recipe::JsonTopPhp, "/VH39+vbmE1T80iafMyfXOm9GGc="),
        (Recipe::JsonTopPlain, "/VH39+vbmE1T80iafMyfXOm9GGc="),
        (Recipe::JsonRecursive, "HeckPtqhWfSWU/1FgM0yJKMrlLg="),
        (Recipe::JsonBracket, "7DUEdEL8Qqp28ObzTkodlpOnaIM="),
        (Recipe::UrlRaw, "LHJlrpXSLz9XKY4Cid49810AzqE="),
        (Recipe::Raw, "NH8wV08+vyTqWohfyoG68sPgczA="),
        (Recipe::ArrayLiteral, "SYBmm1iMRaZMF3R/nbD/3goY4oo="),
        (Recipe::UrlOnly, "K2tuz/oyTAMwtqhLDT6Ri+nj024="),
    ] {
        assert_eq!(signature(recipe, &variables, CALL), expected, "{}", recipe.name());
    }
}

#[test]
fn form_vectors() {
    let variables = Variables::of_form(LEGACY.to_vec());
    for (recipe, expected) in [
        (Recipe::FormFlat, "vm77v9MEj6ZsqW0jX8zXt24ZDUs="),
        (Recipe::FormTopJson, "EQAKf9vytilW/5WHUufay3WxEF8="),
        (Recipe::FormRecursive, "PDkI7fnqSaqiZPqu3mk8PE5TXj0="),
    ] {
        assert_eq!(signature(recipe, &variables, ""), expected, "{}", recipe.name());
    }
}

#[test]
fn top_level_readings_differ_in_escaping_only() {
    let body = r#"{"event":"e\u00e9", "data": {"u": "a/\u00e9", "n": 1.50 , "l":[true,null]}}"#;
    json_message(
        Recipe::JsonTopSlice,
        body,
        r#"data{"u": "a/\u00e9", "n": 1.50 , "l":[true,null]}eventeé"#,
    );
    json_message(
        Recipe::JsonTopPhp,
        body,
        r#"data{"u":"a\/\u00e9","n":1.5,"l":[true,null]}eventeé"#,
    );
    json_message(
        Recipe::JsonTopPlain,
        body,
        r#"data{"u":"a/é","n":1.5,"l":[true,null]}eventeé"#,
    );
}

#[test]
fn nested_readings() {
    let body = r#"{"event":"e","data":{"z":[{"b":1,"a":false},[]],"k":null,"a":true}}"#;
    json_message(Recipe::JsonRecursive, body, "dataa1kz0ab11evente");
    json_message(Recipe::JsonRecursiveUnindexed, body, "dataa1kzab1evente");
    json_message(
        Recipe::JsonBracket,
        body,
        "data[a]1data[k]data[z][0][a]data[z][0][b]1evente",
    );
    json_message(Recipe::ArrayLiteral, body, "dataArrayevente");
    json_message(Recipe::UrlOnly, body, "");
}

#[test]
fn one_form_variable_with_json_is_flat() {
    let variables = Variables::of_form(vec![("calltracking_event", r#"{"idcall":"1"}"#)]);
    let expected = Some(Message::UrlThen(r#"calltracking_event{"idcall":"1"}"#.to_owned()));
    assert_eq!(Recipe::FormFlat.message(&variables), expected);
    assert_eq!(Recipe::FormTopJson.message(&variables), expected);
}

#[test]
fn shapes_that_could_be_cut_differently_are_refused() {
    let json = |body| Variables::of_json(body).check_shape(Recipe::JsonTopSlice);
    assert!(json(r#"{"data":{},"event":"call:completed"}"#).is_ok());
    assert!(json(r#"{"data":{},"event":"whatever"}"#).is_ok());
    assert!(json(r#"{"data":"{}event","event":"call:completed"}"#).is_err());
    assert!(json(r#"{"data":{},"event":1}"#).is_err());
    assert!(json(r#"{"data":{},"event":"e","x":1}"#).is_err());
    assert!(json(r#"{"data":{"a":{"b":1,"b":2}},"event":"e"}"#).is_err());
    assert!(json(r#"{"data":{},"data":{},"event":"e"}"#).is_err());
    assert!(json("[]").is_err());

    let form = |variables: &[(&'static str, &'static str)]| {
        Variables::of_form(variables.to_vec()).check_shape(Recipe::FormFlat)
    };
    assert!(form(&LEGACY).is_ok());
    assert!(form(&[("data[id]", "1"), ("event", "e")]).is_ok());
    assert!(form(&[("calltracking_event[a]", "1calltracking_event[b]2")]).is_err());
    assert!(form(&[("calltracking_event[a]", "1"), ("calltracking_event[a]", "2")]).is_err());
    assert!(form(&[("calltracking_event[a]", "1"), ("x", "2")]).is_err());
    assert!(form(&[("event", "e")]).is_err());
}

#[test]
fn a_form_cannot_be_cut_elsewhere() {
    let form = |variables: &[(&'static str, &'static str)]| {
        let variables = Variables::of_form(variables.to_vec());
        let flat = variables.check_shape(Recipe::FormFlat);
        // Nor may the content type make a form of a body signed verbatim.
        assert_eq!(variables.check_shape(Recipe::UrlRaw).is_ok(), flat.is_ok());
        assert_eq!(variables.check_shape(Recipe::Raw).is_ok(), flat.is_ok());
        flat
    };
    assert!(form(&[("calltracking_event[idcall]", "123456")]).is_ok());
    assert!(form(&[("calltracking_event[a][0][b-c]", "1"), ("calltracking_event[d][]", "")]).is_ok());
    assert!(form(&[("calltracking_event[idcall]12", "3456")]).is_err());
    assert!(form(&[("calltracking_event[events]", "[0][date]2019")]).is_err());
    assert!(form(&[("calltracking_event[a", "1")]).is_err());
    assert!(form(&[("calltracking_event[a[b]]", "1")]).is_err());
    assert!(form(&[(" calltracking_event[a]", "1")]).is_err());
    assert!(form(&[("calltracking.event[a]", "1")]).is_err());
    assert!(form(&[("calltracking_event", "{}"), ("calltracking_event[a]", "1")]).is_err());

    assert!(form(&[("data[id]", "call-1"), ("data[missed]", "1"), ("event", "e")]).is_ok());
    assert!(form(&[("data[id]", "call-1data[missed]1"), ("event", "e")]).is_err());
    assert!(form(&[("data[id]", "call-1event[missed]1"), ("event", "e")]).is_err());
    assert!(form(&[("data[id]", "call-1event"), ("event", "e")]).is_ok());
    assert!(form(&[("data[id]", "call-1"), ("event", "evente")]).is_err());
    assert!(form(&[("data[id]", "1"), ("event[]", "e")]).is_err());
}

const GLUED: [Recipe; 3] = [
    Recipe::JsonRecursive,
    Recipe::JsonRecursiveUnindexed,
    Recipe::JsonBracket,
];

#[test]
fn a_glued_message_is_believed_for_the_documents_known() {
    for recipe in GLUED {
        let check = |body| Variables::of_json(body).check_shape(recipe);
        assert_eq!(check(CALL), Ok(()));
        assert!(check(r#"{"data":{"id":"call-1"},"event":"call:missed"}"#).is_ok());
        assert!(check(r#"{"data":{"id":"email-1","visitor":null},"event":"test"}"#).is_ok());
        assert!(check(r#"{"data":{"id":"call-1","channel_name":"the event"},"event":"test"}"#).is_ok());
        for refused in [
            r#"{"data":{"id":"call-1"},"event":"whatever"}"#,
            r#"{"data":{"id":"call-1"},"event":"s0date2023event"}"#,
            r#"{"data":{"":"{","id":"call-1"},"event":"call:completed"}"#,
            r#"{"data":{"account":null},"event":"call:completed"}"#,
            r#"{"data":{"account":{"id":"call-1"},"id":"call-1"},"event":"call:completed"}"#,
            r#"{"data":{"id":"email-1"},"event":"call:completed"}"#,
            r#"{"data":{"id":"call-1","missed":null},"event":"call:completed"}"#,
            r#"{"data":{"id":"call-1","other":1},"event":"call:completed"}"#,
            r#"{"data":{"id":"call-1","pool_id":{"x":1}},"event":"call:completed"}"#,
            r#"{"data":{"id":"call-1","events":[[]]},"event":"call:completed"}"#,
            r#"{"data":{"id":"call-1","events":[{}]},"event":"call:completed"}"#,
        ] {
            assert!(check(refused).is_err(), "{}: {refused}", recipe.name());
        }
    }
}

#[test]
fn a_glued_value_spells_no_key_that_could_follow() {
    let check = |recipe: Recipe, body| Variables::of_json(body).check_shape(recipe).is_ok();
    for recipe in [Recipe::JsonRecursive, Recipe::JsonRecursiveUnindexed] {
        for refused in [
            r#"{"data":{"id":"call-1missed1"},"event":"call:completed"}"#,
            r#"{"data":{"id":"call-1","channel_name":"aidcall-2"},"event":"call:completed"}"#,
            r#"{"data":{"id":"call-1","channel_name":"xdate2023"},"event":"call:completed"}"#,
        ] {
            assert!(!check(recipe, refused), "{}: {refused}", recipe.name());
        }
        // Of a key that comes before, or of a word with the letters of one, nothing can be made.
        assert!(check(
            recipe,
            r#"{"data":{"id":"call-1","account":{"id":"acc-1","name":"My account in Madrid"},"channel_name":"account"},"event":"call:completed"}"#
        ));
    }
    let step =
        r#"{"data":{"id":"call-1","events":[{"date":"1","name":"2","value":"31date4name5value6"}]},"event":"test"}"#;
    assert!(!check(Recipe::JsonRecursive, step));
    assert!(!check(Recipe::JsonRecursiveUnindexed, step));
    assert!(check(Recipe::JsonBracket, step));
    for value in ["call-1data[missed]1", "call-1[x]data[missed]"] {
        let body = format!(r#"{{"data":{{"id":"{value}"}},"event":"call:completed"}}"#);
        assert!(Variables::of_json(&body).check_shape(Recipe::JsonBracket).is_err());
    }
}

#[test]
fn a_glued_form_is_held_to_the_known_keys() {
    let form = |variables: &[(&'static str, &'static str)]| {
        Variables::of_form(variables.to_vec()).check_shape(Recipe::FormRecursive)
    };
    assert_eq!(form(&LEGACY), Ok(()));
    assert!(form(&[("data[id]", "call-1"), ("data[missed]", "1"), ("event", "call:missed")]).is_ok());
    assert!(form(&[("data[id]", "call-1missed1"), ("event", "call:missed")]).is_err());
    assert!(form(&[("calltracking_event[idcall]", "1missed1")]).is_err());
    assert!(form(&[("calltracking_event[accountname]", "x")]).is_err());
    assert!(form(&[("calltracking_event[idcall]", "1"), ("calltracking_event[x]", "1")]).is_err());
}

#[test]
fn every_name_leads_back_to_its_recipe() {
    for recipe in Recipe::ALL {
        assert_eq!(Recipe::named(recipe.name()), Some(recipe));
    }
    assert_eq!(Recipe::named("auto"), None);
    assert_eq!(Recipe::ALL.into_iter().filter(|recipe| !recipe.binds_body()).count(), 2);
}
