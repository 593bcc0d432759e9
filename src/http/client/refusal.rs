//! What a server has against our client certificate, or against having none, when its answer got lost.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio_rustls::TlsConnector;
use url::Url;

use super::{Client, host_of};
use crate::http::dial::dial;
use crate::http::{Failure, Stage, classify, resolve};
use crate::model::Code;

/// How long the alert is waited for, behind the handshake.
const ALERT: Duration = Duration::from_secs(1);

impl Client {
    /// Gives a connection that ended without an answer its reason, where the server asked for a
    /// client certificate.
    ///
    /// Under TLS 1.3 the handshake is over on our side before the server has looked at our certificate
    /// (RFC 8446 §4.4.2.4). Its alert then races with our request: the connection may be gone before the
    /// library has read why. So a handshake is made once more, and nothing is sent behind it.
    pub(super) async fn reason_of_refusal(
        &self,
        failure: Failure,
        url: &Url,
        end: Instant,
    ) -> Failure {
        let ended = [Code::new("http.closed"), Code::new("tcp.reset")].contains(&failure.code);
        // What a proxy lets through is not ours to open.
        if failure.stage != Stage::Http || !ended || self.proxied || !self.seen.has_demanded() {
            return failure;
        }
        let start = Instant::now();
        let alert = tokio::time::timeout_at(end.min(start + ALERT).into(), self.alert(url));
        let Ok(Some(error)) = alert.await else { return failure };
        let mut told =
            self.with_circumstances(url, start, |known| classify::chain(error.as_ref(), known));
        if told.stage != Stage::Tls {
            return failure;
        }
        told.timing = failure.timing;
        told
    }

    /// What a handshake, or the silence behind it, ends with; `None` when it ends with nothing.
    async fn alert(&self, url: &Url) -> Option<Box<dyn StdError + Send + Sync>> {
        let config = Arc::clone(self.tls.as_ref()?);
        let name = ServerName::try_from(host_of(url)).ok()?;
        let addresses = resolve::addresses(&self.transport.names, &self.rules, url).await.ok()?;
        let stream = dial(&addresses, self.source_address).await.ok()?;
        let mut stream = match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => stream,
            Err(error) => return Some(error.into()),
        };
        stream.read_u8().await.err().map(Into::into)
    }
}
