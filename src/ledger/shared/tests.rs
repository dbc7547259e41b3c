//! The core and the memory, without a database.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::job::{Cooling, Failure, Job, Report};
use super::verdict::Verdict;
use crate::db::shared_ledger::{
    AccountPart, AttemptId, Budget, Claim, ClaimAccount, ClaimLine, Cooled, Decision, Definition, Fill,
    Obstacle, Part, PartLine, ProbeEnd, Reserved, Settled, SettledLine, Settlement, Span, Why,
};
use crate::domain::clock::Moment;
use crate::domain::cooldown::CooldownReason;
use crate::domain::ids::ProviderId;
use crate::domain::limit::Unit;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);
const GRANTED: Decision = Decision::Granted { account: 0, is_probe: false };

fn at(millis: i64) -> Moment {
    Moment::from_unix_micros(millis * 1_000)
}

fn budget(account: &str, unit: Unit) -> Arc<Budget> {
    let span = Span::Sliding(60 * SECOND);
    Arc::new(Budget {
        account: account.to_owned(),
        scope: "account".to_owned(),
        unit,
        models: None,
        definitions: vec![Definition { span, max: 100, fill: Fill::Empty }],
    })
}

fn on(budget: &Arc<Budget>, amount: u64) -> ClaimAccount {
    let line = ClaimLine { budget: Arc::clone(budget), amount, crash_cap: SECOND, returnable: 0, leave: 0 };
    ClaimAccount { account: budget.account.clone(), cooldowns: vec![String::new()], lines: vec![line] }
}

fn claim_at(provider: &str, accounts: Vec<ClaimAccount>) -> Claim {
    let provider = ProviderId::new(provider);
    Claim { id: AttemptId::mint(), provider, send_within: 2 * SECOND, probe_within: SECOND, accounts }
}

fn claim(amount: u64) -> Claim {
    claim_at("p", vec![on(&budget("a", Unit::Tokens), amount)])
}

fn settlement(id: AttemptId, amount: u64, is_final: bool) -> Settlement {
    let line = SettledLine {
        scope: "account".to_owned(),
        unit: Unit::Tokens,
        amount,
        last_count: Some(at(0)),
        is_final,
        returnable: 0,
    };
    Settlement { lines: vec![line], ..Settlement::of(id, ProviderId::new("p")) }
}

/// A core whose askers are numbers.
fn core() -> Core<u32> {
    Core::new()
}

/// A report that all went well.
fn done(job: &Job, serial: i64, decisions: Vec<Decision>, obstacles: Vec<Obstacle>) -> Report {
    let is_asked = !job.work.reserve.is_empty();
    let settled = u64::try_from(job.work.settle.len()).unwrap();
    Report {
        number: job.number,
        is_prepared: true,
        settled: (settled > 0).then_some(Settled { now_us: 0, settled, missing: 0 }),
        was_asked: is_asked,
        reserved: is_asked.then_some(Reserved {
            now_us: 0,
            serial,
            decisions,
            obstacles,
            cooled: Vec::new(),
        }),
        ..Report::default()
    }
}

fn failed(job: &Job, failure: Failure, was_asked: bool) -> Report {
    Report { number: job.number, was_asked, failure: Some(failure), ..Report::default() }
}

#[test]
fn what_arrives_during_a_call_goes_with_the_next() {
    let mut core = core();
    assert_eq!(core.reserve(at(0), claim(1), 1), None);
    let first = core.next_job(at(0)).unwrap();
    assert_eq!(first.work.reserve.len(), 1);
    for asker in 2..5 {
        core.reserve(at(1), claim(1), asker);
    }
    assert!(core.next_job(at(1)).is_none(), "one call in flight per provider");
    // Another provider does not wait for it.
    core.reserve(at(1), claim_at("q", vec![on(&budget("b", Unit::Requests), 1)]), 9);
    assert_eq!(core.next_job(at(1)).unwrap().provider, ProviderId::new("q"));
    let answers = core.finish(at(5), done(&first, 1, vec![GRANTED], Vec::new()));
    // Sent within two seconds of the call's beginning, not of its answer.
    let granted = Verdict::Granted { account: 0, send_by: at(2_000), is_probe: false };
    assert_eq!(answers, [(1, granted)]);
    let second = core.next_job(at(5)).unwrap();
    assert_eq!(second.work.reserve.len(), 3);
    assert_eq!((core.counters.calls, core.counters.claims_asked, core.counters.granted), (3, 5, 1));
}

#[test]
fn a_batch_is_bounded_and_so_is_the_queue() {
    let mut core = core();
    let turned_away = (0..1_030).filter(|asker| core.reserve(at(0), claim(1), *asker).is_some()).count();
    assert_eq!(turned_away, 6);
    assert_eq!(core.next_job(at(0)).unwrap().work.reserve.len(), 32);
}

#[test]
fn a_refusal_is_remembered_by_limit_and_units() {
    let mut core = core();
    core.reserve(at(0), claim(50), 1);
    let job = core.next_job(at(0)).unwrap();
    let obstacle = Obstacle { budget: budget("a", Unit::Tokens), amount: 50, after: 10 * SECOND };
    let refused = Decision::Refused { after: 10 * SECOND };
    let answers = core.finish(at(3), done(&job, 1, vec![refused], vec![obstacle]));
    let until = Verdict::NotUntil(at(10_003));
    assert_eq!(answers, [(1, until)]);
    // As many or more units cost no query until then; fewer, or another account, are asked for.
    assert_eq!(core.reserve(at(4), claim(50), 2), Some((2, until)));
    assert_eq!(core.reserve(at(4), claim(99), 3), Some((3, until)));
    assert_eq!(core.reserve(at(4), claim(49), 4), None);
    let elsewhere =
        claim_at("p", vec![on(&budget("a", Unit::Tokens), 50), on(&budget("b", Unit::Tokens), 50)]);
    assert_eq!(core.reserve(at(4), elsewhere, 5), None);
    assert_eq!(core.reserve(at(10_003), claim(50), 6), None);
    assert_eq!(core.counters.refused_from_memory, 2);
}

#[test]
fn what_an_attempt_gives_back_ends_the_memory_of_its_limit() {
    let mut core = core();
    core.reserve(at(0), claim(50), 1);
    let job = core.next_job(at(0)).unwrap();
    let obstacle = Obstacle { budget: budget("a", Unit::Tokens), amount: 50, after: 10 * SECOND };
    core.finish(at(0), done(&job, 1, vec![Decision::Refused { after: 10 * SECOND }], vec![obstacle]));
    assert!(core.reserve(at(1), claim(50), 2).is_some());
    core.settle(at(1), settlement(AttemptId::mint(), 1, true));
    assert!(core.reserve(at(1), claim(50), 3).is_none());
    // The claim finds it given back.
    assert_eq!(core.next_job(at(1)).unwrap().work.settle.len(), 1);
}

#[test]
fn what_can_never_fit_is_told_without_asking() {
    let mut core = core();
    assert_eq!(core.reserve(at(0), claim(101), 1), Some((1, Verdict::TooLarge)));
}

#[test]
fn attempts_of_an_unknown_outcome_are_released_before_anything_else_is_asked() {
    let mut core = core();
    let [lost, next] = [claim(1), claim(1)];
    core.reserve(at(0), lost.clone(), 1);
    let job = core.next_job(at(0)).unwrap();
    let answers = core.finish(at(200), failed(&job, Failure::Refused, true));
    // The provider is left alone for a moment, and no longer; then the release goes first.
    assert_eq!(answers, [(1, Verdict::Away(at(450)))]);
    assert_eq!(core.reserve(at(300), claim(1), 3), Some((3, Verdict::Away(at(450)))));
    assert!(core.next_job(at(200)).is_none());
    assert_eq!(core.next_wake(at(200)), Some(at(450)));
    assert!(core.reserve(at(450), next.clone(), 2).is_none());
    let job = core.next_job(at(450)).unwrap();
    assert_eq!(job.work.release, [lost.id]);
    assert_eq!(job.work.reserve[0].id, next.id);
    // A release that failed as well is tried again.
    core.finish(at(460), failed(&job, Failure::Refused, false));
    assert_eq!(core.next_job(at(5_000)).unwrap().work.release, [lost.id]);
    assert_eq!(core.counters.unknown_outcomes, 1);
}

#[test]
fn a_call_that_never_reached_the_database_has_nothing_to_release() {
    let mut core = core();
    core.reserve(at(0), claim(1), 1);
    let job = core.next_job(at(0)).unwrap();
    core.finish(at(1), failed(&job, Failure::Unreachable, false));
    assert_eq!(core.unwritten(), 0);
}

#[test]
fn an_answer_after_the_deadline_is_not_heard() {
    let mut core = core();
    let slow = claim(1);
    core.reserve(at(0), slow.clone(), 1);
    let job = core.next_job(at(0)).unwrap();
    assert_eq!(core.next_wake(at(0)), Some(at(1_000)));
    assert!(core.expire(at(999)).is_empty());
    assert_eq!(core.expire(at(1_000)), [(1, Verdict::Away(at(1_250)))]);
    assert!(core.finish(at(1_500), done(&job, 1, vec![GRANTED], Vec::new())).is_empty());
    assert_eq!(core.next_job(at(1_500)).unwrap().work.release, [slow.id]);
}

#[test]
fn a_claim_waits_for_a_second_at_most() {
    let mut core = core();
    core.reserve(at(0), claim(1), 1);
    let _call = core.next_job(at(0)).unwrap();
    core.reserve(at(500), claim(1), 2);
    assert_eq!(core.expire(at(1_000)).len(), 1);
    assert_eq!(core.expire(at(1_500)), [(2, Verdict::Away(at(2_500)))]);
    // It was never asked, so there is nothing of it to take back.
    assert_eq!(core.counters.unknown_outcomes, 1);
}

#[test]
fn while_the_ledger_is_away_news_are_kept_and_claims_told() {
    let mut core = core();
    let id = AttemptId::mint();
    core.settle(at(0), settlement(id, 5, false));
    let mut now = at(200);
    for _ in 0..6 {
        let job = core.next_job(now).unwrap();
        assert_eq!(job.work.settle.len(), 1);
        core.finish(now, failed(&job, Failure::Unreachable, false));
        assert!(core.is_away());
        // Told is the instant of the next try, a second away at most.
        let again = Verdict::Away(core.next_wake(now).unwrap().min(now + SECOND));
        assert_eq!(core.reserve(now, claim(1), 1), Some((1, again)));
        // Every provider waits for the same database.
        let elsewhere = claim_at("q", vec![on(&budget("b", Unit::Requests), 1)]);
        assert_eq!(core.reserve(now, elsewhere, 2), Some((2, again)));
        now = core.next_wake(now).unwrap();
    }
    // What became known meanwhile replaces what was known.
    core.settle(now, settlement(id, 7, true));
    let job = core.next_job(now).unwrap();
    assert_eq!(job.work.settle, [settlement(id, 7, true)]);
    core.finish(now, done(&job, 0, Vec::new(), Vec::new()));
    assert!(!core.is_away());
    assert_eq!((core.unwritten(), core.counters.settled), (0, 1));
}

#[test]
fn news_that_were_sent_in_vain_do_not_undo_later_ones() {
    let mut core = core();
    let id = AttemptId::mint();
    core.settle(at(0), settlement(id, 5, false));
    let job = core.next_job(at(200)).unwrap();
    core.settle(at(200), settlement(id, 7, true));
    core.finish(at(201), failed(&job, Failure::Refused, false));
    assert_eq!(core.next_job(at(1_000)).unwrap().work.settle, [settlement(id, 7, true)]);
}

#[test]
fn unknown_limits_are_introduced_and_the_claim_is_asked_again() {
    let mut core = core();
    let fresh = claim(1);
    core.reserve(at(0), fresh.clone(), 1);
    let job = core.next_job(at(0)).unwrap();
    assert!(core.finish(at(1), done(&job, 1, vec![Decision::Unknown], Vec::new())).is_empty());
    let job = core.next_job(at(1)).unwrap();
    assert_eq!(job.work.introduce, [budget("a", Unit::Tokens)]);
    assert!(job.work.reserve.is_empty(), "an introduction may take long");
    core.finish(at(2), done(&job, 1, Vec::new(), Vec::new()));
    let job = core.next_job(at(2)).unwrap();
    assert_eq!(job.work.reserve[0].id, fresh.id);
    assert_eq!(core.finish(at(3), done(&job, 2, vec![GRANTED], Vec::new())).len(), 1);
}

#[test]
fn an_older_copy_of_the_database_grants_nothing_and_is_blocked() {
    let mut core = core();
    core.reserve(at(0), claim(1), 1);
    let job = core.next_job(at(0)).unwrap();
    core.finish(at(1), done(&job, 100, vec![GRANTED], Vec::new()));
    let lost = claim(1);
    core.reserve(at(2), lost.clone(), 2);
    let job = core.next_job(at(2)).unwrap();
    let answers = core.finish(at(3), done(&job, 40, vec![GRANTED], Vec::new()));
    assert_eq!(answers, [(2, Verdict::Away(at(1_003)))]);
    let job = core.next_job(at(3)).unwrap();
    assert_eq!((job.work.block, job.work.release), (true, vec![lost.id]));
    assert_eq!(core.counters.restores_seen, 1);
}

#[test]
fn another_replicas_cooldown_costs_no_query_until_it_is_looked_at_again() {
    let mut core = core();
    let cooled = |after, is_probed| Cooled { part: part(), after, is_probed, why: why(1) };
    let tell = |core: &mut Core<u32>, now, serial, cooled: Cooled| {
        core.reserve(now, claim(1), 1);
        let job = core.next_job(now).unwrap();
        let mut report = done(&job, serial, vec![Decision::Refused { after: cooled.after }], Vec::new());
        report.reserved.as_mut().unwrap().cooled = vec![cooled];
        core.finish(now, report)
    };
    let until = Verdict::NotUntil(at(60_000));
    assert_eq!(tell(&mut core, at(0), 1, cooled(60 * SECOND, false)), [(1, until)]);
    assert_eq!(core.reserve(at(4_999), claim(1), 2), Some((2, until)));
    // Somebody may have reopened it.
    assert_eq!(core.reserve(at(5_000), claim(1), 3), None);
    let job = core.next_job(at(5_000)).unwrap();
    core.finish(at(5_000), done(&job, 2, vec![GRANTED], Vec::new()));
    // While an attempt finds out, others wait for a moment; until it is known how it came out, if it was ours.
    let moment = Verdict::NotUntil(at(7_000));
    assert_eq!(tell(&mut core, at(6_000), 3, cooled(SECOND, true)), [(1, moment)]);
    assert_eq!(core.reserve(at(6_500), claim(1), 4), Some((4, moment)));
    let passed = settlement(AttemptId::mint(), 1, true);
    let passed = Settlement { probe: Some(ProbeEnd::Passed), lines: Vec::new(), ..passed };
    core.settle(at(6_501), passed);
    assert_eq!(core.reserve(at(6_501), claim(1), 5), None);
}

#[test]
fn a_cooldown_binds_here_at_once() {
    let mut core = core();
    let cool = |duration| Cooling::Cool { part: part(), duration, why: why(0) };
    core.cool(at(0), ProviderId::new("p"), cool(Some(SECOND)));
    assert_eq!(core.reserve(at(0), claim(1), 1), Some((1, Verdict::NotUntil(at(1_000)))));
    assert_eq!(core.next_job(at(0)).unwrap().work.cooling, [cool(Some(SECOND))]);
    // After it, the ledger says who is the probe.
    assert!(core.reserve(at(1_000), claim(1), 2).is_none());
}

/// All of the account of [`claim`].
fn part() -> AccountPart {
    AccountPart { account: "a".to_owned(), scope: String::new() }
}

fn why(level: u32) -> Why {
    Why { reason: CooldownReason::PaymentRequired, level }
}

/// Asks once at `now`, and has the ledger answer that this is left alone.
fn told(core: &mut Core<u32>, now: Moment, serial: i64, cooled: Vec<Cooled>) {
    core.reserve(now, claim(1), 1);
    let job = core.next_job(now).unwrap();
    let mut report = done(&job, serial, vec![GRANTED], Vec::new());
    report.reserved.as_mut().unwrap().cooled = cooled;
    core.finish(now, report);
}

/// What has changed of the one provider: until when it is left alone, and why.
fn changed(core: &mut Core<u32>) -> Option<Vec<(Moment, Why)>> {
    let changed = core.take_changed_cooling().pop();
    changed.map(|(_, cooling)| cooling.iter().map(|known| (known.until, known.why)).collect())
}

#[test]
fn why_a_target_is_left_alone_is_known_until_the_ledger_says_otherwise() {
    let mut core = core();
    let cooled = |after, is_probed| Cooled { part: part(), after, is_probed, why: why(2) };
    told(&mut core, at(0), 1, vec![cooled(4 * SECOND, false)]);
    assert_eq!(changed(&mut core), Some(vec![(at(4_000), why(2))]));
    assert_eq!(changed(&mut core), None);
    // It waits for its probe, which has to know how often it was in vain.
    told(&mut core, at(5_000), 2, vec![cooled(Duration::ZERO, false)]);
    assert_eq!(changed(&mut core), Some(vec![(at(5_000), why(2))]));
    // Somebody's probe has passed.
    told(&mut core, at(6_000), 3, Vec::new());
    assert_eq!(changed(&mut core), Some(Vec::new()));
}

#[test]
fn an_answer_to_a_call_from_before_does_not_end_what_was_begun_since() {
    let mut core = core();
    core.reserve(at(0), claim(1), 1);
    let before = core.next_job(at(0)).unwrap();
    let cool = Cooling::Cool { part: part(), duration: Some(SECOND), why: why(0) };
    core.cool(at(1), ProviderId::new("p"), cool);
    core.finish(at(2), done(&before, 1, vec![GRANTED], Vec::new()));
    assert_eq!(changed(&mut core), Some(vec![(at(1_001), why(0))]));
    // The next call takes it along; what it does not find then is over.
    told(&mut core, at(2_000), 2, Vec::new());
    assert_eq!(changed(&mut core), Some(Vec::new()));
}

#[test]
fn news_wait_for_more_of_them_but_not_for_long() {
    let mut core = core();
    core.settle(at(0), settlement(AttemptId::mint(), 1, true));
    core.settle(at(150), settlement(AttemptId::mint(), 1, true));
    core.reserve(at(150), claim(1), 1);
    let job = core.next_job(at(150)).unwrap();
    assert_eq!((job.work.reserve.len(), job.work.settle.len()), (1, 0), "a claim does not wait for them");
    core.finish(at(160), done(&job, 1, vec![GRANTED], Vec::new()));
    assert!(core.next_job(at(199)).is_none());
    assert_eq!(core.next_wake(at(199)), Some(at(200)));
    let job = core.next_job(at(200)).unwrap();
    assert_eq!(job.work.settle.len(), 2);
    core.finish(at(200), done(&job, 1, Vec::new(), Vec::new()));
    assert_eq!(core.next_wake(at(201)), None);
    for _ in 0..128 {
        core.settle(at(300), settlement(AttemptId::mint(), 1, true));
    }
    assert_eq!(core.next_job(at(300)).unwrap().work.settle.len(), 128, "they are enough for a call");
}

#[test]
fn news_wait_the_less_the_longer_a_call_takes() {
    for (takes, waited) in [(50, 150), (200, 0), (400, 0)] {
        let mut core = core();
        core.reserve(at(0), claim(1), 1);
        let job = core.next_job(at(0)).unwrap();
        let end = at(takes);
        core.finish(end, done(&job, 1, vec![GRANTED], Vec::new()));
        core.settle(end, settlement(AttemptId::mint(), 1, true));
        let due_at = at(takes + waited);
        assert!(due_at == end || core.next_wake(end) == Some(due_at), "a call of {takes} ms");
        assert!(core.next_job(due_at).is_some(), "a call of {takes} ms");
    }
}

#[test]
fn news_that_somebody_waits_for_are_written_at_once() {
    let given_back = Settlement { is_given_back: true, ..settlement(AttemptId::mint(), 1, true) };
    let probe = Settlement { probe: Some(ProbeEnd::Passed), ..settlement(AttemptId::mint(), 1, true) };
    for urgent in [given_back, probe] {
        let mut core = core();
        core.settle(at(0), urgent);
        assert!(core.next_job(at(0)).is_some());
    }
    let mut core = core();
    core.settle(at(0), settlement(AttemptId::mint(), 1, true));
    core.drain();
    let job = core.next_job(at(0)).unwrap();
    core.finish(at(1), done(&job, 1, Vec::new(), Vec::new()));
    core.settle(at(2), settlement(AttemptId::mint(), 1, true));
    assert!(core.next_job(at(2)).is_some(), "the process ends");
}

#[test]
fn a_call_carries_so_many_lines_and_the_rest_follows() {
    let mut core = core();
    let line = || PartLine {
        scope: "account".to_owned(),
        unit: Unit::Requests,
        taken: 1,
        held: 1,
        last_count: Some(at(0)),
    };
    let parts = (1..=1_300).map(|number| Part { number, lines: vec![line()] }).collect();
    let lease = Settlement::of(AttemptId::mint_lease(), ProviderId::new("p"));
    core.settle(at(0), Settlement { parts, is_given_back: true, ..lease });
    core.settle(at(0), settlement(AttemptId::mint(), 1, true));
    let (mut told, mut calls) = (Vec::new(), 0);
    while let Some(job) = core.next_job(at(0)) {
        assert!(calls < 9, "it ends");
        calls += 1;
        let lines = job.work.settle.iter().map(|settlement| settlement.parts.len() + settlement.lines.len());
        assert!(lines.sum::<usize>() <= 512);
        told.extend(job.work.settle.iter().flat_map(|news| news.parts.iter().map(|part| part.number)));
        let is_last = job.work.settle.iter().any(|news| news.is_given_back);
        assert_eq!(is_last, told.len() == 1_300, "what is left is free when all parts are told");
        core.finish(at(0), done(&job, 1, Vec::new(), Vec::new()));
        if told.len() == 1_300 {
            break;
        }
    }
    assert_eq!(told, (1..=1_300).collect::<Vec<u64>>());
}

#[test]
fn expired_rows_are_swept_now_and_then() {
    let mut core = core();
    let mut sweeps = 0;
    for millis in 0..12_000 {
        if millis % 100 == 0 {
            core.settle(at(millis - 200), settlement(AttemptId::mint(), 1, true));
            let job = core.next_job(at(millis)).unwrap();
            sweeps += usize::from(job.work.sweep);
            core.finish(at(millis), done(&job, 0, Vec::new(), Vec::new()));
        }
    }
    assert_eq!(sweeps, 3);
}

/// Whatever happens, each asker gets one answer, and no attempt stays granted that its asker was not told of.
mod property {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Ask,
        Call,
        /// The database decides, and the answer arrives, is lost, or is never asked for.
        Answer {
            granted: bool,
            fate: u8,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1_u64..1_500).prop_map(Step::Wait),
            Just(Step::Ask),
            Just(Step::Ask),
            Just(Step::Call),
            (any::<bool>(), 0_u8..3).prop_map(|(granted, fate)| Step::Answer { granted, fate }),
        ]
    }

    proptest! {
        #[test]
        fn nothing_stays_held_that_nobody_was_told_of(steps in prop::collection::vec(step(), 1..80)) {
            let mut core = core();
            let (mut now, mut serial, mut asked) = (at(0), 0, 0_u32);
            let mut told: BTreeMap<u32, Verdict> = BTreeMap::new();
            let mut ids: BTreeMap<u32, AttemptId> = BTreeMap::new();
            // The database: what it holds, and what it will refuse to hold.
            let (mut held, mut void) = (BTreeSet::new(), BTreeSet::new());
            let mut jobs: Vec<Job> = Vec::new();
            let finale = [Step::Wait(30_000), Step::Answer { granted: true, fate: 0 }, Step::Call];
            let finale = std::iter::repeat_n(finale, 12).flatten();
            for step in steps.into_iter().chain(finale) {
                let mut answers = core.expire(now);
                match step {
                    Step::Wait(millis) => now = now + Duration::from_millis(millis),
                    Step::Ask => {
                        asked += 1;
                        let claim = claim(1);
                        ids.insert(asked, claim.id);
                        answers.extend(core.reserve(now, claim, asked));
                    }
                    Step::Call => jobs.extend(core.next_job(now)),
                    Step::Answer { granted, fate } if !jobs.is_empty() => {
                        let job = jobs.remove(0);
                        // 0: all is well; 1: carried out, answer lost; 2: no connection.
                        if fate == 2 {
                            answers.extend(core.finish(now, failed(&job, Failure::Unreachable, false)));
                        } else {
                            for id in &job.work.release {
                                held.remove(id);
                                void.insert(*id);
                            }
                            serial += 1;
                            let decide = |claim: &Claim| {
                                if void.contains(&claim.id) {
                                    Decision::Void
                                } else if granted {
                                    held.insert(claim.id);
                                    GRANTED
                                } else {
                                    Decision::Refused { after: MILLI }
                                }
                            };
                            let decisions = job.work.reserve.iter().map(decide).collect();
                            let report = if fate == 0 {
                                done(&job, serial, decisions, Vec::new())
                            } else {
                                failed(&job, Failure::Refused, true)
                            };
                            answers.extend(core.finish(now, report));
                        }
                    }
                    Step::Answer { .. } => {}
                }
                for (asker, verdict) in answers {
                    prop_assert!(told.insert(asker, verdict).is_none(), "answered twice");
                }
            }
            prop_assert_eq!(told.len(), usize::try_from(asked).unwrap());
            for (asker, verdict) in &told {
                let is_granted = matches!(verdict, Verdict::Granted { .. });
                prop_assert_eq!(held.contains(&ids[asker]), is_granted, "{:?}", verdict);
            }
        }
    }
}
