//! Keys from the machine: the services of containers and of instances.

use http::Method;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde::Deserialize;
use url::Url;

use super::chain::{Means, missing};
use super::keys::Keys;
use crate::auth::header_value;
use crate::http::machine::{self, Answer};
use crate::http::{Client, Credential, Failure, Request};
use crate::model::Secret;

const CONTAINER: &str = "http://169.254.170.2";
const INSTANCE: &str = "http://169.254.169.254";
const INSTANCE_V6: &str = "http://[fd00:ec2::254]";
const ROLES: &str = "latest/meta-data/iam/security-credentials/";
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");

/// The keys of a container's role (ECS, EKS Pod Identity); `None` when no variable names a
/// service.
///
/// # Errors
/// When the service does not give keys, or its address is none to be asked.
pub async fn container(means: &Means) -> Result<Option<Keys>, Failure> {
    let place = "the container's credential service";
    let address = match (
        means.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        means.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    ) {
        (Some(path), _) => format!("{CONTAINER}{}", path.expose()),
        (None, Some(url)) => url.expose().to_owned(),
        (None, None) => return Ok(None),
    };
    let url = Url::parse(&address)
        .map_err(|_| missing(format!("{place}: AWS_CONTAINER_CREDENTIALS_FULL_URI is no URL")))?;
    let mut headers = Vec::new();
    if let Some(token) = container_token(means).await? {
        headers.push((AUTHORIZATION, header_value("Authorization", token.expose().trim(), true)?));
    }
    let answer = if url.scheme() == "https" {
        over_tls(means, &url, headers).await?
    } else {
        // AWS knows this one name beside the addresses.
        let url = if url.host_str() == Some("localhost") {
            let mut own = url.clone();
            let _ = own.set_host(Some("127.0.0.1"));
            own
        } else {
            url
        };
        ask(place, Method::GET, &url, &headers).await?
    };
    if answer.status != 200 {
        return Err(missing(format!("{place} answered HTTP {}", answer.status)));
    }
    read(place, &answer).map(Some)
}

async fn container_token(means: &Means) -> Result<Option<Secret>, Failure> {
    match means.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(path) => means.file(path.expose()).await.map(Some),
        None => Ok(means.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN")),
    }
}

async fn over_tls(
    means: &Means,
    url: &Url,
    headers: Vec<(HeaderName, HeaderValue)>,
) -> Result<Answer, Failure> {
    let credential = Credential { headers, confidential: true, ..Credential::default() };
    let request = Request {
        url: url.clone(),
        accept: "application/json",
        credential: Some(&credential),
        max_body: 64 * 1024,
        deadline: means.deadline(),
        if_none_match: None,
        body: None,
    };
    let way = crate::auth::way_out(&means.server, &means.credentials).await?;
    let client = Client::beside(&means.server, url, &way, means.transport.clone())?;
    let exchange = client.send(&request).await?;
    Ok(Answer { status: exchange.status(), body: exchange.body.into() })
}

/// The keys of the instance's role, by the second version of the metadata service (a token first);
/// `None` when `AWS_EC2_METADATA_DISABLED` is `true`.
///
/// # Errors
/// When the service does not answer, or the instance has no role.
pub async fn instance(means: &Means) -> Result<Option<Keys>, Failure> {
    let place = "the instance metadata service";
    let variable = |name| means.plain(name);
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        return Ok(None);
    }
    let base = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| {
        let mode = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE").unwrap_or_default();
        if mode.eq_ignore_ascii_case("ipv6") { INSTANCE_V6 } else { INSTANCE }.to_owned()
    });
    let base = Url::parse(&format!("{}/", base.trim_end_matches('/')))
        .map_err(|_| missing(format!("{place}: AWS_EC2_METADATA_SERVICE_ENDPOINT is no URL")))?;
    let below = |path: &str| {
        base.join(path).map_err(|_| missing(format!("{place} names a role that makes no URL")))
    };

    let ttl = (TOKEN_TTL, HeaderValue::from_static("21600"));
    let answer = ask(place, Method::PUT, &below("latest/api/token")?, &[ttl]).await?;
    if answer.status != 200 {
        return Err(missing(format!("{place} gave no token: HTTP {}", answer.status)));
    }
    let token = String::from_utf8_lossy(&answer.body);
    let token = (TOKEN, header_value(TOKEN.as_str(), token.trim(), true)?);

    let answer = ask(place, Method::GET, &below(ROLES)?, std::slice::from_ref(&token)).await?;
    let names = String::from_utf8_lossy(&answer.body).into_owned();
    let role = names.lines().next().unwrap_or_default().trim();
    if answer.status == 404 || (answer.status == 200 && role.is_empty()) {
        return Err(missing(format!("{place}: this instance has no role")));
    }
    if answer.status != 200 {
        return Err(missing(format!("{place} answered HTTP {}", answer.status)));
    }
    if !role.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte)) {
        return Err(missing(format!("{place} names a role that is none")));
    }
    let answer = ask(place, Method::GET, &below(&format!("{ROLES}{role}"))?, &[token]).await?;
    if answer.status != 200 {
        return Err(missing(format!("{place} gave no keys: HTTP {}", answer.status)));
    }
    read(place, &answer).map(Some)
}

async fn ask(
    place: &str,
    method: Method,
    url: &Url,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Answer, Failure> {
    machine::ask(method, url, headers)
        .await
        .map_err(|why| missing(format!("{place} at {}: {why}", url.origin().ascii_serialization())))
}

/// What both services answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    code: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
    expiration: Option<jiff::Timestamp>,
}

fn read(place: &str, answer: &Answer) -> Result<Keys, Failure> {
    let given: Given = serde_json::from_slice(&answer.body)
        // serde's words may hold a piece of the answer.
        .map_err(|_| missing(format!("{place} answered something that are no keys")))?;
    let token = given.token.filter(|token| !token.is_empty()).map(Secret::new);
    let succeeded = given.code.is_none_or(|code| code == "Success");
    match (given.access_key_id.map(Secret::new), given.secret_access_key.map(Secret::new)) {
        (Some(access), Some(secret)) if succeeded => {
            Keys::new(place, access, secret, token, given.expiration)
        }
        _ => Err(missing(format!("{place} answered without keys"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        Answer { status: 200, body: body.as_bytes().to_vec().into() }
    }

    #[test]
    fn an_answer_gives_keys_with_their_end_or_says_that_it_has_none() {
        let keys = read(
            "it",
            &answer(
                r#"{"Code":"Success","AccessKeyId":"ASIA1","SecretAccessKey":"hunter2","Token":"t","Expiration":"2026-03-01T12:00:00Z","RoleArn":"x"}"#,
            ),
        )
        .unwrap();
        assert_eq!(keys.access_key.expose(), "ASIA1");
        assert_eq!(keys.session_token.unwrap().expose(), "t");
        assert_eq!(keys.expires.unwrap().to_string(), "2026-03-01T12:00:00Z");
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"AccessKeyId":"ASIA1"}"#,
            r#"{"AccessKeyId":"ASIA1","SecretAccessKey":"hunter2","Expiration":"soon"}"#,
            r#"{"Code":"Failed","AccessKeyId":"ASIA1","SecretAccessKey":"hunter2"}"#,
            r#"{"AccessKeyId":"","SecretAccessKey":"hunter2"}"#,
        ] {
            let error = read("it", &answer(body)).unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{body}");
        }
    }
}
