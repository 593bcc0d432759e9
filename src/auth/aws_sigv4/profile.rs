//! The files of the AWS command line: `~/.aws/credentials` and `~/.aws/config`.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

/// The settings of one profile. A value may be a secret: none is shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Profile(BTreeMap<String, Zeroizing<String>>);

impl Profile {
    /// A setting that is there and not empty; names are in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Takes over what `other` says; it wins.
    fn overlay(&mut self, other: Profile) {
        self.0.extend(other.0);
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Every profile of both files.
#[derive(Debug, Default)]
pub struct Profiles(BTreeMap<String, Profile>);

impl Profiles {
    /// Reads both texts; what the credentials file says wins. A line that is none of the format's
    /// is passed over, as the AWS command line does.
    #[must_use]
    pub fn parse(credentials: &str, config: &str) -> Profiles {
        let mut profiles = Profiles::default();
        profiles.add(config, |section| match section {
            "default" => Some("default"),
            other => other.strip_prefix("profile").and_then(|name| {
                name.starts_with(char::is_whitespace).then(|| unquoted(name.trim()))
            }),
        });
        profiles.add(credentials, |section| Some(unquoted(section)));
        profiles
    }

    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.0.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn add(&mut self, text: &str, profile_of: impl Fn(&str) -> Option<&str>) {
        let mut found: BTreeMap<String, Profile> = BTreeMap::new();
        let mut current: Option<&mut Profile> = None;
        for line in text.trim_start_matches('\u{feff}').lines() {
            // An indented line belongs to a nested setting, such as those of `s3 =`.
            if line.starts_with(['#', ';', ' ', '\t']) || line.trim().is_empty() {
                continue;
            }
            if let Some(section) = line.strip_prefix('[') {
                let name = section.split_once(']').and_then(|(name, _)| profile_of(name.trim()));
                current = name.map(|name| found.entry(name.to_owned()).or_default());
            } else if let (Some(profile), Some((name, value))) =
                (current.as_deref_mut(), line.split_once('='))
            {
                let value = Zeroizing::new(value.trim().to_owned());
                profile.0.insert(name.trim().to_ascii_lowercase(), value);
            }
        }
        for (name, profile) in found {
            self.0.entry(name).or_default().overlay(profile);
        }
    }
}

fn unquoted(name: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| name.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "\u{feff}# mine\r\n[default]\r\naws_access_key_id = AKID1\r\naws_secret_access_key=hunter2=/+\r\n\n[ops]\nAWS_ACCESS_KEY_ID=AKID2\n; note\naws_secret_access_key = s # not a comment\n[quoted name]\naws_access_key_id = AKID4\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\naws_access_key_id = AKID9\n[profile ops]\nrole_arn = arn:aws:iam::1:role/x\ns3 =\n    addressing_style = path\n    region = nested\n[profile \"quoted name\"]\nregion = us-east-1\n[ops2]\nregion = no-profile\n[sso-session ops3]\nregion = x\n[profileops4]\nregion = x\n[broken\nregion = y\n";

    #[test]
    fn both_files_make_one_profile_and_the_credentials_file_wins() {
        let profiles = Profiles::parse(CREDENTIALS, CONFIG);
        for (profile, name, value) in [
            ("default", "aws_access_key_id", Some("AKID1")),
            ("default", "aws_secret_access_key", Some("hunter2=/+")),
            ("default", "region", Some("eu-west-1")),
            ("ops", "aws_access_key_id", Some("AKID2")),
            ("ops", "aws_secret_access_key", Some("s # not a comment")),
            ("ops", "role_arn", Some("arn:aws:iam::1:role/x")),
            ("ops", "region", None),
            ("ops", "s3", None),
            ("quoted name", "region", Some("us-east-1")),
            ("quoted name", "aws_access_key_id", Some("AKID4")),
        ] {
            assert_eq!(profiles.get(profile).unwrap().get(name), value, "{profile}.{name}");
        }
        let names: Vec<_> = profiles.names().collect();
        assert_eq!(names, ["default", "ops", "quoted name"]);
    }

    #[test]
    fn debug_shows_names_and_no_value() {
        let shown = format!("{:?}", Profiles::parse(CREDENTIALS, CONFIG));
        assert!(shown.contains("aws_secret_access_key"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("AKID"), "{shown}");
    }

    #[test]
    fn any_text_is_read_without_harm() {
        for text in ["", "=", "[", "[]", "[]\n=", "[a]\n=b", "x=1", "[profile ]\na=b", "\0"] {
            let _ = Profiles::parse(text, text);
        }
    }
}
