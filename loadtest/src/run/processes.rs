//! One leg from several processes: this program again, as workers.
//!
//! Each is told its order (plan, target, share) in one line of JSON on its standard input, says that it is ready, is told
//! the moment at which all start, and reports what it records in lines of JSON on its standard output. When its
//! standard input ends, it stops: so does Ctrl-C reach it, and so does the end of the parent, whatever kind. Passwords
//! never are on a command line. Workers are in process groups of their own, so that a terminal's Ctrl-C goes to the
//! parent alone, which then ends them in order.

use super::crowd::Share;
use super::early::EarlyEnd;
use super::gather::Gathered;
use super::leg::{LegOptions, Played, end_if_full, play, raise_files, roles, unix};
use super::stage::{Record, Stage, micros};
use super::{Progress, RunError, usage};
use crate::client::Target;
use crate::plan::Plan;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::BufRead;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long a worker may take to be ready: on a loaded machine, with a long recording in its plan.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// How long a worker may take after the leg's end to report the rest.
const REPORT_PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take once the leg was stopped: it cuts off what is under way, and has little left to report.
const STOPPED_PATIENCE: Duration = Duration::from_secs(10);

/// A worker reports so often, so that a report has many records.
const REPORT_EVERY: Duration = Duration::from_millis(20);

/// And so many records at most.
const BATCH: usize = 4096;

/// Reports that wait to be read, of all workers: pipes hold the rest back.
const REPORTS: usize = 16;

/// How a worker is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// A program that calls [`worker_main`].
    pub program: PathBuf,
    /// With these arguments.
    pub arguments: Vec<OsString>,
}

impl Worker {
    /// This program, with the argument `worker`.
    fn of_this_program() -> Result<Self, RunError> {
        let program = std::env::current_exe().map_err(worker_failed)?;
        Ok(Self { program, arguments: vec!["worker".into()] })
    }
}

/// What a worker has to do.
#[derive(Serialize, Deserialize)]
struct Order {
    plan: Plan,
    target: String,
    dsn: String,
    allow_remote: bool,
    passwords: BTreeMap<String, String>,
    functions: Option<PathBuf>,
    share: Share,
}

/// When all workers start, by the machine's clock.
#[derive(Serialize, Deserialize)]
struct Start {
    unix_us: u64,
}

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    Ready,
    Records(Vec<Record>),
    Ended { heard: Vec<Vec<u64>>, cpu_us: u64 },
    Failed(String),
}

/// Workers that are ready. Dropping them kills them.
#[derive(Debug)]
pub(super) struct Workers(Vec<Process>);

#[derive(Debug)]
struct Process {
    child: Child,
    orders: ChildStdin,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Workers {
    /// From when the start is told until it is.
    pub(super) const LEAD: Duration = Duration::from_millis(200);

    /// Starts so many, and waits until all are ready.
    pub(super) async fn start(plan: &Plan, options: &LegOptions, processes: u32) -> Result<Self, RunError> {
        let worker = match &options.worker {
            Some(worker) => worker.clone(),
            None => Worker::of_this_program()?,
        };
        let mut workers = Vec::new();
        for index in 0..processes {
            let order = Order {
                plan: plan.clone(),
                target: options.target.name.clone(),
                dsn: options.target.dsn().to_owned(),
                allow_remote: options.allow_remote,
                passwords: options.passwords.clone(),
                functions: options.functions.clone(),
                share: Share { index, of: processes },
            };
            let mut process = Process::start(&worker)?;
            write_line(&mut process.orders, &order).await.map_err(worker_failed)?;
            workers.push(process);
        }
        for process in &mut workers {
            let ready = timeout(READY_PATIENCE, process.next()).await;
            match ready.unwrap_or_else(|_| Err(said("it is not ready after a minute")))? {
                Some(Report::Ready) => {}
                other => return Err(process.failed(other).await),
            }
        }
        Ok(Self(workers))
    }

    /// Lets them all fire at `started`, and gathers what they report until the last has ended.
    ///
    /// Cancel safety: dropped midway, the workers are killed.
    pub(super) async fn fire(
        self,
        plan: &Plan,
        options: &LegOptions,
        started: Instant,
        gathered: &mut Gathered,
        progress: &mut impl FnMut(&Progress),
        early: &EarlyEnd,
    ) -> Result<Played, RunError> {
        let own_before = usage::cpu(false);
        let unix_us = micros(unix(started.saturating_duration_since(Instant::now())));
        let (reports, mut reported) = mpsc::channel(REPORTS);
        let mut orders = Vec::new();
        let mut readers = tokio::task::JoinSet::new();
        for (index, mut process) in (0_u32..).zip(self.0) {
            write_line(&mut process.orders, &Start { unix_us }).await.map_err(worker_failed)?;
            orders.push(process.orders);
            let reading = Reading { index, child: process.child, lines: process.reports };
            readers.spawn(reading.forward(reports.clone()));
        }
        drop(reports);

        let mut left = readers.len();
        let mut played = Played::default();
        let mut latest = started + plan.duration.duration() + plan.grace.duration() + REPORT_PATIENCE;
        let mut is_stopped = false;
        while left > 0 {
            let (index, report) = tokio::select! {
                biased;
                () = early.told(), if !is_stopped => {
                    is_stopped = true;
                    orders.clear();
                    latest = latest.min(Instant::now() + STOPPED_PATIENCE);
                    continue;
                }
                report = timeout_at(latest, reported.recv()) => match report {
                    Ok(Some(report)) => report,
                    Ok(None) => return Err(said("all reports ended before the leg did")),
                    Err(_) => return Err(said("it did not end with the leg")),
                },
            };
            match report? {
                Report::Ready => {}
                Report::Records(records) => {
                    let told = records.into_iter().filter_map(|record| gathered.take(index, record));
                    told.for_each(|told| progress(&told));
                    end_if_full(gathered, options, early);
                }
                Report::Ended { heard, cpu_us } => {
                    left -= 1;
                    played.cpu += Duration::from_micros(cpu_us);
                    add_up(&mut played.heard, heard);
                }
                Report::Failed(why) => return Err(said(&why)),
            }
        }
        played.cpu += usage::cpu(false).saturating_sub(own_before);
        Ok(played)
    }
}

impl Process {
    fn start(worker: &Worker) -> Result<Self, RunError> {
        let mut child = Command::new(&worker.program)
            .args(&worker.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(worker_failed)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (orders, reports) = pipes.ok_or_else(|| said("it has no standard streams"))?;
        Ok(Self { child, orders, reports: BufReader::new(reports).lines() })
    }

    async fn next(&mut self) -> Result<Option<Report>, RunError> {
        let line = self.reports.next_line().await.map_err(worker_failed)?;
        line.map(|line| parse(&line)).transpose()
    }

    /// What it said in place of being ready.
    async fn failed(&mut self, report: Option<Report>) -> RunError {
        match report {
            Some(Report::Failed(why)) => said(&why),
            Some(_) => said("it does not keep to the order"),
            None => ended(&mut self.child).await,
        }
    }
}

/// A worker whose reports are forwarded as they come.
struct Reading {
    index: u32,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Reading {
    /// Until its last report. One that ends without having said so is an error.
    async fn forward(mut self, reports: mpsc::Sender<(u32, Result<Report, RunError>)>) {
        loop {
            let report = match self.lines.next_line().await {
                Ok(Some(line)) => parse(&line),
                Ok(None) => Err(ended(&mut self.child).await),
                Err(error) => Err(worker_failed(error)),
            };
            let is_last = !matches!(report, Ok(Report::Ready | Report::Records(_)));
            if reports.send((self.index, report)).await.is_err() || is_last {
                return;
            }
        }
    }
}

/// A worker's whole life: what the hidden subcommand `worker` does.
///
/// # Errors
/// What kept it from firing; the parent has been told the same.
pub async fn worker_main() -> Result<(), RunError> {
    let mut out = tokio::io::stdout();
    let done = obey(&mut out).await;
    if let Err(error) = &done {
        // A parent that is gone needs no answer.
        let _ = write_line(&mut out, &Report::Failed(error.to_string())).await;
    }
    done
}

async fn obey(out: &mut (impl AsyncWrite + Unpin)) -> Result<(), RunError> {
    let mut orders = orders();
    let Order { plan, target, dsn, allow_remote, passwords, functions, share } =
        next_order(&mut orders).await?;
    let plan = Arc::new(plan);
    let target = Target::parse(&target, &dsn).map_err(RunError::Target)?;
    let roles = roles(&plan, &target, &passwords)?;
    raise_files(&plan, share)?;
    let functions = super::leg::functions(&plan, &target, functions.as_deref())?;
    target.resolve(allow_remote).await.map_err(RunError::Target)?;
    write_line(out, &Report::Ready).await.map_err(worker_failed)?;

    let Start { unix_us } = next_order(&mut orders).await?;
    let (records, mut recorded) = mpsc::unbounded_channel();
    let stage =
        Arc::new(Stage::new(plan, target, roles, functions, moment(Duration::from_micros(unix_us)), records));
    let stop = async { while orders.recv().await.is_some() {} };
    let (played, written) = tokio::join!(play(stage, share, stop), report(&mut recorded, out));
    let Played { heard, cpu } = played?;
    written.map_err(worker_failed)?;
    let ended = Report::Ended { heard, cpu_us: micros(cpu) };
    write_line(out, &ended).await.map_err(worker_failed)
}

/// Reports until the stage is gone.
async fn report(
    recorded: &mut mpsc::UnboundedReceiver<Record>,
    out: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut batch = Vec::new();
    while recorded.recv_many(&mut batch, BATCH).await > 0 {
        let is_full = batch.len() == BATCH;
        write_line(out, &Report::Records(std::mem::take(&mut batch))).await?;
        if !is_full {
            sleep(REPORT_EVERY).await;
        }
    }
    Ok(())
}

/// Lines of the standard input. A thread of its own reads them: it may block there for ever, and must not keep the
/// process from ending.
fn orders() -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel(1);
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        for line in lines {
            if send.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receive
}

async fn next_order<T: DeserializeOwned>(orders: &mut mpsc::Receiver<String>) -> Result<T, RunError> {
    let line = orders.recv().await.ok_or_else(|| said("there is no order"))?;
    parse(&line)
}

/// When the machine's clock shows this.
fn moment(unix_time: Duration) -> Instant {
    let (now, clock) = (Instant::now(), unix(Duration::ZERO));
    match unix_time.checked_sub(clock) {
        Some(ahead) => now + ahead,
        None => now.checked_sub(clock - unix_time).unwrap_or(now),
    }
}

async fn write_line(out: &mut (impl AsyncWrite + Unpin), what: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    out.write_all(&line).await?;
    out.flush().await
}

fn parse<T: DeserializeOwned>(line: &str) -> Result<T, RunError> {
    serde_json::from_str(line).map_err(|error| said(&format!("{error}, in its report")))
}

fn add_up(all: &mut Vec<Vec<u64>>, heard: Vec<Vec<u64>>) {
    if all.is_empty() {
        *all = heard;
        return;
    }
    for (all, heard) in all.iter_mut().flatten().zip(heard.into_iter().flatten()) {
        *all += heard;
    }
}

async fn ended(child: &mut Child) -> RunError {
    match child.wait().await {
        Ok(status) => said(&format!("it ended before its time ({status})")),
        Err(error) => worker_failed(error),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn worker_failed(error: std::io::Error) -> RunError {
    RunError::Worker { why: error.to_string() }
}

fn said(why: &str) -> RunError {
    RunError::Worker { why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_workers_are_added_up() {
        let mut all = Vec::new();
        add_up(&mut all, vec![vec![1, 2], vec![3]]);
        add_up(&mut all, vec![vec![10, 0], vec![5]]);
        assert_eq!(all, [vec![11, 2], vec![8]]);
    }

    #[test]
    fn a_moment_is_found_on_the_machines_clock() {
        let now = Instant::now();
        let ahead = moment(unix(Duration::from_secs(5)));
        assert!((Duration::from_millis(4900)..Duration::from_secs(6)).contains(&(ahead - now)), "{ahead:?}");
    }
}
