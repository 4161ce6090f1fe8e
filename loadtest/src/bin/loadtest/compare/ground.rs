//! What everybody is compared on: one PostgreSQL of our own, with the plans' roles and a database for them.

use loadtest::client::Target;
use loadtest::plan::Plan;
use loadtest::poolers::{Assignment, RunningPooler, Upstream};
use loadtest::postgres::{Cluster, ClusterOptions};
use std::collections::BTreeMap;
use std::error::Error;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;

use super::contestants::Contestant;

/// The database of all plans, and the role of functions that name none.
const APP: &str = "app";

/// PostgreSQL's `max_connections`: its default, and what people start from.
pub const MAX_CONNECTIONS: u32 = 100;

/// How long PostgreSQL may take to have no client left after a leg; then those that are there are ended.
const QUIET_WITHIN: Duration = Duration::from_secs(10);

/// How often is looked.
const GLANCE: Duration = Duration::from_millis(50);

const CLIENTS: &str =
    "from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";

type Failure = Box<dyn Error + Send + Sync>;

/// A running PostgreSQL, set up for a list of plans. Cheap to clone; ended with the last clone.
#[derive(Debug, Clone)]
pub struct Ground {
    cluster: Arc<Mutex<Cluster>>,
    superuser_url: String,
    password: String,
    pool_size: u32,
}

/// What one leg is fired at. Dropping it ends the pooler, which blocks.
#[derive(Debug)]
pub struct Stand {
    /// Where the plan goes.
    pub target: Target,
    _pooler: Option<RunningPooler>,
}

impl Ground {
    /// Starts PostgreSQL and makes the roles of all plans. Blocks.
    ///
    /// # Errors
    /// There is no PostgreSQL, or it does not do as it is told.
    pub fn start(plans: &[Arc<Plan>], pool_size: u32) -> Result<Self, Failure> {
        let mut cluster =
            Cluster::start(ClusterOptions { max_connections: MAX_CONNECTIONS, ..ClusterOptions::default() })?;
        let password = cluster.password().to_owned();
        for role in plans.iter().flat_map(|plan| roles(plan)).collect::<std::collections::BTreeSet<_>>() {
            let role = role.replace('"', "\"\"");
            cluster.psql("postgres", &format!("create role \"{role}\" login password '{password}'"))?;
        }
        cluster.psql("postgres", &format!("create database {APP}"))?;
        // Set-up statements of plans are run by the superuser; what they make is for everybody.
        for statement in [
            "grant all on schema public to public",
            "alter default privileges grant all on tables to public",
            "alter default privileges grant all on sequences to public",
        ] {
            cluster.psql(APP, statement)?;
        }
        count_statements(&mut cluster)?;
        let superuser_url = cluster.superuser_url(APP);
        Ok(Self { cluster: Arc::new(Mutex::new(cluster)), superuser_url, password, pool_size })
    }

    /// A way straight to PostgreSQL, for who counts.
    ///
    /// # Errors
    /// None that is known of: the URL is our own.
    pub fn observer(&self) -> Result<Target, Failure> {
        Ok(Target::parse("observer", &self.superuser_url)?)
    }

    /// The passwords of a plan's roles.
    pub fn passwords(&self, plan: &Plan) -> BTreeMap<String, String> {
        roles(plan).into_iter().map(|role| (role, self.password.clone())).collect()
    }

    /// Starts what one leg is fired at: a pooler that has never seen a client, or nothing for PostgreSQL itself. Blocks.
    ///
    /// # Errors
    /// The pooler does not start.
    pub fn stand(&self, plan: &Plan, contestant: &Contestant) -> Result<Stand, Failure> {
        let upstream = self.upstream(plan)?;
        let assignment = Assignment { upstream, pool_size: self.pool_size, client_tls: None };
        let pooler = contestant.pooler.as_ref().map(|pooler| pooler.start(&assignment)).transpose()?;
        let upstream = &assignment.upstream;
        let url = upstream.url_at(pooler.as_ref().map_or(upstream.port, |pooler| pooler.port));
        Ok(Stand { target: Target::parse(&contestant.info.name, &url)?, _pooler: pooler })
    }

    fn upstream(&self, plan: &Plan) -> Result<Upstream, Failure> {
        let roles = roles(plan);
        let users: Vec<_> = roles.iter().map(|role| (role.as_str(), self.password.as_str())).collect();
        Ok(Upstream::of(&self.locked(), APP, &users)?)
    }

    /// Stops PostgreSQL as an orderly restart does. Blocks.
    pub fn stop_database(&self) {
        self.locked().stop_fast();
    }

    /// Starts it again, if it is not there. Blocks.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_database(&self) -> Result<(), Failure> {
        let mut cluster = self.locked();
        if cluster.process_id().is_none() {
            cluster.start_again()?;
        }
        Ok(())
    }

    /// Waits until PostgreSQL has no client but us; ends those that do not go by themselves, and returns how many.
    ///
    /// # Errors
    /// PostgreSQL cannot be asked.
    pub async fn wait_for_quiet(&self) -> Result<u64, Failure> {
        let (client, connection) = tokio_postgres::connect(&self.superuser_url, NoTls).await?;
        tokio::spawn(connection);
        let started = Instant::now();
        while started.elapsed() < QUIET_WITHIN {
            let left: i64 = client.query_one(&format!("select count(*) {CLIENTS}"), &[]).await?.try_get(0)?;
            if left == 0 {
                return Ok(0);
            }
            tokio::time::sleep(GLANCE).await;
        }
        // With a timeout, pg_terminate_backend returns when the backend is gone.
        let end = format!("select pg_terminate_backend(pid, 5000) {CLIENTS}");
        Ok(u64::try_from(client.query(&end, &[]).await?.len())?)
    }

    /// `postgres --version`
    pub fn version(&self) -> String {
        let output = Command::new(self.locked().binaries().join("postgres")).arg("--version").output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    }

    /// What it does not do here as in production, as `name = value`.
    ///
    /// # Errors
    /// PostgreSQL cannot be asked.
    pub fn settings(&self) -> Result<String, Failure> {
        let asked = "select string_agg(name || ' = ' || setting, ', ' order by name) from pg_settings \
                     where name in ('autovacuum', 'fsync', 'full_page_writes', 'wal_level')";
        Ok(self.locked().psql("postgres", asked)?)
    }

    fn locked(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who logs in: [`APP`] first, where a function names no role, and every role that one names.
fn roles(plan: &Plan) -> Vec<String> {
    let mut roles = Vec::new();
    if plan.functions.iter().any(|function| function.user.is_none()) {
        roles.push(APP.to_owned());
    }
    for user in plan.functions.iter().filter_map(|function| function.user.as_ref()) {
        if !roles.contains(user) {
            roles.push(user.clone());
        }
    }
    roles
}

/// `pg_stat_statements`, where PostgreSQL's contributed modules are installed. It has to be loaded at the start.
fn count_statements(cluster: &mut Cluster) -> Result<(), Failure> {
    let available = "select count(*) from pg_available_extensions where name = 'pg_stat_statements'";
    if cluster.psql(APP, available)? == "0" {
        eprintln!(
            "pg_stat_statements is not installed: statements run to their end for nobody are not counted"
        );
        return Ok(());
    }
    cluster.psql(APP, "alter system set shared_preload_libraries = 'pg_stat_statements'")?;
    cluster.start_again()?;
    cluster.psql(APP, "create extension pg_stat_statements")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn plan(users: &[Option<&str>]) -> Plan {
        let mut text = "title = \"t\"\nduration = \"1s\"\n".to_owned();
        for (number, user) in users.iter().enumerate() {
            let user = user.map_or(String::new(), |user| format!("user = \"{user}\"\n"));
            text.push_str(&format!(
                "[[function]]\nname = \"f{number}\"\ninstances = 1\narrival = {{ kind = \"at_once\" }}\n\
                 script = [\"select 1\"]\n{user}"
            ));
        }
        Plan::parse("p", &text, Path::new(".")).unwrap()
    }

    #[test]
    fn only_roles_that_log_in_get_a_pool() {
        assert_eq!(roles(&plan(&[None, None])), ["app"]);
        assert_eq!(roles(&plan(&[Some("b"), None, Some("b")])), ["app", "b"]);
        assert_eq!(roles(&plan(&[Some("b"), Some("a")])), ["b", "a"]);
    }
}
