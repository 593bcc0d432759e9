//! AWS Signature Version 4: every request is signed with a key that is never sent.
//!
//! `signature` computes it, `chain` finds keys that the inventory does not name, `keys` keeps
//! temporary ones until they end, `refusal` reads AWS's answer when it does not take a signature.

mod chain;
mod keys;
mod machine;
mod profile;
mod refusal;
mod role;
mod signature;

use std::sync::{Arc, LazyLock};

use futures_util::FutureExt as _;

pub use refusal::{Refusal, explain};

use super::secret;
use crate::credentials::Credentials;
use crate::http::{Credential, Failure, Signer, Transport};
use crate::model::server::{AwsKeys, AwsSigv4, HeaderValue, Server};
use crate::model::{Clock, Secret};
use chain::Means;
use keys::{Keys, Shared, Source};
use signature::Scope;

/// What was found outside the inventory. A machine has one set of sources, whichever server asks.
static FOUND: LazyLock<Shared> = LazyLock::new(Shared::default);

/// Makes the proof sign each request.
///
/// Keys are looked for now, so that what is missing is said before anything is sent; temporary ones
/// are renewed while the process runs, five minutes before they end.
///
/// # Errors
/// `auth.credential_missing` when no keys are found or those that are cannot be used.
pub(super) async fn add(
    proof: &mut Credential,
    settings: &AwsSigv4,
    server: &Server,
    credentials: &Credentials,
    transport: &Arc<Transport>,
    clock: Clock,
) -> Result<(), Failure> {
    let source = match &settings.keys {
        AwsKeys::Static { access_key, secret_key, session_token } => {
            let access = match access_key {
                HeaderValue::Plain(text) => Secret::new(text.clone()),
                HeaderValue::Secret(reference) => secret(reference, credentials).await?,
            };
            let key = secret(secret_key, credentials).await?;
            let token = match session_token {
                Some(reference) => Some(secret(reference, credentials).await?),
                None => None,
            };
            let keys = Keys::new("the inventory's keys", access, key, token, None)?;
            proof.signer = Some(fixed(keys, settings.region.clone(), &settings.service, clock));
            return Ok(());
        }
        AwsKeys::Profile(name) => Source::Profile(name.clone()),
        AwsKeys::Chain => Source::Chain,
    };
    let means = Arc::new(Means {
        server: server.clone(),
        region: settings.region.clone(),
        credentials: credentials.clone(),
        transport: transport.clone(),
        clock,
    });
    FOUND.keys(&source, clock, || chain::find(&source, &means)).await?;
    proof.signer = Some(renewing(source, means, settings.service.clone()));
    Ok(())
}

/// Signs with keys that stay.
fn fixed(keys: Keys, region: String, service: &str, clock: Clock) -> Signer {
    let service = service.to_owned();
    Arc::new(move |unsigned| {
        let scope = Scope { region: &region, service: &service };
        let signed = signature::headers(&unsigned, &keys, scope, clock.now(), is_covered);
        async { signed }.boxed()
    })
}

/// Signs with keys that are looked for again when they end.
fn renewing(source: Source, means: Arc<Means>, service: String) -> Signer {
    let shared = Arc::new((source, means, service));
    Arc::new(move |unsigned| {
        let shared = Arc::clone(&shared);
        async move {
            let (source, means, service) = &*shared;
            let keys = FOUND.keys(source, means.clock, || chain::find(source, means)).await?;
            let scope = Scope { region: &means.region, service };
            signature::headers(&unsigned, &keys, scope, means.clock.now(), is_covered)
        }
        .boxed()
    })
}

/// Beside the host, AWS demands these. A proxy may change any other header.
fn is_covered(name: &str) -> bool {
    name == "content-type" || name.starts_with("x-amz-")
}

#[cfg(test)]
mod tests;
