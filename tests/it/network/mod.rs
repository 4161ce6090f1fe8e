//! The proxy on a bad network: partitions, restarts, drains, slow logins, half-open clients, and all of it at random.
//!
//! Over real sockets, with relays of the tests' own in between (`docs/decisions/0008-faults-over-real-sockets.md`). Each test
//! ends with a calm phase, in which everybody is served, nothing is left over, and what clients were told is compared with
//! what PostgreSQL has.

mod drain;
mod half_open;
mod partition;
mod restart;
mod slow_dial;
mod storms;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use loadtest::postgres::Cluster;

use crate::support::ground::{Ground, Tenant, address, eventually, root, tenant};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::relay::Relay;
use crate::support::tally::{Caller, Ending, SHAPES, Tally};

/// All trials of this directory.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    let mut trials = crate::trials("network::partition", ground, partition::TESTS);
    trials.extend(crate::trials("network::restart", ground, restart::TESTS));
    trials.extend(crate::trials("network::drain", ground, drain::TESTS));
    trials.extend(crate::trials("network::slow_dial", ground, slow_dial::TESTS));
    trials.extend(crate::trials("network::half_open", ground, half_open::TESTS));
    trials.extend(storms::trials(ground));
    trials
}

/// Longest wait of a client that has to get an answer. Some five times the longest that the proxy may take: a query that
/// cannot be stopped, `query_timeout` and `cancel_timeout` and five seconds.
const BOUND: Duration = Duration::from_secs(40);

/// Pause after a failure. Short: a client that comes back at once is the worst.
const PAUSE: Duration = Duration::from_millis(20);

/// A proxy, with a relay between it and PostgreSQL.
struct Stage {
    tenant: Tenant,
    pool_size: usize,
    proxy: Proxy,
    /// Before PostgreSQL.
    servers: Relay,
    tally: Tally,
}

impl Stage {
    /// A pool of so many, and lines for `[timeouts]`.
    fn start(cluster: &Cluster, name: &str, pool_size: usize, timeouts: &[&str]) -> Self {
        let tenant = tenant(cluster, name);
        let tally = Tally::start(&tenant, address(cluster));
        let servers = Relay::start(address(cluster));
        let database = Database { port: servers.address.port(), ..tenant.database(cluster, pool_size) };
        let proxy = Proxy::start(&ProxyOptions {
            timeouts_extra: timeouts.iter().map(|line| (*line).to_owned()).collect(),
            ..ProxyOptions::new(vec![database])
        });
        let stage = Self { tenant, pool_size, proxy, servers, tally };
        stage.everybody_is_served();
        stage
    }

    fn caller(&self, number: usize) -> Caller {
        self.caller_at(self.proxy.address, number, BOUND)
    }

    fn caller_at(&self, address: SocketAddr, number: usize, bound: Duration) -> Caller {
        Caller::new(&self.tenant, address, number, bound)
    }

    /// So many clients, each at work until `meanwhile` is through.
    fn under_load<T>(&self, clients: usize, takes: Duration, meanwhile: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for number in 0..clients {
                let over = &over;
                scope.spawn(move || self.work(self.caller(number), number, takes, over));
            }
            // Should it panic, the clients have to end all the same: the scope waits for them.
            let over = Over(&over);
            let result = meanwhile();
            drop(over);
            result
        })
    }

    fn work(&self, mut caller: Caller, number: usize, takes: Duration, over: &AtomicBool) {
        for attempt in number.. {
            if over.load(Ordering::SeqCst) {
                return;
            }
            let told = caller.attempt(SHAPES[attempt % SHAPES.len()], takes);
            if told.ending != Ending::Served {
                std::thread::sleep(PAUSE);
            }
            self.tally.note(told);
        }
    }

    /// Twice as many as the pool has servers, all at once; each tries until it is served, and gets an answer each time.
    fn everybody_is_served(&self) {
        std::thread::scope(|scope| {
            for number in 0..2 * self.pool_size {
                scope.spawn(move || {
                    // Numbers that the test's own clients do not have.
                    let mut caller = self.caller(1000 + self.tally.told().len() * 100 + number);
                    eventually("everybody is served", || {
                        let told = caller.attempt(SHAPES[number % SHAPES.len()], Duration::from_millis(5));
                        self.tally.note(told.clone());
                        assert_ne!(told.ending, Ending::Hung, "{told:?}");
                        if told.ending != Ending::Served {
                            std::thread::sleep(PAUSE);
                        }
                        told.ending == Ending::Served
                    });
                });
            }
        });
    }

    /// The calm phase. What the relay still holds is reset before PostgreSQL is looked at: its backends could not know that
    /// the proxy has given them up.
    fn calm(&self, cluster: &Cluster) {
        self.everybody_is_served();
        self.proxy_is_at_rest();
        self.servers.cut_held();
        self.servers.release();
        self.everybody_is_served();
        self.proxy_is_at_rest();
        self.server_is_at_rest(cluster);
        self.tally.assert_true(&mut root(cluster, &self.tenant.name));
    }

    fn proxy_is_at_rest(&self) {
        for prefix in ["pgcorral_clients{", "pgcorral_queue_depth{", "pgcorral_handshakes_in_flight"] {
            eventually(&format!("nothing is left of {prefix}"), || self.proxy.metric(prefix) == 0.0);
        }
        for state in ["active", "idle_in_transaction", "pinned", "dialling", "cancelling", "closing"] {
            let name = &self.tenant.name;
            eventually(&format!("nothing is {state}"), || servers(&self.proxy, name, state) == 0);
        }
    }

    /// No more backends than the pool may have, and none has anything to do.
    fn server_is_at_rest(&self, cluster: &Cluster) {
        let mut root = root(cluster, "postgres");
        let name = &self.tenant.name;
        let sql = format!(
            "select count(*) || ' ' || count(*) filter (where state <> 'idle' or xact_start is not null)
            from pg_stat_activity where usename = '{name}'"
        );
        let mut seen = String::new();
        eventually("no backend too many, and none at work", || {
            seen = root.value(&sql);
            let (count, busy) = seen.split_once(' ').expect("two numbers");
            count.parse::<usize>().expect("a number") <= self.pool_size && busy == "0"
        });
    }
}

/// Server connections of this tenant's pool that are in this state.
fn servers(proxy: &Proxy, tenant: &str, state: &str) -> usize {
    let (_, metrics) = proxy.get("/metrics");
    let labels = [("database", tenant), ("user", tenant), ("state", state)];
    let labels = labels.map(|(label, value)| format!("{label}=\"{value}\""));
    let line = metrics.lines().find(|line| {
        line.starts_with("pgcorral_servers{") && labels.iter().all(|label| line.contains(label))
    });
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a gauge for each state")
}

/// Says that it is over when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
