//! The values that labels can have. Enums, so that a peer can never invent a series.

use super::reason::Reason;
use crate::guard::ShedReason;
use crate::proto::pin::PinReason;

/// A label whose values are known in advance.
pub trait LabelValue: Copy + 'static {
    /// All values, in the order of declaration.
    const LABELS: &'static [&'static str];

    /// Position in [`Self::LABELS`].
    fn index(self) -> usize;

    /// The value as it stands in the scrape.
    fn label(self) -> &'static str;
}

macro_rules! label_values {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$value_doc])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
        }

        impl LabelValue for $name {
            const LABELS: &'static [&'static str] = &[$($label,)+];

            fn index(self) -> usize {
                self as usize
            }

            fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }
        }
    };
}

/// Some of the [`Reason`]s, as values of a label: its words are theirs.
macro_rules! some_reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $variant:ident = $reason:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$value_doc])* $variant,)+
        }

        impl From<$name> for Reason {
            fn from(value: $name) -> Self {
                match value {
                    $($name::$variant => Self::$reason,)+
                }
            }
        }

        impl LabelValue for $name {
            const LABELS: &'static [&'static str] = &[$(Reason::$reason.as_str(),)+];

            fn index(self) -> usize {
                self as usize
            }

            fn label(self) -> &'static str {
                Reason::from(self).as_str()
            }
        }
    };
}

label_values! {
    /// How a client's wait for a server connection ended. Every wait ends in exactly one of these.
    WaitOutcome {
        /// It got a server connection; also when it did not have to wait.
        Granted = "granted",
        /// It got an error of the overload contract.
        Shed = "shed",
        /// Its client went away.
        Abandoned = "abandoned",
        /// A CancelRequest ended it (57014).
        Cancelled = "cancelled",
    }
}

label_values! {
    /// What became of a span.
    SpanResult {
        /// The collector has it.
        Exported = "exported",
        /// Too many waited for the collector already.
        Dropped = "dropped",
        /// The collector did not take it.
        Failed = "failed",
    }
}

label_values! {
    /// How an attempt to open a server connection (connect, TLS, login) ended.
    DialResult {
        /// A server connection more.
        Ok = "ok",
        /// No connection, or it broke or took too long before the login was over.
        Unreachable = "unreachable",
        /// PostgreSQL answered and did not let us in.
        Refused = "refused",
        /// PostgreSQL has no connection slot left (53300): it is alive, and full.
        TooManyConnections = "too_many_connections",
        /// The role's or the database's CONNECTION LIMIT is reached (53300).
        ConnectionLimit = "connection_limit",
        /// This process has no file descriptor left (EMFILE); says nothing about the server.
        NoFiles = "no_files",
    }
}

label_values! {
    /// What an ErrorResponse is about: the first two characters of its SQLSTATE, of those that say something about load.
    ErrorClass {
        /// Connection exception.
        Connection = "08",
        /// Feature not supported.
        Unsupported = "0A",
        /// Cardinality violation.
        Cardinality = "21",
        /// Data exception.
        Data = "22",
        /// Integrity constraint violation.
        Integrity = "23",
        /// Invalid cursor state.
        CursorState = "24",
        /// Invalid transaction state; also 25P02 and the timeouts.
        TransactionState = "25",
        /// Invalid SQL statement name.
        StatementName = "26",
        /// Invalid authorization specification.
        Authorization = "28",
        /// Invalid cursor name.
        CursorName = "34",
        /// Transaction rollback: serialization failure, deadlock.
        Rollback = "40",
        /// Syntax error or access rule violation.
        Syntax = "42",
        /// Insufficient resources.
        Resources = "53",
        /// Program limit exceeded.
        Limit = "54",
        /// Object not in prerequisite state; also `lock_not_available`.
        Prerequisite = "55",
        /// Operator intervention; also cancelled queries.
        Intervention = "57",
        /// System error.
        System = "58",
        /// PL/pgSQL error.
        PlPgSql = "P0",
        /// Internal error.
        Internal = "XX",
        /// Everything else.
        Other = "other",
    }
}

impl ErrorClass {
    /// The class of an ErrorResponse with this SQLSTATE.
    pub fn of(sqlstate: Option<&[u8]>) -> Self {
        let class = sqlstate.and_then(|state| state.get(..2));
        Self::ALL.iter().copied().find(|known| class == Some(known.label().as_bytes())).unwrap_or(Self::Other)
    }
}

label_values! {
    /// What a login spends its time on.
    LoginPhase {
        /// It waits for its turn.
        Turn = "turn",
        /// The TLS handshake.
        Tls = "tls",
        /// The proof of identity, with the client's answers.
        Authentication = "authentication",
        /// What the client is greeted with, for which a server may have to be asked.
        Settings = "settings",
    }
}

label_values! {
    /// Why a server connection was closed.
    DestroyReason {
        /// It was older than `server_lifetime`.
        Lifetime = "lifetime",
        /// It was idle for longer than `server_idle_timeout`.
        Idle = "idle",
        /// A cancel request was sent for it and PostgreSQL was not seen to act on it.
        Cancel = "cancel",
        /// Another pool needed its place under a common bound, or the proxy drains.
        Evicted = "evicted",
        /// PostgreSQL closed it, or it broke.
        ServerClosed = "server_closed",
        /// A message was malformed, or replies and requests no longer match: nobody may use it again.
        OutOfStep = "out_of_step",
        /// Its client has left something behind that cannot be taken back (LOAD).
        Soiled = "soiled",
        /// Its client went away with a transaction that could not be ended cleanly.
        ClientLeft = "client_left",
    }
}

some_reasons! {
    /// Why a request was answered with an overload error instead of a server connection.
    Shed {
        /// It waited for `query_wait_timeout`.
        QueueTimeout = QueueTimeout,
        /// `max_waiting` others wait already.
        QueueFull = QueueFull,
        /// Its wait would be too long.
        Estimate = Estimate,
        /// PostgreSQL cannot be reached.
        ServerDown = ServerDown,
        /// PostgreSQL refuses the proxy's login.
        ServerRefused = ServerRefused,
        /// The proxy drains.
        Draining = Draining,
        /// A rate limit on transactions.
        RateLimited = RateLimited,
        /// `pin_budget` others keep their server connections.
        PinBudget = PinBudget,
    }
}

impl From<ShedReason> for Shed {
    fn from(reason: ShedReason) -> Self {
        match reason {
            ShedReason::QueueTimeout => Self::QueueTimeout,
            ShedReason::QueueFull => Self::QueueFull,
            ShedReason::Estimate => Self::Estimate,
            ShedReason::ServerDown => Self::ServerDown,
            ShedReason::ServerRefused => Self::ServerRefused,
            ShedReason::Draining => Self::Draining,
        }
    }
}

some_reasons! {
    /// What took too long, so that the proxy ended it.
    Timeout {
        /// A request: `query_timeout`.
        Query = QueryTimeout,
        /// A transaction: `transaction_timeout`.
        Transaction = TransactionTimeout,
        /// Silence of a client in a transaction: `idle_in_transaction_timeout`.
        IdleInTransaction = IdleInTransactionTimeout,
        /// Silence of a client outside a transaction: `client_idle_timeout`.
        ClientIdle = ClientIdleTimeout,
        /// A client that had nothing to do for `evict_idle` while others wanted to log in.
        EvictIdle = EvictIdle,
        /// Silence of a client that keeps a server connection: `pin_timeout`.
        Pin = PinTimeout,
        /// A client that takes none of the bytes that there are for it: `client_stall_timeout`.
        Stall = ClientStallTimeout,
    }
}

label_values! {
    /// What a client was doing when it vanished, without a word or with a broken connection.
    Phase {
        /// It waited for a server connection.
        Waiting = "waiting",
        /// PostgreSQL worked for it.
        Query = "query",
        /// It was silent in a transaction.
        Transaction = "transaction",
        /// It kept a server connection outside a transaction.
        Pinned = "pinned",
    }
}

label_values! {
    /// Whether a statement was prepared on the server connection that its client got.
    Prepare {
        /// It was.
        Hit = "hit",
        /// It had to be prepared.
        Miss = "miss",
    }
}

/// As in the configuration.
impl LabelValue for PinReason {
    const LABELS: &'static [&'static str] = &[
        "listen",
        "advisory_lock",
        "temp_table",
        "hold_cursor",
        "load",
        "sequence_value",
        "sql_prepare",
        "session_mode",
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn label(self) -> &'static str {
        self.as_str()
    }
}

label_values! {
    /// How a client's login to the proxy ended. Every login ends in exactly one of these.
    LoginResult {
        /// Logged in.
        Ok = "ok",
        /// Unknown user or wrong proof of identity.
        BadCredentials = "bad_credentials",
        /// No such database, or not for this user.
        UnknownDatabase = "unknown_database",
        /// A limit or rule refused it; `pgcorral_client_connections_refused_total` says which.
        Refused = "refused",
        /// It was not over within `login_timeout`.
        Timeout = "timeout",
        /// The client broke the protocol.
        Protocol = "protocol",
        /// TLS could not be agreed on.
        Tls = "tls",
        /// No server connection of this pool was ever up, so there are no parameters to greet the client with.
        NoServer = "no_server",
        /// The client went away before the end.
        Abandoned = "abandoned",
    }
}

some_reasons! {
    /// Why a client was refused although its messages and its password may be right.
    Refusal {
        /// `max_clients` of the whole proxy.
        MaxClients = MaxClients,
        /// `max_clients` of its user.
        MaxUserClients = MaxUserClients,
        /// `max_clients` of its database.
        MaxDatabaseClients = MaxDatabaseClients,
        /// A rate limit on logins.
        RateLimited = RateLimited,
        /// Plain text where TLS is required.
        TlsRequired = TlsRequired,
        /// The proxy drains and takes no new client.
        Draining = Draining,
        /// Its login was not over within `client_login_timeout`.
        LoginTimeout = LoginTimeout,
        /// No server connection of its pool was ever up, and none can be had.
        NoServer = NoServer,
        /// The same, because PostgreSQL has no connection slot left.
        ServerFull = ServerFull,
        /// It asked for a replication connection.
        Replication = Replication,
    }
}

impl Refusal {
    /// How the login ended, for the count of all logins.
    pub fn login_result(self) -> LoginResult {
        match self {
            Self::LoginTimeout => LoginResult::Timeout,
            Self::NoServer | Self::ServerFull => LoginResult::NoServer,
            Self::Replication => LoginResult::Protocol,
            _ => LoginResult::Refused,
        }
    }
}

label_values! {
    /// What became of a configuration that was read again.
    ReloadResult {
        /// It is in force, as far as it can be without a restart.
        Ok = "ok",
        /// It has faults, or asks for more than PostgreSQL allows; nothing has changed.
        Failed = "failed",
    }
}

label_values! {
    /// What became of a CancelRequest.
    CancelResult {
        /// Passed on to the server that runs this client's query.
        Sent = "sent",
        /// The client waited for a server connection; its wait was ended with 57014.
        EndedWait = "ended_wait",
        /// The client runs nothing: nothing to cancel.
        NothingRuns = "nothing_runs",
        /// No client has this key.
        UnknownKey = "unknown_key",
        /// It could not be delivered to the server.
        Failed = "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_for_pins_are_labelled_as_in_the_configuration() {
        let words: Vec<_> = PinReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words, PinReason::LABELS);
        assert!(PinReason::ALL.iter().enumerate().all(|(index, reason)| reason.index() == index));
    }

    #[test]
    fn reasons_for_sheds_have_the_words_of_the_gate() {
        for reason in ShedReason::ALL {
            assert_eq!(Shed::from(*reason).label(), reason.as_str());
        }
    }
}
