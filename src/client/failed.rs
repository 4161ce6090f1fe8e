//! Why a login ended without a session.

use std::io;
use std::time::Duration;

use super::door::{Door, Full};
use super::refusal;
use crate::obs::{LoginResult, Refusal};
use crate::proto::messages::Report;

/// When to try again, before jitter, where nothing can be estimated: clients leave when they like. About the cost of
/// some logins more than none.
const LATER: Duration = Duration::from_secs(1);

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

impl Failed {
    /// A rule refuses it, or a limit that says nothing more.
    pub(super) fn by(refusal: Refusal, door: &Door) -> Self {
        Self::Limit(refusal, refusal::login(refusal, "", door.jitter.spread(LATER)))
    }

    /// A limit on clients refuses it.
    pub(super) fn full(Full { refusal, limit }: Full, door: &Door) -> Self {
        let about = format!("limit={limit}");
        Self::Limit(refusal, refusal::login(refusal, &about, door.jitter.spread(LATER)))
    }
}
