//! The images, run by `buildah` in another root: a process with the image's files, user and command, on this machine's network.
//!
//! `scripts/test-container.sh` builds them and names its `buildah` in `PGCORRAL_BUILDAH`.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use loadtest::postgres::free_port;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;

use super::{words, yaml};
use crate::Test;
use crate::support::ground::{Ground, Tenant, eventually};
use crate::support::proxy::{Proxy, ProxyOptions};

pub const TESTS: &[Test] = &[
    ("are_small_and_hold_no_more_than_they_say", |_| small()),
    ("proxy_serves_and_drains", serves),
    ("proxy_reads_a_mounted_file", mounted),
    ("load_test_fires_at_the_proxy", fires),
];

/// What was promised.
const MOST_BYTES: u64 = 40_000_000;

/// The user of the images.
const USER: u32 = 65532;

fn buildah() -> Command {
    let program =
        std::env::var("PGCORRAL_BUILDAH").expect("run scripts/test-container.sh, which builds the images");
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

#[track_caller]
fn said(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("run buildah");
    assert!(status.success(), "{command:?}: {status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text").trim_end().to_owned()
}

/// A container of an image, made but not running. Dropping it removes it.
struct Container {
    name: String,
    config: Value,
}

impl Container {
    fn of(image: &str) -> Self {
        let name = said(buildah().args(["from", "--pull-never", &format!("localhost/{image}:test")]));
        let all: Value = serde_json::from_str(&said(buildah().args(["inspect", &name]))).expect("JSON");
        Self { name, config: all["Docker"]["config"].clone() }
    }

    /// Its own command, or with these arguments.
    fn run(&self, options: &[String], arguments: Option<&[String]>) -> Command {
        let mut command = buildah();
        let arguments = arguments.map_or_else(|| words(&self.config["Cmd"]), <[String]>::to_vec);
        command
            .arg("run")
            .args(options)
            .args([&self.name, "--"])
            .args(words(&self.config["Entrypoint"]))
            .args(arguments);
        command
    }

    /// What its health check says, as an engine would ask; with one more argument, if there is one.
    fn health(&self, options: &[String], more: Option<&str>) -> (bool, String) {
        let test = words(&self.config["Healthcheck"]["Test"]);
        assert_eq!(test[0], "CMD");
        let mut command = buildah();
        let Output { status, stdout, stderr } = command
            .arg("run")
            .args(options)
            .args([&self.name, "--"])
            .args(&test[1..])
            .args(more)
            .output()
            .expect("run buildah");
        (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = buildah().args(["rm", &self.name]).output();
    }
}

/// The program itself, behind the processes that buildah puts in front of it.
fn innermost(mut process: u32) -> u32 {
    let parent = |process: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all = || {
        std::fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
    };
    while let Some(child) = all().find(|&child| parent(child) == Some(process)) {
        process = child;
    }
    process
}

/// As an engine stops a container. To the kernel the users of an ordinary user's containers are others, and only buildah may
/// signal them.
fn stop(container: &Container, process: u32) {
    assert_eq!(container.config["StopSignal"], "SIGTERM");
    if geteuid().is_root() {
        let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(process, Signal::TERM).expect("it runs");
    } else {
        said(buildah().args(["unshare", "kill", "-s", "TERM", &process.to_string()]));
    }
}

/// The user of a process, as a container of root sees it.
fn user_of(process: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("Uid");
    line.split_whitespace().next().expect("a number").parse().expect("a number")
}

fn variables(variables: &[(&str, &str)]) -> Vec<String> {
    variables.iter().map(|(name, value)| format!("--env={name}={value}")).collect()
}

/// By name, so that it is looked up as in a network of containers.
fn upstream(ground: &Ground, tenant: &Tenant) -> String {
    format!("postgres://{0}:{1}@localhost:{2}/{0}", tenant.name, tenant.password, ground.cluster().port())
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port().expect("a free port"))
}

fn small() {
    for image in ["pgcorral", "loadtest"] {
        let all = said(buildah().args(["inspect", "--type", "image", &format!("localhost/{image}:test")]));
        let all: Value = serde_json::from_str(&all).expect("JSON");
        let manifest: Value =
            serde_json::from_str(all["Manifest"].as_str().expect("a manifest")).expect("JSON");
        // Not compressed, as they lie in the storage; in a registry they are smaller.
        let layers = manifest["layers"].as_array().expect("layers");
        let bytes: u64 = layers.iter().map(|layer| layer["size"].as_u64().expect("a size")).sum();
        println!("{image}: {:.1} MB", bytes as f64 / 1e6);
        assert!((1_000_000..MOST_BYTES).contains(&bytes), "{image}: {bytes} bytes");
        assert_eq!(all["Docker"]["config"]["User"], format!("{USER}:{USER}"));
    }
    // Nothing but the program can be run.
    let container = Container::of("pgcorral");
    for program in ["/bin/sh", "/bin/ls", "/usr/bin/perl", "/usr/bin/loadtest"] {
        let run = buildah().args(["run", &container.name, "--", program]).output().expect("run buildah");
        assert!(!run.status.success(), "{program} is there");
    }
    let version = said(&mut container.run(&[], Some(&["--version".to_owned()])));
    assert_eq!(version, format!("pgcorral {}", env!("CARGO_PKG_VERSION")));
}

fn serves(ground: &Ground) {
    let tenant = ground.tenant("container");
    let container = Container::of("pgcorral");
    let options = variables(&[
        ("PGCORRAL_UPSTREAM", &upstream(ground, &tenant)),
        ("PGCORRAL_POOL_SIZE", "3"),
        // The ports of the image's file may be somebody else's on the network of this machine.
        ("PGCORRAL_LISTEN", "127.0.0.1:0"),
        ("PGCORRAL_ADMIN", &free_address()),
    ]);
    let (healthy, answer) = container.health(&options, None);
    assert!(!healthy && answer.contains("Connection refused"), "{answer}");

    let mut proxy = Proxy::start_command(container.run(&options, None));
    let process = innermost(proxy.process_id());
    let user = user_of(process);
    if geteuid().is_root() {
        assert_eq!(user, USER);
    } else {
        assert!(user != 0 && user != geteuid().as_raw(), "{user}");
    }
    assert_eq!(container.health(&options, None), (true, "ok\n".to_owned()));
    eventually("it is ready", || container.health(&options, Some("--ready")) == (true, "ready\n".to_owned()));
    assert_eq!(proxy.metric("pgcorral_pool_limit"), 3.0);

    let mut client = tenant.login(proxy.address);
    assert_eq!(client.value("select current_user"), tenant.name);
    client.run("begin");
    stop(&container, process);
    eventually("it drains", || proxy.log().contains("draining"));
    let (ready, answer) = container.health(&options, Some("--ready"));
    assert!(!ready && answer.contains("not ready: draining"), "{answer}");
    assert!(container.health(&options, None).0, "it must not be restarted for that");
    assert_eq!(client.value("select 41 + 1"), "42", "a transaction goes on");
    client.run("commit");
    let status = proxy.wait();
    assert_eq!(status.code(), Some(0), "{}", proxy.log());
    assert!(proxy.log().contains("drained"), "{}", proxy.log());
}

fn mounted(ground: &Ground) {
    let tenant = ground.tenant("container_file");
    let container = Container::of("pgcorral");
    let admin = free_address();
    let toml = ProxyOptions::new(vec![tenant.database(ground.cluster(), 2)]).toml();
    let toml = toml.replace("admin = \"127.0.0.1:0\"", &format!("admin = {admin:?}"));
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(toml.as_bytes()).expect("write the configuration");
    // The image's user is nobody that the file belongs to.
    file.as_file().set_permissions(PermissionsExt::from_mode(0o644)).expect("readable for all");
    let options = [format!("--volume={}:/etc/pgcorral/pgcorral.toml:ro", file.path().display())];
    let proxy = Proxy::start_command(container.run(&options, None));
    assert_eq!(proxy.admin, admin.parse::<SocketAddr>().expect("an address"));
    assert_eq!(tenant.login(proxy.address).value("select current_user"), tenant.name);
    assert_eq!(container.health(&options, None), (true, "ok\n".to_owned()));
    stop(&container, innermost(proxy.process_id()));
}

/// With the words of the compose file, but a shorter plan.
fn fires(ground: &Ground) {
    let tenant = ground.tenant("container_load");
    let proxy = Proxy::start(&ProxyOptions::new(vec![tenant.database(ground.cluster(), 5)]));
    let container = Container::of("loadtest");
    let mut arguments = words(&yaml("config/compose.yaml")["services"]["loadtest"]["command"]);
    arguments[1] = "lambda-1000".to_owned();
    arguments.push("--instances=100".to_owned());
    let options = variables(&[
        ("TARGET", &tenant.url(proxy.address)),
        ("OBSERVE", &ground.cluster().superuser_url(&tenant.name)),
    ]);
    let started = Instant::now();
    let report = said(&mut container.run(&options, Some(&arguments)));
    assert!(report.contains("served"), "{report}");
    assert_eq!(proxy.metric("pgcorral_transactions_total"), 300.0, "three rounds");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
