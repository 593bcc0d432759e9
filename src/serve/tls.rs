//! One certificate, ready to be shown to clients.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

/// A certificate chain with its key; TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.
#[derive(Clone)]
pub struct Tls {
    pub(super) acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// From DER: the chain with the leaf first, and the leaf's key as PKCS #8. With the certificate
    /// of an authority of `clients`, every client has to show one that it signed.
    ///
    /// # Errors
    /// When key and certificate do not fit together or cannot be read.
    pub fn new(
        chain: Vec<Vec<u8>>,
        key: Vec<u8>,
        clients: Option<Vec<u8>>,
    ) -> Result<Tls, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(CertificateDer::from(authority))?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .build()
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(
            chain.into_iter().map(CertificateDer::from).collect(),
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)),
        )?;
        Ok(Tls::of(config))
    }

    /// From PEM: the chain with the leaf first, and the leaf's key in any of its forms.
    ///
    /// # Errors
    /// When key and certificate do not fit together or cannot be read.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Tls, rustls::Error> {
        let unreadable = |what: &str| rustls::Error::General(format!("there is no {what} in it"));
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| unreadable("certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| unreadable("private key"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Tls::of(config))
    }

    fn of(mut config: rustls::ServerConfig) -> Tls {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Tls { acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}
