//! The run-time parameters that a client logs in with: what it is told, and what its server connections shall have.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::door::Door;
use super::failed::Failed;
use super::refusal;
use crate::guard::{Home, ShedReason};
use crate::obs::LoginResult;
use crate::pool::{Checkout, Lease, Pool, Terms, WaitEnd};
use crate::proto::messages::{self, Report};
use crate::proto::parameters::{Parameters, application_name, same_value};
use crate::proto::startup::StartupPacket;
use crate::server::Trial;

const APPLICATION_NAME: &str = "application_name";

/// Waits for the pool's greeting if no server connection was ever up; tries the client's parameters on a server
/// connection if nobody has logged in with them before, so that a wrong value is refused at login and a right one is
/// reported as PostgreSQL writes it.
pub(super) async fn settle_terms(
    door: &Door,
    pool: &Arc<Pool>,
    startup: StartupPacket,
    home: Home,
) -> Result<Arc<Terms>, Failed> {
    let base = base(door, pool, home).await?;
    let mut asked = Parameters::default();
    for (key, value) in &startup.parameters {
        if key.eq_ignore_ascii_case(APPLICATION_NAME) {
            asked.set(APPLICATION_NAME, &application_name(value));
        } else {
            asked.set(key, value);
        }
    }
    if let Some(terms) = pool.greeting.terms(&asked) {
        return Ok(terms);
    }
    let mut wanted = asked.clone();
    // Any name is taken, and it may differ from client to client: it is no matter for a server.
    wanted.remove(APPLICATION_NAME);
    for (key, value) in base.iter() {
        if wanted.get(key).is_some_and(|asked| same_value(key, asked, value)) {
            wanted.remove(key);
        }
    }
    let (mut taken, tried) = match taken(pool, &wanted, home).await? {
        Some(taken) => (taken, true),
        // No server has time for it. The client gets in all the same, told what it said itself; a value that is wrong
        // ends its session when it is first used.
        None => (Arc::new(wanted), false),
    };
    if let Some(name) = asked.get(APPLICATION_NAME).filter(|name| base.get(APPLICATION_NAME) != Some(name)) {
        let mut named = Parameters::clone(&taken);
        named.set(APPLICATION_NAME, name);
        taken = Arc::new(named);
    }
    let terms = Arc::new(Terms { statuses: statuses(&base, &taken), wanted: taken });
    if tried {
        pool.greeting.settle(asked, Arc::clone(&terms));
    }
    Ok(terms)
}

/// The parameters as a server takes them; None if no server can be asked.
async fn taken(pool: &Arc<Pool>, wanted: &Parameters, home: Home) -> Result<Option<Arc<Parameters>>, Failed> {
    if wanted.is_empty() {
        return Ok(Some(Arc::default()));
    }
    if let Some(taken) = pool.greeting.known(wanted) {
        return Ok(Some(taken));
    }
    let _turn = pool.greeting.trial.lock().await;
    match pool.greeting.known(wanted) {
        Some(taken) => Ok(Some(taken)),
        None => try_out(pool, wanted, home).await,
    }
}

/// ParameterStatus for each parameter that PostgreSQL reports, with the client's own values.
fn statuses(base: &Parameters, taken: &Parameters) -> Vec<u8> {
    let mut statuses = vec![];
    for (name, value) in base.iter() {
        messages::parameter_status(&mut statuses, name, taken.get(name).unwrap_or(value));
    }
    statuses
}

/// What PostgreSQL reports to a new connection.
async fn base(door: &Door, pool: &Arc<Pool>, home: Home) -> Result<Arc<Parameters>, Failed> {
    if let Some(base) = pool.greeting.reported() {
        return Ok(base);
    }
    // Before the request, or its answer could be missed.
    let first = pool.greeting.first();
    pool.warm(home);
    first.await.ok_or_else(|| {
        let retry_after = door.jitter.spread(pool.retry_after(ShedReason::ServerDown));
        let (refusal, report) = refusal::no_server(pool, retry_after);
        Failed::Limit(refusal, report)
    })
}

/// Has a server connection take the parameters.
async fn try_out(
    pool: &Arc<Pool>,
    wanted: &Parameters,
    home: Home,
) -> Result<Option<Arc<Parameters>>, Failed> {
    let Some(mut lease) = borrow(pool, home).await else { return Ok(None) };
    match lease.try_parameters(wanted).await {
        Ok(Trial::Taken(taken)) => {
            let taken = Arc::new(taken);
            lease.parameters = Arc::clone(&taken);
            lease.release(Instant::now());
            pool.greeting.remember(wanted.clone(), Arc::clone(&taken));
            Ok(Some(taken))
        }
        Ok(Trial::Refused { sqlstate, message }) => {
            lease.release(Instant::now());
            Err(Failed::Refused(LoginResult::Protocol, Report::fatal(sqlstate, message)))
        }
        Err(_) => Ok(None),
    }
}

async fn borrow(pool: &Arc<Pool>, home: Home) -> Option<Lease> {
    match pool.checkout(Instant::now(), &pool.own_caller(home)) {
        Checkout::Granted(lease) => Some(lease),
        Checkout::Shed(_) => None,
        Checkout::Queued(mut waiting) => {
            let end = poll_fn(|cx| match waiting.poll_end(cx) {
                Poll::Ready(WaitEnd::Granted(lease)) => Poll::Ready(Some(lease)),
                Poll::Ready(WaitEnd::Shed(..) | WaitEnd::Cancelled) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            end.await
        }
    }
}
