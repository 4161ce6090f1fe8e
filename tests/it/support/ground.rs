//! The servers that tests share, each started when the first test asks for it and all gone when the last is through.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use loadtest::postgres::{Cluster, ClusterOptions};

use super::proxy::{Database, Proxy, ProxyOptions};
use super::script::Target;
use super::wire::{Message, PATIENCE, PROTOCOL_3_0, Wire};

/// Everything that is shared. Dropped by `main` after the last test; the proxies first, then the server.
#[derive(Default)]
pub struct Ground {
    transaction: OnceLock<Proxy>,
    session: OnceLock<Proxy>,
    conversation: OnceLock<Tenant>,
    cluster: OnceLock<Cluster>,
}

/// A role and a database of the same name, for one test alone: so that it can count its backends.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Name of the role and of the database.
    pub name: String,
    /// The role's password.
    pub password: String,
}

impl Ground {
    /// The PostgreSQL server for all tests that do not kill it.
    pub fn cluster(&self) -> &Cluster {
        self.cluster.get_or_init(|| start_cluster(200))
    }

    /// A superuser's connection to this database of the shared server.
    pub fn root(&self, database: &str) -> Wire {
        root(self.cluster(), database)
    }

    /// Makes a role and a database for one test. Names must differ between tests.
    pub fn tenant(&self, name: &str) -> Tenant {
        tenant(self.cluster(), name)
    }

    /// The shared server itself, as the role and database of the conversations.
    pub fn direct(&self) -> Target {
        self.target("direct", address(self.cluster()))
    }

    /// The proxy in transaction mode, as the role and database of the conversations.
    pub fn transaction(&self) -> Target {
        let proxy = self.transaction.get_or_init(|| self.conversation_proxy("transaction"));
        self.target("transaction", proxy.address)
    }

    /// The same in session mode.
    pub fn session(&self) -> Target {
        let proxy = self.session.get_or_init(|| self.conversation_proxy("session"));
        self.target("session", proxy.address)
    }

    /// The role and database that conversations use.
    pub fn conversation(&self) -> &Tenant {
        self.conversation.get_or_init(|| self.tenant("talk"))
    }

    /// What the shared proxies logged last, for the report of a failed test.
    pub fn proxy_logs(&self) -> String {
        let proxies = [&self.transaction, &self.session];
        proxies.iter().filter_map(|proxy| proxy.get()).map(|proxy| proxy.log_tail(20)).collect()
    }

    fn target(&self, name: &'static str, address: SocketAddr) -> Target {
        let Tenant { name: user, password } = self.conversation().clone();
        Target { name, address, database: user.clone(), user, password }
    }

    fn conversation_proxy(&self, mode: &str) -> Proxy {
        let database = Database { mode: mode.to_owned(), ..self.conversation().database(self.cluster(), 10) };
        // A conversation does not time out in the queue because the machine is busy.
        let options = ProxyOptions { max_wait: Some("60s".to_owned()), ..ProxyOptions::new(vec![database]) };
        Proxy::start(&options)
    }
}

impl Tenant {
    /// Backends that PostgreSQL has for this tenant.
    pub fn backends(&self, root: &mut Wire) -> usize {
        let sql = format!("select count(*) from pg_stat_activity where usename = '{}'", self.name);
        root.value(&sql).parse().expect("a number")
    }

    /// This tenant as a database of the proxy.
    pub fn database(&self, cluster: &Cluster, pool_size: usize) -> Database {
        Database {
            name: self.name.clone(),
            port: cluster.port(),
            server_database: self.name.clone(),
            upstream: None,
            upstream_login: None,
            pool_size,
            mode: "transaction".to_owned(),
            max_connections: None,
            max_clients: None,
            users: vec![(self.name.clone(), self.password.clone())],
            extra: Vec::new(),
            pins: Vec::new(),
        }
    }

    /// Logs in as this tenant.
    pub fn login(&self, address: SocketAddr) -> Wire {
        Wire::login(address, &self.name, &self.password, &self.name)
    }

    /// Logs in with more parameters in the startup packet; with it comes what it was greeted with.
    pub fn login_with(&self, address: SocketAddr, params: &[(&str, &str)]) -> (Wire, Vec<Message>) {
        let mut wire = Wire::connect(address).expect("connect");
        let params = [&[("user", self.name.as_str()), ("database", &self.name)], params].concat();
        wire.send_startup(PROTOCOL_3_0, &params).expect("startup");
        let (messages, result) = wire.authenticate(&self.name, &self.password);
        assert!(result.is_ok(), "login with {params:?}: {messages:?}");
        (wire, messages)
    }

    /// A URL as this tenant, for tokio-postgres.
    pub fn url(&self, address: SocketAddr) -> String {
        format!("postgres://{0}:{1}@{address}/{0}", self.name, self.password)
    }
}

/// A server of one's own, to be killed.
pub fn start_cluster(max_connections: u32) -> Cluster {
    let settings = [("log_statement", "all"), ("max_prepared_transactions", "5")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Cluster::start(ClusterOptions { max_connections, settings, ..ClusterOptions::default() })
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Where a server listens.
pub fn address(cluster: &Cluster) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], cluster.port()))
}

/// A superuser's connection.
pub fn root(cluster: &Cluster, database: &str) -> Wire {
    Wire::login(address(cluster), Cluster::SUPERUSER, cluster.password(), database)
}

/// Makes a role and a database of this name.
pub fn tenant(cluster: &Cluster, name: &str) -> Tenant {
    let password = format!("{name}-s3cret");
    let mut root = root(cluster, "postgres");
    root.rows(&format!("create role {name} login password '{password}'"));
    root.rows(&format!("create database {name} owner {name}"));
    Tenant { name: name.to_owned(), password }
}

/// Waits until a condition holds; panics with `what` if it does not within [`PATIENCE`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Counts backends in `pg_stat_activity` every few milliseconds, on a thread of its own.
///
/// The view is no snapshot: a backend that ends and one that begins while it is read are both in it. So those count that
/// were there at two looks in a row: all of them were there at one moment between the two.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<i64>>>,
}

impl Watch {
    /// Begins to watch. Each condition on a row of the view is counted for itself.
    pub fn start(cluster: &Cluster, conditions: &[String]) -> Self {
        let flags: String = conditions.iter().map(|condition| format!(", ({condition})::int")).collect();
        let sql = format!(
            "select pid || '/' || backend_start{flags} from pg_stat_activity where usename is not null"
        );
        let columns = conditions.len();
        let mut root = root(cluster, "postgres");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut most = vec![0; columns];
            let mut before: HashSet<Option<String>> = HashSet::new();
            while !stopped.load(Ordering::Relaxed) {
                let rows = root.rows(&sql);
                for (column, most) in most.iter_mut().enumerate() {
                    let there = |row: &&Vec<Option<String>>| {
                        row[column + 1].as_deref() == Some("1") && before.contains(&row[0])
                    };
                    *most = (*most).max(rows.iter().filter(there).count() as i64);
                }
                before = rows.into_iter().map(|mut row| row.swap_remove(0)).collect();
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends the watch and returns the most that was ever counted, column by column.
    pub fn most(mut self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("the watch went well")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Runs asynchronous clients to their end, on two threads.
pub fn block_on<T>(clients: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(clients)
}
