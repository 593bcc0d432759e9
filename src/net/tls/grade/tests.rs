use jiff::Timestamp;

use super::super::scan::{Found, Offered, Traits};
use super::*;

fn offered(version: Version, suites: &[u16], exchange: Option<KeyExchange>) -> Offered {
    let suites = suites.iter().map(|&suite| Found { suite, exchange }).collect();
    Offered {
        version,
        suites,
        groups: Vec::new(),
        groups_complete: false,
        server_prefers: Some(true),
        compression: false,
        end: None,
    }
}

fn modern() -> Vec<Offered> {
    vec![
        offered(Version::Tls12, &[0xc02f, 0xc030], Some(KeyExchange::Curve(0x1d))),
        offered(Version::Tls13, &[0x1301, 0x1302], None),
    ]
}

fn certificate(bits: u32, signature: &str) -> Certificate {
    Certificate {
        subject: "CN=fhir.example".to_owned(),
        issuer: "CN=Authority".to_owned(),
        names: vec!["fhir.example".to_owned()],
        not_before: Timestamp::UNIX_EPOCH,
        not_after: Timestamp::UNIX_EPOCH,
        key: "RSA".to_owned(),
        bits,
        signature: signature.to_owned(),
        issuer_at: None,
        ocsp: None,
        authority: false,
        self_issued: false,
        sha256: String::new(),
    }
}

fn rated(
    versions: Vec<Offered>,
    leaf: Certificate,
    change: impl FnOnce(&mut Scan),
    trust: Trust,
) -> Rating {
    let traits = Some(Traits { renegotiation: true, ..Traits::default() });
    let mut scan = Scan { versions, traits, ..Scan::default() };
    change(&mut scan);
    rate(&Graded { scan: &scan, chains: &[vec![leaf]], trust, hsts: Some(63_072_000) }).unwrap()
}

const GOOD: &str = "sha256WithRSAEncryption";

#[test]
fn every_cap_of_the_guide_is_known() {
    let source = include_str!("../grade.rs");
    assert_eq!(guide().letters.len(), 6);
    for cap in &guide().caps {
        assert!(
            source.contains(&format!("\"{}\" =>", cap.name)),
            "{} is never looked at",
            cap.name
        );
    }
}

#[test]
fn letters_follow_the_guide() {
    let prime = |bits| Some(KeyExchange::Prime(bits));
    let with = |version, suites: &[u16], exchange| {
        let mut versions = modern();
        versions.push(offered(version, suites, exchange));
        versions
    };
    for (what, versions, leaf, expected, cap) in [
        ("modern", modern(), certificate(2048, GOOD), Grade::APlus, ""),
        ("no 1.3", modern()[..1].to_vec(), certificate(2048, GOOD), Grade::AMinus, "no_tls13"),
        ("1.0", with(Version::Tls10, &[0xc013], None), certificate(2048, GOOD), Grade::B, "tls10"),
        ("3.0", with(Version::Ssl3, &[0x002f], None), certificate(2048, GOOD), Grade::C, "ssl3"),
        ("RC4", with(Version::Tls12, &[0x0005], None), certificate(2048, GOOD), Grade::C, "rc4"),
        (
            "3DES",
            with(Version::Tls12, &[0x000a], None),
            certificate(2048, GOOD),
            Grade::C,
            "small_blocks",
        ),
        (
            "export",
            with(Version::Tls10, &[0x0003], None),
            certificate(2048, GOOD),
            Grade::F,
            "export",
        ),
        (
            "NULL",
            with(Version::Tls12, &[0x0002], None),
            certificate(2048, GOOD),
            Grade::F,
            "no_encryption",
        ),
        (
            "anon",
            with(Version::Tls12, &[0x0034], None),
            certificate(2048, GOOD),
            Grade::F,
            "anonymous",
        ),
        (
            "DH 1536",
            with(Version::Tls12, &[0x009e], prime(1536)),
            certificate(2048, GOOD),
            Grade::B,
            "dh_2048",
        ),
        (
            "DH 768",
            with(Version::Tls12, &[0x009e], prime(768)),
            certificate(2048, GOOD),
            Grade::F,
            "dh_1024",
        ),
        ("key", modern(), certificate(1024, GOOD), Grade::B, "key_2048"),
        ("weak key", modern(), certificate(768, GOOD), Grade::F, "key_1024"),
        ("SHA-1", modern(), certificate(2048, "sha1WithRSAEncryption"), Grade::F, "sha1_signature"),
        ("MD5", modern(), certificate(2048, "md5WithRSAEncryption"), Grade::F, "md5_signature"),
        (
            "no secret kept",
            vec![offered(Version::Tls12, &[0x009c], None)],
            certificate(2048, GOOD),
            Grade::B,
            "no_forward_secrecy",
        ),
        (
            "old only",
            vec![offered(Version::Tls10, &[0xc013], None)],
            certificate(2048, GOOD),
            Grade::C,
            "no_tls12",
        ),
    ] {
        let rating = rated(versions, leaf, |_| (), Trust::Trusted);
        assert_eq!(rating.grade, expected, "{what}: {rating:?}");
        let named = rating.deductions.iter().any(|deduction| deduction.name == cap);
        assert!(cap.is_empty() || named, "{what}: {rating:?}");
    }
}

#[test]
fn what_is_not_trusted_says_what_it_would_be() {
    for (trust, grade) in [(Trust::Untrusted, Grade::T), (Trust::OtherName, Grade::M)] {
        let rating = rated(modern(), certificate(2048, GOOD), |_| (), trust);
        assert_eq!((rating.grade, rating.without_trust), (grade, Grade::APlus));
    }
}

#[test]
fn the_score_is_that_of_the_guide() {
    let rating = rated(modern(), certificate(2048, GOOD), |_| (), Trust::Trusted);
    // 30 % of 100, 30 % of 90 (2048 bits), 40 % of 90 (between 128 and 256 bits).
    assert_eq!((rating.protocol, rating.key_exchange, rating.cipher), (100, 90, 90));
    assert_eq!(rating.score, 93);
}

#[test]
fn compression_and_a_missing_header_hold_the_grade_down() {
    let squeezed = |scan: &mut Scan| scan.versions[0].compression = true;
    let rating = rated(modern(), certificate(2048, GOOD), squeezed, Trust::Trusted);
    assert_eq!(rating.grade, Grade::C);
    let scan = Scan { versions: modern(), ..Scan::default() };
    let bare = Graded { scan: &scan, chains: &[], trust: Trust::Trusted, hsts: None };
    assert_eq!(rate(&bare).unwrap().grade, Grade::A);
    let nothing = Scan::default();
    assert!(rate(&Graded { scan: &nothing, ..bare }).is_none());
}

#[test]
fn the_best_is_more_than_the_worst() {
    assert!(Grade::ASKED.is_sorted_by(|one, next| one > next));
    assert!(Grade::T < Grade::F && Grade::M < Grade::F);
}
