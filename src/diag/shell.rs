//! Commands that somebody without this program would type, ready for a shell.
//!
//! No secret is ever in one: it stands in a variable that whoever runs the command sets, and goes to
//! curl through a configuration on standard input, so that no list of processes shows it.

use std::fmt;

use url::Url;

use crate::model::server::{
    ApiKeyPlace, Auth, ClientCertificate, Format, HeaderValue, Server, TlsVersion,
};

/// One command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What it is for, above it as a comment.
    pub about: String,
    /// The program and its arguments, unquoted.
    words: Vec<String>,
    /// Lines of a curl configuration whose values stand in variables: a template for `printf` and
    /// the variables that go into it.
    secrets: Vec<(String, Vec<String>)>,
    /// Whether it would read standard input, which may be the very script that it stands in.
    reads: bool,
}

impl Command {
    #[must_use]
    pub fn new(words: &[&str]) -> Command {
        Command {
            about: String::new(),
            words: words.iter().map(|&word| word.to_owned()).collect(),
            secrets: Vec::new(),
            reads: false,
        }
    }

    #[must_use]
    pub fn about(mut self, about: impl Into<String>) -> Command {
        self.about = about.into();
        self
    }

    #[must_use]
    pub fn with(mut self, words: &[&str]) -> Command {
        self.words.extend(words.iter().map(|&word| word.to_owned()));
        self
    }

    /// Of a program that reads standard input where it is let.
    #[must_use]
    pub fn without_input(mut self) -> Command {
        self.reads = true;
        self
    }

    fn secret(mut self, template: &str, variables: &[&str]) -> Command {
        self.secrets.push((
            template.to_owned(),
            variables.iter().map(|&variable| variable.to_owned()).collect(),
        ));
        self
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Unset they fail by name, before anything is sent.
        let variables: Vec<_> = self.secrets.iter().flat_map(|(_, variables)| variables).collect();
        if !variables.is_empty() {
            let named: Vec<_> = variables.iter().map(|name| format!("\"${{{name}:?}}\"")).collect();
            write!(f, ": {} && ", named.join(" "))?;
        }
        for (index, (template, variables)) in self.secrets.iter().enumerate() {
            f.write_str(if index == 0 { "{ " } else { " " })?;
            write!(f, "printf {}", quoted(template))?;
            for variable in variables {
                // Inside the quotes of curl's configuration both have a meaning.
                write!(f, " \"$(printf %s \"${variable}\" | sed 's/[\\\\\"]/\\\\&/g')\"")?;
            }
            f.write_str(";")?;
        }
        if !self.secrets.is_empty() {
            f.write_str(" } | ")?;
        }
        let words: Vec<_> = self.words.iter().map(|word| quoted(word)).collect();
        f.write_str(&words.join(" "))?;
        if !self.secrets.is_empty() {
            f.write_str(" --config -")?;
        } else if self.reads {
            f.write_str(" </dev/null")?;
        }
        Ok(())
    }
}

/// A word as a POSIX shell takes it for one word and nothing else.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A `GET` of an address with this server's settings: its TLS, proxy, headers and sign-in. The
/// values of secrets are expected in `FHIRCTL_…` variables that the command names.
#[must_use]
pub fn curl(server: &Server, url: &Url) -> Command {
    let seconds = server.timeouts.total.as_secs().max(1).to_string();
    let connect = server.timeouts.connect.as_secs().max(1).to_string();
    let accept = match server.format {
        Format::Json => "Accept: application/fhir+json",
        Format::Xml => "Accept: application/fhir+xml",
    };
    let mut command = Command::new(&["curl", "-sS", "-i", "--connect-timeout", &connect]).with(&[
        "--max-time",
        &seconds,
        "-H",
        accept,
    ]);
    if server.compression {
        command = command.with(&["--compressed"]);
    }
    if let Some(ca) = &server.tls.ca {
        command = command.with(&["--cacert", &ca.display().to_string()]);
    }
    if server.tls.min_version == TlsVersion::V1_3 {
        command = command.with(&["--tlsv1.3"]);
    }
    for pin in &server.tls.pins {
        command = command.with(&["--pinnedpubkey", &pin.replacen('/', "//", 1)]);
    }
    command = match &server.tls.client_certificate {
        Some(ClientCertificate::Pem { certificate, .. }) => command
            .with(&["--cert", &certificate.display().to_string()])
            .secret("key = \"%s\"\\n", &["FHIRCTL_CLIENT_KEY_FILE"]),
        Some(ClientCertificate::Pkcs12 { .. }) => command.with(&["--cert-type", "P12"]).secret(
            "cert = \"%s:%s\"\\n",
            &["FHIRCTL_CLIENT_P12_FILE", "FHIRCTL_CLIENT_P12_PASSWORD"],
        ),
        None => command,
    };
    if let Some(proxy) = &server.network.proxy {
        command = command.with(&["--proxy", proxy.url.as_str()]);
        if let Some(login) = &proxy.login {
            let template = format!("proxy-user = \"{}:%s\"\\n", template_safe(&login.username));
            command = command.secret(&template, &["FHIRCTL_PROXY_PASSWORD"]);
        }
    }
    if let Some(source) = server.network.source_address {
        command = command.with(&["--interface", &source.to_string()]);
    }
    for (name, value) in &server.extra_headers {
        command = match value {
            HeaderValue::Plain(text) => command.with(&["-H", &format!("{name}: {text}")]),
            HeaderValue::Secret(_) => {
                command.secret(&format!("header = \"{name}: %s\"\\n"), &[&variable(name)])
            }
        };
    }
    signed(server, command, url)
}

/// Adds the sign-in, its secret in a variable, and the address.
fn signed(server: &Server, command: Command, url: &Url) -> Command {
    let header = |command: Command, name: &str| {
        command.secret(&format!("header = \"{name}: %s\"\\n"), &[&variable(name)])
    };
    let command = match &server.auth {
        Auth::None | Auth::Mtls => command,
        Auth::Basic { username, .. } => command.secret(
            &format!("user = \"{}:%s\"\\n", template_safe(username)),
            &["FHIRCTL_PASSWORD"],
        ),
        Auth::ApiKey { place: ApiKeyPlace::Header(name), .. } => header(command, name),
        Auth::ApiKey { place: ApiKeyPlace::Query(name), .. } => {
            // A key in the address would be in the list of processes: curl adds it itself.
            let name = template_safe(name);
            command
                .with(&["--get"])
                .secret(&format!("data-urlencode = \"{name}=%s\"\\n"), &[&variable(&name)])
        }
        Auth::Headers(headers) => {
            headers.keys().fold(command, |command, name| header(command, name))
        }
        Auth::AwsSigv4(aws) => {
            let provider = format!("aws:amz:{}:{}", aws.region, aws.service);
            command
                .with(&["--aws-sigv4", &provider])
                .secret("user = \"%s:%s\"\\n", &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
        }
        // Whoever may see a token gets one by: fhirctl auth token NAME
        Auth::Bearer { .. }
        | Auth::OAuth2(_)
        | Auth::SmartBackend(_)
        | Auth::Azure(_)
        | Auth::Google(_) => {
            command.secret("header = \"Authorization: Bearer %s\"\\n", &["FHIRCTL_TOKEN"])
        }
    };
    command.with(&[url.as_str()])
}

/// A text inside a quoted value of a curl configuration that is a template for `printf`.
fn template_safe(text: &str) -> String {
    text.replace('\\', "\\\\\\\\").replace('"', "\\\\\"").replace('%', "%%")
}

/// `X-Tenant` → `FHIRCTL_X_TENANT`.
fn variable(name: &str) -> String {
    let word: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    format!("FHIRCTL_{word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_stays_one_word() {
        for (word, expected) in [
            ("curl", "curl"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(id)", "'$(id)'"),
            ("https://h/fhir?a=b&c=d", "'https://h/fhir?a=b&c=d'"),
            ("https://h/fhir", "https://h/fhir"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    /// What curl reads is what a shell makes of the command.
    #[test]
    fn a_secret_with_quotes_comes_through_a_shell_as_it_is() {
        let command = Command::new(&["cat"]).secret("user = \"a:%s\"\\n", &["FHIRCTL_PASSWORD"]);
        let line = command.to_string().replace("cat --config -", "cat");
        let run = std::process::Command::new("sh")
            .args(["-c", &line])
            .env("FHIRCTL_PASSWORD", r#"a"b\c%s$d'e"#)
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&run.stdout),
            "user = \"a:a\\\"b\\\\c%s$d'e\"\n",
            "{line}"
        );
        let unset = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
        assert!(!unset.status.success() && unset.stdout.is_empty());
    }

    #[test]
    fn a_secret_is_a_variable_on_standard_input() {
        let command =
            Command::new(&["curl"]).secret("header = \"X: %s\"\\n", &["FHIRCTL_X"]).with(&["u"]);
        assert_eq!(
            command.to_string(),
            concat!(
                r#": "${FHIRCTL_X:?}" && { printf 'header = "X: %s"\n' "#,
                r#""$(printf %s "$FHIRCTL_X" | sed 's/[\\"]/\\&/g')"; } | curl u --config -"#
            )
        );
    }
}
