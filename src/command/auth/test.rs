//! `auth test NAME`: signs in now, by hand, and explains a refusal.

use clap::Args;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Subject;
use crate::auth;
use crate::context::{Context, Outcome};
use crate::model::server::Auth;
use crate::model::verdict::{FailOn, judge};
use crate::model::{Error, Exit, Result, Status};
use crate::probe::{self, CheckName, Options};
use crate::render::Block;
use crate::view;

/// Sign in to a server now, and say what is wrong when that fails
///
/// It offers a credential that is held back, too: it is the proof by hand after it was put right.
/// Exit code 0 when the sign-in works, 77 when it does not, 69 when the server cannot be reached.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The server's name
    #[arg(value_name = "NAME", add = crate::command::complete::servers())]
    pub name: String,
}

/// # Errors
/// When the inventory cannot be used, or the server has no sign-in.
pub async fn run(args: &TestArgs, context: &Context) -> Result<Outcome> {
    let subject = Subject::load(context, &args.name)?;
    let server = &subject.server;
    if server.auth == Auth::None {
        return Err(Error::usage(format!("{} has no sign-in to test", server.name))
            .hint(format!("fhirctl set {} auth.method=… gives it one", server.name)));
    }
    let options = Options {
        only: vec![CheckName::Dns, CheckName::Tcp, CheckName::Tls, CheckName::Auth],
        every_stage: true,
        by_hand: true,
        ..Options::default()
    };
    let progress = context.progress(&format!("signing in to {}", server.name), 0);
    let report = probe::check_one(server, &subject.surroundings, &options).await.report;
    progress.finish();
    let verdict = judge(std::slice::from_ref(&report), FailOn::Warning, true);
    let exit = match (report.status, report.code) {
        (Status::Healthy | Status::Warning, _) => Exit::OK,
        (_, Some(code)) if code.as_str().starts_with("auth.") => Exit(77),
        _ => Exit(69),
    };
    let token = auth::kept(subject.keeper(), server).await.ok().flatten();
    let token = token.filter(|_| verdict.status == Status::Healthy);
    let meta = view::check::Meta {
        inventory: subject.path.display().to_string(),
        run_id: Uuid::new_v4().to_string(),
        ..view::check::Meta::default()
    };
    let mut output = view::test::output(report, exit.0, context.clock.now(), &meta)?;
    if let Value::Object(document) = &mut output.json {
        document.insert("schema".into(), "fhirctl/auth-test/v1".into());
        document.insert("method".into(), server.auth.method().into());
        document.insert(
            "token".into(),
            token.as_ref().map_or(Value::Null, |token| {
                json!({
                    "endpoint": token.endpoint,
                    "obtained_at": token.obtained_at,
                    "expires_at": token.expires_at,
                    "asked_scopes": auth::asked_scopes(server),
                    "granted_scopes": token.scopes,
                    "renewable": token.refresh_token.is_some(),
                })
            }),
        );
    }
    if let Some(token) = &token {
        let granted = match &token.scopes {
            Some(scopes) => scopes.join(" "),
            None => "as asked".to_owned(),
        };
        output.document.push(Block::Facts(vec![
            ("token from".to_owned(), token.endpoint.as_str().into()),
            (
                "ends".to_owned(),
                token.expires_at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string().as_str().into(),
            ),
            ("scopes".to_owned(), granted.as_str().into()),
        ]));
    }
    Ok(Outcome { output: Some(output), exit })
}
