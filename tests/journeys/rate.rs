//! A subscriber gets no more attempts than it can take, and nobody else waits for it.

use std::time::Duration;

use harness::{Reply, Setup, Subscriber};

#[tokio::test]
async fn a_rate_bounds_every_attempt_of_one_subscriber_and_of_no_other() {
    let (bounded, other) = (Subscriber::start().await, Subscriber::start().await);
    bounded.script([Reply::status(503)]);
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber_with("bounded", &bounded, r#"rate = "1/s""#)
        .subscriber("other", &other)
        .start()
        .await;
    for _ in 0..4 {
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    }
    let free = other.wait_for(4).await;
    // The one that failed comes again, and that counts.
    let held = bounded.wait_for(5).await;
    let took = held[4].at - held[0].at;
    // Four seconds, of which the first one may have been late on a busy machine.
    assert!(took >= Duration::from_secs(3), "{took:?}");
    assert!(free[3].at < held[4].at);
}
