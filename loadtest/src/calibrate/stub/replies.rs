//! What the stub says: the fewest messages with which a client is content (PostgreSQL's manual, chapter 55).

use std::collections::HashMap;

/// No client of the generator prepares more.
const MOST_PREPARED: usize = 256;

/// The fields of an ErrorResponse as pgcorral sends it to a client that it has no server for.
const REFUSAL: &[u8] = b"SERROR\0VERROR\0C53300\0Mthe database server has no connection to spare\0\
    Dreason=queue_full pool=stub/stub wait_ms=0 retry_after_ms=100\0\0";

/// What a statement is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Statement {
    Begin,
    Commit,
    /// An error, as a proxy sheds within a session.
    Refuse,
    /// One row with a 1 in it.
    #[default]
    Other,
}

impl Statement {
    fn of(sql: &[u8]) -> Self {
        let word =
            sql.split(|byte| !byte.is_ascii_alphabetic()).find(|word| !word.is_empty()).unwrap_or_default();
        match word.to_ascii_lowercase().as_slice() {
            b"begin" => Self::Begin,
            b"commit" | b"rollback" => Self::Commit,
            b"refuse" => Self::Refuse,
            _ => Self::Other,
        }
    }

    fn describe(self, reply: &mut Vec<u8>) {
        match self {
            Self::Begin | Self::Commit | Self::Refuse => message(reply, b'n', &[]),
            // One column `c`, no table, int4, text format.
            Self::Other => message(reply, b'T', b"\0\x01c\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0"),
        }
    }

    fn execute(self, reply: &mut Vec<u8>) {
        match self {
            Self::Begin => message(reply, b'C', b"BEGIN\0"),
            Self::Commit => message(reply, b'C', b"COMMIT\0"),
            Self::Refuse => message(reply, b'E', REFUSAL),
            Self::Other => {
                message(reply, b'D', b"\0\x01\0\0\0\x011");
                message(reply, b'C', b"SELECT 1\0");
            }
        }
    }
}

/// What a connection remembers between messages.
#[derive(Debug, Default)]
pub(super) struct Answering {
    prepared: HashMap<Vec<u8>, Statement>,
    bound: Statement,
    in_transaction: bool,
}

impl Answering {
    /// Appends the answer to one message; `None`: it makes no sense.
    pub(super) fn answer(&mut self, kind: u8, body: &[u8], reply: &mut Vec<u8>) -> Option<()> {
        match kind {
            b'Q' => {
                let statement = Statement::of(body);
                if statement == Statement::Other {
                    statement.describe(reply);
                }
                self.execute(statement, reply);
                self.ready(reply);
            }
            b'P' => {
                let (name, rest) = string(body)?;
                self.prepare(name, Statement::of(string(rest)?.0))?;
                message(reply, b'1', &[]);
            }
            b'B' => {
                let (_portal, rest) = string(body)?;
                self.bound = *self.prepared.get(string(rest)?.0)?;
                message(reply, b'2', &[]);
            }
            b'D' => self.describe(body, reply)?,
            b'E' => self.execute(self.bound, reply),
            b'C' => message(reply, b'3', &[]),
            b'S' => self.ready(reply),
            // Flush: everything is sent at once anyway.
            b'H' => {}
            _ => return None,
        }
        Some(())
    }

    fn prepare(&mut self, name: &[u8], statement: Statement) -> Option<()> {
        if self.prepared.len() >= MOST_PREPARED {
            return None;
        }
        self.prepared.insert(name.to_vec(), statement);
        Some(())
    }

    fn describe(&self, body: &[u8], reply: &mut Vec<u8>) -> Option<()> {
        let (what, name) = body.split_first()?;
        if *what == b'S' {
            // No parameters.
            message(reply, b't', &[0, 0]);
            self.prepared.get(string(name)?.0)?.describe(reply);
        } else {
            self.bound.describe(reply);
        }
        Some(())
    }

    fn execute(&mut self, statement: Statement, reply: &mut Vec<u8>) {
        match statement {
            Statement::Begin => self.in_transaction = true,
            Statement::Commit => self.in_transaction = false,
            Statement::Refuse | Statement::Other => {}
        }
        statement.execute(reply);
    }

    fn ready(&self, reply: &mut Vec<u8>) {
        message(reply, b'Z', if self.in_transaction { b"T" } else { b"I" });
    }
}

/// AuthenticationOk, what clients want to know, BackendKeyData, ReadyForQuery.
pub(super) fn welcome() -> Vec<u8> {
    let mut reply = Vec::with_capacity(256);
    message(&mut reply, b'R', &[0, 0, 0, 0]);
    for parameter in
        ["server_version\x0017.0\0", "client_encoding\0UTF8\0", "standard_conforming_strings\0on\0"]
    {
        message(&mut reply, b'S', parameter.as_bytes());
    }
    message(&mut reply, b'K', &[0, 0, 0, 1, 0, 0, 0, 2]);
    message(&mut reply, b'Z', b"I");
    reply
}

/// AuthenticationSASL.
pub(super) fn sasl_mechanisms() -> Vec<u8> {
    sasl(10, "SCRAM-SHA-256\0\0")
}

/// AuthenticationSASL (10), AuthenticationSASLContinue (11), AuthenticationSASLFinal (12).
pub(super) fn sasl(step: u8, text: &str) -> Vec<u8> {
    let mut reply = Vec::with_capacity(128);
    message(&mut reply, b'R', &[&[0, 0, 0, step], text.as_bytes()].concat());
    reply
}

fn message(reply: &mut Vec<u8>, kind: u8, body: &[u8]) {
    reply.push(kind);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    reply.extend_from_slice(&length.to_be_bytes());
    reply.extend_from_slice(body);
}

/// A string that ends with a zero, and what is behind it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}
