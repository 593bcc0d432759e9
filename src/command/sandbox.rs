//! `sandbox`: a small FHIR server on loopback, with faults on request.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::context::{Context, Outcome, complain, variable};
use crate::model::server::FhirVersion;
use crate::model::{Error, Result};
use crate::render::{Block, Output};
use crate::sandbox::{
    self, BulkPlan, DEFECTS, Defect, Fault, KINDS, MAX_PATIENTS, Method, Options, Persona,
    RequestSeen, Running, RunningServer, Scenario, ServerPlan, SignInFacts, TRAPS, served_version,
};

/// Serve a small FHIR server on loopback, with faults on request
///
/// It holds synthetic patients, Patient/canary-1 among them, and serves until it is interrupted.
#[derive(Debug, Args)]
#[command(after_long_help = faults_help())]
pub struct SandboxArgs {
    /// Address and port; port 0 is one that the system picks
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", value_parser = address)]
    pub listen: SocketAddr,

    /// The FHIR version it speaks
    #[arg(
        long, value_name = "VERSION", default_value = "R4", conflicts_with = "scenario",
        value_parser = PossibleValuesParser::new(["STU3", "R4", "R4B", "R5"]).try_map(|text| served_version(&text)),
        ignore_case = true
    )]
    pub fhir_version: FhirVersion,

    /// How many synthetic patients it holds
    #[arg(
        long, value_name = "N", default_value_t = 20, conflicts_with = "scenario",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PATIENTS))
    )]
    pub patients: u32,

    /// The same seed gives the same records
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "scenario")]
    pub seed: u64,

    /// Behave as the server of this preset does; other options say otherwise
    #[arg(
        long = "as", value_name = "PRESET", conflicts_with = "scenario",
        value_parser = PossibleValuesParser::new(Persona::names()).try_map(|name| Persona::find(&name))
    )]
    pub persona: Option<&'static Persona>,

    /// How clients have to sign in [default: as the preset demands, else none]; the secret is new at
    /// every start
    #[arg(
        long, value_name = "METHOD", conflicts_with = "scenario",
        value_parser = PossibleValuesParser::new(Method::ALL.map(Method::as_str)).try_map(|text| Method::parse(&text))
    )]
    pub auth: Option<Method>,

    /// Ask for the sign-in at /metadata too
    #[arg(long, conflicts_with = "scenario")]
    pub protect_metadata: bool,

    /// What is wrong with the sign-in
    #[arg(long, value_name = "KIND[=VALUE]", value_parser = Defect::parse, conflicts_with = "scenario")]
    pub sign_in_fault: Option<Defect>,

    /// Serve HTTPS, with a certificate of a throw-away authority
    #[arg(long, conflicts_with = "scenario")]
    pub tls: bool,

    /// A fault, for all requests or a share of them; may be given several times
    #[arg(
        long = "fault", value_name = "KIND[=VALUE][@SHARE]", value_parser = Fault::parse,
        conflicts_with = "scenario"
    )]
    pub faults: Vec<Fault>,

    /// What its bulk data is like, as under bulk: in a scenario; may be given several times
    #[arg(long = "bulk", value_name = "KEY=VALUE", value_parser = BulkPlan::parse, conflicts_with = "scenario")]
    pub bulk: Vec<BulkPlan>,

    /// A fleet, from a YAML file
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,

    /// Write a line of JSON for every request; no credential is in it
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Let --listen be an address that others on the network can reach
    #[arg(long)]
    pub expose: bool,
}

/// A sandbox at work, with the signals that end it.
pub struct Serving {
    running: Running,
    interrupted: Signal,
    terminated: Signal,
}

/// Starts the servers; called within the runtime.
///
/// # Errors
/// Exit 64 for an address off loopback without `--expose`, 66 and 78 for the scenario file, 74 for
/// a port that cannot be had.
pub fn start(args: &SandboxArgs, context: &Context) -> Result<Serving> {
    let watch = |kind| {
        signal(kind).map_err(|error| Error::internal(format!("cannot watch for signals: {error}")))
    };
    // Before anything is announced: who reads the announcement may end us at once.
    let (interrupted, terminated) =
        (watch(SignalKind::interrupt())?, watch(SignalKind::terminate())?);
    let verbose = context.options.verbose > 0;
    let options = Options {
        listen: args.listen,
        expose: args.expose,
        clock: context.clock,
        temp_dir: variable("TMPDIR")
            .filter(|path| !path.is_empty())
            .map_or_else(|| PathBuf::from("/tmp"), PathBuf::from),
        watcher: verbose.then(|| -> sandbox::Watcher { Arc::new(tell) }),
        log: args.log.clone(),
    };
    let running = sandbox::start(&scenario(args)?, &options)?;
    Ok(Serving { running, interrupted, terminated })
}

impl Serving {
    /// What is served, and how to reach it.
    #[must_use]
    pub fn announcement(&self) -> Output {
        announcement(&self.running)
    }

    /// Serves until SIGINT or SIGTERM, which end it well.
    pub async fn until_stopped(mut self) -> Outcome {
        tokio::select! {
            _ = self.interrupted.recv() => {}
            _ = self.terminated.recv() => {}
        }
        Outcome::default()
    }
}

fn scenario(args: &SandboxArgs) -> Result<Scenario> {
    match &args.scenario {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|error| Error::io("read", path, &error))?;
            Scenario::parse(path, &text)
        }
        None => Ok(Scenario::single(ServerPlan {
            fhir_version: args.fhir_version,
            persona: args.persona,
            auth: args.auth,
            protect_metadata: args.protect_metadata,
            sign_in_fault: args.sign_in_fault,
            patients: args.patients,
            seed: args.seed,
            tls: args.tls,
            faults: args.faults.clone(),
            bulk: args.bulk.iter().fold(BulkPlan::default(), |plan, key| key.over(&plan)),
            ..ServerPlan::new("local")
        })),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let text = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    text.parse().map_err(|_| "write an address and a port, such as 127.0.0.1:8080".into())
}

fn tell(server: &str, seen: &RequestSeen) {
    let status = seen.status.map_or_else(|| "connection broken".to_owned(), |it| it.to_string());
    complain(&format!("{server}: {} {} → {status}", seen.method, seen.path));
}

fn announcement(running: &Running) -> Output {
    let servers: Vec<Value> = running
        .servers
        .iter()
        .map(|server| {
            json!({
                "name": server.name,
                "url": server.url,
                "auth": server.auth,
                "fhir_version": server.fhir_version,
                "persona": server.persona,
            })
        })
        .collect();
    let json = json!({
        "schema": "fhirctl/sandbox/v1",
        "pid": std::process::id(),
        "ca": running.ca,
        "url": running.servers.first().map(|server| &server.url),
        "servers": servers,
    });
    let mut document = vec![Block::Heading("A sandbox is serving; Ctrl-C ends it".to_owned())];
    for server in &running.servers {
        document.push(Block::Facts(facts(server)));
        document.push(Block::Blank);
    }
    if let Some(server) = running.servers.iter().find(|server| !server.unreachable) {
        document.push(Block::Text(vec!["Try it:".into()]));
        document.push(Block::Verbatim(curl(server, running.ca.as_deref())));
        document.push(Block::Blank);
    }
    document.push(Block::Text(vec!["As a servers.yaml:".into()]));
    document.push(Block::Verbatim(inventory(running)));
    Output { json, document, ..Output::default() }
}

fn facts(server: &RunningServer) -> Vec<(String, crate::render::Cell)> {
    let mut sign_in = server.auth.method.to_owned();
    if let Some(username) = server.auth.username {
        sign_in.push_str(&format!(", user {username}"));
    }
    if let Some(header) = server.auth.header {
        sign_in.push_str(&format!(", header {header}"));
    }
    if let Some(client) = server.auth.client_id {
        sign_in.push_str(&format!(", client {client}"));
    }
    if let Some(file) = &server.auth.secret_file {
        sign_in.push_str(&format!(", secret in {}", file.display()));
    }
    if let Some(file) = &server.auth.certificate {
        sign_in.push_str(&format!(", client certificate in {}", file.display()));
    }
    let mut facts = vec![
        ("name".to_owned(), server.name.as_str().into()),
        ("url".to_owned(), server.url.as_str().into()),
        ("version".to_owned(), server.fhir_version.as_str().into()),
        ("sign-in".to_owned(), sign_in.into()),
    ];
    if server.unreachable {
        facts.push(("note".to_owned(), "refuses every connection".into()));
    }
    facts
}

/// A command to paste. The secret stays in its file: `-H @-` and `-K -` read it from there.
fn curl(server: &RunningServer, ca: Option<&Path>) -> String {
    let mut command = "curl".to_owned();
    if let Some(ca) = ca.filter(|_| server.url.starts_with("https:")) {
        command.push_str(&format!(" --cacert {}", ca.display()));
    }
    let target = format!("'{}/Patient?_count=3'", server.url);
    let Some(file) = &server.auth.secret_file else { return format!("{command} {target}") };
    let file = file.display();
    if !matches!(server.auth.method, "api-key" | "basic" | "bearer" | "headers") {
        return format!("fhirctl test {}", server.name);
    }
    match (server.auth.username, server.auth.header) {
        (Some(user), _) => {
            format!("printf 'user = \"{user}:%s\"' \"$(cat {file})\" | {command} -K - {target}")
        }
        (None, Some(header)) => {
            format!("printf '{header}: %s' \"$(cat {file})\" | {command} -H @- {target}")
        }
        (None, None) => format!(
            "printf 'Authorization: Bearer %s' \"$(cat {file})\" | {command} -H @- {target}"
        ),
    }
}

fn inventory(running: &Running) -> String {
    let mut yaml = "version: 1\nservers:\n".to_owned();
    for server in &running.servers {
        yaml.push_str(&format!(
            "  - name: {}\n    url: {}\n    fhir_version: {}\n",
            server.name, server.url, server.fhir_version
        ));
        if let Some(vendor) = server.persona {
            yaml.push_str(&format!("    vendor: {vendor}\n"));
        }
        if let Some(auth) = auth(&server.auth) {
            yaml.push_str(&format!("    auth: {{method: {}{auth}}}\n", server.auth.method));
        }
        let ca = running.ca.as_ref().filter(|_| server.url.starts_with("https:"));
        let own = server.auth.certificate.as_ref().zip(server.auth.certificate_key.as_ref());
        match (ca, own) {
            (Some(ca), Some((certificate, key))) => yaml.push_str(&format!(
                "    tls: {{ca: {}, client_certificate: {{certificate: {}, key: \"file:{}\"}}}}\n",
                ca.display(),
                certificate.display(),
                key.display()
            )),
            (Some(ca), None) => yaml.push_str(&format!("    tls: {{ca: {}}}\n", ca.display())),
            (None, _) => {}
        }
        // A preset brings its own health check.
        let health = match server.persona {
            Some(_) => "",
            None => "      health: {path: /health, expect: {status: 200, json: {status: UP}}}\n",
        };
        yaml.push_str(&format!(
            "    checks:\n{health}\
             \x20     read: [{{ref: Patient/canary-1, synthetic: true}}]\n"
        ));
    }
    yaml.pop();
    yaml
}

/// The keys of `auth` after its method; `None` without a sign-in.
fn auth(facts: &SignInFacts) -> Option<String> {
    let secret = || {
        let file = facts.secret_file.as_ref().map(|file| file.display().to_string());
        format!("\"file:{}\"", file.unwrap_or_default())
    };
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let token_url = || text(facts.token_url.as_deref());
    Some(match facts.method {
        "none" => return None,
        "api-key" => format!(", header: {}, value: {}", text(facts.header), secret()),
        "headers" => format!(", {}: {}", text(facts.header), secret()),
        "basic" => format!(", username: {}, password: {}", text(facts.username), secret()),
        "bearer" => format!(", token: {}", secret()),
        "oauth2" => format!(
            ", client_id: {}, client_secret: {}, token_url: \"{}\", scopes: [{}]",
            text(facts.client_id),
            secret(),
            token_url(),
            text(facts.scopes)
        ),
        "smart-backend" => format!(
            ", client_id: {}, key: {}, key_id: {}, token_url: \"{}\", scopes: [{}]",
            text(facts.client_id),
            secret(),
            text(facts.key_id),
            token_url(),
            text(facts.scopes)
        ),
        "azure" => format!(
            ", tenant: {}, client_id: {}, client_secret: {}, authority: \"{}\"",
            text(facts.tenant),
            text(facts.client_id),
            secret(),
            text(facts.authority.as_deref())
        ),
        "google" => format!(", credentials: {}", secret()),
        "aws-sigv4" => format!(
            ", region: {}, access_key: {}, secret_key: {}",
            text(facts.region),
            text(facts.access_key),
            secret()
        ),
        _ => String::new(),
    })
}

fn faults_help() -> String {
    let mut help = "Faults:\n".to_owned();
    for kind in KINDS {
        let written = format!("{}{}", kind.name, kind.value);
        help.push_str(&format!("  {written:<28} {}\n", kind.about));
    }
    help.push_str("\nFaults of the sign-in:\n");
    for (name, about) in DEFECTS {
        help.push_str(&format!("  {name:<28} {about}\n"));
    }
    help.push_str("\nKeys of bulk data, for --bulk KEY=VALUE and bulk: in a scenario:\n");
    for (name, about) in BulkPlan::KEYS {
        help.push_str(&format!("  {name:<28}{}\n", about.trim_end_matches('.')));
    }
    help.push_str("\nTraps of bulk data, for --bulk traps=NAME,NAME:\n");
    for (_, name, about) in TRAPS {
        help.push_str(&format!("  {name:<28} {about}\n"));
    }
    help.push_str("\nKIND@0.2 strikes every fifth request; several faults act together.");
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(auth: SignInFacts) -> RunningServer {
        RunningServer {
            name: "a".into(),
            url: "https://127.0.0.1:1/fhir".into(),
            fhir_version: FhirVersion::R4,
            auth,
            unreachable: false,
            persona: None,
        }
    }

    #[test]
    fn the_command_to_paste_keeps_the_secret_out_of_the_arguments() {
        let secret_file = Some(PathBuf::from("/t/a.secret"));
        let basic = SignInFacts {
            method: "basic",
            username: Some("probe"),
            secret_file: secret_file.clone(),
            ..SignInFacts::default()
        };
        assert_eq!(
            curl(&server(basic), Some(Path::new("/t/ca.pem"))),
            "printf 'user = \"probe:%s\"' \"$(cat /t/a.secret)\" | curl --cacert /t/ca.pem -K - \
             'https://127.0.0.1:1/fhir/Patient?_count=3'"
        );
        let key = SignInFacts {
            method: "api-key",
            secret_file,
            header: Some("X-API-Key"),
            ..SignInFacts::default()
        };
        assert_eq!(
            curl(&server(key), None),
            "printf 'X-API-Key: %s' \"$(cat /t/a.secret)\" | curl -H @- \
             'https://127.0.0.1:1/fhir/Patient?_count=3'"
        );
    }

    #[test]
    fn the_help_names_every_fault() {
        let help = faults_help();
        assert!(KINDS.iter().all(|kind| help.contains(kind.about)));
    }
}
