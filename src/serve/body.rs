//! Bodies of answers: whole, or in pieces that may end in a broken connection.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;

/// The body of an answer.
pub enum Body {
    Whole(Bytes),
    /// Made while it is sent; the client's pace sets ours, so that no more than a piece is held.
    Pieces(Pin<Box<dyn Stream<Item = Piece> + Send>>),
}

/// One step of a body that is made while it is sent.
#[derive(Clone, Debug)]
pub enum Piece {
    Data(Bytes),
    /// Breaks the connection here, whatever `Content-Length` promised.
    Break,
}

impl Body {
    #[must_use]
    pub fn empty() -> Body {
        Body::Whole(Bytes::new())
    }

    pub fn pieces(stream: impl Stream<Item = Piece> + Send + 'static) -> Body {
        Body::Pieces(Box::pin(stream))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Body::Pieces(_) => f.write_str("Pieces"),
        }
    }
}

/// A body on its way, with the means to break its connection.
pub(super) struct WireBody {
    body: Body,
    broken: Arc<Notify>,
}

impl WireBody {
    pub(super) fn new(body: Body, broken: Arc<Notify>) -> WireBody {
        WireBody { body, broken }
    }
}

impl hyper::body::Body for WireBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match &mut this.body {
            Body::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Body::Pieces(stream) => match stream.as_mut().poll_next(context) {
                Poll::Ready(Some(Piece::Data(bytes))) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Poll::Ready(Some(Piece::Break)) => {
                    this.broken.notify_one();
                    Poll::Pending
                }
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.body, Body::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Pieces(_) => SizeHint::default(),
        }
    }
}
