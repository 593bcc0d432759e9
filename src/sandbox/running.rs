//! From a scenario to servers at work, and their clean end.

use std::collections::HashMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::bulk::{Bulk, Storage, Trap};
use super::certificate::{Authority, Leaf};
use super::fault::Effect;
use super::log::{RequestLog, RequestSeen, Surroundings, Watcher};
use super::scenario::{Scenario, ServerPlan};
use super::sign_in::{Method, SignIn};
use super::site::Site;
use crate::model::error::io_reason;
use crate::model::server::FhirVersion;
use crate::model::{Clock, Error, ErrorKind, Result};
use crate::serve::{Deaf, Listening, Port, Tls, bind, bind_deaf, serve};

/// The surroundings of a sandbox.
#[derive(Clone)]
pub struct Options {
    /// Where the servers listen; a port other than 0 is for a single server.
    pub listen: SocketAddr,
    /// Lets an address off loopback be listened on.
    pub expose: bool,
    pub clock: Clock,
    /// Where the private folder for secrets and the CA is made.
    pub temp_dir: PathBuf,
    pub watcher: Option<Watcher>,
    /// A file for one line of JSON per request; what was in it is gone.
    pub log: Option<PathBuf>,
}

impl Options {
    /// On 127.0.0.1, at ports that the system picks.
    #[must_use]
    pub fn loopback(temp_dir: PathBuf) -> Options {
        Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            expose: false,
            clock: Clock::system(),
            temp_dir,
            watcher: None,
            log: None,
        }
    }
}

/// Servers at work. Dropping it stops them, and removes secrets and CA.
pub struct Running {
    /// In the order of the scenario.
    pub servers: Vec<RunningServer>,
    /// PEM file of the authority, when a server speaks TLS.
    pub ca: Option<PathBuf>,
    sites: Vec<Arc<Site>>,
    listening: Vec<Listening>,
    deaf: Vec<Deaf>,
    surroundings: Surroundings,
    /// Held so that it goes last.
    folder: Option<Folder>,
}

/// What a client has to know of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningServer {
    pub name: String,
    /// The FHIR base URL, such as `http://127.0.0.1:40001/fhir`.
    pub url: String,
    pub fhir_version: FhirVersion,
    pub auth: SignInFacts,
    /// Whether every connection is refused on purpose.
    pub unreachable: bool,
    /// Whose behaviour it has taken on.
    pub persona: Option<&'static str>,
}

/// How to sign in, with secrets in files that their owner alone can read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SignInFacts {
    pub method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<&'static str>,
    /// The password, key or token; the private key, the service account, or the secret key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// The header that carries the secret, for `api-key` and `headers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<&'static str>,
    /// The client's other key, which is RSA, and its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsa_key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsa_key_id: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<&'static str>,
    /// The login host of `azure`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key: Option<&'static str>,
    /// The client's certificate and its key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_key: Option<PathBuf>,
}

/// Starts the servers of a scenario; it has to be called within the runtime.
///
/// # Errors
/// A usage error for an address off loopback without [`Options::expose`], or one port for several
/// servers; exit 78 for a scenario that makes no sense; exit 74 for a port that cannot be had.
pub fn start(scenario: &Scenario, options: &Options) -> Result<Running> {
    scenario.validate()?;
    let ip = options.listen.ip();
    if !ip.is_loopback() && !options.expose {
        return Err(Error::usage(format!("{ip} is not a loopback address"))
            .hint("--expose lets others on the network reach the sandbox"));
    }
    if options.listen.port() != 0 && scenario.servers.len() > 1 {
        return Err(Error::usage("one port is not enough for the servers of this scenario")
            .hint("leave the port 0, and give servers a port: in the scenario file"));
    }
    let needs_tls = scenario.servers.iter().any(ServerPlan::speaks_tls);
    let needs_secret = scenario.servers.iter().any(|plan| plan.method() != Method::None);
    let folder = match needs_tls || needs_secret {
        true => Some(Folder::new(&options.temp_dir)?),
        false => None,
    };
    let mut running = Running {
        servers: Vec::new(),
        ca: None,
        sites: Vec::new(),
        listening: Vec::new(),
        deaf: Vec::new(),
        surroundings: Surroundings {
            clock: options.clock,
            watcher: options.watcher.clone(),
            log: options.log.as_deref().map(RequestLog::create).transpose()?.map(Arc::new),
        },
        folder,
    };
    let authority = match (&running.folder, needs_tls) {
        (Some(folder), true) => {
            let authority = Authority::new(options.clock.now())?;
            running.ca = Some(folder.write("ca.pem", authority.certificate_pem.as_bytes())?);
            Some(authority)
        }
        _ => None,
    };
    for plan in &scenario.servers {
        running.add(plan, options, authority.as_ref())?;
    }
    Ok(running)
}

impl Running {
    /// The requests that a server has seen, oldest first, the last 10,000 at most. Empty for a name
    /// that there is not.
    #[must_use]
    pub fn requests(&self, name: &str) -> Vec<RequestSeen> {
        self.sites
            .iter()
            .find(|site| site.name == name)
            .map(|site| site.requests())
            .unwrap_or_default()
    }

    /// The server of a name.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&RunningServer> {
        self.servers.iter().find(|server| server.name == name)
    }

    fn add(
        &mut self,
        plan: &ServerPlan,
        options: &Options,
        authority: Option<&Authority>,
    ) -> Result<()> {
        let port = if plan.port == 0 { options.listen.port() } else { plan.port };
        let wanted = SocketAddr::new(options.listen.ip(), port);
        let failed = |error: std::io::Error| {
            Error::new(
                ErrorKind::Io,
                format!("{}: cannot listen on {wanted}: {}", plan.name, io_reason(&error)),
            )
            .hint("port 0 lets the system pick a free one")
        };
        let place = if plan.unreachable {
            Place::Deaf(bind_deaf(wanted).map_err(failed)?)
        } else {
            Place::Port(bind(wanted).map_err(failed)?)
        };
        let scheme = if plan.speaks_tls() { "https" } else { "http" };
        let url = format!("{scheme}://{}{}", reachable(place.address()), plan.base_path());
        let origin = format!("{scheme}://{}", reachable(place.address()));
        let sign_in = match plan.method() {
            Method::None => None,
            method => Some(SignIn::new(method, &origin, plan)?),
        };
        let auth = self.facts(plan, &origin, sign_in.as_ref(), authority)?;
        self.servers.push(RunningServer {
            name: plan.name.clone(),
            url: url.clone(),
            fhir_version: plan.fhir_version,
            auth,
            unreachable: plan.unreachable,
            persona: plan.persona.map(|persona| persona.name.as_str()),
        });
        match place {
            Place::Deaf(deaf) => self.deaf.push(deaf),
            Place::Port(port) => {
                let certificates = match authority {
                    Some(authority) if plan.speaks_tls() => {
                        certificates(plan, authority, options.listen.ip())?
                    }
                    _ => HashMap::new(),
                };
                let tls = certificates.get(&Leaf::Right).cloned();
                let bulk = self.bulk(plan, options, tls, sign_in.is_some())?;
                let surroundings = self.surroundings.clone();
                let site =
                    Arc::new(Site::new(plan, url, sign_in, certificates, bulk, surroundings));
                self.listening.push(serve(port, site.clone()).map_err(failed)?);
                self.sites.push(site);
            }
        }
        Ok(())
    }
}

impl Running {
    /// The bulk data side of a server, with the further ports that it needs.
    fn bulk(
        &mut self,
        plan: &ServerPlan,
        options: &Options,
        tls: Option<Arc<Tls>>,
        signed_in: bool,
    ) -> Result<Arc<Bulk>> {
        let failed = |error: std::io::Error| {
            let reason = io_reason(&error);
            Error::new(ErrorKind::Io, format!("{}: no port for its files: {reason}", plan.name))
        };
        let wanted = SocketAddr::new(options.listen.ip(), 0);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let origin = |address: SocketAddr| format!("{scheme}://{}", reachable(address));
        let bulk = plan.bulk();
        let port = match bulk.needs_storage() {
            true => Some(bind(wanted).map_err(failed)?),
            false => None,
        };
        let dead = match bulk.has(Trap::StorageDown) {
            true => Some(bind_deaf(wanted).map_err(failed)?),
            false => None,
        };
        let bulk = Arc::new(Bulk::new(
            bulk,
            plan.seed,
            signed_in,
            port.as_ref().map(|port| origin(port.address())),
            dead.as_ref().map(|dead| origin(dead.address())),
        ));
        self.deaf.extend(dead);
        if let Some(port) = port {
            let storage = Storage::new(&plan.name, bulk.clone(), tls, self.surroundings.clone());
            self.listening.push(serve(port, Arc::new(storage)).map_err(failed)?);
        }
        Ok(bulk)
    }

    /// Writes the secrets of a server and says how to sign in.
    fn facts(
        &self,
        plan: &ServerPlan,
        origin: &str,
        sign_in: Option<&SignIn>,
        authority: Option<&Authority>,
    ) -> Result<SignInFacts> {
        let (Some(sign_in), Some(folder)) = (sign_in, &self.folder) else {
            return Ok(SignInFacts { method: plan.method().as_str(), ..SignInFacts::default() });
        };
        let facts = sign_in.facts();
        let write = |kind: &str, secret: &Option<crate::model::Secret>| {
            secret
                .as_ref()
                .map(|secret| {
                    folder.write(&format!("{}.{kind}", plan.name), secret.expose().as_bytes())
                })
                .transpose()
        };
        let (mut certificate, mut certificate_key) = (None, None);
        if let (Method::Mtls, Some(authority)) = (plan.method(), authority) {
            let (pem, key) = authority.client()?;
            certificate = Some(folder.write(&format!("{}.client.pem", plan.name), pem.as_bytes())?);
            certificate_key =
                Some(folder.write(&format!("{}.client.key", plan.name), key.expose().as_bytes())?);
        }
        Ok(SignInFacts {
            method: plan.method().as_str(),
            username: plan.method().username(),
            secret_file: write("secret", &facts.secret)?,
            header: plan.header(),
            client_id: facts.client_id,
            key_id: facts.key_id,
            rsa_key_file: write("rsa.secret", &facts.rsa_key)?,
            rsa_key_id: facts.rsa_key_id,
            token_url: facts.token_url,
            jwks_url: facts.jwks_url,
            scopes: facts.scopes,
            tenant: facts.tenant,
            authority: facts.tenant.map(|_| origin.to_owned()),
            region: facts.region,
            access_key: facts.access_key,
            certificate,
            certificate_key,
        })
    }
}

enum Place {
    Port(Port),
    Deaf(Deaf),
}

impl Place {
    fn address(&self) -> SocketAddr {
        match self {
            Place::Port(port) => port.address(),
            Place::Deaf(deaf) => deaf.address(),
        }
    }
}

/// An address that a client on this machine can use.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The right certificate and those that the server's faults show.
fn certificates(
    plan: &ServerPlan,
    authority: &Authority,
    address: IpAddr,
) -> Result<HashMap<Leaf, Arc<Tls>>> {
    let mut kinds = vec![Leaf::Right];
    for fault in &plan.faults {
        match fault.effect {
            Effect::CertificateExpired => kinds.push(Leaf::Expired),
            Effect::CertificateWrongHost => kinds.push(Leaf::WrongHost),
            Effect::CertificateSelfSigned => kinds.push(Leaf::SelfSigned),
            _ => {}
        }
    }
    let mut certificates = HashMap::new();
    for kind in kinds {
        let tls = authority.leaf(kind, address, plan.method() == Method::Mtls)?;
        certificates.insert(kind, Arc::new(tls));
    }
    Ok(certificates)
}

/// A private folder that is gone, with what is in it, when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(parent: &Path) -> Result<Folder> {
        let path = parent.join(format!("fhirctl-sandbox-{}", uuid::Uuid::new_v4().simple()));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Error::cannot_create(&path, &error))?;
        Ok(Folder(path))
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.0.join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content))
            .map_err(|error| Error::cannot_create(&path, &error))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now will be with the system's other temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
