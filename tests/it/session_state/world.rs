//! Where sequences are played: two servers alike, one asked directly and one through the proxy.
//!
//! Two, so that databases, roles and tables have the same names on both sides, and what one side does to its tables is
//! not done twice.

use std::net::SocketAddr;

use loadtest::postgres::{Cluster, ClusterOptions, Hba};

use crate::support::ground::{Tenant, address, root, tenant};
use crate::support::proxy::{Database, Proxy, ProxyOptions};

use super::step::table;

/// Clients of one world.
pub const CLIENTS: usize = 5;

/// Server connections that they share.
pub const POOL_SIZE: usize = 2;

/// How the proxy is configured, besides the pool.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// Name of the role and of the database.
    pub name: &'static str,
    /// Through what the second side is asked.
    pub subject: Subject,
    /// Lines of the database's section.
    pub lines: &'static [&'static str],
}

/// Through what the second side is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The proxy, with a pool that is smaller than the number of clients.
    TransactionMode,
    /// The proxy, with a server connection for each client.
    SessionMode,
    /// Nothing: two servers are compared, to see whether a sequence has the same answers every time.
    Nothing,
}

/// The two servers.
pub struct Servers {
    oracle: Cluster,
    proxied: Cluster,
}

/// A role and a database on both servers, and a proxy before one of them.
pub struct World<'s> {
    servers: &'s Servers,
    variant: Variant,
    tenant: Tenant,
    proxy: Option<Proxy>,
}

impl Servers {
    /// Starts both, without passwords: clients come and go all the time.
    pub fn start() -> Self {
        let settings = [
            ("synchronous_commit", "off"),
            // A hundred thousand sequences leave many dead rows in the catalogs.
            ("autovacuum", "on"),
            ("autovacuum_naptime", "10s"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let options =
            ClusterOptions { max_connections: 80, hba: Hba::Trust, settings, ..ClusterOptions::default() };
        let start = || Cluster::start(options.clone()).unwrap_or_else(|error| panic!("{error}"));
        Self { oracle: start(), proxied: start() }
    }
}

impl<'s> World<'s> {
    /// Makes role and database on both servers, and starts the proxy.
    pub fn new(servers: &'s Servers, variant: Variant) -> Self {
        let tenants = [&servers.oracle, &servers.proxied].map(|cluster| furnished(cluster, variant.name));
        let [_, tenant] = tenants;
        let mut world = Self { servers, variant, tenant, proxy: None };
        world.restart();
        world
    }

    /// A new proxy, with new server connections.
    pub fn restart(&mut self) {
        // The old one ends first: its server connections are no part of the new pool's bound.
        self.proxy = None;
        let mode = match self.variant.subject {
            Subject::Nothing => return,
            Subject::TransactionMode => "transaction",
            Subject::SessionMode => "session",
        };
        // One more than clients: for what tidies up between sequences.
        let pool_size = if self.variant.subject == Subject::SessionMode { CLIENTS + 3 } else { POOL_SIZE };
        let own = ["pin_budget = 1.0", "pin_timeout = \"10min\""];
        let lines = own.iter().chain(self.variant.lines).filter(|_| mode == "transaction");
        let database = Database {
            mode: mode.to_owned(),
            extra: lines.map(|line| (*line).to_owned()).collect(),
            ..self.tenant.database(&self.servers.proxied, pool_size)
        };
        let options = ProxyOptions {
            auth: Some("trust".to_owned()),
            max_wait: Some("10s".to_owned()),
            // A client may wait for its turn in a transaction for as long as a busy machine takes.
            timeouts_extra: vec!["idle_in_transaction_timeout = \"0\"".to_owned()],
            ..ProxyOptions::new(vec![database])
        };
        self.proxy = Some(Proxy::start(&options));
    }

    /// Where the oracle listens, and where the other side does.
    pub fn addresses(&self) -> [SocketAddr; 2] {
        let proxied =
            self.proxy.as_ref().map_or_else(|| address(&self.servers.proxied), |proxy| proxy.address);
        [address(&self.servers.oracle), proxied]
    }

    /// The role, and the database of the same name.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The end of the proxy's log.
    pub fn log_tail(&self) -> String {
        self.proxy.as_ref().map(|proxy| proxy.log_tail(15)).unwrap_or_default()
    }
}

/// A role that may become another one, with settings of its own, and a database with things to work on.
fn furnished(cluster: &Cluster, name: &str) -> Tenant {
    let tenant = tenant(cluster, name);
    let mut root = root(cluster, name);
    for sql in [
        format!("create role {name}_other; grant {name}_other to {name}"),
        // So that RESET does not lead to what the server itself has.
        format!("alter role {name} set work_mem = '5MB'"),
        format!("alter database {name} set lock_timeout = '9min'"),
        format!("set role {name}"),
        // Of the same types: what a change of the search path does to a statement with others depends on when it was
        // prepared on the server connection.
        "create schema x; create table x.u (a int); insert into x.u values (1)".to_owned(),
        "create schema y; create table y.u (a int); insert into y.u values (2)".to_owned(),
        "create table shared (a int primary key, b text); insert into shared values (1, 'one'), (2, 'two')"
            .to_owned(),
        format!("grant select on shared to {name}_other"),
        "create sequence seq".to_owned(),
    ] {
        root.rows(&sql);
    }
    (0..CLIENTS).for_each(|client| drop(root.rows(&new_table(client))));
    tenant
}

/// Makes a client's table as it is at the beginning of each sequence.
pub fn new_table(client: usize) -> String {
    let table = table(client);
    // A client may have made it anew in the first schema of its search path.
    format!(
        "drop table if exists x.{table}, y.{table}, {table}; create table {table} (a int, b text); {}",
        new_rows(client)
    )
}

/// Its rows.
pub fn new_rows(client: usize) -> String {
    let table = table(client);
    format!("delete from {table}; insert into {table} values (1, 'one'), (2, 'two')")
}
