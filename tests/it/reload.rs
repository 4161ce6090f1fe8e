//! SIGHUP: what applies at once, what is named and left for a restart, and what a file with faults changes: nothing.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use libtest_mimic::Trial;
use rustix::process::Signal;

use crate::Test;
use crate::support::ground::{Ground, Tenant, eventually};
use crate::support::proxy::{Database, Proxy, ProxyOptions, program};
use crate::support::wire::{PROTOCOL_3_0, Wire, sqlstate};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("reload", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("pool_size_under_load", pool_size),
    ("a_broken_file_changes_nothing", broken),
    ("rate_limits_reach_clients_that_are_in", rate_limits),
    ("shares_reach_clients_that_are_in", shares),
    ("limits_on_clients_and_timeouts_change", clients_and_timeouts),
    ("what_needs_a_restart_is_named", restart),
    ("adaptive_limit_is_switched_on_and_off", adaptive),
];

/// A tenant, its proxy, and the options to change.
fn start(ground: &Ground, name: &str, pool_size: usize) -> (Tenant, ProxyOptions, Proxy) {
    let tenant = ground.tenant(name);
    let database = tenant.database(ground.cluster(), pool_size);
    // Nobody is to be refused because the machine is busy.
    let options = ProxyOptions { max_wait: Some("60s".to_owned()), ..ProxyOptions::new(vec![database]) };
    let proxy = Proxy::start(&options);
    (tenant, options, proxy)
}

fn change(options: &ProxyOptions, change: impl FnOnce(&mut Database)) -> ProxyOptions {
    let mut options = options.clone();
    options.databases.first_mut().map(change).expect("a database");
    options
}

/// Clients that query until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(tenant: &Tenant, proxy: &Proxy, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (mut wire, stop) = (tenant.login(proxy.address), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(wire.value("select 1 from pg_sleep(0.01)"), "1");
                }
            })
        };
        Self { clients: (0..clients).map(client).collect(), stop }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().expect("no query fails"));
    }
}

fn pool_size(ground: &Ground) {
    let (tenant, options, proxy) = start(ground, "reload_size", 4);
    let mut root = ground.root("postgres");
    let load = Load::start(&tenant, &proxy, 16);
    for size in [4, 9, 2, 7, 1, 5] {
        assert!(proxy.reload(&change(&options, |database| database.pool_size = size).toml()));
        eventually("the pool is as large as it may be", || tenant.backends(&mut root) == size);
        assert_eq!(proxy.metric("pgcorral_pool_limit{"), size as f64);
    }
    load.stop();
    assert!(proxy.log().contains("pool_size of reload_size/reload_size 4 -> 9"));
}

fn broken(ground: &Ground) {
    let (tenant, options, proxy) = start(ground, "reload_broken", 2);
    let wrong = change(&options, |database| {
        database.pool_size = 0;
        database.extra = vec!["pool_modus = 1".to_owned()];
    });
    assert!(!proxy.reload(&wrong.toml()));
    let log = proxy.log();
    assert!(log.contains("pool_size: must be from 1") && log.contains("pool_modus"), "both are named");
    let place = |line: &str| line.contains("ERROR") && line.contains(".toml:") && line.contains("pool_size");
    assert!(log.lines().any(place), "with line and column, as an error");
    assert!(!proxy.reload("not [ toml"));
    assert_eq!(proxy.metric("pgcorral_pool_limit{"), 2.0);
    assert_eq!(tenant.login(proxy.address).value("select 1"), "1");
    assert!(proxy.reload(&options.toml()), "a good one is taken after it");
}

fn rate_limits(ground: &Ground) {
    let (tenant, options, proxy) = start(ground, "reload_rates", 2);
    let limited = |mode: &str, burst: u32| {
        let rule = [
            "[rate_limits.few]".to_owned(),
            "what = \"transactions\"\nper = [\"user\"]\nrate = \"1/h\"".to_owned(),
            format!("burst = {burst}\nmode = {mode:?}"),
        ];
        ProxyOptions { sections: rule.to_vec(), ..options.clone() }.toml()
    };
    let mut client = tenant.login(proxy.address);
    let mut run = || sqlstate(&client.run("select 1"));
    assert_eq!(run(), None);
    assert!(proxy.reload(&limited("enforce", 2)));
    assert_eq!([run(), run(), run()], [None, None, Some("53400".to_owned())]);
    assert!(proxy.reload(&limited("observe", 2)));
    assert_eq!(run(), None);
    assert!(proxy.reload(&limited("enforce", 2)));
    assert_eq!(run().as_deref(), Some("53400"), "what was counted is still known");
    assert!(proxy.reload(&limited("enforce", 3)));
    assert_eq!(run(), None, "another rule counts anew");
    assert!(proxy.reload(&options.toml()));
    assert_eq!([run(), run(), run()], [None, None, None]);
}

fn shares(ground: &Ground) {
    let (tenant, options, proxy) = start(ground, "reload_shares", 4);
    let half = vec![format!("[shares.{}]\nmax_share = 0.5", tenant.name)];
    let mut clients: Vec<Wire> = (0..4).map(|_| tenant.login(proxy.address)).collect();
    assert!(proxy.reload(&ProxyOptions { sections: half, ..options.clone() }.toml()));
    for client in &mut clients {
        client.query("begin").expect("send");
    }
    eventually("two have half of the pool, and two wait", || proxy.metric("pgcorral_queue_depth{") == 2.0);
    assert!(proxy.reload(&options.toml()));
    eventually("nobody waits", || proxy.metric("pgcorral_queue_depth{") == 0.0);
    for client in &mut clients {
        assert_eq!(sqlstate(&client.ready()), None);
    }
}

fn clients_and_timeouts(ground: &Ground) {
    let (tenant, options, proxy) = start(ground, "reload_clients", 2);
    let mut idle = tenant.login(proxy.address);
    assert_eq!(idle.value("select 1"), "1");
    let second = tenant.login(proxy.address);
    assert!(proxy.reload(&ProxyOptions { max_clients: Some(2), ..options.clone() }.toml()));
    let mut third = Wire::connect(proxy.address).expect("connect");
    third.send_startup(PROTOCOL_3_0, &[("user", &tenant.name), ("database", &tenant.name)]).expect("startup");
    assert_eq!(sqlstate(&third.read_to_close()).as_deref(), Some("53300"));
    drop(second);
    let timeouts = vec!["client_idle_timeout = \"300ms\"".to_owned()];
    assert!(proxy.reload(&ProxyOptions { timeouts_extra: timeouts, ..options }.toml()));
    assert_eq!(sqlstate(&idle.read_to_close()).as_deref(), Some("57P05"), "it was idle before");
}

fn restart(ground: &Ground) {
    let (tenant, options, proxy) = start(ground, "reload_restart", 3);
    let mut other = change(&options, |database| {
        database.mode = "session".to_owned();
        database.pool_size = 2;
        database.users = vec![(tenant.name.clone(), "another-s3cret".to_owned())];
    });
    other.limits_extra = vec!["pkt_buf = \"32KiB\"".to_owned()];
    assert!(proxy.reload(&other.toml()));
    let log = proxy.log();
    let line = log.lines().find(|line| line.contains("takes effect after a restart")).expect("a warning");
    for name in ["pkt_buf", "pool_mode of reload_restart/reload_restart", "password of user reload_restart"] {
        assert!(line.contains(name), "{name}: {line}");
    }
    assert!(!log.contains("another-s3cret"));
    assert_eq!(proxy.metric("pgcorral_pool_limit{"), 2.0, "all else is in force");
    assert_eq!(tenant.login(proxy.address).value("select 1"), "1", "with the password of before");
    without_a_file(&tenant, ground.cluster().port());
}

/// Started by flags alone, it has nothing to read again, and stays.
fn without_a_file(tenant: &Tenant, port: u16) {
    let Tenant { name, password } = tenant;
    let upstream = format!("postgres://{name}:{password}@127.0.0.1:{port}/{name}?sslmode=disable");
    let mut command = Command::new(program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", &upstream]);
    command.stdin(Stdio::null());
    let mut proxy = Proxy::start_command(command);
    proxy.signal(Signal::HUP);
    eventually("the log says so", || proxy.log().contains("no configuration file"));
    assert!(!proxy.has_ended());
    assert_eq!(tenant.login(proxy.address).value("select 1"), "1");
}

/// With a larger pool the limit stays where it is until it has found out that more is better: so it shows that it holds.
fn adaptive(ground: &Ground) {
    let (tenant, options, proxy) = start(ground, "reload_adaptive", 2);
    let with = |mode: &str, size: usize| {
        let lines = vec![format!("adaptive_limit = {mode:?}\nadaptive_min = 1")];
        let change = change(&options, |database| (database.extra, database.pool_size) = (lines, size));
        change.toml()
    };
    let limit = |mode: &str| {
        let labels = format!("database=\"{0}\",user=\"{0}\",mode=\"{mode}\"", tenant.name);
        proxy.metric(&format!("pgcorral_pool_adaptive_limit{{{labels}}}"))
    };
    let mut root = ground.root("postgres");
    let load = Load::start(&tenant, &proxy, 12);
    assert_eq!((limit("observe"), limit("enforce")), (0.0, 0.0), "off by default");
    assert!(proxy.reload(&with("enforce", 2)));
    assert!(proxy.reload(&with("enforce", 6)));
    assert_eq!((limit("observe"), limit("enforce"), proxy.metric("pgcorral_pool_limit{")), (0.0, 2.0, 6.0));
    for _ in 0..20 {
        assert_eq!(tenant.backends(&mut root), 2, "none is dialled that nobody may have");
    }
    assert!(proxy.metric("pgcorral_queue_depth{") > 0.0);
    assert!(proxy.reload(&with("observe", 6)));
    assert_eq!((limit("observe"), limit("enforce")), (6.0, 0.0));
    eventually("all are used", || tenant.backends(&mut root) == 6);
    assert!(proxy.reload(&with("off", 6)));
    assert_eq!((limit("observe"), limit("enforce")), (0.0, 0.0));
    load.stop();
}
