//! A sequence as data: who does what. It can be played again, cut down and printed.

use std::fmt;

use crate::support::requests::Request;

use super::statements::PROBE;

/// How a client ends. Another one, with the same startup parameters, takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// It says Terminate.
    Terminate,
    /// Its socket is reset.
    Abort,
}

/// What a client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It sends all of these in one write and reads all answers.
    Write(Vec<Request>),
    /// It goes.
    Leave(Leaving),
}

/// One thing that one client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which one.
    pub client: usize,
    /// What.
    pub action: Action,
    /// From now on it may have state that keeps its server connection.
    pub pins: bool,
}

impl Step {
    /// The client sends one Query.
    pub fn query(client: usize, sql: &str) -> Self {
        Self { client, action: Action::Write(vec![Request::Query(sql.to_owned())]), pins: false }
    }
}

/// What a sequence did to a client's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// Nothing.
    None,
    /// Its rows.
    Rows,
    /// Its columns.
    Shape,
}

/// The table of a client.
pub fn table(client: usize) -> String {
    format!("t{client}")
}

impl Step {
    /// What it may do to the client's table, now or when what it parses is executed.
    pub fn touch(&self) -> Touch {
        let Action::Write(requests) = &self.action else { return Touch::None };
        let touches = requests.iter().map(|request| match request {
            Request::Query(sql) | Request::Parse(_, sql, _) => touch(sql, &table(self.client)),
            _ => Touch::None,
        });
        touches.max().unwrap_or(Touch::None)
    }
}

fn touch(sql: &str, table: &str) -> Touch {
    let says = |words: &str| sql.contains(&format!("{words} {table}"));
    if ["alter table", "drop table", "create table", "index on"].into_iter().any(says) {
        Touch::Shape
    } else if ["insert into", "delete from", "truncate"].into_iter().any(says) {
        Touch::Rows
    } else {
        Touch::None
    }
}

/// In the words of a conformance file.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "on c{}", self.client)?;
        match &self.action {
            Action::Write(requests) => {
                requests.iter().try_for_each(|request| writeln!(f, "> {request}"))?;
                let answers = requests.iter().filter(|request| request.ends_an_answer()).count();
                if answers == 1 {
                    writeln!(f, "until ReadyForQuery")
                } else {
                    writeln!(f, "until ReadyForQuery {answers}")
                }
            }
            Action::Leave(Leaving::Terminate) => writeln!(f, "> Terminate\nclosed"),
            Action::Leave(Leaving::Abort) => writeln!(f, "# its socket is reset, and it connects anew"),
        }
    }
}

/// All of them, one after the other.
pub fn print(steps: &[Step]) -> String {
    let text: String = steps.iter().map(Step::to_string).collect();
    text.replace(&format!("{PROBE:?}"), "PROBE")
}
