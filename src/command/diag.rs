//! `diag NAME [TOPIC…]`: depth on one server, from the wire up.

mod bundle;
mod load;
mod material;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap::builder::PossibleValue;

use super::check::{exact, read_baseline};
use crate::context::{Context, Outcome};
use crate::diag::{self, Desk, Options, Remote, Step, TopicName, ValidateOptions};
use crate::model::{Error, Exit, Result};
use crate::net::tls::grade::Grade;
use crate::render::{Format, Output};
use crate::view::diag::{CommandLine, CommandsDocument, DiagDocument};

/// The formats of a diagnosis.
const FORMATS: &[Format] = &[
    Format::Table,
    Format::Json,
    Format::Ndjson,
    Format::Yaml,
    Format::Csv,
    Format::Markdown,
    Format::Junit,
];

/// Find the cause: look at one server from the wire up, name the layer that broke and who has to act
///
/// Without topics, those that are safe in production. Nothing is written to the server unless the
/// topic write is named and --yes says so. A flag that speaks of a topic is refused (64) where that
/// topic does not run. --timeout is the deadline of the whole diagnosis, 60s where neither it nor a
/// longer deadline of the inventory is given; load takes its --duration beside it. The exit code is
/// 0, 1, 2 or 3 as for check; 130 or 143 where load or write were cut short.
#[derive(Debug, Args)]
#[command(after_long_help = topics_help())]
pub struct DiagArgs {
    /// The server's name in the inventory
    #[arg(value_name = "NAME", add = super::complete::servers())]
    pub name: String,

    /// What to look at [default: everything that is safe in production]
    #[arg(value_name = "TOPIC", value_parser = topic_parser(), hide_possible_values = true)]
    pub topics: Vec<TopicName>,

    /// With auth: also try what has to be refused; a provider may count it as failed attempts
    #[arg(long)]
    pub negative: bool,

    /// Write an archive of everything, redacted, that a vendor's support can read
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,

    /// Try what the server declares, read-only: many small requests that count and show no record
    #[arg(long)]
    pub probe: bool,

    /// Compare what the server declares with what check --save-baseline wrote
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,

    /// validate: read this record from the server, such as Patient/1; may be repeated
    #[arg(long = "ref", value_name = "TYPE/ID")]
    pub references: Vec<String>,

    /// validate: take resources from a JSON or NDJSON file, - for standard input; may be repeated
    #[arg(long = "resource", value_name = "FILE")]
    pub resources: Vec<PathBuf>,

    /// validate: hold claimed profiles against this FHIR package, a .tgz or a folder; may be repeated
    #[arg(long = "package", value_name = "FILE|DIR")]
    pub packages: Vec<PathBuf>,

    /// validate: send resources to the server's $validate where it is declared, anyway, or never
    /// [default: declared]
    #[arg(long, value_name = "WHEN", value_enum)]
    pub server_validate: Option<ServerValidate>,

    /// tls: fail when the server's TLS is graded lower, after the rating guide of SSL Labs
    #[arg(long, value_name = "GRADE", value_parser = grade_parser())]
    pub minimum_grade: Option<Grade>,

    /// Send nothing and print the commands that do the same by hand, secrets in variables
    #[arg(long, conflicts_with = "bundle")]
    pub curl: bool,

    // Last: its heading would stand above whatever follows.
    #[command(flatten)]
    pub load: load::LoadArgs,
}

/// When the server itself validates.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum ServerValidate {
    Declared,
    Try,
    Never,
}

/// # Errors
/// When the inventory cannot be used or knows no such server; never for a sick one.
pub async fn run(args: &DiagArgs, context: &Context) -> Result<Outcome> {
    if !args.curl {
        context.options.output.among(FORMATS)?;
    }
    let inventory = context.load_inventory()?;
    let server = exact(&inventory, &args.name)?;
    let surroundings = context.surroundings(&inventory);
    let topics = chosen(&args.topics);
    args.fit(&topics)?;
    let load = args.load.options(&topics, server, context.options.yes || args.curl)?;
    let options = Options {
        yes: context.options.yes,
        negative: args.negative,
        state: crate::context::state_dir(),
        load,
        probe: args.probe,
        baseline: args.baseline.as_deref().map(read_baseline).transpose()?.map(Arc::new),
        validate: validate_options(args)?,
        minimum_grade: args.minimum_grade,
        limit: context.options.timeout,
        stop: Arc::default(),
    };
    let desk = Desk::new(server, &surroundings, options);
    if args.curl {
        return Ok(Outcome::printed(script(&desk, &topics)?));
    }
    if topics.contains(&TopicName::Write) {
        super::confirm(
            context,
            &format!("Write a test record to {} and delete it again?", server.name),
        )?;
    }
    let file = args.bundle.as_deref().map(bundle::claim).transpose()?;
    let what = format!("diagnosing {}", server.name);
    let progress = context.progress(&what, topics.len());
    let watching = load::watch(&topics, &desk.options);
    let mut running: Vec<TopicName> = Vec::new();
    let found = diag::diagnose(&desk, &topics, |step| {
        match step {
            Step::Begun(name) => running.push(name),
            Step::Done(name) => {
                running.retain(|other| *other != name);
                progress.step();
            }
        }
        let names: Vec<_> = running.iter().map(|name| name.as_str()).collect();
        progress.say(&format!("{what}: {}", names.join(", ")));
    })
    .await;
    let cut = watching.end().await;
    progress.finish();
    let verdict = diag::judge(&found);
    let exit = cut.unwrap_or(Exit(verdict.status.exit_code()));
    let document = DiagDocument::new(
        server,
        inventory.path.display().to_string(),
        context.clock.now(),
        verdict,
        found,
        exit.0,
        cut.is_some(),
    );
    let output = document.output()?;
    if let Some(file) = file {
        let path = file.path.display().to_string();
        bundle::write(file, &desk, &topics, &document.in_our_words().output()?)?;
        context.notice(&format!("everything is in {path}"));
    }
    Ok(Outcome { output: Some(output), exit })
}

impl DiagArgs {
    /// Holds the flags that were given against the topics that run: one that would be ignored is a
    /// gate that never closes.
    ///
    /// # Errors
    /// Exit 64, naming the flag and its topic.
    fn fit(&self, topics: &[TopicName]) -> Result<()> {
        use TopicName::{Auth, Capability, Load, Query, Tls, Validate};
        let load = &self.load;
        let flags: [(bool, &str, &[TopicName]); 16] = [
            (self.negative, "--negative", &[Auth]),
            (self.probe, "--probe", &[Capability, Query]),
            (self.baseline.is_some(), "--baseline", &[Capability]),
            (!self.references.is_empty(), "--ref", &[Validate]),
            (!self.resources.is_empty(), "--resource", &[Validate]),
            (!self.packages.is_empty(), "--package", &[Validate]),
            (self.server_validate.is_some(), "--server-validate", &[Validate]),
            (self.minimum_grade.is_some(), "--minimum-grade", &[Tls]),
            (load.connections.is_some(), "--connections", &[Load]),
            (load.rate.is_some(), "--rate", &[Load]),
            (load.duration.is_some(), "--duration", &[Load]),
            (load.ramp.is_some(), "--ramp", &[Load]),
            (load.max_requests.is_some(), "--max-requests", &[Load]),
            (load.mix.is_some(), "--mix", &[Load]),
            (!load.expect.is_empty(), "--expect", &[Load]),
            (load.stop_on_errors.is_some(), "--stop-on-errors", &[Load]),
        ];
        for (is_given, flag, of) in flags {
            if is_given && !of.iter().any(|topic| topics.contains(topic)) {
                let names: Vec<_> = of.iter().map(|topic| topic.as_str()).collect();
                let names = names.join(" or ");
                return Err(Error::usage(format!(
                    "{flag} speaks of the topic {names}, which does not run"
                ))
                .hint(format!("name the topic too, or leave {flag} away")));
            }
        }
        Ok(())
    }
}

fn validate_options(args: &DiagArgs) -> Result<ValidateOptions> {
    Ok(ValidateOptions {
        references: args.references.clone(),
        documents: material::documents(&args.resources)?,
        definitions: Arc::new(material::definitions(&args.packages)?),
        remote: match args.server_validate.unwrap_or(ServerValidate::Declared) {
            ServerValidate::Declared => Remote::Declared,
            ServerValidate::Try => Remote::Try,
            ServerValidate::Never => Remote::Never,
        },
    })
}

/// The named topics, each once, in their order; else the default ones.
fn chosen(named: &[TopicName]) -> Vec<TopicName> {
    let wanted = |topic: &TopicName| {
        if named.is_empty() { topic.is_default() } else { named.contains(topic) }
    };
    TopicName::ALL.iter().copied().filter(wanted).collect()
}

/// A shell script of what the topics do.
fn script(desk: &Desk, topics: &[TopicName]) -> Result<Output> {
    let mut text = format!("# {}\n", desk.server.name);
    let mut commands = Vec::new();
    for &topic in topics {
        let same = diag::commands(desk, topic);
        if same.is_empty() {
            continue;
        }
        text.push_str(&format!("\n# {topic}: {}\n", topic.about(), topic = topic.as_str()));
        for command in same {
            if !command.about.is_empty() {
                text.push_str(&format!("# {}\n", command.about));
            }
            text.push_str(&format!("{command}\n"));
            let about = command.about.clone();
            commands.push(CommandLine { topic, about, command: command.to_string() });
        }
    }
    CommandsDocument {
        schema: "fhirctl/diag-commands/v1",
        server: desk.server.name.clone(),
        commands,
    }
    .output(text.trim_end())
}

fn topic_parser() -> impl clap::builder::TypedValueParser<Value = TopicName> {
    use clap::builder::{PossibleValuesParser, TypedValueParser as _};
    let values =
        TopicName::ALL.iter().map(|topic| PossibleValue::new(topic.as_str()).help(topic.about()));
    PossibleValuesParser::new(values).try_map(|word| word.parse::<TopicName>())
}

fn grade_parser() -> impl clap::builder::TypedValueParser<Value = Grade> {
    use clap::builder::{PossibleValuesParser, TypedValueParser as _};
    PossibleValuesParser::new(Grade::ASKED.iter().map(|grade| grade.as_str())).try_map(|word| {
        let known = Grade::ASKED.into_iter().find(|grade| grade.as_str() == word);
        known.ok_or("no such grade")
    })
}

fn topics_help() -> String {
    let mut text =
        String::from("Topics, from the wire up; those with a star run where none is named:\n");
    for topic in TopicName::ALL {
        let star = if topic.is_default() { '*' } else { ' ' };
        text.push_str(&format!("  {star} {:<11} {}\n", topic.as_str(), topic.about()));
    }
    text
}
