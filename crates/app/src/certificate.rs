//! The server's certificate, as far as those look after it who do not speak TLS themselves.

use std::sync::{Mutex, PoisonError};

/// How the server's own certificate stands. A clone of its `Arc` is the same one.
#[derive(Debug, Default)]
pub struct CertificateState {
    fault: Mutex<Option<String>>,
}

impl CertificateState {
    /// Says why the files that are there now cannot be used, so that those read before are; `None` where they are in use.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of why the files cannot be used, or that they can. Returns true if that is new.
    pub fn note(&self, fault: Option<String>) -> bool {
        let mut noted = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let new = *noted != fault;
        *noted = fault;
        new
    }
}
