//! Keys of a role, from the Security Token Service (`AssumeRole`, `AssumeRoleWithWebIdentity`).

use url::Url;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::chain::{Means, missing};
use super::keys::Keys;
use super::profile::Profile;
use super::refusal::{element, explain};
use crate::http::{Body, Client, Credential, Exchange, Failure, Request, Stage};
use crate::model::{Code, Secret, limits, text};

const SERVICE: &str = "the AWS token service";
const SESSION: &str = "fhirctl";

/// The keys of the role that the environment names together with an identity token, as EKS and
/// other OIDC platforms do; `None` when it names none.
///
/// # Errors
/// When the token cannot be read or the role is not given.
pub async fn by_environment(means: &Means) -> Result<Option<Keys>, Failure> {
    let (Some(file), Some(role)) =
        (means.variable("AWS_WEB_IDENTITY_TOKEN_FILE"), means.variable("AWS_ROLE_ARN"))
    else {
        return Ok(None);
    };
    let session = means.variable("AWS_ROLE_SESSION_NAME");
    let session = session.as_ref().map_or(SESSION, Secret::expose);
    web_identity(role.expose(), session, file.expose(), means).await.map(Some)
}

/// The keys of a profile's role with the identity token in a file.
///
/// # Errors
/// As [`by_environment`].
pub async fn by_web_identity(
    profile: &Profile,
    file: &str,
    means: &Means,
) -> Result<Keys, Failure> {
    let role = profile.get("role_arn").unwrap_or_default();
    let session = profile.get("role_session_name").unwrap_or(SESSION);
    web_identity(role, session, file, means).await
}

/// The keys of a profile's role, assumed with other keys.
///
/// # Errors
/// When the service does not give them, or a person's second factor is wanted.
pub async fn assume(
    place: &str,
    profile: &Profile,
    keys: Keys,
    means: &Means,
) -> Result<Keys, Failure> {
    if profile.get("mfa_serial").is_some() {
        return Err(missing(format!("{place} wants a second factor (mfa_serial)"))
            .hint("Use a role without one, or temporary keys that a person made: aws sts get-session-token"));
    }
    let form = question(&[
        ("Action", Some("AssumeRole")),
        ("RoleArn", profile.get("role_arn")),
        ("RoleSessionName", profile.get("role_session_name").or(Some(SESSION))),
        ("ExternalId", profile.get("external_id")),
        ("DurationSeconds", profile.get("duration_seconds")),
    ]);
    let signer = super::fixed(keys, means.region.clone(), "sts", means.transport.clone());
    let credential =
        Credential { signer: Some(signer), confidential: true, ..Credential::default() };
    ask(place, &form, Some(&credential), means).await
}

async fn web_identity(
    role: &str,
    session: &str,
    file: &str,
    means: &Means,
) -> Result<Keys, Failure> {
    let token = means.file(file).await?;
    let form = question(&[
        ("Action", Some("AssumeRoleWithWebIdentity")),
        ("RoleArn", Some(role)),
        ("RoleSessionName", Some(session)),
        ("WebIdentityToken", Some(token.expose().trim())),
    ]);
    ask("the role of the identity token", &form, None, means).await
}

fn question(parameters: &[(&str, Option<&str>)]) -> Zeroizing<String> {
    // Room from the start: a growing buffer leaves copies of a token behind.
    let room = parameters.iter().map(|(name, value)| name.len() + 3 * value.map_or(0, str::len));
    let mut form = Serializer::new(String::with_capacity(64 + room.sum::<usize>()));
    form.append_pair("Version", "2011-06-15");
    for (name, value) in parameters {
        if let Some(value) = value {
            form.append_pair(name, value);
        }
    }
    Zeroizing::new(form.finish())
}

async fn ask(
    place: &str,
    form: &str,
    credential: Option<&Credential>,
    means: &Means,
) -> Result<Keys, Failure> {
    let url = endpoint(means)?;
    let body = Body {
        content_type: "application/x-www-form-urlencoded; charset=utf-8",
        bytes: form.as_bytes(),
        confidential: true,
    };
    let request = Request {
        url: url.clone(),
        accept: "text/xml",
        credential,
        max_body: limits::SMALL_BODY_BYTES,
        deadline: means.deadline(),
        if_none_match: None,
        body: Some(body),
    };
    let way = crate::auth::way_out(&means.server, &means.credentials).await?;
    let client = Client::beside(&means.server, &url, &way, means.transport.clone())?;
    let mut exchange = client.send(&request).await.map_err(|failure| Failure {
        message: format!("{place}: {SERVICE}: {}", failure.message),
        ..failure
    })?;
    let answer = Zeroizing::new(std::mem::take(&mut exchange.body));
    if exchange.status() != 200 {
        return Err(refused(place, &exchange, &answer));
    }
    let answer = String::from_utf8_lossy(&answer);
    let found = |name| element(&answer, name).map(Secret::new);
    let (Some(access), Some(key)) = (found("AccessKeyId"), found("SecretAccessKey")) else {
        return Err(missing(format!("{place}: {SERVICE} answered without keys")));
    };
    let expires = element(&answer, "Expiration").and_then(|end| end.parse().ok());
    Keys::new(place, access, key, found("SessionToken"), expires)
}

fn refused(place: &str, exchange: &Exchange, answer: &[u8]) -> Failure {
    let status = exchange.status();
    if let Some(refusal) = explain(status, answer) {
        let mut failure =
            Failure::new(Stage::Setup, refusal.code, format!("{place}: {}", refusal.message));
        failure.hint = refusal.hint;
        return failure.server_text(refusal.server_text);
    }
    let words = element(&String::from_utf8_lossy(answer), "Message")
        .map(|words| text::bounded(&text::one_line(&words), limits::SERVER_TEXT_CHARS));
    Failure::new(
        Stage::Setup,
        Code::new("auth.token_endpoint"),
        format!("{place}: {SERVICE} does not give the role (HTTP {status})"),
    )
    .hint("Does the role's trust policy name this identity, and is its ARN spelt right?")
    .server_text(words)
}

fn endpoint(means: &Means) -> Result<Url, Failure> {
    let own = means.plain("AWS_ENDPOINT_URL_STS").or_else(|| means.plain("AWS_ENDPOINT_URL"));
    let address = own.unwrap_or_else(|| {
        let suffix = if means.region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://sts.{}.amazonaws.com{suffix}/", means.region)
    });
    Url::parse(&address).ok().filter(Url::has_host).ok_or_else(|| {
        missing(format!("{SERVICE}: auth.region or AWS_ENDPOINT_URL_STS makes no URL"))
    })
}
