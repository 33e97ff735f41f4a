//! The one holder of a request's body: what was read of it and may be sent again.
//!
//! Retries, hedged tries, copies to a mirror and plugins that read bodies all
//! take from here, so that no two of them keep the same bytes. What streams
//! through is kept as it passes, up to `server.limits.replay_body`, as long as
//! somebody could want it; past that it is let go and the request goes only
//! once. All that one core keeps of streaming bodies is bounded as well.

use std::cell::Cell;

use proto::framing::BodyLength;

use crate::buffer::Buf;
use crate::http1::body::BodyReader;

/// What one core may keep of bodies that stream through it. Past it, requests
/// are served as if nothing could be kept: they are not repeated.
pub const KEPT_BYTES_MAX: usize = 64 << 20;

/// How much of a streaming body is worth keeping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Nothing: nobody would ask for it.
    No,
    /// Up to so many bytes.
    UpTo(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// The request has no body.
    #[default]
    Empty,
    /// It was read to its end, and `bytes` is all of it.
    Kept,
    /// As `Kept`, but it is longer than what may be repeated: it goes out once.
    Once,
    /// It comes from the connection; `bytes` is what was read so far.
    Stream,
    /// It comes from the connection, and what was read was let go.
    Lost,
    /// It was read to its end and let go.
    Gone,
}

/// See the module.
#[derive(Default)]
pub struct Source {
    bytes: Vec<u8>,
    state: State,
    /// Follows a body that streams, over all tries.
    reader: Option<BodyReader>,
    /// What of `bytes` counts against the core's bound.
    counted: usize,
}

impl Source {
    /// The body of a request whose head was just read.
    pub fn begin(&mut self, length: BodyLength) {
        self.state = match length {
            BodyLength::None | BodyLength::Fixed(0) => State::Empty,
            _ => State::Stream,
        };
    }

    /// Lets everything go; small memory stays for the next request.
    pub fn clear(&mut self, kept: &Cell<usize>, memory_max: usize) {
        self.release(kept);
        self.bytes.shrink_to(memory_max);
        self.state = State::Empty;
        self.reader = None;
    }

    fn release(&mut self, kept: &Cell<usize>) {
        kept.set(kept.get() - self.counted);
        self.counted = 0;
        self.bytes.clear();
    }

    /// The whole body, where it is here.
    pub fn whole(&self) -> Option<&[u8]> {
        match self.state {
            State::Empty | State::Kept | State::Once => Some(&self.bytes),
            State::Stream | State::Lost | State::Gone => None,
        }
    }

    /// What was read so far of a body that streams, to go first on another try.
    pub fn prefix(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the request was read to its end.
    pub fn is_read(&self) -> bool {
        matches!(self.state, State::Empty | State::Kept | State::Once | State::Gone)
    }

    /// Whether all that was read of it is still here.
    pub fn is_replayable(&self) -> bool {
        matches!(self.state, State::Empty | State::Kept | State::Stream)
    }

    /// Whether any of it was read by a try and could be sent twice.
    pub fn is_begun(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.received > 0)
    }

    /// A body that somebody else read whole.
    pub fn set_whole(&mut self, body: Vec<u8>) {
        self.state = if body.is_empty() { State::Empty } else { State::Kept };
        self.bytes = body;
    }

    /// Takes a body of `bytes` that lies in `input` whole; one of more than `most` may go out once only.
    pub fn take_whole(&mut self, input: &mut Buf, bytes: usize, most: usize) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&input.data()[..bytes]);
        input.consume(bytes);
        self.state = if bytes <= most { State::Kept } else { State::Once };
    }

    /// Notes the next piece of a body that streams.
    pub fn pass(&mut self, piece: &[u8], keep: Keep, kept: &Cell<usize>) {
        if self.state != State::Stream || piece.is_empty() {
            return;
        }
        let fits = match keep {
            Keep::No => false,
            Keep::UpTo(most) => self.bytes.len() + piece.len() <= most,
        };
        if !fits || kept.get() + piece.len() > KEPT_BYTES_MAX {
            self.release(kept);
            self.bytes = Vec::new();
            self.state = State::Lost;
            return;
        }
        kept.set(kept.get() + piece.len());
        self.counted += piece.len();
        self.bytes.extend_from_slice(piece);
    }

    /// The body's end was read.
    pub fn finish(&mut self) {
        self.state = match self.state {
            State::Stream => State::Kept,
            State::Lost => State::Gone,
            other => other,
        };
    }

    /// The reader of a body that streams, for the next try.
    pub fn take_reader(&mut self, length: BodyLength) -> BodyReader {
        self.reader.take().unwrap_or_else(|| BodyReader::new(length))
    }

    /// And back.
    pub fn put_reader(&mut self, reader: BodyReader) {
        self.reader = Some(reader);
    }

    /// The trailers behind a body that came in chunks.
    pub fn trailers(&self) -> &[u8] {
        self.reader.as_ref().map_or(&[], BodyReader::trailers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of a streaming body by length, `$` is its end; what is whole,
    /// replayable and counted then.
    fn check(most: usize, pieces: &str, whole: Option<usize>, replayable: bool, counted: usize) {
        let kept = Cell::new(0);
        let mut source = Source::default();
        source.begin(BodyLength::Chunked);
        for piece in pieces.split(' ') {
            match piece {
                "$" => source.finish(),
                piece => {
                    let keep = if most == 0 { Keep::No } else { Keep::UpTo(most) };
                    source.pass(&vec![b'x'; piece.parse().expect("a length")], keep, &kept);
                }
            }
        }
        assert_eq!(source.whole().map(<[u8]>::len), whole, "{pieces}");
        assert_eq!(source.is_replayable(), replayable, "{pieces}");
        assert_eq!(kept.get(), counted, "{pieces}");
        source.clear(&kept, 0);
        assert_eq!(kept.get(), 0, "{pieces}");
    }

    #[test]
    fn kept_as_far_as_allowed() {
        check(10, "4 6 $", Some(10), true, 10);
        check(10, "4 6", None, true, 10);
        check(10, "4 7 $", None, false, 0);
        check(10, "4 7 1", None, false, 0);
        check(0, "1", None, false, 0);
        check(0, "0", None, true, 0);
        check(usize::MAX, &format!("{KEPT_BYTES_MAX} 1"), None, false, 0);
    }

    #[test]
    fn what_came_along_with_its_head() {
        for (most, replayable) in [(5, true), (4, false), (0, false)] {
            let mut input = Buf::take(crate::buffer::Class::Small);
            input.append(b"helloGET /");
            let mut source = Source::default();
            source.begin(BodyLength::Fixed(5));
            source.take_whole(&mut input, 5, most);
            assert_eq!((source.whole(), source.is_replayable()), (Some(&b"hello"[..]), replayable), "{most}");
            assert_eq!((source.is_read(), input.data()), (true, &b"GET /"[..]));
        }
    }

    #[test]
    fn without_a_body() {
        let mut source = Source::default();
        source.begin(BodyLength::Fixed(0));
        assert_eq!((source.whole(), source.is_read(), source.is_replayable()), (Some(&b""[..]), true, true));
    }
}
