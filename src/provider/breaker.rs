//! Whether a provider as a whole is fit to be asked; pure.
//!
//! ```text
//!            half of 5 or more recent attempts failed,
//!            or 3 in a row got no answer at all
//!   Closed ───────────────────────────────────────────> Open until an instant
//!     ^                                                       │ the next one who asks
//!     │ the probe gets an answer                              v
//!     └──────────────────────────────────────────────── HalfOpen: one probe
//!                                                             │ the probe fails
//!                                                             └──> Open, for longer
//! ```

use std::time::Duration;

use serde::Serialize;

use super::recent::{Recent, WINDOW};
use crate::domain::clock::Moment;
use crate::domain::pause::doubled;

/// Fewer recent attempts prove nothing. Chosen: two failures of three may be chance, three of five hardly.
const ATTEMPTS_MIN: u32 = 5;

/// So many attempts in a row without a connection or an answer are enough: a host that is down needs no statistics.
const UNREACHABLE_MAX: u32 = 3;

/// The first pause; it doubles whenever the provider fails again soon after.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A probe that has not decided after this long is joined by another: one slow answer must not keep everybody away.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// Decides for all attempts at one provider. Its clock is the latest `now` that it was told.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: State,
    recent: Recent,
    /// Attempts in a row that were not answered at all.
    unreachable: u32,
    /// How often it has opened without having been closed for a whole window since.
    openings: u32,
    closed_at: Moment,
    /// How many probes have set out so far.
    probes: u64,
    latest: Moment,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Moment,
    },
    HalfOpen {
        probe: ProbeNumber,
        since: Moment,
    },
}

/// Tells one probe from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProbeNumber(u64);

/// What an attempt may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    Free,
    /// It may, and what becomes of it decides for everybody; say [`Breaker::start_probe`] if it does.
    AsProbe,
    /// Not before then.
    NotUntil(Moment),
}

/// How an attempt went, as far as the provider as a whole is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempted {
    /// The provider answers, be it with a refusal.
    Answered,
    /// It answered and then broke off: counts instead of the answer that was counted before.
    BrokenOff,
    /// It failed.
    Failed,
    /// There was no connection, or no byte of an answer.
    Unreachable,
}

/// The breaker, for `Observe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BreakerSnapshot {
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
    /// While it is open: Unix microseconds.
    pub until: Option<Moment>,
    pub recent_attempts: u32,
    pub recent_failures: u32,
}

impl Breaker {
    /// Whether the provider may be asked.
    pub(super) fn passage(&mut self, now: Moment) -> Passage {
        let now = self.catch_up(now);
        match self.state {
            State::Closed => Passage::Free,
            State::Open { until } if now < until => Passage::NotUntil(until),
            State::HalfOpen { since, .. } if now < since + PROBE_PATIENCE => {
                Passage::NotUntil(since + PROBE_PATIENCE)
            }
            State::Open { .. } | State::HalfOpen { .. } => Passage::AsProbe,
        }
    }

    /// An attempt sets out as the probe.
    pub(super) fn start_probe(&mut self, now: Moment) -> ProbeNumber {
        let since = self.catch_up(now);
        self.probes = self.probes.wrapping_add(1);
        let probe = ProbeNumber(self.probes);
        self.state = State::HalfOpen { probe, since };
        probe
    }

    /// A probe has ended without deciding anything: its client left, or the request was wrong. The next one who asks
    /// is the probe.
    pub(super) fn abandon(&mut self, probe: ProbeNumber) {
        if matches!(self.state, State::HalfOpen { probe: current, .. } if current == probe) {
            self.state = State::Open { until: self.latest };
        }
    }

    /// Takes note of how an attempt went; of one that is no probe only while the breaker is closed: what set out
    /// before it opened says nothing new.
    pub(super) fn note(&mut self, now: Moment, attempted: Attempted, probe: Option<ProbeNumber>) {
        let now = self.catch_up(now);
        match (self.state, probe) {
            (State::Closed, _) => self.count(now, attempted),
            (State::HalfOpen { .. }, Some(_)) => match attempted {
                Attempted::Answered => self.close(now),
                Attempted::BrokenOff | Attempted::Failed | Attempted::Unreachable => self.open(now),
            },
            (State::Open { .. } | State::HalfOpen { .. }, _) => {}
        }
    }

    pub(super) fn snapshot(&self, now: Moment) -> BreakerSnapshot {
        let (state, until) = match self.state {
            State::Closed => ("closed", None),
            State::Open { until } => ("open", Some(until)),
            State::HalfOpen { .. } => ("half_open", None),
        };
        let (recent_attempts, recent_failures) = self.recent.sums(now.max(self.latest));
        BreakerSnapshot { state, until, recent_attempts, recent_failures }
    }

    fn count(&mut self, now: Moment, attempted: Attempted) {
        self.unreachable = match attempted {
            Attempted::Unreachable => self.unreachable.saturating_add(1),
            Attempted::Answered | Attempted::BrokenOff | Attempted::Failed => 0,
        };
        match attempted {
            Attempted::Answered => self.recent.succeeded(now),
            Attempted::BrokenOff => self.recent.failed_after_all(now),
            Attempted::Failed | Attempted::Unreachable => self.recent.failed(now),
        }
        let (attempts, failures) = self.recent.sums(now);
        let is_failing = attempts >= ATTEMPTS_MIN && failures.saturating_mul(2) >= attempts;
        if attempted != Attempted::Answered && (is_failing || self.unreachable >= UNREACHABLE_MAX) {
            self.open(now);
        }
    }

    fn open(&mut self, now: Moment) {
        let is_closed_for_long =
            self.state == State::Closed && now.saturating_since(self.closed_at) >= WINDOW;
        self.openings = if is_closed_for_long { 1 } else { self.openings.saturating_add(1) };
        let pause = doubled(FIRST_PAUSE, self.openings.saturating_sub(1), PAUSE_MAX);
        self.state = State::Open { until: now + pause };
    }

    fn close(&mut self, now: Moment) {
        self.state = State::Closed;
        self.closed_at = now;
        self.unreachable = 0;
        self.recent = Recent::default();
    }

    fn catch_up(&mut self, now: Moment) -> Moment {
        self.latest = self.latest.max(now);
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Moment = Moment::from_unix_micros(1_000_000_000);
    const TICK: Duration = Duration::from_micros(1);

    fn after(seconds: u64) -> Moment {
        START + Duration::from_secs(seconds)
    }

    /// One that has just opened, and until when.
    fn opened() -> (Breaker, Moment) {
        let mut breaker = Breaker::default();
        (0..ATTEMPTS_MIN).for_each(|_| breaker.note(START, Attempted::Failed, None));
        let Passage::NotUntil(until) = breaker.passage(START) else { panic!("it is not open") };
        (breaker, until)
    }

    #[test]
    fn it_opens_at_half_of_enough_attempts() {
        let mut breaker = Breaker::default();
        for second in 0..10 {
            breaker.note(after(second), Attempted::Answered, None);
        }
        for second in 10..19 {
            breaker.note(after(second), Attempted::Failed, None);
            assert_eq!(breaker.passage(after(second)), Passage::Free, "{second}");
        }
        breaker.note(after(19), Attempted::Failed, None);
        assert_eq!(breaker.passage(after(19)), Passage::NotUntil(after(20)));
    }

    #[test]
    fn what_lies_back_does_not_count() {
        let mut breaker = Breaker::default();
        (0..4).for_each(|_| breaker.note(START, Attempted::Failed, None));
        let later = START + WINDOW + Duration::from_secs(5);
        (0..4).for_each(|_| breaker.note(later, Attempted::Failed, None));
        assert_eq!(breaker.passage(later), Passage::Free);
    }

    #[test]
    fn a_host_that_is_down_needs_no_statistics() {
        let mut breaker = Breaker::default();
        (0..100).for_each(|_| breaker.note(START, Attempted::Answered, None));
        (0..UNREACHABLE_MAX).for_each(|_| breaker.note(START, Attempted::Unreachable, None));
        assert_eq!(breaker.passage(START), Passage::NotUntil(after(1)));
    }

    #[test]
    fn an_answer_that_breaks_off_counts_once() {
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            breaker.note(START, Attempted::Answered, None);
            breaker.note(START, Attempted::BrokenOff, None);
        }
        assert_eq!(
            (breaker.snapshot(START).recent_attempts, breaker.snapshot(START).recent_failures),
            (4, 4)
        );
        breaker.note(START, Attempted::Answered, None);
        breaker.note(START, Attempted::BrokenOff, None);
        assert_eq!(breaker.snapshot(START).state, "open");
    }

    #[test]
    fn one_probe_decides() {
        let (mut breaker, until) = opened();
        assert_eq!(breaker.passage(until), Passage::AsProbe);
        let probe = breaker.start_probe(until);
        assert_eq!(breaker.passage(until), Passage::NotUntil(until + PROBE_PATIENCE));
        breaker.note(until, Attempted::Answered, None);
        assert!(matches!(breaker.passage(until), Passage::NotUntil(_)), "no others decide");
        breaker.note(until, Attempted::Answered, Some(probe));
        assert_eq!(breaker.passage(until), Passage::Free);
        assert_eq!(breaker.snapshot(until).recent_attempts, 0, "it starts over");
    }

    #[test]
    fn a_probe_that_decides_nothing_is_followed_by_another() {
        let (mut breaker, until) = opened();
        let probe = breaker.start_probe(until);
        breaker.abandon(probe);
        assert_eq!(breaker.passage(until), Passage::AsProbe);
        let second = breaker.start_probe(until);
        breaker.abandon(probe);
        assert!(matches!(breaker.passage(until), Passage::NotUntil(_)), "the second one is out");
        assert_ne!(probe, second);
        assert_eq!(breaker.passage(until + PROBE_PATIENCE), Passage::AsProbe);
    }

    #[test]
    fn pauses_double_until_it_has_held_for_a_while() {
        let (mut breaker, mut until) = opened();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let probe = breaker.start_probe(until);
            breaker.note(until, Attempted::Failed, Some(probe));
            let Passage::NotUntil(next) = breaker.passage(until) else { panic!("it is not open") };
            pauses.push(next.saturating_since(until).as_secs());
            until = next;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60]);
        let probe = breaker.start_probe(until);
        breaker.note(until, Attempted::Answered, Some(probe));
        (0..ATTEMPTS_MIN).for_each(|_| breaker.note(until, Attempted::Failed, None));
        assert_eq!(breaker.passage(until), Passage::NotUntil(until + PAUSE_MAX), "too soon to be forgiven");

        let probe = breaker.start_probe(until + PAUSE_MAX);
        breaker.note(until + PAUSE_MAX, Attempted::Answered, Some(probe));
        let later = until + PAUSE_MAX + WINDOW;
        (0..ATTEMPTS_MIN).for_each(|_| breaker.note(later, Attempted::Failed, None));
        assert_eq!(breaker.passage(later), Passage::NotUntil(later + FIRST_PAUSE));
    }

    fn attempted() -> impl Strategy<Value = Attempted> {
        prop_oneof![
            Just(Attempted::Answered),
            Just(Attempted::BrokenOff),
            Just(Attempted::Failed),
            Just(Attempted::Unreachable)
        ]
    }

    proptest! {
        #[test]
        fn who_always_answers_is_always_asked(pauses in proptest::collection::vec(0u64..40, 1..100)) {
            let mut breaker = Breaker::default();
            let mut now = START;
            for pause in pauses {
                now = now + Duration::from_secs(pause);
                prop_assert_eq!(breaker.passage(now), Passage::Free);
                breaker.note(now, Attempted::Answered, None);
            }
        }

        /// Whatever happens: an instant that is told is honest and never far, and behind it waits one probe only.
        #[test]
        fn a_refusal_is_honest(course in proptest::collection::vec((attempted(), 0u64..3_000, any::<bool>()), 1..200)) {
            let mut breaker = Breaker::default();
            let mut now = START;
            for (attempted, pause_ms, is_abandoned) in course {
                now = now + Duration::from_millis(pause_ms);
                match breaker.passage(now) {
                    Passage::Free => breaker.note(now, attempted, None),
                    Passage::NotUntil(until) => {
                        prop_assert!(until > now && until <= now + PAUSE_MAX);
                        prop_assert!(matches!(breaker.passage(until - TICK), Passage::NotUntil(_)));
                        now = until;
                        prop_assert_eq!(breaker.passage(now), Passage::AsProbe);
                    }
                    Passage::AsProbe => {
                        let probe = breaker.start_probe(now);
                        prop_assert!(matches!(breaker.passage(now), Passage::NotUntil(_)));
                        if is_abandoned { breaker.abandon(probe) } else { breaker.note(now, attempted, Some(probe)) }
                    }
                }
            }
        }

        #[test]
        fn a_clock_that_steps_back_admits_nobody(back_ms in 1u64..100_000) {
            let (mut breaker, until) = opened();
            prop_assert_eq!(breaker.passage(until - Duration::from_millis(back_ms)), Passage::NotUntil(until));
            let probe = breaker.start_probe(until);
            breaker.note(until - Duration::from_millis(back_ms), Attempted::Failed, Some(probe));
            let is_refused = matches!(breaker.passage(START), Passage::NotUntil(next) if next > until);
            prop_assert!(is_refused);
        }
    }
}
