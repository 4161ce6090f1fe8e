//! What clients were told, against what PostgreSQL has in the end: each transaction writes one row with a name of its own.
//!
//! The rows tell what no client can know by itself: that what it was told is true, and that nothing ran twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use super::ground::Tenant;
use super::requests::{Request, bytes, execution, statement};
use super::wire::{Fault, Message, PROTOCOL_3_0, Wire, sqlstate};

/// What the table is called.
const TABLE: &str = "tally";

/// What an attempt has to have left behind, going by what its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Its row is there.
    Done,
    /// Its row is not there.
    None,
    /// Its row is there or not: the answer was lost, or PostgreSQL was.
    Unknown,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// As it should.
    Served,
    /// With an error: its SQLSTATE.
    Error([u8; 5]),
    /// The connection was closed without a word.
    Closed,
    /// No answer came within the client's bound.
    Hung,
}

impl Ending {
    /// With an error of one of these SQLSTATEs, or well.
    pub fn is_one_of(self, codes: &[&str]) -> bool {
        match self {
            Self::Served => true,
            Self::Error(code) => codes.iter().any(|allowed| allowed.as_bytes() == code),
            Self::Closed | Self::Hung => false,
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(code) => f.write_str(&String::from_utf8_lossy(code)),
            other => write!(f, "{other:?}"),
        }
    }
}

/// One attempt: what it was told, and with which words.
#[derive(Debug, Clone)]
pub struct Told {
    /// The row it writes.
    pub name: String,
    /// How it ended.
    pub ending: Ending,
    /// What follows from that.
    pub effect: Effect,
    /// The error's DETAIL.
    pub detail: String,
}

/// How a client puts what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One Query outside a transaction.
    Alone,
    /// BEGIN, the statement, COMMIT, each as a Query.
    Transaction,
    /// Parse to Sync, under a name that is kept.
    Prepared,
}

/// All shapes.
pub const SHAPES: [Shape; 3] = [Shape::Alone, Shape::Transaction, Shape::Prepared];

/// What all clients of a test were told.
#[derive(Default)]
pub struct Tally {
    told: Mutex<Vec<Told>>,
}

impl Tally {
    /// Makes the table, as the tenant, directly at PostgreSQL.
    pub fn start(tenant: &Tenant, direct: SocketAddr) -> Self {
        tenant.login(direct).rows(&format!("create table {TABLE} (name text not null)"));
        Self::default()
    }

    /// Keeps what a client was told.
    pub fn note(&self, told: Told) {
        self.told.lock().expect("no panic while it is held").push(told);
    }

    /// Everything so far.
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().expect("no panic while it is held").clone()
    }

    /// How often each ending was seen, for the report of a failed test.
    pub fn summary(&self) -> String {
        let mut counts: BTreeMap<Ending, usize> = BTreeMap::new();
        self.told().iter().for_each(|told| *counts.entry(told.ending).or_default() += 1);
        counts.iter().map(|(ending, count)| format!("{ending}: {count}  ")).collect()
    }

    /// So many were served.
    pub fn served(&self) -> usize {
        self.told().iter().filter(|told| told.ending == Ending::Served).count()
    }

    /// Panics unless everybody was told one of these, or was served.
    pub fn assert_endings(&self, allowed: impl Fn(&Told) -> bool) {
        for told in self.told() {
            assert!(told.ending == Ending::Served || allowed(&told), "{told:?} of {}", self.summary());
        }
    }

    /// Panics unless PostgreSQL has what clients were told, and nothing twice.
    pub fn assert_true(&self, root: &mut Wire) {
        let sql = format!("select name, count(*) from {TABLE} group by name");
        let there: BTreeMap<String, String> = root
            .rows(&sql)
            .into_iter()
            .map(|mut row| (row.swap_remove(0).expect("a name"), row.swap_remove(0).expect("a count")))
            .collect();
        for told in self.told() {
            let count = there.get(&told.name).map_or("0", String::as_str);
            let fits = match told.effect {
                Effect::Done => count == "1",
                Effect::None => count == "0",
                Effect::Unknown => count == "0" || count == "1",
            };
            assert!(fits, "{count} rows of {told:?}; {}", self.summary());
        }
    }
}

/// A client that keeps its connection for as long as it lasts, and names each attempt anew.
pub struct Caller {
    tenant: Tenant,
    address: SocketAddr,
    /// Longest wait for any one answer.
    bound: Duration,
    number: usize,
    attempts: usize,
    wire: Option<Wire>,
    /// Its statement is prepared on this connection.
    prepared: bool,
    /// After a failure it is unknown whether the statement is: the next attempt takes another name.
    generation: usize,
}

/// An answer up to ReadyForQuery, or what came instead.
enum Answer {
    Ready(Vec<Message>),
    Ended(Vec<Message>, Ending),
}

impl Caller {
    /// One that has not connected yet; `number` tells its rows from others'.
    pub fn new(tenant: &Tenant, address: SocketAddr, number: usize, bound: Duration) -> Self {
        Self {
            tenant: tenant.clone(),
            address,
            bound,
            number,
            attempts: 0,
            wire: None,
            prepared: false,
            generation: 0,
        }
    }

    /// As whom it logs in.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Gives its connection up, as a function does that has waited long enough.
    pub fn leave(&mut self) {
        self.wire = None;
        self.prepared = false;
    }

    /// Writes one row, in a statement that takes so long, and says how it went. A broken connection is opened anew first.
    pub fn attempt(&mut self, shape: Shape, takes: Duration) -> Told {
        self.attempts += 1;
        let name = format!("{}-{}", self.number, self.attempts);
        let told = |ending, effect, seen: &[Message]| Told {
            name: name.clone(),
            ending,
            effect,
            detail: seen.iter().find(|m| m.tag == b'E').and_then(|m| m.field(b'D')).unwrap_or_default(),
        };
        if let Err((seen, ending)) = self.connect() {
            return told(ending, Effect::None, &seen);
        }
        let takes = takes.as_secs_f64();
        let insert = format!("insert into {TABLE} select '{name}' from pg_sleep({takes})");
        let steps: Vec<Vec<u8>> = match shape {
            Shape::Alone => vec![Request::Query(insert).bytes()],
            Shape::Transaction => ["begin", &insert, "commit"]
                .into_iter()
                .map(|sql| Request::Query(sql.to_owned()).bytes())
                .collect(),
            Shape::Prepared => vec![self.prepared_insert(&name, takes)],
        };
        let last = steps.len() - 1;
        for (step, request) in steps.iter().enumerate() {
            let answer = self.ask(request);
            let (seen, ending) = match answer {
                Answer::Ready(seen) => match sqlstate(&seen) {
                    None => continue,
                    Some(code) => (seen, error(&code)),
                },
                Answer::Ended(seen, ending) => {
                    self.leave();
                    (seen, ending)
                }
            };
            let effect = if step == last { effect(&seen) } else { Effect::None };
            self.prepared = false;
            self.generation += 1;
            self.end_transaction(shape);
            return told(ending, effect, &seen);
        }
        if shape == Shape::Prepared {
            self.prepared = true;
        }
        told(Ending::Served, Effect::Done, &[])
    }

    /// After an error in a transaction a client says ROLLBACK, whatever it has heard.
    fn end_transaction(&mut self, shape: Shape) {
        if shape == Shape::Transaction && self.wire.is_some() {
            let rollback = Request::Query("rollback".to_owned()).bytes();
            if matches!(self.ask(&rollback), Answer::Ended(..)) {
                self.leave();
            }
        }
    }

    fn prepared_insert(&self, name: &str, takes: f64) -> Vec<u8> {
        let values = [name, &takes.to_string()];
        let statement_name = format!("tally_{}", self.generation);
        if self.prepared {
            return bytes(&execution(&statement_name, &values));
        }
        let sql = format!("insert into {TABLE} select $1 from pg_sleep($2)");
        bytes(&statement(&statement_name, &sql, &values))
    }

    fn connect(&mut self) -> Result<(), (Vec<Message>, Ending)> {
        if self.wire.is_some() {
            return Ok(());
        }
        self.prepared = false;
        let Ok(mut wire) = Wire::connect(self.address) else { return Err((vec![], Ending::Closed)) };
        wire.socket().set_read_timeout(Some(self.bound)).expect("a bound");
        let Tenant { name, password } = &self.tenant;
        // What cannot be sent any more shows when it is read.
        let _ = wire.send_startup(PROTOCOL_3_0, &[("user", name), ("database", name)]);
        match wire.authenticate(name, password) {
            (_, Ok(())) => self.wire = Some(wire),
            (seen, Err(fault)) => {
                let ending = ended(&seen, &fault);
                return Err((seen, ending));
            }
        }
        Ok(())
    }

    fn ask(&mut self, request: &[u8]) -> Answer {
        let Some(wire) = &mut self.wire else { return Answer::Ended(vec![], Ending::Closed) };
        // What cannot be sent any more shows when it is read: the reason may have come before.
        let _ = wire.send(request);
        match wire.read_until(b'Z') {
            Ok(seen) => Answer::Ready(seen),
            Err((seen, fault)) => {
                let ending = ended(&seen, &fault);
                Answer::Ended(seen, ending)
            }
        }
    }
}

fn error(code: &str) -> Ending {
    Ending::Error(code.as_bytes().try_into().expect("five characters"))
}

fn ended(seen: &[Message], fault: &Fault) -> Ending {
    match (sqlstate(seen), fault) {
        (Some(code), _) => error(&code),
        (None, Fault::Broken(error)) if error.kind() == std::io::ErrorKind::WouldBlock => Ending::Hung,
        (None, _) => Ending::Closed,
    }
}

/// What the failure of the request that commits says of its row. With `retry_after_ms` nothing has taken effect
/// (`docs/overload.md`); 08006, a FATAL error and a closed connection leave it open; any other ERROR has undone it.
fn effect(seen: &[Message]) -> Effect {
    let Some(error) = seen.iter().find(|m| m.tag == b'E') else { return Effect::Unknown };
    let undone = error.field(b'D').is_some_and(|detail| detail.contains("retry_after_ms"));
    let open = error.sqlstate() == "08006" || error.field(b'V').as_deref() != Some("ERROR");
    if undone || !open { Effect::None } else { Effect::Unknown }
}
