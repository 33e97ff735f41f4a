//! Copies of requests for other upstreams (`proxy-mirror`): sent by tasks of their
//! own, so that the original neither waits for them nor fails with them.
//!
//! A copy goes out when the whole request is at hand: at once where it is, else
//! when its body has streamed through and could be kept (`source`). What cannot be
//! kept, and what comes while [`COPIES_MAX`] are under way on this core or its bytes are too many
//! ([`KEPT_BYTES_MAX`], with those kept for further tries), is not copied and counted. Answers are read away and dropped.

use std::rc::Rc;
use std::time::Duration;

use balancer::endpoint::Outcome;
use balancer::upstream::{Ask, Tried};
use proto::framing;
use proto::head::{parse_response, Head, HeadLimits, Method, Name};

use super::chain;
use super::exchange::Exchange;
use super::source::KEPT_BYTES_MAX;
use crate::buffer::{Buf, Class};
use crate::clock;
use crate::http1::body::BodyReader;
use crate::http1::{write, Connection};
use crate::listen::guard;
use crate::plan::CoreUpstream;
use crate::upstream::connect::{connect, ConnectError};
use crate::upstream::pool::Link;
use crate::worker::Worker;

/// Copies under way on one core.
const COPIES_MAX: usize = 1000;
/// What is read of an answer, in bytes, before its connection is given up ...
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// ... and for how long, however slowly it drips.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// A copy that waits for its body.
pub struct Copy {
    upstream: Rc<CoreUpstream>,
    /// The head without its framing and its end.
    head: Vec<u8>,
    method: Method,
}

/// Sends the copies that plugins wished for where the whole request is at hand, and gives back those
/// that have to wait for its body.
pub fn prepare(connection: &Connection, x: &mut Exchange) -> Vec<Copy> {
    if x.mirrors.is_empty() || x.upgrade {
        return Vec::new();
    }
    let copies = x.mirrors.iter().filter_map(|(slot, mirror)| {
        let upstream = chain::plugin_upstream(x, *slot, mirror.upstream)?;
        let mut head = x.request.clone();
        if let Some(target) = &mirror.target {
            head.set_target(target);
        }
        if let Some(host) = &mirror.host {
            head.set(b"Host", host.as_bytes());
        }
        Some(Copy { method: head.method(), head: text(&mut head, &upstream), upstream })
    });
    let copies: Vec<Copy> = copies.collect();
    if x.source.whole().is_none() {
        return copies;
    }
    send_late(connection, x, copies);
    Vec::new()
}

fn text(head: &mut Head, upstream: &CoreUpstream) -> Vec<u8> {
    head.remove(Name::ContentLength);
    head.remove(Name::Expect);
    // The copy goes in one piece, without what followed the last chunk.
    head.remove(Name::Trailer);
    if head.get(Name::Host).is_none() {
        let host = upstream.plan.endpoints.first().map_or("", |endpoint| endpoint.host.as_str());
        head.set(b"Host", host.as_bytes());
    }
    let mut text = Vec::with_capacity(512);
    head.write_request_line(&mut text);
    head.write_fields(&mut text);
    text
}

/// Sends copies whose body has streamed through meanwhile.
pub fn send_late(connection: &Connection, x: &Exchange, copies: Vec<Copy>) {
    if copies.is_empty() {
        return;
    }
    let worker = &connection.worker;
    let Some(body) = x.source.whole() else {
        worker.stats.mirrors_skipped.add(copies.len() as u64);
        return;
    };
    for mut copy in copies {
        let bytes = copy.head.len() + body.len();
        if worker.mirrors.get() >= COPIES_MAX || worker.kept_bytes.get() + bytes > KEPT_BYTES_MAX {
            worker.stats.mirrors_skipped.add(1);
            continue;
        }
        if x.body_length != framing::BodyLength::None {
            copy.head.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        copy.head.extend_from_slice(b"\r\n");
        copy.head.extend_from_slice(body);
        worker.stats.mirrors.add(1);
        let under_way = UnderWay::new(worker, bytes);
        let limits = x.settings().response_head;
        let owner = worker.clone();
        guard::spawn(worker, async move {
            copy.send(&owner, &limits).await;
            drop(under_way);
        });
    }
}

/// Counts a copy and its bytes while it lives.
struct UnderWay(Rc<Worker>, usize);

impl UnderWay {
    fn new(worker: &Rc<Worker>, bytes: usize) -> Self {
        worker.mirrors.set(worker.mirrors.get() + 1);
        worker.kept_bytes.set(worker.kept_bytes.get() + bytes);
        UnderWay(worker.clone(), bytes)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.mirrors.set(self.0.mirrors.get() - 1);
        self.0.kept_bytes.set(self.0.kept_bytes.get() - self.1);
    }
}

impl Copy {
    async fn send(self, worker: &Rc<Worker>, limits: &HeadLimits) {
        let upstream = &self.upstream;
        let tried = Tried::default();
        let ask = Ask { now: clock::micros(), key: b"", sticky: None, tried: &tried };
        let Ok(this) = upstream.pick(worker, &ask) else {
            worker.stats.mirrors_failed.add(1);
            return;
        };
        let (index, times) = (this.index, upstream.plan.timeouts);
        let link = match upstream.pools[index].checkout() {
            Some(link) => Ok(link),
            None => {
                let address = &upstream.plan.endpoints[index].address;
                connect(worker, address, upstream.pools[index].tls.as_ref(), times.connect, None).await
            }
        };
        let link = match link {
            Ok(link) => link,
            Err(error) => {
                worker.stats.mirrors_failed.add(1);
                return this.fail(
                    match error {
                        ConnectError::TimedOut => Outcome::TimedOut,
                        ConnectError::ClientGone | ConnectError::Io(_) | ConnectError::Tls(_) => {
                            Outcome::Failed
                        }
                    },
                    None,
                );
            }
        };
        let (sent, _) = write::all(&link.socket, &link.watch, times.send, self.head).await;
        let answer = match sent {
            Ok(()) => drain(&link, self.method, times.read, limits).await,
            Err(_) => Answer { status: None, reusable: false },
        };
        match answer.status {
            Some(status) => this.fail(Outcome::Status(status), None),
            None => {
                worker.stats.mirrors_failed.add(1);
                let slow = link.watch.expired();
                this.fail(if slow { Outcome::TimedOut } else { Outcome::Failed }, None);
            }
        }
        if answer.reusable {
            upstream.pools[index].put_back(link);
        }
    }
}

struct Answer {
    status: Option<u16>,
    reusable: bool,
}

/// Reads an answer away.
async fn drain(link: &Link, method: Method, patience: Duration, limits: &HeadLimits) -> Answer {
    let mut head = Head::new();
    let mut buf = Buf::take(Class::Read);
    let mut body: Option<(BodyReader, bool)> = None;
    let mut total = 0;
    let mut answer = Answer { status: None, reusable: false };
    let until = clock::micros().saturating_add(ANSWER_TIME_MAX.as_micros() as u64);
    loop {
        while body.is_none() && !buf.is_empty() {
            match parse_response(buf.data(), limits, &mut head) {
                Ok(Some(length)) => buf.consume(length),
                Ok(None) => break,
                Err(_) => return answer,
            }
            if head.status() >= 200 {
                let Ok(length) = framing::response_body(&head, method) else { return answer };
                answer.status = Some(head.status());
                let keep = framing::keep_alive(&head) && length != framing::BodyLength::UntilClose;
                body = Some((BodyReader::new(length), keep));
            }
        }
        if let Some((reader, keep)) = &mut body {
            let Ok(rest) = reader.take(&mut buf) else { return answer };
            if reader.is_done() {
                answer.reusable = *keep && rest.is_none();
                return answer;
            }
            buf.clear();
        }
        if buf.is_vacant() {
            buf = Buf::take(Class::Read);
        }
        if buf.room() == 0 {
            buf.compact();
            if buf.room() == 0 {
                buf.grow(buf.len() * 2);
            }
        }
        link.watch.expire_in(patience);
        let (read, back) = link.socket.read(buf).await;
        buf = back;
        match read {
            Ok(count) if count > 0 => total += count,
            _ => return answer,
        }
        if total > ANSWER_BYTES_MAX || clock::micros() > until {
            return answer;
        }
    }
}
