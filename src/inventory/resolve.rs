//! From the layers of the file to servers that can be used.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::layer::Layer as _;
use super::leaf::Length;
use super::meaning::Issue;
use super::path::{Step, steps};
use super::preset;
use super::raw::{
    RawChecks, RawContact, RawCounts, RawFormat, RawHealth, RawInventory, RawMetadata,
    RawMetricsFormat, RawResources, RawServer, RawTerms, RawThreshold,
};
use super::raw_transport::{
    RawCertificateFiles, RawNetwork, RawProxy, RawProxyLogin, RawTls, RawTlsVersion,
};
use super::{Overrides, agreement, leaf, link, sign_in};
use crate::model::Terms;
use crate::model::server::{
    Accept, AssertCheck, BaseUrl, Checks, ClientCertificate, Contact, CountsCheck, FhirVersion,
    Format, HealthCheck, Maintenance, MetadataCheck, MetadataService, MetricsFormat, MetricsPlace,
    Network, Pool, Proxy, ProxyLogin, RateLimit, ReadCheck, ResourcesCheck, Retry, Server,
    Threshold, Thresholds, Timeouts, Tls, TlsVersion,
};

/// A Nagios gives a plugin ten seconds; the answer has to be there before.
pub(super) const NAGIOS_DEADLINE: Duration = Duration::from_secs(8);

/// How often the metrics that an inventory names are read at most where it does not say it.
const METRICS_EVERY: Duration = Duration::from_secs(300);
/// Nothing beside the checks is asked for more often.
const LEAST_RHYTHM: Duration = Duration::from_secs(60);
/// Most types of which resources are counted.
const MOST_COUNTED: usize = 50;

/// Which layers lie under a server's own entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Below {
    /// Index into `defaults_for`.
    pub(super) rule: Option<usize>,
    pub(super) vendor: Option<String>,
}

/// Turns entries into servers; what many of them share is merged once.
pub(super) struct Resolver<'a> {
    raw: &'a RawInventory,
    rules: Vec<Vec<leaf::Term>>,
    bases: HashMap<Below, Rc<RawServer>>,
    overrides: &'a Overrides,
    /// The folder of the inventory, absolute.
    pub(super) folder: PathBuf,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(raw: &'a RawInventory, path: &Path, overrides: &'a Overrides) -> Self {
        let rules = raw
            .defaults_for
            .iter()
            .flatten()
            .map(|rule| leaf::condition(rule.select.as_deref().unwrap_or_default()))
            .map(Result::unwrap_or_default)
            .collect();
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        Resolver { raw, rules, bases: HashMap::new(), overrides, folder }
    }

    /// The server of an entry, by its index in the file.
    ///
    /// # Errors
    /// Everything that is wrong with it once its layers are merged.
    pub(super) fn server(&mut self, index: usize, own: RawServer) -> Result<Server, Vec<Issue>> {
        let base = super::server_path(index);
        let below = self.below(&own);
        let lower = Rc::clone(self.base(below));
        let names_metrics = own.names_metrics();
        let mut merged = own;
        merged.fill(&lower);
        if names_metrics {
            merged.read_metrics(Length(METRICS_EVERY));
        }
        let mut build = Build { base: &base, folder: &self.folder, issues: Vec::new() };
        let server = build.server(merged, self.overrides);
        match server {
            Some(server) if build.issues.is_empty() => Ok(server),
            _ => Err(build.issues),
        }
    }

    /// Which rule and which preset hold for a server.
    pub(super) fn below(&self, own: &RawServer) -> Below {
        let defaults = self.raw.defaults.as_ref().map(|defaults| &defaults.0);
        let vendor_of = |layer: Option<&RawServer>| layer.and_then(|layer| layer.vendor.clone());
        let label = |key: &str| {
            let of = |layer: Option<&'_ RawServer>| -> Option<String> {
                layer.and_then(|layer| layer.labels.as_ref()).and_then(|all| all.get(key)).cloned()
            };
            of(Some(own)).or_else(|| of(defaults)).or_else(|| {
                (key == "vendor").then(|| vendor_of(Some(own)).or_else(|| vendor_of(defaults)))?
            })
        };
        let rule = self
            .rules
            .iter()
            .rposition(|terms| terms.iter().all(|term| term.holds(label(&term.key).as_deref())));
        let vendor = vendor_of(Some(own))
            .or_else(|| vendor_of(rule.and_then(|rule| self.rule(rule))))
            .or_else(|| vendor_of(defaults));
        Below { rule, vendor }
    }

    fn rule(&self, index: usize) -> Option<&RawServer> {
        self.raw.defaults_for.as_ref()?.get(index).map(|rule| &rule.settings)
    }

    fn base(&mut self, below: Below) -> &Rc<RawServer> {
        if !self.bases.contains_key(&below) {
            let mut base = below.rule.and_then(|rule| self.rule(rule)).cloned().unwrap_or_default();
            if let Some(defaults) = &self.raw.defaults {
                base.fill(&defaults.0);
            }
            // What a preset names is a guess, which nobody is to be asked for every few minutes.
            base.read_metrics(Length(METRICS_EVERY));
            if let Some(preset) = below.vendor.as_deref().and_then(preset::preset) {
                base.fill(&preset::layer(preset));
            }
            if self.overrides.nagios {
                base.deadline.get_or_insert(super::leaf::Length(NAGIOS_DEADLINE));
            }
            base.fill(preset::built_in());
            self.bases.insert(below.clone(), Rc::new(base));
        }
        self.bases.entry(below).or_default()
    }
}

/// Collects what is wrong while one server is built.
pub(super) struct Build<'a> {
    pub(super) base: &'a [Step],
    pub(super) folder: &'a Path,
    pub(super) issues: Vec<Issue>,
}

impl Build<'_> {
    pub(super) fn wrong(&mut self, below: &'static str, message: impl Into<String>) {
        let path = steps(self.base, below);
        self.issues.push(Issue::new(path, message));
    }

    /// Names a key of this server for a message.
    pub(super) fn key(&self, below: &'static str) -> String {
        super::path::name_of(&steps(self.base, below))
    }

    /// A path relative to the inventory's folder.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    fn server(&mut self, raw: RawServer, overrides: &Overrides) -> Option<Server> {
        let name = raw.name?;
        let url: BaseUrl = link::base_url(&raw.url?).ok()?;
        let preset = raw.vendor.as_deref().and_then(preset::preset);
        let mut auth = raw.auth.unwrap_or_default().0;
        if auth.scopes.is_none() {
            auth.scopes = preset.and_then(|preset| preset::scopes(preset, auth.method, auth.flow));
        }
        let allow_insecure =
            raw.allow_insecure.unwrap_or_default() || auth.allow_insecure.unwrap_or_default();
        let tls = self.tls(raw.tls.unwrap_or_default())?;
        let policy = sign_in::policy(&auth);
        let auth = sign_in::auth(self, auth, tls.client_certificate.is_some());
        let mut extra_headers = std::collections::BTreeMap::new();
        for (name, value) in raw.extra_headers.unwrap_or_default() {
            extra_headers.insert(name, sign_in::header_value(self.folder, value.0));
        }
        let thresholds = raw.thresholds.unwrap_or_default();
        let timeouts = raw.timeouts.unwrap_or_default();
        let retry = raw.retry.unwrap_or_default();
        let rate_limit = raw.rate_limit.unwrap_or_default();
        let pool = raw.pool.unwrap_or_default();
        let checks = raw.checks.unwrap_or_default();
        let metadata_needs_auth =
            checks.metadata.as_ref().and_then(|metadata| metadata.open) == Some(false);
        if raw.schedule.as_ref().is_some_and(|s| s.0.every.is_some() && s.0.cron.is_some()) {
            let key = self.key("schedule");
            self.wrong("schedule", format!("{key} has both every and cron; keep one"));
        }
        let deadline = match overrides.deadline {
            Some((deadline, _)) => deadline,
            None => raw.deadline?.0,
        };
        let monitoring = preset.map(preset::Preset::monitoring).unwrap_or_default();
        Some(Server {
            name,
            url,
            vendor: raw.vendor,
            fhir_version: raw.fhir_version.as_deref().and_then(fhir_version),
            description: raw.description,
            organization: raw.organization,
            contact: contact(raw.contact.unwrap_or_default()),
            support: contact(raw.support.unwrap_or_default()),
            labels: raw.labels.unwrap_or_default(),
            active: raw.active.unwrap_or(true),
            auth,
            sign_in: policy,
            metadata_needs_auth,
            extra_headers,
            tls,
            network: self.network(raw.network.unwrap_or_default()),
            format: match raw.format {
                Some(RawFormat::Xml) => Format::Xml,
                _ => Format::Json,
            },
            compression: raw.compression.unwrap_or(true),
            metadata_cache: raw
                .cache
                .and_then(|cache| cache.metadata)
                .map(|pause| pause.0)
                .filter(|length| !length.is_zero()),
            timeouts: Timeouts {
                connect: timeouts.connect?.0,
                read: timeouts.read?.0,
                write: timeouts.write?.0,
                total: timeouts.total?.0,
            },
            deadline,
            retry: Retry {
                attempts: retry.attempts?,
                backoff: retry.backoff?.0,
                max_backoff: retry.max_backoff?.0,
            },
            rate_limit: RateLimit {
                requests_per_second: rate_limit.requests_per_second?,
                burst: rate_limit.burst?,
            },
            pool: Pool {
                max_connections: usize::try_from(pool.max_connections?).ok()?,
                idle_timeout: pool.idle_timeout?.0,
            },
            thresholds: Thresholds {
                health: self.threshold("thresholds.health", thresholds.health)?,
                metadata: self.threshold("thresholds.metadata", thresholds.metadata)?,
                search: self.threshold("thresholds.search", thresholds.search)?,
            },
            checks: self.checks(checks),
            accept: raw
                .accept
                .unwrap_or_default()
                .into_iter()
                .filter_map(|accept| {
                    Some(Accept {
                        code: leaf::code(&accept.code?).ok()?,
                        reason: accept.reason?,
                        until: accept.until.and_then(|day| leaf::day(&day).ok()),
                    })
                })
                .collect(),
            maintenance: self.maintenance(raw.maintenance.unwrap_or_default()),
            allow_insecure,
            schedule: agreement::schedule(raw.schedule),
            agreement: agreement::agreement(raw.sla),
            monitoring,
            terms: raw.terms.and_then(terms),
        })
    }

    fn threshold(&mut self, key: &'static str, raw: Option<RawThreshold>) -> Option<Threshold> {
        let raw = raw?;
        let threshold = Threshold { warning: raw.warning?.0, critical: raw.critical?.0 };
        if threshold.warning > threshold.critical {
            let name = self.key(key);
            self.wrong(key, format!("{name}: critical is below warning"));
        }
        Some(threshold)
    }

    fn tls(&mut self, raw: RawTls) -> Option<Tls> {
        let expiry = raw.expiry?;
        let (warning, critical) = (expiry.warning?.0, expiry.critical?.0);
        if warning < critical {
            let name = self.key("tls.expiry");
            self.wrong("tls.expiry", format!("{name}: the warning comes after critical"));
        }
        let client_certificate =
            raw.client_certificate.and_then(|files| self.client_certificate(files.0));
        Some(Tls {
            ca: raw.ca.map(|path| self.path(&path)),
            ca_adds: false,
            min_version: match raw.min_version {
                Some(RawTlsVersion::V1_3) => TlsVersion::V1_3,
                _ => TlsVersion::V1_2,
            },
            expiry_warning: warning,
            expiry_critical: critical,
            pins: raw.pins.unwrap_or_default(),
            client_certificate,
        })
    }

    fn client_certificate(&mut self, raw: RawCertificateFiles) -> Option<ClientCertificate> {
        let lacks = match (raw.certificate, raw.key, raw.pkcs12, raw.password) {
            (Some(file), Some(key), None, None) => {
                return Some(ClientCertificate::Pem {
                    certificate: self.path(&file),
                    key: sign_in::absolute(self.folder, key.0),
                });
            }
            (None, None, Some(file), password) => {
                return Some(ClientCertificate::Pkcs12 {
                    file: self.path(&file),
                    password: password.map(|it| sign_in::absolute(self.folder, it.0)),
                });
            }
            (Some(_), None, None, None) => {
                "needs the certificate's key beside it; where one file holds both, key: file: and \
                 the same path"
            }
            _ => "needs a certificate and its key (PEM), or a pkcs12 file and its password",
        };
        let name = self.key("tls.client_certificate");
        self.wrong("tls.client_certificate", format!("{name} {lacks}"));
        None
    }

    fn network(&mut self, raw: RawNetwork) -> Network {
        let networks = |texts: Option<Vec<String>>| {
            texts.unwrap_or_default().iter().filter_map(|text| leaf::network(text).ok()).collect()
        };
        Network {
            allowed_addresses: networks(raw.allowed_addresses),
            egress: networks(raw.egress),
            egress_echo: raw.egress_echo.and_then(|text| text.parse().ok()),
            source_address: raw.source_address.and_then(|text| leaf::address(&text).ok()),
            proxy: raw.proxy.and_then(|proxy| self.proxy(proxy)),
            metadata_service: MetadataService::default(),
        }
    }

    fn proxy(&mut self, raw: RawProxy) -> Option<Proxy> {
        let RawProxyLogin { url, username, password } = match raw {
            RawProxy::Url(url) => RawProxyLogin { url: Some(url), ..RawProxyLogin::default() },
            RawProxy::Login(login) => login,
        };
        let login = match (username, password) {
            (Some(username), Some(password)) if !username.contains(':') => {
                Some(ProxyLogin { username, password: sign_in::absolute(self.folder, password.0) })
            }
            (None, None) => None,
            (username, _) => {
                let lacks = match username {
                    Some(name) if name.contains(':') => "a username without a colon",
                    Some(_) => "a password beside the username",
                    None => "a username beside the password",
                };
                let name = self.key("network.proxy");
                self.wrong("network.proxy", format!("{name} needs {lacks}"));
                None
            }
        };
        let url = link::url(&url?, leaf::PROXY_SCHEMES).ok()?;
        Some(Proxy { url, login })
    }

    fn checks(&mut self, raw: RawChecks) -> Checks {
        Checks {
            health: raw.health.and_then(|health| self.health(health)),
            metadata: metadata(raw.metadata.unwrap_or_default()),
            search: raw.search.unwrap_or_default(),
            read: raw
                .read
                .unwrap_or_default()
                .into_iter()
                .filter_map(|read| {
                    Some(ReadCheck {
                        target: sign_in::read_target(self.folder, read.target?.0),
                        synthetic: read.synthetic.unwrap_or_default(),
                    })
                })
                .collect(),
            assert: raw
                .assertions
                .unwrap_or_default()
                .into_iter()
                .filter_map(|assert| {
                    Some(AssertCheck { query: assert.query?, expression: assert.expression? })
                })
                .collect(),
            resources: raw.resources.and_then(|resources| self.resources(resources)),
            counts: raw.counts.map(|counts| self.counts(counts)).unwrap_or_default(),
        }
    }

    fn counts(&mut self, raw: RawCounts) -> CountsCheck {
        let usual = CountsCheck::default();
        let mut types: Vec<String> = Vec::new();
        for kind in raw.types.unwrap_or_default() {
            if !types.contains(&kind) {
                types.push(kind);
            }
        }
        if types.len() > MOST_COUNTED {
            let name = self.key("checks.counts.types");
            let what =
                format!("{name} has {} types; at most {MOST_COUNTED} are counted", types.len());
            self.wrong("checks.counts.types", what);
        }
        let every = raw.every.map_or(usual.every, |every| every.0);
        self.rhythm("checks.counts.every", every);
        CountsCheck { types, every }
    }

    /// Holds a rhythm beside the checks against the least.
    fn rhythm(&mut self, key: &'static str, every: Duration) {
        if every < LEAST_RHYTHM {
            let name = self.key(key);
            self.wrong(key, format!("{name} is shorter than a minute"));
        }
    }

    fn resources(&mut self, raw: RawResources) -> Option<ResourcesCheck> {
        if raw.enabled == Some(false) {
            return None;
        }
        // Of two, the address is the more particular one: a preset knows paths only.
        let url = raw.url.and_then(|url| link::url(&url, &["http", "https"]).ok());
        let place = match (url, raw.path) {
            (Some(url), _) => MetricsPlace::Url(url),
            (None, Some(path)) => MetricsPlace::Path(path),
            (None, None) => {
                let name = self.key("checks.resources");
                let what = format!("{name} has neither path nor url, and no preset brings one");
                self.wrong("checks.resources", what);
                return None;
            }
        };
        let format = match raw.format {
            None | Some(RawMetricsFormat::Auto) => MetricsFormat::Auto,
            Some(RawMetricsFormat::Prometheus) => MetricsFormat::Prometheus,
            Some(RawMetricsFormat::Actuator) => MetricsFormat::Actuator,
        };
        let every = raw.every.map(|every| every.0);
        if let Some(every) = every {
            self.rhythm("checks.resources.every", every);
        }
        Some(ResourcesCheck { place, format, every })
    }

    fn health(&mut self, raw: RawHealth) -> Option<HealthCheck> {
        if raw.enabled == Some(false) {
            return None;
        }
        let Some(path) = raw.path else {
            let name = self.key("checks.health");
            self.wrong("checks.health", format!("{name} has no path, and no preset brings one"));
            return None;
        };
        let expect = raw.expect.unwrap_or_default();
        Some(HealthCheck {
            path,
            status: expect.status.unwrap_or(200),
            json: expect.json,
            contains: expect.contains,
        })
    }

    fn maintenance(&mut self, raw: Vec<super::raw::RawMaintenance>) -> Vec<Maintenance> {
        let mut windows = Vec::with_capacity(raw.len());
        for (index, window) in raw.into_iter().enumerate() {
            let instant = |text: Option<String>| text.and_then(|text| leaf::instant(&text).ok());
            let window = Maintenance {
                from: instant(window.from),
                until: instant(window.until),
                reason: window.reason,
                entered: instant(window.entered),
                entered_by: window.entered_by,
            };
            if let (Some(from), Some(until)) = (window.from, window.until)
                && from >= until
            {
                let name = self.key("maintenance");
                let mut path = steps(self.base, "maintenance");
                path.extend([Step::Item(index), Step::known("until")]);
                let message = format!("{name}[{index}] ends before it begins");
                self.issues.push(Issue::new(path, message));
            }
            windows.push(window);
        }
        windows
    }
}

fn metadata(raw: RawMetadata) -> MetadataCheck {
    let expect = raw.expect.unwrap_or_default();
    MetadataCheck {
        fhir_version: expect.fhir_version.as_deref().and_then(fhir_version),
        resources: expect.resources.unwrap_or_default(),
        interactions: expect
            .interactions
            .unwrap_or_default()
            .into_iter()
            .map(|(kind, all)| {
                let words = all.iter().filter_map(|one| serde_json::to_value(one).ok());
                (kind, words.filter_map(|word| word.as_str().map(str::to_owned)).collect())
            })
            .collect(),
        operations: expect.operations.unwrap_or_default(),
        profiles: expect.profiles.unwrap_or_default(),
        formats: expect.formats.unwrap_or_default(),
        search_parameters: expect.search_parameters.unwrap_or_default(),
        extensions: expect.extensions.unwrap_or_default(),
        strict: raw.strict.unwrap_or_default(),
    }
}

fn terms(raw: RawTerms) -> Option<Terms> {
    Some(Terms {
        approved_by: raw.approved_by?,
        reference: raw.reference?,
        until: raw.until.and_then(|day| leaf::day(&day).ok()),
    })
}

fn contact(raw: RawContact) -> Contact {
    Contact {
        name: raw.name,
        email: raw.email,
        phone: raw.phone,
        portal: raw.portal,
        account: raw.account,
    }
}

fn fhir_version(text: &str) -> Option<FhirVersion> {
    match text {
        "STU3" => Some(FhirVersion::Stu3),
        "R4" => Some(FhirVersion::R4),
        "R4B" => Some(FhirVersion::R4B),
        "R5" => Some(FhirVersion::R5),
        _ => None,
    }
}
