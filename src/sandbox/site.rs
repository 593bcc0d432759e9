//! One server at work: faults, sign-in, the request log, and what remains for FHIR.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;

use super::answer::{Content, Format, Reply, accepts_gzip, text};
use super::bulk::Bulk;
use super::certificate::Leaf;
use super::fault::Effect;
use super::fhir::capability::version_number;
use super::fhir::outcome::Refusal;
use super::fhir::people;
use super::fhir::store::Store;
use super::inject::{Instead, Struck, change, instead};
use super::log::{RequestSeen, Surroundings};
use super::persona::{Health, Persona, SmartConfiguration};
use super::routes::{self, Route, Statement};
use super::scenario::ServerPlan;
use super::sign_in::{Credential, Method, SignIn};
use super::strike::Striker;
use crate::model::Clock;
use crate::model::server::FhirVersion;
use crate::serve::{Answer, Handler, HeaderName, HeaderValue, Request, StatusCode, Tls, header};

/// What a portal answers whatever it is asked for.
const PORTAL: &str = "<!doctype html>\n<html><head><title>Portal</title></head>\
                      <body><div id=\"app\"></div></body></html>\n";
/// Most requests that are remembered; older ones are forgotten.
const LOG: usize = 10_000;

/// One server.
pub(super) struct Site {
    pub(super) name: String,
    pub(super) version: FhirVersion,
    pub(super) method: Method,
    pub(super) started: Timestamp,
    pub(super) store: Arc<Mutex<Store>>,
    pub(super) bulk: Arc<Bulk>,
    /// CapabilityStatements by the base URL under which they were asked for.
    pub(super) statements: Mutex<Vec<Statement>>,
    surroundings: Surroundings,
    pub(super) persona: Option<&'static Persona>,
    /// Of the persona.
    own_headers: Vec<(HeaderName, HeaderValue)>,
    /// The path of the FHIR base, such as `/fhir`.
    pub(super) base_path: &'static str,
    /// `http://127.0.0.1:8080/fhir`.
    base: String,
    sign_in: Option<SignIn>,
    protect_metadata: bool,
    faults: Vec<Striker>,
    certificate_faults: Vec<Striker>,
    certificates: HashMap<Leaf, Arc<Tls>>,
    since: Instant,
    log: Mutex<VecDeque<RequestSeen>>,
}

impl Site {
    pub(super) fn new(
        plan: &ServerPlan,
        base: String,
        sign_in: Option<SignIn>,
        certificates: HashMap<Leaf, Arc<Tls>>,
        bulk: Arc<Bulk>,
        surroundings: Surroundings,
    ) -> Site {
        let started = surroundings.clock.now();
        let records = people::records(plan.fhir_version, plan.patients, plan.seed);
        let strikers = |certificate: bool| {
            plan.faults
                .iter()
                .filter(|fault| fault.effect.is_certificate() == certificate)
                .map(|fault| Striker::new(fault.clone()))
                .collect()
        };
        Site {
            name: plan.name.clone(),
            version: plan.fhir_version,
            method: plan.method(),
            started,
            store: Arc::new(Mutex::new(Store::new(records, started))),
            bulk,
            statements: Mutex::default(),
            surroundings,
            persona: plan.persona,
            own_headers: own_headers(plan),
            base_path: plan.base_path(),
            base,
            sign_in,
            protect_metadata: plan.protect_metadata
                || plan.persona.is_some_and(|persona| persona.protect_metadata),
            faults: strikers(false),
            certificate_faults: strikers(true),
            certificates,
            since: Instant::now(),
            log: Mutex::default(),
        }
    }

    /// What came in so far, oldest first.
    pub(super) fn requests(&self) -> Vec<RequestSeen> {
        locked(&self.log).iter().cloned().collect()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.surroundings.clock.now()
    }

    pub(super) fn clock(&self) -> Clock {
        self.surroundings.clock
    }

    /// The base URL under which a request came, so that links lead back the same way.
    pub(super) fn base_for(&self, request: &Request) -> String {
        let plausible =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        let scheme = if self.certificates.is_empty() { "http" } else { "https" };
        match &request.authority {
            Some(host) if host.len() <= 255 && !host.is_empty() && host.chars().all(plausible) => {
                format!("{scheme}://{host}{}", self.base_path)
            }
            _ => self.base.clone(),
        }
    }

    fn answer(&self, request: &Request, struck: &Struck, credential: Credential) -> Answer {
        let query = pairs(request.query.as_deref().unwrap_or_default().as_bytes());
        let mut negotiated = Format::negotiate(&request.headers, &query);
        let json_alone = self.persona.is_some_and(|persona| !persona.xml);
        if json_alone && matches!(negotiated, Ok(Format::Xml)) {
            if !Format::takes_json(&request.headers, &query) {
                let reply = Reply::new(StatusCode::NOT_ACCEPTABLE, Content::Empty);
                let response = reply.finish(Format::Json, false, true);
                return self.labelled(request, Answer::Reply(response));
            }
            negotiated = Ok(Format::Json);
        }
        let format = negotiated.as_ref().copied().unwrap_or(Format::Json);
        let provider = || self.sign_in.as_ref()?.answer(request, self.now());
        let throttle = self.persona.and_then(|persona| persona.throttle.as_ref());
        let reply =
            match struck.instead.and_then(|it| instead(it, self.method, throttle, self.now())) {
                Some(Instead::Raw(answer)) => return self.labelled(request, answer),
                Some(Instead::Reply(reply)) => reply,
                None => {
                    if let Some(answer) = provider() {
                        return self.labelled(request, Answer::Reply(answer));
                    }
                    let route = self.route(request, &query);
                    if route == Route::Nowhere && self.answers_anything(&request.path) {
                        Reply::new(StatusCode::OK, Content::Text("text/html", PORTAL.into()))
                    } else if self.is_protected(&route) && credential != Credential::Right {
                        self.unauthorized(request, credential)
                    } else if let Some(kind) = self.forbidden(request, &route) {
                        let why = format!("the token's scopes do not permit {kind}");
                        Refusal::new(StatusCode::FORBIDDEN, "forbidden", why).into()
                    } else {
                        match negotiated {
                            // Health is no FHIR and has one format alone; so have files.
                            Err(refusal) if !matches!(route, Route::Health | Route::Bulk(_)) => {
                                refusal.into()
                            }
                            _ => routes::answer(self, request, &route, &query, format, struck)
                                .unwrap_or_else(Reply::from),
                        }
                    }
                }
            };
        let without_body = request.method == crate::serve::Method::HEAD;
        let mut response = reply.finish(format, accepts_gzip(&request.headers), without_body);
        for effect in &struck.changes {
            change(&mut response, effect);
        }
        self.labelled(request, Answer::Reply(response))
    }

    fn route(&self, request: &Request, query: &[(String, String)]) -> Route {
        let below = request.path.strip_prefix(self.base_path);
        let way = below.and_then(|below| self.bulk.way(request, below, query));
        way.map_or_else(|| Route::of(&request.path, self.base_path, self.persona), Route::Bulk)
    }

    fn is_protected(&self, route: &Route) -> bool {
        self.sign_in.is_some()
            && match route {
                Route::Health | Route::SmartConfiguration => false,
                Route::Metadata => self.protect_metadata,
                _ => true,
            }
    }

    /// The resource type that the token does not permit.
    fn forbidden(&self, request: &Request, route: &Route) -> Option<String> {
        let (Route::Type { name } | Route::SearchByPost { name } | Route::Instance { name, .. }) =
            route
        else {
            return None;
        };
        let sign_in = self.sign_in.as_ref()?;
        (!sign_in.permits(request, name, self.now())).then(|| name.clone())
    }

    /// The first of some resource types that the token does not permit.
    pub(super) fn not_permitted(
        &self,
        request: &Request,
        kinds: &[&'static str],
    ) -> Option<&'static str> {
        let sign_in = self.sign_in.as_ref()?;
        kinds.iter().copied().find(|kind| !sign_in.permits(request, kind, self.now()))
    }

    /// The answer to a token that is not taken, whatever it is.
    pub(super) fn token_refused(&self) -> Reply {
        let why = "the token is not taken any more: a trap of this sandbox";
        Reply::from(Refusal::new(StatusCode::UNAUTHORIZED, "expired", why))
            .with(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")
    }

    /// Whether a path outside of the base gets a page, and no 404.
    fn answers_anything(&self, path: &str) -> bool {
        self.persona.is_some_and(|persona| persona.soft_404) && !path.starts_with(self.base_path)
    }

    pub(super) fn smart_configuration(&self) -> Option<serde_json::Value> {
        let habit = self.persona.map(|persona| persona.smart_configuration).unwrap_or_default();
        let of_sign_in = self.sign_in.as_ref().and_then(SignIn::configuration);
        match habit {
            SmartConfiguration::BySignIn => of_sign_in,
            SmartConfiguration::Never => None,
            SmartConfiguration::Always => {
                of_sign_in.or_else(|| Some(json!({"capabilities": [], "scopes_supported": []})))
            }
        }
    }

    fn unauthorized(&self, request: &Request, credential: Credential) -> Reply {
        let signature =
            self.sign_in.as_ref().and_then(|it| it.signature_refused(request, self.now()));
        if let Some(refused) = signature {
            let body = Bytes::from(refused.to_string().into_bytes());
            let content = Content::Text("application/x-amz-json-1.0", body);
            return Reply::new(StatusCode::FORBIDDEN, content);
        }
        let refused = credential == Credential::Wrong;
        let refusal = match refused {
            true => ("security", "the credential is not the right one"),
            false => ("login", "this server asks for a credential"),
        };
        Reply::from(Refusal::new(StatusCode::UNAUTHORIZED, refusal.0, refusal.1))
            .with(header::WWW_AUTHENTICATE, &self.challenge(refused))
    }

    fn challenge(&self, refused: bool) -> String {
        let own = self.persona.and_then(|persona| persona.challenge.clone());
        own.unwrap_or_else(|| self.method.challenge(refused))
    }

    /// Puts the server's own headers on an answer.
    fn labelled(&self, request: &Request, answer: Answer) -> Answer {
        let Answer::Reply(mut response) = answer else { return answer };
        let headers = response.headers_mut();
        let name = HeaderName::from_static("x-request-id");
        let id = match text(&request.headers, &name) {
            Some(id) if !id.is_empty() && id.len() <= 128 => HeaderValue::from_str(id),
            _ => HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()),
        };
        if let Ok(id) = id {
            headers.insert(name, id);
        }
        if let Some(persona) = self.persona {
            for (name, value) in &self.own_headers {
                headers.entry(name).or_insert_with(|| value.clone());
            }
            let is_fhir = text(headers, &header::CONTENT_TYPE)
                .is_some_and(|kind| kind.starts_with("application/fhir+json"));
            let own = persona.content_type.as_deref().filter(|_| is_fhir);
            if let Some(Ok(own)) = own.map(HeaderValue::from_str) {
                headers.insert(header::CONTENT_TYPE, own);
            }
        }
        headers.insert(
            header::SERVER,
            HeaderValue::from_static(concat!("fhirctl-sandbox/", env!("CARGO_PKG_VERSION"))),
        );
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert_with(|| HeaderValue::from_static("no-store"));
        Answer::Reply(response)
    }

    fn remember(&self, seen: RequestSeen) {
        let mut log = locked(&self.log);
        if log.len() == LOG {
            log.pop_front();
        }
        log.push_back(seen);
    }
}

impl Handler for Site {
    async fn handle(&self, request: Request) -> Answer {
        let query = pairs(request.query.as_deref().unwrap_or_default().as_bytes());
        let credential = match &self.sign_in {
            Some(sign_in) => sign_in.judge(&request, &query, self.now()),
            None => Credential::Missing,
        };
        let below_base = request.path.strip_prefix(self.base_path).unwrap_or(&request.path);
        let paths = [request.path.as_str(), below_base];
        let age = self.since.elapsed();
        let struck =
            Struck::of(self.faults.iter().filter_map(|striker| striker.strike(&paths, age)));
        let answer = self.answer(&request, &struck, credential);
        let (answer, seen) =
            self.surroundings.told(&self.name, &request, &query, credential, answer);
        self.remember(seen);
        if !struck.latency.is_zero() {
            tokio::time::sleep(struck.latency).await;
        }
        answer
    }

    fn body_limit(&self) -> usize {
        self.bulk.body_limit()
    }

    fn tls(&self) -> Option<Arc<Tls>> {
        let age = self.since.elapsed();
        let struck =
            self.certificate_faults.iter().filter_map(|striker| striker.strike(&[], age)).next();
        let leaf = match struck {
            Some(Effect::CertificateExpired) => Leaf::Expired,
            Some(Effect::CertificateWrongHost) => Leaf::WrongHost,
            Some(Effect::CertificateSelfSigned) => Leaf::SelfSigned,
            _ => Leaf::Right,
        };
        self.certificates.get(&leaf).cloned()
    }
}

fn own_headers(plan: &ServerPlan) -> Vec<(HeaderName, HeaderValue)> {
    let fhir = format!("{}/{}", version_number(plan.fhir_version), plan.fhir_version);
    let headers = plan.persona.iter().flat_map(|persona| &persona.headers);
    headers
        .filter_map(|(name, value)| {
            let value = HeaderValue::from_str(&value.replace("{fhir}", &fhir)).ok()?;
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        })
        .collect()
}

/// The decoded pairs of a query or a form.
pub(super) fn pairs(encoded: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(encoded).into_owned().collect()
}

/// A lock whose holder never leaves its contents half-done.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The health answer of Spring Boot's actuator, which many servers share.
pub(super) fn health(down: bool) -> Reply {
    let body: &[u8] = if down { b"{\"status\":\"DOWN\"}" } else { b"{\"status\":\"UP\"}" };
    Reply::new(StatusCode::OK, Content::Text("application/json", Bytes::from_static(body)))
}

/// The health answer of a persona.
pub(super) fn health_of(own: &'static Health, down: bool) -> Reply {
    let (status, body) =
        if down { (own.down.status, &own.down.body) } else { (own.status, &own.body) };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let content = match body.is_empty() {
        true => Content::Empty,
        false => Content::Text(&own.content_type, Bytes::from_static(body.as_bytes())),
    };
    Reply::new(status, content)
}
