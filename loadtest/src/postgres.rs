//! A throw-away PostgreSQL server: own directory, own free port, own superuser, gone without a trace afterwards.
//!
//! The tests, the demo and the benchmark stand on it. It never touches another server of the machine: everything it
//! starts listens on a port that was free and on a socket in its own directory, and everything it stops is its own
//! child. All calls block; from asynchronous code use them at set-up and tear-down.

use crate::account::Account;
use crate::binaries;
use crate::scratch::Scratch;
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the server may take to start, and to stop, before it counts as failed. Generous: a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the start and the end of the server are looked for.
const GLANCE: Duration = Duration::from_millis(10);

/// Below Linux's range of ports for outgoing connections, so that no storm of clients takes the port during a restart.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Another process may take a port between the look and the start.
const PORT_ATTEMPTS: u32 = 5;

/// What is logged is shown from its end, at most so many bytes.
const LOG_TAIL_BYTES: usize = 4096;

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// `max_connections`, the superuser's reserve included.
    pub max_connections: u32,
    /// `superuser_reserved_connections`.
    pub superuser_reserved: u32,
    /// More lines for `postgresql.conf`: name and value (quoted by us); the last of a name wins, also over ours.
    pub settings: Vec<(String, String)>,
    /// How everybody logs in.
    pub hba: Hba,
    /// Lines of `pg_hba.conf` that come before the one that [`hba`](Self::hba) makes.
    pub hba_lines: Vec<String>,
    /// Certificate chain and key, PEM files: `ssl = on`. Plain connections stay allowed.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            max_connections: 60,
            superuser_reserved: 3,
            settings: Vec::new(),
            hba: Hba::Scram,
            hba_lines: Vec::new(),
            tls: None,
        }
    }
}

/// How clients prove who they are (`pg_hba.conf`), on TCP and on the socket alike. Passwords are stored to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hba {
    /// `scram-sha-256`
    #[default]
    Scram,
    /// `md5`, with passwords stored as MD5
    Md5,
    /// `password`: in the clear
    Password,
    /// `trust`: not at all
    Trust,
}

impl Hba {
    fn method(self) -> &'static str {
        match self {
            Self::Scram => "scram-sha-256",
            Self::Md5 => "md5",
            Self::Password => "password",
            Self::Trust => "trust",
        }
    }

    fn password_encryption(self) -> &'static str {
        if self == Self::Md5 { "md5" } else { "scram-sha-256" }
    }
}

/// Why a server could not be had.
#[derive(Debug)]
pub enum ClusterError {
    /// The machine has no PostgreSQL server.
    NotInstalled,
    /// A file or process operation failed.
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// `initdb` failed.
    Initdb {
        /// What it printed.
        output: String,
    },
    /// The server ended, or was not ready in time.
    Start {
        /// The end of its log.
        log: String,
    },
    /// `psql` failed, or the statement did.
    Psql {
        /// What it printed.
        output: String,
    },
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled => write!(
                f,
                "no PostgreSQL server found; install one with `apt-get install postgresql` or `brew install postgresql`, \
                 or name the directory of `initdb` and `postgres` in {}",
                binaries::DIRECTORY_VARIABLE
            ),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
            Self::Initdb { output } => write!(f, "initdb failed:\n{output}"),
            Self::Start { log } => write!(f, "PostgreSQL did not start; the end of its log:\n{log}"),
            Self::Psql { output } => write!(f, "psql failed: {output}"),
        }
    }
}

impl std::error::Error for ClusterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A running server (a *cluster*, in PostgreSQL's words: one data directory). Dropping it stops it and removes every
/// file; should its process be killed, a janitor does the same.
#[derive(Debug)]
pub struct Cluster {
    server: Option<Child>,
    port: u16,
    password: String,
    binaries: PathBuf,
    account: Option<Account>,
    scratch: Scratch,
}

impl Cluster {
    /// The name of the superuser.
    pub const SUPERUSER: &str = "postgres";

    /// Makes a data directory and starts a server on it; returns when it accepts connections.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        let binaries = binaries::find_server().ok_or(ClusterError::NotInstalled)?;
        let account = Account::for_servers().map_err(doing("looking for an account"))?;
        let scratch = Scratch::create(account.as_ref()).map_err(doing("making a directory"))?;
        let password = random_password().map_err(doing("making a password"))?;
        let mut cluster = Self { server: None, port: 0, password, binaries, account, scratch };
        cluster.initialize(&options)?;
        cluster.start_on_free_port()?;
        Ok(cluster)
    }

    /// The TCP port on 127.0.0.1; the same after [`start_again`](Self::start_again).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the unix socket (what libpq takes as `host`).
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The superuser's password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The directory of the server's programs, for `pgbench` and friends.
    #[must_use]
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// The server's main process, if it was started and not stopped since.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// `postgres://user:password@127.0.0.1:port/database`, each part percent-encoded.
    #[must_use]
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        let [user, password, database] = [user, password, database].map(percent_encode);
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The superuser's URL for a database.
    #[must_use]
    pub fn superuser_url(&self, database: &str) -> String {
        self.url(Self::SUPERUSER, &self.password, database)
    }

    /// Stops the server as a crash would (SIGQUIT, `pg_ctl -m immediate`): no checkpoint, every client cut off.
    pub fn stop_immediately(&mut self) {
        self.stop(Signal::QUIT);
    }

    /// Stops the server in order (SIGINT, `pg_ctl -m fast`): transactions are rolled back, clients told 57P01.
    pub fn stop_fast(&mut self) {
        self.stop(Signal::INT);
    }

    /// Starts a stopped server again: same port, same data.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub fn start_again(&mut self) -> Result<(), ClusterError> {
        self.stop_fast();
        self.spawn()?;
        self.wait_until_ready()
    }

    /// Runs SQL as the superuser with `psql`; returns the rows, unaligned, without headings and the last newline.
    ///
    /// # Errors
    /// [`ClusterError::Psql`] with what `psql` printed.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, ClusterError> {
        let program = binaries::find_program(&self.binaries, "psql").ok_or(ClusterError::NotInstalled)?;
        let output = self
            .command(&program)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, &self.superuser_url(database)])
            .env("PGCONNECT_TIMEOUT", "10")
            .output()
            .map_err(doing("running psql"))?;
        if !output.status.success() {
            return Err(ClusterError::Psql { output: String::from_utf8_lossy(&output.stderr).into_owned() });
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// The end of the server's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        let tail = log.get(log.len().saturating_sub(LOG_TAIL_BYTES)..).unwrap_or_default();
        String::from_utf8_lossy(tail).into_owned()
    }

    fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    /// A command that sees nothing of our environment's PostgreSQL settings, and runs as the right account.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").current_dir(self.scratch.path()).stdin(Stdio::null()).process_group(0);
        if let Some(account) = &self.account {
            account.assign(&mut command);
        }
        command
    }

    fn initialize(&self, options: &ClusterOptions) -> Result<(), ClusterError> {
        let password_file = self.scratch.path().join("password");
        self.write_private(&password_file, self.password.as_bytes())?;
        let output = self
            .command(&self.binaries.join("initdb"))
            .args(["--no-sync", "--no-locale", "--encoding=UTF8", "--username", Self::SUPERUSER])
            .args(["--auth", options.hba.method()])
            .arg("--pwfile")
            .arg(&password_file)
            .arg("--pgdata")
            .arg(self.data())
            .output()
            .map_err(doing("running initdb"))?;
        if !output.status.success() {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            return Err(ClusterError::Initdb { output: text });
        }
        fs::remove_file(&password_file).map_err(doing("removing the password file"))?;
        self.configure(options)
    }

    fn configure(&self, options: &ClusterOptions) -> Result<(), ClusterError> {
        let data = self.data();
        let mut settings = own_settings(options, self.scratch.path());
        if let Some((certificate, key)) = &options.tls {
            for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
                let pem = fs::read(from).map_err(doing("reading a certificate or its key"))?;
                self.write_private(&data.join(name), &pem)?;
            }
            settings.push(("ssl".to_owned(), "on".to_owned()));
        }
        settings.extend(options.settings.iter().cloned());
        OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))
            .and_then(|mut file| file.write_all(conf_lines(&settings).as_bytes()))
            .map_err(doing("writing postgresql.conf"))?;
        fs::write(data.join("pg_hba.conf"), hba_lines(options)).map_err(doing("writing pg_hba.conf"))
    }

    /// Writes a file that only the server's account can read (PostgreSQL insists on that for keys).
    fn write_private(&self, path: &Path, content: &[u8]) -> Result<(), ClusterError> {
        use std::os::unix::fs::OpenOptionsExt;
        let failed = doing("writing a private file");
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(content))
            .and_then(|()| self.account.as_ref().map_or(Ok(()), |account| account.own(path)));
        written.map_err(failed)
    }

    fn start_on_free_port(&mut self) -> Result<(), ClusterError> {
        let mut last = ClusterError::Start { log: "no free port found".to_owned() };
        for _ in 0..PORT_ATTEMPTS {
            self.port = free_port().map_err(doing("looking for a free port"))?;
            self.spawn()?;
            match self.wait_until_ready() {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            self.stop_immediately();
            if !self.log_tail().contains("Address already in use") {
                break;
            }
        }
        Err(last)
    }

    /// Starts `postgres` as our direct child, in a process group of its own: Ctrl-C in a terminal is not meant for it.
    fn spawn(&mut self) -> Result<(), ClusterError> {
        let failed = || doing("opening the server's log");
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).map_err(failed())?;
        let also_log = log.try_clone().map_err(failed())?;
        let child = self
            .command(&self.binaries.join("postgres"))
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()])
            .stdout(log)
            .stderr(also_log)
            .spawn()
            .map_err(doing("starting postgres"))?;
        self.server = Some(child);
        Ok(())
    }

    /// The eighth line of `postmaster.pid` says `ready` once connections are accepted; `pg_ctl` looks there, too
    /// (`src/include/utils/pidfile.h`). A file that a crash left names another process in its first line.
    fn wait_until_ready(&mut self) -> Result<(), ClusterError> {
        let started = Instant::now();
        let file = self.data().join("postmaster.pid");
        while started.elapsed() < PATIENCE {
            let Some(server) = &mut self.server else { break };
            if server.try_wait().map_err(doing("waiting for postgres"))?.is_some() {
                self.server = None;
                break;
            }
            if fs::read_to_string(&file).is_ok_and(|text| says_ready(&text, server.id())) {
                return Ok(());
            }
            sleep(GLANCE);
        }
        Err(ClusterError::Start { log: self.log_tail() })
    }

    /// Signals the server and waits for its end; the main process outlives its backends.
    fn stop(&mut self, signal: Signal) {
        let Some(mut server) = self.server.take() else { return };
        let _ = kill_process(Pid::from_child(&server), signal);
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            match server.try_wait() {
                Ok(None) => sleep(GLANCE),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        let _ = server.kill();
        let _ = server.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop_immediately();
    }
}

/// Any one port of 127.0.0.1 that nothing listens on now, outside the range of outgoing connections.
///
/// # Errors
/// All were taken, or the system has no sockets left.
pub fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = u32::from(PORTS.end - PORTS.start);
    // Where to begin differs between processes, so that several at once rarely try the same port.
    let begin = std::process::id().wrapping_mul(37);
    for _ in 0..range {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % range;
        let port = PORTS.start + u16::try_from(offset).unwrap_or(0);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from(io::ErrorKind::AddrInUse))
}

fn doing(what: &'static str) -> impl FnOnce(io::Error) -> ClusterError {
    move |source| ClusterError::Io { doing: what, source }
}

fn says_ready(pid_file: &str, server: u32) -> bool {
    let mut lines = pid_file.lines();
    lines.next().and_then(|line| line.trim().parse().ok()) == Some(server)
        && lines.nth(6).is_some_and(|status| status.trim() == "ready")
}

/// What every throw-away server has: no disk flushes (what was committed survives a crash of the server, not of the
/// machine), no network but loopback, no background work that disturbs figures.
fn own_settings(options: &ClusterOptions, socket_dir: &Path) -> Vec<(String, String)> {
    let socket_dir = socket_dir.to_string_lossy();
    [
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", &socket_dir),
        ("max_connections", &options.max_connections.to_string()),
        ("superuser_reserved_connections", &options.superuser_reserved.to_string()),
        ("password_encryption", options.hba.password_encryption()),
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("autovacuum", "off"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

fn conf_lines(settings: &[(String, String)]) -> String {
    settings.iter().fold("\n".to_owned(), |mut text, (name, value)| {
        let quoted = value.replace('\\', "\\\\").replace('\'', "''");
        let _ = writeln!(text, "{name} = '{quoted}'");
        text
    })
}

fn hba_lines(options: &ClusterOptions) -> String {
    let method = options.hba.method();
    let mut lines = options.hba_lines.clone();
    lines.push(format!("local all all {method}"));
    lines.push(format!("host all all all {method}"));
    lines.join("\n") + "\n"
}

/// 96 bits of the system's randomness in hexadecimal.
fn random_password() -> io::Result<String> {
    let mut bytes = [0_u8; 12];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// RFC 3986: everything but the unreserved characters.
pub(crate) fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_survive_odd_passwords() {
        assert_eq!(percent_encode("p@ss/wörd:1%~"), "p%40ss%2Fw%C3%B6rd%3A1%25~");
    }

    #[test]
    fn settings_are_quoted() {
        let settings = [("search_path".to_owned(), "a'b\\c".to_owned())];
        assert_eq!(conf_lines(&settings), "\nsearch_path = 'a''b\\\\c'\n");
    }

    #[test]
    fn special_hba_lines_come_first() {
        let options = ClusterOptions {
            hba: Hba::Md5,
            hba_lines: vec!["host all guest all trust".to_owned()],
            ..ClusterOptions::default()
        };
        assert_eq!(
            hba_lines(&options),
            "host all guest all trust\nlocal all all md5\nhost all all all md5\n"
        );
    }

    #[test]
    fn ready_is_the_eighth_line_and_counts_for_our_own_process_only() {
        let file = "42\n/data\n1700000000\n20001\n/sock\n127.0.0.1\n1 2\nready   \n";
        assert!(says_ready(file, 42));
        assert!(!says_ready(file, 43));
        assert!(!says_ready(&file.replace("ready   ", "starting"), 42));
    }
}
