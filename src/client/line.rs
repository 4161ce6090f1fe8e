//! Lines of the log about a client that is logged in. Each says who it is, and which trace it belongs to.

use std::sync::Arc;

use super::session::Session;
use crate::pool::Pool;
use crate::trace::TraceId;

/// A line at a level about a [`Session`] or a [`Who`], with the fields `client` (its process id), `function`, `database`,
/// `user` and, if it is known, `trace_id`. They are put together only if the line is written.
macro_rules! line {
    ($level:ident, $who:expr, $($rest:tt)*) => {
        tracing::$level!(
            client = $who.client(),
            function = &*$who.function,
            database = $who.pool.params.database,
            user = $who.pool.params.user,
            trace_id = $who.trace_id().map(tracing::field::display),
            $($rest)*
        )
    };
}

pub(super) use line;

/// A client, for lines that are written where its session is not at hand.
pub(super) struct Who {
    client: i32,
    pub(super) function: Arc<str>,
    pub(super) pool: Arc<Pool>,
    trace_id: Option<TraceId>,
}

impl Who {
    pub(super) fn client(&self) -> i32 {
        self.client
    }

    pub(super) fn trace_id(&self) -> Option<TraceId> {
        self.trace_id
    }
}

impl Session {
    /// What the client is known by in the log.
    pub(super) fn client(&self) -> i32 {
        self.member.process_id
    }

    pub(super) fn who(&self) -> Who {
        Who {
            client: self.client(),
            function: Arc::clone(&self.function),
            pool: Arc::clone(&self.pool),
            trace_id: self.trace_id(),
        }
    }
}
