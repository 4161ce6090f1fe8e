//! How a statement is written to the wire in each protocol (PostgreSQL's manual, "Message Flow").

use crate::plan::Protocol;
use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend::{self, BindError};
use std::collections::HashMap;
use std::io;

/// Most statements that a connection keeps prepared; others go without a name. A script whose texts differ every time
/// would otherwise fill the memory of both sides.
const MOST_PREPARED: usize = 64;

/// What is prepared on one connection.
#[derive(Debug, Default)]
pub(super) struct Statements {
    /// Text to name.
    prepared: HashMap<Box<str>, Box<str>>,
    /// Names given out.
    named: u64,
    /// Text and name of a Parse that has not been answered.
    parsing: Option<(Box<str>, Box<str>)>,
}

impl Statements {
    /// Writes everything that `sql` takes, up to Query or Sync. On an error `out` may hold half of it.
    pub fn write(&mut self, sql: &str, protocol: Protocol, out: &mut BytesMut) -> io::Result<()> {
        self.parsing = None;
        match protocol {
            Protocol::Simple => frontend::query(sql, out),
            Protocol::Extended => unnamed(sql, out),
            Protocol::Prepared => self.write_prepared(sql, out),
        }
    }

    /// The server has answered ParseComplete.
    pub fn parsed(&mut self) {
        if let Some((text, name)) = self.parsing.take() {
            self.prepared.insert(text, name);
        }
    }

    fn write_prepared(&mut self, sql: &str, out: &mut BytesMut) -> io::Result<()> {
        if let Some(name) = self.prepared.get(sql) {
            return execute(name, false, out);
        }
        if self.prepared.len() >= MOST_PREPARED {
            return unnamed(sql, out);
        }
        self.named += 1;
        let name = format!("s{}", self.named).into_boxed_str();
        frontend::parse(&name, sql, [], out)?;
        execute(&name, false, out)?;
        self.parsing = Some((sql.into(), name));
        Ok(())
    }
}

fn unnamed(sql: &str, out: &mut BytesMut) -> io::Result<()> {
    frontend::parse("", sql, [], out)?;
    execute("", true, out)
}

/// Bind, Describe if that is wanted, Execute, Sync.
fn execute(statement: &str, describe: bool, out: &mut BytesMut) -> io::Result<()> {
    let no_values = std::iter::empty::<()>();
    let bound = frontend::bind("", statement, [], no_values, |(), _| Ok(IsNull::Yes), [], out);
    bound.map_err(|error| match error {
        BindError::Serialization(error) => error,
        BindError::Conversion(error) => io::Error::other(error),
    })?;
    if describe {
        frontend::describe(b'P', "", out)?;
    }
    frontend::execute("", 0, out)?;
    frontend::sync(out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(statements: &mut Statements, sql: &str, protocol: Protocol) -> String {
        let mut out = BytesMut::new();
        statements.write(sql, protocol, &mut out).unwrap();
        let mut kinds = String::new();
        let mut rest = &out[..];
        while let [kind, a, b, c, d, ..] = *rest {
            kinds.push(char::from(kind));
            rest = &rest[1 + usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap()..];
        }
        assert!(rest.is_empty());
        kinds
    }

    #[test]
    fn every_protocol_has_its_messages() {
        let mut statements = Statements::default();
        assert_eq!(kinds(&mut statements, "select 1", Protocol::Simple), "Q");
        assert_eq!(kinds(&mut statements, "select 1", Protocol::Extended), "PBDES");
        assert_eq!(kinds(&mut statements, "select 1", Protocol::Prepared), "PBES");
    }

    #[test]
    fn a_statement_is_prepared_once_the_server_has_said_so() {
        let mut statements = Statements::default();
        assert_eq!(kinds(&mut statements, "select 1", Protocol::Prepared), "PBES");
        assert_eq!(kinds(&mut statements, "select 1", Protocol::Prepared), "PBES", "the first Parse failed");
        statements.parsed();
        assert_eq!(kinds(&mut statements, "select 1", Protocol::Prepared), "BES");
        assert_eq!(kinds(&mut statements, "select 2", Protocol::Extended), "PBDES");
        statements.parsed();
        assert_eq!(kinds(&mut statements, "select 2", Protocol::Prepared), "PBES", "that one had no name");
    }

    #[test]
    fn texts_without_end_do_not_fill_the_memory() {
        let mut statements = Statements::default();
        for number in 0..2 * MOST_PREPARED {
            let expected = if number < MOST_PREPARED { "PBES" } else { "PBDES" };
            assert_eq!(kinds(&mut statements, &format!("select {number}"), Protocol::Prepared), expected);
            statements.parsed();
        }
        assert_eq!(statements.prepared.len(), MOST_PREPARED);
    }
}
