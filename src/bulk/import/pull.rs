//! An import that the server does by itself: begun once, waited for, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use url::Url;

use super::completion::{self, Completion, ErrorFile, Row};
use super::count;
use super::family::{Family, Remote, Told, kick_off, submit_status};
use super::ledger::Ledger;
use super::post::uncertain;
use super::report::{Note, OfType, Summary};
use super::send::Uncertain;
use crate::auth::caller::{Ask, Caller};
use crate::bulk::halt::Halt;
use crate::bulk::job::{Began, KickOff, Look, Started, Watch, Words, begin, follow};
use crate::bulk::wait::Pace;
use crate::fhir::body::BodyKind;
use crate::fhir::outcome::{IssueSeverity, OperationOutcome};
use crate::http::{Answer, Body, Client};
use crate::model::Error;

/// Most bytes of a completion or of a file of errors.
const ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// Most files of errors that are fetched; the others count as the completion counts them.
const ERROR_FILES: usize = 200;
/// How often a busy server is asked to begin.
const BEGINNINGS: u32 = 10;

/// What is to be done.
pub struct Pull<'a> {
    pub caller: &'a Arc<Caller>,
    pub family: Family,
    pub told: Told<'a>,
    /// Resources of local files by type, where they are known.
    pub read: BTreeMap<String, u64>,
    pub pace: Pace,
    pub max_wait: Option<Duration>,
    pub uncertain: Uncertain,
    /// Is told in the server's words how far it is.
    pub progress: &'a (dyn Fn(&str) + Sync),
}

impl Pull<'_> {
    /// Begins the import, or goes on waiting for it. The last value says that it was over before.
    ///
    /// # Errors
    /// Why it stopped; the job may go on.
    pub async fn run(&self, ledger: &mut Ledger) -> Result<(Summary, Vec<Row>, bool), Halt> {
        if let Some((summary, rows)) = ledger.fact::<(Summary, Vec<Row>)>("pulled")? {
            return Ok((summary, rows, true));
        }
        let client = self.caller.client().map_err(|failure| Halt::of(failure, false))?;
        let mut types: Vec<String> =
            self.told.files.iter().map(|it| it.resource_type.clone()).collect();
        types.extend(self.read.keys().cloned());
        types.sort();
        types.dedup();
        let before = match ledger.fact("before")? {
            Some(before) => before,
            None => {
                let before = count::totals(self.caller, &client, types.iter()).await;
                ledger.note(&[("before", json!(before))])?;
                before
            }
        };
        let (status_url, is_separate) = self.begun(&client, ledger).await?;
        let completion = self.wait(&client, status_url.clone(), is_separate).await?;
        let errors = self.errors(&client, &status_url, &completion.error_files).await;
        let after = count::totals(self.caller, &client, types.iter()).await;
        let counts: Vec<u64> = errors.iter().map(|it| it.0).collect();
        let sent: Vec<(String, String)> = self
            .told
            .files
            .iter()
            .map(|it| (it.resource_type.clone(), it.url.as_str().to_owned()))
            .collect();
        let rows = completion::rows(&sent, &completion, &counts);
        let mut summary = self.summary(&types, &rows, &before, &after);
        summary.unreadable =
            rows.iter().filter(|row| row.r#type.is_none()).map(|row| row.errors).sum();
        let mut codes: BTreeMap<String, u64> = BTreeMap::new();
        let all = errors.into_iter().flat_map(|it| it.1);
        for code in all.chain(completion.errors) {
            *codes.entry(code).or_default() += 1;
        }
        let total: u64 = rows.iter().map(|row| row.errors).sum();
        if total > 0 {
            let codes: Vec<String> =
                codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
            let codes =
                if codes.is_empty() { String::new() } else { format!(": {}", codes.join(", ")) };
            let message = format!("the server reports {total} errors{codes}");
            summary.notes.insert(0, Note::new("error", "bulk.import_errors", message));
        }
        ledger.note(&[("pulled", json!((&summary, &rows)))])?;
        Ok((summary, rows, false))
    }

    /// The job's status URL: of the job that was begun, else of one that is begun now.
    async fn begun(&self, client: &Arc<Client>, ledger: &mut Ledger) -> Result<(Url, bool), Halt> {
        if let Some((url, is_separate)) = ledger.fact::<(String, bool)>("status_url")? {
            let url = Url::parse(&url).map_err(|_| Error::internal("the status URL is none"))?;
            return Ok((url, is_separate));
        }
        let server = &self.caller.server;
        let request = kick_off(self.family, &server.url, &self.told)?;
        // A submission has a name of its own: sent again it is the same.
        let is_repeatable = self.family == Family::Submit;
        if !is_repeatable && !ledger.sending(0, 0)? && self.uncertain == Uncertain::Say {
            return Err(uncertain("the import was asked for"));
        }
        if is_repeatable {
            self.submit(client, &request).await?;
        }
        let request =
            if is_repeatable { submit_status(&server.url, self.told.id)? } else { request };
        let started = match self.begin(client, &request).await {
            Ok(started) => started,
            Err(halt) => {
                // Without an answer it may have begun.
                let code = halt.code.as_str();
                if !code.starts_with("http.timeout") && !code.starts_with("http.closed") {
                    ledger.not_sent(0, 0)?;
                }
                return Err(halt);
            }
        };
        let fact = json!((started.status_url.as_str(), started.separate_status));
        ledger.note(&[("status_url", fact)])?;
        Ok((started.status_url, started.separate_status))
    }

    async fn begin(&self, client: &Arc<Client>, request: &KickOff) -> Result<Started, Halt> {
        for round in 0..BEGINNINGS {
            match begin(self.caller, client, request).await? {
                Began::Started(started) => return Ok(started),
                Began::Busy { wait, halt } if halt.code.as_str() == "http.rate_limited" => {
                    if round + 1 == BEGINNINGS {
                        return Err(halt.hint("run the same command again later"));
                    }
                    tokio::time::sleep(self.pace.wait(wait, round)).await;
                }
                Began::Busy { halt, .. } => return Err(halt),
            }
        }
        Err(Halt::later("http.rate_limited", "the server takes no further job now"))
    }

    /// `$bulk-submit` answers with 200 when it was taken.
    async fn submit(&self, client: &Arc<Client>, request: &KickOff) -> Result<(), Halt> {
        let ask = Ask {
            method: request.method.clone(),
            headers: &request.headers,
            body: request.body.as_deref().map(|bytes| Body {
                content_type: request.content_type,
                bytes,
                confidential: true,
            }),
            ..Ask::get(&request.url, request.accept)
        };
        let answer =
            self.caller.ask(client, &ask).await.map_err(|failure| Halt::of(failure, true))?;
        let status = answer.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let (words, _) = Words::read(answer).await;
        let message = format!("the server refused the submission: HTTP {status}");
        let halt = match status {
            429 | 503 => Halt::later("http.rate_limited", message),
            401 | 403 => Halt::new(
                crate::model::ErrorKind::Credential,
                if status == 401 { "auth.unauthorized" } else { "auth.forbidden" },
                message,
            ),
            404 | 405 | 501 => Halt::failed("fhir.operation_missing", message),
            _ => Halt::failed("bulk.kickoff_refused", message),
        };
        Err(halt.server_text(words.text))
    }

    async fn wait(
        &self,
        client: &Arc<Client>,
        status_url: Url,
        is_separate: bool,
    ) -> Result<Completion, Halt> {
        let begun = Instant::now();
        let mut watch = Watch::new(self.caller, status_url, is_separate);
        let mut waited = 0;
        loop {
            let wait = match watch.look(client).await? {
                Look::Done(answer) => return completed(answer).await,
                Look::Running { wait, progress, .. } => {
                    (self.progress)(progress.as_deref().unwrap_or("running"));
                    wait
                }
                Look::Unclear { wait, .. } => wait,
            };
            let pause = self.pace.wait(wait, waited);
            waited += 1;
            if self.max_wait.is_some_and(|most| begun.elapsed() + pause > most) {
                return Err(Halt::later(
                    "bulk.max_wait",
                    "the import was not done within --max-wait",
                )
                .hint("it goes on; run the same command again to wait on"));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// How many errors each file of errors holds, and their codes.
    async fn errors(
        &self,
        client: &Arc<Client>,
        from: &Url,
        files: &[ErrorFile],
    ) -> Vec<(u64, Vec<String>)> {
        let mut all = Vec::new();
        for (number, file) in files.iter().enumerate() {
            let fetched = match &file.url {
                Some(url) if number < ERROR_FILES && file.count != Some(0) => {
                    self.fetched(client, from, url).await
                }
                _ => None,
            };
            // What cannot be fetched has as many as the server says, and at least one.
            let unseen = || (file.count.unwrap_or(1), Vec::new());
            all.push(fetched.map_or_else(unseen, |body| issues(&body)));
        }
        all
    }

    async fn fetched(&self, own: &Arc<Client>, from: &Url, url: &str) -> Option<Vec<u8>> {
        let url = follow(from, url).ok()?;
        let other;
        let client = if self.caller.is_own(&url) {
            own
        } else {
            other = self.caller.client_for(&url).ok()?;
            &other
        };
        client.admit(&url).await;
        let ask = Ask::get(&url, "application/fhir+ndjson, application/fhir+json;q=0.9");
        let answer = self.caller.ask(client, &ask).await.ok()?;
        if answer.status().as_u16() != 200 {
            return None;
        }
        let deadline = Instant::now() + self.caller.server.timeouts.total;
        answer.whole(ANSWER_BYTES, deadline).await.ok()
    }

    fn summary(
        &self,
        types: &[String],
        rows: &[Row],
        before: &super::report::Counts,
        after: &super::report::Counts,
    ) -> Summary {
        let mut summary = Summary::default();
        for name in types {
            let of_type = || rows.iter().filter(|row| row.r#type.as_deref() == Some(name));
            let told: Option<u64> =
                of_type().filter_map(|row| row.count).reduce(|sum, count| sum + count);
            let (before, after) =
                (before.get(name).copied().flatten(), after.get(name).copied().flatten());
            let grown = before.zip(after).map(|(before, after)| after.saturating_sub(before));
            if told.is_none() {
                let what = match grown {
                    Some(grown) => format!("its count grew by {grown}"),
                    None => "and it gives no total either".to_owned(),
                };
                let message = format!("{name}: the server does not say how many it took; {what}");
                summary.notes.push(Note::new("note", "bulk.count_unknown", message));
            }
            summary.types.push(OfType {
                r#type: name.clone(),
                read: self.read.get(name).copied().or(told).unwrap_or(0),
                accepted: told,
                created: grown.unwrap_or(0),
                rejected: of_type().map(|row| row.errors).sum(),
                before,
                after,
                ..OfType::default()
            });
        }
        summary
    }
}

async fn completed(answer: Answer) -> Result<Completion, Halt> {
    let deadline = Instant::now() + Duration::from_secs(300);
    let body = answer.whole(ANSWER_BYTES, deadline).await;
    let body = body.map_err(|failure| Halt::of(failure, true))?;
    Ok(completion::read(&body)?)
}

/// Errors in a file of outcomes, one a line, with their codes.
fn issues(body: &[u8]) -> (u64, Vec<String>) {
    let mut codes = Vec::new();
    let mut count = 0;
    for line in body.split(|byte| *byte == b'\n') {
        let Some(outcome) = OperationOutcome::parse(BodyKind::Json, line) else { continue };
        for issue in outcome.issues.iter().filter(|it| it.severity >= IssueSeverity::Error) {
            count += 1;
            let is_code = !issue.code.is_empty()
                && issue.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            codes.push(if is_code { issue.code.clone() } else { "unknown".to_owned() });
        }
    }
    (count, codes)
}

/// The files of addresses, each with its type: `Patient=https://…`, or by the address itself.
///
/// # Errors
/// Exit 64 when an address is none, or does not tell its type.
pub fn remotes(sources: &[String]) -> crate::model::Result<Vec<Remote>> {
    sources
        .iter()
        .map(|text| {
            let (name, address) = match text.split_once('=') {
                Some((name, address)) if crate::bulk::lines::is_type(name) => (Some(name), address),
                _ => (None, text.as_str()),
            };
            let url = Url::parse(address)
                .ok()
                .filter(|url| matches!(url.scheme(), "http" | "https" | "gs" | "s3" | "abfss"))
                .ok_or_else(|| {
                    Error::usage(format!("{} is no address", super::family::shown(address)))
                })?;
            let resource_type = match name {
                Some(name) => name.to_owned(),
                // A manifest has no type; who needs one says so.
                None => super::family::type_of(&url).unwrap_or_default(),
            };
            Ok(Remote { resource_type, url })
        })
        .collect()
}
