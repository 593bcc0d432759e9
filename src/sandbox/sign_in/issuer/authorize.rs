//! The authorization code with PKCE (RFC 6749 §4.1, RFC 7636).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Asked, CLIENT_ID, Issuer, Refused, after, answered, random, refuse, told};
use crate::sandbox::site::{locked, pairs};
use crate::serve::{Body, HeaderValue, Request, Response, StatusCode, header};

/// How long a code lives, in seconds.
const CODE_LIFE: i64 = 60;

/// What a code stands for until it is redeemed.
pub(super) struct Code {
    challenge: String,
    redirect_uri: String,
    scopes: Vec<String>,
    until: Timestamp,
}

impl Issuer {
    /// Somebody signed in, at once and without a question.
    pub(super) fn authorize(&self, request: &Request, now: Timestamp) -> Response<Body> {
        let query = pairs(request.query.as_deref().unwrap_or_default().as_bytes());
        let field = |name: &str| {
            query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
        };
        let redirect = url::Url::parse(field("redirect_uri")).ok().filter(|url| {
            url.scheme() == "http"
                && matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"))
        });
        let Some(mut redirect) = redirect else {
            return told(
                StatusCode::BAD_REQUEST,
                &json!({"error": "invalid_request", "error_description": "redirect_uri has to be on loopback"}),
            );
        };
        let redirect_uri = redirect.to_string();
        let wrong = if field("client_id") != CLIENT_ID {
            Some("unauthorized_client")
        } else if field("response_type") != "code" {
            Some("unsupported_response_type")
        } else if field("code_challenge_method") != "S256" || field("code_challenge").is_empty() {
            Some("invalid_request")
        } else {
            None
        };
        match wrong {
            Some(error) => {
                redirect.query_pairs_mut().append_pair("error", error);
            }
            None => {
                let code = random();
                redirect.query_pairs_mut().append_pair("code", &code);
                locked(&self.given).codes.insert(
                    code,
                    Code {
                        challenge: field("code_challenge").to_owned(),
                        redirect_uri,
                        scopes: field("scope")
                            .split_ascii_whitespace()
                            .map(str::to_owned)
                            .collect(),
                        until: after(now, CODE_LIFE),
                    },
                );
            }
        }
        redirect.query_pairs_mut().append_pair("state", field("state"));
        let mut response = answered(StatusCode::FOUND, "text/plain", Vec::new());
        if let Ok(location) = HeaderValue::from_str(redirect.as_str()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }

    pub(super) fn code(&self, asked: &Asked<'_>, now: Timestamp) -> Result<Value, Refused> {
        let code = locked(&self.given).codes.remove(asked.field("code"));
        let Some(code) = code.filter(|code| now < code.until) else {
            return refuse("invalid_grant", "the code is unknown, used or too old");
        };
        if code.redirect_uri != asked.field("redirect_uri") {
            return refuse("invalid_grant", "redirect_uri is not the one that was asked with");
        }
        let proof = URL_SAFE_NO_PAD.encode(Sha256::digest(asked.field("code_verifier")));
        if proof != code.challenge {
            return refuse("invalid_grant", "code_verifier does not fit the challenge");
        }
        let renews = code.scopes.iter().any(|scope| scope == "offline_access");
        let mut scopes = code.scopes;
        scopes.push("user/*.rs".to_owned());
        Ok(self.grant(scopes, renews, now))
    }
}
