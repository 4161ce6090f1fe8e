//! From accept to ReadyForQuery: startup packets, TLS, proof of identity, greeting.
//!
//! No server connection is needed for any of it, as long as one has been seen: a stampede of logins stays in here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::field::display;

use super::door::{Connection, Door, Full, Places, Presence, Seat};
use super::failed::Failed;
use super::limited::check_login;
use super::line::line;
use super::refusal;
use super::roster::{Cancel, Member};
use super::session::Session;
use super::terms::settle_terms;
use super::turns::Turn;
use crate::guard::Home;
use crate::limits::Stage;
use crate::lock::lock;
use crate::net::Stream;
use crate::obs::{CancelResult, LabelValue, LoginPhase, LoginResult, Refusal};
use crate::proto::auth::{ClientAuth, ClientAwaitsKeys, ClientStep, Derivation, RefusalCause};
use crate::proto::messages::{self, Report};
use crate::proto::parameters::Parameters;
use crate::proto::startup::{
    Action, Event, FirstPacket, Startup, StartupPacket, Transport, Violation, packet_length, parse,
};
use crate::wire::{Header, Side, header, tag};

/// How long a refused client may take to read why.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Most bytes read at once.
const READ: usize = 1024;
/// Longest message of a login, in bytes: the bound of password messages.
const LONGEST: usize = 10_005;

/// Takes one connection from accept to its end.
pub(super) async fn serve(connection: Connection, stream: Stream, home: Home) {
    // Boxed, and its memory given back before the session begins: a login is over soon.
    if let Some((mut session, early)) = Box::pin(log_in(Arc::clone(connection.door()), stream, home)).await {
        session.run(early).await;
    }
    drop(connection);
}

/// Logs a client in. With the session comes what the client has sent ahead of its greeting.
async fn log_in(door: Arc<Door>, stream: Stream, home: Home) -> Option<(Box<Session>, Vec<u8>)> {
    let handshake = door.metrics.clients().accepted();
    let address = stream.peer_ip();
    let door_of = Arc::clone(&door);
    let mut greeter =
        Greeter { stream, address, claim: None, received: vec![], tls_pending: false, door: door_of, home };
    let result = tokio::select! {
        biased;
        result = tokio::time::timeout(door.params.login_timeout, greeter.log_in()) => result,
        () = door.closing() => Ok(Err(Failed::by(Refusal::Draining, &door))),
    };
    let timeout = |_| Err(Failed::by(Refusal::LoginTimeout, &door));
    match result.unwrap_or_else(timeout) {
        Ok((member, seat, wanted)) => {
            handshake.finished(LoginResult::Ok);
            let Greeter { stream, received, address, .. } = greeter;
            let mut session = Box::new(Session::new(stream, member, seat, wanted, home));
            session.count_as(address);
            line!(debug, session, address = address.map(display), "client logged in");
            return Some((session, received));
        }
        Err(Failed::Gone) => drop(handshake),
        Err(Failed::NoLogin) => handshake.not_a_login(),
        Err(Failed::Refused(result, report)) => {
            handshake.finished(result);
            greeter.last_word(result.label(), &report).await;
        }
        Err(Failed::Limit(reason, report)) => {
            handshake.refused(reason);
            greeter.last_word(reason.label(), &report).await;
        }
    }
    None
}

type Admitted = (Member, Seat, Arc<Parameters>);

/// Who a client says it is.
struct Claim {
    user: String,
    database: String,
}

/// A connection that is logging in.
struct Greeter {
    stream: Stream,
    /// Where it comes from, if not from a Unix socket.
    address: Option<IpAddr>,
    /// Who it says it is, for the log.
    claim: Option<Claim>,
    /// Bytes that have come and are not looked at yet.
    received: Vec<u8>,
    /// The client has asked for TLS, may have it, and does not have it yet.
    tls_pending: bool,
    door: Arc<Door>,
    home: Home,
}

impl Greeter {
    async fn log_in(&mut self) -> Result<Admitted, Failed> {
        let Some(first) = self.packet().await? else { return Err(Failed::NoLogin) };
        // Taken once the client has spoken: silence must not keep others out.
        let door = Arc::clone(&self.door);
        let arrived = Instant::now();
        let turn = self.turn(&first).await?;
        // A cancel request has none.
        if turn.is_some() {
            self.spent(LoginPhase::Turn, arrived);
        }
        let Some(startup) = self.startup(first).await? else { return Err(Failed::NoLogin) };
        if tracing::enabled!(tracing::Level::DEBUG) {
            let (user, database) = (startup.user.clone(), startup.database.clone());
            self.claim = Some(Claim { user, database });
        }
        if door.is_draining() {
            return Err(Failed::by(Refusal::Draining, &door));
        }
        check_login(&door, Stage::Claim, &startup, self.address)?;
        let presence = Presence::ask(&door).map_err(|full| Failed::full(full, &door))?;
        if startup.replication.is_some() {
            return Err(Failed::by(Refusal::Replication, &door));
        }
        let asked = Instant::now();
        let accept = self.prove(&startup).await?;
        self.spent(LoginPhase::Authentication, asked);
        let proven = Instant::now();
        let admitted = self.greet(startup, accept, presence).await?;
        self.spent(LoginPhase::Settings, proven);
        Ok(admitted)
    }

    fn spent(&self, phase: LoginPhase, since: Instant) {
        self.door.metrics.clients().phase(phase, since.elapsed());
    }

    /// Waits for its turn to log in. A cancel request needs none: it is over at once, and who is to be cancelled may be in
    /// everybody's way.
    async fn turn(&mut self, first: &[u8]) -> Result<Option<Turn>, Failed> {
        let user = match parse(first) {
            Ok(FirstPacket::CancelRequest { .. }) => return Ok(None),
            Ok(FirstPacket::Startup(startup)) => Some(startup.user),
            _ => None,
        };
        let Some(mut turn) = self.door.turns.arrive(self.address, user.as_deref()) else {
            let limit = self.door.max_clients();
            let full = Failed::full(Full { refusal: Refusal::MaxClients, limit }, &self.door);
            // Who asks for TLS gets no word in plain text.
            return Err(if user.is_some() { full } else { Failed::Gone });
        };
        tokio::select! {
            biased;
            () = turn.granted() => Ok(Some(turn)),
            () = self.gone() => Err(Failed::Gone),
        }
    }

    /// Ready once the client has closed or is cut off. What it sends meanwhile is kept. Cancel safe.
    async fn gone(&mut self) {
        while self.received.len() < LONGEST {
            if !matches!(self.receive().await, Ok(true)) {
                return;
            }
        }
        // It sends more than belongs to a login; its end does not show behind that.
        std::future::pending().await
    }

    /// The packets before the login itself; None if it was a cancel request.
    async fn startup(&mut self, first: Vec<u8>) -> Result<Option<StartupPacket>, Failed> {
        let transport = if self.stream.is_unix() { Transport::Unix } else { Transport::Tcp };
        let mut machine = Startup::new(self.door.params.tls.mode, transport);
        let mut packet = Some(first);
        loop {
            let bytes = packet.take().unwrap_or_default();
            let event = if bytes.is_empty() {
                Event::TlsUp
            } else {
                Event::Packet { bytes: &bytes, buffered: self.received.len() }
            };
            match machine.handle(event) {
                Action::Deny => self.stream.write_all(b"N").await?,
                Action::StartTls => {
                    self.encrypt().await?;
                    continue;
                }
                Action::Read => {}
                Action::Cancel { process_id, secret } => {
                    self.cancel(process_id, secret).await;
                    return Ok(None);
                }
                Action::Accept { startup, reply } => {
                    self.stream.write_all(&reply).await?;
                    return Ok(Some(startup));
                }
                Action::Refuse(Violation::TlsRequired) => {
                    return Err(Failed::by(Refusal::TlsRequired, &self.door));
                }
                Action::Refuse(violation) => {
                    return Err(Failed::Refused(LoginResult::Protocol, violation.report()));
                }
            }
            packet = self.packet().await?;
            if packet.is_none() {
                return Err(Failed::Gone);
            }
        }
    }

    /// One packet without a type byte; None if the client closes instead.
    async fn packet(&mut self) -> Result<Option<Vec<u8>>, Failed> {
        loop {
            let length = packet_length(&self.received)
                .map_err(|violation| Failed::Refused(LoginResult::Protocol, violation.report()))?;
            match length {
                Some(length) if self.received.len() >= length => {
                    let packet = self.take(length);
                    self.tls_pending =
                        self.door.tls.is_some() && matches!(parse(&packet), Ok(FirstPacket::SslRequest));
                    return Ok(Some(packet));
                }
                _ if self.receive().await? => {}
                _ => return Ok(None),
            }
        }
    }

    /// The first bytes of what was received.
    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.received.split_off(length);
        std::mem::replace(&mut self.received, rest)
    }

    /// Receives some bytes; false at the end of the stream. What was received is bounded: no more is read than fits behind a
    /// packet or message that is not complete, and those are bounded.
    async fn receive(&mut self) -> Result<bool, Failed> {
        self.received.reserve(READ);
        let read = (&mut self.stream).take(READ as u64).read_buf(&mut self.received).await?;
        Ok(read > 0)
    }

    async fn encrypt(&mut self) -> Result<(), Failed> {
        let Some(tls) = self.door.tls.clone() else { return Err(Failed::Gone) };
        self.stream.write_all(b"S").await?;
        let begun = Instant::now();
        match self.stream.encrypt_as_server(&tls).await {
            Ok(()) => {
                self.spent(LoginPhase::Tls, begun);
                self.tls_pending = false;
                Ok(())
            }
            Err(error) => {
                tracing::debug!(address = self.address.map(display), %error, "TLS handshake failed");
                self.door.metrics.clients().tls_failed();
                Err(Failed::Gone)
            }
        }
    }

    async fn cancel(&self, process_id: i32, secret: &[u8]) {
        let result = match self.door.roster.cancel(process_id, secret) {
            Cancel::Done(result) => result,
            Cancel::Send(request) => match request.send().await {
                Ok(()) => CancelResult::Sent,
                Err(error) => {
                    self.door.mishaps.count("cannot_deliver_cancel");
                    let address = self.address.map(display);
                    tracing::debug!(client = process_id, address, %error, "cannot deliver a cancel request");
                    CancelResult::Failed
                }
            },
        };
        self.door.metrics.clients().cancelled(result);
    }

    /// The client proves who it is; the bytes that tell it so, which are still to be sent.
    async fn prove(&mut self, startup: &StartupPacket) -> Result<Vec<u8>, Failed> {
        let door = Arc::clone(&self.door);
        let secret = door.user(&startup.user).and_then(|user| user.secret());
        let mut step = ClientAuth::start(door.params.auth, &startup.user, secret, &door.mock, rand::random());
        loop {
            step = match step {
                ClientStep::Send { message, next } => {
                    self.stream.write_all(&message).await?;
                    self.stream.flush().await?;
                    let (kind, body) = self.message().await?;
                    next.handle(kind, &body)
                }
                ClientStep::Derive { derivation, next } => {
                    self.derive(&startup.user, derivation, next).await?
                }
                ClientStep::Accept { message } => return Ok(message),
                ClientStep::Refuse(refused) => {
                    tracing::debug!(
                        user = startup.user,
                        database = startup.database,
                        address = self.address.map(display),
                        cause = ?refused.cause,
                        "login refused"
                    );
                    let result = match refused.cause {
                        RefusalCause::ClientMisbehaved(_) => LoginResult::Protocol,
                        _ => LoginResult::BadCredentials,
                    };
                    return Err(Failed::Refused(result, refused.report));
                }
            }
        }
    }

    /// Has the keys of a password derived, unless it was right before.
    async fn derive(
        &mut self,
        user: &str,
        derivation: Derivation,
        next: ClientAwaitsKeys,
    ) -> Result<ClientStep, Failed> {
        let door = Arc::clone(&self.door);
        let proven = door.user(user).map(|user| &user.proven);
        let is_known = || proven.is_some_and(|proven| lock(proven).knows(&derivation));
        if is_known() {
            return Ok(next.known());
        }
        let permit = tokio::select! {
            biased;
            permit = Arc::clone(&door.derivations).acquire_owned() => permit.map_err(|_| Failed::Gone)?,
            () = self.gone() => return Err(Failed::Gone),
        };
        // The one before may have been the same.
        if is_known() {
            return Ok(next.known());
        }
        let work = derivation.clone();
        let keys = tokio::task::spawn_blocking(move || {
            let _until_it_has_run = permit;
            work.run()
        });
        let step = next.keys(&keys.await.map_err(|_| Failed::Gone)?);
        if let (ClientStep::Accept { .. }, Some(proven)) = (&step, proven) {
            lock(proven).remember(&derivation);
        }
        Ok(step)
    }

    /// One message of the login.
    async fn message(&mut self) -> Result<(u8, Vec<u8>), Failed> {
        let protocol = |report| Failed::Refused(LoginResult::Protocol, report);
        loop {
            match header(Side::Client, &self.received) {
                Ok(Some(Header { tag: tag::TERMINATE, .. })) => return Err(Failed::Gone),
                Ok(Some(Header { total, .. })) if total > LONGEST => {
                    return Err(protocol(Report::fatal("08P01", "invalid message length")));
                }
                Ok(Some(Header { tag, total })) if self.received.len() >= total => {
                    return Ok((tag, self.take(total).split_off(Header::SIZE)));
                }
                Ok(_) if self.receive().await? => {}
                Ok(_) => return Err(Failed::Gone),
                Err(violation) => return Err(protocol(refusal::violation(violation))),
            }
        }
    }

    /// Finds the client's pool and tells it what PostgreSQL would.
    async fn greet(
        &mut self,
        startup: StartupPacket,
        mut reply: Vec<u8>,
        presence: Option<Presence>,
    ) -> Result<Admitted, Failed> {
        let door = Arc::clone(&self.door);
        let unknown =
            || Failed::Refused(LoginResult::UnknownDatabase, refusal::unknown_database(&startup.database));
        let database = door.pools.database(&startup.database).ok_or_else(unknown)?;
        let pool = database.pool(&startup.user).ok_or_else(unknown)?;
        let user = door.user(&startup.user).ok_or_else(unknown)?;
        check_login(&door, Stage::Login, &startup, self.address)?;
        let places = Places::take(user, database, pool).map_err(|full| Failed::full(full, &door))?;
        let long_key = startup.served_minor() >= 2;
        let terms = tokio::select! {
            biased;
            terms = settle_terms(&door, pool, startup, self.home) => terms?,
            () = self.gone() => return Err(Failed::Gone),
        };
        // Last: nobody gives way to one who is not let in.
        let presence = match presence {
            Some(presence) => presence,
            None => Presence::in_place_of_another(&door).await.map_err(|full| Failed::full(full, &door))?,
        };
        let seat = Seat::new(presence, places);
        let member = door.roster.enter(long_key);
        reply.extend_from_slice(&terms.statuses);
        messages::backend_key_data(&mut reply, member.process_id, member.secret());
        messages::ready_for_query(&mut reply, b'I');
        self.stream.write_all(&reply).await?;
        self.stream.flush().await?;
        Ok((member, seat, Arc::clone(&terms.wanted)))
    }

    /// Says why, and closes. `reason` is for the log's summary.
    async fn last_word(&mut self, reason: &'static str, report: &Report) {
        self.door.login_failures.count(reason);
        tracing::debug!(
            user = self.claim.as_ref().map(|claim| claim.user.as_str()),
            database = self.claim.as_ref().map(|claim| claim.database.as_str()),
            address = self.address.map(display),
            reason,
            message = %report.message,
            "login failed"
        );
        // In plain text it would be nothing that the client may believe, and who asks for TLS expects one byte or TLS.
        if self.tls_pending {
            return;
        }
        let mut message = vec![];
        messages::error_response(&mut message, report);
        let say = async {
            self.stream.write_all(&message).await?;
            self.stream.flush().await?;
            self.stream.shutdown().await
        };
        let _ = tokio::time::timeout(LAST_WORD, say).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand idle clients cost ten thousand times this; growth has to be meant.
    #[test]
    fn an_idle_client_is_small() {
        assert!(size_of_future(serve) <= 256, "{}", size_of_future(serve));
        assert!(size_of::<Session>() <= 528, "{}", size_of::<Session>());
    }
}
