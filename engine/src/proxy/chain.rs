//! Asks the plugins: the global rules' first, then the route's, by phase and
//! falling priority, and performs what they wish (a body, a delay).

use std::rc::Rc;

use config::vars::Vars;
use plugins::{Answer, Resume, Verdict};
use proto::framing::BodyLength;

use super::exchange::Exchange;
use super::fault::Fault;
use super::upload;
use crate::buffer::Buf;
use crate::http1::Connection;
use crate::plan::{Chain, CoreChain, CoreUpstream};

/// Slots of the route's plugins stand behind those of the global rules.
const ROUTE_SLOTS: usize = 64;

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Rewrite,
    Access,
    Response,
}

/// The request side. An answer means that no upstream is asked.
pub async fn request(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
) -> Result<Option<Answer>, Fault> {
    let (globals, own) = chains(x);
    if idle(&globals, |chain| chain.rewrite.is_empty() && chain.access.is_empty())
        && idle(&own, |chain| chain.rewrite.is_empty() && chain.access.is_empty())
    {
        return Ok(None);
    }
    for phase in [Phase::Rewrite, Phase::Access] {
        for (chain, slots) in [(&globals, 0), (&own, ROUTE_SLOTS)] {
            let Some(chain) = chain else { continue };
            if let Some(answer) = ask(connection, x, input, chain, slots, phase).await? {
                return Ok(Some(answer));
            }
        }
    }
    Ok(None)
}

/// The response side, for answers of the gateway too. An answer replaces the response.
pub async fn response(connection: &Connection, x: &mut Exchange) -> Result<Option<Answer>, Fault> {
    let (globals, own) = chains(x);
    let mut none = Buf::default();
    for (chain, slots) in [(globals, 0), (own, ROUTE_SLOTS)] {
        let Some(chain) = chain else { continue };
        if chain.chain.response.is_empty() {
            continue;
        }
        if let Some(answer) = ask(connection, x, &mut none, &chain, slots, Phase::Response).await? {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

/// Whether any plugin wants to edit tries.
pub fn edits_attempts(x: &Exchange) -> bool {
    let wants =
        |chain: &Option<Rc<CoreChain>>| chain.as_ref().is_some_and(|chain| !chain.chain.attempt.is_empty());
    let (globals, own) = chains(x);
    wants(&globals) || wants(&own)
}

/// Before a try is sent: `x.attempt` is its own copy of the head.
pub fn attempt(x: &mut Exchange, number: u32, endpoint: &str) {
    let (globals, own) = chains(x);
    let mut head = std::mem::take(&mut x.attempt);
    for (chain, slots) in [(globals, 0), (own, ROUTE_SLOTS)] {
        let Some(chain) = chain else { continue };
        for index in &chain.chain.attempt {
            if applies(&chain, *index, x) {
                x.slot_index = slots + index;
                let mut attempt = plugins::Attempt { head: &mut head, number, endpoint };
                chain.chain.links[*index].plugin.on_attempt(x, &mut attempt);
            }
        }
    }
    x.attempt = head;
}

/// The end of the exchange.
pub fn end(x: &mut Exchange, record: &plugins::Record) {
    let (globals, own) = chains(x);
    for (chain, slots) in [(globals, 0), (own, ROUTE_SLOTS)] {
        let Some(chain) = chain else { continue };
        for index in &chain.chain.end {
            if applies(&chain, *index, x) {
                x.slot_index = slots + index;
                chain.chain.links[*index].plugin.on_end(x, record);
            }
        }
    }
}

/// The upstream of this number of the plugin whose slot it is.
pub fn plugin_upstream(x: &Exchange, slot: usize, number: usize) -> Option<Rc<CoreUpstream>> {
    match slot.checked_sub(ROUTE_SLOTS) {
        Some(link) => x.route.as_ref()?.chain.upstream(link, number),
        None => x.globals.as_ref()?.upstream(slot, number),
    }
}

fn chains(x: &Exchange) -> (Option<Rc<CoreChain>>, Option<Rc<CoreChain>>) {
    let own = x.route.as_ref().filter(|route| !route.chain.chain.links.is_empty());
    let globals = x.globals.as_ref().filter(|chain| !chain.chain.links.is_empty());
    (globals.cloned(), own.map(|route| route.chain.clone()))
}

fn idle(chain: &Option<Rc<CoreChain>>, empty: impl Fn(&Chain) -> bool) -> bool {
    chain.as_ref().is_none_or(|chain| empty(&chain.chain))
}

fn applies(chain: &CoreChain, index: usize, vars: &dyn Vars) -> bool {
    chain.filters[index].as_ref().is_none_or(|filter| filter.eval(vars))
}

async fn ask(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
    chain: &Rc<CoreChain>,
    slots: usize,
    phase: Phase,
) -> Result<Option<Answer>, Fault> {
    let list = match phase {
        Phase::Rewrite => &chain.chain.rewrite,
        Phase::Access => &chain.chain.access,
        Phase::Response => &chain.chain.response,
    };
    for index in list {
        if !applies(chain, *index, x) {
            continue;
        }
        let link = &chain.chain.links[*index];
        let mut resume = Resume::Start;
        loop {
            x.slot_index = slots + index;
            let verdict = match phase {
                Phase::Rewrite => link.plugin.on_rewrite(x, resume),
                Phase::Access => link.plugin.on_access(x, resume),
                Phase::Response => link.plugin.on_response(x, resume),
            };
            match verdict {
                Verdict::Next => break,
                Verdict::Answer(mut answer) => {
                    if let (Some((body, kind)), 400..) = (&link.error_response, answer.status) {
                        answer.body = body.clone().into_bytes();
                        answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
                        answer.headers.push(("Content-Type".into(), (*kind).to_owned()));
                    }
                    return Ok(Some(answer));
                }
                Verdict::NeedBody { max } => {
                    need_body(connection, x, input, max).await?;
                    resume = Resume::Body;
                }
                Verdict::Wait(time) => {
                    connection.pause(time).await?;
                    x.waited = true;
                    resume = Resume::Woke;
                }
                Verdict::Upstream(number) => {
                    x.chosen = chain.upstream(*index, number);
                    break;
                }
            }
        }
    }
    Ok(None)
}

/// Reads the whole request body into the exchange, which then sends it as one.
async fn need_body(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
    max: usize,
) -> Result<(), Fault> {
    if x.source.whole().is_some() {
        return Ok(());
    }
    let body = upload::collect(connection, x, input, max).await?;
    x.waited = true;
    x.body_length = BodyLength::Fixed(body.len() as u64);
    x.source.set_whole(body);
    Ok(())
}
