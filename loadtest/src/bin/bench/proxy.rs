//! The proxies that are compared: each a process of its own before the same PostgreSQL, with the same pool.

use loadtest::account::Account;
use loadtest::postgres::free_port;
use loadtest::scratch::{DIRECTORY_VARIABLE, Scratch};
use rustix::process::{Pid, Signal, kill_process};
use std::error::Error;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a proxy may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What everybody connects to.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// PostgreSQL's port on 127.0.0.1.
    pub port: u16,
    /// The role that all log in as; it has a database of the same name.
    pub user: String,
    /// Its password.
    pub password: String,
    /// What PostgreSQL stores of it (`pg_authid.rolpassword`).
    pub verifier: String,
}

impl Upstream {
    /// The URL with which a client reaches this role's database at a port of 127.0.0.1.
    pub fn url_at(&self, port: u16) -> String {
        let Self { user, password, .. } = self;
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{user}")
    }
}

/// A proxy and how to start it.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// What the report calls it.
    pub name: String,
    start: Start,
}

#[derive(Debug, Clone)]
enum Start {
    PgBouncer(PathBuf),
    /// Program and arguments. Where none has `{port}`, the arguments of `pgcorral serve` are appended.
    Command(Vec<String>),
}

impl Proxy {
    /// PgBouncer as the system's packages have it, with the settings of [`pgbouncer_settings`].
    pub fn pgbouncer(program: PathBuf) -> Self {
        Self { name: "PgBouncer".to_owned(), start: Start::PgBouncer(program) }
    }

    /// `NAME=PROGRAM ARGUMENT…`, split at spaces. `{port}`, `{admin}` (another port), `{upstream}` (a URL) and `{pool}`
    /// are replaced; without `{port}` the options of `pgcorral serve` are appended.
    ///
    /// # Errors
    /// There is no name or no program.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not NAME=PROGRAM ARGUMENT…");
        let (name, command) = text.split_once('=').ok_or_else(wrong)?;
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if name.is_empty() || words.is_empty() {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), start: Start::Command(words) })
    }

    /// What it says its version is: the first line of `--version`.
    pub fn version(&self) -> String {
        let mut command = match &self.start {
            Start::PgBouncer(program) => Command::new(program),
            Start::Command(words) => Command::new(words.first().map_or("", String::as_str)),
        };
        let output = command.arg("--version").output();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or("unknown").to_owned()
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// It cannot be started, or ends at once; then with what it printed.
    pub fn start(&self, upstream: &Upstream, pool_size: u32) -> Result<RunningProxy, Box<dyn Error>> {
        let (scratch, mut command, port) = self.prepare(upstream, pool_size)?;
        let log = File::create(scratch.path().join("log"))?;
        let child = command
            .env(DIRECTORY_VARIABLE, scratch.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.name))?;
        // The janitor of the directory ends it should we be killed.
        fs::write(scratch.path().join("proxy.pid"), format!("{}\n", child.id()))?;
        let mut running = RunningProxy { name: self.name.clone(), port, child, scratch };
        running.wait_until_it_listens()?;
        Ok(running)
    }

    fn prepare(
        &self,
        upstream: &Upstream,
        pool_size: u32,
    ) -> Result<(Scratch, Command, u16), Box<dyn Error>> {
        let port = free_port()?;
        match &self.start {
            Start::PgBouncer(program) => {
                // It refuses root as PostgreSQL does.
                let account = Account::for_servers()?;
                let scratch = Scratch::create(account.as_ref())?;
                let settings = scratch.path().join("pgbouncer.ini");
                let users = scratch.path().join("users");
                fs::write(
                    &settings,
                    pgbouncer_settings(upstream, port, pool_size, &users.to_string_lossy()),
                )?;
                fs::write(&users, format!("\"{}\" \"{}\"\n", upstream.user, upstream.verifier))?;
                let mut command = Command::new(program);
                command.arg(settings).current_dir(scratch.path());
                if let Some(account) = account {
                    account.assign(&mut command);
                }
                Ok((scratch, command, port))
            }
            Start::Command(words) => {
                let arguments = fill_in(words, upstream, port, free_port()?, pool_size);
                let (program, arguments) = arguments.split_first().ok_or("no program")?;
                let mut command = Command::new(program);
                command.args(arguments);
                Ok((Scratch::create(None)?, command, port))
            }
        }
    }
}

/// The same pool, the same kind of login on both sides, no line in the log per connection, room for the idle clients.
/// PgBouncer gets the stored verifier instead of the password: from a password it derives the key anew at every login
/// (some 4 ms of CPU in 1.18), and a comparison with that would flatter everybody else.
fn pgbouncer_settings(upstream: &Upstream, port: u16, pool_size: u32, users: &str) -> String {
    let Upstream { port: upstream_port, user, .. } = upstream;
    format!(
        "[databases]\n\
         {user} = host=127.0.0.1 port={upstream_port} dbname={user}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = scram-sha-256\n\
         auth_file = {users}\n\
         pool_mode = transaction\n\
         default_pool_size = {pool_size}\n\
         max_client_conn = 12000\n\
         listen_backlog = 4096\n\
         log_connections = 0\n\
         log_disconnections = 0\n\
         log_stats = 0\n"
    )
}

fn fill_in(words: &[String], upstream: &Upstream, port: u16, admin: u16, pool_size: u32) -> Vec<String> {
    let mut words = words.to_vec();
    if !words.iter().any(|word| word.contains("{port}")) {
        let options =
            "--upstream {upstream} --pool-size {pool} --listen 127.0.0.1:{port} --admin 127.0.0.1:{admin}";
        words.extend(options.split(' ').map(str::to_owned));
    }
    let fill = |word: String| {
        word.replace("{port}", &port.to_string())
            .replace("{admin}", &admin.to_string())
            .replace("{pool}", &pool_size.to_string())
            .replace("{upstream}", &upstream.url_at(upstream.port))
    };
    words.into_iter().map(fill).collect()
}

/// A proxy that listens; ended when it is dropped.
#[derive(Debug)]
pub struct RunningProxy {
    /// As in [`Proxy`].
    pub name: String,
    /// Its port on 127.0.0.1.
    pub port: u16,
    child: Child,
    scratch: Scratch,
}

impl RunningProxy {
    /// Its process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it printed last, for errors.
    pub fn log_tail(&self) -> String {
        let log = fs::read(self.scratch.path().join("log")).unwrap_or_default();
        let tail = log.get(log.len().saturating_sub(2000)..).unwrap_or_default();
        String::from_utf8_lossy(tail).into_owned()
    }

    fn wait_until_it_listens(&mut self) -> Result<(), Box<dyn Error>> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE && self.child.try_wait()?.is_none() {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        Err(format!("{} does not listen; it printed:\n{}", self.name, self.log_tail()).into())
    }
}

impl Drop for RunningProxy {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(20));
            // PgBouncer, and proxies that drain, wait for clients on the first signal.
            if asked.elapsed() > PATIENCE / 10 {
                let _ = kill_process(Pid::from_child(&self.child), Signal::QUIT);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> Upstream {
        Upstream {
            port: 20001,
            user: "app".to_owned(),
            password: "secret".to_owned(),
            verifier: String::new(),
        }
    }

    fn words_of(text: &str) -> Vec<String> {
        match Proxy::parse(text).unwrap().start {
            Start::Command(words) => words,
            Start::PgBouncer(_) => panic!("{text} is no PgBouncer"),
        }
    }

    #[test]
    fn the_options_of_pgcorral_are_appended() {
        let filled = fill_in(&words_of("one=./pgcorral serve --log warn"), &upstream(), 7, 8, 20).join(" ");
        let expected = "./pgcorral serve --log warn --upstream postgres://app:secret@127.0.0.1:20001/app \
                        --pool-size 20 --listen 127.0.0.1:7 --admin 127.0.0.1:8";
        assert_eq!(filled, expected);
    }

    #[test]
    fn placeholders_are_replaced_and_then_nothing_is_appended() {
        let filled =
            fill_in(&words_of("other=./relay --to {upstream} {port}"), &upstream(), 7, 8, 20).join(" ");
        assert_eq!(filled, "./relay --to postgres://app:secret@127.0.0.1:20001/app 7");
    }

    #[test]
    fn a_proxy_needs_a_name_and_a_program() {
        for text in ["", "name", "=program", "name= "] {
            assert!(Proxy::parse(text).is_err(), "{text:?}");
        }
    }
}
