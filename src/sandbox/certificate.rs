//! The throw-away authority and the certificates of one sandbox, true and false ones.

use std::net::IpAddr;

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::civil::Date;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use crate::model::{Error, Result, Secret};
use crate::serve::Tls;

/// Days that a certificate holds: long enough that nobody warns of its end during a drill.
const DAYS: i64 = 365;

/// A certificate authority that lives as long as its sandbox. Its key is never written anywhere.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_der: Vec<u8>,
    pub(super) certificate_pem: String,
    today: Date,
}

/// Whose certificate, and for when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leaf {
    Right,
    Expired,
    WrongHost,
    SelfSigned,
}

impl Authority {
    pub(super) fn new(now: Timestamp) -> Result<Authority> {
        let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
        let key = KeyPair::generate().context("cannot make a certificate")?;
        let mut params = CertificateParams::new(Vec::new()).context("cannot make a certificate")?;
        params.distinguished_name = named("fhirctl sandbox CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        holds(&mut params, today, -60, DAYS)?;
        let certificate = params.self_signed(&key).context("cannot make a certificate")?;
        Ok(Authority {
            certificate_der: certificate.der().to_vec(),
            certificate_pem: certificate.pem(),
            issuer: Issuer::new(params, key),
            today,
        })
    }

    /// A client's certificate with its key, both PEM.
    pub(super) fn client(&self) -> Result<(String, Secret)> {
        let key = KeyPair::generate().context("cannot make a certificate")?;
        let mut params = CertificateParams::new(Vec::new()).context("cannot make a certificate")?;
        params.distinguished_name = named("fhirctl sandbox client");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        holds(&mut params, self.today, -1, DAYS - 1)?;
        let made = params.signed_by(&key, &self.issuer).context("cannot make a certificate")?;
        Ok((made.pem(), Secret::new(key.serialize_pem())))
    }

    /// A certificate for the loopback names and one address more. `asks`: clients have to show one
    /// of this authority.
    pub(super) fn leaf(&self, kind: Leaf, address: IpAddr, asks: bool) -> Result<Tls> {
        let names = match kind {
            Leaf::WrongHost => vec!["another-host.invalid".to_owned()],
            Leaf::Right | Leaf::Expired | Leaf::SelfSigned => {
                let mut names =
                    vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
                let address = address.to_string();
                if !names.contains(&address) {
                    names.push(address);
                }
                names
            }
        };
        let (from, until) = match kind {
            Leaf::Expired => (-30, -1),
            Leaf::Right | Leaf::WrongHost | Leaf::SelfSigned => (-1, DAYS - 1),
        };
        let key = KeyPair::generate().context("cannot make a certificate")?;
        let mut params = CertificateParams::new(names).context("cannot make a certificate")?;
        params.distinguished_name = named("fhirctl sandbox");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        holds(&mut params, self.today, from, until)?;
        let chain = match kind {
            Leaf::SelfSigned => {
                vec![params.self_signed(&key).context("cannot make a certificate")?.der().to_vec()]
            }
            Leaf::Right | Leaf::Expired | Leaf::WrongHost => {
                let leaf =
                    params.signed_by(&key, &self.issuer).context("cannot make a certificate")?;
                vec![leaf.der().to_vec(), self.certificate_der.clone()]
            }
        };
        let clients = asks.then(|| self.certificate_der.clone());
        Ok(Tls::new(chain, key.serialize_der(), clients)
            .context("cannot use an own certificate")?)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::OrganizationName, "fhirctl sandbox, throw-away");
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Sets from when and until when a certificate holds, in days from today, at midnight UTC.
fn holds(params: &mut CertificateParams, today: Date, from: i64, until: i64) -> Result<()> {
    let (year, month, day) = day(today, from)?;
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) = self::day(today, until)?;
    params.not_after = rcgen::date_time_ymd(year, month, day);
    Ok(())
}

fn day(today: Date, days: i64) -> Result<(i32, u8, u8)> {
    let date = jiff::Span::new().try_days(days).and_then(|span| today.checked_add(span));
    match date.map(|date| (date, u8::try_from(date.month()), u8::try_from(date.day()))) {
        Ok((date, Ok(month), Ok(day))) => Ok((i32::from(date.year()), month, day)),
        _ => Err(Error::internal("the machine's clock is out of range")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_is_made() {
        let authority = Authority::new("2026-02-28T12:00:00Z".parse().unwrap()).unwrap();
        assert!(authority.certificate_pem.starts_with("-----BEGIN CERTIFICATE-----"));
        for kind in [Leaf::Right, Leaf::Expired, Leaf::WrongHost, Leaf::SelfSigned] {
            assert!(authority.leaf(kind, [127, 0, 0, 1].into(), false).is_ok(), "{kind:?}");
        }
    }
}
