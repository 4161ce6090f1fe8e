//! Plays steps to both sides and compares the answers.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::requests::{self, Request};
use crate::support::wire::{Message, PROTOCOL_3_0, Wire};

use super::answer::{Answer, Ear, Segment};
use super::generator::View;
use super::statements::reads_a_literal;
use super::step::{Action, Leaving, Step, Touch};
use super::world::{CLIENTS, POOL_SIZE, World, new_rows, new_table};

/// With what each client logs in. It keeps that through RESET and DISCARD.
pub const STARTUP: [&[(&str, &str)]; CLIENTS] = [
    &[],
    &[("application_name", "started"), ("TimeZone", "Europe/Berlin")],
    &[("options", "-c work_mem=3MB -c my.var=started")],
    &[("DateStyle", "German"), ("client_encoding", "LATIN1"), ("extra_float_digits", "2")],
    &[("options", "-c search_path=x,public -c statement_timeout=15min")],
];

/// Reported settings that decide how a literal is read.
const READING: [&str; 5] =
    ["DateStyle", "IntervalStyle", "TimeZone", "client_encoding", "standard_conforming_strings"];

/// Their values.
type Reading = [Option<String>; READING.len()];

/// Who tidies up between sequences; no client of any of them.
const KEEPER: usize = CLIENTS;

/// The oracle's side, and the other.
const DIRECT: usize = 0;
const PROXIED: usize = 1;

/// Transaction status of a session that is in none.
const IDLE: u8 = b'I';

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Played {
    /// Both sides answered alike.
    Done,
    /// It could not be played now: the pool was taken, or the client had retired.
    Skipped,
    /// The answers were different in a way that is allowed, but the two sessions have nothing in common any more: the
    /// client takes no further part in the sequence.
    Retired,
}

/// Plays to the sessions of one world.
pub struct Player<'w> {
    world: &'w World<'w>,
    patience: Duration,
    pairs: Vec<Option<Pair>>,
    retired: [bool; CLIENTS + 1],
}

/// One client: a session on either side.
struct Pair {
    sides: [Wire; 2],
    ears: [Ear; 2],
    /// Transaction status.
    status: u8,
    /// It may have state that keeps its server connection.
    pinned: bool,
    /// What was parsed under each name.
    texts: HashMap<String, (String, Vec<u32>)>,
    /// How literals were read when it was.
    readings: HashMap<String, Reading>,
}

impl<'w> Player<'w> {
    /// Nobody is connected yet. `patience`: longest wait for an answer.
    pub fn new(world: &'w World<'w>, patience: Duration) -> Self {
        let pairs = (0..=CLIENTS).map(|_| None).collect();
        Self { world, patience, pairs, retired: [false; CLIENTS + 1] }
    }

    fn holds(&self, client: usize) -> bool {
        self.pairs[client].as_ref().is_some_and(|pair| pair.status != IDLE || pair.pinned)
    }

    /// Plays a step; an error says what is different.
    pub fn play(&mut self, step: &Step) -> Result<Played, String> {
        if !self.may_act(step.client) {
            return Ok(Played::Skipped);
        }
        match &step.action {
            Action::Write(requests) => {
                let played = self.write(step.client, requests)?;
                if let Some(pair) = &mut self.pairs[step.client] {
                    pair.pinned |= step.pins;
                }
                Ok(played)
            }
            Action::Leave(leaving) => self.leave(step.client, *leaving).map(|()| Played::Done),
        }
    }

    /// Every table is as it was before; nobody has a transaction open.
    pub fn tidy(&mut self, steps: &[Step]) -> Result<(), String> {
        self.retired = [false; CLIENTS + 1];
        // A sequence that was cut down may lack its end.
        let open: Vec<usize> = (0..CLIENTS).filter(|client| self.holds(*client)).collect();
        open.into_iter().try_for_each(|client| self.leave(client, Leaving::Abort))?;
        for client in 0..CLIENTS {
            let touches = steps.iter().filter(|step| step.client == client).map(Step::touch);
            match touches.max().unwrap_or(Touch::None) {
                Touch::None => continue,
                Touch::Rows => self.write(KEEPER, &[Request::Query(new_rows(client))])?,
                Touch::Shape => self.write(KEEPER, &[Request::Query(new_table(client))])?,
            };
        }
        Ok(())
    }

    fn pair(&mut self, client: usize) -> Result<&mut Pair, String> {
        if self.pairs[client].is_none() {
            self.pairs[client] = Some(self.connect(client)?);
        }
        Ok(self.pairs[client].as_mut().expect("it was just connected"))
    }

    /// Logs in on both sides. What they are greeted with has to be the same.
    fn connect(&mut self, client: usize) -> Result<Pair, String> {
        let name = self.world.tenant().name.as_str();
        let own = STARTUP.get(client).copied().unwrap_or_default();
        let params = [&[("user", name), ("database", name)], own].concat();
        let patience = self.patience;
        let login = |address| {
            let mut wire = Wire::connect(address).map_err(|error| format!("connect: {error}"))?;
            wire.socket().set_read_timeout(Some(patience)).map_err(|error| error.to_string())?;
            wire.send_startup(PROTOCOL_3_0, &params).map_err(|error| format!("startup: {error}"))?;
            match wire.authenticate(name, &self.world.tenant().password) {
                (greeting, Ok(())) => Ok((wire, greeting)),
                (greeting, Err(fault)) => Err(format!("login with {params:?}: {fault:?} after {greeting:?}")),
            }
        };
        let [direct, proxied] = self.world.addresses();
        let (direct, proxied) = (login(direct)?, login(proxied)?);
        let mut ears: [Ear; 2] = Default::default();
        let mut greetings =
            ears.iter_mut().zip([direct.1, proxied.1]).map(|(ear, messages)| greeting(messages, ear));
        let greetings: [Answer; 2] = std::array::from_fn(|_| greetings.next().expect("two"));
        match greetings[DIRECT].difference(&greetings[PROXIED]) {
            Some(difference) => Err(format!("login with {params:?}:\n{difference}")),
            None => Ok(Pair {
                sides: [direct.0, proxied.0],
                ears,
                status: IDLE,
                pinned: false,
                texts: HashMap::new(),
                readings: HashMap::new(),
            }),
        }
    }

    fn leave(&mut self, client: usize, leaving: Leaving) -> Result<(), String> {
        let Some(mut pair) = self.pairs[client].take() else { return Ok(()) };
        match leaving {
            Leaving::Terminate => {
                pair.compare_notifications()?;
                pair.sides.iter_mut().try_for_each(|wire| wire.send(&[b'X', 0, 0, 0, 4]))
            }
            Leaving::Abort => pair
                .sides
                .iter()
                .try_for_each(|wire| socket2::SockRef::from(wire.socket()).set_linger(Some(Duration::ZERO))),
        }
        .map_err(|error| format!("leaving: {error}"))
    }

    fn write(&mut self, client: usize, requests: &[Request]) -> Result<Played, String> {
        let before = self.pair(client)?.status;
        let bytes = requests::bytes(requests);
        for side in [DIRECT, PROXIED] {
            self.pair(client)?.sides[side].send(&bytes).map_err(|error| format!("send: {error}"))?;
        }
        let answers = [DIRECT, PROXIED].map(|side| self.read(client, side, requests));
        let pair = self.pair(client)?;
        match answers[DIRECT].difference(&answers[PROXIED]) {
            None => {}
            // Without the ParameterDescription that may come before the error: there is nothing in it to go by.
            Some(_)
                if answers.iter().all(Answer::has_stale_plan)
                    && answers[DIRECT].ends_like(&answers[PROXIED]) => {}
            Some(_) if answers[DIRECT].has_stale_plan() => {
                return self.after_change(client, requests, before, &answers[PROXIED]);
            }
            Some(difference) => return Err(difference),
        }
        pair.status = answers[DIRECT].status().ok_or("both sides closed the connection")?;
        pair.remember(requests, &answers[DIRECT]);
        if pair.status == IDLE && answers[DIRECT].replies().any(|reply| says(reply, "DISCARD ALL")) {
            pair.pinned = false;
            pair.compare_notifications()?;
        }
        Ok(Played::Done)
    }

    fn read(&mut self, client: usize, side: usize, requests: &[Request]) -> Answer {
        let answers = requests.iter().filter(|request| request.ends_an_answer()).count();
        let Some(pair) = &mut self.pairs[client] else { return Answer::default() };
        Answer::read(&mut pair.sides[side], answers, &mut pair.ears[side])
    }

    /// The table of a prepared statement has changed, and PostgreSQL refuses to execute it. The proxy prepares it
    /// again, as the client would have to; or it had never prepared it on the server connection of this transaction.
    /// So the oracle's session does what a client does, and has to be answered as the other one was.
    fn after_change(
        &mut self,
        client: usize,
        requests: &[Request],
        before: u8,
        proxied: &Answer,
    ) -> Result<Played, String> {
        let pair = self.pair(client)?;
        let stale = only_statement(requests).filter(|_| before == IDLE);
        let text = stale.and_then(|name| pair.texts.get_key_value(name)).map(|(k, v)| (k.clone(), v.clone()));
        let Some((name, (sql, types))) = text else {
            self.leave(client, Leaving::Abort)?;
            self.retired[client] = true;
            return Ok(Played::Retired);
        };
        let again = [Request::CloseStatement(name.clone()), Request::Parse(name, sql, types), Request::Sync];
        self.tell_oracle(client, &again)?;
        let direct = self.tell_oracle(client, requests)?;
        let pair = self.pair(client)?;
        pair.status = direct.status().ok_or("the oracle closed the connection")?;
        match direct.difference(proxied) {
            None => Ok(Played::Done),
            Some(difference) => Err(format!("after a change of its table, parsed again:\n{difference}")),
        }
    }

    fn tell_oracle(&mut self, client: usize, requests: &[Request]) -> Result<Answer, String> {
        let sent = self.pair(client)?.sides[DIRECT].send(&requests::bytes(requests));
        sent.map_err(|error| format!("send: {error}"))?;
        Ok(self.read(client, DIRECT, requests))
    }
}

impl View for Player<'_> {
    fn status(&self, client: usize) -> u8 {
        self.pairs[client].as_ref().map_or(IDLE, |pair| pair.status)
    }

    fn may_act(&self, client: usize) -> bool {
        let others = (0..CLIENTS).filter(|other| *other != client && self.holds(*other));
        !self.retired[client] && others.count() < POOL_SIZE
    }

    fn parsed(&self, client: usize) -> Vec<(String, String)> {
        let texts = self.pairs[client].as_ref().map(|pair| &pair.texts);
        let mut parsed: Vec<_> =
            texts.into_iter().flatten().map(|(name, (sql, _))| (name.clone(), sql.clone())).collect();
        parsed.sort();
        parsed
    }

    fn stale(&self, client: usize) -> Vec<String> {
        let Some(pair) = &self.pairs[client] else { return vec![] };
        let now = reading(&pair.ears[DIRECT]);
        let parsed = pair.texts.iter().filter(|(_, (sql, _))| reads_a_literal(sql));
        let stale = parsed.filter(|(name, _)| pair.readings.get(*name) != Some(&now));
        stale.map(|(name, _)| name.clone()).collect()
    }
}

impl Pair {
    /// Notes what was parsed and closed: as much of it as was answered, for an error is the end of what counts.
    fn remember(&mut self, requests: &[Request], answer: &Answer) {
        let groups = requests.split_inclusive(Request::ends_an_answer);
        for (group, segment) in groups.zip(&answer.segments) {
            let answered = |tag: u8| segment.replies.iter().filter(|reply| reply.tag == tag).count();
            let (mut parsed, mut closed) = (answered(b'1'), answered(b'3'));
            for request in group {
                match request {
                    Request::Parse(name, sql, types) if parsed > 0 => {
                        parsed -= 1;
                        self.texts.insert(name.clone(), (sql.clone(), types.clone()));
                        self.readings.insert(name.clone(), reading(&self.ears[DIRECT]));
                    }
                    Request::CloseStatement(name) if closed > 0 => {
                        closed -= 1;
                        self.texts.remove(name);
                    }
                    Request::ClosePortal(_) => closed = closed.saturating_sub(1),
                    Request::Query(sql) if segment.replies.iter().any(|reply| says(reply, "DEALLOCATE")) => {
                        self.texts.retain(|name, _| name.is_empty() || !sql.ends_with(name.as_str()));
                    }
                    _ => {}
                }
            }
            if segment.replies.iter().any(|reply| says(reply, "DEALLOCATE ALL") || says(reply, "DISCARD ALL"))
            {
                self.texts.clear();
            }
        }
    }

    /// They come when PostgreSQL finds the time, so they are looked at when nothing is under way.
    fn compare_notifications(&mut self) -> Result<(), String> {
        let [direct, proxied] = self.ears.each_mut().map(|ear| std::mem::take(&mut ear.notifications));
        if direct == proxied {
            return Ok(());
        }
        Err(format!("notifications:\n  direct: {direct:?}\n  proxied: {proxied:?}"))
    }
}

fn reading(ear: &Ear) -> Reading {
    READING.map(|name| ear.parameters.get(name).cloned())
}

/// The statement that these requests execute or describe, if there is one answer and nothing else in it.
fn only_statement(requests: &[Request]) -> Option<&str> {
    let mut names = requests.iter().filter_map(|request| match request {
        Request::Bind(_, name, _) | Request::DescribeStatement(name) => Some(name.as_str()),
        _ => None,
    });
    let name = names.next()?;
    let plain = !requests.iter().any(|request| matches!(request, Request::Query(_) | Request::Parse(..)))
        && requests.iter().filter(|request| **request == Request::Sync).count() == 1;
    (plain && names.next().is_none()).then_some(name)
}

/// A CommandComplete with this tag.
fn says(reply: &Message, command: &str) -> bool {
    reply.tag == b'C' && reply.body.strip_suffix(b"\0") == Some(command.as_bytes())
}

/// The replies to a startup packet, without those of the authentication and the key.
fn greeting(mut messages: Vec<Message>, ear: &mut Ear) -> Answer {
    messages.retain(|message| !matches!(message.tag, b'R' | b'K'));
    Answer { segments: vec![Segment::of(messages, ear)], end: None }
}
