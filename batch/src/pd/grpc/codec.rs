//! A codec of heartbeat streams: one message that cannot be decoded does not end the stream.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::Buf;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::pd::AnswerError;

/// The longest message of a heartbeat stream that is decoded. A region of a hundred peers and the longest keys fits ten times.
pub(super) const HEARTBEAT_BYTES_MAX: usize = 2 << 20;

/// Where a stream ends all the same: as many bytes of one message are held in memory before it can be looked at.
pub(super) const FRAME_BYTES_MAX: usize = 2 * HEARTBEAT_BYTES_MAX;

/// A message, or why the bytes in its frame are none.
pub(super) type Framed<M> = Result<M, AnswerError>;

/// Encodes `T` as protobuf, and decodes each frame by itself as a `U`.
#[derive(Debug)]
pub(super) struct FramedCodec<T, U> {
    what: &'static str,
    types: PhantomData<(T, U)>,
}

impl<T, U> FramedCodec<T, U> {
    /// `what` names the message that is decoded.
    pub(super) const fn new(what: &'static str) -> Self {
        Self { what, types: PhantomData }
    }
}

impl<T, U> Codec for FramedCodec<T, U>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = Framed<U>;
    type Encoder = ProstEncoder<T>;
    type Decoder = FramedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        FramedDecoder { what: self.what, message: PhantomData }
    }
}

#[derive(Debug)]
pub(super) struct FramedDecoder<U> {
    what: &'static str,
    message: PhantomData<U>,
}

impl<U: Message + Default> Decoder for FramedDecoder<U> {
    type Item = Framed<U>;
    type Error = Status;

    /// Takes the frame whole, whatever is in it: the next one begins behind it.
    fn decode(&mut self, frame: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let (what, bytes) = (self.what, frame.remaining());
        if bytes > HEARTBEAT_BYTES_MAX {
            frame.advance(bytes);
            return Ok(Some(Err(AnswerError::TooLong { what, bytes, max: HEARTBEAT_BYTES_MAX })));
        }
        let message = U::decode(frame.copy_to_bytes(bytes));
        Ok(Some(message.map_err(|error| AnswerError::Malformed { what, cause: error.to_string() })))
    }
}
