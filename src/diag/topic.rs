//! What a topic found.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::shell::Command;
use crate::http::Failure;
use crate::model::{Code, Party, Status, limits, text};

/// What can be looked at, in the order in which it can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TopicName {
    Dns,
    Tcp,
    Tls,
    Ping,
    Trace,
    Clock,
    Proxy,
    Redirects,
    Egress,
    Health,
    Auth,
    Smart,
    Capability,
    Query,
    Validate,
    Perf,
    Load,
    Resources,
    Bulk,
    Write,
}

/// What there is to know of a topic before it runs.
struct Row {
    word: &'static str,
    /// Whether it runs where no topic is named.
    is_default: bool,
    turn: Turn,
    about: &'static str,
}

impl TopicName {
    pub const ALL: &'static [TopicName] = &[
        TopicName::Dns,
        TopicName::Tcp,
        TopicName::Tls,
        TopicName::Ping,
        TopicName::Trace,
        TopicName::Clock,
        TopicName::Proxy,
        TopicName::Redirects,
        TopicName::Egress,
        TopicName::Health,
        TopicName::Auth,
        TopicName::Smart,
        TopicName::Capability,
        TopicName::Query,
        TopicName::Validate,
        TopicName::Perf,
        TopicName::Load,
        TopicName::Resources,
        TopicName::Bulk,
        TopicName::Write,
    ];

    fn row(self) -> Row {
        use Turn::{Alone, Talk, Wire};
        let always = |word, turn, about| Row { word, is_default: true, turn, about };
        let named = |word, turn, about| Row { word, is_default: false, turn, about };
        match self {
            TopicName::Dns => {
                always("dns", Wire, "every configured name server apart, and they together")
            }
            TopicName::Tcp => always("tcp", Wire, "every address apart, IPv4 and IPv6"),
            TopicName::Tls => always(
                "tls",
                Wire,
                "protocols and suites really offered, the chain as sent, the grade",
            ),
            TopicName::Ping => {
                always("ping", Wire, "whether each address is there, loss and jitter")
            }
            TopicName::Trace => named("trace", Wire, "the routers on the way, and where it ends"),
            TopicName::Clock => {
                always("clock", Talk, "our clock against the server's and the identity provider's")
            }
            TopicName::Proxy => {
                always("proxy", Talk, "what stands between us and the server, and what it changes")
            }
            TopicName::Redirects => always("redirects", Talk, "where the base URL leads"),
            TopicName::Egress => {
                always("egress", Wire, "the address that we leave by, and who expects it")
            }
            TopicName::Health => always("health", Wire, "every stage of a test"),
            TopicName::Auth => {
                always("auth", Talk, "the sign-in step by step, without what proves it")
            }
            TopicName::Smart => {
                always("smart", Talk, "what the server publishes about its sign-in")
            }
            TopicName::Capability => {
                always("capability", Talk, "what the server says it can do, and with --probe does")
            }
            TopicName::Query => always("query", Talk, "searches, pages, ignored parameters"),
            TopicName::Validate => {
                named("validate", Talk, "resources against the specification and profiles")
            }
            TopicName::Perf => {
                always("perf", Alone, "a short measured series: times by phase, reuse, compression")
            }
            TopicName::Load => {
                named("load", Alone, "many requests at once: rate, percentiles, errors, thresholds")
            }
            TopicName::Resources => always(
                "resources",
                Talk,
                "the server's own memory, threads, pools, disk by its metrics",
            ),
            TopicName::Bulk => {
                always("bulk", Talk, "exports that do not get on, and how old the data are")
            }
            TopicName::Write => named(
                "write",
                Alone,
                "create, change and delete a synthetic record; only with --yes",
            ),
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().word
    }

    /// What it looks at, in a few words.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.row().about
    }

    /// Whether it runs where no topic is named.
    #[must_use]
    pub fn is_default(self) -> bool {
        self.row().is_default
    }

    #[must_use]
    pub fn turn(self) -> Turn {
        self.row().turn
    }
}

/// When a topic runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// At once, whatever state the server is in.
    Wire,
    /// Once the server can be talked to.
    Talk,
    /// After all others and alone: it measures, or changes something.
    Alone,
}

impl std::str::FromStr for TopicName {
    type Err = String;

    fn from_str(word: &str) -> Result<TopicName, String> {
        TopicName::ALL.iter().copied().find(|topic| topic.as_str() == word).ok_or_else(|| {
            let known: Vec<_> = TopicName::ALL.iter().map(|topic| topic.as_str()).collect();
            let nearest = text::nearest(word, known.iter().copied());
            match nearest {
                Some(nearest) => format!("no such topic; did you mean {nearest}?"),
                None => format!("no such topic; known are {}", known.join(", ")),
            }
        })
    }
}

/// Where something broke, from the wire up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    Dns,
    Tcp,
    Tls,
    /// What stands between us and the server.
    Proxy,
    Http,
    /// Our clock against theirs.
    Clock,
    /// The sign-in.
    Auth,
    Fhir,
    /// The server's own memory, threads, disk and speed.
    Server,
    /// Bulk data and its storage.
    Bulk,
}

impl Layer {
    /// The layer that a reason code speaks of.
    #[must_use]
    pub fn of(code: Code) -> Layer {
        let name = code.as_str();
        match (name.split_once('.').map_or(name, |(family, _)| family), name) {
            (_, "auth.clock_skew") => Layer::Clock,
            (_, "http.rate_limited") | ("perf" | "health" | "rate" | "server", _) => Layer::Server,
            ("dns", _) => Layer::Dns,
            ("tcp", _) => Layer::Tcp,
            ("tls", _) => Layer::Tls,
            ("network", _) => Layer::Proxy,
            ("http", _) => Layer::Http,
            ("auth" | "smart", _) => Layer::Auth,
            ("bulk", _) => Layer::Bulk,
            _ => Layer::Fhir,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Dns => "dns",
            Layer::Tcp => "tcp",
            Layer::Tls => "tls",
            Layer::Proxy => "proxy",
            Layer::Http => "http",
            Layer::Clock => "clock",
            Layer::Auth => "auth",
            Layer::Fhir => "fhir",
            Layer::Server => "server",
            Layer::Bulk => "bulk",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Problem {
    pub code: Code,
    pub status: Status,
    pub layer: Layer,
    /// Who has to act.
    pub party: Party,
    /// Our words only.
    pub message: String,
    /// What that party, or we, should do next.
    pub next_step: Option<String>,
    /// The server's own words, bounded.
    pub server_text: Option<String>,
    /// The reason of an `accept` entry of the inventory that covers the code: then it does not count.
    pub accepted: Option<String>,
}

impl Problem {
    /// A problem with its code's own status, party and remedy.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Problem {
        Problem {
            code,
            status: code.status(),
            layer: Layer::of(code),
            party: code.party(),
            message: message.into(),
            next_step: code.hint().map(str::to_owned),
            server_text: None,
            accepted: None,
        }
    }

    #[must_use]
    pub fn at(mut self, status: Status) -> Problem {
        self.status = status;
        self
    }

    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Problem {
        self.layer = layer;
        self
    }

    #[must_use]
    pub fn by(mut self, party: Party) -> Problem {
        self.party = party;
        self
    }

    #[must_use]
    pub fn next_step(mut self, step: impl Into<String>) -> Problem {
        self.next_step = Some(step.into());
        self
    }

    /// Keeps the server's own words, bounded and made visible.
    #[must_use]
    pub fn server_text(mut self, words: Option<String>) -> Problem {
        self.server_text = words
            .map(|words| text::bounded(&text::one_line(&words), limits::SERVER_TEXT_CHARS))
            .filter(|words| !words.is_empty());
        self
    }

    #[must_use]
    pub fn counts(&self) -> bool {
        self.accepted.is_none() && self.status != Status::Healthy
    }
}

impl From<&Failure> for Problem {
    fn from(failure: &Failure) -> Problem {
        let mut problem = Problem::new(failure.code, failure.message.clone());
        if let Some(hint) = &failure.hint {
            problem.next_step = Some(hint.clone());
        }
        problem.server_text(failure.server_text.clone())
    }
}

/// What a person is shown of what was found.
#[derive(Clone, Debug)]
pub enum Evidence {
    Fact { name: String, value: String },
    Table { title: String, head: Vec<String>, rows: Vec<Vec<String>> },
    Note(String),
}

/// What came of looking at one thing.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Topic {
    pub name: TopicName,
    /// The worst of the problems that count.
    pub status: Status,
    /// Of the worst problem; `check.skipped` or `check.not_applicable` where nothing was looked at.
    pub code: Option<Code>,
    pub layer: Option<Layer>,
    pub party: Option<Party>,
    /// One sentence.
    pub message: String,
    pub next_step: Option<String>,
    pub duration_ms: f64,
    pub problems: Vec<Problem>,
    /// What was found, in the topic's own shape; `null` where it never ran.
    pub details: Value,
    /// Commands that do the same by hand; secrets stand in variables.
    pub commands: Vec<String>,
    /// The same for people.
    #[serde(skip)]
    pub evidence: Vec<Evidence>,
    /// What the verdict has to say beside that nothing is wrong.
    #[serde(skip)]
    pub remark: Option<String>,
}

impl Topic {
    /// A topic that has found nothing yet.
    #[must_use]
    pub fn new(name: TopicName) -> Topic {
        Topic {
            name,
            status: Status::Healthy,
            code: None,
            layer: None,
            party: None,
            message: String::new(),
            next_step: None,
            duration_ms: 0.0,
            problems: Vec::new(),
            details: Value::Null,
            commands: Vec::new(),
            evidence: Vec::new(),
            remark: None,
        }
    }

    /// A topic that was not looked at, and why.
    #[must_use]
    pub fn left_out(name: TopicName, code: Code, why: impl Into<String>) -> Topic {
        Topic { status: code.status(), code: Some(code), message: why.into(), ..Topic::new(name) }
    }

    /// What is said when nothing is wrong.
    #[must_use]
    pub fn good(mut self, message: impl Into<String>) -> Topic {
        self.message = message.into();
        self
    }

    pub fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub fn fact(&mut self, name: &str, value: impl Into<String>) {
        self.evidence.push(Evidence::Fact { name: name.to_owned(), value: value.into() });
    }

    pub fn note(&mut self, text: impl Into<String>) {
        self.evidence.push(Evidence::Note(text.into()));
    }

    pub fn table(&mut self, title: &str, head: &[&str], rows: Vec<Vec<String>>) {
        if !rows.is_empty() {
            let head = head.iter().map(|&name| name.to_owned()).collect();
            self.evidence.push(Evidence::Table { title: title.to_owned(), head, rows });
        }
    }

    /// Keeps what was found for programs.
    pub fn details(&mut self, details: &impl Serialize) {
        // A value that is no JSON would be a fault of this program; the rest is still worth showing.
        self.details = serde_json::to_value(details).unwrap_or_default();
    }

    pub fn commands(&mut self, commands: &[Command]) {
        self.commands = commands.iter().map(ToString::to_string).collect();
    }

    /// Whether it was looked at.
    #[must_use]
    pub fn has_run(&self) -> bool {
        !self.code.is_some_and(Code::is_left_out)
    }

    /// Lets the worst problem that counts speak for the topic.
    pub(super) fn conclude(&mut self, duration_ms: f64) {
        self.duration_ms = (duration_ms * 1000.0).round() / 1000.0;
        // Of equals the first one speaks, and before it the one that stands lowest.
        let worst = self
            .problems
            .iter()
            .filter(|problem| problem.counts())
            .min_by_key(|problem| (std::cmp::Reverse(problem.status.rank()), problem.layer));
        let Some(worst) = worst else { return };
        self.status = worst.status;
        self.code = Some(worst.code);
        self.layer = Some(worst.layer);
        self.party = Some(worst.party);
        self.message.clone_from(&worst.message);
        self.next_step.clone_from(&worst.next_step);
    }
}
