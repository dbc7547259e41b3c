//! What holds of the queue whatever happens.

use std::time::Duration;

use proptest::prelude::*;

use super::fixture::{Request, State, World};

#[derive(Clone, Debug)]
enum Event {
    Arrive {
        tenant: i64,
        tokens: u64,
        providers: Vec<usize>,
        wait_ms: u64,
    },
    Free {
        provider: usize,
        tokens: u64,
    },
    /// One of those who were offered something, by position, asks for it.
    Answer(usize),
    Leave(usize),
    Pass {
        millis: u64,
    },
}

const PROVIDERS: usize = 3;
const MAX: usize = 12;

fn event() -> impl Strategy<Value = Event> {
    let providers = prop::sample::subsequence(vec![0, 1, 2], 1..=PROVIDERS).prop_shuffle();
    prop_oneof![
        5 => (0..4_i64, 1..6_u64, providers, 0..8_000_u64).prop_map(|(tenant, tokens, providers, wait_ms)| {
            Event::Arrive { tenant, tokens, providers, wait_ms }
        }),
        4 => (0..PROVIDERS, 0..8_u64).prop_map(|(provider, tokens)| Event::Free { provider, tokens }),
        8 => any::<usize>().prop_map(Event::Answer),
        1 => any::<usize>().prop_map(Event::Leave),
        2 => (0..1_500_u64).prop_map(|millis| Event::Pass { millis }),
    ]
}

fn happen(world: &mut World, event: Event) {
    match event {
        Event::Arrive { tenant, tokens, providers, wait_ms } => {
            let weight = u32::try_from(tenant).unwrap() + 1;
            world.arrive_for(tenant, weight, tokens, &providers, Duration::from_millis(wait_ms));
        }
        Event::Free { provider, tokens } => world.free(provider, tokens),
        Event::Answer(which) => {
            let offered = world.offered();
            if !offered.is_empty() {
                world.answer(offered[which % offered.len()]);
            }
        }
        Event::Leave(which) => {
            let here: Vec<u64> = world
                .requests
                .iter()
                .filter(|(_, request)| request.state != State::Gone)
                .map(|(id, _)| *id)
                .collect();
            if !here.is_empty() {
                world.leave(here[which % here.len()]);
            }
        }
        Event::Pass { millis } => world.pass(Duration::from_millis(millis)),
    }
}

/// Whenever a provider has room and somebody waits for it whom it fits, an offer of it is out.
fn no_wake_up_is_lost(world: &World) {
    for (provider, room) in world.tokens.iter().enumerate() {
        let queue = world.queue.provider(provider);
        if queue.has_offer() {
            continue;
        }
        for (id, request) in &world.requests {
            let fits = request.state == State::Waiting
                && request.providers.contains(&provider)
                && request.tokens <= *room
                && !queue.is_kept_for_another(request.number.unwrap());
            assert!(!fits, "{id} waits for provider {provider}, which has room for it");
        }
    }
}

fn nobody_waits_too_long(world: &World) {
    for (id, request) in &world.requests {
        let is_late = request.state == State::Waiting && request.deadline < world.now;
        assert!(!is_late, "{id} has outlived its deadline");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_doubled_late_or_unbounded(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new(&[3, 0, 0], MAX);
        for event in events {
            let is_time = matches!(event, Event::Pass { .. });
            happen(&mut world, event);
            no_wake_up_is_lost(&world);
            prop_assert!(world.queue.len() <= MAX);
            if is_time {
                nobody_waits_too_long(&world);
                prop_assert!(world.queue.next_instant() > world.now, "the timer would spin");
            }
        }
        // Everybody is served in the end, or told, and nothing is left behind.
        for _ in 0..200 {
            (0..PROVIDERS).for_each(|provider| world.free(provider, 10));
            world.answer_all();
        }
        prop_assert_eq!(world.queue.len(), 0);
        for provider in 0..PROVIDERS {
            prop_assert_eq!(world.gauges.waiting(provider), 0);
            prop_assert!(!world.queue.provider(provider).has_offer());
        }
    }

    /// At one provider nobody of a tenant is served before who came earlier and asks for no more.
    #[test]
    fn a_tenant_is_served_first_come_first_served(
        events in prop::collection::vec((0..3_i64, 1..6_u64, 0..6_u64, 0..900_u64), 1..80),
    ) {
        let mut world = World::new(&[0], 1_000);
        for (tenant, tokens, freed, millis) in events {
            world.arrive(tenant, 1, tokens, &[0]);
            world.pass(Duration::from_millis(millis));
            world.free(0, freed);
            while let Some(id) = world.offered().first().copied() {
                let (before, request) = (world.granted.len(), world.requests[&id].clone());
                world.answer(id);
                let passes = |other: &&Request| {
                    other.state == State::Waiting
                        && (other.tenant, other.number < request.number) == (request.tenant, true)
                        && other.tokens <= request.tokens
                };
                let is_granted = world.granted.len() > before;
                prop_assert!(!is_granted || !world.requests.values().any(|other| passes(&other)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn weights_are_kept_under_saturation(
        weights in (1..6_u32, 1..6_u32),
        tokens in (1_000..9_000_u64, 1_000..9_000_u64),
        step in 50_000..400_000_u64,
    ) {
        let mut world = World::new(&[0], 100_000);
        for _ in 0..400 {
            world.arrive(0, weights.0, tokens.0, &[0]);
            world.arrive(1, weights.1, tokens.1, &[0]);
        }
        let mut served = [0_u64; 2];
        for _ in 0..50 {
            let before = world.granted.len();
            world.free(0, step);
            world.answer_all();
            let granted = world.granted.split_off(before);
            for request in granted.iter().map(|id| world.requests[id].clone()).collect::<Vec<_>>() {
                served[usize::try_from(request.tenant).unwrap()] += cost(request.tokens);
                // Who is served comes again: the line never empties.
                world.arrive(request.tenant, request.weight, request.tokens, &[0]);
            }
        }
        let wanted = f64::from(weights.0) / f64::from(weights.1);
        let got = served[0] as f64 / served[1].max(1) as f64;
        // What is left of a step, too little for the larger request, goes to the smaller one, who pays for it later.
        prop_assert!((got / wanted - 1.0).abs() <= 0.05, "{got} for {wanted}: {served:?}");
    }

    #[test]
    fn a_tenant_that_sends_much_delays_another_by_its_share_alone(
        hog in 100..1_000_usize,
        small in 1..10_usize,
        weight in 1..4_u32,
    ) {
        let mut world = World::new(&[0], 100_000);
        (0..hog).for_each(|_| { world.arrive(1, weight, 1, &[0]); });
        let ids: Vec<u64> = (0..small).map(|_| world.arrive(2, 1, 1, &[0])).collect();
        world.free(0, 5_000);
        world.answer_all();
        for (nth, id) in ids.iter().enumerate() {
            let place = world.granted.iter().position(|granted| granted == id).unwrap();
            let bound = (nth + 1) * (weight as usize + 1) + weight as usize;
            prop_assert!(place <= bound, "number {nth} of the small tenant is served as {place}");
        }
    }
}

fn cost(tokens: u64) -> u64 {
    super::fixture::size(tokens).cost()
}
