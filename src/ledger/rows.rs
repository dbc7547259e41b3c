//! Holds as the quota core knows them, and as the store keeps them.

use std::sync::Arc;

use super::identity::Names;
use crate::db::{FinishRow, HoldRow};
use crate::quota::{Charge, Finish, HoldRecord};

/// The row of a hold; `None` for one of no known target.
pub(super) fn row(id: i64, names: &Names, record: &HoldRecord) -> Option<HoldRow> {
    Some(HoldRow {
        id,
        target: Arc::clone(names.target(record.account, Some(record.model))?),
        reserved: record.reserved,
        send_by: record.send_by,
        first_byte: record.first_byte,
        finish: record.finish.map(finish_row),
    })
}

/// The hold of a row; `None` when its target is not configured any more.
pub(super) fn record(names: &Names, row: &HoldRow) -> Option<HoldRecord> {
    let (account, model) = names.find(&row.target)?;
    Some(HoldRecord {
        account,
        model: model?,
        reserved: row.reserved,
        send_by: row.send_by,
        first_byte: row.first_byte,
        finish: row.finish.map(finish),
    })
}

pub(super) fn finish_row(finish: Finish) -> FinishRow {
    let (at, is_aborted) = match finish {
        Finish::Ended(at, _) => (at, false),
        Finish::Aborted(at, _) => (at, true),
    };
    let (is_exact, used) = match finish.charge() {
        Charge::Exact(used) => (true, used),
        Charge::AtLeast(used) => (false, used),
    };
    FinishRow { at, is_aborted, is_exact, used }
}

fn finish(row: FinishRow) -> Finish {
    let charge = if row.is_exact { Charge::Exact(row.used) } else { Charge::AtLeast(row.used) };
    if row.is_aborted { Finish::Aborted(row.at, charge) } else { Finish::Ended(row.at, charge) }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{names, spec};
    use super::*;
    use crate::domain::clock::Moment;
    use crate::domain::usage::Usage;
    use crate::quota::{AccountIndex, ModelIndex};

    #[test]
    fn a_hold_comes_back_as_it_was() {
        let names = names(&spec(&[]));
        let at = Moment::from_unix_micros;
        let used = Usage { input_tokens: 3, output_tokens: 4 };
        let finishes = [
            None,
            Some(Finish::Ended(at(7), Charge::Exact(used))),
            Some(Finish::Ended(at(7), Charge::AtLeast(used))),
            Some(Finish::Aborted(at(7), Charge::Exact(used))),
            Some(Finish::Aborted(at(7), Charge::AtLeast(used))),
        ];
        for finish in finishes {
            let record = HoldRecord {
                account: AccountIndex(1),
                model: ModelIndex(0),
                reserved: Usage { input_tokens: 1, output_tokens: 2 },
                send_by: at(5),
                first_byte: finish.map(|_| at(6)),
                finish,
            };
            assert_eq!(super::record(&names, &row(9, &names, &record).unwrap()), Some(record));
        }
    }
}
