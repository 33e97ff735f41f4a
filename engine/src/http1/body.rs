//! Where a body ends: takes raw bytes of a connection apart into payload and
//! what lies behind the message, in place. The same for both directions.

use proto::chunked::{write_chunk_header, Decoder, CHUNK_HEADER_BYTES_MAX};
use proto::framing::BodyLength;

use crate::buffer::Buf;

/// Follows one body.
pub struct BodyReader {
    shape: Shape,
    /// Payload bytes so far.
    pub received: u64,
}

enum Shape {
    Done,
    Fixed(u64),
    Chunked(Decoder),
    Finished(Decoder),
    UntilClose,
}

/// The bytes break the rules of chunks.
#[derive(Debug)]
pub struct BadChunk;

impl BodyReader {
    /// A body of this framing, from its first byte.
    pub fn new(length: BodyLength) -> Self {
        let shape = match length {
            BodyLength::None | BodyLength::Fixed(0) => Shape::Done,
            BodyLength::Fixed(bytes) => Shape::Fixed(bytes),
            BodyLength::Chunked => Shape::Chunked(Decoder::new()),
            BodyLength::UntilClose => Shape::UntilClose,
        };
        Self { shape, received: 0 }
    }

    /// Leaves only payload in `buf` and gives back what follows the message.
    ///
    /// # Errors
    ///
    /// When a chunk is malformed; the connection cannot be used further.
    pub fn take(&mut self, buf: &mut Buf) -> Result<Option<Buf>, BadChunk> {
        let mut rest = None;
        match &mut self.shape {
            Shape::Done | Shape::Finished(_) => {
                if !buf.is_empty() {
                    rest = Some(buf.split_off(0));
                }
            }
            Shape::Fixed(left) => {
                if buf.len() as u64 > *left {
                    rest = Some(buf.split_off(*left as usize));
                }
                *left -= buf.len() as u64;
                if *left == 0 {
                    self.shape = Shape::Done;
                }
            }
            Shape::Chunked(decoder) => {
                let decoded = decoder.decode_in_place(buf.data_mut()).map_err(|_| BadChunk)?;
                if decoded.consumed < buf.len() {
                    rest = Some(buf.split_off(decoded.consumed));
                }
                buf.narrow(decoded.data);
                if decoded.done {
                    self.shape = match std::mem::replace(&mut self.shape, Shape::Done) {
                        Shape::Chunked(decoder) => Shape::Finished(decoder),
                        other => other,
                    };
                }
            }
            Shape::UntilClose => {}
        }
        self.received += buf.len() as u64;
        Ok(rest)
    }

    /// Whether the whole body was taken.
    pub fn is_done(&self) -> bool {
        matches!(self.shape, Shape::Done | Shape::Finished(_))
    }

    /// Tells it that the connection ended: whether that is the body's end.
    pub fn end_of_stream(&mut self) -> bool {
        if matches!(self.shape, Shape::UntilClose) {
            self.shape = Shape::Done;
        }
        self.is_done()
    }

    /// Payload bytes still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self.shape {
            Shape::Done | Shape::Finished(_) => Some(0),
            Shape::Fixed(left) => Some(left),
            Shape::Chunked(_) | Shape::UntilClose => None,
        }
    }

    /// Trailer lines behind the last chunk, as they came.
    pub fn trailers(&self) -> &[u8] {
        match &self.shape {
            Shape::Finished(decoder) => decoder.trailers(),
            _ => &[],
        }
    }
}

/// How a body is framed on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// No body.
    None,
    /// As it is: a length was announced, or the end of the connection ends it.
    Raw,
    /// In chunks.
    Chunked,
}

/// Puts the frame of one chunk around the payload in `buf`, where it lies.
pub fn frame(buf: &mut Buf, framing: Framing) {
    if framing != Framing::Chunked || buf.is_empty() {
        return;
    }
    let mut header = [0; CHUNK_HEADER_BYTES_MAX];
    let length = write_chunk_header(buf.len(), &mut header);
    let fits = buf.prepend(&header[..length]) && buf.append(b"\r\n");
    debug_assert!(fits, "every buffer has head and tail room for a chunk's frame");
}

/// What ends a body in chunks: the last chunk with its trailers.
pub fn last_chunk(trailers: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Class;

    fn check(length: BodyLength, input: &[u8], payload: &[u8], rest: &[u8]) {
        for split in 0..=input.len() {
            let mut reader = BodyReader::new(length);
            let (mut got, mut behind) = (Vec::new(), Vec::new());
            for part in [&input[..split], &input[split..]] {
                let mut buf = Buf::take(Class::Small);
                buf.append(part);
                if let Some(rest) = reader.take(&mut buf).expect("well formed") {
                    behind.extend_from_slice(rest.data());
                }
                got.extend_from_slice(buf.data());
            }
            assert!(reader.end_of_stream());
            assert_eq!((got.as_slice(), behind.as_slice()), (payload, rest), "split at {split}");
        }
    }

    #[test]
    fn ends_are_found() {
        check(BodyLength::None, b"GET /", b"", b"GET /");
        check(BodyLength::Fixed(5), b"helloGET /", b"hello", b"GET /");
        check(BodyLength::Chunked, b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /", b"hello world", b"GET /");
        check(BodyLength::UntilClose, b"anything", b"anything", b"");
    }

    #[test]
    fn a_chunk_is_framed_where_it_lies() {
        let mut buf = Buf::take(Class::Small);
        buf.append(b"hello");
        frame(&mut buf, Framing::Chunked);
        assert_eq!(buf.data(), b"5\r\nhello\r\n");
        let mut end = Vec::new();
        last_chunk(b"X: 1\r\n", &mut end);
        assert_eq!(end, b"0\r\nX: 1\r\n\r\n");
    }
}
