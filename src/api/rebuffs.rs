//! How fast those are answered whom nobody knows: at once while they are few, at a measured pace when they flood.
//!
//! An answer costs a worker some ten microseconds, whoever gets it, and a client without a key may ask for as many as
//! its connections carry. So a flood would take the time of those who have one. To hold an answer back costs a timer,
//! and nothing can be asked over its connection meanwhile.

use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::time::sleep;
use parking_lot::Mutex;

use super::admission::Seats;
use crate::domain::clock::Moment;

/// This far apart rebuffs are given while there are too many. Chosen: 200 a second cost less than a hundredth of a core.
const GAP: Duration = Duration::from_millis(5);

/// So many are given at once before that. Chosen: the agents of one client with a mistake in its key notice nothing.
const AT_ONCE: u32 = 100;

/// Nobody is held back for longer. Chosen: below the timeouts of clients; whoever floods over thousands of connections is
/// down to a rebuff in two seconds on each.
const HELD_BACK_MAX: Duration = Duration::from_secs(2);

/// So many are held back at a time, over all workers; the others lose their connection. Chosen: 45 MiB of idle
/// connections and a tenth of a core, and a flood over more of them pays for a new one each time.
const HELD_BACK: usize = 4_096;

/// The rebuffs of the process.
#[derive(Clone, Debug)]
pub(super) struct Rebuffs {
    pace: Arc<Mutex<Pace>>,
    held_back: Seats,
}

impl Rebuffs {
    pub(super) fn new() -> Self {
        Self { pace: Arc::default(), held_back: Seats::new(HELD_BACK) }
    }

    /// Ends when it is the turn of a rebuff that is due at `now`. Whether its connection may be kept: where too many
    /// are held back already it is to be closed, and it is its turn at once. Cancel-safe.
    pub(super) async fn turn(&self, now: Moment) -> bool {
        let delay = self.pace.lock().delay(now);
        if delay.is_zero() {
            return true;
        }
        let Some(_seat) = self.held_back.take() else { return false };
        sleep(delay).await;
        true
    }
}

/// When the next rebuff is given; pure.
#[derive(Debug, Default)]
struct Pace {
    /// Ahead of the time by what was given, a gap each.
    next: Moment,
}

impl Pace {
    /// How long a rebuff is held back that is due at `now`.
    fn delay(&mut self, now: Moment) -> Duration {
        let at_once = GAP * AT_ONCE;
        // A clock that steps back gives nobody a longer wait than the longest.
        let turn = self.next.max(now - at_once);
        let delay = turn.saturating_since(now);
        if delay >= HELD_BACK_MAX {
            return HELD_BACK_MAX;
        }
        self.next = turn + GAP;
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_unix_micros(1_790_000_000_000_000);

    /// The delays of so many that come at `now`.
    fn delays(pace: &mut Pace, now: Moment, count: u32) -> Vec<Duration> {
        (0..count).map(|_| pace.delay(now)).collect()
    }

    #[test]
    fn a_few_are_not_held_back_and_many_come_at_a_pace() {
        let mut pace = Pace::default();
        assert!(delays(&mut pace, NOW, AT_ONCE + 1).iter().all(Duration::is_zero));
        assert_eq!(delays(&mut pace, NOW, 3), [GAP, GAP * 2, GAP * 3]);
        assert_eq!(delays(&mut pace, NOW + GAP * 3, 2), [GAP, GAP * 2]);
    }

    #[test]
    fn nobody_is_held_back_for_longer_than_the_most() {
        let mut pace = Pace::default();
        let held_back = delays(&mut pace, NOW, 10_000);
        assert_eq!(held_back.iter().max(), Some(&HELD_BACK_MAX));
        // Those beyond are not counted: when they have stopped, so has the pace by then.
        assert_eq!(pace.delay(NOW + HELD_BACK_MAX), Duration::ZERO);
        assert_eq!(pace.delay(NOW - Duration::from_secs(3_600)), HELD_BACK_MAX);
    }

    #[test]
    fn a_flood_that_waits_for_its_answers_gets_them_at_the_pace() {
        // 64 connections, each of which asks again when it has its answer, for ten seconds.
        let mut pace = Pace::default();
        let mut connections = vec![NOW; 64];
        let end = NOW + Duration::from_secs(10);
        let mut given = 0_u32;
        while let Some(next) = connections.iter_mut().min().filter(|next| **next < end) {
            *next = *next + pace.delay(*next) + Duration::from_micros(100);
            given += 1;
        }
        // Those who still wait at the end included.
        let most = AT_ONCE + 1 + 10 * 200 + 64;
        assert!((most - 128..=most + 1).contains(&given), "{given}");
    }

    #[test]
    fn after_a_flood_a_few_are_given_at_once_again() {
        let mut pace = Pace::default();
        delays(&mut pace, NOW, 1_000);
        let later = NOW + Duration::from_secs(60);
        assert!(delays(&mut pace, later, AT_ONCE).iter().all(Duration::is_zero));
    }

    #[actix_web::test]
    async fn who_finds_no_place_to_be_held_back_loses_the_connection() {
        tokio::time::pause();
        let rebuffs = Rebuffs { held_back: Seats::new(1), ..Rebuffs::new() };
        for _at_once in 0..=AT_ONCE {
            assert!(rebuffs.turn(NOW).await);
        }
        assert_eq!(tokio::join!(rebuffs.turn(NOW), rebuffs.turn(NOW)), (true, false));
        assert!(rebuffs.turn(NOW).await, "the place is free again");
    }
}
