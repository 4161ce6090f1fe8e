//! The I/O threads: one current-thread runtime each. See `docs/decisions/0001-threads.md`.

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use crate::client::size_buffer;

/// Threads for keys and names (PBKDF2, DNS), all I/O threads together doing little of either.
const BLOCKING_THREADS: usize = 4;

/// The I/O threads; dropped, they end with everything that runs on them.
#[derive(Debug)]
pub(super) struct IoThreads {
    homes: Vec<Handle>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl IoThreads {
    /// Starts `count` threads, or as many as are best for this machine, with relay buffers of `buffer` bytes.
    pub(super) fn start(count: Option<usize>, buffer: usize) -> io::Result<Self> {
        let mut started = Self { homes: vec![], stop: watch::Sender::new(false), threads: vec![] };
        for index in 0..count.unwrap_or_else(best_count) {
            let (tell, told) = mpsc::channel();
            let stop = started.stop.subscribe();
            let thread = std::thread::Builder::new()
                .name(format!("io-{index}"))
                .spawn(move || run(buffer, stop, &tell))?;
            started.threads.push(thread);
            started.homes.push(told.recv().map_err(io::Error::other)??);
        }
        Ok(started)
    }

    /// A handle for each thread's runtime.
    pub(super) fn homes(&self) -> &[Handle] {
        &self.homes
    }
}

fn run(buffer: usize, mut stop: watch::Receiver<bool>, tell: &mpsc::Sender<io::Result<Handle>>) {
    match Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build() {
        Err(error) => drop(tell.send(Err(error))),
        Ok(runtime) => {
            size_buffer(buffer);
            if tell.send(Ok(runtime.handle().clone())).is_ok() {
                // Also over when the sender is gone.
                let _ = runtime.block_on(stop.wait_for(|stop| *stop));
                runtime.shutdown_background();
            }
        }
    }
}

/// One thread relays more transactions per second than most databases can run; each further one costs wake-ups across threads.
fn best_count() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 4).clamp(1, 16)
}

impl Drop for IoThreads {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
