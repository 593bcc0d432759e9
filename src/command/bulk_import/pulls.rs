//! Imports that the server does by itself: which way, from where, and what came of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use ipnet::IpNet;
use url::Url;

use super::{BulkImportArgs, Family, Job};
use crate::auth::caller::{Ask, Caller};
use crate::bulk::halt::Halt;
use crate::bulk::import::completion::Row;
use crate::bulk::import::family::{self, Circumstances, Declared, Remote, Told, Way};
use crate::bulk::import::ledger::Ledger;
use crate::bulk::import::offer::{self, Offer, Terms};
use crate::bulk::import::plan::{self, Plan};
use crate::bulk::import::pull::{self, Pull};
use crate::bulk::import::report::Summary;
use crate::bulk::import::source::Input;
use crate::bulk::job::KickOff;
use crate::bulk::wait::Pace;
use crate::context::parse_duration;
use crate::fhir::{body, capability};
use crate::model::{Error, Result, Server, limits};

/// How a server fetches by itself.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Where the server fetches the files")]
pub struct PullArgs {
    /// Serve local files to the server at this address, such as 10.0.0.5:8443, while its job runs
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub serve: Option<SocketAddr>,

    /// A network that may fetch the served files [default: loopback only]
    #[arg(long, value_name = "CIDR", requires = "serve")]
    pub serve_allow: Vec<IpNet>,

    /// PEM file with the certificate chain of the address
    #[arg(long, value_name = "FILE", requires = "serve_key")]
    pub serve_cert: Option<PathBuf>,

    /// PEM file with its private key
    #[arg(long, value_name = "FILE", requires = "serve_cert")]
    pub serve_key: Option<PathBuf>,

    /// The address as the server sees it, such as https://files.example:8443
    #[arg(long, value_name = "URL", requires = "serve")]
    pub serve_url: Option<Url>,

    /// Where the data is from, for the server's records [default: the address it is fetched from]
    #[arg(long, value_name = "URI")]
    pub input_source: Option<String>,

    /// Microsoft's mode, such as InitialLoad [default: IncrementalLoad]
    #[arg(long, value_name = "MODE")]
    pub import_mode: Option<String>,

    /// How long the server's job is waited for; it goes on by itself
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub max_wait: Option<Duration>,

    /// Look at the job no more often than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub poll_floor: Option<Duration>,

    /// Look at the job no less often than this, whatever the server says
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub poll_ceiling: Option<Duration>,
}

/// Whether something is an address and no file.
pub(super) fn is_url(source: &str) -> bool {
    source.contains("://")
}

/// Chooses the way in, with the reason.
///
/// # Errors
/// Exit 64 where it has to be said.
pub(super) async fn choose(
    args: &BulkImportArgs,
    server: &Server,
    caller: &Caller,
) -> Result<(Way, String)> {
    let wanted = match args.family {
        Family::Auto => None,
        Family::Bundle => Some(Way::Bundles),
        Family::Parameters => Some(Way::Pull(family::Family::Parameters)),
        Family::Manifest => Some(Way::Pull(family::Family::Manifest)),
        Family::Hapi => Some(Way::Pull(family::Family::Hapi)),
        Family::Microsoft => Some(Way::Pull(family::Family::Microsoft)),
        Family::Submit => Some(Way::Pull(family::Family::Submit)),
    };
    let are_urls = args.sources.iter().any(|it| is_url(it));
    let serves = args.pull.serve.is_some();
    let declared = match wanted.is_none() && (are_urls || serves) {
        true => declared(server, caller).await?,
        false => None,
    };
    let vendor = server.vendor.as_deref();
    family::choose(Circumstances { wanted, vendor, declared: declared.as_ref(), are_urls, serves })
}

/// What the server declares; `None` when it has no statement that can be read.
async fn declared(server: &Server, caller: &Caller) -> Result<Option<Declared>> {
    let url = server.url.join("metadata").map_err(|_| Error::usage("no URL for metadata"))?;
    let client = caller.client().map_err(|failure| Error::from(Halt::of(failure, false)))?;
    client.admit(&url).await;
    let ask = Ask { signed: server.metadata_needs_auth, ..Ask::get(&url, "application/fhir+json") };
    let answer = caller.ask(&client, &ask).await;
    let answer = answer.map_err(|failure| Error::from(Halt::of(failure, false)))?;
    if answer.status().as_u16() != 200 {
        return Ok(None);
    }
    let content_type = answer.header("content-type");
    let deadline = Instant::now() + server.timeouts.total;
    let Ok(bytes) = answer.whole(limits::BODY_BYTES, deadline).await else { return Ok(None) };
    let kind = body::sniff(content_type.as_deref(), &bytes);
    Ok(capability::parse(kind, &bytes).ok().map(|it| Declared::of(&it)))
}

/// What the server is to fetch.
pub(super) struct Fetched {
    pub(super) files: Vec<Remote>,
    manifest: Option<Url>,
    source: String,
    read: BTreeMap<String, u64>,
    /// Kept until the job is over.
    offer: Option<Offer>,
}

impl Job<'_> {
    /// The addresses that were named, or those at which local files are served now. `plan`: of
    /// local files.
    ///
    /// # Errors
    /// Exit 64 when they do not fit the family, 73 when the address cannot be had.
    pub(super) fn fetched(&self, family: family::Family, plan: Option<&Plan>) -> Result<Fetched> {
        let args = &self.args.pull;
        let Some(plan) = plan else {
            let files = pull::remotes(&self.args.sources)?;
            let manifest = match (family.wants_manifest(), files.as_slice()) {
                (true, [one]) => Some(one.url.clone()),
                (true, _) => {
                    return Err(Error::usage(format!(
                        "--family {} takes the address of one manifest",
                        family.as_str()
                    )));
                }
                (false, _) => None,
            };
            if let Some(file) =
                files.iter().find(|it| !family.wants_manifest() && it.resource_type.is_empty())
            {
                return Err(Error::usage(format!(
                    "{} does not tell its resource type",
                    family::shown(file.url.as_str())
                ))
                .hint("write it before the address: Patient=https://…"));
            }
            let source = args.input_source.clone().unwrap_or_else(|| {
                files.first().map_or_else(String::new, |it| it.url.origin().ascii_serialization())
            });
            let files = if family.wants_manifest() { Vec::new() } else { files };
            return Ok(Fetched { files, manifest, source, read: BTreeMap::new(), offer: None });
        };
        let address = args.serve.ok_or_else(|| Error::internal("nothing is served"))?;
        let mut served: Vec<(String, Input)> = Vec::new();
        for (input, types) in self.inputs.iter().zip(&plan.types) {
            let mut types = types.iter();
            match (types.next(), types.next()) {
                (Some(one), None) => served.push((one.clone(), input.clone())),
                (None, _) => {}
                _ => {
                    return Err(Error::usage(format!("{} holds several types", input.shown)).hint(
                        "an import wants files of one type each; --family bundle takes any",
                    ));
                }
            }
        }
        let certificate = match (&args.serve_cert, &args.serve_key) {
            (Some(chain), Some(key)) => Some((read_file(chain)?, read_file(key)?)),
            _ => None,
        };
        let terms = Terms {
            address,
            public: args.serve_url.clone(),
            allow: args.serve_allow.clone(),
            certificate,
        };
        let offer = offer::start(terms, &served, self.context.clock.now())?;
        Ok(Fetched {
            files: offer.files.clone(),
            manifest: Some(offer.manifest.clone()),
            source: args.input_source.clone().unwrap_or_else(|| offer.source.clone()),
            read: plan.read.clone(),
            offer: Some(offer),
        })
    }

    fn told<'t>(&'t self, fetched: &'t Fetched) -> Told<'t> {
        Told {
            files: &fetched.files,
            manifest: fetched.manifest.as_ref(),
            source: &fetched.source,
            id: &self.id,
            mode: self.args.pull.import_mode.as_deref(),
        }
    }

    /// The request that would begin it.
    ///
    /// # Errors
    /// Exit 64 where something is missing.
    pub(super) fn kick_off(&self, family: family::Family, fetched: &Fetched) -> Result<KickOff> {
        family::kick_off(family, &self.server.url, &self.told(fetched))
    }

    /// Lets the server import and waits for it.
    ///
    /// # Errors
    /// Why it stopped; the job may go on.
    pub(super) async fn pull(
        &self,
        family: family::Family,
        caller: &Arc<Caller>,
        ledger: &mut Ledger,
    ) -> Result<(Summary, Vec<Row>, bool)> {
        let plan = if self.inputs.is_empty() { None } else { Some(self.look().await?.0) };
        let fetched = self.fetched(family, plan.as_ref())?;
        let args = &self.args.pull;
        let mut pace = Pace::default();
        pace.ceiling = args.poll_ceiling.unwrap_or(pace.ceiling);
        pace.floor = args.poll_floor.unwrap_or(pace.floor.min(pace.ceiling));
        let told = std::sync::Mutex::new(Instant::now());
        let name = &self.server.name;
        let shows = self.context.shows_progress();
        let _progress = self.context.progress(&format!("{name} imports by itself"), 0);
        let tell = |words: &str| {
            let Ok(mut told) = told.lock() else { return };
            if !shows && told.elapsed() >= super::TELL_EVERY {
                *told = Instant::now();
                self.context.notice(&format!("{name} imports: {words}"));
            }
        };
        let pull = Pull {
            caller,
            family,
            told: self.told(&fetched),
            read: fetched.read.clone(),
            pace,
            max_wait: args.max_wait,
            uncertain: self.settings.uncertain,
            progress: &tell,
        };
        let done = pull.run(ledger).await;
        if let (Some(offer), Ok((_, _, false))) = (&fetched.offer, &done)
            && offer.fetched() == 0
        {
            self.context.notice("note: the server fetched nothing from the address of --serve");
        }
        done.map_err(Error::from)
    }

    /// Reads local files once.
    pub(super) async fn look(&self) -> Result<(Plan, u64)> {
        let (inputs, settings) = (Arc::clone(&self.inputs), self.settings);
        let looked = tokio::task::spawn_blocking(move || {
            let mut unfit = 0;
            let keeps_ids = !settings.assigns_ids;
            let plan = plan::look(&inputs, settings.limits.max_line, keeps_ids, &mut |_| {
                unfit += 1;
                Ok(())
            })?;
            Ok::<_, Error>((plan, unfit))
        });
        looked.await.map_err(|error| Error::internal(error.to_string()))?
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::io("read", path, &error))
}
