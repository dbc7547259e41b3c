//! One exchange, tallied.

use std::io;

use tokio::time::Instant;

use super::tally::Tally;
use super::target::Target;
use super::window::Window;
use crate::connection::Connection;
use crate::events::Events;
use crate::stamp;

/// Asks once on `connection` for what was due at `due`, and tallies what it sees.
///
/// # Errors
/// When the exchange fails, or a stream ends without all its events.
pub(super) async fn ask(
    connection: &mut Connection,
    target: &Target,
    (window, due): (&Window, Instant),
    tally: &Tally,
) -> io::Result<()> {
    if target.wish.events == 0 {
        return ask_whole(connection, target, (window, due), tally).await;
    }
    let mut events = Events::default();
    let on_data = |piece: &[u8]| {
        let (is_first, counts) = (events.stamped == 0, window.counts(Instant::now()));
        let mut seen = tally.lock();
        events.feed(piece, stamp::now_ns(), |age_ns| {
            if counts {
                seen.ages.add(age_ns);
            }
        });
        if is_first && events.stamped > 0 {
            seen.begun += 1;
            if window.expects(due) {
                seen.answered.add(nanoseconds_since(due));
            }
        }
    };
    connection.exchange(&target.request, on_data).await?;
    if events.is_done && events.stamped == target.wish.events {
        return Ok(());
    }
    Err(io::Error::other(format!("a stream ended after {} of {} events", events.stamped, target.wish.events)))
}

async fn ask_whole(
    connection: &mut Connection,
    target: &Target,
    (window, due): (&Window, Instant),
    tally: &Tally,
) -> io::Result<()> {
    connection.exchange(&target.request, |_| {}).await?;
    if window.expects(due) {
        tally.lock().answered.add(nanoseconds_since(due));
    }
    Ok(())
}

fn nanoseconds_since(due: Instant) -> u64 {
    u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
