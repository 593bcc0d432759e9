//! `history export`: every sample of a window, a line each.

use clap::Args;

use crate::command::report::window::WindowArgs;
use crate::command::selector::SelectorArgs;
use crate::context::{Context, Outcome};
use crate::history::GaugeValue;
use crate::inventory::{Inventory, select};
use crate::model::{Error, Exit, Reading, Result, Sample};
use crate::render::Format;
use crate::report::{self, instant};
use serde_json::json;

/// Lines that are written at once.
const AT_ONCE: usize = 64 * 1024;

/// Print every sample of a window: CSV with -o csv, else one JSON object a line
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub selector: SelectorArgs,

    /// Instead of samples what servers said of themselves: memory, pools, disks, resource counts
    #[arg(long)]
    pub gauges: bool,

    #[command(flatten)]
    pub window: WindowArgs,
}

const HEAD: &str = "server,at,origin,state,check,status,code,party,counts,attempts,duration_ms,dns_ms,\
                    connect_ms,tls_ms,first_byte_ms,transfer_ms,http_status,wire_bytes,issue\n";

pub(super) async fn run(
    args: &ExportArgs,
    context: &Context,
    inventory: &Inventory,
) -> Result<Outcome> {
    context.options.output.among(&[Format::Table, Format::Csv, Format::Json, Format::Ndjson])?;
    let as_csv = context.options.output == Format::Csv;
    let head = if args.gauges { GAUGES_HEAD } else { HEAD };
    let chosen = args.window.choose(context.clock.now())?;
    let servers = select(inventory, &args.selector.selection())?;
    let store = context.look_at_history(inventory).await?;
    let known = report::known(&store).await?;
    let mut text = String::new();
    if as_csv {
        text.push_str(head);
    }
    let mut is_read = true;
    for server in servers.iter().filter(|server| known.contains_key(&server.name)) {
        let window = chosen.window;
        if args.gauges {
            for series in store.gauges(&server.name, window.from..window.to).await? {
                for value in &series.values {
                    text.push_str(&gauge(&server.name, &series.name, value, as_csv)?);
                }
            }
            if is_read {
                is_read = context.pass_on(text.as_bytes())?;
            }
            text.clear();
            continue;
        }
        store
            .readings(&server.name, window.from..window.to, |reading| {
                if !is_read || !window.contains(reading.at.as_millisecond()) {
                    return Ok(());
                }
                for sample in &reading.samples {
                    text.push_str(&if as_csv {
                        csv(&reading, sample)
                    } else {
                        line(&reading, sample)?
                    });
                }
                if text.len() >= AT_ONCE {
                    is_read = context.pass_on(text.as_bytes())?;
                    text.clear();
                }
                Ok(())
            })
            .await?;
    }
    if is_read {
        context.pass_on(text.as_bytes())?;
    }
    Ok(Outcome { output: None, exit: Exit::OK })
}

const GAUGES_HEAD: &str = "server,at,gauge,value,limit\n";

/// One value of a gauge. Its name begins with a word of ours: no spreadsheet takes it for a formula.
fn gauge(server: &str, name: &str, value: &GaugeValue, as_csv: bool) -> Result<String> {
    let at = instant(value.at);
    if as_csv {
        let limit = value.limit.map_or_else(String::new, |limit| limit.to_string());
        return Ok(format!("{server},{at},{name},{},{limit}\n", value.value));
    }
    let value = json!({
        "schema": "fhirctl/history-gauge/v1",
        "server": server,
        "at": at,
        "gauge": name,
        "value": value.value,
        "limit": value.limit,
    });
    printed(&value)
}

/// Names, codes and numbers only: nothing that a spreadsheet could take for a formula.
fn csv(reading: &Reading, sample: &Sample) -> String {
    let ms =
        |us: Option<u64>| us.map_or_else(String::new, |us| format!("{:.3}", us as f64 / 1000.0));
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let mut fields = vec![
        reading.server.to_string(),
        reading.at.to_string(),
        reading.origin.as_str().to_owned(),
        reading.state.as_str().to_owned(),
        sample.check.to_string(),
        sample.status.as_str().to_owned(),
        text(sample.code.as_deref()),
        text(sample.party.map(|party| party.as_str())),
        sample.counts.to_string(),
        sample.attempts.to_string(),
        ms(Some(sample.duration_us)),
    ];
    fields.extend(sample.phases.all().map(ms));
    fields.push(sample.http_status.map_or_else(String::new, |status| status.to_string()));
    fields.push(sample.wire_bytes.to_string());
    fields.push(text(sample.issue.as_deref()));
    fields.join(",") + "\n"
}

fn line(reading: &Reading, sample: &Sample) -> Result<String> {
    let ms = |us: Option<u64>| us.map(|us| us as f64 / 1000.0);
    let detail = sample.detail.as_deref();
    let [dns, connect, tls, first_byte, transfer] = sample.phases.all().map(ms);
    let value = json!({
        "schema": "fhirctl/history-sample/v1",
        "server": &*reading.server,
        "at": reading.at,
        "run_id": reading.run,
        "origin": reading.origin.as_str(),
        "vantage": reading.vantage.as_deref(),
        "state": reading.state,
        "check": &*sample.check,
        "status": sample.status,
        "code": sample.code.as_deref(),
        "party": sample.party,
        "counts": sample.counts,
        "attempts": sample.attempts,
        "duration_ms": ms(Some(sample.duration_us)),
        "timing": {"dns_ms": dns, "connect_ms": connect, "tls_ms": tls, "first_byte_ms": first_byte, "transfer_ms": transfer},
        "http_status": sample.http_status,
        "wire_bytes": sample.wire_bytes,
        "issue": sample.issue.as_deref(),
        "message": detail.map(|detail| &*detail.message),
        "request_id": detail.and_then(|detail| detail.request_id.as_deref()),
        "server_request_id": detail.and_then(|detail| detail.server_request_id.as_deref()),
        "remote_address": detail.and_then(|detail| detail.remote_address.as_deref()),
    });
    printed(&value)
}

fn printed(value: &serde_json::Value) -> Result<String> {
    serde_json::to_string(value)
        .map(|text| text + "\n")
        .map_err(|error| Error::internal(format!("a line cannot be written: {error}")))
}
