//! All pools of the proxy, by the names that clients give.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::runtime::Handle;

use super::{LiveBound, Pool, PoolParams, Upstream};
use crate::guard::{GroupId, Home};
use crate::net::tls::TlsSetupError;
use crate::obs::Metrics;
use crate::server::{Connector, Dialler, UpstreamParams};

/// All pools of the proxy.
#[derive(Debug, Default)]
pub struct Pools {
    upstreams: Vec<Arc<Upstream>>,
    databases: HashMap<String, Arc<Database>>,
}

/// A database that clients can name.
#[derive(Debug)]
pub struct Database {
    /// Most clients over all its users.
    pub max_clients: LiveBound,
    /// Clients that are logged in to it.
    pub clients: AtomicUsize,
    pools: HashMap<String, Arc<Pool>>,
    upstream: Arc<Upstream>,
    group: GroupId,
}

impl Database {
    /// Other bounds: most server connections, most clients. And what of its pools' parameters may change; pools that it
    /// does not have are passed over.
    pub fn reload(&self, max_connections: usize, max_clients: Option<usize>, pools: &[PoolParams]) {
        self.max_clients.set(max_clients);
        self.upstream.resize_group(self.group, max_connections);
        for params in pools {
            if let Some(pool) = self.pools.get(&params.user) {
                pool.reload(params);
            }
        }
    }

    /// The pool of one user; None if that user may not use this database.
    pub fn pool(&self, user: &str) -> Option<&Arc<Pool>> {
        self.pools.get(user)
    }
}

impl Pools {
    /// Adds an upstream with its databases (name, most server connections, most clients, pools). Nothing is dialled yet.
    ///
    /// # Errors
    /// TLS towards the upstream cannot be set up.
    pub fn add_upstream<'a>(
        &mut self,
        params: &UpstreamParams,
        databases: impl IntoIterator<Item = (&'a str, usize, Option<usize>, &'a [PoolParams])>,
        homes: &[Handle],
        metrics: &Metrics,
    ) -> Result<(), TlsSetupError> {
        let connector = Connector::new(params)?;
        let upstream = Arc::new(Upstream::new(params.clone(), connector, homes.to_vec(), rand::random()));
        let mut all = vec![];
        for (name, max_connections, max_clients, pools) in databases {
            let group = upstream.add_group(max_connections);
            let mut by_user = HashMap::new();
            for params in pools {
                let id = upstream.add_pool(group, params.limits());
                if params.reserved {
                    upstream.let_use_reserve(id);
                }
                let metrics = metrics.pool(&params.database, &params.user);
                let dialler = Dialler::new(
                    &upstream.params,
                    Arc::clone(&upstream.connector),
                    &params.server_database,
                    &params.credentials,
                    params.server_lifetime,
                    params.session.statements.max_per_server,
                );
                let upstream = Arc::clone(&upstream);
                let pool = Pool::new(params.clone(), metrics, id, upstream, homes.len(), dialler);
                let pool = Arc::new(pool);
                all.push(Arc::downgrade(&pool));
                by_user.insert(params.user.clone(), pool);
            }
            let database = Database {
                max_clients: LiveBound::new(max_clients),
                clients: AtomicUsize::new(0),
                pools: by_user,
                upstream: Arc::clone(&upstream),
                group,
            };
            self.databases.insert(name.to_owned(), Arc::new(database));
        }
        upstream.set_pools(all);
        self.upstreams.push(upstream);
        Ok(())
    }

    /// Starts the upstreams' tasks, and dials one connection for each pool so that the first login need not wait for it.
    pub fn start(&self) {
        for upstream in &self.upstreams {
            upstream.start();
        }
        for pool in self.iter() {
            pool.warm(Home(0));
        }
    }

    /// A database by the name that clients give.
    pub fn database(&self, name: &str) -> Option<&Arc<Database>> {
        self.databases.get(name)
    }

    /// Takes over what of an upstream's parameters may change while it runs.
    pub fn reload_upstream(&self, params: &UpstreamParams) {
        for upstream in self.upstreams.iter().filter(|upstream| *upstream.address() == params.address) {
            upstream.reload(params);
            upstream.wake_ticker();
        }
    }

    /// Every pool.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.databases.values().flat_map(|database| database.pools.values())
    }

    /// Every upstream.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }
}
