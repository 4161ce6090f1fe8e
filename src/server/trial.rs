//! Trying a client's run-time parameters on a server connection, as PostgreSQL itself does at login.

use std::future::poll_fn;
use std::io;

use super::connection::Server;
use super::dial::parameter_status;
use super::settle::Unsettled;
use crate::proto::ledger::{Verdict, field, sqlstate};
use crate::proto::parameters::{Parameters, is_settable};
use crate::wire::{Next, tag};

/// Most bytes read at once, and the longest message looked into.
const CHUNK: usize = 16 * 1024;

/// What became of the parameters.
#[derive(Debug)]
pub enum Trial {
    /// They are set; those that PostgreSQL reports are as it reports them.
    Taken(Parameters),
    /// One of them is not taken; nothing has changed.
    Refused {
        /// PostgreSQL's SQLSTATE.
        sqlstate: String,
        /// PostgreSQL's message.
        message: String,
    },
}

impl Server {
    /// Sets `wanted` in place of the parameters that the connection has now.
    ///
    /// # Errors
    /// The connection is of no more use. Not cancel safe: a caller that gives up has to close the connection.
    pub async fn try_parameters(&mut self, wanted: &Parameters) -> Result<Trial, Unsettled> {
        let mut trial = Trial::Taken(wanted.clone());
        let Some(sql) = self.parameters.change_to(wanted) else { return Ok(trial) };
        poll_fn(|cx| std::task::Poll::Ready(self.inject(cx, &sql))).await?;
        poll_fn(|cx| self.outbox.poll_drain(&mut self.stream, cx)).await?;
        let mut chunk = vec![0; CHUNK];
        while !self.ledger.is_settled() {
            let read = poll_fn(|cx| self.inbox.poll_chunk(&mut self.stream, cx, &mut chunk)).await?;
            let Some(bytes) = read.and_then(|read| chunk.get(..read)) else {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            };
            self.try_replies(bytes, &mut trial)?;
        }
        Ok(trial)
    }

    fn try_replies(&mut self, bytes: &[u8], trial: &mut Trial) -> Result<(), Unsettled> {
        let mut at = 0;
        loop {
            let next = self.inbox.frames.next(bytes, at, usize::MAX, |_| true);
            match next.map_err(|_| Unsettled::OutOfStep)? {
                Next::Frame(frame) => {
                    let body = frame.body(bytes);
                    at = frame.end;
                    match (self.ledger.reply(frame.tag, body), frame.tag) {
                        (Verdict::InjectedFailed, _) => *trial = refused(body),
                        (Verdict::Swallow, tag::PARAMETER_STATUS) => note(trial, body),
                        (Verdict::Swallow | Verdict::Forward, _) => {}
                        (Verdict::OutOfStep, _) => return Err(Unsettled::OutOfStep),
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

/// PostgreSQL reports a parameter in its own spelling.
fn note(trial: &mut Trial, body: &[u8]) {
    if let (Trial::Taken(taken), Some((name, value))) = (trial, parameter_status(body))
        && is_settable(name)
        && taken.get(name).is_some()
    {
        taken.remove(name);
        taken.set(name, value);
    }
}

fn refused(body: &[u8]) -> Trial {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    Trial::Refused { sqlstate: text(sqlstate(body)), message: text(field(body, b'M')) }
}
