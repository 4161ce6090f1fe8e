//! The run-time parameters that a client logs in with: what it is told, and what its server connections shall have.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::handshake::Failed;
use super::refusal;
use crate::guard::Home;
use crate::obs::LoginResult;
use crate::pool::{Checkout, Lease, Pool, WaitEnd};
use crate::proto::messages::Report;
use crate::proto::parameters::{Parameters, application_name, same_value};
use crate::proto::startup::StartupPacket;
use crate::server::Trial;

/// What was settled at login.
pub(super) struct Terms {
    /// What the client is told, as PostgreSQL would report it.
    pub(super) reported: Parameters,
    /// What its server connections shall have, over what they come with.
    pub(super) wanted: Arc<Parameters>,
}

/// Waits for the pool's greeting if no server connection was ever up; tries the client's parameters on a server
/// connection if nobody has logged in with them before, so that a wrong value is refused at login and a right one is
/// reported as PostgreSQL writes it.
pub(super) async fn settle_terms(
    pool: &Arc<Pool>,
    startup: StartupPacket,
    home: Home,
) -> Result<Terms, Failed> {
    let base = base(pool, home).await?;
    let mut wanted = Parameters::default();
    let mut name = None;
    for (key, value) in &startup.parameters {
        if key.eq_ignore_ascii_case("application_name") {
            name = Some(application_name(value));
        } else if !base.get(key).is_some_and(|now| same_value(key, now, value)) {
            wanted.set(key, value);
        }
    }
    let taken = match pool.greeting.known(&wanted) {
        _ if wanted.is_empty() => Arc::default(),
        Some(taken) => taken,
        None => {
            let _turn = pool.greeting.trial.lock().await;
            match pool.greeting.known(&wanted) {
                Some(taken) => taken,
                None => try_out(pool, wanted, home).await?,
            }
        }
    };
    Ok(terms(&base, &taken, name))
}

fn terms(base: &Parameters, taken: &Parameters, name: Option<String>) -> Terms {
    let mut reported = base.clone();
    let mut wanted = taken.clone();
    for (key, value) in taken.iter().filter(|(key, _)| base.get(key).is_some()) {
        reported.set(key, value);
    }
    if let Some(name) = name {
        reported.set("application_name", &name);
        if base.get("application_name") != Some(&name) {
            wanted.set("application_name", &name);
        }
    }
    Terms { reported, wanted: Arc::new(wanted) }
}

/// What PostgreSQL reports to a new connection.
async fn base(pool: &Arc<Pool>, home: Home) -> Result<Arc<Parameters>, Failed> {
    if let Some(base) = pool.greeting.reported() {
        return Ok(base);
    }
    // Before the request, or its answer could be missed.
    let first = pool.greeting.first();
    pool.warm(home);
    let no_server = || Failed::Refused(LoginResult::NoServer, refusal::no_server(pool));
    first.await.ok_or_else(no_server)
}

/// Has a server connection take the parameters.
async fn try_out(pool: &Arc<Pool>, wanted: Parameters, home: Home) -> Result<Arc<Parameters>, Failed> {
    let Some(mut lease) = borrow(pool, home).await else {
        // No server has time for it. The client gets in all the same, told what it said itself; a value that is wrong
        // ends its session when it is first used.
        return Ok(Arc::new(wanted));
    };
    match lease.try_parameters(&wanted).await {
        Ok(Trial::Taken(taken)) => {
            let taken = Arc::new(taken);
            lease.parameters = Arc::clone(&taken);
            lease.release(Instant::now());
            pool.greeting.remember(wanted, Arc::clone(&taken));
            Ok(taken)
        }
        Ok(Trial::Refused { sqlstate, message }) => {
            lease.release(Instant::now());
            Err(Failed::Refused(LoginResult::Protocol, Report::fatal(sqlstate, message)))
        }
        Err(_) => {
            drop(lease);
            Ok(Arc::new(wanted))
        }
    }
}

async fn borrow(pool: &Arc<Pool>, home: Home) -> Option<Lease> {
    match pool.checkout(Instant::now(), home) {
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
