//! Cipher suites and key exchange groups, by their numbers.

use std::sync::OnceLock;

use super::Version;

/// What a cipher suite is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    pub number: u16,
    /// As IANA registers it.
    pub name: &'static str,
    pub exchange: Exchange,
    /// Whether the server proves who it is.
    pub anonymous: bool,
    /// Of the cipher; 112 for triple DES.
    pub bits: u32,
    pub aead: bool,
    /// The oldest version that has it.
    pub since: Version,
}

/// How a suite agrees on its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// The client sends the secret, locked with the server's key.
    Rsa,
    /// Diffie-Hellman, new for each connection.
    Dhe,
    /// The same over an elliptic curve.
    Ecdhe,
    /// With the key in the certificate.
    Ecdh,
    /// TLS 1.3: whatever group both have.
    Any,
}

impl Suite {
    /// All that are known, by number.
    #[must_use]
    pub fn all() -> &'static [Suite] {
        static ALL: OnceLock<Vec<Suite>> = OnceLock::new();
        ALL.get_or_init(|| {
            let table = include_str!("../../../data/tls/suites.txt");
            table.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect()
        })
    }

    #[must_use]
    pub fn find(number: u16) -> Option<&'static Suite> {
        let all = Suite::all();
        all.binary_search_by_key(&number, |suite| suite.number).ok().and_then(|at| all.get(at))
    }

    /// What a version can be asked for, the strong ones first.
    #[must_use]
    pub fn of(version: Version) -> Vec<u16> {
        let fits = |suite: &&Suite| {
            (version == Version::Tls13) == (suite.since == Version::Tls13) && suite.since <= version
        };
        let mut suites: Vec<_> = Suite::all().iter().filter(fits).collect();
        suites.sort_by_key(|suite| {
            std::cmp::Reverse((suite.keeps_past_secret(), suite.aead, suite.bits))
        });
        suites.into_iter().map(|suite| suite.number).collect()
    }

    /// Whether a key that is stolen later opens nothing that was recorded before.
    #[must_use]
    pub fn keeps_past_secret(&self) -> bool {
        matches!(self.exchange, Exchange::Dhe | Exchange::Ecdhe | Exchange::Any)
    }

    #[must_use]
    pub fn is_export(&self) -> bool {
        self.name.contains("_EXPORT_")
    }

    #[must_use]
    pub fn is_rc4(&self) -> bool {
        self.name.contains("_RC4_")
    }

    /// Whether its blocks are of 64 bits, which a long connection gives away.
    #[must_use]
    pub fn has_small_blocks(&self) -> bool {
        ["DES_", "_IDEA_", "_RC2_"].iter().any(|cipher| self.name.contains(cipher))
    }
}

fn row(line: &'static str) -> Option<Suite> {
    let mut words = line.split_whitespace();
    let number = u16::from_str_radix(words.next()?, 16).ok()?;
    let name = words.next()?;
    let exchange = match words.next()? {
        "rsa" => Exchange::Rsa,
        "dhe" => Exchange::Dhe,
        "ecdhe" => Exchange::Ecdhe,
        "ecdh" => Exchange::Ecdh,
        "any" => Exchange::Any,
        _ => return None,
    };
    let anonymous = words.next()? == "none";
    let bits = words.next()?.parse().ok()?;
    let aead = words.next()? == "aead";
    let since = match words.next()? {
        "3.0" => Version::Ssl3,
        "1.2" => Version::Tls12,
        "1.3" => Version::Tls13,
        _ => return None,
    };
    Some(Suite { number, name, exchange, anonymous, bits, aead, since })
}

/// Groups, with their name and the strength that an RSA key would need to match it, in bits; 0 where
/// the group is too weak to count.
const GROUPS: &[(u16, &str, u32)] = &[
    (0x11ec, "X25519MLKEM768", 7680),
    (0x11eb, "SecP256r1MLKEM768", 7680),
    (0x11ed, "SecP384r1MLKEM1024", 15360),
    (0x001d, "x25519", 3072),
    (0x0017, "secp256r1", 3072),
    (0x001e, "x448", 7680),
    (0x0018, "secp384r1", 7680),
    (0x0019, "secp521r1", 15360),
    (0x001f, "brainpoolP256r1tls13", 3072),
    (0x0020, "brainpoolP384r1tls13", 7680),
    (0x0021, "brainpoolP512r1tls13", 15360),
    (0x0100, "ffdhe2048", 2048),
    (0x0101, "ffdhe3072", 3072),
    (0x0102, "ffdhe4096", 4096),
    (0x0103, "ffdhe6144", 6144),
    (0x0104, "ffdhe8192", 8192),
    (0x001a, "brainpoolP256r1", 3072),
    (0x001b, "brainpoolP384r1", 7680),
    (0x001c, "brainpoolP512r1", 15360),
    (0x0016, "secp256k1", 3072),
    (0x0015, "secp224r1", 2048),
    (0x0013, "secp192r1", 1536),
    (0x0012, "secp192k1", 1536),
    (0x0014, "secp224k1", 2048),
    (0x000e, "sect571r1", 15360),
    (0x000d, "sect571k1", 15360),
    (0x000c, "sect409r1", 7680),
    (0x000b, "sect409k1", 7680),
    (0x000a, "sect283r1", 3072),
    (0x0009, "sect283k1", 3072),
    (0x0007, "sect233r1", 2048),
    (0x0006, "sect233k1", 2048),
    (0x0003, "sect163r2", 1024),
    (0x0001, "sect163k1", 1024),
    (0x0010, "secp160r1", 1024),
];

/// The groups that a version can be asked for.
#[must_use]
pub fn groups(version: Version) -> Vec<u16> {
    // Before 1.3 a group of whole numbers stays out: named, it would change the size that is used.
    let fits = |number: u16| match version {
        Version::Tls13 => number >= 0x0100 || (0x0017..=0x0021).contains(&number),
        _ => number < 0x001f,
    };
    let tls12_only = |number: u16| (0x001a..=0x001c).contains(&number);
    GROUPS
        .iter()
        .map(|&(number, _, _)| number)
        .filter(|&number| fits(number) && !(version == Version::Tls13 && tls12_only(number)))
        .collect()
}

/// What a group is called.
#[must_use]
pub fn group_name(number: u16) -> String {
    let known = GROUPS.iter().find(|group| group.0 == number);
    known.map_or_else(|| format!("0x{number:04x}"), |group| group.1.to_owned())
}

/// How long an RSA key would have to be to be as strong, in bits.
#[must_use]
pub fn group_strength(number: u16) -> u32 {
    GROUPS.iter().find(|group| group.0 == number).map_or(0, |group| group.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_read_and_in_order() {
        let rows = include_str!("../../../data/tls/suites.txt");
        let rows = rows.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(Suite::all().len(), rows);
        assert!(Suite::all().is_sorted_by(|one, next| one.number < next.number));
    }

    #[test]
    fn a_suite_says_what_it_is() {
        for (number, exchange, anonymous, bits, aead, small) in [
            (0x1301, Exchange::Any, false, 128, true, false),
            (0xc02f, Exchange::Ecdhe, false, 128, true, false),
            (0xcca8, Exchange::Ecdhe, false, 256, true, false),
            (0x000a, Exchange::Rsa, false, 112, false, true),
            (0x0003, Exchange::Rsa, false, 40, false, false),
            (0x003c, Exchange::Rsa, false, 128, false, false),
            (0x0034, Exchange::Dhe, true, 128, false, false),
            (0x0002, Exchange::Rsa, false, 0, false, false),
        ] {
            let suite = Suite::find(number).unwrap();
            assert_eq!(suite.exchange, exchange, "{}", suite.name);
            assert_eq!(suite.anonymous, anonymous, "{}", suite.name);
            assert_eq!((suite.bits, suite.aead), (bits, aead), "{}", suite.name);
            assert_eq!(suite.has_small_blocks(), small, "{}", suite.name);
        }
    }

    #[test]
    fn a_version_is_asked_for_nothing_that_it_never_had() {
        assert_eq!(Suite::of(Version::Tls13).len(), 5);
        assert!(!Suite::of(Version::Ssl3).contains(&0xc02f));
        assert!(Suite::of(Version::Tls12).contains(&0x0004));
        // The downgrade signal would make a server refuse.
        assert!(Version::ALL.iter().all(|&version| !Suite::of(version).contains(&0x5600)));
        assert!(groups(Version::Tls12).iter().all(|&group| group < 0x0100));
        assert!(groups(Version::Tls13).contains(&0x11ec));
    }
}
