//! One call in progress: whatever ends it, its account is charged for what it used.

use std::sync::Arc;

use super::provider::{AccountNumber, SimulatedProvider};
use crate::domain::usage::Usage;

/// An admitted call, closed in its provider's books when it is dropped: after the last byte, or when the caller left.
#[derive(Debug)]
pub(super) struct Call {
    provider: Arc<SimulatedProvider>,
    account: AccountNumber,
    serial: u64,
    usage: Usage,
}

impl Call {
    /// For [`SimulatedProvider::open`], which has counted it.
    pub(super) fn new(provider: Arc<SimulatedProvider>, account: AccountNumber, serial: u64) -> Self {
        Self { provider, account, serial, usage: Usage::default() }
    }

    /// The call's number at its provider.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// The model begins to work: the prompt is used from here on.
    pub(super) fn began(&mut self, prompt_tokens: u64) {
        self.usage.input_tokens = prompt_tokens;
    }

    /// The model has produced so many tokens more.
    pub(super) fn produced(&mut self, tokens: u64) {
        self.usage.output_tokens = self.usage.output_tokens.saturating_add(tokens);
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.provider.close(self.account, self.usage);
    }
}
