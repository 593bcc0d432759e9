//! The word that a diagnosis has to end: topics that leave something behind clean up first.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Said once, heard by everybody who asks.
#[derive(Debug, Default)]
pub struct Stop {
    is_said: AtomicBool,
    told: Notify,
}

impl Stop {
    pub fn say(&self) {
        self.is_said.store(true, Ordering::SeqCst);
        self.told.notify_waiters();
    }

    #[must_use]
    pub fn is_said(&self) -> bool {
        self.is_said.load(Ordering::SeqCst)
    }

    /// Waits until it is said.
    pub async fn said(&self) {
        let mut told = std::pin::pin!(self.told.notified());
        // Whoever begins to wait hears of it from here on.
        told.as_mut().enable();
        if !self.is_said() {
            told.await;
        }
    }
}
