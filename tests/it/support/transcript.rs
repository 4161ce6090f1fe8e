//! What a server answered, made comparable: whatever legitimately differs from one session to the next is blanked.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::wire::Message;

/// The first OID that is not built in (`FirstNormalObjectId`): from here on numbers differ with every `create table`.
const FIRST_NORMAL_OID: u32 = 16_384;

/// How much of an ErrorResponse or NoticeResponse must be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errors {
    /// Every field: the error is PostgreSQL's own.
    Exact,
    /// Severity, SQLSTATE and message: the proxy answers in PostgreSQL's place.
    Message,
    /// Severity and SQLSTATE: the proxy says it in its own words.
    Code,
    /// As `Code`, and a FATAL just before the end of the connection may be missing: PostgreSQL closes without a word
    /// where it no longer trusts the framing.
    Optional,
}

/// One thing that happened on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A reply, normalised.
    Reply(Message),
    /// The peer closed the connection.
    Closed,
}

/// The replies of a conversation, in the order in which the script reads them.
#[derive(Debug, Default)]
pub struct Transcript {
    entries: Vec<(String, Entry)>,
    oids: HashMap<u32, u32>,
}

impl Transcript {
    /// Adds a reply.
    pub fn reply(&mut self, connection: &str, message: &Message, errors: Errors) {
        let normal = self.normal(message, errors);
        self.entries.push((connection.to_owned(), Entry::Reply(normal)));
    }

    /// Adds the end of a connection.
    pub fn closed(&mut self, connection: &str, errors: Errors) {
        if errors == Errors::Optional {
            self.drop_last_fatal(connection);
        }
        self.entries.push((connection.to_owned(), Entry::Closed));
    }

    /// Adds the replies to a startup packet: the order of ParameterStatus is nobody's promise, of the authentication only
    /// the kind counts, and whether an error comes before or after its last step is the server's choice.
    pub fn login(&mut self, connection: &str, messages: &[Message]) {
        let mut messages = messages.to_vec();
        for message in messages.iter_mut().filter(|m| m.tag == b'R') {
            message.body.truncate(4);
        }
        if messages.iter().any(|m| m.tag == b'E') {
            messages.retain(|m| m.tag != b'R');
        }
        for run in messages.chunk_by_mut(|a, b| a.tag == b'S' && b.tag == b'S') {
            run.sort_by(|a, b| a.body.cmp(&b.body));
        }
        for message in &messages {
            self.reply(connection, message, Errors::Message);
        }
    }

    /// The entries as lines.
    pub fn lines(&self) -> Vec<String> {
        self.entries.iter().map(print_entry).collect()
    }

    /// Says where the other one differs first, with what came before it. None: nowhere.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let at = (0..self.entries.len().max(other.entries.len()))
            .find(|at| self.entries.get(*at) != other.entries.get(*at))?;
        let mut text = format!("reply {} of {} differs\n", at + 1, self.entries.len());
        for entry in &self.entries[at.saturating_sub(3)..at] {
            let _ = writeln!(text, "    both:   {}", print_entry(entry));
        }
        for (name, transcript) in [("first", self), ("second", other)] {
            for entry in transcript.entries.iter().skip(at).take(3) {
                let _ = writeln!(text, "    {name:<7} {}", print_entry(entry));
            }
        }
        Some(text)
    }

    fn drop_last_fatal(&mut self, connection: &str) {
        let last = self.entries.last();
        let fatal = matches!(last, Some((name, Entry::Reply(m)))
            if name == connection && m.tag == b'E' && m.field(b'V').as_deref() == Some("FATAL"));
        if fatal {
            self.entries.pop();
        }
    }

    fn normal(&mut self, message: &Message, errors: Errors) -> Message {
        let Message { tag, body } = message.clone();
        let body = match tag {
            b'K' => vec![0; 8],
            b'A' => [&[0; 4], &body[4..]].concat(),
            b'E' | b'N' => normal_fields(&body, errors),
            b'T' => self.normal_columns(body),
            b't' => self.normal_types(body),
            _ => body,
        };
        Message { tag, body }
    }

    /// RowDescription: the OIDs of tables and types that the script made are numbered as they appear.
    fn normal_columns(&mut self, mut body: Vec<u8>) -> Vec<u8> {
        let mut at = 2;
        while let Some(name) = body.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) {
            at += name + 1;
            self.normal_oid(&mut body, at);
            self.normal_oid(&mut body, at + 6);
            at += 18;
        }
        body
    }

    fn normal_types(&mut self, mut body: Vec<u8>) -> Vec<u8> {
        for at in (2..body.len()).step_by(4) {
            self.normal_oid(&mut body, at);
        }
        body
    }

    fn normal_oid(&mut self, body: &mut [u8], at: usize) {
        let Some(bytes) = body.get_mut(at..at + 4) else { return };
        let oid = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if oid >= FIRST_NORMAL_OID {
            let next = FIRST_NORMAL_OID + u32::try_from(self.oids.len()).expect("few objects");
            let number = *self.oids.entry(oid).or_insert(next);
            bytes.copy_from_slice(&number.to_be_bytes());
        }
    }
}

/// Keeps the fields that must be the same, in their order.
fn normal_fields(body: &[u8], errors: Errors) -> Vec<u8> {
    let kept: &[u8] = match errors {
        Errors::Exact => return body.to_vec(),
        Errors::Message => b"SVCM",
        Errors::Code | Errors::Optional => b"SVC",
    };
    let mut normal = Vec::new();
    for field in body.split(|byte| *byte == 0).filter(|field| field.first().is_some_and(|f| kept.contains(f)))
    {
        normal.extend_from_slice(field);
        normal.push(0);
    }
    normal.push(0);
    normal
}

fn print_entry((connection, entry): &(String, Entry)) -> String {
    match entry {
        Entry::Reply(message) => format!("{connection}< {message}"),
        Entry::Closed => format!("{connection}< Closed"),
    }
}
