//! What a run of an export leaves, from its ledger.

use serde::Serialize;

use super::super::halt::Halt;
use super::super::ledger::{Finding, Ledger, State, Totals};
use super::{Conclusion, Identity};
use crate::model::Result;

/// What a run leaves.
#[derive(Clone, Debug)]
pub struct Report {
    pub identity: Identity,
    pub conclusion: Conclusion,
    pub totals: Totals,
    pub findings: Vec<Finding>,
    pub by_type: Vec<TypeTotal>,
    /// Whether everything had been done before.
    pub was_done: bool,
    pub remote: Option<&'static str>,
}

/// What came of one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TypeTotal {
    pub kind: &'static str,
    #[serde(rename = "type")]
    pub name: String,
    pub files: u64,
    pub missing: u64,
    pub count: u64,
    pub bytes: u64,
}

pub(super) fn report(
    ledger: &Ledger,
    identity: Identity,
    conclusion: Conclusion,
    was_done: bool,
    remote: Option<&'static str>,
) -> Result<Report, Halt> {
    let totals = ledger.totals()?;
    let findings = ledger.findings()?;
    let by_type = by_type(ledger)?;
    Ok(Report { identity, conclusion, totals, findings, by_type, was_done, remote })
}

fn by_type(ledger: &Ledger) -> Result<Vec<TypeTotal>> {
    let mut all: Vec<TypeTotal> = Vec::new();
    ledger.each_file(&mut |file| {
        if file.state == State::Joined {
            return Ok(());
        }
        let kind = file.kind.as_str();
        let is_last = all.last().is_some_and(|it| it.kind == kind && it.name == file.resource_type);
        if !is_last {
            let name = file.resource_type.clone();
            all.push(TypeTotal { kind, name, files: 0, missing: 0, count: 0, bytes: 0 });
        }
        if let Some(total) = all.last_mut() {
            total.files += 1;
            match &file.done {
                Some(done) => {
                    total.count += done.lines;
                    total.bytes += done.bytes;
                }
                None => total.missing += 1,
            }
        }
        Ok(())
    })?;
    Ok(all)
}
