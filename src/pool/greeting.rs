//! What clients are told at login without asking a server: the parameters that PostgreSQL reports.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::lock::lock;
use crate::proto::parameters::Parameters;

/// Most sets of parameters remembered per pool. Functions of one deployment all send the same.
const MOST_KNOWN: usize = 256;

/// What one pool's clients are greeted with.
#[derive(Debug)]
pub struct Greeting {
    /// As reported to the first server connection, and how many dials have failed.
    state: watch::Sender<State>,
    /// Sets of parameters that a server has taken, as it reported them.
    known: Mutex<HashMap<Parameters, Arc<Parameters>>>,
    /// What was settled with clients that wanted the same.
    terms: Mutex<HashMap<Parameters, Arc<Terms>>>,
    /// Held while a new set is tried out: of a thousand logins that bring the same new set, one asks a server.
    pub trial: tokio::sync::Mutex<()>,
}

/// What is settled with a client at login. Clients that want the same share it.
#[derive(Debug)]
pub struct Terms {
    /// What its server connections shall have, over what they come with.
    pub wanted: Arc<Parameters>,
    /// The ParameterStatus messages that it is greeted with.
    pub statuses: Vec<u8>,
}

#[derive(Debug, Default, Clone)]
struct State {
    reported: Option<Arc<Parameters>>,
    failures: u64,
}

impl Default for Greeting {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(State::default()),
            known: Mutex::default(),
            terms: Mutex::default(),
            trial: Default::default(),
        }
    }
}

impl Greeting {
    /// What PostgreSQL reports to a new connection; None before the first.
    pub fn reported(&self) -> Option<Arc<Parameters>> {
        self.state.borrow().reported.clone()
    }

    /// Waits for the first server connection; None as soon as a dial fails that ends after this call. Cancel safe.
    pub fn first(&self) -> impl Future<Output = Option<Arc<Parameters>>> + Send + 'static {
        let mut state = self.state.subscribe();
        let failures = state.borrow().failures;
        async move {
            let known = state.wait_for(|state| state.reported.is_some() || state.failures != failures).await;
            known.ok().and_then(|state| state.reported.clone())
        }
    }

    /// A server connection has logged in. A server that was upgraded or set up anew greets differently.
    pub(super) fn learn(&self, reported: &Arc<Parameters>) {
        let changed = self.state.send_if_modified(|state| {
            let changed = state.reported.as_ref() != Some(reported);
            if changed {
                state.reported = Some(Arc::clone(reported));
            }
            changed
        });
        if changed {
            lock(&self.known).clear();
            lock(&self.terms).clear();
        }
    }

    /// A dial has failed: logins that wait for the first one need not.
    pub(super) fn dial_failed(&self) {
        self.state.send_modify(|state| state.failures += 1);
    }

    /// A set of parameters as a server took it, if one has.
    pub fn known(&self, wanted: &Parameters) -> Option<Arc<Parameters>> {
        lock(&self.known).get(wanted).cloned()
    }

    /// What was settled with a client that wanted the same.
    pub fn terms(&self, wanted: &Parameters) -> Option<Arc<Terms>> {
        lock(&self.terms).get(wanted).cloned()
    }

    /// What is settled with every client that wants this.
    pub fn settle(&self, wanted: Parameters, terms: Arc<Terms>) {
        let mut all = lock(&self.terms);
        if all.len() >= MOST_KNOWN {
            all.clear();
        }
        all.insert(wanted, terms);
    }

    /// A server has taken this set, and reports it as that one.
    pub fn remember(&self, wanted: Parameters, taken: Arc<Parameters>) {
        let mut known = lock(&self.known);
        if known.len() >= MOST_KNOWN {
            // Costs those in use one more question each; a bound is what matters.
            known.clear();
        }
        known.insert(wanted, taken);
    }
}
