//! The grade of a server's TLS, after the rating guide of SSL Labs; its numbers are data.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Version;
use super::answer::KeyExchange;
use super::certificate::{Certificate, in_order};
use super::scan::Scan;
use super::suite::{Suite, group_strength};

/// A letter, the worst first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Grade {
    /// The certificate is for another name.
    M,
    /// The certificate is not trusted.
    T,
    F,
    E,
    D,
    C,
    B,
    #[serde(rename = "A-")]
    AMinus,
    A,
    #[serde(rename = "A+")]
    APlus,
}

impl Grade {
    /// Those that can be asked for, the best first.
    pub const ASKED: [Grade; 8] =
        [Grade::APlus, Grade::A, Grade::AMinus, Grade::B, Grade::C, Grade::D, Grade::E, Grade::F];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Grade::M => "M",
            Grade::T => "T",
            Grade::F => "F",
            Grade::E => "E",
            Grade::D => "D",
            Grade::C => "C",
            Grade::B => "B",
            Grade::AMinus => "A-",
            Grade::A => "A",
            Grade::APlus => "A+",
        }
    }
}

/// What is said of a certificate elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    Trusted,
    Untrusted,
    /// Good, but for another name.
    OtherName,
}

/// What is graded.
#[derive(Clone, Copy, Debug)]
pub struct Graded<'a> {
    pub scan: &'a Scan,
    /// One chain for each of the server's own certificates.
    pub chains: &'a [Vec<Certificate>],
    pub trust: Trust,
    /// The seconds of `Strict-Transport-Security`; `None` where it was not sent.
    pub hsts: Option<u64>,
}

/// The grade and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Rating {
    pub grade: Grade,
    /// What the grade would be, were the certificate not in doubt.
    pub without_trust: Grade,
    /// Of 100.
    pub score: u32,
    pub protocol: u32,
    pub key_exchange: u32,
    pub cipher: u32,
    /// What holds it down, the worst first.
    pub deductions: Vec<Deduction>,
}

/// One reason why a grade is not better.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deduction {
    pub name: String,
    /// The best that can be had with it.
    pub grade: Grade,
    pub reason: String,
}

#[derive(Debug, Default, Deserialize)]
struct Guide {
    shares: Shares,
    protocols: BTreeMap<String, u32>,
    key_exchange: Vec<Below>,
    cipher: Vec<Below>,
    letters: Vec<Letter>,
    caps: Vec<Deduction>,
}

#[derive(Debug, Default, Deserialize)]
struct Shares {
    protocol: u32,
    key_exchange: u32,
    cipher: u32,
}

#[derive(Debug, Deserialize)]
struct Below {
    below: u32,
    score: u32,
}

#[derive(Debug, Deserialize)]
struct Letter {
    from: u32,
    grade: Grade,
}

/// Half a year.
const HSTS_SECONDS: u64 = 180 * 24 * 3600;

fn guide() -> &'static Guide {
    static GUIDE: OnceLock<Guide> = OnceLock::new();
    GUIDE.get_or_init(|| {
        // A test reads it, too.
        serde_yaml::from_str(include_str!("../../../data/tls/rating.yaml")).unwrap_or_default()
    })
}

/// Grades a server; `None` when it agreed to nothing.
#[must_use]
pub fn rate(graded: &Graded<'_>) -> Option<Rating> {
    let guide = guide();
    let spoken: Vec<_> = graded.scan.spoken().map(|offered| offered.version).collect();
    let of = |version: &Version| guide.protocols.get(version.as_str()).copied().unwrap_or(0);
    let protocol = halved(spoken.iter().map(of))?;
    let suites = suites(graded.scan);
    let cipher = halved(suites.iter().map(|suite| score(&guide.cipher, suite.bits)))?;
    let key_exchange = score(&guide.key_exchange, weakest_exchange(graded, &suites));
    let shares = &guide.shares;
    let sum =
        protocol * shares.protocol + key_exchange * shares.key_exchange + cipher * shares.cipher;
    // Whoever has nothing in one part has nothing at all.
    let total = if [protocol, key_exchange, cipher].contains(&0) { 0 } else { sum / 100 };
    let letter = guide.letters.iter().find(|letter| total >= letter.from)?.grade;
    let facts = Facts::of(graded, &suites);
    let mut deductions: Vec<_> =
        guide.caps.iter().filter(|cap| facts.has(&cap.name)).cloned().collect();
    deductions.sort_by_key(|deduction| deduction.grade);
    let best = |letter: Grade| if letter == Grade::A { Grade::APlus } else { letter };
    let held = |doubted: bool| {
        deductions
            .iter()
            .map(|deduction| deduction.grade)
            .filter(|&grade| doubted || grade > Grade::T)
            .fold(best(letter), Grade::min)
    };
    let (grade, without_trust) = (held(true), held(false));
    Some(Rating { grade, without_trust, score: total, protocol, key_exchange, cipher, deductions })
}

fn halved(scores: impl Iterator<Item = u32> + Clone) -> Option<u32> {
    Some(scores.clone().max()?.midpoint(scores.min()?))
}

fn score(table: &[Below], bits: u32) -> u32 {
    table.iter().find(|row| bits < row.below).map_or(100, |row| row.score)
}

/// All suites of all versions, each once.
fn suites(scan: &Scan) -> Vec<&'static Suite> {
    let mut numbers: Vec<_> =
        scan.spoken().flat_map(|offered| offered.suites.iter().map(|found| found.suite)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into_iter().filter_map(Suite::find).collect()
}

/// The strength of the weakest way to agree on keys, in bits of an RSA key.
fn weakest_exchange(graded: &Graded<'_>, suites: &[&Suite]) -> u32 {
    if suites.iter().any(|suite| suite.anonymous) {
        return 0;
    }
    let keys = leaves(graded).map(Certificate::strength);
    let exchanges = exchanges(graded.scan).filter_map(|exchange| match exchange {
        KeyExchange::Prime(bits) => Some(bits),
        // A group without a known strength is not held against the server.
        KeyExchange::Curve(group) => Some(group_strength(group)).filter(|&bits| bits > 0),
    });
    let export = suites.iter().filter(|suite| suite.is_export()).map(|_| 512);
    keys.chain(exchanges).chain(export).min().unwrap_or(3072)
}

fn exchanges(scan: &Scan) -> impl Iterator<Item = KeyExchange> {
    scan.spoken().flat_map(|offered| offered.suites.iter().filter_map(|found| found.exchange))
}

fn leaves<'a>(graded: &Graded<'a>) -> impl Iterator<Item = &'a Certificate> {
    graded.chains.iter().filter_map(|chain| chain.first())
}

/// What the names of the guide mean, looked up once.
struct Facts<'a> {
    graded: &'a Graded<'a>,
    suites: &'a [&'static Suite],
}

impl<'a> Facts<'a> {
    fn of(graded: &'a Graded<'a>, suites: &'a [&'static Suite]) -> Facts<'a> {
        Facts { graded, suites }
    }

    fn speaks(&self, version: Version) -> bool {
        self.graded.scan.spoken().any(|offered| offered.version == version)
    }

    fn newest(&self) -> Version {
        let newest = self.graded.scan.spoken().map(|offered| offered.version).max();
        newest.unwrap_or(Version::Ssl3)
    }

    fn any(&self, what: impl Fn(&Suite) -> bool) -> bool {
        self.suites.iter().any(|suite| what(suite))
    }

    /// Offered with TLS 1.1 or newer.
    fn modern(&self, what: impl Fn(&Suite) -> bool) -> bool {
        let new = self.graded.scan.spoken().filter(|offered| offered.version >= Version::Tls11);
        new.flat_map(|offered| &offered.suites)
            .filter_map(|found| Suite::find(found.suite))
            .any(what)
    }

    fn signed_with(&self, weak: &[&str]) -> bool {
        // A root is trusted for its key, not for its signature.
        self.graded.chains.iter().flatten().filter(|one| !one.self_issued).any(|certificate| {
            certificate.weak_signature().is_some_and(|found| weak.contains(&found))
        })
    }

    fn prime_below(&self, bits: u32) -> bool {
        exchanges(self.graded.scan)
            .any(|exchange| matches!(exchange, KeyExchange::Prime(size) if size < bits))
    }

    fn has(&self, name: &str) -> bool {
        let graded = self.graded;
        match name {
            "mismatch" => graded.trust == Trust::OtherName,
            "untrusted" => graded.trust == Trust::Untrusted,
            "md5_signature" => self.signed_with(&["md5", "md2"]),
            "sha1_signature" => self.signed_with(&["sha1"]),
            "no_encryption" => self.any(|suite| suite.bits == 0),
            "anonymous" => self.any(|suite| suite.anonymous),
            "export" => self.any(Suite::is_export),
            "key_1024" => leaves(graded).any(|one| one.strength() < 1024),
            "key_2048" => leaves(graded).any(|one| one.strength() < 2048),
            "dh_1024" => self.prime_below(1024),
            "dh_2048" => self.prime_below(2048),
            "old_only" => self.newest() == Version::Ssl3,
            "ssl3" => self.speaks(Version::Ssl3),
            "no_tls12" => self.newest() < Version::Tls12,
            "compression" => graded.scan.spoken().any(|offered| offered.compression),
            "rc4_modern" => self.modern(Suite::is_rc4),
            "rc4" => self.any(Suite::is_rc4),
            "small_blocks" => self.modern(Suite::has_small_blocks),
            "tls10" => self.speaks(Version::Tls10),
            "tls11" => self.speaks(Version::Tls11),
            "no_aead" => !self.any(|suite| suite.aead),
            "no_forward_secrecy" => !self.any(Suite::keeps_past_secret),
            "incomplete_chain" => graded.chains.iter().any(|chain| !in_order(chain)),
            "no_secure_renegotiation" => {
                graded.scan.traits.as_ref().is_some_and(|traits| !traits.renegotiation)
            }
            "weak_suites_preferred" => self.prefers_weak(),
            "no_tls13" => !self.speaks(Version::Tls13),
            "no_hsts" => graded.hsts.is_none_or(|seconds| seconds < HSTS_SECONDS),
            _ => false,
        }
    }

    fn prefers_weak(&self) -> bool {
        self.graded.scan.spoken().filter(|offered| offered.version >= Version::Tls12).any(
            |offered| {
                offered.server_prefers == Some(true)
                    && offered
                        .suites
                        .first()
                        .and_then(|found| Suite::find(found.suite))
                        .is_some_and(|suite| !suite.keeps_past_secret())
            },
        )
    }
}

#[cfg(test)]
#[path = "grade/tests.rs"]
mod tests;
