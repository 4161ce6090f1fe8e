//! Trying a client's run-time parameters on a server connection, as PostgreSQL itself does at login.

use std::sync::Arc;

use super::connection::Server;
use super::settle::Unsettled;
use crate::proto::ledger::{Verdict, field, sqlstate};
use crate::proto::parameters::{Parameters, is_settable, parameter_status};
use crate::wire::tag;

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
        let before = (Arc::clone(&self.parameters), self.unsure);
        let had = Arc::clone(&self.parameters);
        if let Trial::Taken(taken) = &mut trial {
            // What has its value already is not reported anew. It may be spelled differently.
            for (name, value) in self.base.iter().filter(|(name, _)| wanted.get(name).is_some()) {
                taken.set(name, had.get(name).unwrap_or(value));
            }
        }
        let Some(sql) = self.change_to(&Arc::new(wanted.clone())) else { return Ok(trial) };
        self.exchange(&sql, |verdict, kind, body| match (verdict, kind) {
            (Verdict::InjectedFailed, _) => trial = refused(body),
            (Verdict::Swallow, tag::PARAMETER_STATUS) => note(&mut trial, body),
            _ => {}
        })
        .await?;
        if matches!(trial, Trial::Refused { .. }) {
            (self.parameters, self.unsure) = before;
        }
        Ok(trial)
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
