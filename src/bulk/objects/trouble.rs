//! What a store's refusals and the network's failures mean.
//!
//! The library that words the requests tells only part of what was answered. The connector sees all
//! of it and leaves it here, beside the task that asked.

use std::sync::{Arc, Mutex, PoisonError};

use object_store::Error as StoreError;

use super::super::halt::Halt;
use crate::http::Failure;
use crate::model::{Code, ErrorKind};

/// The last thing that went wrong in one operation.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    /// A status of 300 and above, with the store's own word for it.
    Status(u16, Option<String>),
    Failure(Box<Failure>),
}

tokio::task_local! {
    static SEEN: Arc<Mutex<Option<Seen>>>;
}

/// Leaves a note for the operation that runs on this task.
pub(super) fn note(seen: Seen) {
    let _ = SEEN.try_with(|slot| {
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    });
}

/// Runs an operation and gives what was noted beside its error.
pub(super) async fn watched<T>(
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Trouble> {
    let slot = Arc::new(Mutex::new(None));
    let done = SEEN.scope(Arc::clone(&slot), operation).await;
    done.map_err(|error| {
        let seen = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        Trouble { error, seen }
    })
}

/// Why an operation failed.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) error: StoreError,
    seen: Option<Seen>,
}

impl Trouble {
    /// The store's word for it, such as `NoSuchBucket`.
    fn word(&self) -> &str {
        match &self.seen {
            Some(Seen::Status(_, Some(word))) => word,
            _ => "",
        }
    }

    fn status(&self) -> Option<u16> {
        match self.seen {
            Some(Seen::Status(status, _)) => Some(status),
            _ => None,
        }
    }

    fn is_no_bucket(&self) -> bool {
        matches!(self.word(), "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted")
    }

    /// Whether what was asked for is not there, in a bucket that may be.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.error, StoreError::NotFound { .. }) && !self.is_no_bucket()
    }

    /// Whether a name was taken already.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self.error, StoreError::AlreadyExists { .. } | StoreError::Precondition { .. })
    }

    /// Whether the store has no conditional writes.
    pub(super) fn is_unknown_to_store(&self) -> bool {
        matches!(self.error, StoreError::NotImplemented { .. } | StoreError::NotSupported { .. })
            || self.status() == Some(501)
            || self.word() == "NotImplemented"
    }

    /// In words, with what to do next.
    pub(super) fn halt(self, doing: &str, object: &str) -> Halt {
        let what = format!("cannot {doing} {object}");
        let status = self.status().map(|status| match self.word() {
            "" => format!("HTTP {status}"),
            word => format!("HTTP {status}, {word}"),
        });
        let told = status.clone().unwrap_or_else(|| "no usable answer".to_owned());
        let refused = || {
            Halt::new(
                ErrorKind::Credential,
                "bulk.store_refused",
                format!("{what}: the store refuses ({told})"),
            )
        };
        if let Some(Seen::Failure(failure)) = self.seen {
            return of_failure(&what, *failure);
        }
        if self.is_no_bucket() {
            return Halt::new(
                ErrorKind::NotFound,
                "bulk.store_missing",
                format!("{what}: the store has no such bucket ({told})"),
            )
            .hint("make the bucket first, or put its name right; exports make none");
        }
        let is_key = matches!(
            self.word(),
            "ExpiredToken"
                | "InvalidToken"
                | "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "AuthorizationHeaderMalformed"
                | "AuthenticationFailed"
        );
        match (self.status(), &self.error) {
            (Some(301 | 307 | 308), _) => refused().hint(
                "the bucket is in another region, or the endpoint is not its own: set AWS_REGION",
            ),
            (Some(401 | 403), _)
            | (
                _,
                StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. },
            ) => refused().hint(
                "check the credential of this process for the store, and that it may list, read, write and delete below this prefix",
            ),
            (Some(400), _) if is_key => refused()
                .hint("check the keys and the region of this process for the store"),
            (Some(404), _) | (_, StoreError::NotFound { .. }) => Halt::new(
                ErrorKind::NotFound,
                "bulk.store_missing",
                format!("{what}: it is not there ({told})"),
            )
            .hint("check bucket and prefix"),
            (Some(408 | 409 | 429 | 500..=599) | None, StoreError::Generic { .. })
            | (Some(408 | 409 | 429 | 500..=599), _) => Halt::later(
                "bulk.store_failed",
                format!("{what}: {told}, also after several attempts"),
            )
            .hint("run the same command again: what is done stays done"),
            (None, _) => Halt::new(
                ErrorKind::Config,
                "bulk.store_refused",
                format!("{what}: {}", plain(&self.error)),
            )
            .hint("check the store's settings in the environment of this process"),
            _ => Halt::failed("bulk.store_refused", format!("{what}: the store says {told}"))
                .hint("look at the store's own log for the reason"),
        }
    }
}

/// The library's own words, one line of them; they hold no secret where no answer came.
fn plain(error: &StoreError) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

fn of_failure(what: &str, failure: Failure) -> Halt {
    let is_key = failure.code.as_str().starts_with("auth.");
    let mut halt = Halt::of(failure, true);
    halt.message = format!("{what}: {}", halt.message);
    if is_key {
        return halt;
    }
    if halt.kind == ErrorKind::Resumable {
        halt.code = Code::new("bulk.store_failed");
        if halt.hint.is_none() {
            halt.hint = Some("run the same command again: what is done stays done".to_owned());
        }
    }
    halt
}
