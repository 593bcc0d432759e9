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
use std::time::Instant;

use futures_util::FutureExt as _;

pub use keys::Keys;
pub use refusal::{Refusal, explain};

use super::{Keeper, secret};
use crate::credentials::Credentials;
use crate::http::{Credential, Failure, Signer, Transport};
use crate::model::Secret;
use crate::model::server::{AwsKeys, AwsSigv4, HeaderValue, Server};
use chain::Means;
use keys::{Shared, Source};
use signature::Scope;

/// What was found outside the inventory. A machine has one set of sources, whichever server asks.
static FOUND: LazyLock<Shared> = LazyLock::new(Shared::default);

/// Makes the proof sign each request.
///
/// Keys are looked for now, so that what is missing is said before anything is sent; temporary ones
/// are renewed while the process runs, five minutes before they end. What is given back tells a
/// credential of the user's own from every other one, region and service included; temporary keys
/// are the machine's, and nothing is given back.
///
/// # Errors
/// `auth.credential_missing` when no keys are found or those that are cannot be used.
pub(super) async fn add(
    proof: &mut Credential,
    settings: &AwsSigv4,
    server: &Server,
    keeper: &Keeper,
    deadline: Instant,
) -> Result<Option<Vec<String>>, Failure> {
    let credentials = keeper.credentials();
    let AwsSigv4 { region, service, .. } = settings;
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
            let known = told_apart(&keys, settings);
            let transport = keeper.transport().clone();
            proof.signer = Some(fixed(keys, region.clone(), service, transport));
            return Ok(known);
        }
        AwsKeys::Profile(name) => Source::Profile(name.clone()),
        AwsKeys::Chain => Source::Chain,
    };
    let means = Arc::new(Means {
        server: server.clone(),
        region: region.clone(),
        credentials: credentials.clone(),
        transport: keeper.transport().clone(),
    });
    let found = found(&source, &means);
    let keys = tokio::time::timeout_at(deadline.into(), found).await.map_err(|_| {
        chain::missing("the AWS keys did not come in time")
            .hint("Give it longer with --timeout, or name the keys or a profile in auth.")
    })??;
    proof.signer = Some(renewing(source, means, service.clone()));
    Ok(told_apart(&keys, settings))
}

/// The keys that this machine offers, for another service of AWS than a server of the inventory:
/// environment, profile, role, container, instance, in the order of the AWS tools.
///
/// `server` is whose settings hold for the questions that this takes.
///
/// # Errors
/// `auth.credential_missing`, which says where was looked.
pub async fn machine_keys(
    server: &Server,
    region: &str,
    credentials: &Credentials,
    transport: &Arc<Transport>,
) -> Result<Keys, Failure> {
    let means = Means {
        server: server.clone(),
        region: region.to_owned(),
        credentials: credentials.clone(),
        transport: Arc::clone(transport),
    };
    found(&Source::Chain, &means).await
}

fn told_apart(keys: &Keys, settings: &AwsSigv4) -> Option<Vec<String>> {
    let secrets = [Some(&keys.access_key), Some(&keys.secret_key), keys.session_token.as_ref()];
    let secrets = secrets.into_iter().flatten().map(|secret| secret.expose().to_owned());
    keys.expires.is_none().then(|| {
        [settings.region.clone(), settings.service.clone()].into_iter().chain(secrets).collect()
    })
}

async fn found(source: &Source, means: &Means) -> Result<Keys, Failure> {
    let keys = FOUND.keys(source, means.transport.now(), || chain::find(source, means)).await;
    let place = match source {
        Source::Profile(name) => format!("aws:profile/{name}"),
        Source::Chain => "aws:default".to_owned(),
    };
    means.credentials.used(&place, keys.is_ok());
    keys
}

/// Signs with keys that stay.
fn fixed(keys: Keys, region: String, service: &str, transport: Arc<Transport>) -> Signer {
    let service = service.to_owned();
    Arc::new(move |unsigned| {
        let scope = Scope { region: &region, service: &service };
        let signed = signature::headers(&unsigned, &keys, scope, transport.now(), is_covered);
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
            let keys = found(source, means).await?;
            let scope = Scope { region: &means.region, service };
            signature::headers(&unsigned, &keys, scope, means.transport.now(), is_covered)
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
