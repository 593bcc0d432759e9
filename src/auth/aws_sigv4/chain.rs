//! The places where keys are looked for, in the order of the AWS tools.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::keys::{Keys, Source};
use super::profile::{Profile, Profiles};
use super::{machine, role};
use crate::credentials::{CredentialErrorKind, Credentials};
use crate::http::{Failure, Stage, Transport};
use crate::model::server::Server;
use crate::model::{Code, Secret, text};

/// How long a service that is not the machine's own may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Most profiles that lead to each other.
const PROFILES: usize = 5;

/// What keys are looked for with.
pub struct Means {
    /// Whose settings hold for requests to other hosts.
    pub server: Server,
    pub region: String,
    pub credentials: Credentials,
    pub transport: Arc<Transport>,
}

impl Means {
    pub fn variable(&self, name: &str) -> Option<Secret> {
        self.credentials.variable(name)
    }

    pub async fn file(&self, path: &str) -> Result<Secret, Failure> {
        let found = self.credentials.file(Path::new(path)).await;
        found.map_err(|error| missing(error.message).hint(error.hint))
    }

    pub fn deadline(&self) -> Instant {
        Instant::now() + LIMIT
    }

    /// A variable that is no secret.
    pub fn plain(&self, name: &str) -> Option<String> {
        self.variable(name).map(|value| value.expose().to_owned())
    }
}

/// The keys of a source.
///
/// # Errors
/// `auth.credential_missing`, which says where was looked and what is wrong there.
pub async fn find(source: &Source, means: &Means) -> Result<Keys, Failure> {
    match source {
        Source::Profile(name) => {
            let files = Files::read(means).await?;
            let profile = files.profile(name)?;
            of_profile(&files, name, profile, means).await
        }
        Source::Chain => chain(means).await,
    }
}

pub fn missing(message: impl Into<String>) -> Failure {
    Failure::new(Stage::Setup, Code::new("auth.credential_missing"), message)
}

async fn chain(means: &Means) -> Result<Keys, Failure> {
    if let Some(keys) = environment(means)? {
        return Ok(keys);
    }
    let files = Files::read(means).await?;
    let asked = means.plain("AWS_PROFILE").or_else(|| means.plain("AWS_DEFAULT_PROFILE"));
    let name = asked.clone().unwrap_or_else(|| "default".to_owned());
    match (files.profile(&name), asked) {
        (Ok(profile), asked) if asked.is_some() || has_keys(profile) => {
            return of_profile(&files, &name, profile, means).await;
        }
        (Err(failure), Some(_)) => return Err(failure),
        _ => {}
    }
    if let Some(keys) = role::by_environment(means).await? {
        return Ok(keys);
    }
    if let Some(keys) = machine::container(means).await? {
        return Ok(keys);
    }
    let instance = match machine::instance(means).await {
        Ok(Some(keys)) => return Ok(keys),
        Ok(None) => "AWS_EC2_METADATA_DISABLED is set".to_owned(),
        Err(failure) => failure.message,
    };
    Err(missing(format!(
        "no AWS keys: none in the environment, none in the profile default of {} and {}, no container service; {instance}",
        files.credentials.display(),
        files.config.display(),
    ))
    .hint("Set access_key and secret_key, or profile, of this server's auth; or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for this process."))
}

/// The keys of the environment; `None` when there is no access key.
pub fn environment(means: &Means) -> Result<Option<Keys>, Failure> {
    let access = means.variable("AWS_ACCESS_KEY_ID");
    let secret = means.variable("AWS_SECRET_ACCESS_KEY");
    match (access, secret) {
        (Some(access), Some(secret)) => {
            let token = means.variable("AWS_SESSION_TOKEN");
            Keys::new("the environment", access, secret, token, None).map(Some)
        }
        (Some(_), None) => Err(missing(
            "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not",
        )
        .hint(
            "Set both, or neither: a cron job or container gets only the variables it is given.",
        )),
        (None, _) => Ok(None),
    }
}

/// Both files of the AWS command line, with where they are.
pub struct Files {
    credentials: PathBuf,
    config: PathBuf,
    profiles: Profiles,
}

impl Files {
    async fn read(means: &Means) -> Result<Files, Failure> {
        let credentials = path(means, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
        let config = path(means, "AWS_CONFIG_FILE", ".aws/config");
        let profiles = Profiles::parse(
            text_of(means, &credentials).await?.expose(),
            text_of(means, &config).await?.expose(),
        );
        Ok(Files { credentials, config, profiles })
    }

    fn profile(&self, name: &str) -> Result<&Profile, Failure> {
        self.profiles.get(name).ok_or_else(|| {
            let near = text::nearest(name, self.profiles.names());
            let known: Vec<_> = self.profiles.names().take(10).collect();
            missing(format!(
                "the AWS profile {name:?} is neither in {} nor in {}",
                self.credentials.display(),
                self.config.display()
            ))
            .hint(match (near, known.as_slice()) {
                (Some(near), _) => format!("Is {near} meant?"),
                (None, []) => "Neither file has a profile: is HOME right for this user? AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE name other places.".to_owned(),
                (None, known) => format!("There are: {}", known.join(", ")),
            })
        })
    }
}

fn path(means: &Means, variable: &str, below_home: &str) -> PathBuf {
    let home = || PathBuf::from(means.plain("HOME").unwrap_or_default());
    match means.plain(variable) {
        Some(path) => match path.strip_prefix("~/") {
            Some(rest) => home().join(rest),
            None => PathBuf::from(path),
        },
        None => home().join(below_home),
    }
}

/// A file that is not there is empty.
async fn text_of(means: &Means, path: &Path) -> Result<Secret, Failure> {
    match means.credentials.file(path).await {
        Err(error) if error.kind == CredentialErrorKind::Missing => Ok(Secret::new(String::new())),
        found => found.map_err(|error| missing(error.message).hint(error.hint)),
    }
}

/// Whether a profile says anything about keys; many hold a region only.
fn has_keys(profile: &Profile) -> bool {
    ["aws_access_key_id", "aws_secret_access_key", "role_arn", "credential_process"]
        .iter()
        .chain(&["sso_session", "sso_start_url"])
        .any(|name| profile.get(name).is_some())
}

async fn of_profile(
    files: &Files,
    name: &str,
    profile: &Profile,
    means: &Means,
) -> Result<Keys, Failure> {
    // The chain of roles from the asked profile to one with keys of its own.
    let mut roles = Vec::new();
    let (mut name, mut profile) = (name.to_owned(), profile);
    let mut keys = loop {
        let place = format!("the AWS profile {name:?}");
        if profile.get("role_arn").is_none() || is_end_of_roles(&roles, &name, profile) {
            break keys_of(&place, files, profile)?;
        }
        if let Some(file) = profile.get("web_identity_token_file") {
            break role::by_web_identity(profile, file, means).await?;
        }
        roles.push((name.clone(), profile));
        if roles.len() > PROFILES {
            return Err(missing(format!("{place}: its source_profile leads on and on")));
        }
        match (profile.get("source_profile"), profile.get("credential_source")) {
            (Some(source), _) => {
                profile = files.profile(source)?;
                source.clone_into(&mut name);
            }
            (None, Some(source)) => break of_machine(&place, source, means).await?,
            (None, None) => {
                return Err(missing(format!(
                    "{place} has role_arn, and neither source_profile nor credential_source"
                )));
            }
        }
    };
    for (name, profile) in roles.iter().rev() {
        keys = role::assume(&format!("the AWS profile {name:?}"), profile, keys, means).await?;
    }
    Ok(keys)
}

/// A profile may be its own source: its keys then assume its role.
fn is_end_of_roles(roles: &[(String, &Profile)], name: &str, profile: &Profile) -> bool {
    roles.last().is_some_and(|(last, _)| last == name) && profile.get("aws_access_key_id").is_some()
}

fn keys_of(place: &str, files: &Files, profile: &Profile) -> Result<Keys, Failure> {
    let secret = |name: &str| profile.get(name).map(|value| Secret::new(value.to_owned()));
    match (secret("aws_access_key_id"), secret("aws_secret_access_key")) {
        (Some(access), Some(key)) => {
            Keys::new(place, access, key, secret("aws_session_token"), None)
        }
        (None, None) => {
            let (what, hint) = if profile.get("credential_process").is_some() {
                (
                    "gets its keys from credential_process, which is not run from here",
                    "Let that program write a profile with keys, or give access_key and secret_key as exec: references.",
                )
            } else if profile.get("sso_session").or(profile.get("sso_start_url")).is_some() {
                (
                    "signs in with IAM Identity Center, which needs a person at a browser",
                    "Run: eval \"$(aws configure export-credentials --profile NAME --format env)\"",
                )
            } else {
                (
                    "has no keys",
                    "Add aws_access_key_id and aws_secret_access_key to it: aws configure --profile NAME",
                )
            };
            Err(missing(format!("{place} {what}")).hint(hint))
        }
        (access, _) => {
            let (lacks, has) = if access.is_none() {
                ("aws_access_key_id", "aws_secret_access_key")
            } else {
                ("aws_secret_access_key", "aws_access_key_id")
            };
            Err(missing(format!("{place} has {has} and no {lacks}"))
                .hint(format!("Add it in {}", files.credentials.display())))
        }
    }
}

async fn of_machine(place: &str, source: &str, means: &Means) -> Result<Keys, Failure> {
    let found = match source {
        "Environment" => environment(means)?,
        "EcsContainer" => machine::container(means).await?,
        "Ec2InstanceMetadata" => machine::instance(means).await?,
        _ => {
            return Err(missing(format!("{place}: its credential_source is none that AWS knows"))
                .hint("It is Environment, EcsContainer or Ec2InstanceMetadata."));
        }
    };
    found.ok_or_else(|| missing(format!("{place}: its credential_source {source} has no keys")))
}
