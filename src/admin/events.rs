//! `/events`: the status once a second, as server-sent events (HTML standard, section 9.2).

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::Event;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::listener::Streams;
use super::{Admin, told};

/// Pages that are live at once: half of the admin address' connections.
pub(super) const MOST_STREAMS: usize = 16;
/// Between two events.
const PERIOD: Duration = Duration::from_secs(1);

/// Begins a stream; 503 if there are [`MOST_STREAMS`] already.
pub(super) async fn events(
    State(admin): State<Admin>,
    ConnectInfo(streams): ConnectInfo<Streams>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, StatusCode> {
    let permit = admin.streams.try_acquire_owned().map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    streams.begin();
    let next = async move |(shown, mut ticks, permit): (super::Shown, Interval, _)| {
        ticks.tick().await;
        // What cannot be told is in the log; the page sees that the stream ends.
        let text = told(shown.clone(), false).await.ok()?;
        Some((Ok(Event::default().data(text)), (shown, ticks, permit)))
    };
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(Sse::new(unfold((admin.shown, ticks, permit), next)))
}
