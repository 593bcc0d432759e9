//! `query NAME PATH`: one authenticated FHIR request, or all the pages of a search as NDJSON.

mod input;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::check::exact;
use super::confirm;
use crate::context::{Context, Outcome};
use crate::fhir::bundle::ignored_parameters;
use crate::http::Exchange;
use crate::model::server::{Format, Server};
use crate::model::{Error, Exit, Result};
use crate::probe;
use crate::query::{Asker, Method, Pages, Question, Wanted, judge, shape};
use crate::view::query::CountDocument;

/// How long an expression may take over one resource.
const FHIRPATH: Duration = Duration::from_secs(10);

/// Send one authenticated FHIR request, or fetch all pages of a search as NDJSON
///
/// Prints the answer's body. A search whose parameters identify a person goes as POST _search, so
/// that no value stands in an address, where the server offers it. Ends with 0 for success, 66 when
/// there is nothing at the path, 77 when the credential is refused or not permitted, 65 when the
/// answer is not FHIR, 75 when the server asks to come again later, 69 for all else. --timeout bounds
/// the whole of each request, with --all that of each page.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// The server's name in the inventory
    #[arg(value_name = "NAME", add = super::complete::servers())]
    pub name: String,

    /// Below the base URL, such as Patient/1, Observation?code=1234-5 or metadata
    #[arg(value_name = "PATH")]
    pub path: String,

    /// Follow next to the last page and print every resource on a line of its own
    #[arg(long, conflicts_with_all = ["count", "raw", "include", "method"])]
    pub all: bool,

    /// Print only how many there are
    #[arg(long, conflicts_with_all = ["raw", "include", "method", "fhirpath"])]
    pub count: bool,

    /// Search by POST _search, whatever the parameters are
    #[arg(long, conflicts_with = "method")]
    pub post: bool,

    /// Print the status line and the header before the body
    #[arg(long)]
    pub include: bool,

    /// Print the body as it came
    #[arg(long)]
    pub raw: bool,

    /// Evaluate a FHIRPath expression over the resource, or with --all over each, and print every
    /// result as JSON on a line of its own
    #[arg(long, value_name = "EXPRESSION", conflicts_with_all = ["raw", "include"])]
    pub fhirpath: Option<String>,

    /// What is done; all but get and head change the server, which has to be confirmed
    #[arg(long, value_name = "METHOD", ignore_case = true)]
    pub method: Option<MethodName>,

    /// A search parameter; a value of @FILE is read from a file, of @- from standard input; may be
    /// given several times
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = input::parameter)]
    pub parameters: Vec<input::Parameter>,

    /// What is sent with put, post and patch; - is standard input
    #[arg(long, value_name = "FILE", requires = "method")]
    pub data: Option<PathBuf>,

    /// A header, such as "If-Match: W/\"3\""; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = input::header)]
    pub headers: Vec<input::Header>,

    /// The format to ask for [default: the server's]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<FormatName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MethodName {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    Json,
    Xml,
}

/// # Errors
/// When the inventory knows no such server, the path leads elsewhere, or the answer is an error:
/// its body is printed all the same.
pub async fn run(args: &QueryArgs, context: &Context) -> Result<Outcome> {
    context.options.output.among(crate::render::Format::COMMON)?;
    let inventory = context.load_inventory()?;
    let server = exact(&inventory, &args.name)?;
    let question = question(args, server)?;
    if !question.method.is_safe() {
        let what = format!(
            "{} {} on {}?",
            question.method.http(),
            shape(&server.url, &question.url),
            server.name
        );
        confirm(context, &what)?;
    }
    let surroundings = context.surroundings(&inventory);
    let mut sent = question.clone();
    let done = answer(args, context, server, question.clone(), &surroundings, &mut sent).await;
    // Who asked for what is on record, by types and names alone, and as it was sent.
    let mut target = format!("{} {}", sent.method.http(), shape(&server.url, &sent.url));
    let asked = shape(&server.url, &question.url);
    if let (Method::Search, Some((_, names))) = (sent.method, asked.split_once('?')) {
        // They stand in the body.
        target = format!("{target}?{names}");
    }
    if question.method.is_safe() {
        context.audit().read(Some(&server.name), &target, &done);
    } else {
        context.audit().outcome(Some(&server.name), &target, &done);
    }
    done.map_err(|mut error| {
        for hint in error.hints.iter_mut().filter(|hint| hint.starts_with("fhirctl ")) {
            *hint = hint.replacen(" NAME", &format!(" {}", server.name), 1);
        }
        error
    })
}

fn question(args: &QueryArgs, server: &Server) -> Result<Question> {
    let format = match args.format {
        Some(FormatName::Json) => Format::Json,
        Some(FormatName::Xml) => Format::Xml,
        // Pages are taken apart as JSON.
        None if args.all || args.count || args.fhirpath.is_some() => Format::Json,
        None => server.format,
    };
    let needs_json = args.all || args.count || args.fhirpath.is_some();
    if needs_json && format == Format::Xml {
        return Err(Error::usage("--all, --count and --fhirpath read JSON")
            .hint("leave --format away; the server is then asked for JSON"));
    }
    let parameters = input::read(&args.parameters)?;
    let mut question = Question::new(&server.url, &args.path, &parameters, format)?;
    question.more_headers = args.headers.iter().map(|header| header.0.clone()).collect();
    question.method = match args.method {
        None | Some(MethodName::Get) => Method::Get,
        Some(MethodName::Head) => Method::Head,
        Some(MethodName::Post) => Method::Post,
        Some(MethodName::Put) => Method::Put,
        Some(MethodName::Patch) => Method::Patch,
        Some(MethodName::Delete) => Method::Delete,
    };
    let takes_data = matches!(question.method, Method::Post | Method::Put | Method::Patch);
    match (&args.data, takes_data) {
        (Some(_), false) => {
            return Err(Error::usage("--data goes with --method put, post or patch"));
        }
        (Some(path), true) => {
            let body = input::body(path)?;
            question.content_type = input::content_type(&body, question.method);
            question.body = Some(body);
        }
        (None, true) if question.method != Method::Post => {
            return Err(Error::usage(format!(
                "--method {} sends what --data names, and there is none",
                question.method.http().as_str().to_ascii_lowercase()
            ))
            .hint("--data FILE, or --data - for standard input"));
        }
        (None, _) => {}
    }
    Ok(question)
}

async fn answer(
    args: &QueryArgs,
    context: &Context,
    server: &Server,
    question: Question,
    surroundings: &crate::auth::Surroundings,
    sent: &mut Question,
) -> Result<Outcome> {
    let asker = Asker::new(server, surroundings).await?.within(context.options.timeout);
    let by_itself = args.method.is_none() && question.identifies_a_person();
    if args.count {
        return count(args, &asker, context, question, args.post || by_itself, sent).await;
    }
    let question = if args.post || by_itself {
        let search = question
            .as_search()
            .ok_or_else(|| Error::usage("--post is for searches, such as Patient?family=…"));
        match search {
            Ok(search) => search,
            Err(error) if args.post => return Err(error),
            Err(_) => question.clone(),
        }
    } else {
        question
    };
    if args.all {
        sent.clone_from(&question);
        return all(args, context, &asker, question, by_itself && !args.post, sent).await;
    }
    sent.clone_from(&question);
    let (exchange, question) = offered(&asker, context, question, by_itself && !args.post).await?;
    sent.clone_from(&question);
    let judged = judge(&exchange, wanted(&question));
    let result = match (&args.fhirpath, &judged.trouble) {
        (Some(expression), None) => Some(yielded(expression, &exchange.body).await?),
        _ => None,
    };
    show::answer(args, context, server, &question, &exchange, &judged, result)?;
    match judged.trouble {
        Some(trouble) => Err(trouble),
        None => Ok(Outcome::default()),
    }
}

/// What has to be in the answer to a question.
fn wanted(question: &Question) -> Wanted {
    let path = question.url.path();
    if path.contains("/.well-known/") || path.ends_with("/$graphql") {
        Wanted::Json
    } else if matches!(question.method, Method::Get | Method::Search) {
        Wanted::Resource
    } else {
        Wanted::AnyOrNothing
    }
}

/// Sends a question; a search by `POST` that nobody asked for becomes a `GET` where the server does
/// not offer it.
async fn offered(
    asker: &Asker,
    context: &Context,
    question: Question,
    may_fall_back: bool,
) -> Result<(Exchange, Question)> {
    let exchange = asker.ask(&question).await?;
    let is_refused = matches!(exchange.status(), 404 | 405 | 415 | 501);
    if !(may_fall_back && is_refused && question.method == Method::Search) {
        return Ok((exchange, question));
    }
    context.notice(
        "note: the server offers no POST _search; the values go in the address, which it may log",
    );
    let plain = question.as_get();
    Ok((asker.ask(&plain).await?, plain))
}

async fn all(
    args: &QueryArgs,
    context: &Context,
    asker: &Asker,
    question: Question,
    may_fall_back: bool,
    sent: &mut Question,
) -> Result<Outcome> {
    let question = if may_fall_back && question.method == Method::Search {
        // A first look tells whether the way is offered; its page is read again with the others.
        offered_way(asker, context, question).await?
    } else {
        question
    };
    sent.clone_from(&question);
    let progress = context.progress(&format!("reading from {}", asker.server().name), 0);
    let mut pages = Pages::new(asker, question);
    let mut printed: u64 = 0;
    let outcome = loop {
        match pages.next().await {
            Ok(Some(page)) => {
                for remark in &page.remarks {
                    context.notice(&format!("the server remarks: {remark}"));
                }
                let mut out = Vec::new();
                for line in &page.lines {
                    match &args.fhirpath {
                        Some(expression) => {
                            for value in yielded(expression, line).await? {
                                out.extend_from_slice(value.to_string().as_bytes());
                                out.push(b'\n');
                            }
                        }
                        None => {
                            out.extend_from_slice(line);
                            out.push(b'\n');
                        }
                    }
                }
                printed += page.lines.len() as u64;
                if !context.pass_on(&out)? {
                    break Ok(());
                }
                progress.step();
            }
            Ok(None) => break Ok(()),
            Err(error) if printed > 0 => {
                break Err(error.hint(format!(
                    "{printed} resources of {} pages were printed before; the rest is missing",
                    pages.count() - 1
                )));
            }
            Err(error) => break Err(error),
        }
    };
    progress.finish();
    outcome.map(|()| Outcome { output: None, exit: Exit::OK })
}

async fn offered_way(asker: &Asker, context: &Context, search: Question) -> Result<Question> {
    let mut probe = search.clone();
    // Nothing of the data is fetched twice.
    let parameters = probe.body.take().unwrap_or_default();
    probe.body = Some([parameters.as_slice(), b"&_summary=count"].concat());
    let (_, way) = offered(asker, context, probe, true).await?;
    Ok(if way.method == Method::Search { search } else { search.as_get() })
}

async fn count(
    args: &QueryArgs,
    asker: &Asker,
    context: &Context,
    question: Question,
    as_search: bool,
    sent: &mut Question,
) -> Result<Outcome> {
    let mut counting = question.clone();
    counting.url.query_pairs_mut().append_pair("_summary", "count");
    let counting = if as_search { counting.as_search().unwrap_or(counting) } else { counting };
    sent.clone_from(&counting);
    let (exchange, used) = offered(asker, context, counting, as_search && !args.post).await?;
    sent.clone_from(&used);
    let judged = judge(&exchange, Wanted::Resource);
    if let Some(trouble) = judged.trouble {
        return Err(trouble);
    }
    let bundle = serde_json::from_slice::<Value>(&exchange.body)
        .ok()
        .filter(|body| body["resourceType"] == "Bundle")
        .ok_or_else(|| {
            Error::new(
                crate::model::ErrorKind::Data,
                "what came is no Bundle that could be counted",
            )
            .hint("--count is for searches, such as Patient?_lastUpdated=gt2026-01-01")
        })?;
    warn_of_ignored(context, &question, &bundle);
    let total = bundle.get("total").and_then(Value::as_u64);
    let (count, is_total) = match total {
        Some(total) => (total, true),
        None => {
            let whole = if used.method == Method::Search {
                question.as_search().unwrap_or(question)
            } else {
                question
            };
            let mut pages = Pages::new(asker, whole);
            let mut count = 0;
            while let Some(page) = pages.next().await? {
                count += page.matches;
            }
            (count, false)
        }
    };
    let document = CountDocument {
        schema: "fhirctl/query-count/v1",
        server: asker.server().name.clone(),
        path: shape(&asker.server().url, &used.url),
        count,
        is_total,
    };
    Ok(Outcome::printed(document.output()?))
}

/// A count of everything looks like the count that was asked for.
fn warn_of_ignored(context: &Context, question: &Question, bundle: &Value) {
    let own = bundle["link"].as_array().into_iter().flatten();
    let own = own.filter(|link| link["relation"] == "self").find_map(|link| link["url"].as_str());
    let asked = format!("x?{}", question.url.query().unwrap_or_default());
    let ignored = ignored_parameters(&asked, own);
    if !ignored.is_empty() {
        context.notice(&format!(
            "warning: the server ignored {}: its self link does not name it, so more may have been \
             counted than was asked for (fhir.parameter_ignored)",
            ignored.join(", ")
        ));
    }
}

async fn yielded(expression: &str, body: &[u8]) -> Result<Vec<Value>> {
    let document: Value = serde_json::from_slice(body).map_err(|error| {
        Error::new(
            crate::model::ErrorKind::Data,
            format!("the answer is no JSON, at line {}, column {}", error.line(), error.column()),
        )
    })?;
    probe::fhirpath_values(expression, document, FHIRPATH)
        .await
        .map_err(|reason| Error::usage(format!("--fhirpath cannot be evaluated: {reason}")))
}
