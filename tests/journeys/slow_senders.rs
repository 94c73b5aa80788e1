//! Senders that take their time: cut off when theirs is over, at nobody else's expense.

use std::{
    fs,
    time::{Duration, Instant},
};

use harness::{Connection, Gateway, Setup, eventually};

const TIMEOUT: Duration = Duration::from_millis(300);
/// A cut comes some time after the time-out on a busy machine, and never before it.
const SOON: Duration = Duration::from_secs(10);

async fn gateway(more: &str) -> Gateway {
    let lines = format!("header_timeout = \"300ms\"\nbody_timeout = \"300ms\"\n{more}");
    Setup::new().route("magpipe").server(&lines).start().await
}

/// Sends byte after byte, faster than any single read would time out, until it is cut off, and says how long after
/// `started` that was. The gateway may have been waiting since then.
async fn drip(connection: &mut Connection, bytes: &[u8], started: Instant) -> (Duration, String) {
    let mut answer = Vec::new();
    for byte in bytes {
        let sent = connection.try_send(&[*byte]).await;
        let (read, closed) = connection.read_for(Duration::from_millis(20)).await;
        answer.extend(read);
        if closed || !sent {
            return (started.elapsed(), String::from_utf8(answer).unwrap());
        }
        assert!(started.elapsed() < SOON, "dripping is not cut off");
    }
    panic!("dripping is not cut off before all is sent");
}

#[tokio::test]
async fn drips_are_cut_off_while_others_pass() {
    let gateway = gateway("").await;
    let (head, body) = gateway.sample("magpipe", "call-completed").bytes();

    let heads = async {
        let started = Instant::now();
        let mut connection = gateway.connect().await;
        let (took, answer) = drip(&mut connection, &head.repeat(20)[..head.len() - 4], started).await;
        assert!(took >= TIMEOUT, "{took:?}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    };
    let bodies = async {
        let mut connection = gateway.connect().await;
        let started = Instant::now();
        connection.send(&head).await;
        let (took, answer) = drip(&mut connection, &body, started).await;
        assert!(took >= TIMEOUT, "{took:?}");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(
            answer.ends_with(r#"{"error":"the request took too long to arrive"}"#),
            "{answer}"
        );
    };
    // As slow as allowed, all in all.
    let patient = async {
        let mut connection = gateway.connect().await;
        let (first, last) = body.split_at(body.len() / 2);
        connection.send(&head).await;
        connection.send(first).await;
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
        connection.send(last).await;
        connection.end().await;
    };
    let others = async {
        for _ in 0..20 {
            gateway.accept(&gateway.sample("magpipe", "sms-received")).await;
        }
    };
    tokio::join!(heads, bodies, patient, others);
    assert_eq!(
        gateway.metric(r#"callfeed_refused_requests_total{status="408"}"#).await,
        1.0
    );
}

#[tokio::test]
async fn a_second_head_has_no_more_time_than_the_first() {
    let gateway = gateway("idle_timeout = \"1m\"").await;
    let (head, body) = gateway.sample("magpipe", "call-completed").bytes();
    let mut connection = gateway.connect().await;
    let started = Instant::now();
    connection.send(&[head.as_slice(), &body].concat()).await;
    assert_eq!(connection.read_head().await.0, 200);
    let (took, _) = drip(&mut connection, &head.repeat(20)[..head.len() - 4], started).await;
    assert!((TIMEOUT..SOON).contains(&took), "{took:?}");
}

#[tokio::test]
async fn who_connects_and_says_nothing_does_not_keep_a_place() {
    let gateway = gateway("max_connections = 20\nidle_timeout = \"1s\"").await;
    for said in ["", "P", "PRI * HTTP/2.0\r\n", "POST /hooks/magpipe HTTP/1.1\r\n"] {
        let mut crowd = Vec::new();
        for _ in 0..20 {
            let mut connection = gateway.connect().await;
            connection.send(said.as_bytes()).await;
            crowd.push(connection);
        }
        // All places are taken; the next one is served once the crowd was cut off.
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
        for mut connection in crowd {
            let (_, closed) = connection.read_for(SOON).await;
            assert!(closed, "after {said:?}");
        }
    }
}

#[tokio::test]
async fn who_stays_after_an_answer_is_let_go() {
    let gateway = gateway("idle_timeout = \"1s\"").await;
    let (head, body) = gateway.sample("magpipe", "call-completed").bytes();
    let mut connection = gateway.connect().await;
    connection.send(&[head, body].concat()).await;
    assert_eq!(connection.read_head().await.0, 200);
    let started = Instant::now();
    let (_, closed) = connection.read_for(SOON).await;
    assert!(closed, "a silent connection is closed");
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "after {:?} of silence",
        started.elapsed()
    );
}

#[tokio::test]
async fn many_idle_connections_leave_room_for_work() {
    let gateway = Setup::new().route("magpipe").start().await;
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(gateway.connect().await);
    }
    for _ in 0..20 {
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    }
    drop(idle);
    eventually("an answer", async || {
        gateway
            .try_post(&gateway.sample("magpipe", "call-completed"))
            .await
            .ok()
    })
    .await;
}

#[tokio::test]
async fn the_admin_address_has_places_for_few() {
    let gateway = Setup::new().route("magpipe").start().await;
    let mut crowd = Vec::new();
    for _ in 0..64 {
        crowd.push(Connection::open(gateway.admin()).await);
    }
    let mut connection = Connection::open(gateway.admin()).await;
    connection.send(b"GET /healthz HTTP/1.1\r\nhost: admin\r\n\r\n").await;
    let (answer, _) = connection.read_for(TIMEOUT).await;
    assert!(answer.is_empty(), "all places are taken");
    crowd.pop();
    assert_eq!(connection.read_head().await.0, 200);
}

/// The head of a webhook whose body is announced, with a question whether to send it.
fn announcement(length: &str) -> String {
    format!(
        "POST /hooks/magpipe HTTP/1.1\r\nhost: hooks.example.com\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\n{length}\r\n\r\n"
    )
}

#[tokio::test]
async fn who_announces_much_and_sends_nothing_takes_nobodys_room() {
    let gateway = Setup::new()
        .route("magpipe")
        .server("body_timeout = \"5m\"")
        .start()
        .await;
    let mut crowd = Vec::new();
    for length in ["content-length: 1048576", "transfer-encoding: chunked"] {
        for _ in 0..200 {
            let mut connection = gateway.connect().await;
            connection.send(announcement(length).as_bytes()).await;
            // The gateway is ready to read what never comes.
            let (status, answer) = connection.read_head().await;
            assert_eq!(status, 100, "{answer}");
            crowd.push(connection);
        }
    }
    for _ in 0..20 {
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    }
}

#[tokio::test]
async fn who_stops_half_way_leaves_room_for_who_does_not() {
    let gateway = Setup::new()
        .route("magpipe")
        .server("body_timeout = \"5m\"\nmax_in_hand = \"4 MiB\"")
        .start()
        .await;
    let mut crowd = Vec::new();
    for _ in 0..16 {
        let mut connection = gateway.connect().await;
        connection
            .send(announcement("content-length: 1048576").as_bytes())
            .await;
        assert_eq!(connection.read_head().await.0, 100);
        // One that was told that there is no room may be gone.
        connection.try_send(&[b' '; 512 << 10]).await;
        crowd.push(connection);
    }
    let refused = async || {
        let refused = gateway.metric(r#"callfeed_refused_requests_total{status="503"}"#).await;
        (refused > 0.0).then_some(())
    };
    eventually("the end of the room for halves", refused).await;
    for _ in 0..20 {
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    }
    // The others gave up, so there is room for some to end.
    let (head, body) = gateway.sample("magpipe", "call-completed").bytes();
    let (first, last) = body.split_at(body.len() / 2);
    let halves = async || {
        let mut connection = gateway.connect().await;
        connection.send(&[&head, first].concat()).await;
        gateway.metric("up").await;
        connection.try_send(last).await;
        (connection.read_head().await.0 == 200).then_some(())
    };
    eventually("room for one more in pieces", halves).await;
}

#[tokio::test]
async fn a_body_of_single_bytes_takes_no_more_memory_than_it_has() {
    const BYTES: usize = 256 << 10;
    let gateway = Setup::new()
        .route("magpipe")
        .server("body_timeout = \"5m\"")
        // An unoptimised gateway takes its time for so large a body.
        .limits("plugin_time = \"1s\"")
        .start()
        .await;
    let mut sample = gateway.sample("magpipe", "call-completed");
    sample.body.resize(BYTES, b' ');
    let webhook = gateway.signed("magpipe", "application/json", sample.body);
    // What it takes to map it is taken from then on.
    gateway.accept(&webhook).await;

    let (head, body) = webhook.bytes();
    let head = String::from_utf8(head).unwrap();
    let head = head.replace(&format!("content-length: {BYTES}"), "transfer-encoding: chunked");
    let chunk = |byte: &u8| [b'1', b'\r', b'\n', *byte, b'\r', b'\n'];
    let mut chunks: Vec<u8> = body.iter().flat_map(chunk).collect();
    chunks.extend(b"0\r\n\r\n");
    let before = peak(&gateway);
    let mut connection = gateway.connect().await;
    connection.send(head.as_bytes()).await;
    connection.send(&chunks).await;
    let (status, answer) = connection.read_head().await;
    assert_eq!(status, 200, "{answer}");
    let grown = peak(&gateway) - before;
    assert!(grown < 16 * BYTES, "{grown} bytes for a body of {BYTES}");
    assert_eq!(gateway.feed().await.len(), 1, "the same event came twice");
}

/// The most bytes of memory that were ever really there.
fn peak(gateway: &Gateway) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.process_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}
