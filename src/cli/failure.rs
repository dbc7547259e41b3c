//! How a command fails: a message for a person and an exit code for a program.

use std::fmt::Display;

use crate::access::ProvisionError;
use crate::app::StartError;
use crate::config::Problems;
use crate::db::StoreError;
use crate::domain::error_chain::ErrorChain;

/// The exit codes of sysexits.h.
pub(super) const USAGE: u8 = 64;
pub(super) const UNAVAILABLE: u8 = 69;
pub(super) const SOFTWARE: u8 = 70;
pub(super) const IO: u8 = 74;
pub(super) const CONFIG: u8 = 78;

/// Why a command fails.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    /// One line a problem.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(code: u8, message: impl Display) -> Self {
        Self { code, message: message.to_string() }
    }

    pub(super) fn usage(message: impl Display) -> Self {
        Self::new(USAGE, message)
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::new(CONFIG, problems)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::BadUrl(_) => CONFIG,
            _ => UNAVAILABLE,
        };
        Self::new(code, ErrorChain(&error))
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Store(error) => error.into(),
            StartError::Provision(ProvisionError::Store(error)) => error.into(),
            StartError::MasterKey(_) | StartError::Pepper(_) | StartError::Provision(_) => {
                Self::new(CONFIG, error)
            }
            StartError::Listen { .. } => Self::new(UNAVAILABLE, ErrorChain(&error)),
            StartError::Metrics(_) => Self::new(SOFTWARE, ErrorChain(&error)),
            StartError::Tls(_) | StartError::Thread(_) => Self::new(SOFTWARE, error),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(SOFTWARE, error)
    }
}
