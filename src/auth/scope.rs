//! Scopes in both of SMART's spellings, compared by what they permit.
//!
//! SMART App Launch 2.2, "Scopes for requesting FHIR Resources": `read` is `rs`, `write` is `cud`,
//! `*` is `cruds`.

/// The asked scopes that the granted ones do not cover, as they were asked.
#[must_use]
pub fn missing(asked: &[String], granted: &[String]) -> Vec<String> {
    let granted: Vec<Scope<'_>> = granted.iter().map(|scope| Scope::parse(scope)).collect();
    asked
        .iter()
        .filter(|scope| {
            let wanted = Scope::parse(scope);
            !covers(&granted, &wanted)
        })
        .cloned()
        .collect()
}

/// Whether a scope reaches every resource type.
#[must_use]
pub fn is_wildcard(scope: &str) -> bool {
    matches!(Scope::parse(scope), Scope::Resource { resource: "*", .. })
}

/// Whether a scope is about records, not about who the user is or what is open.
#[must_use]
pub fn is_resource(scope: &str) -> bool {
    matches!(Scope::parse(scope), Scope::Resource { .. })
}

/// Splits a granted `scope` (RFC 6749 §3.3).
#[must_use]
pub fn split(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope<'a> {
    Resource { context: &'a str, resource: &'a str, letters: Letters, query: Option<&'a str> },
    Other(&'a str),
}

/// Which of `c r u d s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Letters(u8);

impl<'a> Scope<'a> {
    fn parse(text: &'a str) -> Scope<'a> {
        Scope::resource(text).unwrap_or(Scope::Other(text))
    }

    fn resource(text: &'a str) -> Option<Scope<'a>> {
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        let (context, rest) = path.split_once('/')?;
        if !matches!(context, "patient" | "user" | "system") {
            return None;
        }
        let (resource, access) = rest.rsplit_once('.')?;
        let letters = Letters::parse(access)?;
        Some(Scope::Resource { context, resource, letters, query })
    }
}

impl Letters {
    fn parse(access: &str) -> Option<Letters> {
        let letters = match access {
            "read" => "rs",
            "write" => "cud",
            "*" => "cruds",
            other => other,
        };
        let mut bits = 0;
        for letter in letters.chars() {
            bits |= 1 << "cruds".find(letter)?;
        }
        (bits != 0).then_some(Letters(bits))
    }
}

fn covers(granted: &[Scope<'_>], wanted: &Scope<'_>) -> bool {
    let Scope::Resource { context, resource, letters, query } = wanted else {
        return granted.contains(wanted);
    };
    let mut left = letters.0;
    for scope in granted {
        if let Scope::Resource { context: of, resource: on, letters: have, query: narrowed } = scope
            && of == context
            && (*on == "*" || on == resource)
            && (narrowed.is_none() || narrowed == query)
        {
            left &= !have.0;
        }
    }
    left == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(asked: &str, granted: &str) -> Vec<String> {
        missing(&split(asked), &split(granted))
    }

    #[test]
    fn both_spellings_mean_the_same() {
        for (asked, granted) in [
            ("system/*.read", "system/*.rs"),
            ("system/*.rs", "system/*.read"),
            ("system/Patient.*", "system/Patient.cruds"),
            ("system/Patient.rs", "system/Patient.r system/Patient.s"),
            ("system/Patient.read", "system/*.read"),
            ("openid fhirUser", "fhirUser openid profile"),
            ("system/Observation.rs?category=lab", "system/Observation.rs"),
            ("", "system/*.rs"),
        ] {
            assert_eq!(lost(asked, granted), Vec::<String>::new(), "{asked} of {granted}");
        }
    }

    #[test]
    fn what_is_cut_down_is_named() {
        for (asked, granted, cut) in [
            ("system/*.rs", "system/Patient.rs", vec!["system/*.rs"]),
            (
                "system/Patient.rs system/Observation.rs",
                "system/Patient.rs",
                vec!["system/Observation.rs"],
            ),
            ("system/Patient.write", "system/Patient.read", vec!["system/Patient.write"]),
            ("system/Patient.rs", "patient/Patient.rs", vec!["system/Patient.rs"]),
            (
                "system/Observation.rs",
                "system/Observation.rs?category=lab",
                vec!["system/Observation.rs"],
            ),
            ("offline_access", "openid", vec!["offline_access"]),
        ] {
            assert_eq!(lost(asked, granted), cut, "{asked} of {granted}");
        }
    }

    #[test]
    fn a_wildcard_is_seen() {
        assert!(is_wildcard("system/*.rs"));
        assert!(!is_wildcard("system/Patient.rs"));
        assert!(!is_wildcard("openid"));
        assert!(is_resource("user/Patient.read") && !is_resource("offline_access"));
    }
}
