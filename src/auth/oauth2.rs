//! OAuth 2.0 with a client secret, and the renewal of what a user signed in to (RFC 6749 §4.4, §6).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use url::Url;
use zeroize::Zeroizing;

use super::token::{Ask, How, Sent, form};
use super::unusable;
use crate::http::Failure;
use crate::model::Secret;
use crate::model::server::{OAuth2, TokenAuth};

/// Asks for a token of the client's own.
pub(super) fn client_credentials(
    settings: &OAuth2,
    secret: &Secret,
    endpoint: Url,
    sent: Sent,
) -> Result<Ask, Failure> {
    let scope = sent.scopes.join(" ");
    let mut fields = vec![("grant_type", "client_credentials")];
    if !scope.is_empty() {
        fields.push(("scope", &scope));
    }
    if let Some(audience) = &settings.audience {
        fields.push(("audience", audience));
    }
    ask(settings, Some(secret), endpoint, fields, sent)
}

/// Asks for a new token with the one that was kept for this.
pub(super) fn refresh(
    settings: &OAuth2,
    secret: Option<&Secret>,
    refresh_token: &Secret,
    endpoint: Url,
    sent: Sent,
) -> Result<Ask, Failure> {
    let fields = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
    ask(settings, secret, endpoint, fields, sent)
}

/// Exchanges the code that came back from the user's sign-in (RFC 6749 §4.1.3, RFC 7636 §4.5).
pub(super) fn code(
    settings: &OAuth2,
    secret: Option<&Secret>,
    endpoint: Url,
    code: &str,
    redirect_uri: &str,
    verifier: &str,
    sent: Sent,
) -> Result<Ask, Failure> {
    let fields = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", redirect_uri),
        ("code_verifier", verifier),
    ];
    ask(settings, secret, endpoint, fields, sent)
}

fn ask<'a>(
    settings: &'a OAuth2,
    secret: Option<&'a Secret>,
    endpoint: Url,
    mut fields: Vec<(&'a str, &'a str)>,
    sent: Sent,
) -> Result<Ask, Failure> {
    let mut headers = Vec::new();
    match (secret, settings.token_auth) {
        (Some(secret), TokenAuth::Basic) => headers.push(basic(&settings.client_id, secret)?),
        (Some(secret), TokenAuth::Post) => {
            fields.push(("client_id", &settings.client_id));
            fields.push(("client_secret", secret.expose()));
        }
        // A public client names itself (RFC 6749 §3.2.1).
        (None, _) => fields.push(("client_id", &settings.client_id)),
    }
    Ok(Ask { endpoint, how: How::Post(form(fields)), headers, sent })
}

/// Both halves are form-encoded before they are joined (RFC 6749 §2.3.1).
fn basic(client_id: &str, secret: &Secret) -> Result<(HeaderName, HeaderValue), Failure> {
    let encoded = |text: &str| -> Zeroizing<String> {
        Zeroizing::new(url::form_urlencoded::byte_serialize(text.as_bytes()).collect())
    };
    let pair = Zeroizing::new(format!(
        "{}:{}",
        encoded(client_id).as_str(),
        encoded(secret.expose()).as_str()
    ));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| unusable("the client's secret cannot be put into a header"))?;
    value.set_sensitive(true);
    Ok((AUTHORIZATION, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(token_auth: TokenAuth) -> OAuth2 {
        OAuth2 {
            flow: crate::model::server::Flow::ClientCredentials,
            client_id: "a:b c".into(),
            client_secret: None,
            token_url: None,
            authorize_url: None,
            redirect_url: None,
            scopes: None,
            token_auth,
            audience: None,
        }
    }

    fn asked(token_auth: TokenAuth) -> (String, Option<String>) {
        let sent = Sent { scopes: vec!["system/*.rs".into()], ..Sent::default() };
        let endpoint = Url::parse("https://h/token").unwrap();
        let secret = Secret::new("s+/&=".into());
        let ask = client_credentials(&settings(token_auth), &secret, endpoint, sent).unwrap();
        let How::Post(form) = ask.how else { panic!("a form is posted") };
        let header = ask.headers.first().map(|(_, value)| value.to_str().unwrap().to_owned());
        (form.expose().to_owned(), header)
    }

    #[test]
    fn the_secret_goes_into_the_header_or_the_form_and_never_both() {
        let (form, header) = asked(TokenAuth::Basic);
        assert_eq!(form, "grant_type=client_credentials&scope=system%2F*.rs");
        // a%3Ab+c:s%2B%2F%26%3D
        assert_eq!(header.unwrap(), "Basic YSUzQWIrYzpzJTJCJTJGJTI2JTNE");
        let (form, header) = asked(TokenAuth::Post);
        assert_eq!(
            form,
            "grant_type=client_credentials&scope=system%2F*.rs&client_id=a%3Ab+c&client_secret=s%2B%2F%26%3D"
        );
        assert_eq!(header, None);
    }
}
