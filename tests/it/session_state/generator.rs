//! Chooses what is done next: by a seed, and by what the oracle's sessions have come to.

use std::collections::VecDeque;

use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};

use crate::support::requests::Request;

use super::batches::Batches;
use super::player::STARTUP;
use super::statements as sql;
use super::step::{Action, Leaving, Step};
use super::world::CLIENTS;

/// What a sequence is about. Each has a few topics, so that they meet often; transactions and reads are in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// SET, RESET, `set_config`.
    Settings,
    /// SET LOCAL.
    Local,
    /// SET ROLE, SET SESSION AUTHORIZATION.
    Roles,
    /// What is seldom said.
    Odd,
    /// Parse, Bind, Execute, Describe, Close.
    Statements,
    /// Statements about tables that change meanwhile.
    Changes,
    /// The same where columns and tables go away.
    Removals,
    /// Statements that mean something else with another search path.
    Paths,
    /// Statements with literals whose meaning depends on settings.
    Literals,
    /// What keeps a server connection; for one client only.
    Pins,
    /// Clients that go in the middle.
    Leaving,
}

impl Topic {
    /// Every topic and the name by which it can be left out.
    pub const ALL: [(&str, Self); 11] = [
        ("settings", Self::Settings),
        ("local", Self::Local),
        ("roles", Self::Roles),
        ("odd", Self::Odd),
        ("statements", Self::Statements),
        ("changes", Self::Changes),
        ("removals", Self::Removals),
        ("paths", Self::Paths),
        ("literals", Self::Literals),
        ("pins", Self::Pins),
        ("leaving", Self::Leaving),
    ];
}

/// Steps in a sequence, without those of its end.
const STEPS: std::ops::RangeInclusive<usize> = 4..=14;

/// What a generator sees of the sessions.
pub trait View {
    /// The transaction status as ReadyForQuery has it.
    fn status(&self, client: usize) -> u8;
    /// It would not wait for a server connection for ever.
    fn may_act(&self, client: usize) -> bool;
    /// The client's statements: name and text.
    fn parsed(&self, client: usize) -> Vec<(String, String)>;
    /// Names of those that may mean something else by now, as they were prepared under other settings.
    fn stale(&self, client: usize) -> Vec<String>;
}

/// One sequence, made step by step.
pub struct Generator {
    rng: SmallRng,
    role: String,
    topics: Vec<Topic>,
    /// Who takes part.
    clients: Vec<usize>,
    /// Who alone may have state that keeps a server connection: two of them would take the whole pool.
    pinner: usize,
    pinning: &'static [&'static str],
    /// A number of each session's own: a lock or a channel may outlive its session for a moment.
    keys: [u32; CLIENTS],
    left: usize,
    end: Option<VecDeque<Step>>,
}

impl Generator {
    /// The sequence of this seed, for a role, about some of these topics.
    pub fn new(seed: u64, role: &str, topics: &[Topic]) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let count = rng.random_range(1..=4).min(topics.len());
        let topics = topics.choose_multiple(&mut rng, count).copied().collect();
        let mut clients: Vec<usize> = (0..CLIENTS).collect();
        clients.shuffle(&mut rng);
        clients.truncate(rng.random_range(2..=CLIENTS));
        Self {
            role: role.to_owned(),
            topics,
            pinner: clients[0],
            pinning: sql::pinning(&mut rng),
            keys: rng.random(),
            left: rng.random_range(STEPS),
            end: None,
            clients,
            rng,
        }
    }

    /// The next step. None: the sequence is over.
    pub fn next(&mut self, view: &impl View) -> Option<Step> {
        if let Some(end) = &mut self.end {
            return end.pop_front();
        }
        let able: Vec<usize> = self.clients.iter().copied().filter(|client| view.may_act(*client)).collect();
        match able.choose(&mut self.rng) {
            Some(client) if self.left > 0 => {
                self.left -= 1;
                Some(self.step(*client, view))
            }
            _ => {
                self.end = Some(self.ending(view));
                self.next(view)
            }
        }
    }

    fn step(&mut self, client: usize, view: &impl View) -> Step {
        let topic = sql::pick(&mut self.rng, &self.topics);
        let pins = topic == Topic::Pins && client == self.pinner;
        let action = match self.rng.random_range(0..10) {
            0 | 1 => {
                let text = self.timely(client, view, sql::transaction);
                self.say(client, text)
            }
            2 | 3 => {
                let text = sql::read(&mut self.rng);
                self.say(client, text)
            }
            _ => self.about(topic, client, view),
        };
        Step { client, action, pins }
    }

    fn about(&mut self, topic: Topic, client: usize, view: &impl View) -> Action {
        let rng = &mut self.rng;
        let text = match topic {
            Topic::Settings => sql::setting(rng),
            Topic::Local => sql::local_setting(rng),
            Topic::Roles => sql::role(rng).to_owned(),
            Topic::Odd => self.timely(client, view, |rng, _| sql::odd(rng)).to_owned(),
            Topic::Pins if client == self.pinner => sql::pick(rng, self.pinning).to_owned(),
            Topic::Pins => sql::read(rng).to_owned(),
            Topic::Changes | Topic::Removals if rng.random_ratio(2, 5) => {
                sql::change(rng, topic == Topic::Removals).to_owned()
            }
            Topic::Paths if rng.random_ratio(1, 3) => {
                format!("set search_path = {}, public", sql::pick(rng, &["x", "y"]))
            }
            Topic::Literals if rng.random_ratio(1, 3) => sql::pick(rng, DISPLAY_SETTINGS).to_owned(),
            Topic::Leaving if rng.random_ratio(1, 4) => return self.leave(client),
            Topic::Leaving => sql::setting(rng),
            Topic::Statements | Topic::Changes | Topic::Removals | Topic::Paths | Topic::Literals => {
                return self.batch(topic, client, view);
            }
        };
        self.say(client, &text)
    }

    /// What may be said in a transaction that has reset settings, if it may be one.
    fn timely(
        &mut self,
        client: usize,
        view: &impl View,
        choose: impl Fn(&mut SmallRng, u8) -> &'static str,
    ) -> &'static str {
        let status = view.status(client);
        loop {
            let text = choose(&mut self.rng, status);
            if status == b'I' || STARTUP[client].is_empty() || !sql::is_late(text) {
                return text;
            }
        }
    }

    /// A statement: by Query, mostly alone, or by the extended protocol.
    fn say(&mut self, client: usize, text: &str) -> Action {
        let text = self.filled(client, text);
        let rng = &mut self.rng;
        Action::Write(match rng.random_range(0..20) {
            0..=12 => vec![Request::Query(text)],
            13 => vec![Request::Query(format!("{text}; select 1/0"))],
            14 => vec![Request::Query(format!("begin; {text}; commit"))],
            15 => {
                let mut second = sql::setting(rng);
                // What a RESET brings back is there only behind its text (docs/session-state.md).
                while second.starts_with("show") {
                    second = sql::setting(rng);
                }
                vec![Request::Query(format!("{text}; {second}"))]
            }
            16 => vec![Request::Query(text), Request::Query(sql::PROBE.to_owned())],
            _ => {
                let unnamed = [Request::parse("", &text), Request::bind("", &[])];
                [&unnamed[..], &[Request::execute(), Request::Sync]].concat()
            }
        })
    }

    fn batch(&mut self, topic: Topic, client: usize, view: &impl View) -> Action {
        let texts = match topic {
            Topic::Paths => sql::PATH_TEXTS,
            Topic::Literals => sql::LITERAL_TEXTS,
            Topic::Changes | Topic::Removals => sql::TABLE_TEXTS,
            _ => sql::SHARED_TEXTS,
        };
        Action::Write(
            Batches::new(client, view.parsed(client), view.stale(client)).next(&mut self.rng, texts),
        )
    }

    fn filled(&self, client: usize, text: &str) -> String {
        let key = self.keys[client].to_string();
        text.replace("{c}", &client.to_string()).replace("{r}", &self.role).replace("{k}", &key)
    }

    fn leave(&mut self, client: usize) -> Action {
        self.keys[client] = self.rng.random();
        Action::Leave(sql::pick(&mut self.rng, &[Leaving::Terminate, Leaving::Abort]))
    }

    /// Nobody keeps anything for the next sequence, and everybody is asked whether that is so. Whoever has a server
    /// connection comes first, or the others would wait for it.
    fn ending(&mut self, view: &impl View) -> VecDeque<Step> {
        let mut clients = self.clients.clone();
        clients.sort_by_key(|client| (view.status(*client) == b'I', *client != self.pinner));
        let mut steps = VecDeque::new();
        for &client in &clients {
            match self.rng.random_range(0..20) {
                0 => steps.push_back(Step { client, action: Action::Leave(Leaving::Abort), pins: false }),
                1 => steps.push_back(Step { client, action: Action::Leave(Leaving::Terminate), pins: false }),
                _ => {
                    if view.status(client) != b'I' {
                        let end = if self.rng.random_bool(0.5) { "rollback" } else { "commit" };
                        steps.push_back(Step::query(client, end));
                    }
                    steps.push_back(Step::query(client, "discard all"));
                }
            }
        }
        steps.extend(clients.iter().map(|client| Step::query(*client, sql::PROBE)));
        steps
    }
}

/// Settings that change how literals are read.
const DISPLAY_SETTINGS: &[&str] = &[
    "set datestyle = 'ISO, DMY'",
    "set datestyle = 'ISO, MDY'",
    "set timezone = 'Asia/Tokyo'",
    "set timezone = 'UTC'",
    "set intervalstyle = 'sql_standard'",
    "set standard_conforming_strings = off",
];
