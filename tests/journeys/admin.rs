//! The operator's address: who may ask what there.

use harness::{Gateway, Setup, Subscriber, client};
use reqwest::{Method, StatusCode, header};

const TOKEN: &str = "an-admin-token-6Yc1Tq";

async fn ask(
    gateway: &Gateway,
    method: Method,
    path: &str,
    headers: &[(header::HeaderName, &str)],
) -> (StatusCode, String) {
    let mut request = client().request(method, format!("http://{}{path}", gateway.admin()));
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let answer = request.send().await.expect("the admin address answers");
    (answer.status(), answer.text().await.expect("the answer is whole"))
}

#[tokio::test]
async fn without_the_token_only_health_is_told() {
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .admin(&format!("token = {TOKEN:?}"))
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let bearer = format!("Bearer {TOKEN}");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(&gateway, Method::GET, path, &[]).await.0, StatusCode::OK, "{path}");
    }
    let guarded = [
        (Method::GET, "/metrics"),
        (Method::GET, "/subscribers"),
        (Method::POST, "/reload"),
        (Method::POST, "/erase?number=%2B33123456789"),
        (Method::POST, "/subscribers/crm/resume"),
        (Method::POST, "/subscribers/crm/replay?dead"),
        (Method::POST, "/quarantine/1/retry"),
        (Method::POST, "/webhooks/1/renormalize"),
    ];
    for (method, path) in guarded {
        for wrong in [
            None,
            Some("Bearer "),
            Some("Bearer an-admin-token-6Yc1Tp"),
            Some("Bearer an-admin-token-6Yc1Tqq"),
            Some(TOKEN),
            Some("Basic an-admin-token-6Yc1Tq"),
        ] {
            let headers: Vec<_> = wrong.map(|wrong| (header::AUTHORIZATION, wrong)).into_iter().collect();
            let (status, text) = ask(&gateway, method.clone(), path, &headers).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path} {wrong:?}");
            assert!(!text.contains(TOKEN), "{text}");
        }
        let (status, text) = ask(&gateway, method.clone(), path, &[(header::AUTHORIZATION, &bearer)]).await;
        assert!(
            status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN,
            "{method} {path}: {status}"
        );
        assert!(!text.contains(TOKEN) && !text.contains(harness::WHSEC), "{text}");
        // A page in the operator's browser, were it to know the token.
        if method == Method::POST {
            let headers = [
                (header::AUTHORIZATION, &*bearer),
                (header::ORIGIN, "https://evil.example"),
            ];
            assert_eq!(
                ask(&gateway, method, path, &headers).await.0,
                StatusCode::FORBIDDEN,
                "{path}"
            );
        }
    }
    // The commands find it in the configuration.
    let admin = format!("http://{}", gateway.admin());
    gateway.run(&["reload", "--admin", &admin]).await.success();
}

/// A name of somebody else's that resolves to this machine makes its pages come from here, as far as a browser can tell.
#[tokio::test]
async fn without_a_token_it_answers_only_to_this_machines_names() {
    let gateway = Setup::new().route("magpipe").start().await;
    let port = gateway.admin().port();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), StatusCode::OK),
        (format!("localhost:{port}"), StatusCode::OK),
        (format!("[::1]:{port}"), StatusCode::OK),
        (format!("rebound.example:{port}"), StatusCode::FORBIDDEN),
        ("localhost.example".to_owned(), StatusCode::FORBIDDEN),
    ] {
        let (found, _) = ask(&gateway, Method::GET, "/metrics", &[(header::HOST, &host)]).await;
        assert_eq!(found, status, "{host}");
        let (found, _) = ask(&gateway, Method::POST, "/reload", &[(header::HOST, &host)]).await;
        assert_eq!(found, status, "{host}");
    }
    assert_eq!(
        ask(&gateway, Method::GET, "/healthz", &[(header::HOST, "any.example")])
            .await
            .0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_not_asked() {
    let (subscriber, proxy) = (Subscriber::start().await, Subscriber::start().await);
    let variables: String = [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ]
    .map(|name| format!("export {name}={}\n", proxy.url()))
    .concat();
    let gateway = Setup::new()
        .wrapped(&variables)
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    subscriber.wait_for(1).await;
    assert!(proxy.deliveries().is_empty());
}
