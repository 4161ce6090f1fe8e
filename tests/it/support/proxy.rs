//! The proxy as a process of its own: configured, started, observed, and always reaped.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::ground::eventually;
use super::wire::{PATIENCE, Wire};

/// The binary under test: this build's, or another one (a release build) that `PGCORRAL_BINARY` names.
pub fn program() -> String {
    std::env::var("PGCORRAL_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pgcorral").to_owned())
}

/// What a test wants of the proxy. `None` leaves the default.
#[derive(Debug, Clone, Default)]
pub struct ProxyOptions {
    /// Databases that clients can name.
    pub databases: Vec<Database>,
    /// Where clients connect, instead of a free port: the path of a socket, say.
    pub listen: Option<String>,
    /// Where the admin address is, instead of a free port.
    pub admin: Option<SocketAddr>,
    /// What has to be known to see its figures.
    pub admin_token: Option<String>,
    /// Longest wait in the queue.
    pub max_wait: Option<String>,
    /// Most clients.
    pub max_clients: Option<usize>,
    /// Most clients of each user.
    pub max_user_clients: Option<usize>,
    /// Most logins under way at once.
    pub max_handshakes: Option<usize>,
    /// Longest login.
    pub login_timeout: Option<String>,
    /// Most connections to PostgreSQL over all pools.
    pub max_server_connections: Option<usize>,
    /// Longest drain.
    pub drain_timeout: Option<String>,
    /// How clients log in.
    pub auth: Option<String>,
    /// PEM files of the certificate chain and the key that clients are offered.
    pub tls: Option<(String, String)>,
    /// Soft limit of open files (`ulimit -n`).
    pub max_files: Option<u32>,
    /// The log's level, on the command line: `info`, `trace`.
    pub log: Option<String>,
    /// The same in the file.
    pub log_setting: Option<String>,
    /// More lines for `[limits]`, as they stand in the file.
    pub limits_extra: Vec<String>,
    /// More lines for `[timeouts]`.
    pub timeouts_extra: Vec<String>,
    /// Whole sections, as they stand in the file.
    pub sections: Vec<String>,
}

/// A database of the proxy.
#[derive(Debug, Clone)]
pub struct Database {
    /// What clients name.
    pub name: String,
    /// PostgreSQL's port.
    pub port: u16,
    /// The name at PostgreSQL.
    pub server_database: String,
    /// All of the upstream's URL, instead of what the fields around say.
    pub upstream: Option<String>,
    /// As whom the server connections log in. None: as the client.
    pub upstream_login: Option<(String, String)>,
    /// Most server connections per user.
    pub pool_size: usize,
    /// `transaction`, `session`, `statement`.
    pub mode: String,
    /// Most server connections over all users.
    pub max_connections: Option<usize>,
    /// Most clients over all users.
    pub max_clients: Option<usize>,
    /// Who may log in: name and password (or SCRAM verifier).
    pub users: Vec<(String, String)>,
    /// More lines for its section, as they stand in the file.
    pub extra: Vec<String>,
    /// What happens for each reason to keep a server connection: `listen`, `warn`.
    pub pins: Vec<(String, String)>,
}

impl ProxyOptions {
    /// These databases, all else by default.
    pub fn new(databases: Vec<Database>) -> Self {
        Self { databases, ..Self::default() }
    }

    /// The configuration file; `config/pgcorral.toml` says what the keys mean.
    pub fn toml(&self) -> String {
        let listen = self.listen.as_deref().unwrap_or("127.0.0.1:0");
        let admin = self.admin.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut text = format!(
            "listen = [{listen:?}]
admin = \"{admin}\"
"
        );
        if let Some(token) = &self.admin_token {
            let _ = writeln!(text, "admin_token = {token:?}");
        }
        if let Some(levels) = &self.log_setting {
            let _ = writeln!(text, "log = {levels:?}");
        }
        let auth = self.auth.as_deref().unwrap_or("scram-sha-256");
        let _ = writeln!(text, "[auth]\nauth_type = {auth:?}\n[limits]");
        if let Some(clients) = self.max_clients {
            let _ = writeln!(text, "max_clients = {clients}");
        }
        if let Some(handshakes) = self.max_handshakes {
            let _ = writeln!(text, "max_handshakes = {handshakes}");
        }
        write_lines(&mut text, &self.limits_extra);
        let _ = writeln!(text, "[timeouts]");
        let timeouts = [
            ("query_wait_timeout", &self.max_wait),
            ("client_login_timeout", &self.login_timeout),
            ("drain_timeout", &self.drain_timeout),
        ];
        for (key, value) in timeouts {
            if let Some(value) = value {
                let _ = writeln!(text, "{key} = {value:?}");
            }
        }
        write_lines(&mut text, &self.timeouts_extra);
        if let Some((cert, key)) = &self.tls {
            let _ =
                writeln!(text, "[client_tls]\nmode = \"prefer\"\ncert_file = {cert:?}\nkey_file = {key:?}");
        }
        self.databases.iter().for_each(|database| database.write(&mut text));
        self.write_users(&mut text);
        write_lines(&mut text, &self.sections);
        if let (Some(bound), Some(database)) = (self.max_server_connections, self.databases.first()) {
            let _ = writeln!(text, "[upstreams.\"127.0.0.1:{}\"]\nmax_connections = {bound}", database.port);
        }
        text
    }

    fn write_users(&self, text: &mut String) {
        let mut users: Vec<&(String, String)> =
            self.databases.iter().flat_map(|database| &database.users).collect();
        users.sort();
        users.dedup();
        for (name, password) in users {
            let _ = writeln!(text, "[users.{name}]\npassword = {password:?}");
            if let Some(clients) = self.max_user_clients {
                let _ = writeln!(text, "max_clients = {clients}");
            }
        }
    }
}

impl Database {
    fn write(&self, text: &mut String) {
        let Self { name, port, server_database, pool_size, mode, .. } = self;
        let user = self.upstream_login.as_ref().map(|(user, password)| format!("{user}:{password}@"));
        let user = user.unwrap_or_default();
        let own = || format!("postgres://{user}127.0.0.1:{port}/{server_database}?sslmode=disable");
        let upstream = self.upstream.clone().unwrap_or_else(own);
        let _ = writeln!(text, "[databases.{name}]\nupstream = {upstream:?}");
        let _ = writeln!(text, "pool_size = {pool_size}\npool_mode = {mode:?}");
        if let Some(bound) = self.max_connections {
            let _ = writeln!(text, "max_db_connections = {bound}");
        }
        if let Some(clients) = self.max_clients {
            let _ = writeln!(text, "max_clients = {clients}");
        }
        write_lines(text, &self.extra);
        if !self.pins.is_empty() {
            let _ = writeln!(text, "[databases.{name}.pins]");
        }
        for (reason, policy) in &self.pins {
            let _ = writeln!(text, "{reason} = {policy:?}");
        }
    }
}

fn write_lines(text: &mut String, lines: &[String]) {
    lines.iter().for_each(|line| *text += &format!("{line}\n"));
}

/// What `pgcorral check --connect` printed, and how it ended.
#[derive(Debug)]
pub struct Checked {
    /// Its exit code.
    pub code: Option<i32>,
    /// The report.
    pub stdout: String,
    /// Errors and log.
    pub stderr: String,
}

/// Runs `pgcorral check --connect` on a configuration file with this text.
pub fn check(toml: &str) -> Checked {
    let config = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
    std::fs::write(config.path(), toml).expect("write the configuration");
    let mut command = Command::new(program());
    command.args(["check", "--connect", "--config"]).arg(config.path()).stdin(Stdio::null());
    let output = command.output().expect("run pgcorral check");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    // Behind the line that the file is sound.
    let report = text(output.stdout).lines().skip(1).fold(String::new(), |text, line| text + line + "\n");
    Checked { code: output.status.code(), stdout: report, stderr: text(output.stderr) }
}

/// A running proxy. Dropping it kills it; if the test is failing, its log is printed.
pub struct Proxy {
    /// Where clients connect, unless it listens on a socket's path.
    pub address: SocketAddr,
    /// Where metrics and health are.
    pub admin: SocketAddr,
    child: Child,
    log: Arc<Mutex<String>>,
    collector: Option<JoinHandle<()>>,
    config: tempfile::NamedTempFile,
}

impl Proxy {
    /// Starts the proxy and waits until it is ready; panics with its log if it does not get there.
    pub fn start(options: &ProxyOptions) -> Self {
        let config = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
        std::fs::write(config.path(), options.toml()).expect("write the configuration");
        let mut command = match options.max_files {
            None => Command::new(program()),
            Some(files) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), &program()]);
                shell
            }
        };
        if let Some(level) = &options.log {
            command.args(["--log", level]);
        }
        command.args(["serve", "--config"]).arg(config.path());
        Self::launch(command, config)
    }

    /// Starts it by a command line of one's own.
    pub fn start_command(command: Command) -> Self {
        Self::launch(command, tempfile::NamedTempFile::new().expect("a file"))
    }

    fn launch(mut command: Command, config: tempfile::NamedTempFile) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the proxy");
        let log = Arc::new(Mutex::new(String::new()));
        let collector = Some(collect(child.stderr.take().expect("piped"), Arc::clone(&log)));
        let lines = lines_of(child.stdout.take().expect("piped"));
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut proxy = Self { address: nowhere, admin: nowhere, child, log, collector, config };
        proxy.wait_until_ready(&lines);
        proxy
    }

    fn wait_until_ready(&mut self, lines: &Receiver<String>) {
        loop {
            let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the proxy did not get ready"));
            if let Some(address) = line.strip_prefix("listening on ") {
                if !address.starts_with("unix:") {
                    self.address = address.parse().expect("an address");
                }
            } else if let Some(address) = line.strip_prefix("admin on ") {
                self.admin = address.parse().expect("an address");
            } else if line == "ready" {
                return;
            }
        }
    }

    /// The process that was started: the proxy, or what has started it.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory (`/proc/PID/status`).
    pub fn resident_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it is running");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic while logging").clone()
    }

    /// Ends it in order and returns everything that it has logged, its last words included.
    pub fn into_whole_log(mut self) -> String {
        self.signal(Signal::TERM);
        self.wait();
        self.collector.take().expect("taken only here").join().expect("it only reads");
        self.log()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let from = log.lines().count().saturating_sub(lines);
        log.lines().skip(from).fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }

    /// CPU time used so far, user and system (`/proc/PID/stat`, in ticks of 10 ms).
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it is running");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Gives it another configuration, and waits until it has looked at it. Whether it was taken over.
    pub fn reload(&self, toml: &str) -> bool {
        let count = |result: &str| self.metric(&format!("pgcorral_reloads_total{{result=\"{result}\"}}"));
        let before = (count("ok"), count("failed"));
        std::fs::write(self.config.path(), toml).expect("write the configuration");
        self.signal(Signal::HUP);
        eventually("it has looked at it", || (count("ok"), count("failed")) != before);
        count("ok") > before.0
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the proxy is running");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let limit = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            assert!(Instant::now() < limit, "the proxy did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// `GET path` from the admin address: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut wire = Wire::connect(self.admin).expect("connect to the admin address");
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        wire.send(request.as_bytes()).expect("send a request");
        let mut reply = String::new();
        wire.socket().read_to_string(&mut reply).expect("a reply");
        let status = reply.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        (status, reply.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
    }

    /// The value of a metric, summed over the series whose line begins with this.
    pub fn metric(&self, prefix: &str) -> f64 {
        let (_, body) = self.get("/metrics");
        let lines = body.lines().filter(|line| line.starts_with(prefix));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the proxy's log:\n{}", self.log_tail(60));
        }
    }
}

/// Keeps a log for ever growing; the proxy never has to wait for us.
fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut chunk) {
            let Ok(mut log) = into.lock() else { return };
            log.push_str(&String::from_utf8_lossy(&chunk[..n]));
        }
    })
}

fn lines_of(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // Nobody listens any more once it is ready; the pipe is drained all the same.
            let _ = sender.send(line);
        }
    });
    receiver
}
