//! The parts of a lease on their way to the ledger; pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::db::shared_ledger::{Part, PartLine, Settlement};
use crate::domain::limit::Unit;

/// What was counted within so many microseconds is held as if all of it had been counted last. Chosen: a hundredth of the
/// shortest window whose limits are leased.
const TOGETHER_MICROS: i64 = 10_000;

/// Makes one part of all that are in a settlement: a lease pays for hundreds of attempts a second, and what was never
/// sent need not be told one by one. Not for what was sent: it may be written already.
pub(super) fn fold(settlement: &mut Settlement) {
    let Some(number) = settlement.parts.last().map(|part| part.number) else { return };
    if settlement.parts.len() == 1 {
        return;
    }
    let mut lines: BTreeMap<(String, Unit, Option<i64>), PartLine> = BTreeMap::new();
    for line in settlement.parts.drain(..).flat_map(|part| part.lines) {
        let together = line.last_count.map(|instant| instant.unix_micros().div_euclid(TOGETHER_MICROS));
        match lines.entry((line.scope.clone(), line.unit, together)) {
            Entry::Vacant(place) => {
                place.insert(line);
            }
            Entry::Occupied(mut known) => add(known.get_mut(), &line),
        }
    }
    settlement.parts.push(Part { number, lines: lines.into_values().collect() });
}

fn add(known: &mut PartLine, line: &PartLine) {
    known.taken = known.taken.saturating_add(line.taken);
    known.held = known.held.saturating_add(line.held);
    known.last_count = known.last_count.max(line.last_count);
}

/// What a settlement comes to for the database.
pub(super) fn size(settlement: &Settlement) -> usize {
    let parts: usize = settlement.parts.iter().map(|part| part.lines.len()).sum();
    (settlement.lines.len() + parts).max(1)
}

/// Takes so many lines' worth of the first parts out of a settlement, one part at least: they are written in their order,
/// so the rest may follow.
pub(super) fn first_of(settlement: &mut Settlement, most: usize) -> Settlement {
    let mut lines = 0;
    let is_within = |part: &Part| {
        lines += part.lines.len();
        lines <= most
    };
    let count = settlement.parts.iter().map(is_within).take_while(|is_within| *is_within).count();
    let parts = settlement.parts.drain(..count.max(1).min(settlement.parts.len())).collect();
    Settlement { parts, ..Settlement::of(settlement.id, settlement.provider.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::shared_ledger::AttemptId;
    use crate::domain::clock::Moment;
    use crate::domain::ids::ProviderId;

    fn at(micros: i64) -> Moment {
        Moment::from_unix_micros(micros)
    }

    fn line(unit: Unit, (taken, held): (u64, u64), last_count: Option<i64>) -> PartLine {
        PartLine { scope: "account".to_owned(), unit, taken, held, last_count: last_count.map(at) }
    }

    fn settlement(parts: Vec<Vec<PartLine>>) -> Settlement {
        let parts = (7_u64..).zip(parts).map(|(number, lines)| Part { number, lines });
        let of = Settlement::of(AttemptId::mint_lease(), ProviderId::new("p"));
        Settlement { parts: parts.collect(), ..of }
    }

    #[test]
    fn what_was_counted_together_is_one_line() {
        let mut settlement = settlement(vec![
            vec![line(Unit::Requests, (1, 1), Some(20_001)), line(Unit::Tokens, (10, 30), Some(20_001))],
            vec![line(Unit::Requests, (1, 1), Some(29_999))],
            vec![line(Unit::Requests, (1, 1), Some(30_000))],
            vec![line(Unit::Requests, (5, 0), None)],
        ]);
        fold(&mut settlement);
        let lines = vec![
            line(Unit::Requests, (5, 0), None),
            line(Unit::Requests, (2, 2), Some(29_999)),
            line(Unit::Requests, (1, 1), Some(30_000)),
            line(Unit::Tokens, (10, 30), Some(20_001)),
        ];
        assert_eq!(settlement.parts, [Part { number: 10, lines }]);
    }

    #[test]
    fn the_first_parts_go_first_and_one_goes_at_least() {
        let one = || vec![line(Unit::Requests, (1, 1), Some(1))];
        let mut rest = settlement(vec![one(), one(), one()]);
        rest.is_given_back = true;
        let first = first_of(&mut rest, 2);
        let numbers =
            |settlement: &Settlement| settlement.parts.iter().map(|part| part.number).collect::<Vec<_>>();
        assert_eq!((numbers(&first), first.is_given_back), (vec![7, 8], false));
        assert_eq!((numbers(&rest), rest.is_given_back, size(&rest)), (vec![9], true, 1));
        assert_eq!(numbers(&first_of(&mut rest, 0)), [9]);
    }
}
