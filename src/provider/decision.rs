//! What our own books said, as the metrics count it.

use crate::ledger::Reserved;
use crate::metrics::{Decision, ProviderMetrics};
use crate::quota::{Answer, Refusal};

pub(super) fn count(metrics: Option<&ProviderMetrics>, decision: Decision) {
    if let Some(metrics) = metrics {
        metrics.decided(decision);
    }
}

pub(super) fn of_reserved(reserved: &Reserved) -> Decision {
    match reserved {
        Reserved::Now(answer) => of(answer),
        Reserved::Writing(..) => Decision::Granted,
        Reserved::Asked(_) => Decision::Pending,
    }
}

pub(super) fn of(answer: &Answer) -> Decision {
    match answer {
        Answer::Granted(_) => Decision::Granted,
        Answer::Refused(Refusal::NotUntil(_)) => Decision::Refused,
        Answer::Refused(Refusal::TooLarge) => Decision::TooLarge,
        Answer::Pending(_) => Decision::Pending,
    }
}
