//! The log: lines on standard error, as text for people or JSON for machines.
//!
//! The levels are a contract:
//!
//! | level | means |
//! |---|---|
//! | ERROR | a person must look |
//! | WARN | unexpected, but handled |
//! | INFO | the proxy itself changes state: started, drains, a server is lost or back |
//! | DEBUG | per connection |
//! | TRACE | per message |
//!
//! A stampede must not become a stampede of lines: what can happen thousands of times a second at WARN goes through
//! [`SummaryLog`](super::SummaryLog). Secrets and the text of queries are never logged, at no level. A line about a client
//! that is logged in says who it is; `client::line` has the fields.
//!
//! What is logged can change while the proxy runs ([`Logging::set`]).

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;

use super::warnings::Warnings;

/// Form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal, unless `NO_COLOR` is set.
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged: `info`, or `warn,pgcorral::pool=debug`. By default INFO and what is worse.
#[derive(Clone)]
pub struct LogFilter {
    text: String,
    targets: Targets,
}

impl Default for LogFilter {
    fn default() -> Self {
        Self { text: "info".to_owned(), targets: Targets::new().with_default(LevelFilter::INFO) }
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let targets = parse_filter(text).map_err(|error| error.to_string())?;
        Ok(Self { text: text.to_owned(), targets })
    }
}

impl PartialEq for LogFilter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// The log of this process.
#[derive(Debug, Clone)]
pub struct Logging {
    filter: FilterHandle,
    /// The latest warnings.
    pub warnings: Warnings,
}

type FilterHandle = reload::Handle<Targets, Registry>;

impl Logging {
    /// This is logged from now on.
    pub fn set(&self, filter: &LogFilter) {
        // It fails only once nobody logs any more.
        let _ = self.filter.reload(filter.targets.clone());
    }
}

/// Why the log could not be set up.
#[derive(Debug)]
pub enum LoggingError {
    /// This part of the filter is neither `level` nor `module=level`.
    BadFilter(String),
    /// This process logs already.
    AlreadyStarted,
}

impl fmt::Display for LoggingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadFilter(part) => write!(
                f,
                "log filter: {part:?} is neither a level (off, error, warn, info, debug, trace) nor module=level"
            ),
            Self::AlreadyStarted => f.write_str("logging was set up twice"),
        }
    }
}

impl Error for LoggingError {}

/// Starts logging to standard error, for the whole process.
///
/// # Errors
/// [`LoggingError::AlreadyStarted`] for the second call.
pub fn start(format: LogFormat, filter: &LogFilter) -> Result<Logging, LoggingError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let (subscriber, filter) = subscriber(format, filter.targets.clone(), colours, io::stderr);
    let warnings = Warnings::default();
    // With a filter of its own: without one, every line that nobody wants would be put together for it.
    let kept = warnings.clone().with_filter(LevelFilter::WARN);
    tracing::subscriber::set_global_default(subscriber.with(kept))
        .map_err(|_| LoggingError::AlreadyStarted)?;
    Ok(Logging { filter, warnings })
}

fn subscriber<W>(
    format: LogFormat,
    filter: Targets,
    colours: bool,
    writer: W,
) -> (impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync, FilterHandle)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let (filter, handle) = reload::Layer::new(filter);
    (tracing_subscriber::registry().with(lines.with_filter(filter)), handle)
}

/// Stricter than the library's own syntax, where `warm` is no misspelt level but a module of that name, and everything
/// else falls silent.
fn parse_filter(filter: &str) -> Result<Targets, LoggingError> {
    let mut targets = Targets::new();
    for part in filter.split(',').map(str::trim) {
        let bad = || LoggingError::BadFilter(part.to_owned());
        let (module, level) = match part.split_once('=') {
            Some((module, level)) => (Some(module.trim()), level.trim()),
            None => (None, part),
        };
        let level = parse_level(level).ok_or_else(bad)?;
        targets = match module {
            Some("") => return Err(bad()),
            Some(module) => targets.with_target(module, level),
            None => targets.with_default(level),
        };
    }
    Ok(targets)
}

fn parse_level(level: &str) -> Option<LevelFilter> {
    // The library also takes the empty string and digits.
    level
        .bytes()
        .all(|byte| byte.is_ascii_alphabetic())
        .then(|| level.parse().ok())
        .flatten()
        .filter(|_| !level.is_empty())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, events: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, _) =
            subscriber(format, parse_filter(filter).unwrap(), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, events);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_has_level_message_and_fields() {
        let text = logged(LogFormat::Text, "info", || tracing::warn!(pool = "app/web", "server lost"));
        assert!(text.contains(" WARN ") && text.contains("server lost pool=\"app/web\""), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn json_is_one_flat_object_per_line_with_newlines_escaped() {
        let text = logged(LogFormat::Json, "info", || {
            tracing::info!(user = "a\nb\"c", "hello");
            tracing::error!("again");
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines.iter().all(|line| line.starts_with('{') && line.ends_with('}')), "{text}");
        assert!(lines[0].contains(r#""level":"INFO""#), "{text}");
        assert!(lines[0].contains(r#""message":"hello","user":"a\nb\"c""#), "{text}");
    }

    #[test]
    fn the_filter_is_by_level_and_by_module() {
        let here = module_path!();
        let events = || {
            tracing::debug!("here");
            tracing::debug!(target: "elsewhere", "there");
        };
        assert_eq!(logged(LogFormat::Text, "info", events), "");
        let text = logged(LogFormat::Text, &format!("warn, {here}=debug"), events);
        assert!(text.contains("here") && !text.contains("there"), "{text}");
        assert_eq!(logged(LogFormat::Text, &format!("debug,{here}=off,elsewhere=warn"), events), "");
    }

    #[test]
    fn a_misspelt_filter_is_an_error_that_names_the_part() {
        for (filter, part) in [
            ("warm", "warm"),
            ("", ""),
            ("info,", ""),
            ("info,pgcorral=loud", "pgcorral=loud"),
            ("=info", "=info"),
            ("3", "3"),
        ] {
            match parse_filter(filter) {
                Err(LoggingError::BadFilter(named)) => assert_eq!(named, part),
                other => panic!("{filter:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_filter_changes_while_it_logs() {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = parse_filter("info").unwrap();
        let (subscriber, filter) = subscriber(LogFormat::Text, filter, false, move || writer.clone());
        let logging = Logging { filter, warnings: Warnings::default() };
        tracing::subscriber::with_default(subscriber, || {
            for (filter, text) in [("info", "first"), ("debug", "second"), ("off", "third")] {
                logging.set(&filter.parse().unwrap());
                tracing::debug!("{text}");
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("second") && !text.contains("first") && !text.contains("third"), "{text}");
    }

    #[test]
    fn a_storm_of_events_is_one_line() {
        let text = logged(LogFormat::Text, "warn", || {
            let log = crate::obs::SummaryLog::new("clients shed");
            for _ in 0..3 {
                log.count("queue_full");
            }
            log.flush();
        });
        assert!(text.contains("clients shed reason=\"queue_full\" count=1"), "{text}");
    }
}
