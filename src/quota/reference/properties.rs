//! What holds for every kind of limit, tried at random against the reference.

use std::time::Duration;

use proptest::prelude::*;

use super::{HOUR, LATE, MICRO, World, some_limits, spec, start, steps};
use crate::domain::clock::Moment;
use crate::domain::limit::TokensCharged;
use crate::domain::provider::ProviderSpec;
use crate::quota::tests::{POOLED, SECOND, demand, exact, granted, refused};
use crate::quota::{Answer, Book, Refusal, Spent, Terms};

fn held(book: &Book, now: Moment) -> Vec<u64> {
    book.snapshot(now).budgets.iter().map(|budget| budget.held).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_window_of_any_kind_can_have_seen_more_than_its_maximum(
        spec in spec(), start in start(), steps in steps(),
    ) {
        let world = World::run(spec, start, &steps);
        world.judge();
        // Large limits round a release up by a thousandth of the window, and at least to a millisecond.
        let forgotten = world.now + LATE + world.book.longest_hold() * 1001 / 1000 + SECOND / 1000;
        prop_assert!(held(&world.book, forgotten).iter().all(|held| *held == 0));
    }

    #[test]
    fn a_refusal_of_what_is_settled_is_exact_for_every_kind(
        spec in spec(), start in start(), steps in steps(), wanted in (1_u64..250, 1_u64..250),
    ) {
        let mut world = World::run(spec, start, &steps);
        let wanted = demand(POOLED, wanted.0, wanted.1);
        match world.book.reserve(world.now, &wanted) {
            Answer::Refused(Refusal::NotUntil(instant)) => {
                prop_assert!(instant > world.now && instant < Moment::NEVER);
                let early = refused(world.book.reserve(instant - MICRO, &wanted));
                prop_assert_eq!(early, Refusal::NotUntil(instant));
                let hold = granted(world.book.reserve(instant, &wanted));
                world.book.settle(instant, hold, Spent::NotSent);
            }
            Answer::Refused(Refusal::TooLarge) => {
                let mut empty = Book::new(&world.spec);
                prop_assert_eq!(refused(empty.reserve(world.now, &wanted)), Refusal::TooLarge);
            }
            Answer::Granted(hold) => world.book.settle(world.now, hold, Spent::NotSent),
            Answer::Pending(ticket) => panic!("{ticket:?}"),
        }
    }

    #[test]
    fn a_book_follows_from_its_records_also_under_changed_limits(
        spec in spec(), changed in some_limits(), start in start(), steps in steps(),
        later in 0_u64..48 * HOUR,
    ) {
        let world = World::run(spec, start, &steps);
        let later = world.now + Duration::from_secs(later);
        let other = ProviderSpec { limits: changed, ..world.spec.clone() };
        for spec in [&world.spec, &other] {
            let (mut book, terms) = (Book::new(spec), Terms::new(spec));
            world.records.iter().for_each(|record| book.restore(world.now, record));
            // Large limits round a release up to a slot: looked at when both are past it or neither.
            let held = held(&book, later);
            let mut sums = vec![0; held.len()];
            for record in &world.records {
                let places: Vec<_> = terms.all().map(|term| (term.scope(), term.unit(), term.window())).collect();
                for (term, claim) in terms.claims(record) {
                    let place = places.iter().position(|place| *place == (term.scope(), term.unit(), term.window()));
                    if claim.until.unwrap() > later {
                        sums[record.account.0 * places.len() + place.unwrap()] += claim.amount;
                    }
                }
            }
            let names = book.snapshot(later).budgets;
            for ((held, sum), budget) in held.iter().zip(&sums).zip(&names) {
                let is_exact = budget.max <= 1024 || budget.window_ms.is_none();
                prop_assert!(held == sum || (!is_exact && held > sum), "{held} for {sum}: {budget:?}");
            }
        }
        let mut restored = Book::new(&world.spec);
        world.records.iter().for_each(|record| restored.restore(world.now, record));
        prop_assert_eq!(held(&restored, later), held(&world.book, later));
    }

    #[test]
    fn settling_exactly_equals_paying_at_once_for_every_kind(
        spec in spec(), start in start(), paid in prop::collection::vec((1_u64..200, 1_u64..200, 0_u64..9 * HOUR), 1..30),
    ) {
        let spec = ProviderSpec { tokens_charged: TokensCharged::Usage, ..spec };
        let (mut estimating, mut paying) = (Book::new(&spec), Book::new(&spec));
        let mut now = start;
        for (input, output, seconds) in paid {
            now = now + Duration::from_secs(seconds);
            if let Answer::Granted(hold) = estimating.reserve(now, &demand(POOLED, input + 50, output * 2)) {
                let account = hold.account();
                estimating.settle(now, hold, Spent::Ended(exact(input, output)));
                let at_once = granted(paying.reserve(now, &demand(POOLED, input, output)));
                // Where accounts have the same room left the larger estimate may have favoured another one.
                prop_assume!(at_once.account() == account);
                paying.settle(now, at_once, Spent::Ended(exact(input, output)));
            }
            prop_assert_eq!(held(&estimating, now), held(&paying, now));
        }
    }

    #[test]
    fn a_clock_stepped_back_grants_nothing_for_any_kind(
        spec in spec(), start in start(), steps in steps(), back in 1_u64..40 * 24 * HOUR,
    ) {
        let mut world = World::run(spec, start, &steps);
        let (before, wanted) = (held(&world.book, world.now), demand(POOLED, 200, 200));
        let refusal = world.book.reserve(world.now, &wanted);
        let earlier = world.now - Duration::from_secs(back);
        prop_assert_eq!(held(&world.book, earlier).len(), before.len());
        match refusal {
            Answer::Refused(refusal) => {
                prop_assert_eq!(refused(world.book.reserve(earlier, &wanted)), refusal);
                prop_assert_eq!(held(&world.book, earlier), before);
            }
            Answer::Granted(hold) => world.book.settle(earlier, hold, Spent::NotSent),
            Answer::Pending(ticket) => panic!("{ticket:?}"),
        }
    }
}
