//! Poolers as processes of their own, before one PostgreSQL: PgBouncer, pgcorral, or any command.
//!
//! `bench` and `loadtest compare` measure them. All get the same [`Assignment`]; what else is set is in [`pgbouncer`]
//! and [`pgcorral`], so that nobody has to guess what was compared.

mod command;
pub mod pgbouncer;
pub mod pgcorral;
pub mod process;
mod running;

pub use running::RunningPooler;

use crate::account::Account;
use crate::binaries::find_program;
use crate::postgres::{Cluster, ClusterError, free_port};
use crate::scratch::Scratch;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs, io};

/// A role that clients log in as, and that the pooler logs in to PostgreSQL as.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Its password.
    pub password: String,
    /// What PostgreSQL stores of it (`pg_authid.rolpassword`).
    pub verifier: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What every pooler stands before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// PostgreSQL's port on 127.0.0.1.
    pub port: u16,
    /// The one database; clients know it by the same name.
    pub database: String,
    /// Who may log in; everybody else is refused.
    pub login: Login,
    /// Who else may.
    pub more_logins: Vec<Login>,
}

impl Upstream {
    /// A cluster's database for `users`, names and passwords of roles that are there; the first is
    /// [`login`](Self::login).
    ///
    /// # Errors
    /// The cluster does not say what it stores of the passwords, or there are no users.
    pub fn of(cluster: &Cluster, database: &str, users: &[(&str, &str)]) -> Result<Self, ClusterError> {
        let mut logins = Vec::new();
        for (user, password) in users {
            let name = user.replace('\'', "''");
            let verifier = cluster
                .psql("postgres", &format!("select rolpassword from pg_authid where rolname = '{name}'"))?;
            logins.push(Login { user: (*user).to_owned(), password: (*password).to_owned(), verifier });
        }
        let mut logins = logins.into_iter();
        let login = logins.next().ok_or_else(|| ClusterError::Psql { output: "no users".to_owned() })?;
        let more_logins = logins.collect();
        Ok(Self { port: cluster.port(), database: database.to_owned(), login, more_logins })
    }

    /// The URL with which the first role reaches the database at a port of 127.0.0.1.
    #[must_use]
    pub fn url_at(&self, port: u16) -> String {
        let Login { user, password, .. } = &self.login;
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{}", self.database)
    }

    /// Everybody who may log in.
    pub fn logins(&self) -> impl Iterator<Item = &Login> {
        std::iter::once(&self.login).chain(&self.more_logins)
    }
}

/// A certificate chain and its key: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, leaf first.
    pub chain: PathBuf,
    /// The key of the leaf.
    pub key: PathBuf,
}

/// What all poolers of a comparison are given alike.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// What they stand before.
    pub upstream: Upstream,
    /// Server connections of each role.
    pub pool_size: u32,
    /// Clients may encrypt. A pooler that is started by a command of the user's sees nothing of it.
    pub client_tls: Option<Certificate>,
}

/// A pooler and how to start it.
#[derive(Debug, Clone)]
pub struct Pooler {
    /// What reports call it.
    pub name: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    PgBouncer { program: PathBuf, settings: Vec<(String, String)> },
    Pgcorral { program: PathBuf },
    Command { words: Vec<String> },
}

/// Why a pooler does not run.
#[derive(Debug)]
pub enum PoolerError {
    /// The machine does not have the program.
    NotInstalled {
        /// The program's name.
        program: &'static str,
    },
    /// A file or process operation failed.
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It ended at once, or did not listen in time.
    Start {
        /// The pooler's name.
        name: String,
        /// The end of what it printed.
        printed: String,
    },
}

impl fmt::Display for PoolerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled { program } => {
                write!(f, "no {program} found; scripts/setup-poolers.sh installs it")
            }
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
            Self::Start { name, printed } => write!(f, "{name} does not listen; it printed:\n{printed}"),
        }
    }
}

impl std::error::Error for PoolerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Pooler {
    /// PgBouncer as the system's packages have it; `settings` come after those of [`pgbouncer::COMMON`] and win.
    ///
    /// # Errors
    /// [`PoolerError::NotInstalled`]
    pub fn pgbouncer(name: &str, settings: &[(&str, &str)]) -> Result<Self, PoolerError> {
        let program = find_program(Path::new("/usr/sbin"), "pgbouncer")
            .ok_or(PoolerError::NotInstalled { program: "pgbouncer" })?;
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Ok(Self { name: name.to_owned(), kind: Kind::PgBouncer { program, settings } })
    }

    /// pgcorral with its defaults and the configuration of [`pgcorral::configuration`].
    #[must_use]
    pub fn pgcorral(name: &str, program: &Path) -> Self {
        Self { name: name.to_owned(), kind: Kind::Pgcorral { program: program.to_owned() } }
    }

    /// `NAME=PROGRAM ARGUMENT…`, split at spaces. `{port}`, `{admin}` (another port), `{upstream}` (a URL) and `{pool}`
    /// are replaced; without `{port}` the options of `pgcorral serve` are appended.
    ///
    /// # Errors
    /// There is no name or no program.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, words) = command::parse(text)?;
        Ok(Self { name, kind: Kind::Command { words } })
    }

    /// What it says its version is: the first line of `--version`.
    #[must_use]
    pub fn version(&self) -> String {
        let program = match &self.kind {
            Kind::PgBouncer { program, .. } | Kind::Pgcorral { program } => program.clone(),
            Kind::Command { words } => words.first().map(PathBuf::from).unwrap_or_default(),
        };
        let output = Command::new(program).arg("--version").output();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or("unknown").to_owned()
    }

    /// Starts it and waits until it listens. Blocks; from asynchronous code use it through `spawn_blocking`.
    ///
    /// # Errors
    /// It cannot be started, or ends at once; then with what it printed.
    pub fn start(&self, assignment: &Assignment) -> Result<RunningPooler, PoolerError> {
        let (scratch, command, port) = self.prepare(assignment)?;
        RunningPooler::start(&self.name, scratch, command, port)
    }

    fn prepare(&self, assignment: &Assignment) -> Result<(Scratch, Command, u16), PoolerError> {
        let port = free_port().map_err(doing("looking for a free port"))?;
        match &self.kind {
            Kind::PgBouncer { program, settings } => {
                // It refuses root as PostgreSQL does.
                let account = Account::for_servers().map_err(doing("looking for an account"))?;
                let (scratch, assignment) = directory(account.as_ref(), assignment)?;
                let mut command = Command::new(program);
                command.arg(pgbouncer::write_files(scratch.path(), &assignment, port, settings)?);
                command.current_dir(scratch.path());
                if let Some(account) = account {
                    account.assign(&mut command);
                }
                Ok((scratch, command, port))
            }
            Kind::Pgcorral { program } => {
                let (scratch, assignment) = directory(None, assignment)?;
                let file = scratch.path().join("pgcorral.toml");
                fs::write(&file, pgcorral::configuration(&assignment, port))
                    .map_err(doing("writing pgcorral.toml"))?;
                let mut command = Command::new(program);
                command.args(["serve", "--config"]).arg(file);
                Ok((scratch, command, port))
            }
            Kind::Command { words } => {
                let admin = free_port().map_err(doing("looking for a free port"))?;
                let (program, arguments) = command::fill_in(words, assignment, port, admin);
                let mut command = Command::new(program);
                command.args(arguments);
                Ok((directory(None, assignment)?.0, command, port))
            }
        }
    }
}

/// A directory of the pooler's own, with copies of the certificate and key in it: what it runs as may be an account that
/// cannot read ours.
fn directory(
    account: Option<&Account>,
    assignment: &Assignment,
) -> Result<(Scratch, Assignment), PoolerError> {
    let scratch = Scratch::create(account).map_err(doing("making a directory"))?;
    let mut assignment = assignment.clone();
    if let Some(certificate) = &mut assignment.client_tls {
        for (from, name) in [(&mut certificate.chain, "client.crt"), (&mut certificate.key, "client.key")] {
            let to = scratch.path().join(name);
            fs::copy(&from, &to).map_err(doing("copying a certificate or its key"))?;
            account.map_or(Ok(()), |account| account.own(&to)).map_err(doing("giving away a key"))?;
            *from = to;
        }
    }
    Ok((scratch, assignment))
}

fn doing(what: &'static str) -> impl FnOnce(io::Error) -> PoolerError {
    move |source| PoolerError::Io { doing: what, source }
}

#[cfg(test)]
pub(crate) mod examples {
    use super::{Assignment, Login, Upstream};

    /// One role, a pool of 20, no TLS.
    pub fn assignment() -> Assignment {
        Assignment {
            upstream: Upstream {
                port: 20001,
                database: "shop".to_owned(),
                login: login("app", "secret"),
                more_logins: Vec::new(),
            },
            pool_size: 20,
            client_tls: None,
        }
    }

    pub fn login(user: &str, password: &str) -> Login {
        Login {
            user: user.to_owned(),
            password: password.to_owned(),
            verifier: format!("SCRAM-SHA-256$of {user}"),
        }
    }
}
