//! One instance of a function: a process that answers events, one at a time.

use super::answer::Answer;
use super::keeper::Keeper;
use super::lines::{Tail, read_line};
use crate::client::Failure;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// A process whose standard input is closed gets so long to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A process of a function. Dropping it kills the process, suspended or not.
#[derive(Debug)]
pub struct ProcessInstance {
    child: Child,
    /// `None` once it is closed.
    events: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    stderr: Tail,
    started_in: Duration,
    frozen: bool,
    state: State,
    _room: OwnedSemaphorePermit,
    _keeper: Arc<Keeper>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It waits for an event.
    Idle,
    /// It was sent one, and nobody has read the answer.
    Invoked,
    /// It was killed, or ended by itself.
    Over,
}

/// What an invoker has started, before it has said that it is up.
pub struct Started {
    pub child: Child,
    pub events: ChildStdin,
    pub answers: BufReader<ChildStdout>,
    pub stderr: Tail,
}

/// One line to a bootstrap.
#[derive(Serialize)]
struct Envelope<'a> {
    event: Event<'a>,
    remaining_ms: u64,
}

/// What handlers are called with.
#[derive(Serialize)]
struct Event<'a> {
    script: &'a [String],
    retry: bool,
}

impl ProcessInstance {
    pub(super) fn new(
        started: Started,
        started_in: Duration,
        room: OwnedSemaphorePermit,
        keeper: Arc<Keeper>,
    ) -> Self {
        let Started { child, events, answers, stderr } = started;
        Self {
            child,
            events: Some(events),
            answers,
            stderr,
            started_in,
            frozen: false,
            state: State::Idle,
            _room: room,
            _keeper: keeper,
        }
    }

    /// From the start of the process until it was ready for its first event: the part of a cold start that is not the
    /// connection's.
    #[must_use]
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Its process id; `None` when it has ended.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.child.id()
    }

    /// It can be invoked. Not after a timeout, after nonsense, or when an [`invoke`](Self::invoke) was cancelled.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.state == State::Idle
    }

    /// Runs a script in one transaction. With `retry` the handler itself tries once more if it is refused with
    /// `retry_after_ms`. After `within` the process is killed, as Lambda does; so it is after an answer that is none. A
    /// suspended instance is continued first.
    ///
    /// Cancel safety: none; dropped midway, the instance cannot be used any more, and dropping it kills the process.
    pub async fn invoke(&mut self, script: &[String], retry: bool, within: Duration) -> Answer {
        if self.state != State::Idle {
            return Answer::failed(Failure::Connection("the function's process is not usable".to_owned()));
        }
        self.state = State::Invoked;
        let answer = match timeout(within, self.exchange(script, retry, within)).await {
            Ok(Ok(Some(line))) => Answer::read(&line),
            Ok(Ok(None)) => Answer::failed(Failure::Connection(self.last_words().await)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Answer::failed(Failure::Protocol("the function's answer is no line, or too long".to_owned()))
            }
            Ok(Err(_)) => Answer::failed(Failure::Connection(self.last_words().await)),
            Err(_) => Answer::failed(Failure::Timeout),
        };
        if matches!(answer.result, Err(Failure::Timeout | Failure::Protocol(_))) || self.state == State::Over
        {
            self.end_now().await;
        } else {
            self.state = State::Idle;
        }
        answer
    }

    /// Returns when the process has ended.
    ///
    /// Cancel safety: safe.
    pub async fn ended(&mut self) {
        let _ = self.child.wait().await;
        self.state = State::Over;
    }

    /// Suspends the process: it reads nothing and its timers stand still, while its connection stays open.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn freeze(&mut self) -> io::Result<()> {
        self.frozen = true;
        self.signal(Signal::STOP)
    }

    /// Continues it.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn thaw(&mut self) -> io::Result<()> {
        self.frozen = false;
        self.signal(Signal::CONT)
    }

    /// Ends it in order: its standard input is closed, and it ends by itself; killed if it does not.
    ///
    /// Cancel safety: dropped midway, the process is killed.
    pub async fn end(mut self) {
        let _ = self.thaw();
        self.events = None;
        if timeout(LAST_WORDS, self.child.wait()).await.is_err() {
            self.end_now().await;
        }
    }

    /// Kills it (SIGKILL), and returns when it is gone.
    ///
    /// Cancel safety: dropped midway, the process is killed.
    pub async fn kill(mut self) {
        self.end_now().await;
    }

    /// Sends one event and reads one line.
    async fn exchange(
        &mut self,
        script: &[String],
        retry: bool,
        within: Duration,
    ) -> io::Result<Option<Vec<u8>>> {
        if self.frozen {
            self.thaw()?;
        }
        let remaining_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let mut line = serde_json::to_vec(&Envelope { event: Event { script, retry }, remaining_ms })?;
        line.push(b'\n');
        let Some(events) = &mut self.events else { return Ok(None) };
        events.write_all(&line).await?;
        events.flush().await?;
        read_line(&mut self.answers).await
    }

    /// Its standard output has ended, or it takes no events: what there is to say of its end.
    async fn last_words(&mut self) -> String {
        self.state = State::Over;
        let ended = match timeout(LAST_WORDS, self.child.wait()).await {
            Ok(Ok(status)) => format!("the function's process ended ({status})"),
            Ok(Err(_)) | Err(_) => "the function's process closed its standard output".to_owned(),
        };
        match self.stderr.text().await {
            text if text.is_empty() => ended,
            text => format!("{ended}: {text}"),
        }
    }

    async fn end_now(&mut self) {
        self.state = State::Over;
        self.events = None;
        let _ = self.child.kill().await;
    }

    /// To the process itself, and only as long as it has not been waited for: its id cannot be another's.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        let id = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        id.map_or(Ok(()), |id| Ok(kill_process(id, signal)?))
    }
}
