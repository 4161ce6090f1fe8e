//! Why a login ended without a session.

use std::io;

use super::door::Full;
use super::refusal;
use crate::obs::{LabelValue, LoginResult, Refusal};
use crate::proto::messages::Report;

/// Why a login ended without a session.
pub(super) enum Failed {
    /// The connection broke, or the client closed it.
    Gone,
    /// Nothing more is to be said: a cancel request, or a probe that sent nothing.
    NoLogin,
    /// This is to be said.
    Refused(LoginResult, Report),
    /// A limit or rule.
    Limit(Refusal, Report),
}

impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<Full> for Failed {
    fn from(Full { refusal, limit }: Full) -> Self {
        Self::Limit(refusal, refusal::too_many_clients(refusal.label(), limit))
    }
}
