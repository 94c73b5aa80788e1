//! `callfeed plugin lab`.

use std::{
    env, fs,
    io::{IsTerminal as _, Read as _},
    path::PathBuf,
};

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    cli::{Failure, display, say_error, say_foreign},
    clock,
    config::{Limits, Secret},
    kit::lab::{Candidate, Capture, Findings, Lab, Moment, Proof, Recognised, Scheme, Signature},
    plugin::KeyEncoding,
    redaction::Redaction,
};

const CAPTURE_BYTES_MAX: u64 = 64 << 20;
const SECRETS_MAX: usize = 200;
/// A shorter secret is in any text; nobody has one.
const STRUCK_OUT_BYTES_MIN: usize = 8;

/// Find out how a captured request is signed, with which secret, and what to configure for it.
///
/// The request is a file or what is piped or pasted: request line, headers, an empty line, the body. Its built-in plugin is
/// asked first; else every header, parameter and member that could hold a signature or a token is held against everything
/// that providers usually sign, under every reading of every secret. No secret is ever printed.
///
/// Fails with exit code 1 when nothing fits, and says what was tried.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  callfeed plugin lab request.http --secret-env ACME_SECRET\n\n\
    A secret in the command line stays in the shell's history; a file or a variable does not."
)]
pub(super) struct Args {
    /// The captured request; what is piped or pasted unless given.
    #[arg(value_name = "REQUEST")]
    request: Option<PathBuf>,
    /// A secret that may be the right one, or a public key; may be repeated.
    #[arg(long, value_name = "VALUE")]
    secret: Vec<String>,
    /// An environment variable with one; may be repeated.
    #[arg(long, value_name = "NAME")]
    secret_env: Vec<String>,
    /// A file with one in each line.
    #[arg(long, value_name = "FILE")]
    secrets_file: Option<PathBuf>,
    /// The URL that the provider was told. Unless given: what the request says of itself.
    #[arg(long)]
    url: Option<String>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let candidates = args.candidates()?;
    let capture = Capture::read(&args.text()?, args.url.as_deref())?;
    let lab = Lab::open(Limits::default()).await?;
    let findings = lab.examine(&capture, &candidates).await;
    let told = match args.json {
        true => vec![json(&findings, &capture, &candidates).to_string()],
        false => text(&findings, &capture, &candidates, clock::now()),
    };
    let secrets = candidates
        .iter()
        .filter_map(|candidate| String::from_utf8(candidate.secret.expose().to_vec()).ok());
    let redaction = Redaction::new(secrets.filter(|secret| secret.len() >= STRUCK_OUT_BYTES_MIN));
    for line in told {
        say_foreign(&redaction.strike_out(&line));
    }
    match findings.is_match() {
        true => Ok(()),
        false => Err(Failure::Silent),
    }
}

impl Args {
    fn text(&self) -> anyhow::Result<Vec<u8>> {
        let mut text = Vec::new();
        match &self.request {
            Some(path) => {
                let file = fs::File::open(path).with_context(|| format!("failed to open {}", display(path)))?;
                let read = file.take(CAPTURE_BYTES_MAX + 1).read_to_end(&mut text);
                read.with_context(|| format!("failed to read {}", display(path)))?;
            }
            None => {
                let input = std::io::stdin();
                if input.is_terminal() {
                    say_error("Paste the request with its headers, then press Ctrl-D:");
                }
                let read = input.lock().take(CAPTURE_BYTES_MAX + 1).read_to_end(&mut text);
                read.context("failed to read standard input")?;
            }
        }
        if text.len() as u64 > CAPTURE_BYTES_MAX {
            bail!("the request is larger than {} MiB", CAPTURE_BYTES_MAX >> 20);
        }
        Ok(text)
    }

    fn candidates(&self) -> anyhow::Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        for (at, value) in self.secret.iter().enumerate() {
            add(&mut candidates, format!("#{}", at + 1), None, value)?;
        }
        for name in &self.secret_env {
            // What stands here may be the secret itself.
            let value = env::var(name)
                .map_err(|_| anyhow!("--secret-env names a variable that is not set; write its name, not its value"))?;
            add(&mut candidates, name.clone(), Some(name), &value)?;
        }
        if let Some(path) = &self.secrets_file {
            let text = fs::read_to_string(path).with_context(|| format!("failed to read {}", display(path)))?;
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            for (at, line) in lines {
                add(
                    &mut candidates,
                    format!("line {} of {}", at + 1, display(path)),
                    None,
                    line,
                )?;
            }
        }
        if candidates.is_empty() {
            bail!("there is no secret to try: give it with --secret-env NAME, --secrets-file FILE or --secret VALUE");
        }
        if count(&candidates) > SECRETS_MAX {
            bail!("there are more than {SECRETS_MAX} secrets to try: give those that may be the right one");
        }
        candidates.sort_by_key(|candidate| candidate.is_trimmed);
        Ok(candidates)
    }
}

/// A secret as it is, which is how a gateway takes it, and without the white space that a copy brought along.
fn add(candidates: &mut Vec<Candidate>, label: String, env: Option<&String>, value: &str) -> anyhow::Result<()> {
    let trimmed = value.trim();
    if trimmed.is_empty() {
        bail!("the secret {label} is empty");
    }
    let candidate = |value: &str, is_trimmed| Candidate {
        label: label.clone(),
        env: env.cloned(),
        secret: Secret::new(value),
        is_trimmed,
    };
    candidates.push(candidate(value, false));
    if trimmed != value {
        candidates.push(candidate(trimmed, true));
    }
    Ok(())
}

/// How many secrets were given.
fn count(candidates: &[Candidate]) -> usize {
    candidates.iter().filter(|candidate| !candidate.is_trimmed).count()
}

fn text(findings: &Findings, capture: &Capture, candidates: &[Candidate], now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if !findings.is_match() {
        return no_match(findings, capture, candidates, now);
    }
    lines.push(headline(findings));
    let mut say = |title: &str, what: &str| lines.push(format!("  {title:<10} {what}"));
    if let Some(recognised) = findings.provider() {
        say("secret", &candidates[recognised.candidate].label);
        if findings.scheme.is_none() {
            say("header", &recognised.headers.join(", "));
        }
        if !recognised.form.is_empty() {
            say("form", &format!("{}, as its plugin calls it", recognised.form));
        }
        say("becomes", &becomes(recognised));
    }
    if let Some(scheme) = &findings.scheme {
        for (title, what) in in_words(scheme, now) {
            say(title, &what);
        }
        if findings.provider().is_none() {
            let Candidate { label, .. } = &candidates[scheme.candidate];
            say("secret", &format!("{label}, {}", encoding_in_words(scheme.encoding)));
        }
    }
    if let Some(remedy) = findings.paste.remedy() {
        say("body", &format!("read {remedy}"));
    }
    if findings.provider().is_none() {
        for Recognised { display_name, .. } in &findings.recognised {
            say(
                "also",
                &format!(
                    "the plugin of {display_name} accepts it, and knows nothing in it: the scheme is one that many have"
                ),
            );
        }
    }
    if let Some(block) = &findings.block {
        if !block.toml.is_empty() {
            lines.push(format!("\nFor the configuration:\n\n{}", block.toml.trim_end()));
        }
        if !block.notes.is_empty() {
            lines.push(String::new());
        }
        lines.extend(block.notes.iter().map(|note| format!("- {note}")));
    }
    lines
}

fn headline(findings: &Findings) -> String {
    if let Some(recognised) = findings.provider() {
        return format!(
            "{}: the built-in plugin {:?} finds it authentic.",
            recognised.display_name, recognised.provider
        );
    }
    let what = match findings.scheme.as_ref().map(|scheme| &scheme.proof) {
        Some(Proof::Signature(_)) => "a signature fits",
        Some(Proof::Jws { .. }) => "a JSON Web Signature fits",
        Some(Proof::Token { .. } | Proof::Basic) => "a secret is shown in it",
        None => "a built-in plugin finds it authentic",
    };
    match findings.example {
        Some(example) => format!("{}: {what}, and there is an example for it.", example.display_name),
        None => format!("Found: {what}."),
    }
}

fn becomes(recognised: &Recognised) -> String {
    match &recognised.outcome {
        Some(outcome) => outcome.clone(),
        None => recognised.kinds.join(", "),
    }
}

fn in_words(scheme: &Scheme, now: Timestamp) -> Vec<(&'static str, String)> {
    match &scheme.proof {
        Proof::Signature(signature) => signature_in_words(signature, now),
        Proof::Jws { place, algorithm, .. } => vec![("token", format!("a JWS, {algorithm}, in the {place}"))],
        Proof::Token { place, prefix } => {
            let behind = match prefix.as_str() {
                "" => String::new(),
                prefix => format!(", behind {prefix:?}"),
            };
            let warning = "nothing is signed: whoever has seen one webhook can send another";
            vec![
                ("token", format!("in the {place}{behind}")),
                ("proves", warning.to_owned()),
            ]
        }
        Proof::Basic => vec![("token", "the password of basic authentication".to_owned())],
    }
}

fn signature_in_words(signature: &Signature, now: Timestamp) -> Vec<(&'static str, String)> {
    let presented = &signature.presented;
    let shown = match signature.shown().as_str() {
        "{signature}" => String::new(),
        pattern => format!(" as {pattern:?}"),
    };
    let algorithm = signature.algorithm.as_str();
    let mut words = vec![
        (
            "signature",
            format!(
                "{algorithm} in {}, in the {}{shown}",
                presented.encoding.as_str(),
                presented.place
            ),
        ),
        ("signed", signature.message.template().escape_debug().to_string()),
    ];
    if !signature.message.binds_content() {
        words.push((
            "proves",
            "the body is not signed: whoever has seen one webhook can send another".to_owned(),
        ));
    }
    words.push((
        "time",
        match &signature.message.moment {
            Some(moment) => time_in_words(moment, now),
            None => "none is signed: an old webhook can be sent again".to_owned(),
        },
    ));
    words
}

fn time_in_words(moment: &Moment, now: Timestamp) -> String {
    let away = now.duration_since(moment.at).as_secs();
    let amount = match away.unsigned_abs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    };
    let (direction, is_fresh) = (if away < 0 { "ahead" } else { "ago" }, away.abs() <= 300);
    let fate = if is_fresh {
        "within the usual 5 minutes"
    } else {
        "a gateway that allows the usual 5 minutes would refuse it now"
    };
    format!(
        "{} in the {}, {amount} {direction}: {fate}",
        moment.unit.as_str(),
        moment.place
    )
}

fn encoding_in_words(encoding: KeyEncoding) -> &'static str {
    match encoding {
        KeyEncoding::Utf8 => "as it is written",
        KeyEncoding::Base64 => "which is base64",
        KeyEncoding::Hex => "which is hexadecimal",
        KeyEncoding::Pem => "a public key in PEM",
        KeyEncoding::StandardWebhooks => "whsec_ and base64",
    }
}

fn no_match(findings: &Findings, capture: &Capture, candidates: &[Candidate], now: Timestamp) -> Vec<String> {
    let tried = &findings.tried;
    let mut lines = vec![match &findings.named {
        Some(name) => {
            format!("No match. A header says that it is a webhook of {name}, and none of the secrets fits it.")
        }
        None => "No match: none of the secrets fits anything in this request.".to_owned(),
    }];
    let readings = match tried.readings {
        1 => String::new(),
        more => format!(", each with the body read in {more} ways (with and without a newline at its end, …)"),
    };
    lines.push(format!(
        "  tried      {} in {}, over {}{readings}",
        plural(count(candidates), "secret"),
        plural(tried.keys, "reading"),
        plural(tried.messages, "message")
    ));
    lines.extend(
        tried
            .suspects
            .iter()
            .map(|suspect| format!("  looked at  {}: {}", suspect.place, suspect.shape)),
    );
    if tried.suspects.is_empty() {
        lines.push("  looked at  nothing: no header, parameter or member has the shape of a signature".to_owned());
    }
    lines.extend(tried.refusals.iter().map(|refusal| format!("  plugin     {refusal}")));
    if tried.is_cut {
        lines.push("  not tried  everything: that is too much work, so give fewer secrets".to_owned());
    }
    lines.push("\nLikely reasons:".to_owned());
    lines.extend(
        reasons(findings, capture, candidates, now)
            .into_iter()
            .map(|reason| format!("- {reason}")),
    );
    lines
}

/// Why nothing fits: what this request shows first, then what it may be anyway.
fn reasons(findings: &Findings, capture: &Capture, candidates: &[Candidate], now: Timestamp) -> Vec<String> {
    let mut reasons = Vec::new();
    let here = capture.webhook.body.len();
    match capture.length_said() {
        Some(said) => reasons.push(format!(
            "the body was changed or cut on its way here: content-length says {said} bytes, and there are {here}"
        )),
        None => reasons.push(
            "a proxy or the tool that captured it changed the body: parsed and printed it again, or unpacked it"
                .to_owned(),
        ),
    }
    reasons.push(format!(
        "the URL is signed, and it is not {}: say with --url what the provider was told, slash and query included",
        capture.urls[0].split('?').next().unwrap_or_default()
    ));
    for candidate in candidates.iter().filter(|candidate| !candidate.is_trimmed) {
        let secret = String::from_utf8_lossy(candidate.secret.expose().trim_ascii());
        if secret.ends_with("...") || secret.ends_with('…') || secret.contains('*') || secret.contains('•') {
            reasons.push(format!(
                "the secret {} is cut: it ends as consoles show one in part",
                candidate.label
            ));
        } else if secret.len() < 16 {
            reasons.push(format!("the secret {} is short; copy all of it", candidate.label));
        }
    }
    reasons.push(
        "the secret is another one: of another webhook, another account, or from before it was changed".to_owned(),
    );
    let age = findings
        .tried
        .sent_at
        .map(|at| now.duration_since(at).as_secs() / 86_400);
    if let Some(days @ 1..) = age {
        reasons.push(format!(
            "the request is {days} days old; the secret may have been changed since"
        ));
    }
    reasons.push("the scheme is none of the usual ones: then `callfeed plugin new` begins a plugin for it".to_owned());
    reasons
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn json(findings: &Findings, capture: &Capture, candidates: &[Candidate]) -> Value {
    let label = |at: usize| candidates[at].label.as_str();
    let recognised = findings.recognised.iter().map(|recognised| {
        json!({
            "provider": recognised.provider, "display_name": recognised.display_name, "sure": recognised.is_sure,
            "secret": label(recognised.candidate), "secret_name": recognised.secret, "form": recognised.form,
            "headers": recognised.headers,
            "options": recognised.options, "events": recognised.kinds, "signs_url": recognised.signs_url,
            "outcome": recognised.outcome,
        })
    });
    let suspects = findings
        .tried
        .suspects
        .iter()
        .map(|suspect| json!({ "place": suspect.place.to_string(), "shape": suspect.shape }));
    json!({
        "match": findings.is_match(),
        "provider": findings.provider().map(|recognised| recognised.provider.as_str()),
        "example": findings.example.map(|example| example.name),
        "named": findings.named,
        "recognised": recognised.collect::<Vec<_>>(),
        "scheme": findings.scheme.as_ref().map(|scheme| scheme_json(scheme, label(scheme.candidate))),
        "body_read": findings.paste.remedy(),
        "config": findings.block.as_ref().map(|block| block.toml.as_str()),
        "notes": findings.block.as_ref().map_or(&[][..], |block| &block.notes),
        "tried": {
            "secrets": count(candidates), "keys": findings.tried.keys, "messages": findings.tried.messages,
            "bodies": findings.tried.readings, "everything": !findings.tried.is_cut,
            "suspects": suspects.collect::<Vec<_>>(), "refusals": findings.tried.refusals,
            "content_length": capture.length_said(), "body_bytes": capture.webhook.body.len(),
        },
    })
}

fn scheme_json(scheme: &Scheme, secret: &str) -> Value {
    let mut json = match &scheme.proof {
        Proof::Signature(signature) => {
            let moment = signature.message.moment.as_ref();
            json!({
                "kind": "signature", "place": signature.presented.place.to_string(), "value": signature.shown(),
                "algorithm": signature.algorithm.as_str(), "encoding": signature.presented.encoding.as_str(),
                "signed": signature.message.template(), "binds_body": signature.message.binds_content(),
                "timestamp": moment.map(|moment| json!({
                    "place": moment.place.to_string(), "unit": moment.unit.as_str(), "at": moment.at.to_string(),
                })),
            })
        }
        Proof::Jws { place, algorithm, .. } => {
            json!({ "kind": "jws", "place": place.to_string(), "algorithm": algorithm })
        }
        Proof::Token { place, prefix } => json!({ "kind": "token", "place": place.to_string(), "prefix": prefix }),
        Proof::Basic => json!({ "kind": "basic", "place": "header authorization" }),
    };
    json["secret"] = secret.into();
    json["secret_encoding"] = scheme.encoding.as_str().into();
    json
}
