//! What the property test has found, each in the few messages that are needed for it: the same is answered directly and
//! through the proxy.

use std::sync::Arc;

use libtest_mimic::Trial;

use crate::Test;
use crate::statements::Pair;
use crate::support::ground::Ground;
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::requests::{Request, bytes};
use crate::support::wire::sqlstate;

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("corners", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("statements_taken_away_in_the_middle_of_a_batch", taken_away),
    ("several_statements_about_statements_in_one_text", in_one_text),
    ("executed_by_sql_in_a_failed_transaction", executed_in_failed),
    ("errors_name_the_one_of_two_like_statements", like_statements),
    ("the_unnamed_statement_behind_a_batch_that_fails", unnamed_behind_failure),
    ("parsed_in_a_failed_transaction", parsed_in_failed),
    ("names_of_sql_and_of_the_protocol_are_one_space", one_space_of_names),
    ("a_custom_settings_name_among_the_values", name_among_values),
    ("set_to_the_servers_default_is_set", set_to_default),
    ("prepared_behind_a_change_in_the_same_batch", changed_in_batch),
];

/// With nothing of its own, and with a setting that comes back with RESET.
const LOGINS: [&[(&str, &str)]; 2] = [&[], &[("DateStyle", "German")]];

/// Plays writes to new sessions of each kind of login. Every answer has to be the same on both sides.
fn alike(ground: &Ground, name: &str, conversations: &[&[Vec<Request>]]) {
    let tenant = ground.tenant(name);
    for lines in [&[][..], &["promote_unnamed = false"]] {
        let extra = lines.iter().map(|line| (*line).to_owned()).collect();
        let database = Database { extra, ..tenant.database(ground.cluster(), 1) };
        let proxy = Proxy::start(&ProxyOptions::new(vec![database]));
        for params in LOGINS {
            for writes in conversations {
                let mut pair = Pair::with(ground, &tenant, &proxy, params);
                writes.iter().for_each(|requests| drop(pair.ask(requests)));
            }
        }
    }
}

fn query(sql: &str) -> Request {
    Request::Query(sql.to_owned())
}

/// Bound and executed.
fn run(name: &str) -> [Request; 2] {
    [Request::bind(name, &[]), Request::execute()]
}

/// Parts of one write, with a Sync at its end.
fn batch(parts: &[&[Request]]) -> Vec<Request> {
    [&parts.concat(), &[Request::Sync][..]].concat()
}

fn taken_away(ground: &Ground) {
    for (number, sql) in ["discard all", "deallocate all"].into_iter().enumerate() {
        let other = || [Request::parse("other", "select 'other'")];
        let away = || [Request::parse("away", sql)];
        let close = [Request::CloseStatement(String::new())];
        let describe = [Request::DescribeStatement("other".to_owned())];
        let front = || [&other()[..], &away(), &run("away")].concat();
        alike(
            ground,
            &format!("taken_away_{number}"),
            &[
                &[batch(&[&front(), &run("other")]), batch(&[&other(), &run("other")])],
                &[batch(&[&front(), &other(), &run("other")]), batch(&[&run("other")])],
                &[batch(&[&front(), &describe])],
                &[batch(&[&front(), &close]), batch(&[&run("other")])],
                &[batch(&[&front(), &away(), &run("away"), &other(), &run("other")])],
                // The same text under another name.
                &[batch(&[&front(), &[Request::parse("", "select 'other'")], &run("")])],
                // It is not executed: the name is taken.
                &[
                    batch(&[&away()]),
                    [batch(&[&[Request::parse("away", "select 1")], &run("away")]), batch(&[&other()])]
                        .concat(),
                ],
                // By a Query, and in one write what follows.
                &[batch(&[&other()]), [vec![query(sql)], batch(&[&other(), &run("other")])].concat()],
            ],
        );
    }
}

fn in_one_text(ground: &Ground) {
    let parses = || vec![Request::parse("a", "select 'a'"), Request::parse("b", "select 'b'"), Request::Sync];
    let check = || [batch(&[&run("a")]), batch(&[&run("b")])].concat();
    let texts = [
        "deallocate a; select 1/0",
        "begin; deallocate a; commit",
        "deallocate a; deallocate b",
        "deallocate a; deallocate a",
        "execute b; deallocate a; execute a",
        "deallocate a; execute b",
        "execute a; deallocate a",
        "select 1; deallocate all",
    ];
    let conversations = texts.map(|sql| [parses(), vec![query(sql)], check(), parses()]);
    let conversations: Vec<&[Vec<Request>]> = conversations.iter().map(|writes| &writes[..]).collect();
    alike(ground, "in_one_text", &conversations);
}

/// Where the statement cannot be prepared.
fn executed_in_failed(ground: &Ground) {
    let parse = batch(&[&[Request::parse("a", "select 'a'")]]);
    let queries = ["begin", "select 1/0", "execute a", "execute a; select 1", "rollback", "execute a"];
    let writes: Vec<Vec<Request>> = [parse].into_iter().chain(queries.map(|sql| vec![query(sql)])).collect();
    alike(ground, "executed_in_failed", &[&writes]);
}

fn like_statements(ground: &Ground) {
    let parse = |name: &str| [Request::parse(name, "select 'alike'")];
    let bad = |name: &str| [Request::bind(name, &["too", "many"])];
    alike(
        ground,
        "like_statements",
        &[
            &[
                batch(&[&parse("s1"), &parse("s2"), &parse("s3")]),
                batch(&[&bad("s1")]),
                batch(&[&bad("s2")]),
                batch(&[&bad("s3")]),
            ],
            // The name stands for something else by the time of the error.
            &[
                batch(&[&parse("")]),
                batch(&[&parse("s1")]),
                [batch(&[&parse(""), &bad("")]), batch(&[&[Request::parse("", "select 'other'")]])].concat(),
                batch(&[&parse("")]),
                [batch(&[&bad("")]), vec![query("select 1")]].concat(),
            ],
        ],
    );
}

fn unnamed_behind_failure(ground: &Ground) {
    let parse = |sql: &str| [Request::parse("", sql)];
    alike(
        ground,
        "unnamed_behind",
        &[
            &[
                [batch(&[&parse("select * from missing")]), batch(&[&parse("select 1")])].concat(),
                batch(&[&run("")]),
            ],
            &[
                [
                    batch(&[&[Request::bind("nobody", &[])], &parse("select 1")]),
                    batch(&[&parse("select 2")]),
                    batch(&[&run("")]),
                ]
                .concat(),
                batch(&[&run("")]),
            ],
        ],
    );
}

fn parsed_in_failed(ground: &Ground) {
    let parse = |name: &str| [Request::parse(name, "select 'failed'")];
    let too_many = [Request::bind("a", &["too", "many"])];
    let empty = |name: &str| [Request::parse(name, "")];
    alike(
        ground,
        "parsed_in_failed",
        &[&[
            batch(&[&parse("a"), &empty("e")]),
            vec![query("begin")],
            vec![query("select 1/0")],
            batch(&[&parse("b")]),
            batch(&[&too_many]),
            batch(&[&empty("f"), &run("f")]),
            vec![query("rollback")],
            batch(&[&run("a")]),
        ]],
    );
}

fn one_space_of_names(ground: &Ground) {
    let sql = || vec![query("prepare a as select 'by sql'")];
    let parse = || batch(&[&[Request::parse("a", "select 'by the protocol'")], &run("a")]);
    alike(
        ground,
        "one_space",
        &[
            &[sql(), parse(), vec![query("execute a")], vec![query("deallocate a")], parse(), sql()],
            &[parse(), sql(), batch(&[&run("a")]), vec![query("deallocate a")], sql(), parse()],
        ],
    );
}

/// Of a statement that is kept prepared, and of one that is not.
fn name_among_values(ground: &Ground) {
    let set = |name: &str, value: &str| {
        let parse = Request::parse(name, "select set_config($1, $2, false)");
        batch(&[&[parse, Request::bind(name, &["my.var", value]), Request::execute()]])
    };
    let show = || vec![query("select current_setting('my.var', true)")];
    let conversation = [set("", "one"), show(), set("", "two"), show(), set("s", "three"), show()];
    alike(ground, "name_among_values", &[&conversation]);
}

fn set_to_default(ground: &Ground) {
    let show = || vec![query("show datestyle")];
    let conversations =
        [["set datestyle = 'ISO, MDY'", "reset work_mem"], ["set datestyle = 'ISO, MDY'", "set role none"]];
    let conversations = conversations.map(|[set, reset]| {
        [vec![query(set)], show(), vec![query(reset)], show(), vec![query("reset datestyle")], show()]
    });
    let conversations: Vec<&[Vec<Request>]> = conversations.iter().map(|writes| &writes[..]).collect();
    alike(ground, "set_to_default", &conversations);
}

/// Only through the proxy: directly the table would be changed for both.
fn changed_in_batch(ground: &Ground) {
    let tenant = ground.tenant("changed_in_batch");
    let proxy = Proxy::start(&ProxyOptions::new(vec![tenant.database(ground.cluster(), 1)]));
    let mut wire = tenant.login(proxy.address);
    wire.rows("create table changed (a int)");
    let parse = || Request::parse("s", "select * from changed");
    let describe = Request::DescribeStatement("s".to_owned());
    let alter = [Request::parse("", "alter table changed add column b int"), Request::bind("", &[])];
    let front = [parse(), Request::CloseStatement("s".to_owned())];
    let requests = batch(&[&front, &alter, &[Request::execute(), parse(), describe]]);
    wire.send(&bytes(&requests)).expect("send");
    assert_eq!(sqlstate(&wire.ready()), None);
}
