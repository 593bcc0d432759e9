//! What a vendor may read: an agreement's figures with the words of people cleared of what is ours.
//!
//! People write host names, addresses and the names of other servers into reasons and notes. Each
//! becomes `[internal]`, and the rest of the sentence stays. What cannot be told from a host is taken for
//! one: rather a word too much is missing than one too few.

use super::incident::Outage;
use super::proof::Proof;
use super::sla::Agreed;
use crate::model::{Code, Result, Server};

const INTERNAL: &str = "[internal]";

/// The figures of a server's agreement, with no other server, host or address in their words.
#[must_use]
pub fn for_vendor(mut agreed: Agreed, server: &Server, all: &[Server]) -> Agreed {
    let words = Words::of(server, all);
    words.clear(&mut agreed.agreement.text);
    for period in &mut agreed.periods {
        for planned in &mut period.planned {
            words.clear(&mut planned.reason);
        }
        let left_out = period.left_out.iter_mut().map(|left_out| &mut left_out.outage);
        for outage in period.incidents.iter_mut().chain(left_out) {
            words.clear_outage(outage);
        }
    }
    agreed
}

/// A proof of a server with no other server, host or address in the words of people. What was seen is
/// told as it was: its hashes are made of it.
///
/// # Errors
/// As [`prove`](super::prove), which is not to be expected here.
pub fn proof_for_vendor(mut proof: Proof, server: &Server, all: &[Server]) -> Result<Proof> {
    let words = Words::of(server, all);
    for proven in &mut proof.servers {
        if let Some(agreement) = &mut proven.agreement {
            words.clear(&mut agreement.terms.text);
        }
        for planned in &mut proven.maintenance {
            words.clear(&mut planned.reason);
        }
    }
    proof.digest = proof.computed_digest()?;
    Ok(proof)
}

/// Which words are whose; all in lower case.
struct Words {
    own: Vec<String>,
    others: Vec<String>,
    /// Whether the server is reached by a proxy of ours.
    is_proxied: bool,
}

impl Words {
    fn of(server: &Server, all: &[Server]) -> Words {
        let host = |server: &Server| server.url.url().host_str().map(str::to_lowercase);
        let name = |server: &Server| server.name.to_lowercase();
        let own: Vec<String> = host(server).into_iter().chain([name(server)]).collect();
        let others = all.iter().flat_map(|other| host(other).into_iter().chain([name(other)]));
        let others = others.filter(|word| !own.contains(word)).collect();
        Words { own, others, is_proxied: server.network.proxy.is_some() }
    }

    fn clear_outage(&self, outage: &mut Outage) {
        self.clear(&mut outage.cause);
        self.clear(&mut outage.case_number);
        for evidence in [&mut outage.first, &mut outage.last].into_iter().flatten() {
            evidence.message = self.cleared(&evidence.message);
            // Of a proxy it is the proxy's.
            evidence.remote_address.take_if(|_| self.is_proxied);
        }
        for note in &mut outage.notes {
            note.text = self.cleared(&note.text);
            self.clear(&mut note.cause);
            self.clear(&mut note.case_number);
        }
    }

    fn clear(&self, text: &mut Option<String>) {
        if let Some(text) = text {
            *text = self.cleared(text);
        }
    }

    fn cleared(&self, text: &str) -> String {
        text.split_inclusive(char::is_whitespace).map(|word| self.cleared_word(word)).collect()
    }

    /// One word, with the marks around it and between its parts kept.
    fn cleared_word(&self, word: &str) -> String {
        let is_mark = |c: char| !(c.is_alphanumeric() || "/\\[:".contains(c));
        let core = word.trim_start_matches(is_mark);
        let before = &word[..word.len() - core.len()];
        let core = core.trim_end_matches(|c: char| is_mark(c) && c != ']' || c == ':');
        let after = &word[before.len() + core.len()..];
        if self.is_internal(core) {
            return format!("{before}{INTERNAL}{after}");
        }
        // Of several that are joined, such as `ehr=db01.corp,db02.corp`, each is looked at.
        let joint = |c: char| !(c.is_alphanumeric() || "-_.:/\\[]%@".contains(c));
        if !core.contains(joint) {
            return word.to_owned();
        }
        let parts: String = core
            .split_inclusive(joint)
            .map(|part| match part.char_indices().next_back().filter(|(_, c)| joint(*c)) {
                Some((end, c)) => format!("{}{c}", self.cleared_word(&part[..end])),
                None => self.cleared_word(part),
            })
            .collect();
        format!("{before}{parts}{after}")
    }

    fn is_internal(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        let is_own = |host: &str| self.own.iter().any(|own| own == host);
        if is_own(&word) {
            return false;
        }
        if let Some((_, rest)) = word.split_once("://") {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            return !is_own(without_port(authority));
        }
        let is_internal = |part: &str| {
            let host = without_port(part).trim_matches(['[', ']']);
            let is_other = self.others.iter().any(|other| other == host);
            is_other || is_address(part) || !is_own(host) && is_host(host)
        };
        word.contains(['@', '\\']) || word.split('/').any(is_internal)
    }
}

/// The host of `host:port` and `[address]:port`.
fn without_port(text: &str) -> &str {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { text }
        }
        _ => text,
    }
}

/// Also one with a zone, and the ends of a range.
fn is_address(text: &str) -> bool {
    let bare = |text: &str| text.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    bare(text) || bare(without_port(text)) || text.split(['-', '%']).any(bare)
}

/// Whether it may name a host: words with dots between them that are no reason code, or letters with a
/// number behind them, such as `srv-ehr-02`.
fn is_host(word: &str) -> bool {
    /// Standards that look like it.
    const KNOWN: [&str; 13] = [
        "http1", "http2", "http3", "ipv4", "ipv6", "oauth2", "sha1", "sha256", "sha384", "sha512",
        "utf8", "stu3", "dstu2",
    ];
    let is_label = |label: &str| {
        let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        !label.is_empty() && label.chars().all(is_part)
    };
    let has_letter = |text: &str| text.chars().any(char::is_alphabetic);
    if word.contains('.') {
        let labels: Vec<&str> = word.split('.').collect();
        let is_version =
            word.trim_start_matches('v').bytes().all(|b| b == b'.' || b.is_ascii_digit());
        return labels.iter().all(|label| is_label(label))
            && has_letter(word)
            && !is_version
            && Code::find(word).is_none();
    }
    let number = word.bytes().rev().take_while(u8::is_ascii_digit).count();
    let name = &word[..word.len() - number];
    let letters = name.chars().take_while(|c| c.is_alphabetic()).count();
    number > 0
        && letters >= 2
        && is_label(name)
        && !KNOWN.contains(&word)
        && !name.starts_with("tls")
        // What tickets and faults are called by.
        && !["case", "inc", "chg", "cve", "ticket"].iter().any(|known| name.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_ours_are_cleared_and_the_rest_stays() {
        let words = Words {
            own: vec!["ehr.vendor.example".into(), "ehr".into()],
            others: vec!["lab-prod".into(), "lab.example.org".into(), "pacs".into()],
            is_proxied: false,
        };
        for (text, cleared) in [
            ("upgrade of the database", "upgrade of the database"),
            ("db01.corp.local, then 10.1.2.3:5432.", "[internal], then [internal]."),
            ("see https://wiki.corp/page?x=1 (draft)", "see [internal] (draft)"),
            (
                "https://ehr.vendor.example/fhir and ehr.vendor.example:443 failed",
                "https://ehr.vendor.example/fhir and ehr.vendor.example:443 failed",
            ),
            ("EHR and Lab-Prod, PACS too", "EHR and [internal], [internal] too"),
            ("like lab.example.org", "like [internal]"),
            ("on srv-ehr-02 and db1;web3", "on [internal] and [internal];[internal]"),
            ("fe80::1 [2001:db8::2]:443 ::1", "[internal] [internal] [internal]"),
            ("ask anna@corp.example or \\\\files\\share", "ask [internal] or [internal]"),
            ("host=db01.corp,port=5432", "host=[internal],port=5432"),
            ("nfs db01.corp:/export", "nfs [internal]"),
            ("[db01.corp] 10.1.2.3-10.1.2.9 fe80::1%eth0", "[internal] [internal] [internal]"),
            ("db01.corp—PACS, /srv/db02.corp/x", "[internal]—[internal], [internal]"),
            (
                "https://ehr.vendor.example/x?to=10.1.2.3",
                "https://ehr.vendor.example/x?to=[internal]",
            ),
            (
                "http.status 503, tls13, v1.2.3, 99.9 %, at 10:30",
                "http.status 503, tls13, v1.2.3, 99.9 %, at 10:30",
            ),
            (
                "case 4711 CHG0012 of 2026-10-12T06:00:00Z",
                "case 4711 CHG0012 of 2026-10-12T06:00:00Z",
            ),
            ("ein Fehler\nin zwei Zeilen", "ein Fehler\nin zwei Zeilen"),
            ("", ""),
        ] {
            assert_eq!(words.cleared(text), cleared);
        }
    }
}
