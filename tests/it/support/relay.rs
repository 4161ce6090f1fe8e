//! A TCP relay that a test can spoil: it stands before PostgreSQL or before the proxy, and delays, cuts, swallows or accepts
//! late what goes through it.
//!
//! All links of a relay run on one thread, each as one task, so that a cut is a reset at once and nothing trickles behind it.
//! A direction that is held is a partition as its ends see it: the kernel takes what is written, nothing arrives, not even the
//! end of the stream.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Most that is passed at once: replies of any size can be spoiled in their middle.
const CHUNK: usize = 16 * 1024;

/// A direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From who has connected.
    Forth,
    /// To who has connected.
    Back,
}

/// Both directions.
pub const BOTH: &[Way] = &[Way::Forth, Way::Back];

/// What becomes of those who connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// They are linked at once.
    Linked,
    /// They are linked after this long; until then they only have a connection.
    Late(Duration),
    /// They have a connection, and nobody answers, until [`Relay::release`].
    Silent,
    /// They are reset.
    Reset,
}

/// What is done to a link.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Both ends are reset.
    Cut,
    /// These directions swallow everything, until they are released.
    Hold(&'static [Way]),
    /// These directions stand still for so long.
    Pause(&'static [Way], Duration),
    /// From now on everything takes this much longer.
    Slow(Duration),
}

/// What is done to a link once so many bytes have gone one way.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    /// Which way.
    pub way: Way,
    /// After how many bytes.
    pub after: usize,
    /// What then.
    pub fault: Fault,
}

/// What is to be done to the link with this number.
type Plan = Box<dyn FnMut(usize) -> Vec<Planned> + Send>;

/// A running relay. Dropped, it resets all its links.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    behind: SocketAddr,
    arrival: watch::Sender<Arrival>,
    over: watch::Sender<bool>,
    plan: Mutex<Plan>,
    links: Mutex<Vec<Arc<Link>>>,
    opened: AtomicUsize,
    most_open: AtomicUsize,
}

/// One connection through the relay.
struct Link {
    traffic: watch::Sender<Traffic>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    held: [bool; 2],
    slow: Duration,
    cut: bool,
}

impl Traffic {
    fn set(&mut self, ways: &[Way], held: bool) {
        ways.iter().for_each(|way| self.held[*way as usize] = held);
    }
}

impl Relay {
    /// Starts one before this address.
    pub fn start(behind: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            behind,
            arrival: watch::Sender::new(Arrival::Linked),
            over: watch::Sender::new(false),
            plan: Mutex::new(Box::new(|_| vec![])),
            links: Mutex::default(),
            opened: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
        });
        let this = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let mut over = this.over.subscribe();
                tokio::select! {
                    _ = over.wait_for(|over| *over) => {}
                    () = accept(Arc::clone(&this), listener) => {}
                }
            });
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// What becomes of those who connect from now on; who is kept waiting as [`Arrival::Silent`] stays so.
    pub fn arrivals(&self, arrival: Arrival) {
        self.shared.arrival.send_replace(arrival);
    }

    /// What is to be done to links made from now on.
    pub fn plan(&self, plan: impl FnMut(usize) -> Vec<Planned> + Send + 'static) {
        *self.shared.plan.lock().expect("no plan panics") = Box::new(plan);
    }

    /// Does this to all links that there are.
    pub fn inflict(&self, fault: Fault) {
        self.shared.links().iter().for_each(|link| link.inflict(fault));
    }

    /// Resets the links of which a direction is held.
    pub fn cut_held(&self) {
        let links = self.shared.links().clone();
        let held = links.iter().filter(|link| link.traffic.borrow().held.contains(&true));
        held.for_each(|link| link.inflict(Fault::Cut));
    }

    /// From now on everything is as if there were no relay: nothing is planned, everybody is linked, what was held flows.
    pub fn release(&self) {
        self.plan(|_| vec![]);
        self.arrivals(Arrival::Linked);
        for link in self.shared.links().iter() {
            link.traffic.send_modify(|traffic| *traffic = Traffic { cut: traffic.cut, ..Traffic::default() });
        }
    }

    /// Connections that there are.
    pub fn open(&self) -> usize {
        self.shared.links().len()
    }

    /// Connections that there were.
    pub fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }

    /// The most that there were at once.
    pub fn most_open(&self) -> usize {
        self.shared.most_open.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.links.lock().expect("no panic while it is held")
    }

    fn enter(&self) -> (Arc<Link>, Vec<Planned>) {
        let number = self.opened.fetch_add(1, Ordering::SeqCst);
        let link = Arc::new(Link { traffic: watch::Sender::new(Traffic::default()) });
        let mut links = self.links();
        links.push(Arc::clone(&link));
        self.most_open.fetch_max(links.len(), Ordering::SeqCst);
        drop(links);
        (link, (self.plan.lock().expect("no plan panics"))(number))
    }

    fn leave(&self, link: &Arc<Link>) {
        self.links().retain(|other| !Arc::ptr_eq(other, link));
    }
}

impl Link {
    fn inflict(self: &Arc<Self>, fault: Fault) {
        self.traffic.send_modify(|traffic| match fault {
            Fault::Cut => traffic.cut = true,
            Fault::Hold(ways) | Fault::Pause(ways, _) => traffic.set(ways, true),
            Fault::Slow(by) => traffic.slow = by,
        });
    }

    /// Does what was planned; on the relay's own thread.
    fn suffer(self: &Arc<Self>, fault: Fault) {
        self.inflict(fault);
        if let Fault::Pause(ways, pause) = fault {
            let link = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                link.traffic.send_modify(|traffic| traffic.set(ways, false));
            });
        }
    }

    /// Waits until something may go this way. Never, once the link is cut: who watches for that goes first.
    async fn flows(&self, way: Way) {
        let mut traffic = self.traffic.subscribe();
        let free = |traffic: &Traffic| !traffic.held[way as usize] && !traffic.cut;
        let slow = traffic.wait_for(free).await.map(|traffic| traffic.slow).unwrap_or_default();
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
            // It may have been held meanwhile.
            let _ = traffic.wait_for(free).await;
        }
    }
}

async fn accept(shared: Arc<Shared>, listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).expect("a runtime");
    while let Ok((mut near, _)) = listener.accept().await {
        let (link, plan) = shared.enter();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut cut = link.traffic.subscribe();
            let done = tokio::select! {
                biased;
                _ = cut.wait_for(|traffic| traffic.cut) => Err(io::ErrorKind::ConnectionReset.into()),
                done = carry(&shared, &link, &mut near, plan) => done,
            };
            if done.is_err() {
                reset(&near);
            }
            drop(near);
            shared.leave(&link);
        });
    }
}

/// Closing it resets it.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// A link from its first byte to its last.
async fn carry(
    shared: &Shared,
    link: &Arc<Link>,
    near: &mut TcpStream,
    plan: Vec<Planned>,
) -> io::Result<()> {
    let early = welcome(shared, near).await?;
    let mut far = TcpStream::connect(shared.behind).await?;
    for stream in [&*near, &far] {
        stream.set_nodelay(true)?;
    }
    // Should this fail or be given up, both ends are reset.
    reset(&far);
    let planned = |way| plan.iter().filter(|planned| planned.way == way).copied().collect();
    let (near_read, near_write) = near.split();
    let (far_read, far_write) = far.split();
    tokio::try_join!(
        pass(link, near_read, far_write, Way::Forth, planned(Way::Forth), early),
        pass(link, far_read, near_write, Way::Back, planned(Way::Back), vec![]),
    )?;
    SockRef::from(&far).set_linger(None)
}

/// Keeps who has connected waiting as long as is wanted. Returns what was sent meanwhile.
async fn welcome(shared: &Shared, near: &TcpStream) -> io::Result<Vec<u8>> {
    let arrival = *shared.arrival.borrow();
    let wait = async {
        match arrival {
            Arrival::Linked => Ok(()),
            Arrival::Reset => Err(io::ErrorKind::ConnectionReset.into()),
            Arrival::Late(by) => {
                tokio::time::sleep(by).await;
                Ok(())
            }
            Arrival::Silent => {
                let mut arrivals = shared.arrival.subscribe();
                let _ = arrivals.wait_for(|arrival| *arrival != Arrival::Silent).await;
                Ok(())
            }
        }
    };
    let mut early = vec![];
    tokio::select! {
        biased;
        result = wait => result.map(|()| early),
        error = listen(near, &mut early) => Err(error),
    }
}

/// Reads for as long as there is something to come.
async fn listen(near: &TcpStream, early: &mut Vec<u8>) -> io::Error {
    loop {
        if let Err(error) = near.readable().await {
            return error;
        }
        match near.try_read_buf(early) {
            Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return error,
            _ => {}
        }
    }
}

/// One direction of a link, to the end of its stream.
async fn pass(
    link: &Arc<Link>,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: Way,
    mut plan: VecDeque<Planned>,
    early: Vec<u8>,
) -> io::Result<()> {
    plan.make_contiguous().sort_by_key(|planned| planned.after);
    let (mut chunk, mut passed) = (early, 0);
    loop {
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let next = plan.front().map_or(usize::MAX, |planned| planned.after);
            if next <= passed {
                plan.pop_front().into_iter().for_each(|planned| link.suffer(planned.fault));
                continue;
            }
            link.flows(way).await;
            let (part, behind) = rest.split_at(rest.len().min(next - passed));
            to.write_all(part).await?;
            (passed, rest) = (passed + part.len(), behind);
        }
        chunk.clear();
        chunk.reserve(CHUNK);
        if from.read_buf(&mut chunk).await? == 0 {
            link.flows(way).await;
            return to.shutdown().await;
        }
    }
}
