//! Webhooks that nothing proves: refused, unless the route says that they are welcome.

use harness::{Setup, Subscriber};

#[tokio::test]
async fn a_whatsapp_forward_comes_in_only_where_unsigned_webhooks_are_allowed() {
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .route("magpipe")
        .route_with("whatsapp", "magpipe", "allow_unsigned = true")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let forward = gateway.sample("magpipe", "whatsapp-received").unsigned();

    assert_eq!(gateway.post(&forward).await.status, 401);
    let id = gateway.accept(&forward.clone().at("/hooks/whatsapp")).await;
    let deliveries = subscriber.wait_for(1).await;
    assert_eq!(deliveries[0].id(), id);
    assert_eq!(deliveries[0].event()["data"]["message"]["channel"], "whatsapp");
    assert_eq!(gateway.feed().await.len(), 1);

    // Even there, a proof that is wrong is worse than none.
    let forged = gateway
        .sample("magpipe", "call-completed")
        .header("x-magpipe-signature", &format!("sha256={:064}", 0));
    assert_eq!(gateway.post(&forged.at("/hooks/whatsapp")).await.status, 401);
    assert_eq!(gateway.feed().await.len(), 1);
}
