//! Poolers as comparisons start them: pgcorral and PgBouncer serve the same roles, plain and encrypted.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use libtest_mimic::Trial;
use loadtest::poolers::{self, Assignment, Pooler, PoolerError, Upstream, pgbouncer};

use crate::Test;
use crate::support::certificate::Certificate;
use crate::support::ground::Ground;
use crate::support::proxy::program;
use crate::support::wire::{PROTOCOL_3_0, Wire};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("poolers", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("pgcorral_serves_as_assigned", |ground| {
        serves_as_assigned(ground, "poolers_a", &Pooler::pgcorral("pgcorral", Path::new(&program())));
    }),
    ("pgbouncer_serves_as_assigned", |ground| match Pooler::pgbouncer("PgBouncer", &pgbouncer::TUNED) {
        Ok(pooler) => serves_as_assigned(ground, "poolers_b", &pooler),
        Err(PoolerError::NotInstalled { .. }) => eprintln!("skipped: there is no PgBouncer on this machine"),
        Err(error) => panic!("{error}"),
    }),
];

/// Two roles, each with TLS and without.
fn serves_as_assigned(ground: &Ground, name: &str, pooler: &Pooler) {
    let first = ground.tenant(name);
    let second = ground.tenant(&format!("{name}_2"));
    let users = [(first.name.as_str(), first.password.as_str()), (&second.name, &second.password)];
    let certificate = Certificate::new();
    let (chain, key) = certificate.paths();
    let assignment = Assignment {
        upstream: Upstream::of(ground.cluster(), &first.name, &users).expect("two roles"),
        pool_size: 2,
        client_tls: Some(poolers::Certificate { chain: chain.into(), key: key.into() }),
    };
    let running = pooler.start(&assignment).unwrap_or_else(|error| panic!("{error}"));
    let address = SocketAddr::from(([127, 0, 0, 1], running.port));
    for (user, password) in users {
        let plain = Wire::connect(address).expect("connect");
        let encrypted = Wire::connect(address).and_then(Wire::start_tls).expect("TLS");
        for mut wire in [plain, encrypted] {
            wire.send_startup(PROTOCOL_3_0, &[("user", user), ("database", &first.name)]).expect("startup");
            let (messages, login) = wire.authenticate(user, password);
            assert!(login.is_ok(), "{user} at {}: {messages:?}\n{}", running.name, running.log_tail());
            assert_eq!(wire.value("select current_user"), user);
        }
    }
}
