//! A look at the certificates that a server shows, without asking it anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

use super::{Client, target_of};
use crate::http::identity::facts_of;
use crate::http::resolve::{self, Rules};
use crate::http::{Failure, Identity, Stage, Transport, classify, proxy};
use crate::model::Code;
use crate::model::server::Server;

/// What a server shows at this instant.
#[derive(Clone, Debug)]
pub struct Presented {
    /// As it was sent, the server's own certificate first. Never empty.
    pub chain: Vec<PresentedCertificate>,
    /// The same, DER.
    pub raw: Vec<Vec<u8>>,
    /// What the ordinary validation (trust, name, dates) has against it.
    pub trouble: Option<Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PresentedCertificate {
    pub subject: String,
    pub not_after: Timestamp,
    /// `sha256/…`, as in `tls.pins`.
    pub pin: String,
}

impl Client {
    /// The addresses that a server is connected to at, in their order; `None` where a proxy stands
    /// in between.
    ///
    /// # Errors
    /// A [`Failure`] when there is no such name, no allowed address, or the proxy cannot be used.
    pub async fn addresses(
        server: &Server,
        identity: &Identity,
        transport: &Transport,
    ) -> Result<Option<Vec<SocketAddr>>, Failure> {
        if proxy::way(server, identity, &transport.proxies)?.is_some() {
            return Ok(None);
        }
        let rules = Rules::of(&server.network);
        let found = resolve::addresses(&transport.names, &rules, server.url.url()).await?;
        Ok(Some(found))
    }

    /// Begins a handshake with a server and breaks it off once the certificates are there. The
    /// proxy, the allowed addresses, the source address and the timeouts are those of every
    /// request; no request, no credential and no client certificate is sent.
    ///
    /// # Errors
    /// A [`Failure`] when no certificate came: plain HTTP, no connection, no TLS.
    pub async fn look(
        server: &Server,
        identity: &Identity,
        transport: Arc<Transport>,
    ) -> Result<Presented, Failure> {
        let url = server.url.url();
        if url.scheme() != "https" {
            return Err(Failure::new(
                Stage::Tls,
                Code::new("tls.protocol"),
                "the server is asked over plain HTTP and shows no certificate",
            ));
        }
        // Without its authority a server can be looked at all the same, and not be trusted.
        if let Err(failure) = transport.trust.verifier(&server.tls)
            && server.tls.ca.is_some()
        {
            let mut other = server.clone();
            other.tls.ca = None;
            let seen = Box::pin(Client::look(&other, identity, transport)).await?;
            return Ok(Presented { trouble: Some(failure), ..seen });
        }
        let client = Client::build(server, identity, transport, true)?;
        client.check_address(url)?;
        let start = Instant::now();
        let end = start + client.total;
        let sent = client.inner.get(url.clone()).send();
        let outcome = tokio::time::timeout_at(end.into(), sent).await;
        let raw = client.seen.chain();
        let chain: Vec<_> = raw
            .iter()
            .filter_map(|der| facts_of(der))
            .map(|facts| PresentedCertificate {
                subject: facts.subject,
                not_after: facts.not_after,
                pin: facts.spki_pin,
            })
            .collect();
        match (client.seen.verdict(), outcome) {
            (Some(verdict), _) if !chain.is_empty() => {
                let trouble = verdict.err().map(|error| {
                    client.with_circumstances(url, start, |known| classify::tls(&error, known))
                });
                Ok(Presented { chain, raw, trouble })
            }
            (_, Err(_)) => Err(client.with_circumstances(url, start, classify::timeout)),
            (_, Ok(Err(error))) => {
                Err(client.with_circumstances(url, start, |known| classify::request(&error, known)))
            }
            // A chain that is there and cannot be read, or an answer in spite of everything.
            (_, Ok(Ok(_))) => Err(Failure::new(
                Stage::Tls,
                Code::new("tls.protocol"),
                format!("{} shows no certificate that can be read", target_of(url)),
            )),
        }
    }
}
