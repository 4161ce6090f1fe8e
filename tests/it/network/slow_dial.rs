//! A server that accepts connections and answers the login late, or never.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Stage, servers};
use crate::Test;
use crate::support::ground::{Ground, address, eventually, tenant};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::relay::{Arrival, Fault, Relay};
use crate::support::tally::{Caller, Ending, Shape, Tally};

pub(super) const TESTS: &[Test] = &[
    ("late_logins_are_waited_for", late),
    ("a_silent_server_holds_nobody_else_up", silent),
    ("a_pool_with_servers_does_not_need_dials", other_pool),
];

/// `max_dials`, where the file does not say.
const MAX_DIALS: usize = 4;

/// What may be said while there is no server.
const NO_SERVER: [&str; 3] = ["53300", "57P03", "08001"];

fn late(ground: &Ground) {
    let timeouts = ["query_wait_timeout = \"30s\"", "server_connect_timeout = \"10s\""];
    let stage = Stage::start(ground.cluster(), "net_late", 6, &timeouts);
    // One that is being dialled now, or that preflight asks, would be dialled again.
    stage.proxy_is_at_rest();
    stage.servers.arrivals(Arrival::Late(Duration::from_secs(2)));
    stage.servers.inflict(Fault::Cut);
    eventually("all are gone", || stage.servers.open() == 0);
    let before = stage.servers.opened();
    std::thread::scope(|scope| {
        for number in 0..18 {
            let stage = &stage;
            scope.spawn(move || {
                let told = stage.caller(number).attempt(Shape::Alone, Duration::from_millis(10));
                assert_eq!(told.ending, Ending::Served, "{told:?}");
                stage.tally.note(told);
            });
        }
    });
    let dials = stage.servers.opened() - before;
    assert!((1..=6).contains(&dials), "{dials} dials for a pool of 6");
    stage.calm(ground.cluster());
}

/// The proxy of two databases, each behind a relay (and so on a server) of its own, or both behind one.
struct Pair {
    proxy: Proxy,
    slow: Caller,
    swift: Vec<Caller>,
}

fn pair(ground: &Ground, slow: (&str, &Relay), swift: (&str, &Relay)) -> (Pair, Tally) {
    let cluster = ground.cluster();
    let tenants = [slow.0, swift.0].map(|name| tenant(cluster, name));
    let tally = Tally::start(&tenants[1], address(cluster));
    let _ = Tally::start(&tenants[0], address(cluster));
    let database = |at: usize, relay: &Relay, size| Database {
        port: relay.address.port(),
        ..tenants[at].database(cluster, size)
    };
    let proxy = Proxy::start(&ProxyOptions {
        timeouts_extra: vec!["server_connect_timeout = \"1s\"".to_owned()],
        ..ProxyOptions::new(vec![database(0, slow.1, 10), database(1, swift.1, 2)])
    });
    let caller = |at: usize, number| Caller::new(&tenants[at], proxy.address, number, super::BOUND);
    let pair = Pair { slow: caller(0, 0), swift: (0..4).map(|number| caller(1, number)).collect(), proxy };
    (pair, tally)
}

impl Pair {
    /// For so long somebody wants the slow database, and those that want the other are served. Not one of them hears that
    /// there is no server; now and then one may have to wait for too long (53300) on a machine with more to do.
    fn contend(&mut self, tally: &Tally, relay: &Relay, time: Duration) {
        let end = Instant::now() + time;
        std::thread::scope(|scope| {
            for caller in &mut self.swift {
                scope.spawn(move || {
                    while Instant::now() < end {
                        let told = caller.attempt(Shape::Alone, Duration::from_millis(10));
                        assert!(told.ending.is_one_of(&["53300"]), "{told:?}");
                        tally.note(told);
                        // Else the queue would never be empty, and the guard would see to it.
                        sleep(Duration::from_millis(20));
                    }
                });
            }
            let slow = &mut self.slow;
            scope.spawn(move || {
                while Instant::now() < end {
                    let told = slow.attempt(Shape::Alone, Duration::ZERO);
                    assert!(told.ending != Ending::Served && told.ending.is_one_of(&NO_SERVER), "{told:?}");
                    sleep(Duration::from_millis(20));
                }
            });
            while Instant::now() < end {
                assert!(relay.open() <= MAX_DIALS + 2, "{} connections", relay.open());
                sleep(Duration::from_millis(5));
            }
        });
        let (all, served) = (tally.told().len(), tally.served());
        assert!(all - served <= all / 5 && served > 50, "{}", tally.summary());
    }

    /// The server answers again: the next success is used.
    fn recover(&mut self, ground: &Ground, tally: &Tally, slow: &Relay) {
        slow.release();
        let back = Instant::now();
        eventually("the slow database is served", || {
            self.slow.attempt(Shape::Alone, Duration::ZERO).ending == Ending::Served
        });
        assert!(back.elapsed() < Duration::from_secs(5), "{:?} until the first success", back.elapsed());
        self.slow.leave();
        self.swift.iter_mut().for_each(Caller::leave);
        for prefix in ["pgcorral_clients{", "pgcorral_queue_depth{"] {
            eventually("the proxy is at rest", || self.proxy.metric(prefix) == 0.0);
        }
        let name = self.swift[0].tenant().name.clone();
        tally.assert_true(&mut ground.root(&name));
    }
}

/// It is silent from the start: not even a greeting is known.
fn silent(ground: &Ground) {
    let [slow, swift] = [(), ()].map(|()| Relay::start(address(ground.cluster())));
    slow.arrivals(Arrival::Silent);
    let (mut pair, tally) = pair(ground, ("net_silent", &slow), ("net_swift", &swift));
    pair.contend(&tally, &slow, Duration::from_secs(6));
    assert!(slow.most_open() <= MAX_DIALS, "{} dials at once", slow.most_open());
    pair.recover(ground, &tally, &slow);
}

/// Both on one server, which falls silent when the swift pool has all of its connections. The breaker that the slow pool's
/// dials open is none of its business.
fn other_pool(ground: &Ground) {
    let relay = Relay::start(address(ground.cluster()));
    let (mut pair, tally) = pair(ground, ("net_slow_pool", &relay), ("net_warm_pool", &relay));
    eventually("the slow pool answers", || {
        pair.slow.attempt(Shape::Alone, Duration::ZERO).ending == Ending::Served
    });
    std::thread::scope(|scope| {
        for caller in &mut pair.swift {
            scope.spawn(|| {
                eventually("it is warm", || {
                    caller.attempt(Shape::Alone, Duration::from_millis(200)).ending == Ending::Served
                });
            });
        }
    });
    relay.arrivals(Arrival::Silent);
    // What the slow pool has, or is dialling, since the proxy's start.
    let slow = pair.slow.tenant().name.clone();
    let mut root = ground.root("postgres");
    eventually("the slow pool has none", || {
        root.run(&format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{slow}'"));
        ["idle", "active", "closing"].iter().all(|state| servers(&pair.proxy, &slow, state) == 0)
    });
    pair.contend(&tally, &relay, Duration::from_secs(6));
    pair.recover(ground, &tally, &relay);
}
