//! Signs and posts, as Standard Webhooks has it, and keeps nothing: what is in hand when the process ends is lost.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Uri, header};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sha2::Sha256;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use crate::gateway::{SUBSCRIBER_IN_FLIGHT, SUBSCRIBER_KEY};

const QUEUE_MAX: usize = 1024;

type Http = Client<HttpConnector, Full<Bytes>>;

/// A queue for each subscriber. A full one holds up the sender.
pub(crate) struct Subscribers {
    queues: Vec<mpsc::Sender<Delivery>>,
    _delivering: JoinSet<()>,
}

#[derive(Clone)]
struct Delivery {
    id: String,
    body: Bytes,
}

impl Subscribers {
    pub(crate) fn start(to: Vec<Uri>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new()).build(connector);
        let (mut queues, mut delivering) = (Vec::new(), JoinSet::new());
        for uri in to {
            let (deliveries, queue) = mpsc::channel(QUEUE_MAX);
            queues.push(deliveries);
            delivering.spawn(
                Arc::new(Subscriber {
                    http: http.clone(),
                    uri,
                })
                .deliver_all(queue),
            );
        }
        Self {
            queues,
            _delivering: delivering,
        }
    }

    pub(crate) async fn take(&self, id: &str, body: &Bytes) -> Result<()> {
        for queue in &self.queues {
            let delivery = Delivery {
                id: id.to_owned(),
                body: body.clone(),
            };
            queue.send(delivery).await.ok().context("a subscriber stopped")?;
        }
        Ok(())
    }
}

struct Subscriber {
    http: Http,
    uri: Uri,
}

impl Subscriber {
    async fn deliver_all(self: Arc<Self>, mut queue: mpsc::Receiver<Delivery>) {
        let slots = Arc::new(Semaphore::new(SUBSCRIBER_IN_FLIGHT));
        let mut in_flight = JoinSet::new();
        while let Some(delivery) = queue.recv().await {
            let slot = Arc::clone(&slots)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let subscriber = Arc::clone(&self);
            in_flight.spawn(async move {
                let delivered = subscriber.deliver(delivery).await;
                drop(slot);
                delivered
            });
            while let Some(delivered) = in_flight.try_join_next() {
                // There is no second try: the receiver would wait for ever, and the bench with it.
                delivered
                    .expect("a delivery does not panic")
                    .expect("the receiver takes everything");
            }
        }
    }

    async fn deliver(&self, Delivery { id, body }: Delivery) -> Result<()> {
        let timestamp = callfeed::clock::now().as_second().to_string();
        let mac = Hmac::<Sha256>::new_from_slice(SUBSCRIBER_KEY).expect("any length is a key");
        let mac = mac
            .chain_update(&id)
            .chain_update(".")
            .chain_update(&timestamp)
            .chain_update(".")
            .chain_update(&body);
        let signature = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        let request = Request::post(&self.uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(Full::new(body))?;
        let response = self.http.request(request).await?;
        ensure!(
            response.status().is_success(),
            "the receiver answered {}",
            response.status()
        );
        // Read to its end, so that the connection can be used again.
        response.into_body().collect().await?;
        Ok(())
    }
}
