//! What was answered to a write, in the form in which two sessions can be compared.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use crate::support::wire::{Fault, Message, Wire};

/// The first OID that is not built in (`FirstNormalObjectId`).
const FIRST_NORMAL_OID: u32 = 16_384;

/// Fields of errors and notices that name a place in PostgreSQL's source: file, line, routine.
const SOURCE_FIELDS: &[u8] = b"FLR";

/// A warning about how a literal is written. It comes when a statement is parsed, so not if it is parsed already.
const ESCAPE_WARNING: &[u8] = b"C22P06\0";

/// The replies up to one ReadyForQuery.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segment {
    /// All replies but those below, in their order.
    pub replies: Vec<Message>,
    /// The last value of each parameter that was reported, if it is news; their order is nobody's promise.
    pub parameters: Parameters,
}

/// The answer to one write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// One for each Query and each Sync.
    pub segments: Vec<Segment>,
    /// Why there are not more of them.
    pub end: Option<String>,
}

/// OIDs of one server's objects, numbered as they appear.
#[derive(Debug, Default)]
pub struct Oids(HashMap<u32, u32>);

/// Parameters by their names.
pub type Parameters = BTreeMap<String, String>;

/// What one session has heard so far.
#[derive(Debug, Default)]
pub struct Ear {
    /// The last value of each parameter.
    pub parameters: Parameters,
    /// Channel and payload of each notification that nobody has looked at yet.
    pub notifications: Vec<(String, String)>,
    /// Objects by number.
    pub oids: Oids,
}

impl Answer {
    /// Reads as many segments.
    pub fn read(wire: &mut Wire, segments: usize, ear: &mut Ear) -> Self {
        let mut answer = Self::default();
        for _ in 0..segments {
            let (messages, fault) = match wire.read_until(b'Z') {
                Ok(messages) => (messages, None),
                Err((messages, fault)) => (messages, Some(fault)),
            };
            answer.segments.push(Segment::of(messages, ear));
            if let Some(fault) = fault {
                answer.end = Some(match fault {
                    Fault::Closed => "the connection was closed".to_owned(),
                    Fault::Broken(error) => error.to_string(),
                });
                break;
            }
        }
        answer
    }

    /// The transaction status of the last ReadyForQuery; none if the connection has ended.
    pub fn status(&self) -> Option<u8> {
        let last = self.segments.last().and_then(|segment| segment.replies.last())?;
        (self.end.is_none() && last.tag == b'Z').then(|| last.body.first().copied()).flatten()
    }

    /// Its replies, one after the other.
    pub fn replies(&self) -> impl Iterator<Item = &Message> {
        self.segments.iter().flat_map(|segment| &segment.replies)
    }

    /// An error that a plan of before a change of the table causes (`plancache.c`).
    pub fn has_stale_plan(&self) -> bool {
        let stale = "cached plan must not change result type";
        self.replies().any(|m| m.tag == b'E' && m.field(b'M').as_deref() == Some(stale))
    }

    /// They differ in nothing but descriptions of parameters.
    pub fn ends_like(&self, other: &Self) -> bool {
        let rest = |answer: &Self| {
            let mut answer = answer.clone();
            answer.segments.iter_mut().for_each(|segment| segment.replies.retain(|reply| reply.tag != b't'));
            answer
        };
        rest(self) == rest(other)
    }

    /// Says where the other one, which came through the proxy, differs. None: nowhere.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self == other || *self == self.as_refused_like(other) {
            return None;
        }
        let (direct, proxied) = (self.lines(), other.lines());
        let mut text = String::new();
        for at in 0..direct.len().max(proxied.len()) {
            let _ = match (direct.get(at), proxied.get(at)) {
                (Some(direct), Some(proxied)) if direct == proxied => writeln!(text, "< {direct:.100}"),
                (direct, proxied) => {
                    [("direct: ", direct), ("proxied:", proxied)].into_iter().try_for_each(|(name, line)| {
                        writeln!(text, "{name} < {}", line.map_or("nothing", String::as_str))
                    })
                }
            };
        }
        Some(text)
    }

    /// The other answer, but for a Bind with too many values in a failed transaction: of its two errors, PostgreSQL says
    /// the first only if it has the statement.
    fn as_refused_like(&self, other: &Self) -> Self {
        let mut other = other.clone();
        for (direct, proxied) in self.segments.iter().zip(&mut other.segments) {
            for (direct, proxied) in direct.replies.iter().zip(&mut proxied.replies) {
                let said = |m: &Message, code: &str| m.tag == b'E' && m.field(b'C').as_deref() == Some(code);
                if said(direct, "08P01") && said(proxied, "25P02") {
                    *proxied = direct.clone();
                }
            }
        }
        other
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for segment in &self.segments {
            lines.extend(segment.replies.iter().map(Message::to_string));
            let parameters = segment.parameters.iter();
            lines.extend(parameters.map(|(name, value)| format!("ParameterStatus {name:?} {value:?}")));
        }
        lines.extend(self.end.clone());
        lines
    }
}

impl Segment {
    /// Sorts replies by what is compared how.
    pub fn of(messages: Vec<Message>, ear: &mut Ear) -> Self {
        let mut segment = Self::default();
        for Message { tag, mut body } in messages {
            match tag {
                b'S' => {
                    let [name, value] = texts(&body);
                    segment.parameters.insert(name, value);
                    continue;
                }
                b'A' => {
                    let [channel, payload] = texts(&body[4..]);
                    ear.notifications.push((channel, payload));
                    continue;
                }
                b'N' if body.windows(7).any(|field| field == ESCAPE_WARNING) => continue,
                b'E' | b'N' => body = without_source(&body),
                b'T' => ear.oids.replace_columns(&mut body),
                b't' => (2..body.len()).step_by(4).for_each(|at| ear.oids.replace(&mut body, at)),
                _ => {}
            }
            segment.replies.push(Message { tag, body });
        }
        // To say again what is known does no harm.
        segment
            .parameters
            .retain(|name, value| ear.parameters.insert(name.clone(), value.clone()).as_ref() != Some(value));
        segment
    }
}

/// The first two texts of a body.
fn texts(body: &[u8]) -> [String; 2] {
    let mut texts = body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    [texts.next().unwrap_or_default(), texts.next().unwrap_or_default()]
}

fn without_source(body: &[u8]) -> Vec<u8> {
    let fields = body.split(|byte| *byte == 0).filter(|field| !field.is_empty());
    let kept = fields.filter(|field| !SOURCE_FIELDS.contains(&field[0]));
    [kept.collect::<Vec<_>>().join(&0), vec![0, 0]].concat()
}

impl Oids {
    fn replace_columns(&mut self, body: &mut [u8]) {
        let mut at = 2;
        while let Some(name) = body.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) {
            at += name + 1;
            self.replace(body, at);
            self.replace(body, at + 6);
            at += 18;
        }
    }

    fn replace(&mut self, body: &mut [u8], at: usize) {
        let Some(bytes) = body.get_mut(at..at + 4) else { return };
        let oid = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if oid >= FIRST_NORMAL_OID {
            let next = FIRST_NORMAL_OID + u32::try_from(self.0.len()).expect("few objects");
            bytes.copy_from_slice(&self.0.entry(oid).or_insert(next).to_be_bytes());
        }
    }
}
