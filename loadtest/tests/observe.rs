//! What the observer sees of a leg, against a real PostgreSQL whose connections the test itself opens.
#![expect(clippy::unwrap_used, reason = "what a test cannot go on without")]

use loadtest::client::Target;
use loadtest::leg::{Outcome, max_backends};
use loadtest::observe::{ObserveError, Observer, is_counted};
use loadtest::plan::Plan;
use loadtest::postgres::{Cluster, ClusterOptions};
use loadtest::run::{LegOptions, run_leg};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

const DATABASE: &str = "postgres";

/// No test waits longer for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client whose socket is closed when it is dropped.
struct Connected {
    client: Client,
    driving: JoinHandle<()>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

async fn connect(url: &str) -> Connected {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let driving = tokio::spawn(async move {
        let _ = connection.await;
    });
    Connected { client, driving }
}

async fn connect_many(url: &str, number: usize) -> Vec<Connected> {
    let mut connected = Vec::new();
    for _ in 0..number {
        connected.push(connect(url).await);
    }
    connected
}

fn plan(script: &[&str]) -> Plan {
    let text = format!(
        "title = \"t\"\nduration = \"1s\"\ngrace = \"60s\"\n[[function]]\nname = \"f\"\ninstances = 1\n\
         arrival = {{ kind = \"at_once\" }}\nscript = {script:?}\n"
    );
    Plan::parse("t", &text, Path::new(".")).unwrap()
}

async fn observe(url: &str, plan: &Plan) -> Observer {
    let target = Target::parse("postgres", url).unwrap();
    Observer::start(&target, plan, Instant::now()).await.unwrap()
}

fn counting_statements() -> ClusterOptions {
    let module = ("shared_preload_libraries".to_owned(), "pg_stat_statements".to_owned());
    ClusterOptions { settings: vec![module], ..ClusterOptions::default() }
}

/// Until the SQL of one row says so.
async fn wait_until(client: &Client, condition: &str) {
    let asked = Instant::now();
    while !client.query_one(condition, &[]).await.unwrap().get::<_, bool>(0) {
        assert!(asked.elapsed() < PATIENCE, "never: {condition}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_legs_own_backends_are_counted_and_warm_ones_only_when_they_are_used() {
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    let url = cluster.superuser_url(DATABASE);
    let warm = connect_many(&url, 3).await;
    warm[0].client.batch_execute("select pg_advisory_lock(1)").await.unwrap();

    let observer = observe(&url, &plan(&["select 1"])).await;
    let other = observe(&url, &plan(&["select 1"])).await;
    let elsewhere = connect(&cluster.superuser_url("template1")).await;
    let leg = connect_many(&url, 5).await;
    for open in &leg[..2] {
        open.client.batch_execute("begin").await.unwrap();
    }
    // Runs for as long as the test wants.
    let waiting = leg[2].client.batch_execute("select pg_advisory_lock(1)");
    let (observed, _) = tokio::join!(
        async {
            let observed = observer.finish_within(Duration::from_secs(1), 0).await;
            drop(warm);
            observed
        },
        waiting
    );
    let last = observed.backends.last().unwrap();
    assert_eq!((last.total, last.active, last.idle_in_transaction), (5, 1, 2));
    assert_eq!(max_backends(&observed.backends), Some(5));
    assert!(observed.backends.is_sorted_by_key(|sample| sample.at_us));

    // The leg is one of warm connections for who begins to look now.
    let third = observe(&url, &plan(&["select 1"])).await;
    leg[3].client.batch_execute("select 1").await.unwrap();
    let observed = third.finish(0).await;
    assert_eq!(observed.backends.last().unwrap().total, 1);
    drop((other, elsewhere));
}

#[tokio::test]
async fn statements_for_a_client_that_went_away_are_unheard() {
    let cluster = Cluster::start(counting_statements()).unwrap();
    let url = cluster.superuser_url(DATABASE);
    let script = ["begin", "select pg_sleep(0.01)", "select 'of {instance}' as who", "commit"];
    let heard = 3 * script.iter().filter(|line| is_counted(line)).count();
    assert_eq!(heard, 6);
    let run = async |who: &str| {
        let leg = connect(&url).await;
        for line in script {
            leg.client.simple_query(&line.replace("{instance}", who)).await.unwrap();
        }
    };
    // What ran before has happened before.
    let unprepared = observe(&url, &plan(&script)).await.finish(0).await;
    assert!(unprepared.warnings[0].contains("create extension"), "{:?}", unprepared.warnings);
    cluster.psql(DATABASE, "create extension pg_stat_statements").unwrap();
    run("nobody").await;

    let observer = observe(&url, &plan(&script)).await;
    for who in ["1", "22", "a''b"] {
        run(who).await;
    }
    let looker = connect(&url).await;
    let gone = connect(&url).await;
    let until_it_runs = "select count(*) = 1 from pg_stat_activity where query like 'select pg_sleep(1%' \
                         and state = 'active' and pid <> pg_backend_pid()";
    tokio::select! {
        _ = gone.client.simple_query("select pg_sleep(1.5)") => panic!("the client was to go away first"),
        () = wait_until(&looker.client, until_it_runs) => {}
    }
    drop(gone);
    looker.client.simple_query("select 1 as \"not the plan's\"").await.unwrap();
    let observed = observer.finish(heard as u64).await;
    let statements = observed.statements.unwrap();
    assert_eq!((statements.executed, statements.unheard()), (7, 1));
    // Three runs, a looker, and one that went away.
    assert_eq!(observed.sessions, Some(5));
    assert_eq!(observed.warnings, Vec::<String>::new());
}

/// PostgreSQL's own texts are the measure of how ours are compared with them.
#[tokio::test]
async fn statements_of_all_kinds_are_recognised() {
    let cluster = Cluster::start(counting_statements()).unwrap();
    let url = cluster.superuser_url(DATABASE);
    let script = [
        "select pg_sleep(0.001), -1, 2 - 1, 2 -1, +3, .5, 1.5e-3, 1e5",
        "SELECT  'it''s', E'a\\'b', $$it's$$, $tag$a $$ b$tag$, U&'d\\0061t', B'101', X'1F' ;",
        "select null, true, FALSE, null is null, not true and false",
        "select '1 day'::interval, interval '1 day', date '2026-01-01', cast('7' as int), array[1, 2, 3]",
        "select 1 where 5 in (1, 2, 3) or 6 = any ('{1,2}'::int[])",
        "/* job={invocation} */ select relname as \"A \"\" b\" -- one\n from pg_class /* in /* it */ */ where oid = 1 limit 5",
        "with a as (select {instance} as n) select n from a order by 1 desc offset 0",
        "values (1, 'a'), (2, 'b')",
        "insert into t values ({random}, 'of {instance}'), (2, null)",
        "update t set n = n+1, who = who || '!' where n between -5 and 1000000 and who like 'of%'",
        "delete from t where n<-5 or n>-3",
        "select * from t for update skip locked",
        "table t",
    ];
    cluster.psql(DATABASE, "create table t (n int, who text)").unwrap();
    cluster.psql(DATABASE, "create extension pg_stat_statements").unwrap();
    let observer = observe(&url, &plan(&script)).await;
    let leg = connect(&url).await;
    for line in script {
        assert!(is_counted(line), "{line}");
        for number in ["7", "12345"] {
            let sql = ["{instance}", "{invocation}", "{random}"]
                .iter()
                .fold(line.to_owned(), |sql, placeholder| sql.replace(placeholder, number));
            leg.client.simple_query(&sql).await.unwrap();
        }
    }
    let heard = 2 * script.len() as u64;
    let observed = observer.finish(heard).await;
    let texts = "select query from pg_stat_statements order by 1";
    assert_eq!(observed.statements.unwrap().executed, heard, "{}", cluster.psql(DATABASE, texts).unwrap());
    assert_eq!(observed.warnings, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_seen_and_survived() {
    let mut cluster = Cluster::start(counting_statements()).unwrap();
    let url = cluster.superuser_url(DATABASE);
    cluster.psql(DATABASE, "create extension pg_stat_statements").unwrap();
    let observer = observe(&url, &plan(&["select 1"])).await;
    let deceived = observe(&url, &plan(&["select 1"])).await;
    let before = connect_many(&url, 2).await;
    before[0].client.simple_query("select 1").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.stop_immediately();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    cluster.start_again().unwrap();
    let after = connect_many(&url, 3).await;
    let observed = observer.finish(1).await;

    let totals: Vec<_> = observed.backends.iter().map(|sample| sample.total).collect();
    let while_down = totals.iter().rposition(|&total| total == 0).unwrap();
    assert!(totals[..while_down].contains(&2), "{totals:?}");
    assert_eq!(totals.last(), Some(&3), "{totals:?}");
    assert_eq!(observed.statements.unwrap().unheard(), 0);
    assert_eq!(observed.sessions, None);

    // A crash takes the counts with it: too few across a restart are no count.
    let observed = deceived.finish(2).await;
    assert_eq!(observed.statements, None);
    assert!(observed.warnings.iter().any(|warning| warning.contains("reset")), "{:?}", observed.warnings);
    drop(after);
}

#[tokio::test]
async fn who_may_not_see_others_says_so_and_counts_nothing() {
    let cluster = Cluster::start(counting_statements()).unwrap();
    cluster.psql(DATABASE, "create extension pg_stat_statements").unwrap();
    cluster.psql(DATABASE, "create role weak login password 'w'").unwrap();
    let url = cluster.url("weak", "w", DATABASE);
    let leg = async |observer: Observer| {
        let leg = connect(&cluster.superuser_url(DATABASE)).await;
        leg.client.simple_query("select 1").await.unwrap();
        observer.finish(1).await
    };
    let observed = leg(observe(&url, &plan(&["select 1"])).await).await;
    assert!(observed.backends.is_empty() && observed.statements.is_none());
    assert_eq!(observed.warnings.iter().filter(|warning| warning.contains("grant it pg_monitor")).count(), 2);

    cluster.psql(DATABASE, "grant pg_monitor to weak").unwrap();
    let observed = leg(observe(&url, &plan(&["select 1"])).await).await;
    assert_eq!(observed.backends.last().unwrap().total, 1);
    assert_eq!(observed.statements.unwrap().unheard(), 0);
    assert_eq!(observed.warnings, Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_counted_is_told() {
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    let url = cluster.superuser_url(DATABASE);
    let observed = observe(&url, &plan(&["select 1"])).await.finish(0).await;
    assert!(observed.warnings.iter().any(|warning| warning.contains("shared_preload_libraries")));
    assert!(observed.warnings.iter().any(|warning| warning.contains("had no backend")));
    // Nobody was served, so there may well have been none.
    assert!(!observed.backends.is_empty());

    let nobody = Target::parse("postgres", &cluster.url("nobody", "", DATABASE)).unwrap();
    let refused = Observer::start(&nobody, &plan(&["select 1"]), Instant::now()).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("password"), "{refused}");
}

/// Backends in another database are not there to be seen, and none at all would hold every limit.
#[tokio::test]
async fn an_observer_in_another_database_measures_nothing_and_the_leg_says_so() {
    let cluster = Cluster::start(counting_statements()).unwrap();
    cluster.psql("template1", "create extension pg_stat_statements").unwrap();
    let target = Target::parse("direct", &cluster.superuser_url(DATABASE)).unwrap();
    let elsewhere = Target::parse("postgres", &cluster.superuser_url("template1")).unwrap();
    let options = LegOptions { observer: Some(elsewhere), ..LegOptions::new(target) };
    let plan = Arc::new(plan(&["select 1 as result"]));
    let leg = run_leg(&plan, &options, |_| (), std::future::pending()).await.unwrap();
    assert_eq!(leg.invocations.iter().map(|one| one.outcome).collect::<Vec<_>>(), [Outcome::Served]);
    assert!(leg.backends.is_empty(), "{:?}", leg.backends);
    assert_eq!((leg.sessions, leg.statements), (None, None));
    assert!(leg.warnings.iter().any(|warning| warning.contains("had no backend")), "{:?}", leg.warnings);

    // Where served clients hear of nothing that is counted, nothing tells that nobody was served.
    let url = cluster.superuser_url("template1");
    let unheard = observe(&url, &plan_without_counted_statements()).await.finish(0).await;
    assert!(unheard.backends.is_empty());
}

fn plan_without_counted_statements() -> Plan {
    let plan = plan(&["show server_version"]);
    assert!(!is_counted(&plan.functions[0].script[0]));
    plan
}

/// Passes so many connections on to that port; later ones are accepted, and nothing is ever said to them.
async fn silent_after(passed: usize, port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        for number in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            if number >= passed {
                kept.push(client);
                continue;
            }
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    own
}

#[tokio::test]
async fn a_server_that_says_nothing_does_not_keep_a_run_waiting() {
    let cluster = Cluster::start(counting_statements()).unwrap();
    cluster.psql(DATABASE, "create extension pg_stat_statements").unwrap();
    let through = |port: u16| {
        let url = cluster.superuser_url(DATABASE);
        url.replace(&format!(":{}/", cluster.port()), &format!(":{port}/"))
    };
    let silent = Target::parse("postgres", &through(silent_after(0, cluster.port()).await)).unwrap();
    let error = Observer::start(&silent, &plan(&["select 1"]), Instant::now()).await.unwrap_err();
    assert!(matches!(error, ObserveError::Unreachable(_)), "{error}");
    assert!(error.to_string().contains("does not answer within"), "{error}");

    // Later than that it costs the counts, and the looks are kept.
    let observer = observe(&through(silent_after(1, cluster.port()).await), &plan(&["select 1"])).await;
    let leg = connect(&cluster.superuser_url(DATABASE)).await;
    leg.client.simple_query("select 1").await.unwrap();
    let observed = observer.finish(1).await;
    assert_eq!((observed.sessions, observed.statements), (None, None));
    assert_eq!(observed.backends.last().unwrap().total, 1);
    assert!(
        observed.warnings.iter().any(|warning| warning.contains("does not answer within")),
        "{observed:?}"
    );
}

/// A connection that was opened may fall silent, too: whoever waits for a lock on a catalog says nothing either.
#[tokio::test]
async fn a_question_that_is_not_answered_is_given_up() {
    let cluster = Cluster::start(counting_statements()).unwrap();
    cluster.psql(DATABASE, "create extension pg_stat_statements").unwrap();
    let url = cluster.superuser_url(DATABASE);
    let locking = connect(&url).await;
    locking.client.batch_execute("begin; lock table pg_extension in access exclusive mode").await.unwrap();
    let target = Target::parse("postgres", &url).unwrap();
    let error = Observer::start(&target, &plan(&["select 1"]), Instant::now()).await.unwrap_err();
    assert!(matches!(error, ObserveError::Unanswered(_)), "{error}");
}
