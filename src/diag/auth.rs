//! `auth`: the sign-in step by step, without what proves it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::shell::{Command, curl};
use super::{Desk, Problem, Topic, TopicName};
use crate::auth::rehearse::{self, Rehearsal, WrongAudience};
use crate::auth::{asked_scopes, kept, scope};
use crate::http::Failure;
use crate::model::server::Auth;
use crate::model::{Code, Party, Status};

#[derive(Debug, Default, Serialize, JsonSchema)]
struct Details {
    method: String,
    /// Where the secrets are kept; never what they are.
    references: Vec<String>,
    token_endpoint: Option<String>,
    discovered_token_endpoint: Option<String>,
    client_id: Option<String>,
    assertion: Option<Assertion>,
    asked_scopes: Vec<String>,
    granted_scopes: Option<Vec<String>>,
    missing_scopes: Vec<String>,
    token_obtained_at: Option<Timestamp>,
    token_expires_at: Option<Timestamp>,
    /// What the provider says of the token (RFC 7662); `null` where it was not asked.
    introspection: Option<Introspection>,
    negative: Vec<Negative>,
}

/// An assertion without its signature.
#[derive(Debug, Serialize, JsonSchema)]
struct Assertion {
    header: Value,
    claims: Value,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Introspection {
    /// The HTTP status code.
    status: u16,
    active: Option<bool>,
    scope: Option<String>,
}

/// Something that has to be refused.
#[derive(Debug, Serialize, JsonSchema)]
struct Negative {
    what: &'static str,
    /// Whether it was refused; `null` where no answer came.
    is_refused: Option<bool>,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let server = &desk.server;
    let mut topic = Topic::new(TopicName::Auth);
    let mut details = Details {
        method: server.auth.method().to_owned(),
        references: server.auth.references().iter().map(ToString::to_string).collect(),
        asked_scopes: asked_scopes(server),
        ..Details::default()
    };
    topic.fact("method", server.auth.method());
    if server.auth == Auth::None {
        topic.details(&details);
        return topic.good("the server is asked without a sign-in");
    }
    for reference in &details.references {
        topic.fact("secret", reference.as_str());
    }
    let keeper = &desk.surroundings.keeper;
    match rehearse::rehearse(keeper, server, desk.deadline).await {
        Ok(Some(rehearsal)) => {
            worded(&mut topic, &mut details, &rehearsal);
            // The sign-in itself is the test's: one token is enough.
            let works = signed_in(desk, &mut topic).await;
            given(desk, &mut topic, &mut details).await;
            if works && let Some(address) = &rehearsal.introspection {
                introspected(desk, &mut topic, &mut details, address).await;
            }
        }
        Ok(None) => {
            signed_in(desk, &mut topic).await;
        }
        Err(failure) => topic.problem(Problem::from(&failure)),
    }
    if desk.options.negative {
        negative(desk, &mut topic, &mut details).await;
    }
    topic.details(&details);
    topic.good("the sign-in works")
}

fn worded(topic: &mut Topic, details: &mut Details, rehearsal: &Rehearsal) {
    topic.fact("token endpoint", rehearsal.endpoint.as_str());
    if let Some(discovered) = &rehearsal.discovered {
        topic.fact("as discovered", discovered.as_str());
    }
    if let Some(client) = &rehearsal.client_id {
        topic.fact("client id", client.as_str());
    }
    topic.fact("fields of the request", rehearsal.fields.join(", "));
    if let Some((header, claims)) = &rehearsal.assertion {
        topic.fact("assertion, header", header.to_string());
        topic.fact("assertion, claims", claims.to_string());
        details.assertion = Some(Assertion { header: header.clone(), claims: claims.clone() });
    }
    details.token_endpoint = Some(rehearsal.endpoint.to_string());
    details.discovered_token_endpoint.clone_from(&rehearsal.discovered);
    details.client_id.clone_from(&rehearsal.client_id);
    details.asked_scopes.clone_from(&rehearsal.scopes);
}

/// What the test found at this stage; whether it was good.
async fn signed_in(desk: &Desk, topic: &mut Topic) -> bool {
    let report = desk.report().await;
    let Some(check) = report.checks.iter().find(|check| check.name == "auth") else { return false };
    topic.fact("answer", check.message.as_str());
    let Some(code) = check.code.filter(|code| !code.is_left_out()) else {
        return check.status == Status::Healthy;
    };
    let mut problem = Problem::new(code, &check.message).at(check.status);
    problem.party = check.party.unwrap_or(problem.party);
    problem.next_step = check.hint.clone().or(problem.next_step);
    topic.problem(problem.server_text(check.server_text.clone()));
    false
}

/// What the kept token gives against what was asked for.
async fn given(desk: &Desk, topic: &mut Topic, details: &mut Details) {
    let keeper = &desk.surroundings.keeper;
    let Ok(Some(token)) = kept(keeper, &desk.server).await else { return };
    topic.fact("token obtained", token.obtained_at.to_string());
    topic.fact("token ends", token.expires_at.to_string());
    topic.fact("scopes asked", details.asked_scopes.join(" "));
    if let Some(granted) = &token.scopes {
        topic.fact("scopes given", granted.join(" "));
        details.missing_scopes = scope::missing(&details.asked_scopes, granted);
    }
    details.token_obtained_at = Some(token.obtained_at);
    details.token_expires_at = Some(token.expires_at);
    details.granted_scopes = token.scopes;
}

async fn introspected(desk: &Desk, topic: &mut Topic, details: &mut Details, address: &url::Url) {
    let keeper = &desk.surroundings.keeper;
    match rehearse::introspect(keeper, &desk.server, address, desk.deadline).await {
        Ok(said) => {
            let word = match (said.status, said.active) {
                (200, Some(true)) => "active".to_owned(),
                (200, Some(false)) => "not active".to_owned(),
                (status, _) => format!("HTTP {status}"),
            };
            topic.fact("introspection", word);
            if said.active == Some(false) {
                topic.problem(
                    Problem::new(
                        Code::new("auth.token_expired"),
                        "the identity provider says of its own fresh token that it is not active",
                    )
                    .at(Status::Warning)
                    .by(Party::IdentityProvider),
                );
            }
            details.introspection =
                Some(Introspection { status: said.status, active: said.active, scope: said.scope });
        }
        Err(failure) => topic.fact("introspection", failure.message),
    }
}

/// What has to be refused, on request only: a provider may count it as failed attempts.
async fn negative(desk: &Desk, topic: &mut Topic, details: &mut Details) {
    let open = nobody(desk).await;
    note(topic, details, "a request without a credential", open.ok());
    if matches!(desk.server.auth, Auth::SmartBackend(_)) {
        let keeper = &desk.surroundings.keeper;
        let wrong = rehearse::with_wrong_audience(keeper, &desk.server, desk.deadline).await;
        let is_refused = wrong.ok().map(|wrong| wrong == WrongAudience::Refused);
        note(topic, details, "an assertion for another audience", is_refused);
    }
}

/// Whether data are refused to somebody who does not say who he is.
async fn nobody(desk: &Desk) -> Result<bool, Failure> {
    let url = desk.url("Patient?_summary=count")?;
    let answer = desk.get_open(&url, &[]).await?;
    Ok(matches!(answer.status(), 401 | 403))
}

fn note(topic: &mut Topic, details: &mut Details, what: &'static str, is_refused: Option<bool>) {
    let word = match is_refused {
        Some(true) => "refused, as it has to be",
        Some(false) => "TAKEN",
        None => "no answer",
    };
    topic.fact(what, word);
    if is_refused == Some(false) {
        topic.problem(
            Problem::new(Code::new("auth.forbidden"), format!("{what} is taken and not refused"))
                .by(Party::Vendor)
                .next_step("tell the vendor at once: whoever knows the address can ask"),
        );
    }
    details.negative.push(Negative { what, is_refused });
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    if desk.server.auth == Auth::None {
        return Vec::new();
    }
    let mut commands = Vec::new();
    if desk.server.auth.uses_tokens() {
        commands.push(Command::new(&["fhirctl", "auth", "test", &desk.server.name]));
    }
    commands.extend(desk.url("Patient?_summary=count").map(|url| curl(&desk.server, &url)));
    commands
}
