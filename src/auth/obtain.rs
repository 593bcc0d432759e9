//! From a server's method to a token: kept, or asked for once.

use std::time::Instant;

use jiff::Timestamp;
use url::Url;

use super::discovery::{SmartConfiguration, smart_configuration};
use super::explain::{self, Facts};
use super::keeper::{Freshness, Keeper};
use super::seal::Seal;
use super::token::{Answer, Ask, How, Refusal, Sent, Token};
use super::{azure, google, identity, oauth2, secret, smart_backend};
use crate::http::{Client, Failure, Request, Stage};
use crate::model::server::{Auth, AzureProof, Flow, Server};
use crate::model::{Code, HttpFacts, Secret};

/// Most bytes of a published key set that are read.
const KEY_SET_BYTES: u64 = 1024 * 1024;

/// A token for a server that signs in with tokens.
///
/// # Errors
/// `auth.…` with the reason when none is kept and none can be had.
pub(super) async fn token(
    keeper: &Keeper,
    server: &Server,
    freshness: Freshness<'_>,
    by_hand: bool,
    deadline: Instant,
) -> Result<Token, Failure> {
    let material = Material::of(keeper, server).await?;
    let id = material.id(keeper, server);
    let seal = keeper.seal(server, material.secret.as_ref()).await;
    let now = keeper.now();
    let fits = |token: &Token| {
        token.is_fresh(now)
            && match freshness {
                Freshness::Usable => true,
                Freshness::AtMost(age) => {
                    now.as_second() - token.obtained_at.as_second()
                        < i64::try_from(age.as_secs()).unwrap_or(i64::MAX)
                }
                Freshness::Not(stale) => token.value.expose() != stale.value.expose(),
                Freshness::New => token.obtained_at >= now,
            }
    };
    if let Some(token) = keeper.kept(&id, seal.as_ref()).filter(fits) {
        return Ok(token);
    }
    let lock_id = format!("{id}-token");
    let _turn = keeper.exclusive(&lock_id, deadline).await?;
    // Somebody may have got one while we waited.
    let kept = keeper.kept(&id, seal.as_ref());
    if let Some(token) = kept.clone().filter(fits) {
        return Ok(token);
    }
    let mut ticket = keeper.admit(server, &id, by_hand, deadline).await?;
    let ask = material.ask(keeper, server, kept.as_ref(), deadline).await?;
    match send(keeper, server, &ask, deadline).await? {
        Answer::Token(mut token) => {
            if token.refresh_token.is_none() {
                // A provider that does not rotate leaves the old one in force (RFC 6749 §6).
                token.refresh_token = kept.and_then(|kept| kept.refresh_token);
            }
            keeper.keep(&id, &token, seal.as_ref());
            keeper.accepted(&mut ticket);
            Ok(*token)
        }
        Answer::Refused(refusal) => {
            let failure = reason(keeper, server, &ask, &refusal, deadline).await;
            if explain::is_refusal(failure.code) {
                keeper.refused(&mut ticket, failure.code).await;
            }
            Err(failure)
        }
    }
}

/// Takes the first token of a user who just signed in, with what renews it.
///
/// # Errors
/// `auth.…` when the provider refuses the code; `auth.credential_missing` when there is no place
/// where the sign-in can be kept.
pub async fn redeem(
    keeper: &Keeper,
    server: &Server,
    code: &str,
    redirect_uri: &str,
    verifier: &str,
    deadline: Instant,
) -> Result<Token, Failure> {
    let Auth::OAuth2(settings) = &server.auth else {
        return Err(super::unusable("only oauth2 with authorization-code signs a user in"));
    };
    let material = Material::of(keeper, server).await?;
    let id = material.id(keeper, server);
    let seal = keeper.seal(server, material.secret.as_ref()).await.ok_or_else(no_place)?;
    let place = endpoint(keeper, server, settings.token_url.as_ref(), deadline).await?;
    let sent = material.sent(server, place.configuration);
    let ask = oauth2::code(
        settings,
        material.secret.as_ref(),
        place.url,
        code,
        redirect_uri,
        verifier,
        sent,
    )?;
    match send(keeper, server, &ask, deadline).await? {
        Answer::Token(token) => {
            keeper.keep(&id, &token, Some(&seal));
            let mut ticket = keeper.admit(server, &id, true, deadline).await?;
            keeper.accepted(&mut ticket);
            Ok(*token)
        }
        Answer::Refused(refusal) => Err(reason(keeper, server, &ask, &refusal, deadline).await),
    }
}

/// The token that is kept for a server, whatever its age; nothing is asked for.
///
/// # Errors
/// `auth.credential_missing` when the credential that it is sealed with cannot be had.
pub async fn kept(keeper: &Keeper, server: &Server) -> Result<Option<Token>, Failure> {
    if !server.auth.uses_tokens() {
        return Ok(None);
    }
    let material = Material::of(keeper, server).await?;
    let id = material.id(keeper, server);
    let seal = keeper.seal(server, material.secret.as_ref()).await;
    Ok(keeper.kept(&id, seal.as_ref()))
}

/// The scopes that a server's method asks for, where that is known without asking it.
#[must_use]
pub fn asked_scopes(server: &Server) -> Vec<String> {
    scopes(server, None)
}

fn no_place() -> Failure {
    super::unusable("there is no place to keep the sign-in: neither a keyring nor an age identity")
        .hint("Start a keyring, or set FHIRCTL_AGE_IDENTITY_FILE; fhirctl doctor shows what is there.")
}

/// What a method holds before it asks.
pub(super) struct Material {
    /// The main secret; `None` for a public client and for a machine's own identity.
    secret: Option<Secret>,
}

impl Material {
    pub(super) async fn of(keeper: &Keeper, server: &Server) -> Result<Material, Failure> {
        let credentials = &keeper.credentials().serving(&server.name);
        let reference = match &server.auth {
            Auth::OAuth2(settings) => settings.client_secret.as_ref(),
            Auth::SmartBackend(settings) => Some(&settings.key),
            Auth::Azure(settings) => match &settings.proof {
                AzureProof::Secret(reference) | AzureProof::Certificate(reference) => {
                    Some(reference)
                }
                AzureProof::ManagedIdentity => None,
            },
            Auth::Google(settings) => match &settings.credentials {
                Some(reference) => Some(reference),
                None => {
                    let source = google::default_credentials(credentials).await?;
                    let secret = match source {
                        google::Source::File(text) => Some(text),
                        google::Source::Machine => None,
                    };
                    return Ok(Material { secret });
                }
            },
            _ => None,
        };
        let secret = match reference {
            Some(reference) => Some(secret(reference, credentials).await?),
            None => None,
        };
        Ok(Material { secret })
    }

    /// Servers that ask the same endpoint for the same share their token.
    fn id(&self, keeper: &Keeper, server: &Server) -> String {
        let (endpoint, client, extra) = match &server.auth {
            Auth::OAuth2(it) => (
                it.token_url.as_ref().map(Url::to_string),
                it.client_id.clone(),
                format!("{:?} {:?}", it.flow, it.audience),
            ),
            Auth::SmartBackend(it) => (
                it.token_url.as_ref().map(Url::to_string),
                it.client_id.clone(),
                format!("{:?} {:?}", it.key_id, it.audience),
            ),
            Auth::Azure(it) => (
                azure::endpoint(it).ok().map(|url| url.to_string()),
                it.client_id.clone().unwrap_or_default(),
                String::new(),
            ),
            _ => (None, String::new(), String::new()),
        };
        let endpoint = endpoint.unwrap_or_else(|| server.url.as_str().to_owned());
        let scopes = scopes(server, None).join(" ");
        let secret = self.secret.as_ref().map_or("", Secret::expose);
        keeper.id(&["token", server.auth.method(), &endpoint, &client, &extra, &scopes, secret])
    }

    fn sent(&self, server: &Server, discovered: Option<SmartConfiguration>) -> Sent {
        let life = server.sign_in.token_lifetime;
        Sent {
            client_id: match &server.auth {
                Auth::OAuth2(settings) => Some(settings.client_id.clone()),
                _ => None,
            },
            scopes: scopes(server, discovered.as_ref()),
            life: life.and_then(|life| i64::try_from(life.as_secs()).ok()),
            discovered,
            ..Sent::default()
        }
    }

    pub(super) async fn ask(
        &self,
        keeper: &Keeper,
        server: &Server,
        kept: Option<&Token>,
        deadline: Instant,
    ) -> Result<Ask, Failure> {
        let now = keeper.now();
        let missing = || super::unusable("the secret for the sign-in is not there");
        let secret = self.secret.as_ref();
        let ask = match &server.auth {
            Auth::OAuth2(settings) => {
                let renews = kept.and_then(|token| token.refresh_token.as_ref());
                if settings.flow == Flow::AuthorizationCode && renews.is_none() {
                    return Err(super::unusable("nobody has signed in for this server yet, or what was kept cannot be renewed")
                        .hint(format!("Sign in: fhirctl auth login {}", server.name)));
                }
                let place = endpoint(keeper, server, settings.token_url.as_ref(), deadline).await?;
                let sent = self.sent(server, place.configuration);
                match (settings.flow, renews) {
                    (Flow::AuthorizationCode, Some(renews)) => {
                        oauth2::refresh(settings, secret, renews, place.url, sent)?
                    }
                    _ => {
                        let secret = secret.ok_or_else(missing)?;
                        oauth2::client_credentials(settings, secret, place.url, sent)?
                    }
                }
            }
            Auth::SmartBackend(settings) => {
                let place = endpoint(keeper, server, settings.token_url.as_ref(), deadline).await?;
                let audience = settings.audience.clone().unwrap_or(place.as_published);
                let sent = self.sent(server, place.configuration);
                let key = secret.ok_or_else(missing)?;
                smart_backend::ask(settings, key, place.url, &audience, now, sent)?
            }
            Auth::Azure(settings) => match secret {
                Some(secret) => azure::ask(settings, secret, now, self.sent(server, None))?,
                None => {
                    azure::ask_machine(settings, keeper.credentials(), self.sent(server, None))?
                }
            },
            Auth::Google(settings) => match secret {
                Some(secret) => google::ask(settings, secret, now, self.sent(server, None))?,
                None => google::ask_machine(keeper.credentials(), self.sent(server, None))?,
            },
            _ => return Err(super::unusable("this method does not use tokens")),
        };
        Ok(ask)
    }
}

/// The scopes that are asked for.
fn scopes(server: &Server, configuration: Option<&SmartConfiguration>) -> Vec<String> {
    match &server.auth {
        Auth::OAuth2(settings) => settings.scopes.clone().unwrap_or_else(|| match settings.flow {
            Flow::ClientCredentials => Vec::new(),
            // Who the user is, and leave to stay signed in.
            Flow::AuthorizationCode => {
                ["openid", "fhirUser", "offline_access"].map(str::to_owned).to_vec()
            }
        }),
        Auth::SmartBackend(settings) => settings.scopes.clone().unwrap_or_else(|| {
            // SMART demands a scope; the server's own spelling where it says which.
            let only_v1 = configuration.is_some_and(|it| {
                let has = |name: &str| it.capabilities.iter().any(|capability| capability == name);
                has("permission-v1") && !has("permission-v2")
            });
            vec![if only_v1 { "system/*.read" } else { "system/*.rs" }.to_owned()]
        }),
        Auth::Azure(settings) => azure::scopes(server, settings),
        Auth::Google(settings) => google::scopes(settings),
        _ => Vec::new(),
    }
}

/// A token endpoint that may be asked.
struct Place {
    url: Url,
    /// As the server publishes it, to the letter; else as the inventory has it.
    as_published: String,
    configuration: Option<SmartConfiguration>,
}

/// The endpoint of the inventory, unless the server now names another; a discovered one only where
/// it is of the server's own origin.
async fn endpoint(
    keeper: &Keeper,
    server: &Server,
    configured: Option<&Url>,
    deadline: Instant,
) -> Result<Place, Failure> {
    let configuration = if server.sign_in.discovers || configured.is_none() {
        discover(keeper, server, deadline).await
    } else {
        Ok(None)
    };
    let refuse =
        |message: String| Failure::new(Stage::Setup, Code::new("auth.token_endpoint"), message);
    let name = &server.name;
    let published = configuration
        .as_ref()
        .ok()
        .and_then(Option::as_ref)
        .and_then(|it| it.token_endpoint.clone());
    let discovered = published.as_deref().and_then(|text| Url::parse(text).ok());
    match (configured, discovered) {
        (Some(url), Some(found)) if server.sign_in.discovers && *url != found => {
            Err(refuse(format!(
                "the server now names the token endpoint {}, the inventory has {}; nothing was sent",
                super::token::place(&found),
                super::token::place(url)
            ))
            .hint(format!(
                "Ask the vendor. If it has moved: fhirctl set {name} auth.token_url={found}. If the inventory is right: fhirctl set {name} auth.discover=false"
            )))
        }
        (Some(url), found) => Ok(Place {
            url: url.clone(),
            as_published: match (found, published) {
                (Some(found), Some(published)) if found == *url => published,
                _ => url.to_string(),
            },
            configuration: configuration.ok().flatten(),
        }),
        (None, Some(found)) if found.origin() == server.url.url().origin() => Ok(Place {
            as_published: published.unwrap_or_else(|| found.to_string()),
            url: found,
            configuration: configuration.ok().flatten(),
        }),
        (None, Some(found)) => Err(refuse(format!(
            "the inventory has no token endpoint, and the server names one on another host, {}; nothing was sent",
            super::token::place(&found)
        ))
        .hint(format!("If the vendor confirms it: fhirctl set {name} auth.token_url={found}"))),
        (None, None) => {
            let why = match configuration {
                Err(failure) => format!(": {}", failure.message),
                Ok(None) => ": it publishes no SMART configuration".to_owned(),
                Ok(Some(_)) => ": its SMART configuration has no token_endpoint".to_owned(),
            };
            Err(refuse(format!(
                "the inventory has no token endpoint, and the server names none{why}"
            ))
            .hint(format!("fhirctl set {name} auth.token_url=URL")))
        }
    }
}

pub(super) async fn discover(
    keeper: &Keeper,
    server: &Server,
    deadline: Instant,
) -> Result<Option<SmartConfiguration>, Failure> {
    let identity = identity(server, keeper.credentials()).await?;
    let client = Client::new(server, &identity, keeper.transport().clone())?;
    smart_configuration(&client, server, deadline).await
}

pub(super) async fn send(
    keeper: &Keeper,
    server: &Server,
    ask: &Ask,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let now = keeper.now();
    if matches!(ask.how, How::Get) {
        let answer = super::token::ask_machine(ask, now).await;
        let place = format!("{}:machine", server.auth.method());
        keeper.credentials().serving(&server.name).used(&place, answer.is_ok());
        return answer;
    }
    let client = beside(keeper, server, &ask.endpoint).await?;
    super::token::request(&client, ask, now, deadline).await
}

/// A client for the token endpoint, with the server's client certificate where it is on the same
/// host.
pub(super) async fn beside(
    keeper: &Keeper,
    server: &Server,
    address: &Url,
) -> Result<Client, Failure> {
    let identity = identity(server, keeper.credentials()).await?;
    Client::beside(server, address, &identity, keeper.transport().clone())
}

/// Finds out what a refusal means; asks for nothing but published documents.
async fn reason(
    keeper: &Keeper,
    server: &Server,
    ask: &Ask,
    refusal: &Refusal,
    deadline: Instant,
) -> Failure {
    let keys = match &ask.sent.jwks_url {
        Some(url) => Some(published_keys(keeper, server, url, deadline).await),
        None => None,
    };
    let facts = Facts {
        sent: Some(&ask.sent),
        configuration: ask.sent.discovered.as_ref(),
        published_keys: keys.as_ref().and_then(|keys| keys.as_deref().ok()),
        unreadable_keys: keys.as_ref().and_then(|keys| keys.as_ref().err()).map(String::as_str),
        policy: Some(&server.sign_in),
    };
    let now: Timestamp = keeper.now();
    let mut failure = explain::explain(refusal, &facts, &super::token::place(&ask.endpoint), now);
    // Whose clock is wrong can be told only by comparing it with others.
    failure.http.get_or_insert_with(|| HttpFacts {
        status: Some(refusal.status),
        clock_skew_ms: refusal.clock_skew_ms,
        ..HttpFacts::default()
    });
    failure
}

/// The ids of a published key set (RFC 7517 §5).
async fn published_keys(
    keeper: &Keeper,
    server: &Server,
    url: &Url,
    deadline: Instant,
) -> Result<Vec<String>, String> {
    let client = beside(keeper, server, url).await.map_err(|failure| failure.message)?;
    let request = Request {
        url: url.clone(),
        accept: "application/json",
        credential: None,
        max_body: KEY_SET_BYTES,
        deadline,
        if_none_match: None,
        body: None,
    };
    let exchange = client.send(&request).await.map_err(|failure| failure.message)?;
    if exchange.status() != 200 {
        return Err(format!("HTTP {}", exchange.status()));
    }
    let document: serde_json::Value =
        serde_json::from_slice(&exchange.body).map_err(|_| "it is not JSON".to_owned())?;
    let keys = document
        .get("keys")
        .and_then(serde_json::Value::as_array)
        .ok_or_else(|| "it is no key set".to_owned())?;
    Ok(keys.iter().filter_map(|key| key.get("kid")?.as_str().map(str::to_owned)).collect())
}

/// What a user's sign-in is kept with, told before the browser opens.
///
/// # Errors
/// `auth.credential_missing` when there is no place for it.
pub async fn can_keep(keeper: &Keeper, server: &Server) -> Result<(), Failure> {
    let material = Material::of(keeper, server).await?;
    let seal: Option<Seal> = keeper.seal(server, material.secret.as_ref()).await;
    seal.map(drop).ok_or_else(no_place)
}
