//! The latest warnings and errors of the log, for the live page.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::lock::lock;

/// Warnings that are kept.
const MOST: usize = 50;
/// Longest text of one that is kept, in bytes.
const LONGEST: usize = 500;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Warning {
    /// Seconds since 1970.
    pub at: f64,
    /// `WARN` or `ERROR`.
    pub level: &'static str,
    /// Module that has said it.
    pub module: String,
    /// The text, with its fields.
    pub message: String,
}

/// The latest warnings, a bounded number. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<VecDeque<Warning>>>);

impl Warnings {
    /// The newest first.
    pub fn latest(&self) -> Vec<Warning> {
        lock(&self.0).iter().rev().cloned().collect()
    }
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let warning = Warning {
            at: now.as_secs_f64(),
            level: metadata.level().as_str(),
            module: metadata.target().to_owned(),
            message: text.whole(),
        };
        let mut kept = lock(&self.0);
        if kept.len() == MOST {
            kept.pop_front();
        }
        kept.push_back(warning);
    }
}

/// An event's message, and its fields behind it.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn whole(mut self) -> String {
        self.message.push_str(&self.fields);
        let mut end = self.message.len().min(LONGEST);
        while !self.message.is_char_boundary(end) {
            end -= 1;
        }
        self.message.truncate(end);
        self.message
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn the_latest_warnings_are_kept_with_their_fields_and_no_more_than_so_many() {
        let warnings = Warnings::default();
        let subscriber = tracing_subscriber::registry().with(warnings.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("not this");
            tracing::error!(pool = "app/web", count = 7, "cannot open a server connection");
            assert_eq!(
                warnings.latest()[0].message,
                "cannot open a server connection pool=\"app/web\" count=7"
            );
            (0..2 * MOST).for_each(|at| tracing::warn!(at, "{}", "ä".repeat(LONGEST)));
        });
        let latest = warnings.latest();
        assert_eq!((latest.len(), latest[0].level), (MOST, "WARN"));
        assert!(latest.iter().all(|warning| warning.message.len() <= LONGEST));
    }
}
