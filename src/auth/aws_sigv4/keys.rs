//! A set of keys, and how long a process keeps what it found.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::auth::unusable;
use crate::http::Failure;
use crate::model::Secret;

/// Keys are renewed this long before they end, in seconds.
const RENEWED_BEFORE: i64 = 5 * 60;

/// How long keys without an end are kept before they are read anew: other programs renew those in
/// a file.
const KEPT: Duration = Duration::from_secs(60);

/// How long a failure, or keys that are about to end, are told again before they are asked for anew.
const ASKED_AGAIN: Duration = Duration::from_secs(10);

/// What signs.
#[derive(Clone, Debug)]
pub struct Keys {
    pub access_key: Secret,
    pub secret_key: Secret,
    pub session_token: Option<Secret>,
    /// When temporary keys end.
    pub expires: Option<Timestamp>,
}

impl Keys {
    /// Keys that look usable.
    ///
    /// # Errors
    /// `auth.credential_missing` when one of them is empty or has white space in it; `place` says
    /// where they are from.
    pub fn new(
        place: &str,
        access_key: Secret,
        secret_key: Secret,
        session_token: Option<Secret>,
        expires: Option<Timestamp>,
    ) -> Result<Keys, Failure> {
        let parts = [
            ("access key", Some(&access_key)),
            ("secret key", Some(&secret_key)),
            ("session token", session_token.as_ref()),
        ];
        for (what, secret) in parts {
            let Some(secret) = secret else { continue };
            if secret.expose().is_empty() {
                return Err(unusable(&format!("{place}: the {what} is empty")));
            }
            if secret.expose().contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(unusable(&format!("{place}: the {what} has white space in it")));
            }
        }
        Ok(Keys { access_key, secret_key, session_token, expires })
    }

    fn is_near_its_end(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end.as_second() - now.as_second() < RENEWED_BEFORE)
    }

    fn has_ended(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// Where keys are looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Profile(String),
    Chain,
}

/// The keys that were found, by source. A source is asked once even when many want its keys.
#[derive(Default)]
pub struct Shared {
    cells: Mutex<HashMap<Source, Cell>>,
}

/// What became of one source. The lock is held while it is being asked.
type Cell = Arc<tokio::sync::Mutex<Option<Known>>>;

struct Known {
    asked: Instant,
    found: Result<Keys, Failure>,
}

impl Shared {
    /// The keys of a source: those at hand, or by `ask` where they are unknown or about to end.
    ///
    /// # Errors
    /// What `ask` says, unless the keys at hand are still good.
    pub async fn keys<F: Future<Output = Result<Keys, Failure>>>(
        &self,
        source: &Source,
        now: Timestamp,
        ask: impl FnOnce() -> F,
    ) -> Result<Keys, Failure> {
        let cell = self.cell(source);
        let mut known = cell.lock().await;
        if let Some(known) = &*known
            && known.is_fresh(now)
        {
            return known.found.clone();
        }
        let mut found = ask().await;
        if let (Err(_), Some(Known { found: Ok(keys), .. })) = (&found, &*known)
            && !keys.has_ended(now)
            && keys.expires.is_some()
        {
            found = Ok(keys.clone());
        }
        *known = Some(Known { asked: Instant::now(), found: found.clone() });
        found
    }

    fn cell(&self, source: &Source) -> Cell {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        match cells.get(source) {
            Some(cell) => Arc::clone(cell),
            None => Arc::clone(cells.entry(source.clone()).or_default()),
        }
    }
}

impl Known {
    fn is_fresh(&self, now: Timestamp) -> bool {
        let age = self.asked.elapsed();
        match &self.found {
            Err(_) => age < ASKED_AGAIN,
            Ok(keys) if keys.expires.is_none() => age < KEPT,
            Ok(keys) if keys.is_near_its_end(now) => age < ASKED_AGAIN && !keys.has_ended(now),
            Ok(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn keys(expires: Option<Timestamp>) -> Keys {
        let secret = |text: &str| Secret::new(text.into());
        Keys::new("test", secret("AKID"), secret("hunter2"), None, expires).unwrap()
    }

    #[tokio::test]
    async fn keys_are_renewed_five_minutes_before_they_end_and_not_earlier() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (left, asked) in [(3600, 1), (301, 1), (299, 2), (0, 2), (-10, 2)] {
            let end = Timestamp::from_second(now.as_second() + left).unwrap();
            let shared = Shared::default();
            let count = AtomicU32::new(0);
            // What is at hand was asked for long ago.
            let known = Known { asked: Instant::now() - ASKED_AGAIN, found: Ok(keys(Some(end))) };
            count.store(1, Ordering::Relaxed);
            *shared.cell(&Source::Chain).lock().await = Some(known);
            for _ in 0..3 {
                let far = Timestamp::from_second(now.as_second() + 7200).unwrap();
                let ask = async || {
                    count.fetch_add(1, Ordering::Relaxed);
                    Ok(keys(Some(far)))
                };
                shared.keys(&Source::Chain, now, ask).await.unwrap();
            }
            assert_eq!(count.load(Ordering::Relaxed), asked, "{left} s left");
        }
    }

    #[tokio::test]
    async fn keys_that_still_hold_outlive_a_failed_renewal() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (left, holds) in [(60, true), (-1, false)] {
            let end = Timestamp::from_second(now.as_second() + left).unwrap();
            let shared = Shared::default();
            *shared.cell(&Source::Chain).lock().await =
                Some(Known { asked: Instant::now() - ASKED_AGAIN, found: Ok(keys(Some(end))) });
            let result = shared.keys(&Source::Chain, now, async || Err(unusable("gone"))).await;
            assert_eq!(result.is_ok(), holds, "{left} s left");
        }
    }

    #[tokio::test]
    async fn a_failure_is_not_asked_for_again_at_once() {
        let shared = Shared::default();
        let source = Source::Profile("ops".into());
        for _ in 0..2 {
            let error = shared
                .keys(&source, Timestamp::UNIX_EPOCH, async || Err(unusable("first")))
                .await
                .unwrap_err();
            assert_eq!(error.message, "first");
        }
        let kept = shared.keys(&source, Timestamp::UNIX_EPOCH, async || Ok(keys(None))).await;
        assert!(kept.is_err(), "the failure is told again");
        let other =
            shared.keys(&Source::Chain, Timestamp::UNIX_EPOCH, async || Ok(keys(None))).await;
        assert!(other.is_ok(), "another source is asked");
    }

    #[test]
    fn white_space_in_a_key_is_told_without_the_key() {
        let secret = |text: &str| Secret::new(text.into());
        let error = Keys::new("env", secret("AKID"), secret("hunter2 "), None, None).unwrap_err();
        assert!(error.message.contains("secret key has white space"), "{}", error.message);
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
