//! `redirects`: where the base URL leads, and whether a credential could follow.

use http::header::LOCATION;
use schemars::JsonSchema;
use serde::Serialize;
use url::Url;

use super::shell::{Command, curl};
use super::{Desk, Problem, Topic, TopicName};
use crate::auth::caller::Ask;
use crate::http::Failure;
use crate::model::{Code, Party, limits};

#[derive(Debug, Serialize, JsonSchema)]
struct Step {
    /// Origin and path; a query stays out.
    url: String,
    /// The HTTP status code.
    status: u16,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let mut topic = Topic::new(TopicName::Redirects).good("the base URL answers itself");
    let mut steps = Vec::new();
    if let Err(failure) = walk(desk, &mut topic, &mut steps).await {
        topic.problem(Problem::from(&failure));
    }
    let row = |step: &Step| vec![step.url.clone(), step.status.to_string()];
    topic.table("", &["address", "HTTP"], steps.iter().map(row).collect());
    topic.details(&serde_json::json!({"steps": steps}));
    topic
}

/// Follows by hand and without a credential, wherever it leads.
async fn walk(desk: &Desk, topic: &mut Topic, steps: &mut Vec<Step>) -> Result<(), Failure> {
    let base = desk.url("metadata")?;
    let first = desk.statement().await?;
    let mut url = base.clone();
    let (mut status, mut target) = (first.status(), location(&first.headers, &url));
    loop {
        steps.push(Step { url: shown(&url), status });
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Ok(());
        }
        let Some(next) = target else {
            topic.problem(
                Problem::new(
                    Code::new("http.redirect_refused"),
                    format!("HTTP {status} without a Location that could be followed"),
                )
                .by(Party::Vendor),
            );
            return Ok(());
        };
        judge(topic, &base, &url, &next, status);
        if steps.len() > limits::REDIRECTS || steps.iter().any(|step| step.url == shown(&next)) {
            topic.problem(
                Problem::new(
                    Code::new("http.redirect_refused"),
                    format!("the redirects of {} run in a circle", shown(&base)),
                )
                .by(Party::Vendor)
                .next_step("tell the vendor; a load balancer that ends TLS is a usual cause"),
            );
            return Ok(());
        }
        let caller = desk.caller().await?;
        let client = caller.client_for(&next)?;
        let ask = Ask { signed: false, ..Ask::get(&next, desk.accept()) };
        let answer = caller.fetch(&client, &ask, limits::BODY_BYTES).await?;
        (status, target) = (answer.status(), location(&answer.headers, &next));
        url = next;
    }
}

fn judge(topic: &mut Topic, base: &Url, from: &Url, to: &Url, status: u16) {
    let code = Code::new("http.redirect_refused");
    if from.scheme() == "https" && to.scheme() == "http" {
        topic.problem(
            Problem::new(
                code,
                format!("{} redirects from HTTPS down to plain HTTP: {}", shown(from), shown(to)),
            )
            .by(Party::Vendor)
            .next_step(
                "tell the vendor: the proxy before the server does not tell it that TLS was used",
            ),
        );
    } else if to.origin() != base.origin() {
        let step = if matches!(status, 301 | 308) {
            format!(
                "if the vendor confirms that it has moved: fhirctl set {{NAME}} url={}",
                shown(to)
            )
        } else {
            "ask the vendor which address is meant for clients; no credential follows there"
                .to_owned()
        };
        topic.problem(
            Problem::new(
                code,
                format!("{} redirects to another origin: {}", shown(from), shown(to)),
            )
            .by(Party::Vendor)
            .next_step(step),
        );
    } else {
        topic.note(format!("{} redirects to {} within its origin", shown(from), shown(to)));
    }
}

fn location(headers: &http::HeaderMap, base: &Url) -> Option<Url> {
    base.join(headers.get(LOCATION)?.to_str().ok()?).ok()
}

/// Without a query, which may hold anything.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let look = |url: &Url| {
        curl(&desk.server, url).with(&["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}\\n"])
    };
    desk.url("metadata").map(|url| vec![look(&url)]).unwrap_or_default()
}
