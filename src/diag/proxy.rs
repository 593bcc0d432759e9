//! `proxy`: what stands between us and the server, and what it does to what passes.

use schemars::JsonSchema;
use serde::Serialize;
use url::Url;

use super::shell::{Command, curl};
use super::{Desk, Layer, Problem, Topic, TopicName};
use crate::fhir::body::sniff;
use crate::fhir::capability;
use crate::http::Exchange;
use crate::model::{Code, Party, Status, text};

/// Headers that those who pass messages on add, and who is usually meant.
const MARKS: &[(&str, &str)] = &[
    ("via", "a proxy or gateway"),
    ("x-cache", "a cache"),
    ("age", "a cache"),
    ("x-amz-cf-id", "Amazon CloudFront"),
    ("x-amzn-requestid", "an AWS gateway"),
    ("x-amz-apigw-id", "Amazon API Gateway"),
    ("cf-ray", "Cloudflare"),
    ("x-azure-ref", "Azure Front Door"),
    ("x-served-by", "Fastly or Varnish"),
    ("x-varnish", "Varnish"),
    ("x-kong-proxy-latency", "Kong"),
    ("x-apigee-message-id", "Apigee"),
    ("x-envoy-upstream-service-time", "Envoy"),
    ("x-squid-error", "Squid"),
    ("x-cache-lookup", "Squid"),
    ("x-bluecoat-via", "Blue Coat"),
    ("x-zscaler-request-id", "Zscaler"),
];

#[derive(Debug, Serialize, JsonSchema)]
struct Details {
    /// Where requests are sent on, as the inventory or the environment has it.
    configured: Option<String>,
    marks: Vec<Mark>,
    /// Addresses that the server publishes of itself.
    published: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Mark {
    header: &'static str,
    value: String,
    who: &'static str,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let mut topic = Topic::new(TopicName::Proxy);
    let configured = desk.server.network.proxy.as_ref().map(|proxy| proxy.url.to_string());
    let is_proxied = match desk.client().await {
        Ok(client) => client.is_proxied(),
        Err(failure) => {
            topic.problem(Problem::from(&failure));
            return topic;
        }
    };
    let way = match (&configured, is_proxied) {
        (Some(proxy), _) => format!("{proxy}, from the inventory"),
        (None, true) => "one from the environment (HTTPS_PROXY, HTTP_PROXY)".to_owned(),
        (None, false) => "none".to_owned(),
    };
    topic.fact("configured proxy", way);
    let exchange = match desk.statement().await {
        Ok(exchange) => exchange,
        // Others say what broke.
        Err(_) => return topic.good("no answer came that could tell of a proxy"),
    };
    let marks = marks(&exchange);
    for mark in &marks {
        topic.fact(mark.header, format!("{} ({})", mark.value, mark.who));
    }
    let published = published(&exchange);
    for address in &published {
        topic.fact("the server calls itself", address.as_str());
    }
    rewritten(desk, &published, &mut topic);
    if exchange.headers.contains_key("age") {
        topic.note("the answer came from a cache: what is asked for may be older than it seems");
    }
    let good = match (marks.len(), is_proxied) {
        (0, false) => "nothing shows that anybody stands in between",
        (0, true) => "our own proxy alone stands in between, as far as it shows",
        _ => "somebody stands in between and does no harm that shows",
    };
    topic = topic.good(good);
    topic.details(&Details {
        configured,
        marks,
        published: published.iter().map(Url::to_string).collect(),
    });
    topic
}

fn marks(exchange: &Exchange) -> Vec<Mark> {
    MARKS
        .iter()
        .filter_map(|&(header, who)| {
            let value = text::bounded(&text::one_line(exchange.header(header)?), 120);
            Some(Mark { header, value, who })
        })
        .collect()
}

/// `implementation.url` of the CapabilityStatement: a server behind a proxy that does not know how it
/// is called from outside writes its links wrong.
fn published(exchange: &Exchange) -> Vec<Url> {
    let kind = sniff(exchange.content_type(), &exchange.body);
    let statement = capability::parse(kind, &exchange.body).ok();
    statement
        .and_then(|statement| Url::parse(statement.implementation?.url.as_deref()?).ok())
        .into_iter()
        .collect()
}

fn rewritten(desk: &Desk, published: &[Url], topic: &mut Topic) {
    let own = desk.server.url.url();
    for address in published {
        if address.host() == own.host() && own.scheme() == "https" && address.scheme() == "http" {
            topic.problem(
                Problem::new(
                    Code::new("network.proxy"),
                    format!(
                        "the server calls itself {address}: whoever ends TLS before it does not tell \
                         it, so its links lead to plain HTTP"
                    ),
                )
                .at(Status::Warning)
                .layer(Layer::Proxy)
                .by(Party::Vendor)
                .next_step("have the proxy send X-Forwarded-Proto, or the server's base URL set"),
            );
        }
    }
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let look = |url: &Url| curl(&desk.server, url).with(&["-o", "/dev/null", "-D", "-"]);
    desk.url("metadata").map(|url| vec![look(&url)]).unwrap_or_default()
}
