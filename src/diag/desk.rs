//! What the topics of one diagnosis share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderName, HeaderValue};
use tokio::sync::OnceCell;
use url::Url;

use super::prefer::{self, PreferSeen};
use super::validate::ValidateOptions;
use super::wire::{self, Sight};
use crate::auth::Surroundings;
use crate::auth::caller::{Ask, Caller};
use crate::fhir::drift::BaselineFile;
use crate::http::{Client, Exchange, Failure, Stage};
use crate::model::server::{Format, Server};
use crate::model::{Code, ServerReport, limits};
use crate::net::tls::grade::Grade;
use crate::probe;

/// What all default topics together need of a server that is slow and answers.
const LIMIT: Duration = Duration::from_secs(60);

/// What topics may be told from outside.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether what changes something, or loads a server in production, was agreed to.
    pub yes: bool,
    /// The program's state folder, where ledgers are.
    pub state: Option<PathBuf>,
    /// Whether to try what has to be refused.
    pub negative: bool,
    /// How much load, where load is asked for.
    pub load: super::LoadOptions,
    /// Whether what is declared is tried, with many small requests.
    pub probe: bool,
    /// What servers offered once.
    pub baseline: Option<Arc<BaselineFile>>,
    pub validate: ValidateOptions,
    /// The grade that the server's TLS has to reach.
    pub minimum_grade: Option<Grade>,
    /// How long all topics together may take, apart from what measures for a time that was asked for;
    /// `None`: the server's own deadline, and never less than all of them need.
    pub limit: Option<Duration>,
    /// The way to end it early.
    pub stop: Arc<super::Stop>,
}

/// One server on the table: its settings, connections, and what was already asked.
pub struct Desk {
    pub server: Server,
    pub surroundings: Surroundings,
    pub options: Options,
    /// The instant by which topics that do not measure have to be done.
    pub deadline: Instant,
    pub(super) begun: Instant,
    line: OnceCell<Result<Line, Failure>>,
    report: OnceCell<ServerReport>,
    statement: OnceCell<Result<Arc<Exchange>, Failure>>,
    prefer: OnceCell<PreferSeen>,
    sight: OnceCell<Sight>,
}

/// A signed way to the server, and the connections that topics share.
struct Line {
    caller: Arc<Caller>,
    client: Arc<Client>,
}

impl Desk {
    #[must_use]
    pub fn new(server: &Server, surroundings: &Surroundings, options: Options) -> Desk {
        let begun = Instant::now();
        let limit = options.limit.unwrap_or_else(|| server.deadline.max(LIMIT));
        Desk {
            server: server.clone(),
            surroundings: surroundings.clone(),
            options,
            deadline: begun + limit,
            begun,
            line: OnceCell::new(),
            report: OnceCell::new(),
            statement: OnceCell::new(),
            prefer: OnceCell::new(),
            sight: OnceCell::new(),
        }
    }

    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The host and the port that are connected to.
    #[must_use]
    pub fn target(&self) -> (String, u16) {
        let url = self.server.url.url();
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        (host, url.port_or_known_default().unwrap_or(443))
    }

    /// What is connected to first, the server or its proxy, and its addresses; looked up once.
    pub(super) async fn sight(&self) -> &Sight {
        self.sight.get_or_init(|| wire::sight(self)).await
    }

    /// An address below the base URL; `path` may carry a query.
    ///
    /// # Errors
    /// When the two make no address.
    pub fn url(&self, path: &str) -> Result<Url, Failure> {
        let base = self.server.url.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}/{path}")).map_err(|error| {
            Failure::new(
                Stage::Setup,
                Code::new("http.status"),
                format!("{path} is no path below the base URL: {error}"),
            )
        })
    }

    /// The media type that is asked for.
    #[must_use]
    pub fn accept(&self) -> &'static str {
        match self.server.format {
            Format::Json => "application/fhir+json",
            Format::Xml => "application/fhir+xml",
        }
    }

    async fn line(&self) -> Result<&Line, Failure> {
        let open = || async {
            let caller = Caller::new(&self.server, &self.surroundings).await?;
            let client = caller.client()?;
            Ok(Line { caller: Arc::new(caller), client })
        };
        self.line.get_or_init(open).await.as_ref().map_err(Clone::clone)
    }

    /// Who sends signed requests.
    ///
    /// # Errors
    /// When a secret that every connection needs cannot be had.
    pub async fn caller(&self) -> Result<Arc<Caller>, Failure> {
        Ok(Arc::clone(&self.line().await?.caller))
    }

    /// The connections that topics share.
    ///
    /// # Errors
    /// As [`Desk::caller`], and when the settings make no client.
    pub async fn client(&self) -> Result<Arc<Client>, Failure> {
        Ok(Arc::clone(&self.line().await?.client))
    }

    /// Asks the server, signed where it has a sign-in, and reads the whole answer.
    ///
    /// # Errors
    /// When no complete answer of a bounded size came.
    pub async fn get(
        &self,
        url: &Url,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Exchange, Failure> {
        self.ask(&Ask { headers, ..Ask::get(url, self.accept()) }).await
    }

    /// Asks the server without proving who asks.
    ///
    /// # Errors
    /// As [`Desk::get`].
    pub async fn get_open(
        &self,
        url: &Url,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Exchange, Failure> {
        self.ask(&Ask { headers, signed: false, ..Ask::get(url, self.accept()) }).await
    }

    /// Asks as it is worded, and reads the whole answer.
    ///
    /// # Errors
    /// As [`Desk::get`].
    pub async fn ask(&self, ask: &Ask<'_>) -> Result<Exchange, Failure> {
        let line = self.line().await?;
        line.caller.fetch(&line.client, ask, limits::BODY_BYTES).await
    }

    /// What `test` says of the server: every stage, once.
    pub async fn report(&self) -> &ServerReport {
        let test = || async {
            let options = probe::Options { every_stage: true, ..probe::Options::default() };
            probe::check_one(&self.server, &self.surroundings, &options).await.report
        };
        self.report.get_or_init(test).await
    }

    /// The answer to `/metadata`, asked for once; open first, as the specification expects it.
    ///
    /// # Errors
    /// As [`Desk::get`].
    pub async fn statement(&self) -> Result<Arc<Exchange>, Failure> {
        let fetch = || async {
            let url = self.url("metadata")?;
            if !self.server.metadata_needs_auth {
                let open = self.get_open(&url, &[]).await?;
                if !matches!(open.status(), 401 | 403) {
                    return Ok(Arc::new(open));
                }
            }
            Ok(Arc::new(self.get(&url, &[]).await?))
        };
        self.statement.get_or_init(fetch).await.clone()
    }

    /// The statement where it was asked for already.
    pub(super) fn known_statement(&self) -> Option<&Exchange> {
        self.statement.get()?.as_ref().ok().map(AsRef::as_ref)
    }

    /// What becomes of `Prefer: handling=strict`, asked once, of a type that can be searched.
    pub async fn prefer(&self, kind: &str) -> &PreferSeen {
        self.prefer.get_or_init(|| prefer::ask(self, kind)).await
    }
}
