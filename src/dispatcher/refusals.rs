//! The last requests that nobody answered, for the operator.

use std::collections::VecDeque;

use super::router::Reasons;
use crate::domain::ids::RequestId;

/// So many are kept by each worker. Chosen: enough to see a pattern, no more than 320 KiB.
const KEPT: usize = 16;

/// The last refusals, the latest last.
#[derive(Debug, Default)]
pub(super) struct Refusals(VecDeque<Refusal>);

/// One request that nobody answered.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) request_id: RequestId,
    pub(super) status: u16,
    pub(super) reasons: Reasons,
}

impl Refusals {
    pub(super) fn push(&mut self, refusal: Refusal) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(refusal);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Refusal> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept() {
        let mut refusals = Refusals::default();
        for status in 0..100 {
            let request_id = RequestId::from_incoming(Some("one"));
            refusals.push(Refusal { request_id, status, reasons: Reasons::default() });
        }
        assert_eq!(
            refusals.iter().map(|refusal| refusal.status).collect::<Vec<_>>(),
            (84..100).collect::<Vec<_>>()
        );
    }
}
