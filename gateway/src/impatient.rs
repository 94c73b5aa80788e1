//! A socket that does not wait for ever for a peer that takes nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Ends with [`io::ErrorKind::TimedOut`] when the peer has not taken all it was sent some time after it had first to be
/// waited for: taking a little now and then gains it nothing.
#[derive(Debug)]
pub(crate) struct Impatient<S> {
    socket: S,
    patience: Duration,
    /// Set while there is something the peer has not taken.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    pub(crate) fn new(socket: S, patience: Duration) -> Self {
        Self {
            socket,
            patience,
            alarm: None,
        }
    }

    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let patience = self.patience;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(alarm.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_write(context, bytes) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.wait(context),
        }
    }

    /// Whoever writes flushes when nothing is left to write, and only then.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_flush(context) {
            Poll::Ready(flushed) => {
                self.alarm = None;
                Poll::Ready(flushed)
            }
            Poll::Pending => self.wait(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_shutdown(context) {
            Poll::Ready(shut_down) => Poll::Ready(shut_down),
            Poll::Pending => self.wait(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_write_vectored(context, buffers) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.wait(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, time::Instant};

    use super::*;

    /// Takes a byte every other time it is asked.
    #[derive(Default)]
    struct Drops {
        has_room: bool,
    }

    impl AsyncWrite for Drops {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            self.has_room = !self.has_room;
            if self.has_room {
                return Poll::Ready(Ok(1));
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn who_takes_an_answer_in_drops_has_no_more_time_than_who_takes_none() {
        let mut socket = Impatient::new(Drops::default(), Duration::from_millis(20));
        let (began, endless) = (Instant::now(), vec![0; 1 << 20]);
        let cut_off = loop {
            if let Err(error) = socket.write_all(&endless).await {
                break error;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "it is not cut off");
        };
        assert_eq!(cut_off.kind(), io::ErrorKind::TimedOut);

        // Each answer that is taken as a whole is a new beginning.
        let mut socket = Impatient::new(Drops::default(), Duration::from_secs(60));
        socket.write_all(&endless[..10]).await.unwrap();
        assert!(socket.alarm.is_some());
        socket.flush().await.unwrap();
        assert!(socket.alarm.is_none());
    }
}
