//! What a server sees of the instances: a stand-in for one writes down what comes, and how connections end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use loadtest::client::Target;
use loadtest::leg::{FailureKind, Leg, Outcome};
use loadtest::plan::Plan;
use loadtest::run::{Hooks, LegOptions, run_leg};
use std::future::pending;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How a connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Closed {
    Fin,
    Rst,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    /// The kinds of all messages after the first; or `cancel`.
    said: String,
    /// `None` as long as it is open.
    closed: Option<Closed>,
}

/// What the server does.
#[derive(Debug, Clone)]
enum Answering {
    /// It lets everybody in, and answers.
    All,
    /// It lets everybody in, and answers nothing.
    Logins,
    /// It never says anything.
    Nothing,
    /// It refuses so many logins with this ErrorResponse's body, and is then like `All`.
    AllBut(usize, Vec<u8>),
}

struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    fn listen(answering: Answering) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&seen);
        thread::spawn(move || {
            for (number, socket) in listener.incoming().enumerate() {
                seen.lock().unwrap().push(Seen { said: String::new(), closed: None });
                let caller = Caller {
                    number,
                    socket: socket.unwrap(),
                    seen: Arc::clone(&seen),
                    answering: answering.clone(),
                };
                thread::spawn(move || caller.serve());
            }
        });
        Self { port, seen: all }
    }

    fn options(&self) -> LegOptions {
        let dsn = format!("postgres://app@127.0.0.1:{}/app?sslmode=disable", self.port);
        LegOptions::new(Target::parse("stand-in", &dsn).unwrap())
    }

    /// All connections, when the last has been closed.
    fn seen(&self) -> Vec<Seen> {
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            let mut seen = self.seen.lock().unwrap().clone();
            if seen.iter().all(|seen| seen.closed.is_some()) {
                seen.sort();
                return seen;
            }
            assert!(Instant::now() < patience, "still open: {seen:?}");
            thread::yield_now();
        }
    }
}

struct Caller {
    number: usize,
    socket: TcpStream,
    seen: Arc<Mutex<Vec<Seen>>>,
    answering: Answering,
}

impl Caller {
    fn serve(mut self) {
        let closed = match self.converse() {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Closed::Rst,
            _ => Closed::Fin,
        };
        self.seen.lock().unwrap()[self.number].closed = Some(closed);
    }

    /// Until the client closes the connection.
    fn converse(&mut self) -> std::io::Result<()> {
        const CANCEL_REQUEST: &[u8] = &80_877_102_u32.to_be_bytes();
        let first = self.receive()?;
        if first.starts_with(CANCEL_REQUEST) {
            self.seen.lock().unwrap()[self.number].said.push_str("cancel");
            return Ok(());
        }
        match &self.answering {
            Answering::AllBut(most, refusal) if self.number < *most => {
                self.socket.write_all(&message(b'E', refusal))?;
                return self.socket.shutdown(std::net::Shutdown::Write);
            }
            Answering::Nothing => {}
            _ => self.socket.write_all(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07\0\0\0\x07Z\0\0\0\x05I")?,
        }
        loop {
            let mut kind = [0];
            self.socket.read_exact(&mut kind)?;
            self.seen.lock().unwrap()[self.number].said.push(char::from(kind[0]));
            self.receive()?;
            let answer: &[u8] = match kind[0] {
                b'Q' => b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I",
                b'P' => b"1\0\0\0\x04",
                b'B' => b"2\0\0\0\x04",
                b'D' => b"n\0\0\0\x04",
                b'E' => b"C\0\0\0\x0dSELECT 1\0",
                b'S' => b"Z\0\0\0\x05I",
                _ => b"",
            };
            if matches!(self.answering, Answering::All | Answering::AllBut(..)) {
                self.socket.write_all(answer)?;
            }
        }
    }

    /// A length, and so much.
    fn receive(&mut self) -> std::io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        self.socket.read_exact(&mut body)?;
        Ok(body)
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind][..], &length, body].concat()
}

/// "Too many connections", with this message and DETAIL.
fn refusal(text: &str, detail: &str) -> Vec<u8> {
    format!("SFATAL\0VFATAL\0C53300\0M{text}\0D{detail}\0\0").into_bytes()
}

/// A plan of the functions that follow its own keys.
fn plan(keys: &str) -> Arc<Plan> {
    Arc::new(Plan::parse("t", &format!("title = \"t\"\n{keys}"), Path::new(".")).unwrap())
}

/// A plan of one function, all at once.
fn all_at_once(instances: u32, function: &str) -> Arc<Plan> {
    plan(&format!(
        "duration = \"1s\"\ngrace = \"30s\"\n[[function]]\nname = \"f\"\ninstances = {instances}\n\
         arrival = {{ kind = \"at_once\" }}\n{function}"
    ))
}

async fn run(plan: &Arc<Plan>, options: &LegOptions) -> Leg {
    run_leg(plan, options, |_| (), pending()).await.unwrap()
}

fn closed(said: &str, closed: Closed) -> Seen {
    Seen { said: said.to_owned(), closed: Some(closed) }
}

#[tokio::test]
async fn instances_leave_as_the_plan_says() {
    for (how, seen) in [
        ("terminate", closed("QX", Closed::Fin)),
        ("fin", closed("Q", Closed::Fin)),
        ("rst", closed("Q", Closed::Rst)),
    ] {
        let at_the_end = format!("end = \"{how}\"");
        let midway = format!("abort = {{ after = \"100ms\", how = \"{how}\" }}");
        for (answering, leaving) in [(Answering::All, at_the_end), (Answering::Logins, midway)] {
            let server = Server::listen(answering);
            let plan = all_at_once(3, &format!("script = [\"select 1\"]\ntimeout = \"20s\"\n{leaving}"));
            let leg = run(&plan, &server.options()).await;
            assert_eq!(server.seen(), vec![seen.clone(); 3], "{leaving}: {:?}", leg.failures);
        }
    }
}

#[tokio::test]
async fn the_clients_timeout_shows_as_the_plan_says() {
    for (how, seen) in [
        ("fin", vec![closed("Q", Closed::Fin)]),
        ("rst", vec![closed("Q", Closed::Rst)]),
        ("cancel", vec![closed("Q", Closed::Fin), closed("cancel", Closed::Fin)]),
    ] {
        let server = Server::listen(Answering::Logins);
        let function = format!("script = [\"select 1\"]\ntimeout = \"1s\"\non_timeout = \"{how}\"");
        let leg = run(&all_at_once(1, &function), &server.options()).await;
        assert_eq!(server.seen(), seen, "{how}: {:?}", leg.failures);
    }
}

#[tokio::test]
async fn statements_are_sent_in_the_plans_protocol() {
    for (protocol, said) in [("simple", "QQX"), ("extended", "PBDESPBDESX"), ("prepared", "PBESBESX")] {
        let server = Server::listen(Answering::All);
        let function =
            format!("script = [\"select 1\", \"select 1\"]\nprotocol = \"{protocol}\"\nend = \"terminate\"");
        let leg = run(&all_at_once(1, &function), &server.options()).await;
        assert_eq!(server.seen(), [closed(said, Closed::Fin)], "{protocol}: {:?}", leg.failures);
    }
}

#[tokio::test]
async fn idle_instances_stay_until_the_function_stops_and_silent_ones_until_the_leg_ends() {
    let server = Server::listen(Answering::All);
    let mut plan = Plan::clone(&plan(
        "duration = \"3s\"\ngrace = \"30s\"\n\
         [[function]]\nname = \"silent\"\ninstances = 3\narrival = { kind = \"at_once\" }\n\
         script = [\"select 1\"]\nend = \"silence\"\n\
         [[function]]\nname = \"loop\"\ninstances = 2\narrival = { kind = \"closed\" }\nthink = \"60s\"\n\
         script = [\"select 1\"]\nend = \"terminate\"\n\
         [[function]]\nname = \"open\"\ninstances = 1\narrival = { kind = \"steady\", per_second = 0.3 }\n\
         script = [\"select 1\"]\nend = \"terminate\"\n",
    ));
    plan.events = vec![loadtest::plan::Event { at: "1500ms".parse().unwrap(), hook: "look".to_owned() }];
    let (seen, then) = (Arc::clone(&server.seen), Arc::new(Mutex::new(Vec::new())));
    let looked = Arc::clone(&then);
    let hooks = Hooks::new().with_call("look", move || {
        looked.lock().unwrap().clone_from(&seen.lock().unwrap());
        Ok(())
    });
    let leg = run(&Arc::new(plan), &LegOptions { hooks, ..server.options() }).await;
    assert_eq!(leg.invocations.len(), 6, "{:?}", leg.failures);
    assert_eq!(*then.lock().unwrap(), vec![Seen { said: "Q".to_owned(), closed: None }; 6]);
    let silent = vec![closed("Q", Closed::Fin); 3];
    assert_eq!(server.seen(), [silent, vec![closed("QX", Closed::Fin); 3]].concat());
}

#[tokio::test]
async fn a_client_waits_as_long_as_it_is_told_if_the_plan_honours_that() {
    for (honours, told_ms) in [(true, 700), (false, 600_000)] {
        let detail = format!("reason=queue_full retry_after_ms={told_ms}");
        let server = Server::listen(Answering::AllBut(1, refusal("full", &detail)));
        let function = format!(
            "script = [\"select 1\"]\nretries = 1\n\
             backoff = {{ base = \"1ms\", max = \"1ms\", honour_retry_after = {honours} }}"
        );
        let leg = run(&all_at_once(1, &function), &server.options()).await;
        // Whoever waited for ten minutes would not be served.
        assert_eq!(leg.invocations[0].outcome, Outcome::Served, "{:?}", leg.failures);
        assert_eq!((leg.failures[0].reason.as_str(), leg.failures.len()), ("queue_full", 1));
        let [first, second] = leg.connects[..] else { panic!("{:?}", leg.connects) };
        assert!(!honours || second.at_us - first.at_us >= 690_000, "{first:?} {second:?}");
    }
}

#[tokio::test]
async fn who_is_refused_does_not_spin_and_what_it_was_told_is_clipped() {
    let server = Server::listen(Answering::AllBut(usize::MAX, refusal(&"no ".repeat(1000), "")));
    let plan = plan(
        "duration = \"500ms\"\ngrace = \"30s\"\n[[function]]\nname = \"f\"\ninstances = 1\nretries = 1\n\
         arrival = { kind = \"closed\" }\nscript = [\"select 1\"]\nbackoff = { base = \"0s\" }",
    );
    let leg = run(&plan, &server.options()).await;
    assert!(leg.invocations.iter().all(|one| (one.outcome, one.attempts) == (Outcome::Shed, 2)));
    assert!(leg.connects.len() >= 2);
    let begun: Vec<_> = leg.connects.iter().map(|connect| connect.at_us).collect();
    assert!(begun.windows(2).all(|pair| pair[1] - pair[0] >= 9_000), "{begun:?}");
    let is_clipped = |reason: &str| reason.len() == 200 && reason.starts_with("no no ");
    assert!(leg.failures.iter().all(|one| one.kind == FailureKind::Shed && is_clipped(&one.reason)));
}

#[tokio::test]
async fn a_connect_that_the_legs_end_cuts_off_is_none() {
    let server = Server::listen(Answering::Nothing);
    let mut plan = Plan::clone(&plan(
        "duration = \"500ms\"\ngrace = \"500ms\"\n[[function]]\nname = \"f\"\ninstances = 2\ntimeout = \"500ms\"\n\
         arrival = { kind = \"at_once\" }\nscript = [\"select 1\"]",
    ));
    // More than the grace: no plan that is read may have that.
    plan.functions[0].timeout = "60s".parse().unwrap();
    let leg = run(&Arc::new(plan), &server.options()).await;
    assert_eq!(server.seen(), vec![closed("", Closed::Fin); 2]);
    assert!(leg.invocations.iter().all(|one| one.outcome == Outcome::Unfinished));
    assert_eq!((leg.connects, leg.failures), (vec![], vec![]));
}
