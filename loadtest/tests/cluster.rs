//! The throw-away server: usable, restartable, and gone without a trace.

use loadtest::postgres::{Cluster, ClusterOptions, Hba};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;

async fn current_user(url: &str) -> Result<String, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client.query_one("select current_user::text", &[]).await?.get(0))
}

fn processes_of(directory: &Path) -> Vec<String> {
    let needle = directory.to_string_lossy().into_owned();
    let proc = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    proc.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|command| command.contains(&needle))
        .collect()
}

fn wait_for_end_of(directory: &Path) {
    let started = Instant::now();
    while directory.exists() || !processes_of(directory).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "left: {:?}", processes_of(directory));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn scram_logs_in_with_the_right_password_only_and_nothing_is_left() {
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    assert_eq!(current_user(&cluster.superuser_url("postgres")).await.unwrap(), "postgres");
    let refused = current_user(&cluster.url(Cluster::SUPERUSER, "wrong", "postgres")).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "28P01");
    assert!(
        cluster
            .psql("postgres", "select rolpassword from pg_authid where rolname = 'postgres'")
            .unwrap()
            .starts_with("SCRAM-SHA-256$")
    );

    let directory = cluster.socket_dir().to_owned();
    assert!(!processes_of(&directory).is_empty());
    drop(cluster);
    assert!(!directory.exists());
    assert_eq!(processes_of(&directory), Vec::<String>::new());
}

#[tokio::test]
async fn data_and_port_survive_a_crash() {
    let options = ClusterOptions {
        hba: Hba::Md5,
        settings: vec![("work_mem".to_owned(), "5MB".to_owned())],
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).unwrap();
    cluster.psql("postgres", "create table kept as select 7 as n").unwrap();
    let url = cluster.superuser_url("postgres");
    cluster.stop_immediately();
    assert!(current_user(&url).await.is_err());
    cluster.start_again().unwrap();
    assert_eq!(current_user(&url).await.unwrap(), "postgres");
    assert_eq!(cluster.psql("postgres", "select n from kept").unwrap(), "7");
    assert_eq!(cluster.psql("postgres", "show work_mem").unwrap(), "5MB");
    assert_eq!(cluster.psql("postgres", "show max_connections").unwrap(), "60");
    assert!(cluster.psql("postgres", "select oops").unwrap_err().to_string().contains("oops"));
}

/// Runs the test below in a process of its own, kills it, and looks at what it left.
#[test]
fn a_killed_owner_leaves_nothing() {
    use std::io::{BufRead, BufReader};
    let mut owner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_that_waits_to_be_killed", "--ignored", "--nocapture"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let directory = lines
        .map_while(Result::ok)
        .find_map(|line| line.split_once("directory=").map(|(_, d)| PathBuf::from(d)));
    let directory = directory.unwrap();
    assert!(directory.exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_for_end_of(&directory);
}

#[test]
#[ignore = "half of a_killed_owner_leaves_nothing, which starts it"]
fn owner_that_waits_to_be_killed() {
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    println!("directory={}", cluster.socket_dir().display());
    std::thread::sleep(Duration::from_secs(300));
}
