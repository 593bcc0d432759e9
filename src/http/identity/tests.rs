use super::*;

/// A self-signed certificate with its key, and the two together as PKCS#12 without an id that
/// binds them, in the way some tools write it.
fn pair(name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.not_after = rcgen::date_time_ymd(2031, 5, 6);
    (params.self_signed(&key).unwrap(), key)
}

#[test]
fn the_facts_of_a_client_certificate_are_read_from_either_form() {
    use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = pair("probe.example.org");
    let pem = folder.path().join("own.pem");
    std::fs::write(&pem, format!("{}{}", key.serialize_pem(), certificate.pem())).unwrap();
    let mut store = KeyStore::new();
    let chain = PrivateKeyChain::new(
        "1",
        PrivateKey::from_der(&key.serialize_der()).unwrap(),
        [Certificate::from_der(certificate.der()).unwrap()],
    );
    store.add_entry("own", KeyStoreEntry::PrivateKeyChain(chain));
    let p12 = folder.path().join("own.p12");
    let bytes = store.writer("hunter2").encryption_iterations(1000).mac_iterations(1000).write();
    std::fs::write(&p12, bytes.unwrap()).unwrap();

    let reference = crate::model::SecretRef::parse("env:X").unwrap();
    let from_pem = ClientCertificate::Pem { certificate: pem, key: reference };
    let from_p12 = ClientCertificate::Pkcs12 { file: p12, password: None };
    let password = Secret::new("hunter2".to_owned());
    let facts = certificate_facts(&from_pem, None).unwrap();
    assert_eq!(facts, certificate_facts(&from_p12, Some(&password)).unwrap());
    assert!(facts.subject.contains("probe.example.org"), "{}", facts.subject);
    assert_eq!(facts.not_after.to_string(), "2031-05-06T00:00:00Z");
    assert_eq!(facts.spki_pin, format!("sha256/{}", spki_pin(certificate.der()).unwrap()));
    assert!(certificate_facts(&from_p12, None).unwrap_err().message.contains("wants a password"));
    let keys = keys(&from_p12, Some(&password)).unwrap();
    assert_eq!((keys.chain.len(), keys.key.secret_der()), (1, key.serialize_der().as_slice()));
}

#[test]
fn no_bytes_make_the_reader_panic_or_repeat_them() {
    let file = Path::new("own.p12");
    for bytes in [&b""[..], b"0", b"0\x80", b"\x30\x82\xff\xff", b"hunter2", &[0x30; 4096]] {
        let failure = pkcs12(bytes, "hunter2", file).unwrap_err();
        assert!(failure.message.contains("own.p12"), "{}", failure.message);
        assert!(!failure.message.contains("hunter2"), "{}", failure.message);
        assert!(pem_chain(bytes, file).is_err());
        assert!(pem_key(&String::from_utf8_lossy(bytes)).is_err());
    }
}
