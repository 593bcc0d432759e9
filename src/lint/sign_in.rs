//! Rules about credentials and what they open.

use std::time::Duration;

use super::transport::is_plain;
use super::{Notes, ServerRule, Subject, after, days_left, end_of};
use crate::inventory::Layer;
use crate::inventory::edit::Op;
use crate::model::SecretRef;
use crate::model::server::Auth;

pub(super) const RULES: &[ServerRule] = &[
    ("auth.basic", basic),
    ("auth.insecure-allowed", insecure_allowed),
    ("auth.insecure-needless", insecure_needless),
    ("auth.wildcard-scope", wildcard_scope),
    ("auth.credential-old", credential_old),
    ("auth.expires-soon", expires_soon),
    ("auth.secret-in-environment", secret_in_environment),
];

const DAY: Duration = Duration::from_secs(86_400);
/// How old a credential may grow where nothing is said.
const MAX_AGE: Duration = DAY.saturating_mul(365);
/// How long before its end a secret is a warning: a vendor may take weeks for a new one.
const NOTICE: Duration = DAY.saturating_mul(30);

/// The scopes that a sign-in asks for.
fn scopes(auth: &Auth) -> &[String] {
    let scopes = match auth {
        Auth::OAuth2(oauth2) => &oauth2.scopes,
        Auth::SmartBackend(smart) => &smart.scopes,
        Auth::Azure(azure) => &azure.scopes,
        Auth::Google(google) => &google.scopes,
        _ => &None,
    };
    scopes.as_deref().unwrap_or_default()
}

fn basic(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    if matches!(subject.server.auth, Auth::Basic { .. }) {
        notes.add(subject.at("auth.method"), "the sign-in is Basic");
    }
}

/// The keys that allow it: on the server, and in its sign-in.
const ALLOWING: [&str; 2] = ["allow_insecure", "auth.allow_insecure"];

fn insecure_allowed(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let server = subject.server;
    if server.allow_insecure && is_plain(&server.url) {
        let key = ALLOWING.into_iter().find(|key| {
            subject.input.survey.said(subject.index, key).is_some_and(|said| said.value == true)
        });
        notes.add(subject.at(key.unwrap_or(ALLOWING[0])), "the credential may go over plain HTTP");
    }
}

fn insecure_needless(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let server = subject.server;
    if is_plain(&server.url) {
        return;
    }
    for key in ALLOWING {
        let Some(said) = subject.input.survey.said(subject.index, key) else { continue };
        // What stands in defaults may be meant for another server.
        if said.value == true && said.layer == Layer::Own {
            let fix = said.path.map(Op::Remove);
            notes.add_fixable(subject.at(key), "allow_insecure does nothing here", fix);
        }
    }
}

fn wildcard_scope(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let wide: Vec<&str> = scopes(&subject.server.auth)
        .iter()
        .map(String::as_str)
        .filter(|scope| is_wide(scope))
        .collect();
    if !wide.is_empty() {
        let message = format!("every type is asked for: {}", wide.join(" "));
        notes.add(subject.at("auth.scopes"), message);
    }
}

/// A SMART scope such as `system/*.read`, or one that is nothing but an asterisk.
fn is_wide(scope: &str) -> bool {
    let kind = scope.split_once('/').map_or(scope, |(_, kind)| kind);
    let kind = kind.split(['.', '?']).next().unwrap_or(kind);
    kind == "*"
}

fn credential_old(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let (server, input) = (subject.server, subject.input);
    let Some(since) = input.known.credential_since.get(&server.name) else { return };
    let allowed = server.sign_in.max_age.unwrap_or(MAX_AGE);
    if after(*since, allowed) <= input.now {
        let age = days_left(*since, input.now);
        let days = allowed.as_secs() / DAY.as_secs();
        notes.add(subject.at("auth"), format!("in place for {age} days, {days} are allowed"));
    }
}

fn expires_soon(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let (server, now) = (subject.server, subject.input.now);
    let Some(day) = server.sign_in.expires else { return };
    let Some(end) = end_of(day) else { return };
    let at = || subject.at("auth.expires");
    if end <= now {
        notes.raise(at(), format!("the secret or key ended on {day}"));
    } else if end <= after(now, server.tls.expiry_critical) {
        notes.raise(at(), format!("the secret or key ends on {day}"));
    } else if end <= after(now, NOTICE.max(server.tls.expiry_warning)) {
        notes.add(at(), format!("the secret or key ends on {day}"));
    }
}

fn secret_in_environment(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let mut names: Vec<&str> = subject
        .server
        .auth
        .references()
        .into_iter()
        .filter_map(|reference| match reference {
            SecretRef::Env { variable } => Some(variable.as_str()),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    if !names.is_empty() {
        notes.add(subject.at("auth"), format!("from the environment: {}", names.join(" ")));
    }
}
