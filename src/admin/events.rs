//! `/events`: the status once a second, as server-sent events (HTML standard, section 9.2).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::Event;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::listener::Streams;
use super::{Admin, Shown, told};

/// Pages that are live at once: half of the admin address' connections.
pub(super) const MOST_STREAMS: usize = 16;
/// Between two events.
const PERIOD: Duration = Duration::from_secs(1);

/// The pages that are live, and the status that was told last: one is made for all of them.
#[derive(Debug)]
pub(super) struct Live {
    places: Arc<Semaphore>,
    last: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MOST_STREAMS)), last: Mutex::default() }
    }

    /// None: it cannot be told, for which the log has the reason.
    async fn status(&self, shown: &Shown) -> Option<Arc<str>> {
        let mut last = self.last.lock().await;
        match &*last {
            Some((at, text)) if at.elapsed() < PERIOD / 2 => Some(Arc::clone(text)),
            _ => {
                let text: Arc<str> = told(shown.clone(), false).await.ok()?.into();
                *last = Some((Instant::now(), Arc::clone(&text)));
                Some(text)
            }
        }
    }
}

/// Begins a stream; 503 if there are [`MOST_STREAMS`] already.
pub(super) async fn events(
    State(admin): State<Admin>,
    ConnectInfo(streams): ConnectInfo<Streams>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, StatusCode> {
    let permit = Arc::clone(&admin.live.places).try_acquire_owned();
    let permit = permit.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    streams.begin();
    let next = async move |(admin, mut ticks, permit): (Admin, Interval, _)| {
        ticks.tick().await;
        let text = admin.live.status(&admin.shown).await?;
        Some((Ok(Event::default().data(&*text)), (admin, ticks, permit)))
    };
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(Sse::new(unfold((admin, ticks, permit), next)))
}
