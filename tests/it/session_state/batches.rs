//! What a client does with prepared statements and portals: a few names, so that they meet.

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::IteratorRandom as _;

use crate::support::requests::Request;

use super::statements::{Text, all_texts, pick};

/// Names of statements; the empty one is the unnamed statement.
const NAMES: &[&str] = &["", "", "s0", "s0", "s1", "s2"];

/// Names of portals.
const PORTALS: &[&str] = &["p0", "p1"];

/// One client's statements, as they are now and as they come to be if nothing fails.
#[derive(Debug)]
pub struct Batches {
    client: usize,
    parsed: BTreeMap<String, Text>,
    /// Not to be executed: names of what may mean something else by now.
    stale: Vec<String>,
}

impl Batches {
    /// The client has parsed these: name and text; some of them are `stale`.
    pub fn new(client: usize, parsed: Vec<(String, String)>, stale: Vec<String>) -> Self {
        let known = |sql: &str| {
            let begins = |text: &&Text| sql.starts_with(&filled(text.sql, client));
            all_texts().filter(begins).max_by_key(|text| text.sql.len()).copied()
        };
        let parsed = parsed.into_iter().filter_map(|(name, sql)| Some((name, known(&sql)?))).collect();
        Self { client, parsed, stale }
    }

    /// One or more groups of messages, the last of them with a Sync.
    pub fn next(&mut self, rng: &mut impl Rng, texts: &[Text]) -> Vec<Request> {
        let groups = if rng.random_ratio(1, 5) { rng.random_range(2..=4) } else { 1 };
        let mut requests = Vec::new();
        for _ in 0..groups {
            let group = self.group(rng, texts);
            // After an error everything up to the Sync goes unanswered, also a Query: then there would be one answer less.
            let has_to_end = matches!(group.first(), Some(Request::Query(_)));
            if is_open(&requests) && (has_to_end || rng.random_bool(0.5)) {
                requests.push(Request::Sync);
            }
            requests.extend(group);
        }
        if is_open(&requests) {
            requests.push(Request::Sync);
        }
        requests
    }

    fn group(&mut self, rng: &mut impl Rng, texts: &[Text]) -> Vec<Request> {
        let name = pick(rng, NAMES);
        match rng.random_range(0..24) {
            0..=3 => self.parse(rng, name, texts),
            4..=9 => self.execute(rng),
            10..=14 => {
                let mut requests = self.parse(rng, name, texts);
                requests.extend(self.execute_named(rng, name));
                requests
            }
            15 | 16 => self.close(name),
            17 => vec![Request::DescribeStatement(self.known(rng))],
            18 => self.miscounted(rng),
            19 => vec![Request::bind("never_parsed", &[])],
            20 => {
                vec![Request::Query(pick(rng, &["deallocate s0", "deallocate all", "select 1"]).to_owned())]
            }
            _ => self.portal(rng),
        }
    }

    fn parse(&mut self, rng: &mut impl Rng, name: &str, texts: &[Text]) -> Vec<Request> {
        let text = pick(rng, texts);
        // A name that is taken stays what it is, but for the unnamed statement.
        if name.is_empty() || !self.parsed.contains_key(name) {
            self.parsed.insert(name.to_owned(), text);
        }
        if name.is_empty() {
            self.stale.retain(|stale| !stale.is_empty());
        }
        let types = if rng.random_bool(0.8) { text.types.to_vec() } else { vec![] };
        let mut sql = filled(text.sql, self.client);
        if rng.random_ratio(1, 4) {
            sql += &trace_comment(rng);
        }
        let mut requests = vec![Request::Parse(name.to_owned(), sql, types)];
        if rng.random_bool(0.4) {
            requests.push(Request::DescribeStatement(name.to_owned()));
        }
        requests
    }

    /// Too many values. Not for tables that change meanwhile: which of the two errors it is does not matter to anybody.
    fn miscounted(&self, rng: &mut impl Rng) -> Vec<Request> {
        let name = self.known(rng);
        let fixed =
            self.parsed.get(&name).is_none_or(|text| !text.sql.contains("{c}") && !text.sql.contains(" u"));
        let values: &[&str] = if fixed { &["too", "many", "values"] } else { self.values(rng, &name) };
        vec![Request::bind(&name, values), Request::execute()]
    }

    fn execute(&mut self, rng: &mut impl Rng) -> Vec<Request> {
        let name = self.known(rng);
        self.execute_named(rng, &name)
    }

    fn execute_named(&self, rng: &mut impl Rng, name: &str) -> Vec<Request> {
        let mut requests = vec![Request::bind(name, self.values(rng, name))];
        if rng.random_bool(0.5) {
            requests.push(Request::DescribePortal(String::new()));
        }
        requests.push(Request::execute());
        requests
    }

    /// A portal of its own, executed in parts; later ones may find it or not.
    fn portal(&mut self, rng: &mut impl Rng) -> Vec<Request> {
        let portal = pick(rng, PORTALS).to_owned();
        match rng.random_range(0..4) {
            0 | 1 => {
                let name = self.known(rng);
                let values = self.values(rng, &name).iter().map(|value| (*value).to_owned()).collect();
                vec![Request::Bind(portal.clone(), name, values), Request::Execute(portal, 1)]
            }
            2 => vec![Request::Execute(portal.clone(), 1), Request::ClosePortal(portal)],
            _ => vec![Request::DescribePortal(portal.clone()), Request::Execute(portal, 0)],
        }
    }

    fn close(&mut self, name: &str) -> Vec<Request> {
        self.parsed.remove(name);
        self.stale.retain(|stale| stale != name);
        vec![Request::CloseStatement(name.to_owned())]
    }

    /// A name that was parsed, if there is one; or any.
    fn known(&self, rng: &mut impl Rng) -> String {
        let known = self.parsed.keys().choose(rng).filter(|_| rng.random_bool(0.9));
        let name = known.map_or_else(|| pick(rng, NAMES).to_owned(), Clone::clone);
        if self.stale.contains(&name) { "never_parsed".to_owned() } else { name }
    }

    fn values(&self, rng: &mut impl Rng, name: &str) -> &'static [&'static str] {
        self.parsed.get(name).map_or(&[], |text| pick(rng, text.values))
    }
}

fn filled(sql: &str, client: usize) -> String {
    sql.replace("{c}", &client.to_string())
}

fn is_open(requests: &[Request]) -> bool {
    requests.last().is_some_and(|request| !request.ends_an_answer())
}

/// As sqlcommenter puts it behind a statement: another one each time.
fn trace_comment(rng: &mut impl Rng) -> String {
    format!("/*traceparent='00-{:032x}-{:016x}-01'*/", rng.random::<u128>(), rng.random::<u64>())
}
