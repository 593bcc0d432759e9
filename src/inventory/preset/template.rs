//! URLs with `{placeholders}`: filled in, and read back from a URL that fits.

use std::collections::BTreeMap;

use url::Url;

use super::Preset;

/// The names in a template, each once; `{base}` and `{origin}` are known without asking.
#[must_use]
pub fn placeholders_in(template: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for piece in pieces(template) {
        if let Piece::Name(name) = piece
            && !matches!(name, "base" | "origin")
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// The template with its placeholders replaced.
///
/// # Errors
/// The names that have no value.
pub fn filled<'t>(
    template: &'t str,
    values: &BTreeMap<String, String>,
) -> Result<String, Vec<&'t str>> {
    let mut text = String::new();
    let mut missing = Vec::new();
    for piece in pieces(template) {
        match piece {
            Piece::Text(literal) => text.push_str(literal),
            Piece::Name(name) => match values.get(name) {
                Some(value) => text.push_str(value),
                None => missing.push(name),
            },
        }
    }
    if missing.is_empty() { Ok(text) } else { Err(missing) }
}

impl Preset {
    /// The one base URL there is; `None` when it differs from one server to the next.
    #[must_use]
    pub fn only_base_url(&self) -> Option<&str> {
        placeholders_in(&self.base_url).is_empty().then_some(self.base_url.as_str())
    }

    /// Where a server of this base URL is expected to give tokens; `None` when discovery has to
    /// tell, or when the base URL is not of the vendor's form.
    #[must_use]
    pub fn token_url(&self, base_url: &str) -> Option<String> {
        let base = base_url.trim_end_matches('/');
        let environments =
            self.environments.iter().map(|e| (e.base_url.as_str(), e.token_url.as_deref()));
        let own = std::iter::once((self.base_url.as_str(), None));
        environments.chain(own).find_map(|(form, token)| {
            let template = token.or(self.sign_in.token_url.as_deref())?;
            let mut values = read_back(form, base)?;
            values.insert("base".to_owned(), base.to_owned());
            values
                .insert("origin".to_owned(), Url::parse(base).ok()?.origin().ascii_serialization());
            filled(template, &values).ok()
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Name(name));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// The values with which a template becomes this text; a value is never empty and holds no slash.
/// Case does not matter outside of values: vendors' lists mix it.
fn read_back(template: &str, text: &str) -> Option<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    let pieces = pieces(template.trim_end_matches('/'));
    let mut rest = text;
    for (index, piece) in pieces.iter().enumerate() {
        match *piece {
            Piece::Text(literal) => {
                let head = rest.get(..literal.len())?;
                if !head.eq_ignore_ascii_case(literal) {
                    return None;
                }
                rest = &rest[literal.len()..];
            }
            Piece::Name(name) => {
                let upto_slash = rest.find('/').unwrap_or(rest.len());
                let end = match pieces.get(index + 1) {
                    Some(Piece::Text(literal)) => {
                        let lower = rest.to_ascii_lowercase();
                        lower.find(&literal.to_ascii_lowercase())?
                    }
                    _ => upto_slash,
                };
                if end == 0 || end > upto_slash {
                    return None;
                }
                values.insert(name.to_owned(), rest[..end].to_owned());
                rest = &rest[end..];
            }
        }
    }
    rest.is_empty().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::super::preset;
    use super::*;

    #[test]
    fn a_template_is_filled_or_says_what_it_lacks() {
        let values = BTreeMap::from([("tenant".to_owned(), "t1".to_owned())]);
        assert_eq!(filled("https://a/{tenant}/r4", &values), Ok("https://a/t1/r4".to_owned()));
        assert_eq!(filled("https://{host}/{tenant}/{site}", &values), Err(vec!["host", "site"]));
        assert_eq!(filled("a{b", &values), Ok("a{b".to_owned()));
        assert_eq!(placeholders_in("https://{a}/{b}/{a}{base}"), ["a", "b"]);
    }

    #[test]
    fn values_are_read_back_from_a_url() {
        let read = |template: &str, text: &str| {
            read_back(template, text).map(|values| {
                values.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>()
            })
        };
        for (template, text, expected) in [
            ("https://a/{t}/r4", "https://A/x/R4", Some(vec!["t=x"])),
            (
                "https://{w}-{f}.fhir.test",
                "https://ws-one-two.fhir.test",
                Some(vec!["f=one-two", "w=ws"]),
            ),
            ("https://a/{t}", "https://a/x/y", None),
            ("https://a/{t}/r4", "https://a//r4", None),
            ("https://a/{t}/r4", "https://a/x/r5", None),
            ("https://a", "https://a", Some(vec![])),
            ("https://a/{t}", "https://é", None),
        ] {
            let expected: Option<Vec<String>> =
                expected.map(|all| all.into_iter().map(str::to_owned).collect());
            assert_eq!(read(template, text), expected, "{template} {text}");
        }
    }

    #[test]
    fn the_token_endpoint_follows_from_the_base_url_where_the_vendor_has_a_rule() {
        for (name, base, expected) in [
            (
                "epic",
                "https://ehr.example.org/FHIRProxy/api/FHIR/R4/",
                Some("https://ehr.example.org/FHIRProxy/oauth2/token"),
            ),
            ("epic", "https://ehr.example.org/somewhere/else", None),
            (
                "athenahealth",
                "https://api.preview.platform.athenahealth.com/fhir/r4",
                Some("https://api.preview.platform.athenahealth.com/oauth2/v1/token"),
            ),
            (
                "medplum",
                "https://api.medplum.com/fhir/R4",
                Some("https://api.medplum.com/oauth2/token"),
            ),
            ("hapi", "https://a.example.org/fhir", None),
        ] {
            assert_eq!(preset(name).unwrap().token_url(base).as_deref(), expected, "{name} {base}");
        }
    }
}
