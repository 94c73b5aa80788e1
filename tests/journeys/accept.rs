use harness::{Setup, Subscriber, WHSEC};

#[tokio::test]
async fn first() {
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let id = gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    let deliveries = subscriber.wait_for(1).await;
    assert_eq!(deliveries[0].id(), id);
    assert!(deliveries[0].verifies(WHSEC));
}
