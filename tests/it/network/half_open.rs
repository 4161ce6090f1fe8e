//! Clients that vanish without a word: their host or the network in between is gone, and no FIN ever comes. What the kernel
//! does about it (`TCP_USER_TIMEOUT`, keepalive) takes half a minute; here a reset comes when the test has seen that nobody
//! else has to wait for it.

use std::thread::sleep;
use std::time::Duration;

use super::Stage;
use crate::Test;
use crate::support::ground::{Ground, eventually, root};
use crate::support::relay::{BOTH, Fault, Relay, Way};
use crate::support::wire::{PROTOCOL_3_0, Wire, startup};

pub(super) const TESTS: &[Test] = &[
    ("in_the_startup_packet", |ground| vanish(ground, "net_ho_packet", startup_packet)),
    ("before_the_password", |ground| vanish(ground, "net_ho_password", before_the_password)),
    ("between_transactions", |ground| vanish(ground, "net_ho_idle", between_transactions)),
    ("in_the_queue", in_the_queue),
    ("in_a_query", |ground| vanish(ground, "net_ho_query", in_a_query)),
    ("in_a_transaction", |ground| vanish(ground, "net_ho_tx", in_a_transaction)),
    ("in_a_message", |ground| vanish(ground, "net_ho_message", in_a_message)),
    ("in_a_reply", |ground| vanish(ground, "net_ho_reply", in_a_reply)),
];

const POOL: usize = 2;
/// More than there are servers: they may not wait for each other for ever.
const VANISHING: usize = 5;

const TIMEOUTS: [&str; 3] = [
    "client_login_timeout = \"1s\"",
    "idle_in_transaction_timeout = \"1s\"",
    "client_stall_timeout = \"1s\"",
];

/// Clients reach the point from which they vanish; then nothing of theirs moves in these directions.
fn vanish(ground: &Ground, name: &str, reach: fn(&Stage, &Relay, usize) -> Wire) {
    let stage = Stage::start(ground.cluster(), name, POOL, &TIMEOUTS);
    for ways in [BOTH, &[Way::Forth], &[Way::Back]] {
        let clients = Relay::start(stage.proxy.address);
        let gone: Vec<Wire> = (0..VANISHING).map(|number| reach(&stage, &clients, number)).collect();
        clients.inflict(Fault::Hold(ways));
        // Within the bounds of the file nothing of PostgreSQL's is theirs any more, and others never had to do without.
        stage.everybody_is_served();
        nothing_is_kept(&stage);
        stage.server_is_at_rest(ground.cluster());
        drop(gone);
        // Now the proxy hears of it.
        clients.inflict(Fault::Cut);
        stage.proxy_is_at_rest();
    }
    stage.calm(ground.cluster());
    let written = root(ground.cluster(), name).value("select count(*) from tally where name = 'vanished'");
    assert_eq!(written, "0", "what was never committed is there");
}

/// No login, no wait and no server connection of theirs is left.
fn nothing_is_kept(stage: &Stage) {
    for state in ["login", "waiting", "active"] {
        let prefix = format!("pgcorral_clients{{state=\"{state}\"");
        eventually(&format!("nobody is {state}"), || stage.proxy.metric(&prefix) == 0.0);
    }
}

fn startup_packet(stage: &Stage, clients: &Relay, _: usize) -> Wire {
    let mut wire = Wire::connect(clients.address).expect("connect");
    let name = &stage.tenant.name;
    wire.send(&startup(PROTOCOL_3_0, &[("user", name), ("database", name)])[..10]).expect("send");
    wire
}

fn before_the_password(stage: &Stage, clients: &Relay, _: usize) -> Wire {
    let mut wire = Wire::connect(clients.address).expect("connect");
    let name = &stage.tenant.name;
    wire.send(&startup(PROTOCOL_3_0, &[("user", name), ("database", name)])).expect("send");
    wire.read().expect("the challenge");
    wire
}

fn between_transactions(stage: &Stage, clients: &Relay, _: usize) -> Wire {
    let mut wire = stage.tenant.login(clients.address);
    wire.run("select 1");
    wire
}

/// The statement runs to its end: nothing tells the proxy that nobody wants its result.
fn in_a_query(stage: &Stage, clients: &Relay, number: usize) -> Wire {
    let mut wire = stage.tenant.login(clients.address);
    let query = format!("insert into tally select 'query {number}' from pg_sleep(0.3)");
    wire.query(&query).expect("send");
    wire
}

fn in_a_transaction(stage: &Stage, clients: &Relay, number: usize) -> Wire {
    let mut wire = stage.tenant.login(clients.address);
    // As many as there are servers; the others vanish while they wait for theirs.
    if number < POOL {
        wire.run("begin; insert into tally values ('vanished')");
    } else {
        wire.query("begin; insert into tally values ('vanished')").expect("send");
    }
    wire
}

fn in_a_message(stage: &Stage, clients: &Relay, number: usize) -> Wire {
    let mut wire = in_a_transaction(stage, clients, number);
    wire.send(&[b'Q', 0, 0, 0, 200, b's', b'e', b'l']).expect("send");
    wire
}

/// More than the proxy and all buffers of the kernel take.
fn in_a_reply(stage: &Stage, clients: &Relay, _: usize) -> Wire {
    let mut wire = stage.tenant.login(clients.address);
    wire.query("select repeat('x', 1000) from generate_series(1, 100000)").expect("send");
    wire
}

/// They wait, and vanish; each runs at most once when its turn comes, or never.
fn in_the_queue(ground: &Ground) {
    let stage = Stage::start(ground.cluster(), "net_ho_queue", POOL, &["query_wait_timeout = \"1s\""]);
    for round in 0..2 {
        let clients = Relay::start(stage.proxy.address);
        let mut holders: Vec<Wire> = (0..POOL).map(|_| stage.tenant.login(stage.proxy.address)).collect();
        holders.iter_mut().for_each(|holder| drop(holder.run("begin; select 1")));
        let gone: Vec<Wire> = (0..VANISHING)
            .map(|number| {
                let mut wire = stage.tenant.login(clients.address);
                wire.query(&format!("insert into tally values ('queue {round} {number}')")).expect("send");
                wire
            })
            .collect();
        let depth = || stage.proxy.metric("pgcorral_queue_depth{");
        eventually("all wait", || depth() > 0.0);
        clients.inflict(Fault::Hold(BOTH));
        if round == 0 {
            // They are shed when their time is up.
            eventually("nobody waits", || depth() == 0.0);
        } else {
            // They are served when their turn comes.
            sleep(Duration::from_millis(100));
        }
        holders.iter_mut().for_each(|holder| drop(holder.run("commit")));
        drop(holders);
        nothing_is_kept(&stage);
        drop(gone);
        clients.inflict(Fault::Cut);
        stage.proxy_is_at_rest();
    }
    stage.calm(ground.cluster());
    let twice = "select count(*) from (select from tally group by name having count(*) > 1) as t";
    assert_eq!(root(ground.cluster(), "net_ho_queue").value(twice), "0", "something ran twice");
}
