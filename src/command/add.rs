//! `add NAME URL`: register, validate, test, activate; `add --from`: a whole directory, inactive.

mod ask;
mod fetch;
mod from;
mod plan;
pub(super) mod secret;
mod sequence;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::context::{Context, Outcome};
use crate::model::{Error, Result};

/// Register a server, test it, and put it in use when the test passes
///
/// The steps are register, validate, test, activate. When the test fails the server stays
/// registered but inactive, and the exit code is the test's: 1 for a warning (it is activated), 2
/// critical, 3 unknown. Without --vendor the vendor is told from what the server shows of itself.
///
/// With --vendor only what the preset cannot know is asked for, on a terminal; elsewhere it has to
/// be given by --set. The URL may be left out where the preset knows its form.
///
/// A secret is never taken from the command line. Say where it is kept with --secret, pipe it in
/// with --secret-stdin, or be asked for it; the last two keep it in the system's keyring.
///
/// With --from every server of a published directory is registered: a FHIR Bundle of Endpoints and
/// Organizations, NDJSON of them, or CSV with a column named url, from a file or over https. They
/// belong to others and stay inactive; what is there already is left as it is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fhirctl add ehr https://fhir.example.org/fhir --vendor hapi --label env=prod\n  \
    fhirctl add lab https://lab.example.org/r4 --auth bearer --secret env:LAB_TOKEN\n  \
    pass show lab | fhirctl add lab https://lab.example.org/r4 --auth basic --username probe --secret-stdin\n  \
    fhirctl add ehr --vendor epic --set host=ehr.example.org --set prefix=FHIRProxy \\\n    \
        --set auth.client_id=6a1c --secret file:ehr.pem\n  \
    fhirctl add --from https://open.epic.com/Endpoints/R4 --vendor epic --dry-run")]
pub struct AddArgs {
    /// A name of your own, of letters, digits, dots, - and _
    #[arg(value_name = "NAME", required_unless_present = "from")]
    pub name: Option<String>,

    /// The base URL, below which /metadata is; with --vendor it may follow from the preset
    #[arg(value_name = "URL", required_unless_present_any = ["from", "vendor"])]
    pub url: Option<String>,

    /// Register every server of a published directory, inactive: a FHIR Bundle or CSV
    #[arg(
        long,
        value_name = "FILE|URL",
        value_hint = clap::ValueHint::FilePath,
        conflicts_with_all = [
            "name", "url", "fhir_version", "auth", "username", "header", "secret", "secret_stdin",
            "settings", "no_test", "force",
        ]
    )]
    pub from: Option<String>,

    /// With --from: only show what would be added
    #[arg(long, requires = "from")]
    pub dry_run: bool,

    /// What kind of server it is; fhirctl vendors lists the presets
    #[arg(long, value_name = "VENDOR")]
    pub vendor: Option<String>,

    /// The FHIR version that it is expected to speak: STU3, R4, R4B or R5
    #[arg(long, value_name = "VERSION")]
    pub fhir_version: Option<String>,

    /// How to sign in
    #[arg(long, value_name = "METHOD")]
    pub auth: Option<Method>,

    /// The user's name, for --auth basic
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,

    /// The header that carries the secret, for --auth api-key (X-API-Key) and headers
    #[arg(long, value_name = "NAME")]
    pub header: Option<String>,

    /// Where the secret is kept: keyring:NAME/FIELD, env:VARIABLE, file:PATH or age:PATH#FIELD
    #[arg(long, value_name = "REF", conflicts_with = "secret_stdin")]
    pub secret: Option<String>,

    /// Read the secret from standard input and keep it in the keyring
    #[arg(long)]
    pub secret_stdin: bool,

    /// Any other value of the server's entry, such as timeouts.total=30s; the value is YAML
    ///
    /// With --vendor also what stands in braces in the preset's base URL: host=ehr.example.org.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,

    /// A label, such as env=prod
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,

    /// Put it in use without a test
    #[arg(long)]
    pub no_test: bool,

    /// Put it in use even when the test fails
    #[arg(long)]
    pub force: bool,
}

/// The ways of signing in that `add` can set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    None,
    ApiKey,
    Basic,
    Bearer,
    Headers,
    Oauth2,
    SmartBackend,
    Mtls,
    Azure,
    Google,
    AwsSigv4,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Method::None => "none",
            Method::ApiKey => "api-key",
            Method::Basic => "basic",
            Method::Bearer => "bearer",
            Method::Headers => "headers",
            Method::Oauth2 => "oauth2",
            Method::SmartBackend => "smart-backend",
            Method::Mtls => "mtls",
            Method::Azure => "azure",
            Method::Google => "google",
            Method::AwsSigv4 => "aws-sigv4",
        }
    }

    /// Whether the server itself publishes where its tokens come from.
    fn is_discovered(self) -> bool {
        matches!(self, Method::Oauth2 | Method::SmartBackend)
    }
}

/// # Errors
/// Exit 64 for what cannot be meant, 73, 74 or 78 when the inventory cannot be changed, 77 when the
/// secret cannot be kept; with --from also 65, 66 and 69 for the directory. Nothing is registered
/// then.
pub async fn run(args: &AddArgs, context: &Context) -> Result<Outcome> {
    match &args.from {
        Some(source) => from::run(source, args, context).await,
        None => sequence::run(args, context).await,
    }
}

fn label(text: &str) -> Result<(String, Value)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.into())),
        _ => Err(Error::usage("a label is written KEY=VALUE, such as env=prod")),
    }
}
