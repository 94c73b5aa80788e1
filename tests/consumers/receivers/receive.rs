// cargo add axum cloudevents-sdk serde_json standardwebhooks && cargo add tokio --features full

use std::{env, error::Error, sync::Arc};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use cloudevents::{AttributesReader as _, Event};
use standardwebhooks::Webhook;

async fn receive(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    // Over the bytes as they came, before anything reads them.
    if webhook.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(event) = serde_json::from_slice::<Event>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    // An event may come more than once, always under the same id: keep it under that id, then answer.
    println!("{} {} {}", event.id(), event.ty(), event.subject().unwrap_or_default());
    StatusCode::NO_CONTENT
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let webhook = Webhook::new(&env::var("CALLFEED_SECRET")?)?;
    let app = Router::new().route("/events", post(receive)).with_state(Arc::new(webhook));
    let port = env::var("PORT").unwrap_or_else(|_| "4000".into());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("listening on http://{}/events", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
