//! An authority that makes certificates of every kind, a TLS server that shows whichever it is
//! told, and a proxy that wants a sign-in.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey,
    PrivateKeyChain,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

const STATEMENT: &str = include_str!("../../fhir/hapi-r4.json");

/// Makes certificates that hold until some days from now.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
    pem: String,
    pin: String,
}

/// A certificate with its key.
pub struct Leaf {
    der: Vec<u8>,
    pem: String,
    key: KeyPair,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        Authority::below(name, None)
    }

    /// One below this one.
    pub fn intermediate(&self, name: &str) -> Authority {
        Authority::below(name, Some(self))
    }

    fn below(name: &str, above: Option<&Authority>) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = match above {
            Some(above) => params.signed_by(&key, &above.issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        let pin = pin(&key);
        Authority {
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
            pin,
        }
    }

    /// Shows a certificate and nothing that vouches for it.
    pub fn server_alone(&self, leaf: &Leaf) -> ServerConfig {
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        config(vec![leaf.der.clone()], leaf, &versions, None)
    }

    pub fn pem(&self) -> String {
        self.pem.clone()
    }

    pub fn pin(&self) -> String {
        self.pin.clone()
    }

    /// For the loopback addresses.
    pub fn leaf(&self, _what: &str, days: i64) -> Leaf {
        self.leaf_for(&["localhost", "127.0.0.1", "::1"], days)
    }

    pub fn leaf_for(&self, names: &[&str], days: i64) -> Leaf {
        self.make("server", names, ExtendedKeyUsagePurpose::ServerAuth, days)
    }

    pub fn client(&self, name: &str, days: i64) -> Leaf {
        self.make(name, &[], ExtendedKeyUsagePurpose::ClientAuth, days)
    }

    fn make(&self, name: &str, names: &[&str], usage: ExtendedKeyUsagePurpose, days: i64) -> Leaf {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let day = |days: i64| {
            let at = Timestamp::now().as_second() + days * 86_400 + 3600;
            let date = Timestamp::from_second(at).unwrap().to_zoned(jiff::tz::TimeZone::UTC).date();
            let part = |number: i8| u8::try_from(number).unwrap();
            rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
        };
        (params.not_before, params.not_after) = (day(-30), day(days));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { der: certificate.der().to_vec(), pem: certificate.pem(), key }
    }

    /// Shows a certificate and this authority's own.
    pub fn server(&self, leaf: &Leaf) -> ServerConfig {
        self.server_with(leaf, &[])
    }

    /// Shows more certificates than belong to the chain.
    pub fn server_with(&self, leaf: &Leaf, more: &[&Leaf]) -> ServerConfig {
        let mut chain = vec![leaf.der.clone(), self.der.clone()];
        chain.extend(more.iter().map(|leaf| leaf.der.clone()));
        config(chain, leaf, &[&rustls::version::TLS13, &rustls::version::TLS12], None)
    }

    /// Speaks nothing newer than TLS 1.2.
    pub fn old_server(&self) -> ServerConfig {
        let leaf = self.leaf("server", 300);
        config(vec![leaf.der.clone()], &leaf, &[&rustls::version::TLS12], None)
    }

    /// Demands a client certificate of this authority.
    pub fn demanding_server(&self) -> ServerConfig {
        self.asking_server(true)
    }

    /// Asks for a client certificate of this authority.
    pub fn asking_server(&self, demands: bool) -> ServerConfig {
        let leaf = self.leaf("server", 300);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.der.clone())).unwrap();
        let asks = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let asks = if demands { asks } else { asks.allow_unauthenticated() };
        let chain = vec![leaf.der.clone()];
        config(chain, &leaf, &[&rustls::version::TLS13], Some(asks.build().unwrap()))
    }
}

impl Leaf {
    pub fn pin(&self) -> String {
        pin(&self.key)
    }

    pub fn certificate_pem(&self) -> String {
        self.pem.clone()
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

fn pin(key: &KeyPair) -> String {
    format!("sha256/{}", STANDARD.encode(Sha256::digest(key.subject_public_key_info())))
}

fn config(
    chain: Vec<Vec<u8>>,
    leaf: &Leaf,
    versions: &[&'static SupportedProtocolVersion],
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf.key.serialize_der()));
    builder.with_single_cert(chain.into_iter().map(CertificateDer::from).collect(), key).unwrap()
}

/// A PKCS#12 file; without a leaf it holds the authority's certificate alone.
pub fn pkcs12(leaf: Option<&Leaf>, authority: &Authority, password: &str, legacy: bool) -> Vec<u8> {
    let ca = Certificate::from_der(&authority.der).unwrap();
    let entry = match leaf {
        Some(leaf) => KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(
            "1",
            PrivateKey::from_der(&leaf.key.serialize_der()).unwrap(),
            [Certificate::from_der(&leaf.der).unwrap(), ca],
        )),
        None => KeyStoreEntry::Certificate(ca),
    };
    let mut store = KeyStore::new();
    store.add_entry("own", entry);
    let writer = store.writer(password).encryption_iterations(2048).mac_iterations(2048);
    let writer = match legacy {
        true => writer
            .encryption_algorithm(EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc)
            .mac_algorithm(MacAlgorithm::HmacSha1),
        false => writer,
    };
    writer.write().unwrap()
}

/// A TLS server on loopback that answers everything with a CapabilityStatement.
pub struct Origin {
    address: SocketAddr,
    seen: Arc<Seen>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Seen {
    shows: Mutex<Option<Arc<ServerConfig>>>,
    /// Every other connection ends behind this one's handshake, the first one first.
    loses: Mutex<Option<Arc<ServerConfig>>>,
    heads: Mutex<Vec<String>>,
    peers: Mutex<Vec<IpAddr>>,
}

impl Origin {
    pub fn start() -> Origin {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let seen = Arc::new(Seen::default());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = seen.clone();
        runtime.spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let number = {
                    let mut peers = shared.peers.lock().unwrap();
                    peers.push(peer.ip());
                    peers.len()
                };
                tokio::spawn(answer(stream, number, shared.clone()));
            }
        });
        Origin { address, seen, _runtime: runtime }
    }

    pub fn url(&self) -> String {
        format!("https://{}/fhir", self.address)
    }

    /// From the next connection on.
    pub fn show(&self, config: ServerConfig) {
        *self.seen.shows.lock().unwrap() = Some(Arc::new(config));
    }

    /// Every other connection, the first one first, has the handshake of `lost` and ends then.
    pub fn show_by_turns(&self, lost: ServerConfig, config: ServerConfig) {
        *self.seen.loses.lock().unwrap() = Some(Arc::new(lost));
        self.show(config);
    }

    /// The heads of the requests that came through.
    pub fn requests(&self) -> Vec<String> {
        self.seen.heads.lock().unwrap().clone()
    }

    /// Who connected.
    pub fn peers(&self) -> Vec<IpAddr> {
        self.seen.peers.lock().unwrap().clone()
    }
}

async fn answer(stream: tokio::net::TcpStream, number: usize, seen: Arc<Seen>) {
    let lost = seen.loses.lock().unwrap().clone();
    if let Some(lost) = lost.filter(|_| number % 2 == 1) {
        let _ = TlsAcceptor::from(lost).accept(stream).await;
        return;
    }
    let config = seen.shows.lock().unwrap().clone().unwrap();
    let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await else { return };
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => head.extend_from_slice(&piece[..count]),
        }
    }
    seen.heads.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{STATEMENT}",
        STATEMENT.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A proxy that knows `CONNECT` and one user.
pub struct ForwardProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl ForwardProxy {
    pub fn start(user: &str, password: &str) -> ForwardProxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let login = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let shared = heads.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (login, heads) = (login.clone(), shared.clone());
                std::thread::spawn(move || forward(client, &login, &heads));
            }
        });
        ForwardProxy { address, heads }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn forward(mut client: TcpStream, login: &str, heads: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    heads.lock().unwrap().push(head.clone());
    let signed_in = head.lines().any(|line| {
        line.split_once(": ").is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("proxy-authorization") && value == login
        })
    });
    if !signed_in {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"gate\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        client.write_all(refusal.as_bytes()).ok()?;
        return client.shutdown(Shutdown::Write).ok();
    }
    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?;
    let mut server = TcpStream::connect(target).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut to, mut from) = (server.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    client.shutdown(Shutdown::Write).ok()
}
