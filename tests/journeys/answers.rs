//! What senders are answered when their request is not taken: the right status, and nothing of the inside.

use harness::{Answer, Gateway, Setup, Webhook, eventually};

const SIGNATURE: &str = "x-magpipe-signature";

/// Answers are few words of JSON: no path, no provider, no library, no reason a forger could learn from.
#[track_caller]
fn reveals_nothing(answer: &Answer) {
    let known = [
        r#"{"error":"not authentic"}"#,
        r#"{"error":"no such route"}"#,
        r#"{"error":"method not allowed"}"#,
        r#"{"error":"too large"}"#,
        r#"{"error":"this kind of content is not taken here"}"#,
    ];
    assert!(known.contains(&answer.body.as_str()), "{answer:?}");
    assert!(
        !answer.headers.contains_key("server") && !answer.headers.contains_key("x-powered-by"),
        "{answer:?}"
    );
}

async fn refused(gateway: &Gateway, webhook: &Webhook, status: u16) -> Answer {
    let answer = gateway.post(webhook).await;
    assert_eq!(answer.status, status, "{answer:?}");
    reveals_nothing(&answer);
    answer
}

#[tokio::test]
async fn what_is_not_proven_is_401_whatever_is_wrong_with_it() {
    let gateway = Setup::new()
        .route("magpipe")
        .route("salpre")
        .route("voxagent")
        .start()
        .await;
    let good = gateway.sample("magpipe", "call-completed");
    let proof = good
        .headers
        .iter()
        .find(|(name, _)| name == SIGNATURE)
        .unwrap()
        .1
        .clone();
    let digits = proof.strip_prefix("sha256=").unwrap();
    let flipped = format!("{}{}", if digits.starts_with('0') { '1' } else { '0' }, &digits[1..]);

    let mut answers = Vec::new();
    answers.push(refused(&gateway, &good.clone().unsigned(), 401).await);
    for wrong in [
        String::new(),
        "sha256=".to_owned(),
        "sha256=xyz".to_owned(),
        format!("sha1={digits}"),
        format!("sha256={}", &digits[..62]),
        format!("sha256={}", &digits[..63]),
        format!("sha256={digits}00"),
        format!("sha256={flipped}"),
        format!("sha256={}", "0".repeat(64)),
        format!("sha256={}", "f".repeat(8000)),
    ] {
        answers.push(refused(&gateway, &good.clone().header(SIGNATURE, &wrong), 401).await);
    }
    let mut other_body = good.clone();
    other_body.body.push(b' ');
    answers.push(refused(&gateway, &other_body, 401).await);
    assert!(
        answers.iter().all(|answer| answer.body == answers[0].body),
        "nobody learns what was wrong"
    );

    for (route, sample, header) in [
        ("salpre", "call-ended", "authorization"),
        ("voxagent", "session-started", "x-webhook-signature"),
    ] {
        let webhook = gateway.sample(route, sample);
        refused(&gateway, &webhook.clone().unsigned(), 401).await;
        refused(
            &gateway,
            &webhook.clone().header(header, "Bearer salpre-token-2Gw5xQa"),
            401,
        )
        .await;
        refused(
            &gateway,
            &webhook.clone().header(header, &format!("Bearer {}", "0".repeat(64))),
            401,
        )
        .await;
    }
    assert!(gateway.feed().await.is_empty());
    // The operator learns what the sender does not.
    let line = gateway.logged("refused: not authentic").await;
    assert_eq!(line["route"], "magpipe");
    // And what is right still comes in.
    gateway.accept(&good).await;
}

#[tokio::test]
async fn paths_and_methods() {
    let gateway = Setup::new().route("magpipe").start().await;
    let good = gateway.sample("magpipe", "call-completed");
    for path in [
        "/",
        "/hooks",
        "/hooks/",
        "/hooks/magpip",
        "/hooks/magpipes",
        "/hooks/salpre",
        "/hooks/../etc/passwd",
        "//hooks/magpipe",
        "/HOOKS/MAGPIPE",
    ] {
        let (_, body) = good.bytes();
        // A client would tidy the path up.
        let mut connection = gateway.connect().await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection.send(&[head.into_bytes(), body].concat()).await;
        let answer = connection.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        assert!(answer.ends_with(r#"{"error":"no such route"}"#), "{path}: {answer}");
    }
    let client = harness::client();
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let response = client
            .request(method.clone(), gateway.url("/hooks/magpipe"))
            .send()
            .await
            .unwrap();
        let answer = Answer::of(response).await.unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method}");
        reveals_nothing(&answer);
    }
    let head = client.head(gateway.url("/hooks/magpipe")).send().await.unwrap();
    assert_eq!(head.status(), 405);
    // Some consoles add a slash.
    gateway.accept(&good.at("/hooks/magpipe/")).await;
}

#[tokio::test]
async fn bodies_that_are_too_large() {
    let gateway = Setup::new()
        .route("magpipe")
        .server(r#"max_body = "4 KiB""#)
        .start()
        .await;
    let mut at_most = gateway.sample("magpipe", "call-completed").body;
    at_most.resize(4096, b' ');
    gateway
        .accept(&gateway.signed("magpipe", "application/json", at_most.clone()))
        .await;
    at_most.push(b' ');
    let over = gateway.signed("magpipe", "application/json", at_most);
    refused(&gateway, &over, 413).await;

    // An honest sender of a huge body is told before it has sent it.
    let mut honest = gateway.connect().await;
    honest
        .send(b"POST /hooks/magpipe HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n")
        .await;
    assert_eq!(honest.read_head().await.0, 413);

    // Most send all of it without waiting, and read the answer afterwards.
    for _ in 0..5 {
        refused(
            &gateway,
            &gateway.signed("magpipe", "application/json", vec![b' '; 5 << 20]),
            413,
        )
        .await;
    }

    // One that does not say how much it sends is cut off soon.
    let mut chunked = gateway.connect().await;
    chunked
        .send(b"POST /hooks/magpipe HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let chunk = [b"400\r\n".as_slice(), &[b' '; 1024], b"\r\n"].concat();
    let mut sent = 0;
    while sent < 64 && chunked.try_send(&chunk).await {
        sent += 1;
    }
    assert_eq!(chunked.read_head().await.0, 413);
    assert_eq!(gateway.feed().await.len(), 1);
}

#[tokio::test]
async fn content_of_another_kind() {
    let gateway = Setup::new().route("magpipe").start().await;
    let good = gateway.sample("magpipe", "call-completed");
    for kind in [
        "text/xml",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
    ] {
        refused(&gateway, &good.clone().header("content-type", kind), 415).await;
    }
    for encoding in ["gzip", "br", "identity, gzip"] {
        refused(&gateway, &good.clone().header("content-encoding", encoding), 415).await;
    }
    assert!(gateway.feed().await.is_empty());
    gateway
        .accept(
            &good
                .header("content-type", "Application/JSON; charset=utf-8")
                .header("content-encoding", "identity"),
        )
        .await;
}

#[tokio::test]
async fn heads_that_are_too_large_or_not_http() {
    let gateway = Setup::new()
        .route("magpipe")
        .server("max_header_bytes = \"8 KiB\"\nmax_headers = 20")
        .start()
        .await;
    let long = format!(
        "POST /hooks/magpipe HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n",
        "a".repeat(20_000)
    );
    let many: String = (0..50).map(|number| format!("x-{number}: y\r\n")).collect();
    let many = format!("POST /hooks/magpipe HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    for (what, bytes, status) in [
        ("long", long.as_str(), "HTTP/1.1 431 "),
        ("many", many.as_str(), "HTTP/1.1 431 "),
        ("not HTTP", "EHLO example.com\r\n\r\n", "HTTP/1.1 400 "),
        (
            "two lengths",
            "POST /hooks/magpipe HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
            "HTTP/1.1 400 ",
        ),
    ] {
        let mut connection = gateway.connect().await;
        connection.send(bytes.as_bytes()).await;
        let answer = connection.read_to_end().await;
        assert!(answer.starts_with(status), "{what}: {answer:?}");
    }
    // Length and chunks at once are how requests are smuggled past a proxy.
    let mut both = gateway.connect().await;
    both.send(b"POST /hooks/magpipe HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        .await;
    let answer = both.read_to_end().await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer:?}");
    let still = eventually("an answer", async || {
        gateway
            .try_post(&gateway.sample("magpipe", "call-completed"))
            .await
            .ok()
    });
    still.await.accepted();
}

#[tokio::test]
async fn bytes_behind_a_webhook_do_not_hold_its_answer_back() {
    let gateway = Setup::new().route("magpipe").start().await;
    // Old clients end a body with a line break that belongs to nothing; others begin the next request.
    for more in ["\r\n", "POST /hooks/mag"] {
        let (head, body) = gateway.sample("magpipe", "call-completed").bytes();
        let mut connection = gateway.connect().await;
        connection.send(&[&head, &body, more.as_bytes()].concat()).await;
        assert_eq!(connection.read_head().await.0, 200, "{more:?}");
    }
}
