//! `demo`: a tour on loopback, with the commands that a user would type.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::Args;
use serde_json::json;

use crate::context::{Context, Outcome};
use crate::model::{Error, Exit, Result};
use crate::render::{Block, Cell, Format, Output, Tone};
use crate::sandbox::{Options, Running, Scenario};

/// Take a tour: a sandbox fleet on loopback is registered, tested and checked, then cleaned away
///
/// Nothing outside this machine is touched.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep the inventory and the secrets of the tour in this folder
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// One command of the tour.
struct Step {
    /// Why it is shown.
    says: &'static str,
    args: Vec<String>,
    /// The exit code it has to end with.
    expected: u8,
}

/// # Errors
/// When the sandbox cannot be started, or a command of the tour cannot be run.
pub async fn run(args: &DemoArgs, context: &Context) -> Result<Outcome> {
    let desk = Desk::new(args.keep.as_deref())?;
    let fleet = start(&desk.path, context)?;
    let inventory = desk.path.join("servers.yaml");
    let tour =
        Tour { context, inventory: &inventory, talks: context.options.output == Format::Table };
    tour.say(&[
        Block::Heading("A tour of fhirctl".to_owned()),
        Block::Text(vec![Cell::plain(
            "Four FHIR servers run on this machine for the next seconds: one is well, one is slow, one says that it is \
             down, and one does not answer at all.",
        )]),
    ])?;
    let mut done = Vec::new();
    let mut as_expected = true;
    for step in steps(&fleet) {
        let code = tour.run(&step).await?;
        as_expected &= code == i32::from(step.expected);
        done.push(json!({
            "command": format!("fhirctl {}", shown(&step.args)),
            "exit_code": code,
            "expected": step.expected,
        }));
    }
    let exit = if as_expected { Exit::OK } else { Exit::CRITICAL };
    let kept = args.keep.as_ref().map(|_| inventory.display().to_string());
    let output = Output {
        json: json!({
            "schema": "fhirctl/demo/v1",
            "as_expected": as_expected,
            "steps": done,
            "inventory": kept,
        }),
        document: farewell(as_expected, kept.as_deref()),
        ..Output::default()
    };
    drop(fleet);
    Ok(Outcome { output: Some(output), exit })
}

fn start(folder: &Path, context: &Context) -> Result<Running> {
    let scenario = Scenario::parse(Path::new("demo.yaml"), include_str!("../../data/demo.yaml"))?;
    let options = Options { clock: context.clock, ..Options::loopback(folder.to_owned()) };
    crate::sandbox::start(&scenario, &options)
}

/// What is shown, in order. The slow server's thresholds are tight, so that it is told in time.
fn steps(fleet: &Running) -> Vec<Step> {
    let url = |name: &str| fleet.server(name).map_or_else(String::new, |server| server.url.clone());
    let secret = fleet
        .server("demo-healthy")
        .and_then(|server| server.auth.secret_file.as_ref())
        .map_or_else(String::new, |path| format!("file:{}", path.display()));
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let add = |name: &str, more: &[&str]| {
        let mut args = vec!["add".to_owned(), name.to_owned(), url(name)];
        args.extend(more.iter().map(|word| (*word).to_owned()));
        args
    };
    vec![
        Step {
            says: "A server is registered, tested, and only then activated. Its password stays where it is kept.",
            args: add(
                "demo-healthy",
                &[
                    "--auth",
                    "basic",
                    "--set",
                    "auth.username=probe",
                    "--secret",
                    &secret,
                    "--set",
                    "checks.search=[\"Patient?_summary=count\"]",
                ],
            ),
            expected: 0,
        },
        Step {
            says: "A slow one, with thresholds of its own. --no-test takes it as it is.",
            args: add(
                "demo-slow",
                &["--no-test", "--set", "thresholds.metadata={warning: 500ms, critical: 5s}"],
            ),
            expected: 0,
        },
        Step {
            says: "",
            args: add("demo-broken", &["--no-test", "--set", "checks.health.path=/health"]),
            expected: 0,
        },
        Step { says: "", args: add("demo-unreachable", &["--no-test"]), expected: 0 },
        Step { says: "One server, stage by stage.", args: words("test demo-healthy"), expected: 0 },
        Step {
            says: "Where a server breaks, the stage, the reason and the next step are named.",
            args: words("test demo-unreachable"),
            expected: 2,
        },
        Step {
            says: "The whole fleet at once: the exit code is the verdict.",
            args: words("check"),
            expected: 2,
        },
        Step {
            says: "A gate that lets warnings pass.",
            args: words("check demo-healthy demo-slow --fail-on critical"),
            expected: 0,
        },
        Step {
            says: "Every reason has a name, and every name an explanation.",
            args: words("explain health.down"),
            expected: 0,
        },
        Step {
            says: "Each check is kept. What is wrong, since when, and whose it is, without asking anybody.",
            args: words("status"),
            expected: 0,
        },
        Step {
            says: "And what it comes to; with -o html it is a page.",
            args: words("report summary --last 1h"),
            expected: 0,
        },
    ]
}

struct Tour<'a> {
    context: &'a Context,
    inventory: &'a Path,
    /// Whether a person is told what happens; machine output has only the result.
    talks: bool,
}

impl Tour<'_> {
    fn say(&self, blocks: &[Block]) -> Result<()> {
        if self.talks {
            let output = Output { document: blocks.to_vec(), ..Output::default() };
            self.context.emit(&output)?;
        }
        Ok(())
    }

    /// Runs one command as a process of its own, just as it would be typed.
    async fn run(&self, step: &Step) -> Result<i32> {
        let mut blocks = vec![Block::Blank];
        if !step.says.is_empty() {
            blocks.push(Block::Text(vec![Cell::toned(step.says, Tone::Dim)]));
        }
        blocks.push(Block::Text(vec![Cell::toned(
            format!("$ fhirctl {}", shown(&step.args)),
            Tone::Strong,
        )]));
        self.say(&blocks)?;
        let program = std::env::current_exe()
            .map_err(|error| Error::internal(format!("cannot find this program: {error}")))?;
        let color = if self.context.style().color { "always" } else { "never" };
        let mut command = tokio::process::Command::new(program);
        command
            .args(["--color", color, "--output", "table", "--no-input", "--inventory"])
            .arg(self.inventory)
            .args(&step.args)
            // A tour is nothing that an audit has to know of.
            .env("XDG_STATE_HOME", self.inventory.with_file_name("state"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if !self.talks {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let status = command.status().await.map_err(|error| {
            Error::internal(format!("cannot run a command of the tour: {error}"))
        })?;
        Ok(status.code().unwrap_or(-1))
    }
}

fn farewell(as_expected: bool, kept: Option<&str>) -> Vec<Block> {
    let mut blocks = vec![Block::Blank];
    if as_expected {
        blocks.push(Block::Heading("What to try next".to_owned()));
        blocks.push(Block::Facts(vec![
            ("fhirctl init".to_owned(), Cell::plain("write a first inventory")),
            ("fhirctl add NAME URL".to_owned(), Cell::plain("register a server of your own")),
            (
                "fhirctl sandbox --fault latency=2s".to_owned(),
                Cell::plain("a server that is sick on request"),
            ),
            ("fhirctl check -o junit".to_owned(), Cell::plain("a gate for a pipeline")),
        ]));
    } else {
        blocks.push(Block::Text(vec![Cell::toned(
            "The tour did not go as it should: a command ended with another exit code than expected.",
            Tone::Bad,
        )]));
    }
    if let Some(inventory) = kept {
        blocks.push(Block::Text(vec![Cell::plain(format!(
            "The inventory is kept in {inventory}; its servers are gone with the tour."
        ))]));
    }
    blocks
}

/// The arguments as a shell takes them.
fn shown(args: &[String]) -> String {
    let quoted: Vec<_> = args
        .iter()
        .map(|arg| {
            match arg.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%".contains(c)) {
                true => arg.clone(),
                false => format!("'{arg}'"),
            }
        })
        .collect();
    quoted.join(" ")
}

/// The folder of the tour; a throw-away one goes with the value.
struct Desk {
    path: PathBuf,
    throw_away: bool,
}

impl Desk {
    fn new(keep: Option<&Path>) -> Result<Desk> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = match keep {
            Some(path) => {
                std::path::absolute(path).map_err(|error| Error::cannot_create(path, &error))?
            }
            None => std::env::temp_dir().join(format!("fhirctl-demo-{}", uuid::Uuid::new_v4())),
        };
        if path.join("servers.yaml").exists() {
            return Err(Error::usage(format!(
                "{} has an inventory already; name another folder",
                path.display()
            )));
        }
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| Error::cannot_create(&path, &error))?;
        Ok(Desk { path, throw_away: keep.is_none() })
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if self.throw_away {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
