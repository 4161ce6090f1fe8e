//! The logins of `pgcorral check --connect`: over the proxy's own connect path, each for one question.

use std::error::Error;
use std::io;

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::facts::{APPLICATION_NAME, Facts, QUESTION};
use super::finding::Finding;
use crate::pool::PoolParams;
use crate::secret::Secret;
use crate::server::{Connector, UpstreamParams};

/// How one login went.
pub(super) enum Visit {
    /// It was let in, and told everything.
    Told(Facts),
    /// It was let in, and its question was not answered; why.
    Silent(String),
    /// It was not let in.
    Failed(Failure),
}

/// Why a login was not let in.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection, or none that may be used: TLS is part of it.
    Unreachable(io::Error),
    /// It did not answer within `server_connect_timeout`.
    Timeout,
    /// PostgreSQL answered with an error.
    Refused { sqlstate: String, message: String },
    /// It wants a password, and none is configured.
    NoPassword,
    /// It does not behave like PostgreSQL.
    Broken(String),
}

/// Logs in and asks, in `server_connect_timeout` together.
pub(super) async fn visit(params: &UpstreamParams, connector: &Connector, login: &PoolParams) -> Visit {
    let visiting = async {
        let stream = connector.connect().await.map_err(Failure::Unreachable)?;
        // Encrypted already, if it is to be.
        let connected = config(login).connect_raw(stream, NoTls).await;
        let (client, connection) = connected.map_err(|error| Failure::of(&error, login))?;
        let asking = async move { ask(&client, login).await };
        // Ends with the client that `asking` drops; how it ends is of no interest to a client that has its answer.
        let (visit, _) = tokio::join!(asking, connection);
        Ok(visit)
    };
    match tokio::time::timeout(params.connect_timeout, Box::pin(visiting)).await {
        Ok(Ok(visit)) => visit,
        Ok(Err(failure)) => Visit::Failed(failure),
        Err(_) => Visit::Failed(Failure::Timeout),
    }
}

fn config(login: &PoolParams) -> Config {
    let mut config = Config::new();
    config.user(&login.credentials.user).dbname(&login.server_database).application_name(APPLICATION_NAME);
    if let Some(password) = login.credentials.password.as_ref().map(Secret::reveal) {
        config.password(password);
    }
    config
}

async fn ask(client: &Client, login: &PoolParams) -> Visit {
    let messages = match client.simple_query(QUESTION).await {
        Ok(messages) => messages,
        Err(error) => return Visit::Silent(innermost(&error)),
    };
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at)).collect::<Vec<_>>()),
        _ => None,
    });
    let facts = row.and_then(|row| Facts::read(login, &row));
    facts.map_or_else(|| Visit::Silent("its answer is not PostgreSQL's".to_owned()), Visit::Told)
}

/// What the line of a login that was let in says.
pub(super) fn succeeded(login: &PoolParams) -> Finding {
    Finding::ok(format!("{}: logged in", name(login)))
}

fn name(login: &PoolParams) -> String {
    format!("login of {} to database {}", login.credentials.user, login.server_database)
}

/// The cause behind the causes: tokio-postgres names only the kind of an error.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

impl Failure {
    fn of(error: &tokio_postgres::Error, login: &PoolParams) -> Self {
        if let Some(answer) = error.as_db_error() {
            let (sqlstate, message) = (answer.code().code().to_owned(), answer.message().to_owned());
            return Self::Refused { sqlstate, message };
        }
        let broken = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        match broken {
            Some(error) => Self::Unreachable(io::Error::new(error.kind(), error.to_string())),
            None if error.is_closed() => Self::Unreachable(io::ErrorKind::ConnectionReset.into()),
            None if login.credentials.password.is_none() => Self::NoPassword,
            None => Self::Broken(innermost(error)),
        }
    }

    /// Every other login would meet it, too.
    pub(super) fn is_of_the_server(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Timeout | Self::Broken(_) => true,
            Self::Refused { sqlstate, .. } => sqlstate.starts_with("57P"),
            Self::NoPassword => false,
        }
    }

    /// Who is at fault, and what to do.
    pub(super) fn finding(&self, params: &UpstreamParams, login: &PoolParams) -> Finding {
        let (name, address) = (name(login), &params.address);
        Finding::error(match self {
            Self::Unreachable(error) => format!(
                "{name}: {address} cannot be reached: {error}; see that PostgreSQL listens there, and that `upstream` has \
                 the right address and sslmode"
            ),
            Self::Timeout => format!(
                "{name}: {address} did not answer within server_connect_timeout ({:?}); see that nothing on the way to it \
                 swallows packets, and that it is not overloaded",
                params.connect_timeout
            ),
            Self::Refused { sqlstate, message } => {
                format!("{name}: PostgreSQL refuses it: {message} ({sqlstate}){}", advice(sqlstate))
            }
            Self::NoPassword => {
                format!(
                    "{name}: the server asks for a password, and the configuration has none for this user"
                )
            }
            Self::Broken(why) => {
                format!("{name}: {address} does not answer as PostgreSQL does: {why}; see what listens there")
            }
        })
    }
}

/// What to do about a refusal (manual, "PostgreSQL Error Codes").
fn advice(sqlstate: &str) -> &'static str {
    match sqlstate {
        "28P01" => {
            "; compare the password in the configuration with the role's, and see that it has not expired"
        }
        "28000" => "; see that the role exists and may log in, and that pg_hba.conf lets it in from here",
        "3D000" => "; create the database, or correct its name in `upstream`",
        "42501" => "; GRANT CONNECT on the database to the role",
        "53300" => {
            "; others have taken what the server, the role's or the database's CONNECTION LIMIT allows"
        }
        "57P03" => "; it is starting or stopping: try again",
        _ => "",
    }
}
