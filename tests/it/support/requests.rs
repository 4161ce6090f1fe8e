//! What a client says after its login, message by message: as bytes, and as lines of `tests/conformance/README.md`, so
//! that a conversation found by chance can be kept as a file.

use std::fmt;

use super::wire::{cstr, query, tagged};

/// One message of a client. Values and results are in text format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Query: one or more statements.
    Query(String),
    /// Parse: a name (empty: unnamed), a statement, the types of its first parameters.
    Parse(String, String, Vec<u32>),
    /// Bind: portal, statement, a value for each parameter.
    Bind(String, String, Vec<String>),
    /// Describe of a statement.
    DescribeStatement(String),
    /// Describe of a portal.
    DescribePortal(String),
    /// Execute: portal, most rows (0: all).
    Execute(String, i32),
    /// Close of a statement.
    CloseStatement(String),
    /// Close of a portal.
    ClosePortal(String),
    /// Sync.
    Sync,
}

impl Request {
    /// Parse without types.
    pub fn parse(name: &str, sql: &str) -> Self {
        Self::Parse(name.to_owned(), sql.to_owned(), vec![])
    }

    /// Bind of the unnamed portal.
    pub fn bind(statement: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Self::Bind(String::new(), statement.to_owned(), values)
    }

    /// Execute of the unnamed portal, to its end.
    pub fn execute() -> Self {
        Self::Execute(String::new(), 0)
    }

    /// ReadyForQuery ends the answer.
    pub fn ends_an_answer(&self) -> bool {
        matches!(self, Self::Query(_) | Self::Sync)
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Query(sql) => query(sql),
            Self::Parse(name, sql, types) => {
                let mut body = [cstr(name), cstr(sql), count(types.len())].concat();
                types.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
                tagged(b'P', &body)
            }
            Self::Bind(portal, statement, values) => {
                let mut body = [cstr(portal), cstr(statement), count(0), count(values.len())].concat();
                for value in values {
                    body.extend(i32::try_from(value.len()).expect("a short value").to_be_bytes());
                    body.extend_from_slice(value.as_bytes());
                }
                body.extend(count(0));
                tagged(b'B', &body)
            }
            Self::DescribeStatement(name) => tagged(b'D', &[b"S", &cstr(name)[..]].concat()),
            Self::DescribePortal(name) => tagged(b'D', &[b"P", &cstr(name)[..]].concat()),
            Self::Execute(portal, rows) => tagged(b'E', &[&cstr(portal)[..], &rows.to_be_bytes()].concat()),
            Self::CloseStatement(name) => tagged(b'C', &[b"S", &cstr(name)[..]].concat()),
            Self::ClosePortal(name) => tagged(b'C', &[b"P", &cstr(name)[..]].concat()),
            Self::Sync => tagged(b'S', &[]),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(sql) => write!(f, "Query {sql:?}"),
            Self::Parse(name, sql, types) => {
                write!(f, "Parse {name:?} {sql:?}")?;
                types.iter().try_for_each(|oid| write!(f, " {oid}"))
            }
            Self::Bind(portal, statement, values) => {
                write!(f, "Bind {portal:?} {statement:?}")?;
                values.iter().try_for_each(|value| write!(f, " {value:?}"))
            }
            Self::DescribeStatement(name) => write!(f, "Describe S {name:?}"),
            Self::DescribePortal(name) => write!(f, "Describe P {name:?}"),
            Self::Execute(portal, 0) => write!(f, "Execute {portal:?}"),
            Self::Execute(portal, rows) => write!(f, "Execute {portal:?} {rows}"),
            Self::CloseStatement(name) => write!(f, "Close S {name:?}"),
            Self::ClosePortal(name) => write!(f, "Close P {name:?}"),
            Self::Sync => write!(f, "Sync"),
        }
    }
}

/// All of them as one write.
pub fn bytes(requests: &[Request]) -> Vec<u8> {
    requests.iter().flat_map(Request::bytes).collect()
}

/// A statement by the extended protocol, up to Sync: parsed under this name, then executed.
pub fn statement(name: &str, sql: &str, values: &[&str]) -> Vec<Request> {
    vec![Request::parse(name, sql), Request::bind(name, values), Request::execute(), Request::Sync]
}

/// A statement that was parsed before, up to Sync.
pub fn execution(name: &str, values: &[&str]) -> Vec<Request> {
    vec![Request::bind(name, values), Request::execute(), Request::Sync]
}

fn count(n: usize) -> Vec<u8> {
    u16::try_from(n).expect("few").to_be_bytes().to_vec()
}
