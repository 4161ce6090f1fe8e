//! Function instances that are processes: real ones with their drivers against a real PostgreSQL, and shell scripts in
//! their place for what no driver does. What is not installed fails, unless `PGCORRAL_SKIP_DRIVERS` lists its driver.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use loadtest::client::{Failure, Target};
use loadtest::functions::{Answer, Database, Invoker, InvokerOptions, Launch, ProcessInstance, StartError};
use loadtest::leg::{FailureKind, Outcome};
use loadtest::plan::{Plan, Runtime};
use loadtest::postgres::{Cluster, ClusterOptions};
use loadtest::run::{LegOptions, Worker, run_leg};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nothing here takes so long, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

const REAL: [(Runtime, &str, &str); 3] = [
    (Runtime::Python, "psycopg", "fn-python"),
    (Runtime::Node, "node-postgres", "fn-node"),
    (Runtime::Go, "lib-pq", "fn-go"),
];

/// Runtime and function name of those that are wanted.
fn runtimes() -> Vec<(Runtime, &'static str)> {
    let skipped = std::env::var("PGCORRAL_SKIP_DRIVERS").unwrap_or_default();
    let wanted = |driver: &str| !skipped.split([',', ' ']).any(|name| name == driver);
    REAL.into_iter()
        .filter(|(_, driver, _)| wanted(driver))
        .map(|(runtime, _, name)| (runtime, name))
        .collect()
}

fn cluster(max_connections: u32) -> (Cluster, Database) {
    let options = ClusterOptions { max_connections, ..ClusterOptions::default() };
    let cluster = Cluster::start(options).unwrap();
    let setup =
        "create role app login password 'sec/ret'; create table done (n int); grant all on done to app;
                 create sequence tries; grant all on sequence tries to app";
    cluster.psql("postgres", setup).unwrap();
    let database = Database::parse(&cluster.url("app", "sec/ret", "postgres")).unwrap();
    (cluster, database)
}

/// The functions of this repository, whatever LOADTEST_FUNCTIONS says: somebody's own are another matter.
fn installed() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/functions"))
}

fn invoker(directory: Option<&Path>) -> Invoker {
    let directory = Some(directory.map_or_else(installed, Path::to_owned));
    Invoker::new(&InvokerOptions { directory, most: 20, starting: None }).unwrap()
}

fn script(statements: &[&str]) -> Vec<String> {
    statements.iter().map(|&statement| statement.to_owned()).collect()
}

fn kind(answer: &Answer) -> Option<FailureKind> {
    answer.result.as_ref().err().map(Failure::kind)
}

/// The letter of `proc(5)`; `None` once the process is gone.
fn state(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

async fn wait_for(process: u32, wanted: Option<char>) {
    let begun = Instant::now();
    while state(process) != wanted {
        assert!(begun.elapsed() < PATIENCE, "{process} is {:?} and not {wanted:?}", state(process));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn more_instances_than_connections_are_served_or_shed_and_nothing_else() {
    let (cluster, database) = cluster(10);
    let invoker = invoker(None);
    let mut tasks = Vec::new();
    for (runtime, function) in runtimes().into_iter().cycle().take(15) {
        let (invoker, database) = (invoker.clone(), database.clone());
        tasks.push(tokio::spawn(async move {
            let launch = Launch { runtime, database: &database, function };
            let mut instance = invoker.start(launch).await.unwrap();
            assert!(instance.started_in() > Duration::ZERO);
            let held = script(&["insert into done values (1)", "select pg_sleep(0.2)"]);
            let answer = instance.invoke(&held, true, PATIENCE).await;
            assert!(instance.is_usable());
            (instance, answer)
        }));
    }
    let mut instances = Vec::new();
    let (mut served, mut shed) = (0, 0);
    for task in tasks {
        let (instance, answer) = task.await.unwrap();
        assert_eq!(answer.connects.len(), 1, "{answer:?}");
        assert_eq!(answer.connects[0].ok, answer.result.is_ok());
        match &answer.result {
            Ok(rows) => {
                assert_eq!(*rows, 2);
                served += 1;
            }
            Err(failure) => {
                assert_eq!(
                    (failure.kind(), failure.sqlstate()),
                    (FailureKind::Shed, Some("53300")),
                    "{failure}"
                );
                assert!(answer.at_login);
                shed += 1;
            }
        }
        instances.push(instance);
    }
    // Three of the ten are the superuser's, and served instances keep their connections.
    assert!((1..=7).contains(&served) && shed == 15 - served, "{served} served, {shed} shed");
    assert_eq!(cluster.psql("postgres", "select count(*) from done").unwrap(), served.to_string());
    let named = "select count(*) from pg_stat_activity where application_name like 'fn-%'";
    assert_eq!(cluster.psql("postgres", named).unwrap(), served.to_string());
    for instance in instances {
        instance.end().await;
    }
}

#[tokio::test]
async fn a_suspended_instance_stands_still_and_gets_over_a_lost_connection() {
    let (cluster, database) = cluster(20);
    let invoker = invoker(None);
    let one = script(&["select 1"]);
    for (runtime, function) in runtimes() {
        let mut instance = invoker.start(Launch { runtime, database: &database, function }).await.unwrap();
        assert_eq!(instance.invoke(&one, true, PATIENCE).await.result, Ok(1));
        assert_eq!(instance.invoke(&one, true, PATIENCE).await.connects, [], "the connection is kept");
        let process = instance.process_id().unwrap();

        instance.freeze().unwrap();
        wait_for(process, Some('T')).await;
        let cut = "select pg_terminate_backend(pid, 60000) from pg_stat_activity where usename = 'app'";
        assert_eq!(cluster.psql("postgres", cut).unwrap(), "t");
        assert_eq!(state(process), Some('T'));

        let answer = instance.invoke(&one, true, PATIENCE).await;
        assert_eq!(answer.result, Ok(1), "{runtime:?}");
        assert_eq!(answer.connects.iter().filter(|connect| connect.ok).count(), 1, "{runtime:?}");
        assert_ne!(state(process), Some('T'));
        instance.end().await;
        assert_eq!(state(process), None);
    }
}

#[tokio::test]
async fn errors_are_the_servers_and_the_instance_lives_on() {
    let (_cluster, database) = cluster(20);
    let invoker = invoker(None);
    for (runtime, function) in runtimes() {
        let mut instance = invoker.start(Launch { runtime, database: &database, function }).await.unwrap();
        let halfway = script(&["insert into done values (1)", "select 1 / 0"]);
        let answer = instance.invoke(&halfway, true, PATIENCE).await;
        assert_eq!(kind(&answer), Some(FailureKind::Sql), "{runtime:?}");
        assert_eq!(answer.result.unwrap_err().sqlstate(), Some("22012"));
        assert!(!answer.at_login);
        let after = instance.invoke(&script(&["select * from done"]), true, PATIENCE).await;
        assert_eq!((after.result, after.connects.len()), (Ok(0), 0), "{runtime:?}: rolled back, connected");
    }
}

#[tokio::test]
async fn handlers_wait_once_as_long_as_a_refusal_says() {
    let (_cluster, database) = cluster(20);
    let invoker = invoker(None);
    let refused_at_odd_tries = script(&["do $$ begin if nextval('tries') % 2 = 1 then
         raise sqlstate '53300' using message = 'busy',
         detail = 'reason=queue_timeout pool=a/b wait_ms=1 retry_after_ms=20'; end if; end $$"]);
    for (runtime, function) in runtimes() {
        let mut instance = invoker.start(Launch { runtime, database: &database, function }).await.unwrap();
        let answer = instance.invoke(&refused_at_odd_tries, true, PATIENCE).await;
        assert!(answer.result.is_ok(), "{runtime:?}: {answer:?}");
        assert_eq!(answer.attempts, 2);

        let answer = instance.invoke(&refused_at_odd_tries, false, PATIENCE).await;
        let failure = answer.result.unwrap_err();
        assert_eq!((failure.kind(), failure.reason()), (FailureKind::Shed, "queue_timeout"));
        assert_eq!(failure.retry_after(), Some(Duration::from_millis(20)));

        // The next runtime begins at an odd try, too.
        let answer = instance.invoke(&refused_at_odd_tries, false, PATIENCE).await;
        assert!(answer.result.is_ok(), "{runtime:?}");
    }
}

#[tokio::test]
async fn a_timeout_kills_the_process() {
    let (cluster, database) = cluster(20);
    let invoker = invoker(None);
    for (runtime, function) in runtimes() {
        let mut instance = invoker.start(Launch { runtime, database: &database, function }).await.unwrap();
        let process = instance.process_id().unwrap();
        let answer = instance.invoke(&script(&["select pg_sleep(600)"]), true, Duration::from_secs(1)).await;
        assert_eq!(answer.result, Err(Failure::Timeout), "{runtime:?}");
        assert!(!instance.is_usable());
        assert_eq!((instance.process_id(), state(process)), (None, None));
        let again = instance.invoke(&script(&["select 1"]), true, PATIENCE).await;
        assert_eq!(kind(&again), Some(FailureKind::Connection));
    }
    cluster
        .psql("postgres", "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
        .unwrap();
}

#[tokio::test]
async fn nobody_listening_is_a_failed_connection_at_login() {
    let port = loadtest::postgres::free_port().unwrap();
    let database = Database::parse(&format!("postgres://app@127.0.0.1:{port}/app")).unwrap();
    let invoker = invoker(None);
    for (runtime, function) in runtimes() {
        let mut instance = invoker.start(Launch { runtime, database: &database, function }).await.unwrap();
        let answer = instance.invoke(&script(&["select 1"]), true, PATIENCE).await;
        assert_eq!(kind(&answer), Some(FailureKind::Connection), "{answer:?}");
        assert!(answer.at_login && !answer.connects.is_empty());
    }
}

#[tokio::test]
async fn a_leg_records_what_processes_tell() {
    leg_of_processes(1).await;
}

#[tokio::test]
async fn several_generators_share_the_processes() {
    leg_of_processes(2).await;
}

/// Fires five instances of each runtime at a PostgreSQL with few connections, and looks at what is recorded.
async fn leg_of_processes(generators: u32) {
    let (cluster, _) = cluster(9);
    let functions = runtimes().into_iter().map(|(runtime, name)| {
        format!(
            "[[function]]\nname = \"{name}\"\nruntime = \"{runtime:?}\"\ninstances = 5\n\
             arrival = {{ kind = \"closed\" }}\nscript = [\"begin\", \"insert into done values ({{instance}})\", \
             \"select pg_sleep(0.05)\", \"commit\"]\nthink = \"300ms\"\n\
             freeze = {{ when = \"between\", lasting = \"200ms\" }}\n"
        )
        .replace(&format!("{runtime:?}"), &format!("{runtime:?}").to_lowercase())
    });
    let text =
        format!("title = \"t\"\nduration = \"6s\"\ngrace = \"60s\"\n{}", functions.collect::<String>());
    let plan = Arc::new(Plan::parse("t", &text, Path::new(".")).unwrap());
    let target = Target::parse("direct", &cluster.url("app", "sec/ret", "postgres")).unwrap();
    let mut options = LegOptions::new(target);
    options.processes = generators;
    options.functions = Some(installed());
    let program = env!("CARGO_BIN_EXE_loadtest").into();
    options.worker = Some(Worker { program, arguments: vec!["worker".into()] });
    let leg = run_leg(&plan, &options, |_| (), std::future::pending()).await.unwrap();

    let count = |outcome| leg.invocations.iter().filter(|one| one.outcome == outcome).count();
    let (served, shed) = (count(Outcome::Served), count(Outcome::Shed));
    assert!(served >= 6 && shed > 0, "{served} served, {shed} shed: {:?}", leg.failures);
    assert_eq!(served + shed, leg.invocations.len(), "{:?}", leg.failures);
    assert_eq!(cluster.psql("postgres", "select count(*) from done").unwrap(), served.to_string());
    assert!(leg.failures.len() == shed && leg.failures.iter().all(|failure| failure.at_login));
    // Whoever has one of the six connections keeps it; everybody else tries with every invocation.
    let made = leg.connects.iter().filter(|connect| connect.login_us.is_some()).count();
    // Those who end let others in.
    assert!((6..=15).contains(&made), "{made}");
    assert_eq!(made + shed, leg.connects.len());
    let cold = leg.invocations.iter().filter(|invocation| invocation.cold).count();
    assert_eq!(cold, 5 * runtimes().len());
    assert!(leg.generator.cpu_us > 0);
}

#[tokio::test]
async fn what_is_not_installed_is_found_out_before_anything_is_fired() {
    let text = "title = \"t\"\nduration = \"1s\"\n[[function]]\nname = \"f\"\nruntime = \"node\"\ninstances = 1\n\
                arrival = { kind = \"at_once\" }\nscript = [\"select 1\"]\n";
    let plan = Arc::new(Plan::parse("t", text, Path::new(".")).unwrap());
    let mut options = LegOptions::new(Target::parse("t", "postgres://app@127.0.0.1:1/app").unwrap());
    options.functions = Some(PathBuf::from("/nowhere"));
    let error = run_leg(&plan, &options, |_| (), std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("scripts/setup-functions.sh"), "{error}");

    let silent = format!("{text}end = \"silence\"\n");
    assert!(Plan::parse("t", &silent, Path::new(".")).unwrap_err().to_string().contains("silence"));
}

/// What a handler prints must not be taken for its answer, and its own mistakes not for the server's.
#[tokio::test]
async fn handlers_may_print_and_may_have_bugs() {
    let handlers = [
        (
            Runtime::Python,
            "python/handler.py",
            "def handler(event, context):\n    print('hello')\n    return {'rows': nothing}\n",
        ),
        (
            Runtime::Node,
            "node/handler.mjs",
            "export const handler = async () => { console.log('hello'); return { rows: nothing } }\n",
        ),
    ];
    let nowhere = Database::parse("postgres://app@127.0.0.1/app").unwrap();
    for (runtime, file, text) in handlers {
        if !runtimes().iter().any(|(wanted, _)| *wanted == runtime) {
            continue;
        }
        let directory = Directory::with_copies(file);
        fs::write(directory.0.join(file), text).unwrap();
        let invoker = invoker(Some(&directory.0));
        let mut instance =
            invoker.start(Launch { runtime, database: &nowhere, function: "f" }).await.unwrap();
        let answer = instance.invoke(&script(&["select 1"]), true, PATIENCE).await;
        let Err(Failure::Protocol(text)) = answer.result else { panic!("{answer:?}") };
        assert!(text.contains("the handler failed"), "{text}");
    }
}

#[tokio::test]
async fn nonsense_and_sudden_ends_are_told_apart() {
    let one = script(&["select 1"]);
    let said = |body: &'static str| {
        let one = one.clone();
        async move {
            let (_directory, mut instance) =
                fake(&format!("echo '{{\"init\":true}}'; read -r event; {body}")).await;
            let answer = instance.invoke(&one, true, PATIENCE).await;
            assert!(!instance.is_usable());
            answer.result.unwrap_err()
        }
    };
    let Failure::Protocol(text) = said("echo hello; read -r more").await else { panic!() };
    assert!(text.contains("the function's answer"), "{text}");
    let Failure::Protocol(text) = said("head -c 100000 /dev/zero; read -r more").await else { panic!() };
    assert!(text.contains("too long"), "{text}");
    let Failure::Connection(text) = said("echo out of luck >&2; exit 7").await else { panic!() };
    assert!(text.contains("exit status: 7") && text.contains("out of luck"), "{text}");
    let Failure::Connection(text) = said("kill -SEGV $$").await else { panic!() };
    assert!(text.contains("signal: 11"), "{text}");
}

#[tokio::test]
async fn what_does_not_come_up_says_why() {
    let directory = Directory::with_function("echo cannot begin >&2; exit 1");
    let database = Database::parse("postgres://app@127.0.0.1/app").unwrap();
    let launch = Launch { runtime: Runtime::Go, database: &database, function: "f" };
    let error = invoker(Some(&directory.0)).start(launch).await.unwrap_err();
    assert!(error.to_string().contains("cannot begin"), "{error}");

    let error = invoker(Some(Path::new("/nowhere"))).start(launch).await.unwrap_err();
    assert!(error.to_string().contains("scripts/setup-functions.sh"), "{error}");
    let task = Launch { runtime: Runtime::Task, ..launch };
    assert!(matches!(invoker(None).start(task).await, Err(StartError::NotAProcess)));
}

#[tokio::test]
async fn there_are_never_more_than_asked_for() {
    let directory = Directory::with_function("echo '{\"init\":true}'; read -r event");
    let options = InvokerOptions { directory: Some(directory.0.clone()), most: 1, starting: Some(1) };
    let invoker = Invoker::new(&options).unwrap();
    let database = Database::parse("postgres://app@127.0.0.1/app").unwrap();
    let launch = Launch { runtime: Runtime::Go, database: &database, function: "f" };
    let first = invoker.start(launch).await.unwrap();
    assert!(matches!(invoker.start(launch).await, Err(StartError::TooMany)));
    first.end().await;
    invoker.start(launch).await.unwrap().kill().await;
}

/// It ignores that its standard input closes, and it is suspended: only a kill ends it.
const STUBBORN: &str = "trap '' TERM HUP INT; echo '{\"init\":true}'; while :; do sleep 1; done";

#[tokio::test]
async fn a_dropped_instance_leaves_no_process() {
    let (_directory, mut frozen) = fake(STUBBORN).await;
    let process = frozen.process_id().unwrap();
    frozen.freeze().unwrap();
    wait_for(process, Some('T')).await;
    drop(frozen);
    wait_for(process, None).await;

    let (_directory, mut invoked) = fake(STUBBORN).await;
    let process = invoked.process_id().unwrap();
    let one = script(&["select 1"]);
    let cut_off = tokio::time::timeout(Duration::from_millis(50), invoked.invoke(&one, true, PATIENCE));
    assert!(cut_off.await.is_err());
    assert!(!invoked.is_usable());
    drop(invoked);
    wait_for(process, None).await;
}

/// Runs the test below in a process of its own, kills it, and looks at what it left.
#[tokio::test]
async fn a_killed_invoker_leaves_no_process() {
    use std::io::{BufRead, BufReader};
    let mut owner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "invoker_that_waits_to_be_killed", "--ignored", "--nocapture"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find_map(|line| line.split_once("processes=").map(|(_, rest)| rest.to_owned())).unwrap();
    let processes: Vec<u32> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    let [running, suspended] = processes[..] else { panic!("{line}") };
    assert!(state(running).is_some());
    wait_for(suspended, Some('T')).await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    // They are not our children: whoever inherited them may take its time to bury them.
    for process in processes {
        let begun = Instant::now();
        while !matches!(state(process), None | Some('Z')) {
            assert!(begun.elapsed() < PATIENCE, "{process} is {:?}", state(process));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
#[ignore = "half of a_killed_invoker_leaves_no_process, which starts it"]
async fn invoker_that_waits_to_be_killed() {
    let (directory, running) = fake(STUBBORN).await;
    let (other, mut suspended) = fake(STUBBORN).await;
    suspended.freeze().unwrap();
    let processes = [&running, &suspended].map(|instance| instance.process_id().unwrap());
    // Nobody will be there to do it at the end.
    drop((directory, other));
    println!("processes={} {}", processes[0], processes[1]);
    std::thread::sleep(Duration::from_secs(300));
}

#[tokio::test]
async fn a_process_is_told_what_the_documentation_says_and_nothing_else() {
    const ALLOWED: [&str; 6] =
        ["DATABASE_URL", "AWS_LAMBDA_FUNCTION_NAME", "PYTHONDONTWRITEBYTECODE", "PATH", "HOME", "TMPDIR"];
    let (_directory, instance) = fake(STUBBORN).await;
    let file = format!("/proc/{}/environ", instance.process_id().unwrap());
    let environment = String::from_utf8(fs::read(file).unwrap()).unwrap();
    let names: Vec<_> =
        environment.split_terminator('\0').map(|pair| pair.split('=').next().unwrap()).collect();
    assert!(names.contains(&"DATABASE_URL") && names.iter().all(|name| ALLOWED.contains(name)), "{names:?}");
    let documentation = include_str!("../functions/README.md");
    assert!(ALLOWED.iter().all(|name| documentation.contains(&format!("`{name}`"))));
}

/// `loadtest invoke go` with a shell script in the Go program's place.
fn invoke(directory: &Directory, dsn: &str) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["invoke", "go", "--dsn", dsn, "--functions"]).arg(&directory.0);
    command
}

/// Nobody connects there: the script does not.
const NOWHERE: &str = "postgres://app@127.0.0.1:1/app";

#[test]
fn a_host_that_was_not_checked_is_refused() {
    let directory = Directory::with_function("exit 1");
    let output = invoke(&directory, "host=db.example hostaddr=127.0.0.1 user=app").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("hostaddr"), "{output:?}");
}

/// Every process waits until all of them are there, so their pipes are open at the same time.
#[test]
fn many_processes_need_more_files_than_a_shell_allows() {
    let directory = Directory::with_function(
        "here=\"${0%/*}/here\"; mkdir -p \"$here\"; echo '{\"init\":true}'; read -r event; : > \"$here/$$\"\n\
         until [ \"$(ls \"$here\" | wc -l)\" -ge 30 ]; do sleep 0.05; done; echo '{\"ok\":true}'; read -r event",
    );
    let plain = invoke(&directory, NOWHERE);
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", "ulimit -Sn 64 && exec \"$@\"", "limited"])
        .arg(plain.get_program())
        .args(plain.get_args())
        .args(["--instances", "30", "--timeout", "60s"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_reader_that_has_gone_away_does_not_end_the_invocations() {
    let directory = Directory::with_function(
        "echo '{\"init\":true}'; read -r event; echo '{\"ok\":true}'; read -r event; echo '{\"ok\":true}'",
    );
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = invoke(&directory, NOWHERE).args(["--invocations", "2"]).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

/// A shell script in the place of the Go program.
async fn fake(body: &str) -> (Directory, ProcessInstance) {
    let directory = Directory::with_function(body);
    let database = Database::parse("postgres://app@127.0.0.1/app").unwrap();
    let launch = Launch { runtime: Runtime::Go, database: &database, function: "fake" };
    let instance = invoker(Some(&directory.0)).start(launch).await.unwrap();
    (directory, instance)
}

/// A directory of functions, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("loadtest-functions-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with_function(body: &str) -> Self {
        let directory = Self::new();
        fs::create_dir(directory.0.join("go")).unwrap();
        let function = directory.0.join("go/function");
        fs::write(&function, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&function, fs::Permissions::from_mode(0o755)).unwrap();
        directory
    }

    /// The installed directory of `file`'s runtime, with everything but that file.
    fn with_copies(file: &str) -> Self {
        let directory = Self::new();
        let runtime = Path::new(file).parent().unwrap();
        fs::create_dir(directory.0.join(runtime)).unwrap();
        for entry in fs::read_dir(installed().join(runtime)).expect("scripts/setup-functions.sh") {
            let from = entry.unwrap().path();
            let to = directory.0.join(runtime).join(from.file_name().unwrap());
            if from.is_dir() { symlink(&from, to).unwrap() } else { fs::copy(&from, to).map(|_| ()).unwrap() }
        }
        directory
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
