//! Flags of the command line, laid over the values of a file or standing in for one.

use std::path::Path;

use super::defaults;
use super::error::{Faults, Origin};
use super::file::{ClientTlsKeys, Database, File, Functions, Limits, PoolKeys, Timeouts};
use super::reader::{Entry, Read};
use super::traces;
use super::url::UpstreamUrl;
use crate::cli::ServeFlags;
use crate::net::ListenAddress;
use crate::secret::Secret;

impl File {
    /// No file at all: the flags say everything.
    pub(super) fn absent() -> Self {
        Self {
            at: Origin::Flag("--upstream"),
            listen: Read::Absent,
            admin: Read::Absent,
            admin_token: Read::Absent,
            threads: Read::Absent,
            preflight: Read::Absent,
            log: Read::Absent,
            auth_type: Read::Absent,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            client_tls: ClientTlsKeys::default(),
            functions: Functions::default(),
            traces: traces::Keys::default(),
            rate_limits: Vec::new(),
            databases: Vec::new(),
            shares: vec![],
            upstreams: Vec::new(),
            users: Vec::new(),
        }
    }

    /// The same with the flags laid over it; see [`super::Config::from_flags`].
    pub(super) fn overridden_by(mut self, flags: &ServeFlags, faults: &Faults) -> Self {
        let listen = |address: &ListenAddress| flag("--listen", address.clone());
        if !flags.listen.is_empty() {
            let addresses = flags.listen.iter().map(listen).collect();
            self.listen = Read::Good(flag("--listen", addresses));
        }
        if let Some(address) = flags.admin {
            self.admin = Read::Good(flag("--admin", Some(address)));
        }
        if let Some(url) = &flags.upstream {
            self.lead_to(url, faults);
        }
        if let Some(size) = flags.pool_size {
            self.resize(size, faults);
        }
        self
    }

    fn lead_to(&mut self, url: &Secret, faults: &Faults) {
        let at = Origin::Flag("--upstream");
        let url = match UpstreamUrl::parse(url.reveal(), Path::new("")) {
            Ok(url) => url,
            Err(message) => {
                faults.add(&at, message);
                return self.databases.push(Database::new("", at));
            }
        };
        if self.databases.len() > 1 {
            return faults.add(
                &at,
                format!("the file has {} databases: give them their URLs there", self.databases.len()),
            );
        }
        if self.databases.is_empty() {
            let name = url.database.clone().or_else(|| url.user.clone()).unwrap_or_default();
            if name.is_empty() {
                faults.add(
                    &at,
                    "names neither a database nor a user, so clients would not know what to log in to",
                );
            }
            self.databases.push(Database::new(&name, at.clone()));
        }
        for database in &mut self.databases {
            database.upstream = Read::Good(Entry { value: url.clone(), at: at.clone() });
            database.upstream_password = Read::Absent;
        }
    }

    fn resize(&mut self, size: usize, faults: &Faults) {
        let range = defaults::SERVER_CONNECTIONS;
        if !range.contains(&size) {
            let message = format!("must be from {} to {}", range.start(), range.end());
            return faults.add(&Origin::Flag("--pool-size"), message);
        }
        for database in &mut self.databases {
            database.pool.pool_size = Read::Good(flag("--pool-size", size));
        }
    }
}

impl Database {
    fn new(name: &str, at: Origin) -> Self {
        Self {
            name: name.to_owned(),
            at,
            upstream: Read::Bad,
            upstream_password: Read::Absent,
            max_db_connections: Read::Absent,
            max_clients: Read::Absent,
            pool: PoolKeys::default(),
            users: Vec::new(),
        }
    }
}

fn flag<T>(name: &'static str, value: T) -> Entry<T> {
    Entry { value, at: Origin::Flag(name) }
}
