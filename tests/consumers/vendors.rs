//! What `callfeed send` posts is what the providers' own documentation makes receivers check: three of the five print
//! code, and it runs here as it stands (`vendor/*/printed*`; beside it the server that the page leaves out).
//!
//! Magnétis prints steps instead of code; `vendor/magnetis/steps.py` follows them, for the form bodies they speak of.
//! Salpre signs nothing: it sends a header that its user chose, so all there is to check is that the header arrives.

use std::process::Command;

use callfeed::simulate;
use harness::{Callfeed, Delivery, Output, Setup, Subscriber, client, provider_secret};

use crate::{program::Program, tools};

/// What `callfeed send` posts for one provider's route; needs no gateway.
struct Sender {
    setup: Setup,
    provider: &'static str,
}

impl Sender {
    fn new(provider: &'static str) -> Self {
        let setup = Setup::new().route(provider);
        setup.write();
        Self { setup, provider }
    }

    async fn send(&self, sample: &str, to: &str) -> Output {
        let config = self.setup.config_path();
        let config = config.to_str().expect("temporary paths are text");
        let args = [
            "send",
            "--config",
            config,
            "--route",
            self.provider,
            "--sample",
            sample,
            "--to",
            to,
            "--json",
        ];
        Callfeed::run(args).await
    }

    /// Sends a sample to a server that has to accept it; returns what was answered.
    async fn accepted(&self, sample: &str, to: &Program) -> String {
        let output = self.send(sample, to.url()).await;
        assert_eq!(
            output.status,
            Some(0),
            "{} {sample}: {} {}",
            self.provider,
            output.stdout,
            output.stderr
        );
        output.json_lines()[0]["body"]
            .as_str()
            .expect("the answer is in it")
            .to_owned()
    }

    /// What a sample looks like when it arrives.
    async fn captured(&self, sample: &str) -> Delivery {
        let server = Subscriber::start().await;
        self.send(sample, &server.url()).await.success();
        server.deliveries().remove(0)
    }
}

/// Posts a captured request again, as it came but for what `change` does to it; returns the status and the body.
async fn replay(mut request: Delivery, to: &Program, change: impl FnOnce(&mut Delivery)) -> (u16, String) {
    change(&mut request);
    for name in ["host", "content-length"] {
        request.headers.remove(name);
    }
    let answer = client()
        .post(to.url())
        .headers(request.headers)
        .body(request.body)
        .send()
        .await;
    let answer = answer.expect("the example answers");
    (
        answer.status().as_u16(),
        answer.text().await.expect("the answer is whole"),
    )
}

fn another_body(request: &mut Delivery) {
    let text = String::from_utf8(request.body.to_vec()).expect("the samples are text");
    let changed = text
        .replace("+1", "+2")
        .replace("2019-", "2020-")
        .replace("session_id\":\"", "session_id\":\"0");
    assert_ne!(text, changed);
    request.body = changed.into();
}

/// A signature of the same form that belongs to something else.
fn another_signature(header: &'static str) -> impl FnOnce(&mut Delivery) {
    move |request| {
        let value = request.header(header);
        let (head, last) = value.split_at(value.len() - 2);
        let turned = if last == "00" { "11" } else { "00" };
        let value = format!("{head}{turned}").parse().expect("it is a header's value");
        request.headers.insert(header, value);
    }
}

fn cut_short(header: &'static str) -> impl FnOnce(&mut Delivery) {
    move |request| {
        let value = request.header(header);
        let value = value[..value.len() - 2].parse().expect("it is a header's value");
        request.headers.insert(header, value);
    }
}

fn with_secret(mut command: Command, variable: &str, provider: &str) -> Command {
    command.env(variable, provider_secret(provider).1);
    command
}

#[tokio::test]
async fn magpipe() {
    const SIGNATURE: &str = "x-magpipe-signature";
    // The secret as shown in its settings, `whsec_` and all, is the key.
    let program = with_secret(
        tools::node("vendor/magpipe/server.cjs"),
        "MAGPIPE_WEBHOOK_SECRET",
        "magpipe",
    );
    let example = Program::serve(program).await;
    let sender = Sender::new("magpipe");
    // WhatsApp messages have another shape and no signature, which the printed code knows nothing of.
    for sample in simulate::samples("magpipe")
        .iter()
        .filter(|sample| sample.name != "whatsapp-received")
    {
        assert_eq!(sender.accepted(sample.name, &example).await, "OK");
    }
    let line = example.prints("Received: call.completed").await;
    assert_eq!(line.len(), "Received: call.completed ".len() + 36, "{line}");

    let captured = sender.captured("call-completed").await;
    let accepted = replay(captured.clone(), &example, |_| ()).await;
    assert_eq!(accepted, (200, "OK".to_owned()));
    let refused = (401, "Invalid signature".to_owned());
    assert_eq!(replay(captured.clone(), &example, another_body).await, refused);
    assert_eq!(
        replay(captured.clone(), &example, another_signature(SIGNATURE)).await,
        refused
    );
    // The printed comparison throws when the lengths differ, and Express makes that a 500: not accepted either.
    let thrown = (500, "RangeError: ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH".to_owned());
    assert_eq!(replay(captured, &example, cut_short(SIGNATURE)).await, thrown);
}

#[tokio::test]
async fn topcalls_signature_verification() {
    const SIGNATURE: &str = "x-topcalls-signature";
    let mut program = with_secret(tools::node("vendor/topcalls/server.mjs"), "WEBHOOK_SECRET", "topcalls");
    program.arg("signature");
    let example = Program::serve(program).await;
    let sender = Sender::new("topcalls");
    // The printed code checks its own `JSON.stringify` of what was parsed, so every sample has to be spelt like that.
    for sample in simulate::samples("topcalls") {
        sender.accepted(sample.name, &example).await;
    }

    let captured = sender.captured("call-completed").await;
    assert_eq!(replay(captured.clone(), &example, |_| ()).await.0, 200);
    let refused = (401, r#"{"error":"Invalid signature"}"#.to_owned());
    assert_eq!(replay(captured.clone(), &example, another_body).await, refused);
    assert_eq!(
        replay(captured.clone(), &example, another_signature(SIGNATURE)).await,
        refused
    );
    // The printed comparison throws when the lengths differ, and Express makes that a 500: not accepted either.
    let thrown = (500, "RangeError: ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH".to_owned());
    assert_eq!(replay(captured, &example, cut_short(SIGNATURE)).await, thrown);
}

#[tokio::test]
async fn topcalls_handling() {
    let mut program = tools::node("vendor/topcalls/server.mjs");
    program.arg("handling");
    let example = Program::serve(program).await;
    let answer = Sender::new("topcalls").accepted("call-completed", &example).await;
    assert_eq!(answer, r#"{"received":true}"#);
    for function in ["updateCRM", "sendNotification", "updateAnalytics"] {
        let line = example.prints(function).await;
        assert_eq!(line.len(), function.len() + 1 + 36, "the call has its id: {line}");
    }
}

#[tokio::test]
async fn voxagent() {
    const SIGNATURE: &str = "x-webhook-signature";
    let program = with_secret(tools::python("vendor/voxagent/server.py"), "WEBHOOK_SECRET", "voxagent");
    let example = Program::serve(program).await;
    let sender = Sender::new("voxagent");
    for sample in simulate::samples("voxagent") {
        sender.accepted(sample.name, &example).await;
    }

    let captured = sender.captured("conversation-complete").await;
    assert_eq!(replay(captured.clone(), &example, |_| ()).await.0, 200);
    assert_eq!(replay(captured.clone(), &example, another_body).await.0, 401);
    assert_eq!(
        replay(captured.clone(), &example, another_signature(SIGNATURE)).await.0,
        401
    );
    assert_eq!(replay(captured, &example, cut_short(SIGNATURE)).await.0, 401);
}

#[tokio::test]
async fn magnetis() {
    const SIGNATURE: &str = "x-calltracking-signature";
    const SAMPLE: &str = "legacy-call";
    let server = |url: &str| {
        let mut program = with_secret(tools::python("vendor/magnetis/server.py"), "WEBHOOK_KEY", "magnetis");
        program.env("WEBHOOK_URL", url);
        Program::serve(program)
    };
    // The URL that Magnétis was told is what it signs, wherever the webhook arrives.
    let (example, elsewhere) = (
        server("https://hooks.example.com/hooks/magnetis").await,
        server("https://example.com/").await,
    );
    let sender = Sender::new("magnetis");
    sender.accepted(SAMPLE, &example).await;
    assert_eq!(sender.send(SAMPLE, elsewhere.url()).await.status, Some(1));

    let captured = sender.captured(SAMPLE).await;
    assert_eq!(captured.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(replay(captured.clone(), &example, |_| ()).await.0, 200);
    assert_eq!(replay(captured.clone(), &example, another_body).await.0, 401);
    assert_eq!(
        replay(captured.clone(), &example, another_signature(SIGNATURE)).await.0,
        401
    );
    assert_eq!(replay(captured, &example, cut_short(SIGNATURE)).await.0, 401);
}

#[tokio::test]
async fn salpre() {
    let captured = Sender::new("salpre").captured("call-ended").await;
    assert_eq!(
        captured.header("authorization"),
        format!("Bearer {}", provider_secret("salpre").1)
    );
    assert_eq!(captured.header("content-type"), "application/json");
}
