//! `auth rotate NAME --certificate FILE`: another client certificate, proven and then put in use.

use serde_json::{Value, json};

use super::{Ended, Rotation, reference};
use crate::command::change::{self, StepStatus, Steps};
use crate::context::Outcome;
use crate::inventory::edit::{self, Op};
use crate::model::{Error, Exit, Result};

impl Rotation<'_> {
    pub(super) async fn certificate(&self) -> Result<Outcome> {
        let Some(file) = &self.args.certificate else {
            return Err(Error::usage("--certificate names the new certificate"));
        };
        let shown = std::path::absolute(file).map_err(|error| Error::io("find", file, &error))?;
        let key = match &self.args.key {
            Some(text) => {
                reference(text, "--key")?;
                text.clone()
            }
            None => format!("file:{}", shown.display()),
        };
        let file = shown.display().to_string();
        // PEM is text; what begins an ASN.1 sequence is PKCS#12.
        let new = match std::fs::read(&shown).ok().and_then(|bytes| bytes.first().copied()) {
            Some(0x30) if self.args.key.is_some() => json!({"pkcs12": file, "password": key}),
            Some(0x30) => json!({"pkcs12": file}),
            _ => json!({"certificate": file, "key": key}),
        };
        let plan = |document: &Value| -> Result<Vec<Op>> {
            let mut path = edit::find_server(document, &self.args.name)?;
            path.extend(["tls".into(), "client_certificate".into()]);
            Ok(vec![Op::Set(path, new.clone())])
        };
        let old = self.subject.server.tls.client_certificate.as_ref();
        let old = old.map(|old| old.file().display().to_string());
        let mut steps = Steps::default();
        steps.push("make", StepStatus::Done, format!("{} was named", shown.display()));
        let report = self.prove(plan).await?;
        let passed = change::passes(&report);
        let status = if passed { StepStatus::Done } else { StepStatus::Failed };
        steps.push("prove", status, change::told(&report));
        let mut ended = Ended {
            rotated: passed,
            exit: Exit::OK,
            old: old.clone(),
            new: Some(shown.display().to_string()),
            key_id: None,
            jwks: None,
        };
        let in_use = old.unwrap_or_else(|| "no client certificate".to_owned());
        if passed {
            change::write(self.context, &self.subject.path, |document, _| plan(document))?;
            steps.push("switch", StepStatus::Done, format!("{} is in use", shown.display()));
            steps.push("retire", StepStatus::Skipped, format!("{in_use} is left where it is"));
        } else {
            ended.exit = Exit(77);
            steps.push("switch", StepStatus::Skipped, format!("{in_use} stays in use"));
        }
        Ok(self.outcome(&steps, &ended, &[]))
    }
}
