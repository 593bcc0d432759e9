//! What a client says first.

use super::Version;

/// The two suites that are signals, not suites.
const RENEGOTIATION_SIGNAL: u16 = 0x00ff;

/// Signatures that are understood: all of them, so that none is the reason of a refusal.
const SIGNATURES: &[u16] = &[
    0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080a, 0x080b, 0x0401,
    0x0501, 0x0601, 0x0303, 0x0301, 0x0302, 0x0402, 0x0502, 0x0602, 0x0203, 0x0201, 0x0202, 0x0101,
];

/// A question to a server. RFC 5246 §7.4.1.2, RFC 8446 §4.1.2, RFC 6101 §5.6.1.2.
#[derive(Clone, Debug)]
pub struct Hello<'a> {
    pub version: Version,
    /// In the order of preference.
    pub suites: &'a [u16],
    pub groups: &'a [u16],
    /// The name for SNI; none for an address.
    pub name: Option<&'a str>,
    /// Whether compression is offered too.
    pub compression: bool,
}

impl Hello<'_> {
    /// The question in one record.
    #[must_use]
    pub fn record(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(640);
        let spoken = self.version.min(Version::Tls12);
        put16(&mut body, spoken.number());
        body.extend(std::iter::repeat_with(|| fastrand::u8(..)).take(32));
        // A middlebox lets TLS 1.3 through when it looks like a session that is taken up again.
        // Before, an empty identifier shows whether the server gives one.
        let session = if self.version == Version::Tls13 { 32 } else { 0 };
        body.push(session);
        body.extend(std::iter::repeat_with(|| fastrand::u8(..)).take(usize::from(session)));
        block16(&mut body, |out| {
            for &suite in self.suites {
                put16(out, suite);
            }
            if self.version == Version::Ssl3 {
                put16(out, RENEGOTIATION_SIGNAL);
            }
        });
        body.extend_from_slice(if self.compression { &[2, 1, 0] } else { &[1, 0] });
        if self.version != Version::Ssl3 {
            block16(&mut body, |out| self.extensions(out));
        }
        let mut record = vec![22];
        put16(&mut record, self.version.min(Version::Tls10).number());
        block16(&mut record, |out| {
            out.push(1);
            block24(out, |out| out.extend_from_slice(&body));
        });
        record
    }

    fn extensions(&self, out: &mut Vec<u8>) {
        if let Some(name) = self.name {
            extension(out, 0, |out| {
                block16(out, |out| {
                    out.push(0);
                    block16(out, |out| out.extend_from_slice(name.as_bytes()));
                });
            });
        }
        // The answer of the authority about the certificate.
        extension(out, 5, |out| out.extend_from_slice(&[1, 0, 0, 0, 0]));
        if !self.groups.is_empty() {
            extension(out, 10, |out| {
                block16(out, |out| self.groups.iter().for_each(|&group| put16(out, group)));
            });
            extension(out, 11, |out| out.extend_from_slice(&[1, 0]));
        }
        if self.version >= Version::Tls12 {
            extension(out, 13, |out| {
                block16(out, |out| SIGNATURES.iter().for_each(|&scheme| put16(out, scheme)));
            });
        }
        extension(out, 16, |out| {
            block16(out, |out| {
                for protocol in ["h2", "http/1.1"] {
                    out.push(u8::try_from(protocol.len()).unwrap_or_default());
                    out.extend_from_slice(protocol.as_bytes());
                }
            });
        });
        if self.version == Version::Tls13 {
            extension(out, 43, |out| out.extend_from_slice(&[2, 3, 4]));
            // No key at all: the server names the group that it would have one of, and the suite.
            extension(out, 51, |out| put16(out, 0));
        } else {
            // Extended master secret, session tickets, secure renegotiation.
            extension(out, 23, |_| ());
            extension(out, 35, |_| ());
            extension(out, 0xff01, |out| out.push(0));
        }
    }
}

fn extension(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    put16(out, kind);
    block16(out, fill);
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// What `fill` writes, with its length before it; it never comes near 64 KiB.
fn block16(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut block = Vec::new();
    fill(&mut block);
    put16(out, u16::try_from(block.len()).unwrap_or(u16::MAX));
    out.append(&mut block);
}

fn block24(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(0);
    block16(out, fill);
}

#[cfg(test)]
mod tests {
    use super::super::suite::{Suite, groups};
    use super::*;

    fn record(version: Version) -> Vec<u8> {
        let (suites, groups) = (Suite::of(version), groups(version));
        let name = Some("fhir.example");
        Hello { version, suites: &suites, groups: &groups, name, compression: false }.record()
    }

    #[test]
    fn the_lengths_agree() {
        for version in Version::ALL {
            let record = record(version);
            let length = |at: usize| usize::from(record[at]) << 8 | usize::from(record[at + 1]);
            assert_eq!(record[0], 22);
            assert_eq!(length(3), record.len() - 5, "{version:?}");
            assert_eq!(record[5], 1);
            assert_eq!(length(7), record.len() - 9, "{version:?}");
            let session = usize::from(record[43]);
            let suites = 44 + session;
            let extensions = suites + 2 + length(suites) + 2;
            if version == Version::Ssl3 {
                assert_eq!(extensions, record.len(), "the oldest version knows no extensions");
            } else {
                assert_eq!(extensions + 2 + length(extensions), record.len(), "{version:?}");
            }
        }
    }

    #[test]
    fn the_version_stands_where_each_version_looks_for_it() {
        for (version, outer, inner) in [
            (Version::Ssl3, [3, 0], [3, 0]),
            (Version::Tls10, [3, 1], [3, 1]),
            (Version::Tls11, [3, 1], [3, 2]),
            (Version::Tls12, [3, 1], [3, 3]),
            (Version::Tls13, [3, 1], [3, 3]),
        ] {
            let record = record(version);
            assert_eq!(record[1..3], outer, "{version:?}");
            assert_eq!(record[9..11], inner, "{version:?}");
            let names_13 = record.windows(7).any(|bytes| bytes == [0, 43, 0, 3, 2, 3, 4]);
            assert_eq!(names_13, version == Version::Tls13);
        }
    }
}
