//! The life of a request, step by step; detail is one call down.
//!
//! `receive` reads what the head says, `chain` asks the plugins, `forward` picks
//! endpoints (`sticky` says by what) and decides over tries, `attempt` makes one,
//! `hedge` a second beside a slow first; `upload` and `body` carry bodies, `source`
//! keeps what may be sent again, `tunnel` takes over after an upgrade, `mirror`
//! sends copies, `answer` is the only place that turns faults into statuses,
//! `finish` writes one record. docs/life-of-a-request.md walks through it.

pub mod answer;
mod attempt;
mod body;
mod chain;
pub mod exchange;
pub mod fault;
mod finish;
mod forward;
mod hedge;
mod mirror;
mod receive;
mod source;
mod sticky;
mod text;
mod tunnel;
mod upload;

use crate::buffer::Buf;
use crate::http1::{After, Connection};

use exchange::Exchange;
use fault::Fault;

/// What an exchange has come to when its request side is done.
enum Step {
    /// An upstream's response went out.
    Forwarded(After),
    /// A plugin answered.
    Answered(plugins::Answer),
}

/// Serves one request whose head is in the exchange; `input` holds what follows it.
pub async fn handle(connection: &Connection, x: &mut Exchange, input: &mut Buf) -> After {
    let worker = &connection.worker;
    let plan = worker.plan();
    let _active = finish::Active::new(worker);
    x.begin(worker, &plan.settings);
    let step = match run(connection, x, input, &plan).await {
        Ok(Step::Forwarded(after)) => Ok(after),
        Ok(Step::Answered(answer)) => answer::plugin(connection, x, input, answer).await,
        Err(fault) => Err(fault),
    };
    let after = match step {
        Ok(after) => after,
        Err(fault) => answer::fault(connection, x, input, fault).await,
    };
    finish::record(connection, x);
    after
}

async fn run(
    connection: &Connection,
    x: &mut Exchange,
    input: &mut Buf,
    plan: &crate::plan::CorePlan,
) -> Result<Step, Fault> {
    receive::inspect(connection, x)?;
    receive::route(connection, x, plan)?;
    if let Some(answer) = chain::request(connection, x, input).await? {
        return Ok(Step::Answered(answer));
    }
    if let Some(answer) = receive::server_options(x) {
        return Ok(Step::Answered(answer));
    }
    receive::require_route(x)?;
    receive::prepare(x);
    forward::run(connection, x, input).await.map(Step::Forwarded)
}

/// Answers a head that could not be read, and says what becomes of the connection.
pub async fn refuse(connection: &Connection, x: &mut Exchange, fault: Fault) -> After {
    let worker = &connection.worker;
    x.begin(worker, &worker.plan().settings);
    receive::identify(connection, x);
    let mut nothing = Buf::default();
    let after = answer::fault(connection, x, &mut nothing, fault).await;
    finish::record(connection, x);
    after
}
