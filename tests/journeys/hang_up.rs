//! A sender that does not wait for the answer: its event is kept all the same.

use harness::{Setup, Subscriber, eventually};

#[tokio::test]
async fn who_hangs_up_after_the_body_has_sent_an_event() {
    const COUNT: usize = 60;
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    for _ in 0..COUNT {
        let (head, body) = gateway.sample("magpipe", "call-completed").bytes();
        let mut connection = gateway.connect().await;
        connection.send(&[head, body].concat()).await;
        drop(connection);
    }
    subscriber.wait_for(COUNT).await;
    assert_eq!(gateway.feed().await.len(), COUNT);
}

#[tokio::test]
async fn who_ends_its_side_after_the_body_is_answered() {
    let gateway = Setup::new().route("magpipe").start().await;
    let (head, body) = gateway.sample("magpipe", "call-completed").bytes();
    let mut connection = gateway.connect().await;
    connection.send(&[head, body].concat()).await;
    connection.end().await;
    assert!(connection.read_to_end().await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn who_hangs_up_within_the_body_has_sent_nothing() {
    let gateway = Setup::new().route("magpipe").start().await;
    for part in [0, 1, 100] {
        let (head, body) = gateway.sample("magpipe", "call-completed").bytes();
        let mut connection = gateway.connect().await;
        connection.send(&head).await;
        connection.send(&body[..part]).await;
        if part == 100 {
            connection.reset()
        } else {
            drop(connection)
        }
    }
    let refused = r#"callfeed_refused_requests_total{status="400"}"#;
    eventually("three broken requests", async || {
        (gateway.metric(refused).await >= 3.0).then_some(())
    })
    .await;
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    assert_eq!(gateway.feed().await.len(), 1);
}
