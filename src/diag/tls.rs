//! `tls`: what a server really agrees to, its certificates, and the grade of it all.
//!
//! Whether its certificate is trusted is what every test says; here it is told why not. What works
//! and is weak is shown, and counts only against `--minimum-grade`.

mod show;

use jiff::Timestamp;

use super::health::problem_of;
use super::shell::Command;
use super::{Desk, Problem, Topic, TopicName};
use crate::auth::way_out;
use crate::http::{Client, Failure, certificates_in};
use crate::model::server::TlsVersion;
use crate::model::{Code, Observation, Party, Status};
use crate::net::tls::Version;
use crate::net::tls::answer::Trouble;
use crate::net::tls::certificate::{Certificate, end_of};
use crate::net::tls::grade::{Grade, Graded, Rating, Trust, rate};
use crate::net::tls::scan::{End, Scan, Target, scan};

pub use show::TlsDetails;

/// The longest silence that a scan waits for: there are many questions.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// The suites that this program's own requests take before TLS 1.3: the key is new for each
/// connection, and what is carried is authenticated.
const TAKEN: [u16; 6] = [0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9];

/// Everything that was found, before it is shown.
pub(super) struct Found {
    pub(super) address: String,
    pub(super) scan: Scan,
    /// One chain for each of the server's own certificates.
    pub(super) chains: Vec<Vec<Certificate>>,
    pub(super) trust: Trust,
    pub(super) hsts: Option<u64>,
    pub(super) rating: Option<Rating>,
    pub(super) now: Timestamp,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let topic = Topic::new(TopicName::Tls);
    if desk.server.url.url().scheme() != "https" {
        let why = "the server is asked over plain HTTP";
        if let Some(topic) = ungraded(desk, why) {
            return topic;
        }
        return Topic::left_out(TopicName::Tls, Code::new("check.not_applicable"), why);
    }
    match look(desk).await {
        Ok(Some(found)) => judge(desk, topic, found).await,
        Ok(None) => {
            // The proxy connects, and would count every question as a request of its own.
            let why = "a proxy stands in between: the server's TLS cannot be asked for each thing by \
                itself; run it from where the server is reached directly";
            if let Some(topic) = ungraded(desk, why) {
                return topic;
            }
            Topic::left_out(TopicName::Tls, Code::new("check.not_applicable"), why)
        }
        Err(failure) => {
            let mut topic = topic;
            topic.problem(Problem::from(&failure));
            topic
        }
    }
}

/// Scans the first address; `None` where a proxy stands in between.
async fn look(desk: &Desk) -> Result<Option<(String, Scan)>, Failure> {
    let (server, transport) = (&desk.server, &desk.surroundings.transport);
    let identity = way_out(server, &desk.surroundings.credentials).await?;
    let Some(addresses) = Client::addresses(server, &identity, transport).await? else {
        return Ok(None);
    };
    let Some(&address) = addresses.first() else { return Ok(None) };
    let is_name = matches!(server.url.url().host(), Some(url::Host::Domain(_)));
    let target = Target {
        address,
        name: is_name.then(|| desk.target().0),
        source: server.network.source_address,
        connect: server.timeouts.connect,
        read: server.timeouts.read.min(SILENCE),
        deadline: desk.deadline,
    };
    let mut found = scan(&target).await;
    // TLS 1.3 hides its chain from whoever does not go on.
    if found.chains.is_empty() && found.spoken().next().is_some() {
        let seen = Client::look(server, &identity, transport.clone()).await;
        found.chains.extend(seen.map(|seen| seen.raw));
    }
    Ok(Some((address.to_string(), found)))
}

async fn judge(desk: &Desk, mut topic: Topic, (address, scan): (String, Scan)) -> Topic {
    let report = desk.report().await;
    let said: Vec<Problem> = report.checks.iter().filter_map(spoken_of_tls).collect();
    if scan.spoken().next().is_none() && said.is_empty() {
        let why = format!("not looked at: no TLS was agreed on ({})", why_not(&scan));
        if let Some(topic) = ungraded(desk, &why) {
            return topic;
        }
        return Topic::left_out(TopicName::Tls, Code::new("check.skipped"), why);
    }
    let read = |chain: &Vec<Vec<u8>>| {
        chain.iter().filter_map(|der| Certificate::read(der)).collect::<Vec<_>>()
    };
    let chains: Vec<_> = scan.chains.iter().map(read).collect();
    let hsts = hsts(desk, &said).await;
    let trust = trust(&said);
    let graded = Graded { scan: &scan, chains: &chains, trust, hsts };
    let rating = rate(&graded);
    let now = desk.surroundings.clock.now();
    let found = Found { address, scan, chains, trust, hsts, rating, now };
    for problem in said {
        topic.problem(explained(desk, problem, &found));
    }
    demand(desk, &mut topic, &found);
    failing(&mut topic, &found);
    minimum(desk, &mut topic, &found);
    if let Some(rating) = found.rating.as_ref().filter(|rating| rating.grade < Grade::AMinus) {
        let grade = rating.grade.as_str();
        topic.remark = Some(format!("TLS is graded {grade}: {}", reasons(rating, Grade::AMinus)));
    }
    show::evidence(&mut topic, &found);
    topic.details(&TlsDetails::of(&found));
    let good = show::sentence(&found);
    topic.good(good)
}

/// What a test says of TLS.
fn spoken_of_tls(check: &Observation) -> Option<Problem> {
    problem_of(check).filter(|problem| problem.code.as_str().starts_with("tls."))
}

fn trust(said: &[Problem]) -> Trust {
    let has = |codes: &[&str]| {
        said.iter()
            .any(|problem| problem.party != Party::Ours && codes.contains(&problem.code.as_str()))
    };
    if has(&["tls.hostname_mismatch"]) {
        Trust::OtherName
    } else if has(&["tls.untrusted", "tls.self_signed", "tls.expired", "tls.not_yet_valid"]) {
        Trust::Untrusted
    } else {
        Trust::Trusted
    }
}

/// The seconds of `Strict-Transport-Security`, where the server can be asked. RFC 6797 §6.1.1.
async fn hsts(desk: &Desk, said: &[Problem]) -> Option<u64> {
    if said.iter().any(|problem| problem.status == Status::Critical) {
        return None;
    }
    let statement = desk.statement().await.ok()?;
    let value = statement.headers.get("strict-transport-security")?.to_str().ok()?;
    let mut parts = value.split(';').filter_map(|part| part.split_once('='));
    let age = parts.find(|(name, _)| name.trim().eq_ignore_ascii_case("max-age"))?.1;
    age.trim().trim_matches('"').parse().ok()
}

/// Adds what the scan knows of a problem.
fn explained(desk: &Desk, mut problem: Problem, found: &Found) -> Problem {
    match problem.code.as_str() {
        "tls.untrusted" => incomplete(desk, problem, found),
        "tls.protocol" => no_agreement(desk, problem, found),
        "tls.expired" | "tls.client_certificate_rejected" if problem.party == Party::Ours => {
            let Some(own) = &desk.server.tls.client_certificate else { return problem };
            let file = own.file().display().to_string();
            if !problem.message.contains(&file) {
                problem.message = format!("{}; our certificate is in {file}", problem.message);
            }
            problem
        }
        _ => problem,
    }
}

/// Why an ordinary handshake fails, where the scan shows it.
fn no_agreement(desk: &Desk, mut problem: Problem, found: &Found) -> Problem {
    let Some(newest) = found.scan.spoken().last() else {
        problem.message = format!("{} ({})", problem.message, why_not(&found.scan));
        return problem;
    };
    if newest.version < Version::Tls12 {
        let spoken: Vec<_> = found.scan.spoken().map(|offered| offered.version.as_str()).collect();
        problem.message = format!(
            "the server only speaks {}, which nobody should use any more",
            spoken.join(" and ")
        );
        return problem
            .by(Party::Vendor)
            .next_step("tell the server's operator to switch TLS 1.2 and 1.3 on");
    }
    if newest.version == Version::Tls12 && desk.server.tls.min_version == TlsVersion::V1_3 {
        problem.message =
            "the server speaks nothing newer than TLSv1.2, and tls.min_version asks for 1.3"
                .to_owned();
        return problem
            .next_step("ask the server's operator for TLS 1.3, or set tls.min_version to 1.2");
    }
    let taken = |agreed: &crate::net::tls::scan::Found| TAKEN.contains(&agreed.suite);
    if newest.version == Version::Tls12 && !newest.suites.iter().any(taken) {
        problem.message = format!(
            "the server speaks TLSv1.2 with {}, none of which has both ECDHE and AEAD",
            crate::model::text::counted(newest.suites.len(), "cipher suite")
        );
        return problem.by(Party::Vendor).next_step(
            "tell the server's operator to switch TLS 1.3 on, or suites such as \
             TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        );
    }
    // Before TLS 1.3 a missing certificate ends in the same alert as anything else.
    let demanded = found.scan.traits.as_ref().is_some_and(|traits| traits.demand.is_some());
    if demanded && desk.server.tls.client_certificate.is_none() {
        return Problem::new(
            Code::new("tls.client_certificate_required"),
            "the server asks for a client certificate and breaks the handshake off without one",
        )
        .server_text(problem.server_text);
    }
    problem
}

/// Names the certificate that the chain lacks, where it lacks one.
fn incomplete(desk: &Desk, problem: Problem, found: &Found) -> Problem {
    let Some(end) = found.chains.first().and_then(|chain| end_of(chain)) else { return problem };
    if let Some(weak) = found.chains.iter().flatten().find_map(weakness) {
        return Problem { message: weak, ..problem.by(Party::Vendor) }
            .next_step("tell the server's operator to have the certificate issued anew");
    }
    if end.self_issued {
        return problem;
    }
    let known = desk.server.tls.ca.as_deref().and_then(|file| certificates_in(file).ok());
    // An issuer that we were told of is not missing: something else is wrong.
    let is_known = known
        .as_ref()
        .is_some_and(|known| known.iter().any(|authority| authority.subject == end.issuer));
    if is_known {
        return problem;
    }
    let at = match &end.issuer_at {
        Some(url) => format!("; it can be had at {url}"),
        None => String::new(),
    };
    let message = format!(
        "the server does not send the certificate of {}, which issued that of {}{at}",
        end.issuer, end.subject
    );
    // Without either it may as well be a private authority that we were never told of.
    let certain = known.is_some() || end.issuer_at.is_some();
    let step = if certain {
        format!("tell the server's operator to send the certificate of {} too", end.issuer)
    } else {
        format!(
            "ask the server's operator: either it has to send the certificate of {}, or tls.ca has \
             to name it",
            end.issuer
        )
    };
    let problem = if certain { problem.by(Party::Vendor) } else { problem };
    Problem { message, ..problem.next_step(step) }
}

/// Why nobody trusts a certificate, whoever issued it.
fn weakness(certificate: &Certificate) -> Option<String> {
    let subject = &certificate.subject;
    if let Some(weak) = certificate.weak_signature().filter(|_| !certificate.self_issued) {
        return Some(format!(
            "the certificate of {subject} is signed with {}, which can be forged",
            weak.to_uppercase()
        ));
    }
    let short = certificate.key == "RSA" && certificate.bits < 2048;
    short.then(|| {
        format!(
            "the key of {subject} has {} bits, and fewer than 2048 are not trusted",
            certificate.bits
        )
    })
}

/// A client certificate that is asked for: a fault only where a test shows that it has to be there.
fn demand(desk: &Desk, topic: &mut Topic, found: &Found) {
    let demand = found.scan.traits.as_ref().and_then(|traits| traits.demand.as_ref());
    let has_own = desk.server.tls.client_certificate.is_some();
    let required = Code::new("tls.client_certificate_required");
    if demand.is_none() || has_own || topic.problems.iter().any(|one| one.code == required) {
        return;
    }
    topic.note(
        "a client certificate is asked for, and the inventory names none; where it has to be there, \
         requests are refused",
    );
}

/// A grade that was asked for, where there is nothing to grade: nobody may take that for a pass.
fn ungraded(desk: &Desk, why: &str) -> Option<Topic> {
    let wanted = desk.options.minimum_grade?;
    let mut topic = Topic::new(TopicName::Tls);
    topic.problem(no_grade(wanted, why));
    Some(topic)
}

fn no_grade(wanted: Grade, why: &str) -> Problem {
    Problem::new(
        Code::new("tls.grade"),
        format!("grade {} was asked for, and there is no TLS to grade: {why}", wanted.as_str()),
    )
    .at(Status::Unknown)
    .by(Party::Ours)
    .next_step("leave --minimum-grade away, or ask the server directly and over HTTPS")
}

/// What nobody should rely on any more, though a handshake works.
fn failing(topic: &mut Topic, found: &Found) {
    let Some(rating) = found.rating.as_ref().filter(|rating| rating.without_trust <= Grade::F)
    else {
        return;
    };
    // A handshake that fails says it already.
    if topic.problems.iter().any(|known| known.code == Code::new("tls.protocol")) {
        return;
    }
    let reasons = reasons(rating, Grade::E);
    let problem = Problem::new(Code::new("tls.protocol"), format!("TLS is graded F: {reasons}"));
    topic.problem(
        problem
            .at(Status::Warning)
            .by(Party::Vendor)
            .next_step("tell the server's operator to switch off what the grade names"),
    );
}

/// What keeps a grade below another.
fn reasons(rating: &Rating, below: Grade) -> String {
    let reasons: Vec<_> = rating
        .deductions
        .iter()
        .filter(|deduction| deduction.grade < below)
        .map(|deduction| deduction.reason.as_str())
        .collect();
    if reasons.is_empty() { format!("its score is {}", rating.score) } else { reasons.join("; ") }
}

fn minimum(desk: &Desk, topic: &mut Topic, found: &Found) {
    let Some(wanted) = desk.options.minimum_grade else { return };
    let Some(rating) = &found.rating else {
        topic.problem(no_grade(wanted, "nothing could be asked beside an ordinary handshake"));
        return;
    };
    if rating.grade >= wanted {
        return;
    }
    let why = reasons(rating, wanted);
    let (grade, wanted) = (rating.grade.as_str(), wanted.as_str());
    topic.problem(Problem::new(
        Code::new("tls.grade"),
        format!("TLS is graded {grade}, and {wanted} was asked for: {why}"),
    ));
}

/// Why nothing was agreed on, as the newest version has it.
pub(super) fn why_not(scan: &Scan) -> String {
    let ends = scan.versions.iter().rev().filter_map(|offered| offered.end.as_ref());
    // An alert says more than a connection that ended.
    let mut ends: Vec<_> = ends.collect();
    ends.sort_by_key(|end| !matches!(end, End::Trouble(_)));
    ends.first().map_or_else(|| "nothing was answered".to_owned(), |end| end_words(end))
}

/// How an attempt ended.
pub(super) fn end_words(end: &End) -> String {
    match end {
        End::Alert(number) => format!("refused with alert {number} ({})", alert_name(*number)),
        End::OtherVersion(number) => {
            let known = Version::ALL.iter().find(|version| version.number() == *number);
            let other =
                known.map_or_else(|| format!("0x{number:04x}"), |one| one.as_str().to_owned());
            format!("answered with {other}")
        }
        End::NotOffered(suite) => format!("chose suite 0x{suite:04x}, which was not offered"),
        End::Trouble(Trouble::Garbage) => "what came back is no TLS".to_owned(),
        End::Trouble(Trouble::Malformed) => "what came back is broken TLS".to_owned(),
        End::Trouble(Trouble::TooMuch) => "the answer is larger than 256 KiB".to_owned(),
        End::Trouble(Trouble::Closed) => "the connection was closed".to_owned(),
        End::Trouble(Trouble::Silent) => "nothing came back in time".to_owned(),
        End::Unreached(why) => format!("no connection: {why}"),
        End::OutOfTime => "the time was up".to_owned(),
    }
}

/// RFC 5246 §7.2, RFC 8446 §6.
fn alert_name(number: u8) -> &'static str {
    match number {
        10 => "unexpected message",
        20 => "bad record",
        40 => "handshake failure",
        42 => "bad certificate",
        47 => "illegal parameter",
        48 => "unknown authority",
        50 => "decode error",
        70 => "protocol version",
        71 => "insufficient security",
        80 => "internal error",
        86 => "inappropriate fallback",
        109 => "missing extension",
        112 => "unknown name",
        116 => "certificate required",
        120 => "no application protocol",
        _ => "unknown",
    }
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    if desk.server.url.url().scheme() != "https" {
        return Vec::new();
    }
    let (host, port) = desk.target();
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let at = format!("{shown}:{port}");
    let mut base = Command::new(&["openssl", "s_client", "-connect", &at]).without_input();
    if matches!(desk.server.url.url().host(), Some(url::Host::Domain(_))) {
        base = base.with(&["-servername", &host]);
    }
    if let Some(ca) = &desk.server.tls.ca {
        base = base.with(&["-CAfile", &ca.display().to_string()]);
    }
    let mut all = vec![
        base.clone().with(&["-showcerts", "-status"]).about("the chain as sent, stapling, verdict"),
    ];
    for version in ["-tls1_3", "-tls1_2", "-tls1_1", "-tls1"] {
        all.push(base.clone().with(&[version, "-cipher", "ALL:@SECLEVEL=0"]));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_words() {
        for (end, words) in [
            (End::Alert(70), "refused with alert 70 (protocol version)"),
            (End::OtherVersion(0x0302), "answered with TLSv1.1"),
            (End::Trouble(Trouble::Garbage), "what came back is no TLS"),
            (End::NotOffered(5), "chose suite 0x0005, which was not offered"),
        ] {
            assert_eq!(end_words(&end), words);
        }
    }

    #[test]
    fn trouble_says_more_than_a_refusal() {
        use crate::net::tls::scan::Offered;
        let ended = |version, end| Offered {
            groups: Vec::new(),
            groups_complete: false,
            version,
            suites: Vec::new(),
            server_prefers: None,
            compression: false,
            end: Some(end),
        };
        let versions = vec![
            ended(Version::Tls12, End::Trouble(Trouble::TooMuch)),
            ended(Version::Tls13, End::Alert(40)),
        ];
        let scan = Scan { versions, ..Scan::default() };
        assert_eq!(why_not(&scan), "the answer is larger than 256 KiB");
    }
}
