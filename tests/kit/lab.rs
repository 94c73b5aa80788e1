//! The lab finds out what every signed case was signed with, and says so of nothing else.

use std::{fs, path::Path};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use callfeed::{
    config::{self, Limits, Secret},
    kit::{
        Case,
        lab::{Candidate, Capture, EXAMPLES, Findings, Lab, Paste},
    },
};
use harness::{Callfeed, guest};
use ring::hmac;
use serde_json::Value;

const BUILT_IN: [&str; 5] = ["magnetis", "magpipe", "salpre", "topcalls", "voxagent"];

/// What a plugin accepts only under options that weaken it, so that nobody is told to.
const WEAK: [&str; 2] = [
    "magnetis/oddity-array-literal-allowed",
    "magnetis/oddity-url-only-allowed",
];
/// A webhook of which nothing but the scheme can be known.
const ANYBODYS: [&str; 1] = ["dialpad/oddity-claims-not-an-object"];

/// A case as somebody would have captured it, with its secrets between others.
struct Question {
    name: String,
    text: Vec<u8>,
    url: String,
    candidates: Vec<Candidate>,
    /// Which of the candidates are right.
    right: std::ops::Range<usize>,
    expected: Value,
    is_oddity: bool,
    is_open: bool,
}

impl Question {
    fn read(provider: &str, case: &Case) -> Self {
        let route = &case.route;
        let mut candidates = vec![candidate("a decoy", "decoy-of-the-test-0001")];
        let live = route.secrets.iter().flat_map(|(_, values)| values);
        candidates.extend(live.enumerate().map(|(at, secret)| Candidate {
            label: format!("live {at}"),
            env: None,
            secret: secret.clone(),
            is_trimmed: false,
        }));
        let right = 1..candidates.len();
        candidates.push(candidate(
            "a decoy in base64",
            "ZGVjb3kgb2YgdGhlIHRlc3QgMDAwMSwgMzIgYnl0ZXM=",
        ));
        let base = route.urls[0]
            .strip_suffix(&route.path)
            .expect("a case's URL ends with its path");
        Self {
            name: format!("{provider}/{}", case.name),
            text: fs::read(case.directory.join("request.http")).expect("it was read before"),
            url: format!("{base}{}", case.webhook.target),
            candidates,
            right,
            expected: case.expected.clone().expect("every case has its answer"),
            is_oddity: case.is_oddity(),
            is_open: route.allow_unsigned,
        }
    }

    /// Whether the provider's plugin finds it authentic by one of the secrets.
    fn is_signed(&self) -> bool {
        match self.expected["verdict"].as_str() {
            Some("accepted") => self.expected["form"] != "unsigned",
            Some("ignored" | "quarantined" | "respond") => !self.is_open,
            _ => false,
        }
    }

    async fn examine(&self, lab: &Lab) -> Findings {
        let capture =
            Capture::read(&self.text, Some(&self.url)).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        lab.examine(&capture, &self.candidates).await
    }

    fn is_right(&self, candidate: usize) -> bool {
        self.right.contains(&candidate)
    }

    /// The block is what a gateway reads without a complaint, where the examples are built.
    fn check_block(&self, findings: &Findings) -> Result<(), String> {
        let block = findings.block.as_ref().ok_or("no block")?;
        let base = tempfile::tempdir().expect("a directory");
        if let Some(example) = findings.example {
            let folder = base.path().join("plugins/examples").join(example.name);
            fs::create_dir_all(&folder).expect("it can be made");
            fs::write(folder.join(example.file), "").expect("it can be written");
        }
        let read = config::parse(&block.toml, "lab.toml", &|_| Some("a value".to_owned()), base.path());
        match read {
            Ok(checked) if checked.warnings.iter().all(|warning| warning.path == "subscriber") => Ok(()),
            Ok(checked) => Err(format!("{}\n{:?}", block.toml, checked.warnings)),
            Err(refused) => Err(format!("{}\n{}", block.toml, refused.problems)),
        }
    }
}

fn candidate(label: &str, secret: &str) -> Candidate {
    Candidate {
        label: label.to_owned(),
        env: None,
        secret: Secret::new(secret),
        is_trimmed: false,
    }
}

fn questions(provider: &str, folder: &Path) -> Vec<Question> {
    let cases =
        Case::read_all(&folder.join(provider).join("cases"), provider).unwrap_or_else(|error| panic!("{error}"));
    cases.iter().map(|case| Question::read(provider, case)).collect()
}

/// Every case there is: of the built-in plugins, and of the examples.
fn all() -> (Vec<Question>, Vec<Question>) {
    let plugins = guest::workspace().join("plugins");
    let examples = plugins.join("examples");
    (
        BUILT_IN
            .iter()
            .flat_map(|provider| questions(provider, &plugins))
            .collect(),
        EXAMPLES
            .iter()
            .flat_map(|example| questions(example.name, &examples))
            .collect(),
    )
}

/// A lab that compiles a plugin once.
async fn lab(cache: &tempfile::TempDir) -> Lab {
    let limits = Limits {
        plugin_cache: Some(cache.path().to_owned()),
        ..Limits::default()
    };
    Lab::open(limits).await.expect("the engine starts")
}

#[tokio::test]
async fn every_signed_case_is_recognised() {
    let cache = tempfile::tempdir().expect("a directory");
    let lab = lab(&cache).await;
    let (built_in, examples) = all();
    let (mut failures, mut count) = (String::new(), 0);
    for question in built_in
        .iter()
        .filter(|question| question.is_signed() && !WEAK.contains(&&*question.name))
    {
        let provider = question.name.split('/').next().expect("it has a provider");
        let findings = question.examine(&lab).await;
        let is_found =
            |found: &callfeed::kit::lab::Recognised| found.provider == provider && question.is_right(found.candidate);
        let claimed = findings.provider().map(|found| found.provider.as_str());
        let problem = if !findings.recognised.iter().any(is_found) {
            Some("is not recognised".to_owned())
        } else if claimed.is_some_and(|claimed| claimed != provider) {
            Some(format!("is said to be of {claimed:?}"))
        } else if question.expected["verdict"] == "accepted" && claimed.is_none() && !question.name.contains("unknown")
        {
            Some("is not said to be of its provider".to_owned())
        } else if claimed.is_some() {
            question.check_block(&findings).err()
        } else {
            None
        };
        failures.extend(problem.map(|problem| format!("\n{} {problem}: {findings:#?}", question.name)));
        count += 1;
    }
    for question in examples
        .iter()
        .filter(|question| question.is_signed() && !ANYBODYS.contains(&&*question.name))
    {
        let provider = question.name.split('/').next().expect("it has a provider");
        let findings = question.examine(&lab).await;
        let problem = if findings.example.is_none_or(|example| example.name != provider) {
            Some("is not recognised".to_owned())
        } else if !findings
            .scheme
            .as_ref()
            .is_some_and(|scheme| question.is_right(scheme.candidate))
        {
            Some("has another secret".to_owned())
        } else if findings.provider().is_some() {
            Some("is said to be of a built-in plugin".to_owned())
        } else {
            question.check_block(&findings).err()
        };
        failures.extend(problem.map(|problem| format!("\n{} {problem}: {findings:#?}", question.name)));
        count += 1;
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(count > 400, "only {count} cases");
}

#[tokio::test]
async fn a_changed_body_is_nobodys() {
    let cache = tempfile::tempdir().expect("a directory");
    let lab = lab(&cache).await;
    let (built_in, examples) = all();
    let mut tried = 0;
    for mut question in built_in.into_iter().chain(examples) {
        let is_token = ["salpre/", "aircall/"]
            .iter()
            .any(|provider| question.name.starts_with(provider));
        if question.is_oddity || is_token || !question.is_signed() {
            continue;
        }
        let body = question
            .text
            .windows(2)
            .position(|window| window == b"\n\n")
            .expect("a head has an end")
            + 2;
        let middle = body + (question.text.len() - body) / 2;
        let letter = question.text[middle..]
            .iter()
            .position(u8::is_ascii_alphabetic)
            .expect("a body has letters");
        let byte = &mut question.text[middle + letter];
        *byte = if *byte == b'x' { b'y' } else { b'x' };
        let findings = question.examine(&lab).await;
        // Of a JSON body, Twilio signs the SHA-256 that stands in the URL.
        let is_found =
            findings.is_match() && question.name != "twilio/completed-json" && question.name != "twilio/stream";
        assert!(!is_found, "{}: {findings:#?}", question.name);
        assert!(!findings.tried.suspects.is_empty(), "{}", question.name);
        tried += 1;
    }
    assert!(tried > 60, "only {tried}");
}

/// Signed like a known provider, and sent by another: the block says the scheme, and a gateway accepts the request with it.
#[tokio::test]
async fn a_scheme_becomes_a_block() {
    let cache = tempfile::tempdir().expect("a directory");
    let lab = lab(&cache).await;
    let plugins = guest::workspace().join("plugins");
    for (folder, provider, case, from, to, expected) in [
        (
            "examples",
            "retell",
            "call-ended",
            "x-retell-signature",
            "x-acme-signature",
            r#"signature = { header = "x-acme-signature", pattern = "v={timestamp},d={signature}", message = "{body}{timestamp}", timestamp = "milliseconds" }"#,
        ),
        (
            "examples",
            "elevenlabs",
            "post-call-transcription",
            "ElevenLabs-Signature",
            "X-Acme-Signature",
            r#"signature = { header = "x-acme-signature", pattern = "t={timestamp},v0={signature}", message = "{timestamp}.{body}" }"#,
        ),
        (
            "examples",
            "telnyx",
            "call-hangup",
            "telnyx-signature-ed25519",
            "acme-signature",
            r#"signature = { header = "acme-signature", message = "{timestamp}|{body}", algorithm = "ed25519", timestamp_header = "telnyx-timestamp" }"#,
        ),
        (
            "examples",
            "zoom-phone",
            "callee-ended",
            "x-zm-signature",
            "x-acme-signature",
            r#"signature = { header = "x-acme-signature", pattern = "v0={signature}", message = "v0:{timestamp}:{body}", timestamp_header = "x-zm-request-timestamp" }"#,
        ),
        (
            "",
            "magpipe",
            "sms-sent",
            "X-Magpipe-Signature",
            "x-acme-hmac",
            r#"signature = { header = "x-acme-hmac", pattern = "sha256={signature}" }"#,
        ),
    ] {
        let mut questions = questions(provider, &plugins.join(folder)).into_iter();
        let mut question = questions
            .find(|question| question.name.ends_with(&format!("/{case}")))
            .unwrap_or_else(|| panic!("{provider} has no case {case}"));
        let text = String::from_utf8(question.text.clone()).expect("it is text");
        assert!(text.contains(from), "{text}");
        question.text = text.replace(from, to).into_bytes();
        let findings = question.examine(&lab).await;
        let block = findings
            .block
            .as_ref()
            .unwrap_or_else(|| panic!("{provider}: {findings:#?}"));
        assert!(block.toml.contains("[[provider]]\nname = \"acme\"\n"), "{}", block.toml);
        assert!(block.toml.contains(expected), "{}", block.toml);
        assert!(question.is_right(findings.scheme.as_ref().expect("a scheme").candidate));
        question
            .check_block(&findings)
            .unwrap_or_else(|problem| panic!("{problem}"));
    }

    // What no block says is said to need a plugin.
    let twilio = &questions("twilio", &plugins.join("examples"))[0];
    let text = String::from_utf8(twilio.text.clone()).expect("it is text");
    let capture =
        Capture::read(text.replace("X-Twilio-", "X-Acme-").as_bytes(), Some(&twilio.url)).expect("it is read");
    let findings = lab.examine(&capture, &twilio.candidates).await;
    let block = findings.block.expect("something is to be done");
    assert!(
        block.toml.is_empty() && block.notes[0].contains("callfeed plugin new acme"),
        "{block:?}"
    );
    assert!(block.notes[1].contains("plugins/examples/twilio"), "{block:?}");
}

/// Schemes that many have: what is signed, how it is presented, and the lines of the block.
#[tokio::test]
async fn usual_schemes_become_blocks() {
    const BODY: &str = r#"{"type":"call.ended","token":"slp_test_token_0001"}"#;
    const KEY: &[u8] = b"0123456789abcdef01234567";
    const TIME: &str = "1780315197";
    let key = BASE64_STANDARD.encode(KEY);
    let whsec = format!("whsec_{key}");
    let sign = |message: &str| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), message.as_bytes());
        BASE64_STANDARD.encode(tag.as_ref())
    };
    let standard = sign(&format!("msg_1.{TIME}.{BODY}"));
    let dated = sign(&format!("{TIME}.{BODY}"));
    let plain = sign(BODY);
    let basic = BASE64_STANDARD.encode("user:another-secret-0001");
    let claims = BASE64_URL_SAFE_NO_PAD.encode(r#"{"iss":"acme"}"#);
    let signed = format!("{}.{claims}", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#));
    let tag = BASE64_STANDARD.decode(sign(&signed)).expect("it was encoded so");
    let jws = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag));
    let cache = tempfile::tempdir().expect("a directory");
    let lab = lab(&cache).await;
    for (target, headers, secret, expected) in [
        (
            "/",
            format!("webhook-id: msg_1\nwebhook-timestamp: {TIME}\nwebhook-signature: v1,{standard} v1,AAAA"),
            &*whsec,
            "signature = \"standard-webhooks\"\n",
        ),
        (
            "/",
            format!("svix-id: msg_1\nsvix-timestamp: {TIME}\nsvix-signature: v1,{standard}"),
            &*whsec,
            "name = \"svix\"\nsignature = \"svix\"\n",
        ),
        // What stands beside the signature is another one, or a time that nobody signed: the next webhook has another.
        (
            "/",
            format!("x-acme-hmac: v1={plain},v1={standard}"),
            &*key,
            "signature = { header = \"x-acme-hmac\", pattern = \"v1={signature}\", separator = \",\", encoding = \"base64\" }\n",
        ),
        (
            "/",
            format!("x-acme-hmac: {standard} {plain}"),
            &*key,
            "signature = { header = \"x-acme-hmac\", separator = \" \", encoding = \"base64\" }\n",
        ),
        (
            "/",
            format!("x-acme-hmac: t={TIME};s={plain}"),
            &*key,
            "signature = { header = \"x-acme-hmac\", pattern = \"s={signature}\", separator = \";\", encoding = \"base64\" }\n",
        ),
        (
            "/",
            format!("x-acme-hmac: t={TIME} v1,{dated}"),
            &*key,
            "signature = { header = \"x-acme-hmac\", pattern = \"t={timestamp} v1,{signature}\", separator = \" \", message = \
             \"{timestamp}.{body}\", encoding = \"base64\" }\n",
        ),
        (
            "/",
            format!("x-acme-hmac: v1,{plain}"),
            &*key,
            "signature = { header = \"x-acme-hmac\", pattern = \"v1,{signature}\", encoding = \"base64\" }\n",
        ),
        (
            "/",
            format!("x-acme-hmac: {plain}"),
            &*key,
            "secret = { encoding = \"base64\" }\nsignature = { header = \"x-acme-hmac\", encoding = \"base64\" }\n",
        ),
        (
            "/",
            "authorization: Bearer another-secret-0001".to_owned(),
            "another-secret-0001",
            "token = { in = \"header:authorization\", prefix = \"Bearer \" }\n",
        ),
        (
            "/",
            format!("authorization: Basic {basic}"),
            "another-secret-0001",
            "token = { in = \"header:authorization\", prefix = \"Basic \" }\n",
        ),
        (
            "/hooks?key=another-secret-0001",
            "x-any: thing".to_owned(),
            "another-secret-0001",
            "token = { in = \"query:key\" }\n",
        ),
        (
            "/",
            "x-any: thing".to_owned(),
            "slp_test_token_0001",
            "token = { in = \"body:/token\" }\n",
        ),
        ("/", format!("authorization: Bearer {jws}"), &*key, ""),
    ] {
        let text =
            format!("POST {target} HTTP/1.1\nhost: h.example\ncontent-type: application/json\n{headers}\n\n{BODY}");
        let capture = Capture::read(text.as_bytes(), None).expect("it is read");
        let candidates = [
            candidate("a decoy", "decoy-of-the-test-0001"),
            Candidate {
                env: Some("ACME_TOKEN".to_owned()),
                ..candidate("the secret", secret)
            },
        ];
        let findings = lab.examine(&capture, &candidates).await;
        let block = findings
            .block
            .as_ref()
            .unwrap_or_else(|| panic!("{text}: {findings:#?}"));
        assert_eq!(
            findings.scheme.as_ref().map(|scheme| scheme.candidate),
            Some(1),
            "{text}"
        );
        if expected.is_empty() {
            assert!(
                block.toml.is_empty() && block.notes[1].contains("plugins/examples/dialpad"),
                "{block:?}"
            );
        } else {
            assert!(block.toml.contains(expected), "{expected} is not in\n{}", block.toml);
            assert!(
                block.toml.contains("event = \"/type\"\ntypes = { \"call.ended\" = "),
                "{}",
                block.toml
            );
        }
        // It has the password, not what a gateway compares.
        let is_basic = headers.starts_with("authorization: Basic");
        let variable = if is_basic { "ACME_BASIC" } else { "ACME_TOKEN" };
        assert!(
            block.toml.is_empty() || block.toml.contains(&format!("[{{ env = \"{variable}\" }}]")),
            "{}",
            block.toml
        );
        assert_eq!(block.notes[0].contains("export ACME_BASIC="), is_basic, "{block:?}");
        assert!(!format!("{block:?}").contains(secret), "{block:?}");
    }
}

/// What the routes of an example's cases have is what its block says.
#[test]
fn the_examples_are_known() {
    let examples = guest::workspace().join("plugins/examples");
    let folders = fs::read_dir(&examples).expect("it can be read").count();
    assert_eq!(folders, EXAMPLES.len());
    for example in &EXAMPLES {
        let folder = examples.join(example.name);
        let cases = Case::read_all(&folder.join("cases"), example.name).unwrap_or_else(|error| panic!("{error}"));
        let route = &cases[0].route;
        let secrets: Vec<_> = route.secrets.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            (secrets, route.allow_hmac),
            (vec![example.secret], example.allow_hmac),
            "{example:?}"
        );
        let is_rust = folder.join("Cargo.toml").exists();
        let package = if is_rust { "callfeed-plugin-" } else { "" };
        assert_eq!(example.file, format!("{package}{}.wasm", example.name));
        assert_eq!(example.is_described, folder.join("provider.toml").exists());
    }
}

#[tokio::test]
async fn a_newline_from_the_paste_does_no_harm() {
    let cache = tempfile::tempdir().expect("a directory");
    let lab = lab(&cache).await;
    let mut question = questions("magpipe", &guest::workspace().join("plugins")).remove(0);
    question.text.push(b'\n');
    let findings = question.examine(&lab).await;
    assert_eq!(findings.paste, Paste::NewlineAdded);
    assert_eq!(findings.provider().expect("it is Magpipe's").provider, "magpipe");
}

/// Where a case's request is, and its secrets in a file between others.
fn on_disk(directory: &Path, provider: &str, case: &str) -> (String, String, Vec<String>) {
    let cases = guest::workspace().join("plugins").join(provider).join("cases");
    let read = Case::read_all(&cases, provider).expect("they can be read");
    let case = read.iter().find(|known| known.name == case).expect("there is one");
    let live = case.route.secrets.iter().flat_map(|(_, values)| values);
    let mut secrets = vec!["decoy-of-the-test-0001".to_owned()];
    secrets.extend(live.map(|secret| String::from_utf8(secret.expose().to_vec()).expect("it is text")));
    let file = directory.join("secrets");
    fs::write(&file, secrets.join("\n")).expect("it can be written");
    (
        case.directory.join("request.http").display().to_string(),
        file.display().to_string(),
        secrets,
    )
}

#[tokio::test]
async fn a_file_or_a_paste() {
    let directory = tempfile::tempdir().expect("a directory");
    let (request, secrets_file, secrets) = on_disk(directory.path(), "magpipe", "call-completed");
    let from_file = Callfeed::run(["plugin", "lab", &request, "--secrets-file", &secrets_file])
        .await
        .success();
    for said in [
        "Magpipe: the built-in plugin \"magpipe\" finds it authentic.",
        "secret     line 2 of ",
        "form       sha256-prefix",
        "becomes    call.completed",
        "signature  hmac-sha256 in hex, in the header x-magpipe-signature as \"sha256={signature}\"",
        "signed     {body}",
        "time       none is signed",
        "[[route]]\nname = \"magpipe\"\nprovider = \"magpipe\"\nsecrets = { signing = [{ env = \"MAGPIPE_SIGNING\" }] }",
    ] {
        assert!(from_file.contains(said), "{said:?} is not in {from_file}");
    }
    let text = fs::read(&request).expect("it can be read");
    let pasted = ["plugin", "lab", "--secrets-file", &secrets_file, "--json"];
    let json = Callfeed::run_reading(pasted, &text).await.json_lines().remove(0);
    assert_eq!(
        (json["provider"].as_str(), json["scheme"]["signed"].as_str()),
        (Some("magpipe"), Some("{body}"))
    );
    for secret in &secrets {
        assert!(
            !from_file.contains(secret.as_str()) && !json.to_string().contains(secret.as_str()),
            "{secret}"
        );
    }

    let changed = String::from_utf8(text)
        .expect("it is text")
        .replace("completed", "Completed");
    let args = ["plugin", "lab", "--secret", &secrets[0], "--secret", &secrets[1]];
    let none = Callfeed::run_reading(args, changed.as_bytes()).await;
    assert_eq!(none.status, Some(1), "{none:?}");
    for said in [
        "No match. A header says that it is a webhook of Magpipe, and none of the secrets fits it.",
        "looked at  header x-magpipe-signature: 32 bytes in hex, as an HMAC-SHA256 has",
        "plugin     Magpipe: rejected unauthenticated signature-mismatch",
        "- a proxy or the tool that captured it changed the body",
        "say with --url what the provider was told",
    ] {
        assert!(none.stdout.contains(said), "{said:?} is not in {}", none.stdout);
    }
    for secret in &secrets {
        assert!(!none.stdout.contains(secret.as_str()) && !none.stderr.contains(secret.as_str()));
    }
}

/// A gateway takes a secret as it is, so what fits only without the white space around it is said to.
#[tokio::test]
async fn white_space_around_a_secret_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let (request, _, secrets) = on_disk(directory.path(), "magpipe", "call-completed");
    for (given, is_said) in [(secrets[1].clone(), false), (format!("{}\n", secrets[1]), true)] {
        let found = Callfeed::run(["plugin", "lab", &request, "--secret", &given, "--json"])
            .await
            .json_lines()
            .remove(0);
        assert_eq!(found["provider"], "magpipe");
        assert_eq!(found["tried"]["secrets"], 1);
        let note = "the secret #1 fits without the white space around it";
        assert_eq!(found["notes"].to_string().contains(note), is_said, "{found}");
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, b" a secret of spaces ");
    let signature = BASE64_STANDARD.encode(hmac::sign(&key, b"{}"));
    let text = format!("POST / HTTP/1.1\nx-acme-hmac: {signature}\n\n{{}}");
    let args = ["plugin", "lab", "--secret", " a secret of spaces "];
    let exact = Callfeed::run_reading(args, text.as_bytes()).await.success();
    assert!(!exact.contains("white space"), "{exact}");
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let none = Callfeed::run_reading(["plugin", "lab"], b"POST / HTTP/1.1\n\n").await;
    assert_eq!(none.status, Some(1));
    assert!(none.stderr.contains("there is no secret to try"), "{none:?}");
    let body = Callfeed::run_reading(["plugin", "lab", "--secret", "s3cret"], b"{}").await;
    assert!(body.stderr.contains("the capture begins with the body"), "{body:?}");
    let value = Callfeed::run_reading(["plugin", "lab", "--secret-env", "whsec_s3cret"], b"").await;
    assert!(value.stderr.contains("write its name, not its value"), "{value:?}");
    assert!(!value.stderr.contains("s3cret"), "{value:?}");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("secrets");
    fs::write(&file, "s3cret\n".repeat(201)).expect("it can be written");
    let file = file.display().to_string();
    let many = Callfeed::run_reading(["plugin", "lab", "--secrets-file", &file], b"").await;
    assert!(many.stderr.contains("more than 200 secrets"), "{many:?}");
    let line = Callfeed::run_reading(["plugin", "lab", "--secret", "s3cret"], b"X-Sig: 1\n\n{}").await;
    assert!(
        line.stderr.contains("say with --url where the request went"),
        "{line:?}"
    );
}
