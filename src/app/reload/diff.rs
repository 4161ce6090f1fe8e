//! How two configurations differ: what applies at once, and what after a restart. Every structure is taken apart field by
//! field, so that a new setting cannot be forgotten.

use std::fmt::Debug;

use crate::client::{ClientParams, UserParams, UserSecret};
use crate::config::{Config, DatabaseParams, UpstreamConfig};
use crate::pool::{PoolParams, SessionParams};
use crate::secret::Secret;
use crate::server::{Credentials, UpstreamParams};
use crate::trace::TraceParams;

/// What differs, by the names of the file.
#[derive(Debug, Default)]
pub(super) struct Diff {
    /// Applies at once, with the values before and after.
    pub(super) changed: Vec<String>,
    /// Applies after a restart. Without values, for some are secret.
    pub(super) later: Vec<String>,
}

impl Diff {
    /// Brings `running` as near to `read` as is possible without a restart.
    pub(super) fn take_over(running: &mut Config, read: Config) -> Self {
        let mut diff = Self::default();
        let Config { listen, admin, threads, preflight, log, traces, relay_buffer_bytes, clients, upstreams } =
            read;
        diff.later("listen", &running.listen, &listen);
        diff.later("admin", &running.admin, &admin);
        diff.later("threads", &running.threads, &threads);
        diff.later("pkt_buf", &running.relay_buffer_bytes, &relay_buffer_bytes);
        diff.now("preflight", &mut running.preflight, preflight);
        diff.now("log", &mut running.log, log);
        diff.traces(&mut running.traces, traces);
        diff.clients(&mut running.clients, clients);
        diff.upstreams(&mut running.upstreams, upstreams);
        diff
    }

    fn now<T: PartialEq + Debug>(&mut self, name: impl Into<String>, running: &mut T, read: T) {
        if *running != read {
            self.changed.push(format!("{} {running:?} -> {read:?}", name.into()));
            *running = read;
        }
    }

    /// The same for what is too long to be shown.
    fn now_unseen<T: PartialEq>(&mut self, name: impl Into<String>, running: &mut T, read: T) {
        if *running != read {
            self.changed.push(name.into());
            *running = read;
        }
    }

    fn bound(&mut self, name: impl Into<String>, running: &mut Option<usize>, read: Option<usize>) {
        if *running != read {
            let shown = |bound: Option<usize>| bound.map_or("none".to_owned(), |bound| bound.to_string());
            self.changed.push(format!("{} {} -> {}", name.into(), shown(*running), shown(read)));
            *running = read;
        }
    }

    fn later<T: PartialEq + ?Sized>(&mut self, name: impl Into<String>, running: &T, read: &T) {
        if running != read {
            self.later.push(name.into());
        }
    }

    fn traces(&mut self, running: &mut Option<TraceParams>, read: Option<TraceParams>) {
        let (Some(running), Some(read)) = (running.as_mut(), &read) else {
            return self.later("traces", &running.is_some(), &read.is_some());
        };
        let TraceParams { endpoint, protocol, headers, timeout, service_name, sample, slow_wait, query_text } =
            read;
        self.later("endpoint of traces", &running.endpoint, endpoint);
        self.later("protocol of traces", &running.protocol, protocol);
        self.later("headers of traces", &running.headers, headers);
        self.later("timeout of traces", &running.timeout, timeout);
        self.later("service_name of traces", &running.service_name, service_name);
        self.now("sample of traces", &mut running.sample, *sample);
        self.now("slow_wait of traces", &mut running.slow_wait, *slow_wait);
        self.later("query_text of traces", &running.query_text, query_text);
    }

    fn clients(&mut self, running: &mut ClientParams, read: ClientParams) {
        let ClientParams {
            auth,
            tls,
            max_clients,
            max_handshakes,
            login_timeout,
            listen_backlog,
            evict_idle,
            drain_timeout,
            client_spool,
            max_spool,
            statement_cache_entries,
            statement_cache_bytes,
            functions,
            rate_limits,
            users,
        } = read;
        self.later("auth_type", &running.auth, &auth);
        self.later("client_tls", &running.tls, &tls);
        self.now("max_clients", &mut running.max_clients, max_clients);
        self.later("max_handshakes", &running.max_handshakes, &max_handshakes);
        self.later("client_login_timeout", &running.login_timeout, &login_timeout);
        self.later("listen_backlog", &running.listen_backlog, &listen_backlog);
        self.now("evict_idle", &mut running.evict_idle, evict_idle);
        self.now("drain_timeout", &mut running.drain_timeout, drain_timeout);
        self.later("client_spool", &running.client_spool, &client_spool);
        self.later("max_spool", &running.max_spool, &max_spool);
        self.later("statement_cache_entries", &running.statement_cache_entries, &statement_cache_entries);
        self.later("statement_cache_size", &running.statement_cache_bytes, &statement_cache_bytes);
        // Expressions are compared as they were written.
        let (before, after) = (format!("{:?}", running.functions), format!("{functions:?}"));
        self.later("functions", &before, &after);
        self.now_unseen("rate_limits", &mut running.rate_limits, rate_limits);
        self.users(&mut running.users, users);
    }

    fn users(&mut self, running: &mut [UserParams], read: Vec<UserParams>) {
        for known in running.iter().filter(|known| !read.iter().any(|user| user.name == known.name)) {
            self.later.push(format!("users.{} (gone)", known.name));
        }
        for UserParams { name, secret, max_clients } in read {
            match running.iter_mut().find(|known| known.name == name) {
                Some(known) => {
                    self.later(format!("password of user {name}"), &plain(&known.secret), &plain(&secret));
                    self.bound(format!("max_clients of user {name}"), &mut known.max_clients, max_clients);
                }
                None => self.later.push(format!("users.{name} (new)")),
            }
        }
    }

    fn upstreams(&mut self, running: &mut [UpstreamConfig], read: Vec<UpstreamConfig>) {
        let names = |upstreams: &[UpstreamConfig]| -> Vec<String> {
            let databases = upstreams.iter().flat_map(|upstream| &upstream.databases);
            databases.map(|database| database.name.clone()).collect()
        };
        let (known, wanted) = (names(running), names(&read));
        self.later.extend(
            known.iter().filter(|name| !wanted.contains(name)).map(|name| format!("databases.{name} (gone)")),
        );
        for UpstreamConfig { params, databases } in read {
            let mut same = running.iter_mut().find(|upstream| upstream.params.address == params.address);
            if let Some(upstream) = &mut same {
                self.upstream(&mut upstream.params, params);
            }
            let here = same.map_or(&mut [][..], |upstream| &mut upstream.databases);
            for database in databases {
                let at = here.iter().position(|known| known.name == database.name);
                match at.and_then(|at| here.get_mut(at)) {
                    Some(known) => self.database(known, database),
                    None if known.contains(&database.name) => {
                        self.later.push(format!("upstream of database {}", database.name));
                    }
                    None => self.later.push(format!("databases.{} (new)", database.name)),
                }
            }
        }
    }

    fn upstream(&mut self, running: &mut UpstreamParams, read: UpstreamParams) {
        let UpstreamParams {
            address,
            tls,
            max_connections,
            reserved_connections,
            max_dials,
            dial_rate,
            dial_burst,
            connect_timeout,
            cancel_timeout,
        } = read;
        let of = |key: &str| format!("{key} of {address}");
        self.later(of("sslmode"), &running.tls, &tls);
        self.now(of("max_connections"), &mut running.max_connections, max_connections);
        self.now(of("reserved_connections"), &mut running.reserved_connections, reserved_connections);
        self.now(of("max_dials"), &mut running.max_dials, max_dials);
        self.now(of("dial_rate"), &mut running.dial_rate, dial_rate);
        self.now(of("dial_burst"), &mut running.dial_burst, dial_burst);
        self.later(of("server_connect_timeout"), &running.connect_timeout, &connect_timeout);
        self.later(of("cancel_timeout"), &running.cancel_timeout, &cancel_timeout);
    }

    fn database(&mut self, running: &mut DatabaseParams, read: DatabaseParams) {
        let DatabaseParams { name, max_connections, max_clients, pools } = read;
        let of = |key: &str| format!("{key} of database {name}");
        self.now(of("max_db_connections"), &mut running.max_connections, max_connections);
        self.bound(of("max_clients"), &mut running.max_clients, max_clients);
        for known in running.pools.iter().filter(|known| !pools.iter().any(|pool| pool.user == known.user)) {
            self.later.push(format!("pool {name}/{} (gone)", known.user));
        }
        for pool in pools {
            match running.pools.iter_mut().find(|known| known.user == pool.user) {
                Some(known) => self.pool(known, pool),
                None => self.later.push(format!("pool {name}/{} (new)", pool.user)),
            }
        }
    }

    fn pool(&mut self, running: &mut PoolParams, read: PoolParams) {
        let PoolParams {
            database,
            user,
            server_database,
            credentials,
            mode,
            size,
            reserved,
            min_idle,
            max_waiting,
            max_wait,
            burst_wait,
            admission,
            adaptive_limit,
            adaptive_min,
            shares,
            server_lifetime,
            server_idle_timeout,
            max_clients,
            session,
        } = read;
        let of = |key: &str| format!("{key} of {database}/{user}");
        let name = |credentials: &Credentials| credentials.user.clone();
        let password =
            |credentials: &Credentials| credentials.password.as_ref().map(Secret::reveal).map(str::to_owned);
        self.later(of("upstream database"), &running.server_database, &server_database);
        self.later(of("upstream user"), &name(&running.credentials), &name(&credentials));
        self.later(of("upstream password"), &password(&running.credentials), &password(&credentials));
        self.later(of("pool_mode"), &running.mode, &mode);
        self.later(of("reserved"), &running.reserved, &reserved);
        self.later(of("server_lifetime"), &running.server_lifetime, &server_lifetime);
        self.now(of("pool_size"), &mut running.size, size);
        self.now(of("min_pool_size"), &mut running.min_idle, min_idle);
        self.now(of("max_waiting"), &mut running.max_waiting, max_waiting);
        self.now(of("query_wait_timeout"), &mut running.max_wait, max_wait);
        self.now(of("burst_wait_timeout"), &mut running.burst_wait, burst_wait);
        self.now(of("admission"), &mut running.admission, admission);
        self.now(of("adaptive_limit"), &mut running.adaptive_limit, adaptive_limit);
        self.now(of("adaptive_min"), &mut running.adaptive_min, adaptive_min);
        self.now_unseen(of("shares"), &mut running.shares, shares);
        self.now(of("server_idle_timeout"), &mut running.server_idle_timeout, server_idle_timeout);
        self.bound(of("max_clients"), &mut running.max_clients, max_clients);
        self.session(&of, &mut running.session, session);
    }

    fn session(&mut self, of: &dyn Fn(&str) -> String, running: &mut SessionParams, read: SessionParams) {
        let SessionParams {
            query_timeout,
            transaction_timeout,
            idle_in_transaction_timeout,
            client_idle_timeout,
            client_stall_timeout,
            abandoned,
            reset,
            pins,
            statements,
        } = read;
        self.now(of("query_timeout"), &mut running.query_timeout, query_timeout);
        self.now(of("transaction_timeout"), &mut running.transaction_timeout, transaction_timeout);
        self.now(
            of("idle_in_transaction_timeout"),
            &mut running.idle_in_transaction_timeout,
            idle_in_transaction_timeout,
        );
        self.now(of("client_idle_timeout"), &mut running.client_idle_timeout, client_idle_timeout);
        self.now(of("client_stall_timeout"), &mut running.client_stall_timeout, client_stall_timeout);
        self.later(of("abandoned"), &running.abandoned, &abandoned);
        self.later(of("reset"), &running.reset, &reset);
        self.now(of("pin_timeout"), &mut running.pins.timeout, pins.timeout);
        self.later(of("pin_budget"), &running.pins.budget, &pins.budget);
        self.later(of("pins"), &format!("{:?}", running.pins.policies), &format!("{:?}", pins.policies));
        self.later(
            of("prepared statements"),
            &format!("{:?}", running.statements),
            &format!("{statements:?}"),
        );
    }
}

/// To be compared, and nothing else.
fn plain(secret: &Option<UserSecret>) -> Option<&str> {
    secret.as_ref().map(|secret| match secret {
        UserSecret::Password(secret) | UserSecret::ScramVerifier(secret) | UserSecret::Md5Hash(secret) => {
            secret.reveal()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProcessEnvironment;

    const BEFORE: &str = r#"
        [limits]
        max_clients = 100
        [rate_limits.many]
        what = "transactions"
        rate = "9/s"
        [databases.app]
        upstream = "postgres://app:s3cret@db:5432/app"
        pool_size = 4
    "#;

    fn config(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("write");
        Config::from_file(file.path(), &ProcessEnvironment).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// What has changed, what would after a restart, and whether a second look finds the former once more.
    fn diff(replaced: &[(&str, &str)]) -> (String, String) {
        let after = replaced.iter().fold(BEFORE.to_owned(), |text, (from, to)| text.replace(from, to));
        let mut running = config(BEFORE);
        let Diff { changed, later } = Diff::take_over(&mut running, config(&after));
        let again = Diff::take_over(&mut running, config(&after));
        assert_eq!((again.changed, &again.later), (vec![], &later), "taken over, and still to come");
        (changed.join(", "), later.join(", "))
    }

    #[test]
    fn the_same_is_no_change() {
        assert_eq!(diff(&[]), (String::new(), String::new()));
    }

    #[test]
    fn what_applies_at_once_is_told_with_its_values() {
        let (changed, later) =
            diff(&[("pool_size = 4", "pool_size = 6\nmax_clients = 9"), ("= 100", "= 50")]);
        assert_eq!(later, "");
        assert_eq!(
            changed,
            "max_clients 100 -> 50, max_connections of db:5432 4 -> 6, max_db_connections of database app 4 -> 6, \
             max_clients of database app none -> 9, pool_size of app/app 4 -> 6"
        );
        assert_eq!(diff(&[("9/s", "10/s")]).0, "rate_limits");
    }

    #[test]
    fn what_needs_a_restart_is_named_without_secrets() {
        let (changed, later) = diff(&[
            ("[limits]", "listen = [\"127.0.0.1:1\"]\n[limits]\npkt_buf = \"32KiB\""),
            ("s3cret", "0ther"),
            ("pool_size = 4", "pool_size = 4\npool_mode = \"session\""),
        ]);
        assert_eq!(changed, "");
        assert_eq!(
            later,
            "listen, pkt_buf, password of user app, upstream password of app/app, pool_mode of app/app"
        );
    }

    #[test]
    fn databases_come_and_go_with_a_restart() {
        let (changed, later) = diff(&[("databases.app", "databases.new")]);
        assert_eq!((changed.as_str(), later.as_str()), ("", "databases.app (gone), databases.new (new)"));
        let (changed, later) = diff(&[("db:5432", "other:5432")]);
        assert_eq!((changed.as_str(), later.as_str()), ("", "upstream of database app"));
    }
}
