//! How long a connection may take: to begin a request, and then to finish its head.
//!
//! hyper has one time-out for both, which is either too short for a proxy that keeps connections open between webhooks or
//! too long for a sender that drips a head byte by byte.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::Version;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// What the connection's requests tell its socket.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Requests between their head and their answer.
    active: AtomicU32,
    /// Counts requests begun and ended, so that the socket sees that something happened.
    turns: AtomicU32,
    /// Frames come at any time in HTTP/2 and do not mean that a head has begun.
    http2: AtomicBool,
}

impl Pace {
    /// A request's head is complete; the connection is busy until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Busy {
        self.http2.store(version == Version::HTTP_2, Ordering::Relaxed);
        self.active.fetch_add(1, Ordering::AcqRel);
        self.turns.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }
}

/// A request in hand.
#[derive(Debug)]
pub(super) struct Busy(Arc<Pace>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.turns.fetch_add(1, Ordering::AcqRel);
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A socket whose reads end with [`io::ErrorKind::TimedOut`] when no request comes, or its head does not end.
#[derive(Debug)]
pub(super) struct Paced<S> {
    socket: S,
    pace: Arc<Pace>,
    idle: Duration,
    head: Duration,
    alarm: Pin<Box<Sleep>>,
    /// When the reads end, if nothing comes.
    deadline: Instant,
    /// The turn that the deadline was set in.
    turn: u32,
    in_head: bool,
}

impl<S> Paced<S> {
    pub(super) fn new(socket: S, pace: Arc<Pace>, idle: Duration, head: Duration) -> Self {
        // A new connection has come to say something: it gets no more than the time of a head.
        let deadline = Instant::now() + head;
        let alarm = Box::pin(tokio::time::sleep_until(deadline));
        Self {
            socket,
            pace,
            idle,
            head,
            alarm,
            deadline,
            turn: 0,
            in_head: false,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(context, buffer);
        if this.pace.active.load(Ordering::Acquire) > 0 {
            // Bodies have a time-out of their own, and answers take as long as the store takes.
            return read;
        }
        let turn = this.pace.turns.load(Ordering::Acquire);
        if turn != this.turn {
            this.turn = turn;
            this.in_head = false;
            this.deadline = Instant::now() + this.idle;
        }
        match read {
            Poll::Ready(Ok(())) => {
                let some = buffer.filled().len() > before;
                if some && !this.in_head && this.turn > 0 && !this.pace.http2.load(Ordering::Relaxed) {
                    this.in_head = true;
                    this.deadline = Instant::now() + this.head;
                }
                // Frames of no request, one after the other, never let the alarm ring. What is only late has been read by then.
                if some && Instant::now() > this.deadline + this.head {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                // Only here does the timer have to know: a request that arrives whole never waits for its rest.
                if this.alarm.deadline() != this.deadline {
                    this.alarm.as_mut().reset(this.deadline);
                }
                std::task::ready!(this.alarm.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, buffers)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Always has something to say.
    struct Chatterbox;

    impl AsyncRead for Chatterbox {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buffer.put_slice(&[0]);
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn who_never_pauses_has_no_more_time_than_who_does() {
        let (idle, head) = (Duration::from_secs(60), Duration::from_millis(20));
        let began = Instant::now();
        let mut socket = Paced::new(Chatterbox, Arc::default(), idle, head);
        let cut_off = loop {
            if let Err(error) = socket.read_u8().await {
                break error;
            }
            assert!(began.elapsed() < idle, "it is not cut off");
        };
        assert_eq!(cut_off.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= head);
    }
}
