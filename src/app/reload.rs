//! SIGHUP: another configuration takes the place of the one in force, as far as that is possible without a restart.
//!
//! [`diff`] compares the two and says what the configuration in force is from then on; here it is given to the parts. A
//! configuration with faults changes nothing.

mod diff;

use std::sync::Arc;

use tokio::runtime::Handle;

use super::preflight;
use crate::client::Door;
use crate::config::{Config, ConfigErrors, Preflight};
use crate::obs::ReloadResult;
use crate::obs::logging::Logging;
use diff::Diff;

/// Most names of settings in one line of the log.
const MOST_NAMED: usize = 40;

/// Takes over configurations.
pub(super) struct Reloader {
    door: Arc<Door>,
    /// Where the preflight asks.
    home: Option<Handle>,
    logging: Logging,
    /// In force.
    config: Config,
}

impl Reloader {
    pub(super) fn new(door: Arc<Door>, home: Option<Handle>, config: Config, logging: Logging) -> Self {
        Self { door, home, logging, config }
    }

    /// What is in force.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Takes over what was read, or logs why not. True if it was taken over. With `preflight = "refuse"` PostgreSQL is asked
    /// first, which may take as long as its logins. Not cancel safe: what was read would be forgotten.
    pub(super) async fn reload(&mut self, read: Result<Config, ConfigErrors>) -> bool {
        let read = match read {
            Ok(read) => read,
            Err(errors) => {
                self.failed(errors.iter().map(ToString::to_string));
                return false;
            }
        };
        let mut next = self.config.clone();
        let diff = Diff::take_over(&mut next, read);
        if let Err(lines) = preflight::vet(next.preflight, &next.upstreams).await {
            self.failed(lines.into_iter());
            return false;
        }
        self.config = next;
        self.apply();
        self.door.metrics.reloaded(ReloadResult::Ok);
        tell(&diff);
        true
    }

    fn failed(&self, lines: impl Iterator<Item = String>) {
        for line in lines {
            tracing::error!("{line}");
        }
        tracing::error!("SIGHUP: the configuration is not taken over, and nothing has changed");
        self.door.metrics.reloaded(ReloadResult::Failed);
    }

    fn apply(&self) {
        self.logging.set(&self.config.log);
        if let (Some(tracer), Some(traces)) = (&self.door.tracer, &self.config.traces) {
            tracer.set(traces.sample, traces.slow_wait);
        }
        self.door.reload(&self.config.clients);
        for upstream in &self.config.upstreams {
            self.door.pools.reload_upstream(&upstream.params);
            for database in &upstream.databases {
                if let Some(known) = self.door.pools.database(&database.name) {
                    known.reload(database.max_connections, database.max_clients, &database.pools);
                }
            }
        }
        self.door.roster.look_at_all();
        if let (Some(home), Preflight::Warn) = (&self.home, self.config.preflight) {
            let (door, mode) = (Arc::clone(&self.door), self.config.preflight);
            home.spawn(preflight::look(door, mode, self.config.upstreams.clone()));
        }
    }
}

fn tell(diff: &Diff) {
    match named(&diff.changed) {
        changed if changed.is_empty() => tracing::info!("SIGHUP: no setting has changed that is in force"),
        changed => tracing::info!("SIGHUP: {changed}"),
    }
    if !diff.later.is_empty() {
        tracing::warn!("takes effect after a restart: {}", named(&diff.later));
    }
}

/// A list, cut off: a thousand pools may have changed.
fn named(settings: &[String]) -> String {
    let mut text = settings.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    if let Some(more) = settings.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        text += &format!(", and {more} more");
    }
    text
}
