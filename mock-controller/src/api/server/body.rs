//! Request bodies in, response bodies out, and the memory that all large ones may take together.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::{CONNECTION, HeaderValue},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Limits, SMALL_BODY, failure};

/// The unit in which memory is counted, in bytes.
const UNIT: usize = 1 << 10;
/// What one value of a JSON text costs once it is read, in bytes: itself, and its share of the list or map around it.
const VALUE: usize = 96;

/// Memory for large bodies. A body is counted from when it is large until its request is done; a response until the
/// client has taken it.
#[derive(Clone)]
pub(super) struct Budget {
    units: Arc<Semaphore>,
    total: usize,
}

/// A body that was read, and the memory that it holds.
pub(super) type Counted = (Bytes, Option<OwnedSemaphorePermit>);

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let total = bytes / UNIT;
        Self {
            units: Arc::new(Semaphore::new(total)),
            total,
        }
    }

    /// Holds as many bytes as were asked for, counting those that `held` has already. Refuses what is too much for now,
    /// or for ever.
    fn hold(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), Refusal> {
        let wanted = bytes.div_ceil(UNIT);
        if wanted > self.total {
            return Err(Refusal::TooMuch(self.total * UNIT));
        }
        let had = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(wanted.saturating_sub(had)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.units).try_acquire_many_owned(more);
        let permit = permit.map_err(|_| Refusal::Busy)?;
        match held {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        }
        Ok(())
    }

    /// Reads a body to its end.
    pub(super) async fn read(
        &self,
        body: Incoming,
        expects: bool,
        limits: &Limits,
    ) -> Result<Counted, Refusal> {
        let announced = body.size_hint().lower();
        let limit = limits.body as u64;
        // A client that waits for leave to send has sent nothing yet, and one that announces far too much is not
        // worth its bytes. Others are read to their end, or the answer would be lost with the connection's reset.
        if announced > limit && (expects || announced > 2 * limit) {
            return Err(Refusal::TooLarge(limits.body));
        }
        tokio::time::timeout(limits.body_time, self.read_all(body, limits))
            .await
            .unwrap_or(Err(Refusal::TooSlow(limits.body_time)))
    }

    async fn read_all(&self, mut body: Incoming, limits: &Limits) -> Result<Counted, Refusal> {
        let mut read = Vec::new();
        let mut held: Option<OwnedSemaphorePermit> = None;
        let (mut length, mut values) = (0_usize, 0_usize);
        let mut refusal = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refusal::CutOff)?.into_data() else {
                continue;
            };
            length = length.saturating_add(data.len());
            if length > 2 * limits.body {
                return Err(Refusal::TooLarge(limits.body));
            }
            if length > limits.body {
                refusal = Some(Refusal::TooLarge(limits.body));
            }
            values += data.iter().filter(|byte| separates(**byte)).count();
            if refusal.is_none() && length > SMALL_BODY {
                // Counted in full once it is large; a vector that grows may have twice its length.
                refusal = self.hold(&mut held, 2 * length + VALUE * values).err();
            }
            if refusal.is_some() {
                (read, held) = (Vec::new(), None);
            } else {
                read.extend_from_slice(&data);
            }
        }
        match refusal {
            Some(refusal) => Err(refusal),
            None => Ok((Bytes::from(read), held)),
        }
    }

    /// The response, counted where it is large. One that is larger than all there is takes all there is.
    pub(super) fn send(&self, response: Response<Bytes>) -> Response<Sent> {
        let length = response.body().len();
        let mut held = None;
        if length > SMALL_BODY
            && let Err(refusal) = self.hold(&mut held, length.min(self.total * UNIT))
        {
            return refusal.response().map(Sent::uncounted);
        }
        response.map(|bytes| Sent {
            bytes: Full::new(bytes),
            _held: held,
        })
    }
}

/// Whether a byte may stand between two values of a JSON text.
fn separates(byte: u8) -> bool {
    matches!(byte, b',' | b':' | b'[' | b'{')
}

/// A response body on its way, with the memory that it holds.
pub(super) struct Sent {
    bytes: Full<Bytes>,
    _held: Option<OwnedSemaphorePermit>,
}

impl Sent {
    fn uncounted(bytes: Bytes) -> Self {
        Self {
            bytes: Full::new(bytes),
            _held: None,
        }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.bytes).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes.size_hint()
    }
}

/// Why a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the request body is larger than {0} bytes; send less at a time")]
    TooLarge(usize),
    #[error("what is in the request body takes more than {0} bytes of memory; send less at a time")]
    TooMuch(usize),
    #[error("the request body did not arrive within {0:?}; send it faster")]
    TooSlow(Duration),
    #[error("the request body ended before its announced length")]
    CutOff,
    #[error("too many large requests at a time; try again")]
    Busy,
}

impl Refusal {
    pub(super) fn response(self) -> Response<Bytes> {
        let status = match self {
            Self::TooLarge(_) | Self::TooMuch(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::CutOff => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = failure(status, &self.to_string());
        if self != Self::Busy {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}
