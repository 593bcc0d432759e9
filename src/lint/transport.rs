//! Rules about TLS and where requests go.

use super::expiring::Kind;
use super::{Notes, ServerRule, Subject, days_left};
use crate::inventory::Layer;
use crate::inventory::edit::Op;
use crate::model::server::BaseUrl;

pub(super) const RULES: &[ServerRule] = &[
    ("tls.plain-http", plain_http),
    ("tls.no-pin-on-critical", no_pin_on_critical),
    ("tls.single-pin", single_pin),
    ("tls.certificate-near-end", certificate_near_end),
    ("url.trailing-slash", trailing_slash),
];

/// Whether what is sent to this address can be read on the way.
pub(super) fn is_plain(url: &BaseUrl) -> bool {
    url.url().scheme() == "http" && !url.is_loopback()
}

fn plain_http(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    if is_plain(&subject.server.url) {
        notes.add(subject.at("url"), "the url is plain HTTP");
    }
}

fn no_pin_on_critical(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let server = subject.server;
    let over_tls = server.url.url().scheme() == "https" && !server.url.is_loopback();
    if over_tls && server.tls.pins.is_empty() && subject.is_critical() {
        notes.add(subject.at("tls.pins"), "a critical server without a pinned key");
    }
}

fn single_pin(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    if subject.server.tls.pins.len() == 1 {
        notes.add(subject.at("tls.pins"), "one pin and none in reserve");
    }
}

fn certificate_near_end(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let input = subject.input;
    let tls = &subject.server.tls;
    let known = input.known.certificates.get(&subject.server.name);
    for certificate in known.into_iter().flatten() {
        let left = super::after(input.now, tls.expiry_critical) >= certificate.not_after;
        let near = super::after(input.now, tls.expiry_warning) >= certificate.not_after;
        let (key, whose) = match certificate.kind {
            Kind::ClientCertificate => ("tls.client_certificate.certificate", "the client's"),
            Kind::CaCertificate => ("tls.ca", "an authority's"),
            _ => ("url", "the server's"),
        };
        let days = days_left(input.now, certificate.not_after);
        let message = if days < 0 {
            format!("{whose} certificate has ended")
        } else {
            format!("{whose} certificate ends in {days} days")
        };
        if left {
            notes.raise(subject.at(key), message);
        } else if near {
            notes.add(subject.at(key), message);
        }
    }
}

fn trailing_slash(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let Some(said) = subject.input.survey.said(subject.index, "url") else { return };
    let Some(text) = said.value.as_str().filter(|text| text.trim_end().ends_with('/')) else {
        return;
    };
    let shorter = text.trim_end().trim_end_matches('/');
    // The address itself must not change by it.
    let same = BaseUrl::parse(shorter).is_ok_and(|url| url == subject.server.url);
    let fix = said.path.filter(|_| same && said.layer == Layer::Own);
    notes.add_fixable(
        subject.at("url"),
        "the url ends with a slash",
        fix.map(|path| Op::Set(path, shorter.into())),
    );
}
