//! The socket: connections, TLS, and the bounds of HTTP itself.

use std::{convert::Infallible, fmt, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Inbound;
use crate::{clock, config, impatient::Impatient};

mod linger;
mod pace;

use linger::Lingering;
use pace::{Pace, Paced};

/// Pause after the system refused a connection for want of descriptors; trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Concurrent requests of one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// What one stream, and one HTTP/2 connection, may send ahead of what was read. It lies in memory that nobody counts.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 128 << 10;

/// Where webhooks come in, bound and ready to be run.
pub struct Listener {
    socket: TcpListener,
    tls: Option<watch::Receiver<TlsAcceptor>>,
    certificate: Certificate,
    bounds: config::Server,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// The way to give a running [`Listener`] another certificate.
#[derive(Clone, Default)]
pub struct Certificate(Option<watch::Sender<TlsAcceptor>>);

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

impl Certificate {
    /// Reads the files again; connections from now on get what they say. Does nothing where there is no TLS.
    ///
    /// # Errors
    ///
    /// When they cannot be read or do not fit each other; nothing changes then.
    pub fn renew(&self, tls: &config::Tls) -> anyhow::Result<()> {
        if let Some(certificate) = &self.0 {
            certificate.send_replace(acceptor(&tls.certificate, &tls.key)?);
        }
        Ok(())
    }
}

impl Listener {
    /// Takes the address and reads the certificate.
    ///
    /// # Errors
    ///
    /// When the address is taken or not ours, or the certificate and key do not fit.
    pub async fn bind(bounds: config::Server) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let socket = TcpListener::bind(bounds.listen).await.with_context(|| {
            format!(
                "failed to listen on {} (server.listen); is another process using it? `ss -ltnp` tells which",
                bounds.listen
            )
        })?;
        let acceptor = bounds
            .tls
            .as_ref()
            .map(|tls| acceptor(&tls.certificate, &tls.key))
            .transpose()?;
        let (certificate, tls) = acceptor.map(watch::channel).unzip();
        Ok(Self {
            socket,
            tls,
            certificate: Certificate(certificate),
            bounds,
        })
    }

    pub fn certificate(&self) -> Certificate {
        self.certificate.clone()
    }

    /// # Errors
    ///
    /// When the operating system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until told to stop, then lets every connection finish the request in hand.
    pub async fn run(self, inbound: Arc<Inbound>, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.bounds.connections_max));
        let graceful = GracefulShutdown::new();
        let connections = TaskTracker::new();
        let server = Arc::new(self.server());
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                // Before accepting: what there is no room for waits in the kernel's queue.
                place = Arc::clone(&places).acquire_owned() => {
                    let Ok(place) = place else { break };
                    tokio::select! {
                        () = stop.cancelled() => break,
                        accepted = self.socket.accept() => accepted.map(|accepted| (accepted, place)),
                    }
                }
            };
            let ((stream, peer), place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    clock::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let watcher = graceful.watcher();
            let (inbound, server) = (Arc::clone(&inbound), Arc::clone(&server));
            let tls = self.tls.as_ref().map(|tls| tls.borrow().clone());
            let config::Server {
                idle_timeout: idle,
                header_timeout: head,
                answer_timeout: answer,
                ..
            } = self.bounds;
            connections.spawn(async move {
                let _place = place;
                // Answers are small and somebody waits for each.
                let _ = stream.set_nodelay(true);
                let pace = Arc::new(Pace::default());
                match tls {
                    None => {
                        let socket = Paced::new(Impatient::new(stream, answer), Arc::clone(&pace), idle, head);
                        serve(&server, socket, pace, inbound, peer, watcher).await;
                    }
                    Some(tls) => match tokio::time::timeout(head, tls.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            let socket = Paced::new(Impatient::new(stream, answer), Arc::clone(&pace), idle, head);
                            serve(&server, socket, pace, inbound, peer, watcher).await;
                        }
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS session"),
                        Err(_) => tracing::debug!(%peer, "no TLS session in time"),
                    },
                }
            });
        }
        // Refuse newcomers while those inside finish.
        drop(self.socket);
        graceful.shutdown().await;
        connections.close();
        connections.wait().await;
    }

    fn server(&self) -> auto::Builder<TokioExecutor> {
        let bounds = &self.bounds;
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http1()
            // The socket keeps time, see `pace`.
            .header_read_timeout(None)
            // hyper's own floor for this buffer is 8 KiB.
            .max_buf_size(bounds.header_bytes_max.max(8 << 10))
            .max_headers(bounds.headers_max)
            // Otherwise the end of what a sender sends, seen before its webhook was looked at, throws the webhook away.
            .half_close(true);
        server
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(bounds.idle_timeout)
            .keep_alive_timeout(bounds.header_timeout)
            .max_header_list_size(u32::try_from(bounds.header_bytes_max).unwrap_or(u32::MAX))
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        server
    }
}

async fn serve<S>(
    server: &auto::Builder<TokioExecutor>,
    socket: Paced<S>,
    pace: Arc<Pace>,
    inbound: Arc<Inbound>,
    peer: SocketAddr,
    watcher: hyper_util::server::graceful::Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let busy = pace.begin(request.version());
        let inbound = Arc::clone(&inbound);
        async move {
            let answer = inbound.handle(request, peer).await;
            drop(busy);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = server.serve_connection(TokioIo::new(Lingering::new(socket)), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%peer, error = %error, "the connection ended early");
    }
}

fn acceptor(certificate: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    use anyhow::Context as _;
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("failed to read the certificate {} (server.tls)", certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("failed to read the key {} (server.tls)", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("failed to set up TLS")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate and the key of server.tls do not fit each other")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
