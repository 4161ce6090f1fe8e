//! How the proxy dials: a full server, a role's limit, an outage, a lifetime that ends. With a real PostgreSQL; rates are
//! counted, and times are compared with five times what they should be.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::Test;
use crate::support::ground::{Ground, Tenant, address, eventually, root, start_cluster, tenant};
use crate::support::proxy::{Database, Proxy, ProxyOptions, program};
use crate::support::wire::{Wire, sqlstate};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("dialling", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("a_full_server_shrinks_the_budget_and_it_grows_back", |_| full_server()),
    ("a_roles_connection_limit_is_its_pools_matter", role_limit),
    ("an_outage_is_a_few_dials_a_second", outage),
    ("old_servers_have_successors_first", lifetime),
    ("preflight_refuses_pools_that_do_not_fit", preflight),
];

fn start(database: Database) -> Proxy {
    Proxy::start(&ProxyOptions { max_wait: Some("60s".to_owned()), ..ProxyOptions::new(vec![database]) })
}

/// So many clients at once, each with a query that takes half a second; all of them are served.
fn crowd(tenant: &Tenant, proxy: &Proxy, clients: usize) {
    let mut wires: Vec<Wire> = (0..clients).map(|_| tenant.login(proxy.address)).collect();
    for wire in &mut wires {
        wire.query("select pg_sleep(0.5)").expect("send");
    }
    for wire in &mut wires {
        assert_eq!(sqlstate(&wire.ready()), None);
    }
}

/// Ten connections, of which three are for superusers; others have five when the proxy wants four.
fn full_server() {
    let cluster = start_cluster(10);
    let tenant = tenant(&cluster, "full_server");
    let others: Vec<Wire> = (0..5).map(|_| tenant.login(address(&cluster))).collect();
    let proxy = start(tenant.database(&cluster, 4));
    crowd(&tenant, &proxy, 6);
    let budget = || proxy.metric("pgcorral_upstream_budget{");
    assert_eq!((budget(), proxy.metric("pgcorral_upstream_limit{")), (2.0, 4.0));
    let (_, metrics) = proxy.get("/metrics");
    let closed =
        metrics.lines().find(|line| line.starts_with("pgcorral_upstream_breaker") && line.contains("closed"));
    assert!(closed.is_some_and(|line| line.ends_with(" 1")), "a full server is not down: {closed:?}");
    eventually("the log says so", || proxy.log().contains("no room for more connections"));
    let dials = proxy.metric("pgcorral_dials_total{");
    assert!(dials <= 8.0, "{dials} dials at a full server");
    drop(others);
    eventually("the budget is back", || budget() == 4.0);
    eventually("all four are used", || {
        crowd(&tenant, &proxy, 6);
        tenant.backends(&mut root(&cluster, "postgres")) == 4
    });
}

fn role_limit(ground: &Ground) {
    let tenant = ground.tenant("dial_role_limit");
    ground.root("postgres").rows("alter role dial_role_limit connection limit 2");
    let proxy = start(tenant.database(ground.cluster(), 4));
    crowd(&tenant, &proxy, 6);
    assert_eq!(proxy.metric("pgcorral_pool_limit{"), 2.0);
    assert_eq!(proxy.metric("pgcorral_upstream_budget{"), 4.0, "the server itself has room");
    let (_, metrics) = proxy.get("/metrics");
    let dials = metrics
        .lines()
        .find(|line| line.starts_with("pgcorral_dials_total") && line.contains("\"connection_limit\""));
    assert!(dials.is_some_and(|line| !line.ends_with(" 0")), "{dials:?}");
}

/// Stands before a PostgreSQL: while that is away it accepts and closes, and counts.
struct Front {
    address: SocketAddr,
    away: AtomicBool,
    accepted: AtomicUsize,
}

impl Front {
    fn start(behind: SocketAddr) -> Arc<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let front = Arc::new(Self { address, away: AtomicBool::new(true), accepted: AtomicUsize::new(0) });
        let this = Arc::clone(&front);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                this.accepted.fetch_add(1, Ordering::SeqCst);
                if !this.away.load(Ordering::SeqCst) {
                    let far = TcpStream::connect(behind).expect("PostgreSQL is there");
                    pass(&near, &far);
                    pass(&far, &near);
                }
            }
        });
        front
    }
}

fn pass(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().expect("clone"), to.try_clone().expect("clone"));
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}

fn outage(ground: &Ground) {
    let tenant = ground.tenant("dial_outage");
    let front = Front::start(address(ground.cluster()));
    let database = Database { port: front.address.port(), ..tenant.database(ground.cluster(), 20) };
    let proxy = start(database);
    for second in 0..5 {
        let before = front.accepted.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_secs(1));
        let dials = front.accepted.load(Ordering::SeqCst) - before;
        assert!((1..=10).contains(&dials), "{dials} dials in second {second} of an outage");
    }
    front.away.store(false, Ordering::SeqCst);
    let back = Instant::now();
    eventually("a server connection is there", || {
        proxy.metric("pgcorral_servers{") > 0.0 && {
            let (_, metrics) = proxy.get("/metrics");
            metrics.lines().any(|line| {
                line.starts_with("pgcorral_dials_total") && line.contains("\"ok\"") && !line.ends_with(" 0")
            })
        }
    });
    assert!(back.elapsed() < Duration::from_millis(2500), "{:?} until the first success", back.elapsed());
    crowd(&tenant, &proxy, 20);
}

/// Two are kept at all times, each for six seconds at most.
fn lifetime(ground: &Ground) {
    let tenant = ground.tenant("dial_lifetime");
    let extra = vec!["min_pool_size = 2".to_owned(), "server_lifetime = \"6s\"".to_owned()];
    let proxy = start(Database { extra, ..tenant.database(ground.cluster(), 6) });
    let mut root = ground.root("postgres");
    eventually("both are there", || tenant.backends(&mut root) == 2);
    let (until, mut least, mut most) = (Instant::now() + Duration::from_secs(14), usize::MAX, 0);
    while Instant::now() < until {
        let now = tenant.backends(&mut root);
        (least, most) = (least.min(now), most.max(now));
        std::thread::sleep(Duration::from_millis(10));
    }
    let (_, metrics) = proxy.get("/metrics");
    let replaced =
        metrics.lines().filter(|line| line.contains("_destroyed_total") && line.contains("\"lifetime\""));
    let replaced: f64 = replaced.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert!(replaced >= 4.0, "{replaced} were replaced");
    assert!(least == 2 && most <= 4, "from {least} to {most} connections");
}

fn preflight(ground: &Ground) {
    let tenant = ground.tenant("dial_preflight");
    ground.root("postgres").rows("alter role dial_preflight connection limit 3");
    let serve = |size| {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
        let toml = ProxyOptions::new(vec![tenant.database(ground.cluster(), size)]).toml();
        std::fs::write(file.path(), format!("preflight = \"refuse\"\n{toml}")).expect("write");
        let mut command = Command::new(program());
        command.args(["serve", "--config"]).arg(file.path());
        (file, command)
    };
    let (_file, mut command) = serve(4);
    let output = command.stdin(Stdio::null()).output().expect("run the proxy");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = "role dial_preflight: the pools may open 4, and PostgreSQL refuses more than 3";
    assert!(!output.status.success() && said.contains(expected) && !said.contains("s3cret"), "{said}");
    let (_file, command) = serve(3);
    drop(Proxy::start_command(command));
}
