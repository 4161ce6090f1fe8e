//! The shell of [`LoginQueue`]: a login waits for its turn, and gives it back however it ends.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use foldhash::quality::RandomState;
use tokio::sync::oneshot;

use crate::guard::{Comer, LoginArrival, LoginQueue, LoginTicket};
use crate::lock::lock;

/// Whose turn it is to log in.
#[derive(Debug)]
pub(super) struct LoginTurns {
    desk: Mutex<Desk>,
    hash: RandomState,
}

#[derive(Debug)]
struct Desk {
    queue: LoginQueue,
    /// Who waits. A ticket that is not here any more has its turn.
    waiting: HashMap<LoginTicket, oneshot::Sender<()>>,
}

/// A login's place; dropped, it is the next one's, or the wait is given up.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<LoginTurns>,
    comer: Comer,
    wait: Option<(LoginTicket, oneshot::Receiver<()>)>,
}

impl LoginTurns {
    pub(super) fn new(places: usize, max_waiting: usize) -> Self {
        let queue = LoginQueue::new(places, max_waiting);
        Self { desk: Mutex::new(Desk { queue, waiting: HashMap::new() }), hash: RandomState::default() }
    }

    /// A login arrives; None if too many wait. `user` is what it claims, if it has said so already.
    pub(super) fn arrive(self: &Arc<Self>, address: Option<IpAddr>, user: Option<&str>) -> Option<Turn> {
        let comer = Comer { address: self.hash.hash_one(address), user: self.hash.hash_one(user) };
        let mut desk = lock(&self.desk);
        let wait = match desk.queue.arrive(comer) {
            LoginArrival::Granted => None,
            LoginArrival::Queued(ticket) => {
                let (granted, receiver) = oneshot::channel();
                desk.waiting.insert(ticket, granted);
                Some((ticket, receiver))
            }
            LoginArrival::Full => return None,
        };
        Some(Turn { turns: Arc::clone(self), comer, wait })
    }

    /// Another bound on those that wait.
    pub(super) fn set_max_waiting(&self, max_waiting: usize) {
        lock(&self.desk).queue.set_max_waiting(max_waiting);
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.desk).queue.waiting()
    }
}

impl Turn {
    /// Ready once it is its turn. Cancel safe.
    pub(super) async fn granted(&mut self) {
        if let Some((_, receiver)) = &mut self.wait {
            // The sender is not dropped before it has sent.
            let _ = receiver.await;
            self.wait = None;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut desk = lock(&self.turns.desk);
        let waits = self.wait.as_ref().map(|(ticket, _)| *ticket);
        if let Some(ticket) = waits.filter(|ticket| desk.waiting.remove(ticket).is_some()) {
            desk.queue.gave_up(self.comer, ticket);
            return;
        }
        let next = desk.queue.ended(self.comer).and_then(|ticket| desk.waiting.remove(&ticket));
        drop(desk);
        if let Some(granted) = next {
            // Whoever has gone meanwhile gives its turn back when it is dropped.
            let _ = granted.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn turns_are_passed_on_and_given_up() {
        let turns = Arc::new(LoginTurns::new(1, 10));
        let arrive = || turns.arrive(None, None).expect("room");
        let (first, mut second, mut third, mut fourth) = (arrive(), arrive(), arrive(), arrive());
        assert_eq!(turns.waiting(), 3);
        assert!(second.granted().now_or_never().is_none());
        drop(first);
        assert!(third.granted().now_or_never().is_none());
        // Given up while it waits, and given up when it was its turn and it did not know.
        drop(third);
        drop(second);
        assert!(fourth.granted().now_or_never().is_some());
        assert_eq!(turns.waiting(), 0);
        drop(fourth);
        assert!(arrive().granted().now_or_never().is_some());
    }

    #[test]
    fn the_waiting_room_is_bounded() {
        let turns = Arc::new(LoginTurns::new(1, 1));
        let _kept = [turns.arrive(None, None), turns.arrive(None, None)];
        assert!(turns.arrive(None, Some("u")).is_none());
    }
}
