//! A client that sends exactly what a case says and reads whole responses.

use crate::message::{Length, Response};
use crate::wire::Wire;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};

/// A connection to the gateway.
pub struct Client {
    wire: Wire,
}

impl Deref for Client {
    type Target = Wire;
    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    ///
    /// When nothing listens there.
    pub fn connect(address: SocketAddr) -> Client {
        Client { wire: Wire::new(TcpStream::connect(address).expect("the gateway listens")) }
    }

    /// Connects and sends.
    pub fn sending(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Client {
        let mut client = Client::connect(address);
        client.send(bytes);
        client
    }

    /// Gives up the connection's handle.
    pub fn into_wire(self) -> Wire {
        self.wire
    }

    /// Reads the next head, interim ones too, and no body.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub fn head(&mut self) -> Response {
        let head = self.wire.read_head().expect("a response head").expect("a response, not the end");
        Response::parse(head)
    }

    /// Reads the whole response to a GET or POST; skips interim ones.
    ///
    /// # Panics
    ///
    /// When none comes or it is malformed.
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// Reads the whole response to `method`; skips interim ones.
    ///
    /// # Panics
    ///
    /// When none comes or it is malformed.
    pub fn response_to(&mut self, method: &str) -> Response {
        self.try_response_to(method).expect("a whole response").expect("a response, not the end")
    }

    /// Reads the whole response to `method`; `None` when the peer closed before its first byte.
    ///
    /// # Errors
    ///
    /// The connection's.
    pub fn try_response_to(&mut self, method: &str) -> io::Result<Option<Response>> {
        loop {
            let Some(head) = self.wire.read_head()? else { return Ok(None) };
            let mut response = Response::parse(head);
            if response.status < 200 && response.status != 101 {
                continue;
            }
            let length = response.length(method);
            let (body, trailers) = self.wire.read_body(length)?;
            response.body = body;
            response.trailers = trailers;
            return Ok(Some(response));
        }
    }

    /// Reads a fixed-length or chunked body that belongs to `head`, piece by piece.
    ///
    /// # Panics
    ///
    /// When it breaks off.
    pub fn stream_body(&mut self, head: &Response, sink: &mut dyn FnMut(&[u8])) {
        let length = head.length("GET");
        assert_ne!(length, Length::None, "a body was expected");
        self.wire.read_body_into(length, sink).expect("the whole body");
    }
}

/// One GET over a connection of its own.
///
/// # Panics
///
/// When no whole response comes.
pub fn get(address: SocketAddr, target: &str) -> Response {
    request(address, &format!("GET {target} HTTP/1.1\r\nhost: gateway.test\r\nconnection: close\r\n\r\n"))
}

/// One request, given whole, over a connection of its own. Its first word is the method.
///
/// # Panics
///
/// When no whole response comes.
pub fn request(address: SocketAddr, bytes: &str) -> Response {
    let method = bytes.split(' ').next().unwrap_or_default().to_owned();
    Client::sending(address, bytes).response_to(&method)
}
