//! Senders that send much and mean nothing by it, and senders that take no answer: what they cost ends with them.

use std::{
    fs,
    time::{Duration, Instant},
};

use harness::{Connection, Gateway, PATIENCE, Setup, client, eventually, http2_client};
use tokio::task::JoinSet;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A gateway that loses its patience soon.
const IMPATIENT: &str = "header_timeout = \"1s\"\nidle_timeout = \"1s\"\nanswer_timeout = \"1s\"\n";

async fn gateway(lines: &str) -> Gateway {
    Setup::new().route("magpipe").server(lines).start().await
}

/// What the process holds now.
#[derive(Debug, Clone, Copy)]
struct Held {
    memory: usize,
    descriptors: usize,
}

fn held(gateway: &Gateway) -> Held {
    let process = format!("/proc/{}", gateway.process_id());
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    Held {
        memory: line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10,
        descriptors: fs::read_dir(format!("{process}/fd")).unwrap().count(),
    }
}

/// Webhooks of others are taken; and what they took stays with the gateway from then on.
async fn others_pass(gateway: &Gateway) {
    for _ in 0..10 {
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    }
}

/// Waits until a crowd is gone and nothing is open any more but what was before it came.
async fn all_are_gone_but(gateway: &Gateway, before: Held) {
    // The connection of the others may have come since.
    let gone = async || (held(gateway).descriptors <= before.descriptors + 2).then_some(());
    eventually("the end of all connections", gone).await;
}

mod http2 {
    //! Frames as RFC 9113 has them, in any order.

    pub(super) const HEADERS: u8 = 1;
    pub(super) const PRIORITY: u8 = 2;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const CONTINUATION: u8 = 9;
    pub(super) const UNKNOWN: u8 = 0xf0;
    pub(super) const ACK: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;

    pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// What a client begins with.
    pub(super) fn preface() -> Vec<u8> {
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            frame(SETTINGS, 0, 0, &[]).as_slice(),
        ]
        .concat()
    }

    /// A header as a literal that enters no table (RFC 7541, 6.2.2).
    pub(super) fn header(name: &str, value: &str) -> Vec<u8> {
        let mut bytes = vec![0];
        for text in [name, value] {
            match text.len() {
                short @ 0..127 => bytes.push(short as u8),
                mut rest => {
                    bytes.push(127);
                    rest -= 127;
                    while rest >= 128 {
                        bytes.push((rest % 128) as u8 | 128);
                        rest /= 128;
                    }
                    bytes.push(rest as u8);
                }
            }
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    /// The head of a webhook, without its proof.
    pub(super) fn head() -> Vec<u8> {
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/hooks/magpipe"),
            (":authority", "hooks.example.com"),
            ("content-type", "application/json"),
        ];
        headers.iter().flat_map(|(name, value)| header(name, value)).collect()
    }

    /// The reason of the GOAWAY among these frames.
    pub(super) fn goaway(mut bytes: &[u8]) -> Option<u32> {
        while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (payload, rest) = rest.split_at_checked(length)?;
            if head[3] == GOAWAY {
                return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
            bytes = rest;
        }
        None
    }
}

/// "The peer exhibits behaviour that might be generating excessive load" (RFC 9113, 7).
const ENHANCE_YOUR_CALM: u32 = 11;

/// Sends these bytes, reading what the gateway says, until it has had enough; and says why it had.
async fn flood(connection: &mut Connection, mut more: impl FnMut() -> Vec<u8>) -> Option<u32> {
    let (started, mut answered) = (Instant::now(), Vec::new());
    loop {
        let sent = connection.try_send(&more()).await;
        let (read, closed) = connection.read_for(Duration::from_millis(1)).await;
        answered.extend(read);
        if closed || !sent {
            return http2::goaway(&answered);
        }
        assert!(started.elapsed() < PATIENCE, "the flood goes on");
    }
}

#[tokio::test]
async fn streams_begun_and_reset_at_once_end_the_connection() {
    let gateway = gateway("").await;
    others_pass(&gateway).await;
    let before = held(&gateway);
    for _ in 0..20 {
        let mut connection = gateway.connect().await;
        connection.send(&http2::preface()).await;
        let mut streams = (1..).step_by(2);
        let flood = flood(&mut connection, || {
            let begun_and_reset = |stream| {
                let begun = http2::frame(http2::HEADERS, http2::END_HEADERS, stream, &http2::head());
                [begun, http2::frame(http2::RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
            };
            streams.by_ref().take(100).flat_map(begun_and_reset).collect()
        });
        let (reason, ()) = tokio::join!(flood, others_pass(&gateway));
        assert_eq!(reason, Some(ENHANCE_YOUR_CALM));
    }
    assert!(held(&gateway).memory < before.memory + 16 * MIB);
    all_are_gone_but(&gateway, before).await;
}

#[tokio::test]
async fn streams_begun_and_reset_later_leave_nothing_behind() {
    let gateway = gateway("").await;
    others_pass(&gateway).await;
    let before = held(&gateway);
    let mut connection = gateway.connect().await;
    connection.send(&http2::preface()).await;
    for stream in (1..).step_by(2).take(2000) {
        let begun = http2::frame(http2::HEADERS, http2::END_HEADERS, stream, &http2::head());
        connection.send(&begun).await;
        // Once this is answered the stream was accepted: resetting it is nothing that floods are known by.
        connection.send(&http2::frame(http2::PING, 0, 0, &[0; 8])).await;
        connection
            .read_until(&http2::frame(http2::PING, http2::ACK, 0, &[0; 8]))
            .await;
        connection
            .send(&http2::frame(http2::RST_STREAM, 0, stream, &8u32.to_be_bytes()))
            .await;
    }
    others_pass(&gateway).await;
    assert!(held(&gateway).memory < before.memory + 16 * MIB);
    drop(connection);
    all_are_gone_but(&gateway, before).await;
}

#[tokio::test]
async fn a_head_that_is_continued_without_end_ends_the_connection() {
    let gateway = gateway("").await;
    others_pass(&gateway).await;
    let before = held(&gateway);
    let header = http2::header("x-more", &"x".repeat(10 * KIB));
    for piece in [header.as_slice(), b""] {
        let mut connection = gateway.connect().await;
        connection.send(&http2::preface()).await;
        connection
            .send(&http2::frame(http2::HEADERS, 0, 1, &http2::head()))
            .await;
        let more = http2::frame(http2::CONTINUATION, 0, 1, piece).repeat(100);
        let (reason, ()) = tokio::join!(flood(&mut connection, || more.clone()), others_pass(&gateway));
        assert_eq!(reason, Some(ENHANCE_YOUR_CALM), "pieces of {}", piece.len());
    }
    assert!(held(&gateway).memory < before.memory + 16 * MIB);
    all_are_gone_but(&gateway, before).await;
}

#[tokio::test]
async fn frames_of_no_request_keep_a_connection_no_longer_than_silence() {
    let gateway = gateway(IMPATIENT).await;
    others_pass(&gateway).await;
    let before = held(&gateway);
    for frame in [
        http2::frame(http2::PING, 0, 0, &[0; 8]),
        http2::frame(http2::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
        http2::frame(http2::PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
        http2::frame(http2::UNKNOWN, 0, 0, &[0; 64]),
    ] {
        let mut connection = gateway.connect().await;
        connection.send(&http2::preface()).await;
        let more = frame.repeat(MIB / frame.len());
        tokio::join!(flood(&mut connection, || more.clone()), others_pass(&gateway));
    }
    assert!(held(&gateway).memory < before.memory + 16 * MIB);
    all_are_gone_but(&gateway, before).await;
}

/// Answers wait in the kernel's buffers first, so it takes many until the gateway notices.
#[tokio::test]
async fn who_takes_no_answer_does_not_keep_a_place() {
    const PLACES: usize = 8;
    let gateway = gateway(&format!("{IMPATIENT}max_connections = {PLACES}")).await;
    others_pass(&gateway).await;
    let before = held(&gateway);
    let requests = b"GET / HTTP/1.1\r\nhost: hooks.example.com\r\n\r\n".repeat(1000);
    let pings = http2::frame(http2::PING, 0, 0, &[0; 8]).repeat(2000);
    for (begin, more) in [(Vec::new(), requests), (http2::preface(), pings)] {
        let mut crowd = JoinSet::new();
        for _ in 0..PLACES {
            let mut connection = Connection::open_narrow(gateway.address()).await;
            connection.send(&begin).await;
            let more = more.clone();
            crowd.spawn(async move { while connection.try_send(&more).await {} });
        }
        // One who comes later is served once there is a place again.
        let webhook = gateway.sample("magpipe", "call-completed");
        let answer = webhook.post(&client(), &gateway.url(&webhook.path)).await.unwrap();
        assert_eq!(answer.accepted().len(), 1);
        tokio::time::timeout(PATIENCE, crowd.join_all())
            .await
            .expect("all of the crowd are cut off");
    }
    assert!(held(&gateway).memory < before.memory + 32 * MIB);
    all_are_gone_but(&gateway, before).await;
}

/// Connections with as many streams as may be, each with the head of a webhook whose body never comes.
async fn stalled(gateway: &Gateway, connections: usize, head: &[u8]) -> Vec<Connection> {
    let mut crowd = Vec::new();
    for _ in 0..connections {
        let mut connection = gateway.connect().await;
        connection.send(&http2::preface()).await;
        for stream in (1..).step_by(2).take(128) {
            let mut pieces = head.chunks(16 * KIB).peekable();
            let mut kind = http2::HEADERS;
            while let Some(piece) = pieces.next() {
                let flags = if pieces.peek().is_some() { 0 } else { http2::END_HEADERS };
                connection.send(&http2::frame(kind, flags, stream, piece)).await;
                kind = http2::CONTINUATION;
            }
        }
        crowd.push(connection);
    }
    crowd
}

#[tokio::test]
async fn streams_that_stop_after_their_head_leave_room() {
    let gateway = gateway("body_timeout = \"5m\"\nmax_in_hand = \"2 MiB\"").await;
    let crowd = stalled(&gateway, 8, &http2::head()).await;
    for _ in 0..20 {
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    }
    // Also on a connection of the same kind.
    let webhook = gateway.sample("magpipe", "call-completed");
    let answer = webhook
        .post(&http2_client(), &gateway.url(&webhook.path))
        .await
        .unwrap();
    assert_eq!(answer.accepted().len(), 1);
    drop(crowd);
}

#[tokio::test]
async fn heads_take_no_more_memory_than_there_is_for_them() {
    const CONNECTIONS: usize = 500;
    let gateway = gateway("body_timeout = \"5m\"\nmax_in_hand = \"4 MiB\"").await;
    others_pass(&gateway).await;
    let before = held(&gateway);
    let mut head = String::from("POST /hooks/magpipe HTTP/1.1\r\nhost: hooks.example.com\r\n");
    while head.len() < 31 * KIB {
        head.push_str("x-more: and more\r\n");
    }
    let mut crowd = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = gateway.connect().await;
        connection.send(head.as_bytes()).await;
        crowd.push(connection);
    }
    others_pass(&gateway).await;
    let now = held(&gateway);
    assert!(
        now.descriptors <= before.descriptors + CONNECTIONS + 2,
        "{before:?} {now:?}"
    );
    // What is allowed of a head, twice while its buffer grows.
    assert!(
        now.memory < before.memory + CONNECTIONS * (2 * 32 + 16) * KIB,
        "{before:?} {now:?}"
    );
    drop(crowd);
    all_are_gone_but(&gateway, before).await;

    let before = held(&gateway);
    let head = [http2::head(), http2::header("x-more", &"x".repeat(30 * KIB))].concat();
    let crowd = stalled(&gateway, 24, &head).await;
    let sent = 24 * 128 * head.len();
    // What is refused is given back to the system in the allocator's own time.
    eventually("the end of what is not held", async || {
        others_pass(&gateway).await;
        (held(&gateway).memory < before.memory + sent / 2).then_some(())
    })
    .await;
    drop(crowd);
    all_are_gone_but(&gateway, before).await;
}

#[tokio::test]
async fn a_form_of_too_many_fields_is_refused() {
    let gateway = Setup::new().route("magpipe").route("magnetis").start().await;
    let fields = |count| vec!["a=1"; count].join("&");
    for (count, status) in [(1000, 401), (1001, 413), (200_000, 413)] {
        let form = gateway.signed("magnetis", "application/x-www-form-urlencoded", fields(count));
        assert_eq!(gateway.post(&form.unsigned()).await.status, status, "{count} fields");
    }
    let webhook = gateway.sample("magpipe", "call-completed");
    for (count, status) in [(1000, 200), (1001, 413)] {
        let target = format!("{}?{}", webhook.path, fields(count));
        assert_eq!(
            gateway.post(&webhook.clone().at(&target)).await.status,
            status,
            "{count} variables"
        );
    }
}
