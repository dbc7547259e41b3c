//! How long to leave a target alone that refuses without saying until when, and who may ask it first after that.
//!
//! ```text
//!        refused, no instant            the wait is over
//!   Open ─────────────────> Blocked ─────────────────> one probe sets out
//!    ^                         ^                              │
//!    │  the probe is answered  └── refused again, for longer ─┤
//!    └────────────────────────────────────────────────────────┘
//! ```

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::domain::pause::doubled;

/// The first waits. Source: the contract's "30 s, 2 min, 10 min …" for a 429 without an instant.
const FIRST_WAITS: [Duration; 3] =
    [Duration::from_secs(30), Duration::from_secs(2 * 60), Duration::from_secs(10 * 60)];

/// Where the waits begin for a limit of an hour or more: what is used up for the day is not back in 30 s. Chosen: the
/// last of the first waits.
const LONG_LIMIT_LEVEL: u32 = 2;

/// No wait is longer. Chosen: one probe an hour costs no budget worth naming, and a target that has come back
/// is found within the hour.
const MAX_WAIT: Duration = Duration::from_secs(60 * 60);

/// A probe that has not been answered after this long is joined by another. Chosen: as for the provider's breaker.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// Tells one probe from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeSerial(u64);

/// The waits between refusals in a row that carry no instant: 30 s, 2 min, 10 min, then doubling, at most an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Escalation {
    /// How many waits have been in vain so far.
    level: u32,
    /// While it is blocked, or waits for its probe.
    blocked_until: Option<Moment>,
    /// The probe that is out, and since when.
    probe: Option<(ProbeSerial, Moment)>,
    probes: u64,
}

impl Escalation {
    /// One more refusal without an instant, of an attempt that was that probe or none: until when to leave the target
    /// alone, `cap` at most. `None` when it is left alone already: who set out before says nothing new.
    pub fn refuse(
        &mut self,
        now: Moment,
        probe: Option<ProbeSerial>,
        is_long_limit: bool,
        cap: Moment,
    ) -> Option<Moment> {
        if self.blocked_until.is_some() && !self.is_out(probe) {
            return None;
        }
        let level = if is_long_limit { self.level.max(LONG_LIMIT_LEVEL) } else { self.level };
        self.level = level.saturating_add(1);
        let until = (now + wait(level)).min(cap);
        (self.blocked_until, self.probe) = (Some(until), None);
        Some(until)
    }

    /// A refusal with an instant: that decides, and no probe is needed behind it.
    pub fn refuse_until_stated(&mut self, probe: Option<ProbeSerial>) {
        if self.is_out(probe) {
            (self.blocked_until, self.probe) = (None, None);
        }
    }

    /// How many waits there were in a row, for others who leave the same target alone.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// An attempt was granted at `now` by those who know of the target from everybody: so many waits were in vain, of
    /// which the last is over; `None` when it works. While a wait of our own goes on, that is the later word.
    pub fn follow(&mut self, now: Moment, level: Option<u32>) {
        let is_waiting = self.blocked_until.is_some_and(|until| until > now);
        match level.filter(|level| *level > 0) {
            Some(level) => {
                self.level = level.max(if is_waiting { self.level } else { 0 });
                self.blocked_until = self.blocked_until.or(Some(now));
            }
            None if is_waiting => {}
            None => *self = Self { probes: self.probes, ..Self::default() },
        }
    }

    /// Whether who asks now has to do so as the probe.
    pub fn awaits_probe(&self, now: Moment) -> bool {
        let is_probed = self.probe.is_some_and(|(_, since)| now < since + PROBE_PATIENCE);
        self.blocked_until.is_some_and(|until| until <= now) && !is_probed
    }

    /// An attempt sets out as the probe.
    pub fn start_probe(&mut self, now: Moment) -> ProbeSerial {
        self.probes = self.probes.wrapping_add(1);
        let serial = ProbeSerial(self.probes);
        self.probe = Some((serial, now));
        serial
    }

    /// That attempt, a probe or none, was answered. Whether this opens a target that was kept for its probe. While it
    /// is blocked, or waits for its probe, only the probe's answer counts.
    pub fn answered(&mut self, probe: Option<ProbeSerial>) -> bool {
        let opens = self.is_out(probe);
        if opens || self.blocked_until.is_none() {
            *self = Self { probes: self.probes, ..Self::default() };
        }
        opens
    }

    /// That probe has ended without deciding anything; whether it was the one that is waited for.
    pub fn abandon(&mut self, probe: ProbeSerial) -> bool {
        let is_out = self.is_out(Some(probe));
        if is_out {
            self.probe = None;
        }
        is_out
    }

    fn is_out(&self, probe: Option<ProbeSerial>) -> bool {
        probe.is_some() && probe == self.probe.map(|(serial, _)| serial)
    }
}

/// The wait after so many in vain: 30 s, 2 min, 10 min, then doubling, at most an hour.
fn wait(level: u32) -> Duration {
    let [.., longest] = FIRST_WAITS;
    let position = usize::try_from(level).unwrap_or(usize::MAX);
    let beyond = || doubled(longest, level.saturating_sub(LONG_LIMIT_LEVEL), MAX_WAIT);
    FIRST_WAITS.get(position).copied().unwrap_or_else(beyond)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Moment = Moment::from_unix_micros(1_000_000_000);

    /// What each of so many refusals in a row, each of a probe, waits for.
    fn waits(count: usize, is_long: bool, cap: Duration) -> Vec<u64> {
        let (mut escalation, mut now, mut probe) = (Escalation::default(), START, None);
        let next = |_| {
            let until = escalation.refuse(now, probe, is_long, now + cap).unwrap();
            let wait = until.saturating_since(now).as_secs();
            now = until;
            probe = Some(escalation.start_probe(now));
            wait
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn waits_grow_to_an_hour() {
        assert_eq!(waits(7, false, Duration::MAX), [30, 120, 600, 1200, 2400, 3600, 3600]);
    }

    #[test]
    fn a_day_is_not_back_in_half_a_minute() {
        assert_eq!(waits(4, true, Duration::from_secs(86_400)), [600, 1200, 2400, 3600]);
    }

    #[test]
    fn no_wait_outlives_the_limit() {
        assert_eq!(waits(3, false, Duration::from_secs(60)), [30, 60, 60]);
    }

    #[test]
    fn it_starts_again_after_an_answer() {
        let mut escalation = Escalation::default();
        let until = escalation.refuse(START, None, false, Moment::NEVER).unwrap();
        let probe = escalation.start_probe(until);
        assert!(escalation.answered(Some(probe)));
        let again = escalation.refuse(until, None, false, Moment::NEVER);
        assert_eq!(again, Some(until + Duration::from_secs(30)));
    }

    #[test]
    fn refusals_of_attempts_that_were_under_way_are_one_refusal() {
        let mut escalation = Escalation::default();
        let first = escalation.refuse(START, None, false, Moment::NEVER);
        assert!(first.is_some());
        for _ in 0..10 {
            assert_eq!(escalation.refuse(START, None, false, Moment::NEVER), None);
        }
    }

    #[test]
    fn an_answer_to_an_attempt_that_was_under_way_opens_nothing() {
        let mut escalation = Escalation::default();
        let until = escalation.refuse(START, None, false, Moment::NEVER).unwrap();
        assert!(!escalation.answered(None));
        assert!(escalation.awaits_probe(until));
    }

    #[test]
    fn one_probe_is_out_at_a_time() {
        let mut escalation = Escalation::default();
        assert!(!escalation.awaits_probe(START), "nothing was refused");
        let until = escalation.refuse(START, None, false, Moment::NEVER).unwrap();
        assert!(!escalation.awaits_probe(until - Duration::from_micros(1)));
        assert!(escalation.awaits_probe(until));
        let lost = escalation.start_probe(until);
        assert!(!escalation.awaits_probe(until));
        assert!(escalation.awaits_probe(until + PROBE_PATIENCE));
        let second = escalation.start_probe(until + PROBE_PATIENCE);
        assert!(!escalation.abandon(lost), "another one is out");
        assert!(escalation.abandon(second));
        assert!(escalation.awaits_probe(until + PROBE_PATIENCE));
    }

    #[test]
    fn what_others_found_goes_on_here() {
        let mut escalation = Escalation::default();
        escalation.follow(START, Some(2));
        let probe = escalation.awaits_probe(START).then(|| escalation.start_probe(START));
        let until = escalation.refuse(START, probe, false, Moment::NEVER);
        assert_eq!((until, escalation.level()), (Some(START + Duration::from_secs(600)), 3));
        // What was granted before says nothing new, but nobody forgets what others found.
        escalation.follow(START, None);
        escalation.follow(START, Some(1));
        assert_eq!(escalation.level(), 3);
        assert!(!escalation.awaits_probe(START));
        // It works again, as another one found.
        let later = until.unwrap();
        escalation.follow(later, None);
        let again = escalation.refuse(later, None, false, Moment::NEVER);
        assert_eq!(again, Some(later + Duration::from_secs(30)));
    }

    #[test]
    fn an_instant_needs_no_probe_behind_it() {
        let mut escalation = Escalation::default();
        let until = escalation.refuse(START, None, false, Moment::NEVER).unwrap();
        let probe = escalation.start_probe(until);
        escalation.refuse_until_stated(Some(probe));
        assert!(!escalation.awaits_probe(Moment::NEVER));
    }

    proptest! {
        /// However refusals, answers and time mix: a wait lies ahead and within an hour, and never two probes are out.
        #[test]
        fn a_wait_is_ahead_and_bounded(course in proptest::collection::vec((0u8..4, 0u64..4_000), 1..100)) {
            let (mut escalation, mut now, mut probe) = (Escalation::default(), START, None);
            for (event, pause) in course {
                now = now + Duration::from_secs(pause);
                match event {
                    0 => if let Some(until) = escalation.refuse(now, probe.take(), false, Moment::NEVER) {
                        prop_assert!(until > now && until <= now + MAX_WAIT);
                    },
                    1 => { escalation.answered(probe.take()); }
                    2 => if escalation.awaits_probe(now) {
                        probe = Some(escalation.start_probe(now));
                        prop_assert!(!escalation.awaits_probe(now));
                    },
                    _ => if let Some(probe) = probe.take() { escalation.abandon(probe); },
                }
            }
        }
    }
}
