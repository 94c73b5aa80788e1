use std::{net::SocketAddr, time::Duration};

use hyper::HeaderMap;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::wait::PATIENCE;

/// Everything a provider posts.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Webhook {
    /// The same without its proof.
    #[must_use]
    pub fn unsigned(mut self) -> Self {
        self.headers.retain(|(name, _)| name == "content-type");
        self
    }

    /// The same with one header set, or set to something else.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same at another path.
    #[must_use]
    pub fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// # Errors
    ///
    /// When nothing was answered.
    pub async fn post(&self, client: &reqwest::Client, url: &str) -> reqwest::Result<Answer> {
        let mut request = client.post(url).body(self.body.clone());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Answer::of(request.send().await?).await
    }

    /// The request as bytes of HTTP/1.1, its head apart from its body.
    pub fn bytes(&self) -> (Vec<u8>, Vec<u8>) {
        let mut head = format!("POST {} HTTP/1.1\r\nhost: hooks.example.com\r\n", self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        (head.into_bytes(), self.body.clone())
    }
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub version: hyper::Version,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// # Errors
    ///
    /// When the body broke off.
    pub async fn of(response: reqwest::Response) -> reqwest::Result<Self> {
        let (status, version, headers) = (
            response.status().as_u16(),
            response.version(),
            response.headers().clone(),
        );
        Ok(Self {
            status,
            version,
            headers,
            body: response.text().await?,
        })
    }

    /// The ids in `{"accepted":[…]}`.
    ///
    /// # Panics
    ///
    /// When it is another answer.
    #[track_caller]
    pub fn accepted(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{self:?}");
        let body: Value = serde_json::from_str(&self.body).expect("the answer is JSON");
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{body}");
        let ids = body["accepted"].as_array().expect("the answer lists what was accepted");
        let ids: Vec<String> = ids
            .iter()
            .map(|id| id.as_str().expect("ids are text").to_owned())
            .collect();
        assert!(ids.iter().all(|id| id.starts_with("evt_") && id.len() == 30), "{ids:?}");
        ids
    }

    /// The value of a header; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// A client as providers have it: HTTP/1.1, no redirects.
///
/// # Panics
///
/// When TLS cannot be set up.
pub fn client() -> reqwest::Client {
    builder().build().expect("a client can be made")
}

/// A client that speaks HTTP/2 at once, without TLS.
///
/// # Panics
///
/// When TLS cannot be set up.
pub fn http2_client() -> reqwest::Client {
    builder().http2_prior_knowledge().build().expect("a client can be made")
}

/// What makes a client that trusts this certificate (PEM) and finds `hooks.example.com` at this address.
///
/// # Panics
///
/// When it is no certificate.
pub fn tls_client(certificate: &str, at: SocketAddr) -> reqwest::ClientBuilder {
    let certificate = reqwest::Certificate::from_pem(certificate.as_bytes()).expect("it is a certificate");
    builder().tls_certs_only([certificate]).resolve("hooks.example.com", at)
}

fn builder() -> reqwest::ClientBuilder {
    // An error means that the process has a provider already.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_certs_only([])
        .timeout(PATIENCE)
}

/// A connection that writes what no HTTP client would.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// # Panics
    ///
    /// When nobody listens.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        stream.set_nodelay(true).expect("it is a TCP socket");
        Self { stream }
    }

    /// One whose side of the kernel has room for little that nobody reads.
    ///
    /// # Panics
    ///
    /// When nobody listens.
    pub async fn open_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket.set_recv_buffer_size(4096).expect("it is a TCP socket");
        let stream = socket.connect(address).await.expect("somebody listens");
        Self { stream }
    }

    /// # Panics
    ///
    /// When the other side is gone.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the other side reads");
    }

    /// Whether the other side still took the bytes.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// What comes within this time, or until the other side closes; and whether it did close.
    pub async fn read_for(&mut self, time: Duration) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let closed = tokio::time::timeout(time, self.stream.read_to_end(&mut bytes))
            .await
            .is_ok();
        (bytes, closed)
    }

    /// Everything up to the end of the connection.
    ///
    /// # Panics
    ///
    /// When the other side leaves it open.
    pub async fn read_to_end(&mut self) -> String {
        let (bytes, closed) = self.read_for(PATIENCE).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(closed, "the connection stays open after {text:?}");
        text
    }

    /// Reads until these bytes have come, and returns all up to their end.
    ///
    /// # Panics
    ///
    /// When they never do.
    pub async fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut read = Vec::new();
        let reading = async {
            while !read.ends_with(end) {
                read.push(self.stream.read_u8().await.expect("more comes"));
            }
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("they come in time");
        read
    }

    /// Reads the status of the next answer, and its head.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub async fn read_head(&mut self) -> (u16, String) {
        let head = self.read_until(b"\r\n\r\n").await;
        let head = String::from_utf8(head).expect("the head is text");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("the answer has a status"), head)
    }

    /// Says that nothing more is coming, and still listens.
    ///
    /// # Panics
    ///
    /// When the other side is gone.
    pub async fn end(&mut self) {
        self.stream.shutdown().await.expect("the connection stands");
    }

    /// Breaks the connection off at once, without the end of a stream.
    pub fn reset(self) {
        // Whatever is unread or unsent is thrown away.
        drop(self.stream.set_zero_linger());
    }
}
