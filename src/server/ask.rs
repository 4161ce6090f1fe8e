//! Statements of the proxy's own: sent on a server connection that is free, and answered before anybody else has it.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use super::connection::Server;
use super::settle::Unsettled;
use crate::proto::ledger::{Verdict, field, sqlstate};
use crate::wire::{Next, tag};

/// Most bytes read at once, and the longest message looked into.
const CHUNK: usize = 16 * 1024;

/// PostgreSQL's answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The first row's columns as text; None is NULL.
    Row(Vec<Option<String>>),
    /// No row.
    Nothing,
    /// An error.
    Refused {
        /// PostgreSQL's SQLSTATE.
        sqlstate: String,
        /// PostgreSQL's message.
        message: String,
    },
}

impl Server {
    /// Asks for one row of at most a few kilobytes.
    ///
    /// # Errors
    /// The connection is of no more use. Not cancel safe: a caller that gives up has to close the connection.
    pub async fn ask(&mut self, sql: &str) -> Result<Answer, Unsettled> {
        let mut answer = Answer::Nothing;
        self.exchange(sql, |verdict, kind, body| match (verdict, kind, &answer) {
            (Verdict::InjectedFailed, ..) => answer = refused(body),
            (Verdict::Swallow, tag::DATA_ROW, Answer::Nothing) => {
                answer = columns(body).map_or(Answer::Nothing, Answer::Row);
            }
            _ => {}
        })
        .await?;
        Ok(answer)
    }

    /// Sends a statement, and shows each reply up to its ReadyForQuery: what the ledger thinks of it, type and body.
    ///
    /// # Errors
    /// As for [`Server::ask`].
    pub(super) async fn exchange(
        &mut self,
        sql: &str,
        mut show: impl FnMut(Verdict, u8, &[u8]),
    ) -> Result<(), Unsettled> {
        poll_fn(|cx| Poll::Ready(self.inject(cx, sql))).await?;
        poll_fn(|cx| self.outbox.poll_drain(&mut self.stream, cx)).await?;
        let mut chunk = vec![0; CHUNK];
        while !self.ledger.is_settled() {
            let read = poll_fn(|cx| self.inbox.poll_chunk(&mut self.stream, cx, &mut chunk)).await?;
            let Some(bytes) = read.and_then(|read| chunk.get(..read)) else {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            };
            self.show_replies(bytes, &mut show)?;
        }
        Ok(())
    }

    fn show_replies(
        &mut self,
        bytes: &[u8],
        show: &mut impl FnMut(Verdict, u8, &[u8]),
    ) -> Result<(), Unsettled> {
        let mut at = 0;
        loop {
            let next = self.inbox.frames.next(bytes, at, usize::MAX, |_| true);
            match next.map_err(|_| Unsettled::OutOfStep)? {
                Next::Frame(frame) => {
                    let body = frame.body(bytes);
                    at = frame.end;
                    match self.ledger.reply(frame.tag, body) {
                        Verdict::OutOfStep => return Err(Unsettled::OutOfStep),
                        verdict => show(verdict, frame.tag, body),
                    }
                }
                Next::End => return Ok(()),
                Next::Keep(0) if bytes.len() == CHUNK => return Err(Unsettled::OutOfStep),
                Next::Keep(from) => {
                    self.inbox.keep(bytes.get(from..).unwrap_or_default());
                    return Ok(());
                }
            }
        }
    }
}

fn refused(body: &[u8]) -> Answer {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    Answer::Refused { sqlstate: text(sqlstate(body)), message: text(field(body, b'M')) }
}

/// The columns in the body of a DataRow; None if it is not well formed.
pub fn columns(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk()?;
        // -1 is NULL.
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (text, after) = after.split_at_checked(length.unwrap_or(0))?;
        columns.push(length.map(|_| String::from_utf8_lossy(text).into_owned()));
        rest = after;
    }
    Some(columns)
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn columns_of_a_row() {
        let row = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(columns(row), Some(vec![Some("ab".to_owned()), None, Some(String::new())]));
        for cut in 0..row.len() {
            assert_eq!(columns(&row[..cut]), None, "cut at {cut}");
        }
        assert_eq!(columns(b"\xff\xff\x7f\xff\xff\xff"), None);
    }
}
