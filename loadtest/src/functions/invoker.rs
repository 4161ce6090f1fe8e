//! Starts instances: a bounded number in all, and a bounded number at the same time.

use super::answer::is_init;
use super::database::{Database, DatabaseError};
use super::keeper::Keeper;
use super::lines::{Tail, read_line};
use super::process::{ProcessInstance, Started};
use super::{DIRECTORY_VARIABLE, installed};
use crate::plan::Runtime;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fmt, io};
use tokio::io::BufReader;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Of the machine's cores: interpreters wait for the disk for a part of their start, and hundreds at once would only
/// make every one of them late.
const STARTING_PER_CORE: usize = 4;

/// A process that has not said so long after its start that it is up never will. Generous: a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything else of our environment stays away from functions: libpq alone reads two dozen variables. What is added
/// is in `loadtest/functions/README.md`.
const PASSED_ON: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// How an invoker works.
#[derive(Debug, Clone)]
pub struct InvokerOptions {
    /// Where the functions are; else `$LOADTEST_FUNCTIONS`, else the nearest `target/functions`.
    pub directory: Option<PathBuf>,
    /// The most processes at a time.
    pub most: usize,
    /// How many may be starting at a time; else four for each core.
    pub starting: Option<usize>,
}

/// Which function to start an instance of.
#[derive(Clone, Copy)]
pub struct Launch<'a> {
    /// What runs it.
    pub runtime: Runtime,
    /// What it connects to.
    pub database: &'a Database,
    /// Its name, which is its connection's `application_name`.
    pub function: &'a str,
}

/// Starts instances. When it and all that it started are dropped, or its process is killed, none of them is left. Cheap
/// to clone; clones share the bounds.
#[derive(Debug, Clone)]
pub struct Invoker {
    directory: PathBuf,
    room: Arc<Semaphore>,
    starts: Arc<Semaphore>,
    keeper: Arc<Keeper>,
}

/// Why there is no instance.
#[derive(Debug)]
pub enum StartError {
    /// Something that `scripts/setup-functions.sh` installs is not there.
    NotInstalled {
        /// Which file; without a directory, a program that is not in PATH.
        path: PathBuf,
    },
    /// `runtime = "task"`: such instances are no processes.
    NotAProcess,
    /// The DSN does not suit functions.
    Database(DatabaseError),
    /// There are as many as there may be.
    TooMany,
    /// The system could not start it.
    System {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended, or said something else, or nothing for too long, before it was up.
    NotUp {
        /// What it said on standard error.
        stderr: String,
    },
}

impl Invoker {
    /// Makes ready; starts nothing but the keeper that ends processes if we are killed.
    ///
    /// # Errors
    /// [`StartError::System`]: no shell, or no process left.
    pub fn new(options: &InvokerOptions) -> Result<Self, StartError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let starting = options.starting.unwrap_or(cores * STARTING_PER_CORE).max(1);
        let no_shell = |source| StartError::System { program: PathBuf::from(Keeper::SHELL), source };
        let keeper = Keeper::start().map_err(no_shell)?;
        Ok(Self {
            directory: installed::directory(options.directory.as_deref()),
            room: Arc::new(Semaphore::new(options.most.min(Semaphore::MAX_PERMITS))),
            starts: Arc::new(Semaphore::new(starting.min(Semaphore::MAX_PERMITS))),
            keeper: Arc::new(keeper),
        })
    }

    /// Whether a runtime's handler is installed, before anything is fired.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn check(&self, runtime: Runtime) -> Result<(), StartError> {
        self.program(runtime).map(|_| ())
    }

    /// Starts a process and waits until it is ready for events. The time that it waits for others to start is not part
    /// of [`ProcessInstance::started_in`].
    ///
    /// # Errors
    /// See [`StartError`].
    ///
    /// Cancel safety: dropped midway, the process is killed.
    pub async fn start(&self, launch: Launch<'_>) -> Result<ProcessInstance, StartError> {
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| StartError::TooMany)?;
        // Never closed.
        let _turn = self.starts.acquire().await.map_err(|_| StartError::TooMany)?;
        let begun = Instant::now();
        let mut started = self.spawn(launch)?;
        match timeout(PATIENCE, read_line(&mut started.answers)).await {
            Ok(Ok(Some(line))) if is_init(&line) => {
                Ok(ProcessInstance::new(started, begun.elapsed(), room, Arc::clone(&self.keeper)))
            }
            _ => {
                let _ = started.child.kill().await;
                Err(StartError::NotUp { stderr: started.stderr.text().await })
            }
        }
    }

    fn spawn(&self, launch: Launch<'_>) -> Result<Started, StartError> {
        let (program, arguments) = self.program(launch.runtime)?;
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env_clear()
            .envs(PASSED_ON.into_iter().filter_map(|name| Some((name, env::var_os(name)?))))
            .env("DATABASE_URL", launch.database.url(launch.runtime))
            .env("AWS_LAMBDA_FUNCTION_NAME", launch.function)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .process_group(self.keeper.group())
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let failed = |source| StartError::System { program: program.clone(), source };
        pipes(command.spawn().map_err(failed)?).ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))
    }

    fn program(&self, runtime: Runtime) -> Result<(PathBuf, Vec<PathBuf>), StartError> {
        installed::command(&self.directory, runtime)
            .ok_or(StartError::NotAProcess)?
            .map_err(|path| StartError::NotInstalled { path })
    }
}

fn pipes(mut child: Child) -> Option<Started> {
    let (events, answers) = (child.stdin.take()?, child.stdout.take()?);
    let stderr = Tail::follow(child.stderr.take()?);
    Some(Started { child, events, answers: BufReader::new(answers), stderr })
}

impl From<DatabaseError> for StartError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled { path } => write!(
                f,
                "{} is not {}; scripts/setup-functions.sh installs the functions and their drivers \
                 (--functions or {DIRECTORY_VARIABLE} names another directory)",
                path.display(),
                if path.components().count() > 1 { "there" } else { "in PATH" },
            ),
            Self::NotAProcess => f.write_str("the runtime \"task\" is no process"),
            Self::Database(error) => error.fmt(f),
            Self::TooMany => f.write_str("as many processes are running as may run"),
            Self::System { program, source } => write!(f, "cannot start {}: {source}", program.display()),
            Self::NotUp { stderr } if stderr.is_empty() => {
                f.write_str("the function's process did not come up")
            }
            Self::NotUp { stderr } => write!(f, "the function's process did not come up: {stderr}"),
        }
    }
}

impl std::error::Error for StartError {}
