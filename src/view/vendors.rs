//! The built-in presets: all of them in a table, one with everything that is known of it.

use serde::Serialize;
use serde_json::{Value, json};

use super::human::{or_dash, table};
use crate::inventory::preset::{
    Bulk, BulkLevel, BulkMethod, Environment, ExtraHeader, Fact, FileSignIn, Limits, Offer, Preset,
    PresetKind, Rule, ScopeHabit, Scopes, SignIn, Span,
};
use crate::model::MonitoringPolicy;
use crate::render::{Block, Cell, Output, Row, Table, Tone};

/// Presets as every form says them; `detailed` shows the first with all that is known.
#[must_use]
pub fn output(presets: &[&Preset], detailed: bool) -> Output {
    let items: Vec<Value> =
        presets.iter().filter_map(|preset| serde_json::to_value(preset).ok()).collect();
    let document = match presets {
        [one] if detailed => details(one),
        all => {
            // The title comes last: it gives way first where the terminal is narrow.
            let head = ["name", "sign-in", "health", "monitoring", "versions", "title"];
            let row = |preset: &&Preset| {
                let [name, title, versions, sign_in, health, monitoring] = overview(preset);
                let health = if health.text == "-" { health } else { Cell::plain("yes") };
                vec![name, sign_in, health, monitoring, versions, title]
            };
            let rows = all.iter().map(row).collect();
            vec![
                Block::Table(table(&head, rows)),
                Block::Blank,
                Block::text("fhirctl vendors NAME shows all that is known, and from where."),
            ]
        }
    };
    let lines = items
        .iter()
        .map(|item| {
            let mut line = json!({"schema": "fhirctl/vendor/v1"});
            if let (Value::Object(line), Value::Object(item)) = (&mut line, item) {
                line.extend(item.clone());
            }
            line
        })
        .collect();
    Output {
        json: json!({"schema": "fhirctl/vendors/v1", "vendors": items}),
        lines: Some(lines),
        document,
        rows: Some(rows(presets)),
        ..Output::default()
    }
}

/// For csv and markdown, where width costs nothing.
fn rows(presets: &[&Preset]) -> Table {
    let head = ["name", "title", "kind", "versions", "sign-in", "health", "monitoring", "base URL"];
    let row = |preset: &&Preset| {
        let [name, title, versions, sign_in, health, monitoring] = overview(preset);
        let (kind, base) = (Cell::plain(kind(preset.kind)), Cell::plain(&preset.base_url));
        vec![name, title, kind, versions, sign_in, health, monitoring, base]
    };
    table(&head, presets.iter().map(row).collect())
}

fn overview(preset: &Preset) -> [Cell; 6] {
    let policy = preset.monitoring.policy;
    let tone = match policy {
        MonitoringPolicy::Allowed => Tone::Plain,
        MonitoringPolicy::Ask => Tone::Warning,
        MonitoringPolicy::Forbidden => Tone::Bad,
    };
    [
        Cell::toned(&preset.name, Tone::Strong),
        Cell::plain(&preset.title),
        Cell::plain(preset.fhir_versions.join(", ")),
        Cell::plain(preset.sign_in.usual_method()),
        or_dash(preset.settings.pointer("/checks/health/path").and_then(Value::as_str)),
        Cell::toned(policy.as_str(), tone),
    ]
}

fn kind(kind: PresetKind) -> &'static str {
    match kind {
        PresetKind::Server => "server",
        PresetKind::Hosted => "hosted",
        PresetKind::Public => "public test server",
        PresetKind::Gateway => "gateway",
    }
}

fn details(preset: &Preset) -> Vec<Block> {
    let mut blocks = vec![
        Block::Heading(format!("{}: {}", preset.name, preset.title)),
        Block::Text(vec![Cell::plain(&preset.summary)]),
        Block::Blank,
        Block::Facts(general(preset)),
    ];
    if !preset.environments.is_empty() {
        section(&mut blocks, "Environments", preset.environments.iter().flat_map(environment));
    }
    section(&mut blocks, "Sign-in", sign_in(&preset.sign_in));
    section(&mut blocks, "Bulk data", bulk(&preset.bulk));
    let limits = limits(&preset.limits);
    // A source alone says nothing.
    if limits.len() > 1 {
        section(&mut blocks, "Limits", limits);
    }
    blocks.extend([Block::Blank, Block::Heading("What it sets in an inventory".into())]);
    let settings = serde_yaml::to_string(&preset.settings).unwrap_or_default();
    blocks.push(Block::Indented(vec![Block::Verbatim(settings.trim_end().to_owned())]));
    if !preset.unconfirmed_settings.is_empty() {
        blocks.push(Block::Indented(vec![Block::Text(vec![Cell::toned(
            format!(
                "unconfirmed: {}; what a server's own entry says wins",
                preset.unconfirmed_settings.join(", ")
            ),
            Tone::Warning,
        )])]));
    }
    blocks.extend(known(&preset.facts));
    blocks
}

fn section(blocks: &mut Vec<Block>, title: &str, facts: impl IntoIterator<Item = (String, Cell)>) {
    blocks.extend([Block::Blank, Block::Heading(title.to_owned())]);
    blocks.push(Block::Indented(vec![Block::Facts(facts.into_iter().collect())]));
}

fn general(preset: &Preset) -> Vec<(String, Cell)> {
    let mut facts = Facts::new(&[]);
    facts.say("kind", kind(preset.kind));
    facts.say("base URL", &preset.base_url);
    facts.say("versions", preset.fhir_versions.join(", "));
    for placeholder in &preset.placeholders {
        let example = placeholder.example.as_ref();
        let example = example.map(|text| format!(", such as {text}")).unwrap_or_default();
        facts.say("asks for", format!("{{{}}}: {}{example}", placeholder.name, placeholder.ask));
    }
    let monitoring = &preset.monitoring;
    let interval = monitoring.least_interval.map(|span| format!(", at most once in {span}"));
    let text = format!(
        "{}{}. {}",
        monitoring.policy.as_str(),
        interval.unwrap_or_default(),
        monitoring.source
    );
    facts.doubt("monitoring", text, monitoring.unconfirmed);
    if let Some(detection) = &preset.detect {
        let rules: Vec<String> = detection.any.iter().map(Rule::words).collect();
        facts.doubt("recognised by", rules.join("; or "), detection.unconfirmed);
    }
    facts.rows
}

fn environment(environment: &Environment) -> Vec<(String, Cell)> {
    let mut facts = Facts::new(&[]);
    facts.doubt(&environment.name, &environment.base_url, environment.unconfirmed);
    if let Some(token) = &environment.token_url {
        facts.say("", format!("token endpoint {token}"));
    }
    if let Some(note) = &environment.note {
        facts.say("", note);
    }
    facts.source(&environment.source, environment.date);
    facts.rows
}

fn sign_in(sign_in: &SignIn) -> Vec<(String, Cell)> {
    let mut facts = Facts::new(&sign_in.unconfirmed);
    facts.say("usual", sign_in.usual_method());
    for offer in &sign_in.methods {
        facts.doubt("methods", offered(offer), offer.unconfirmed);
    }
    facts.some("token endpoint", "token_url", sign_in.token_url.as_deref());
    let configuration = sign_in
        .smart_configuration
        .map(|there| if there { "published, without a token" } else { "none" });
    facts.some("SMART configuration", "smart_configuration", configuration);
    facts.some("scopes", "scopes", sign_in.scopes.as_ref().map(scopes));
    for header in &sign_in.headers {
        let doubted = header.unconfirmed || facts.doubts("headers");
        facts.doubt("extra header", extra_header(header), doubted);
    }
    facts.some("token's life", "token_life", sign_in.token_life);
    facts.some("assertion's life", "assertion_life", sign_in.assertion_life.map(at_most));
    facts.some("credential", "credential", sign_in.credential.as_deref());
    facts.source(&sign_in.source, sign_in.date);
    facts.rows
}

fn offered(offer: &Offer) -> String {
    let mut text = offer.method_name().to_owned();
    if !offer.algorithms.is_empty() {
        text = format!("{text} ({})", offer.algorithms.join(", "));
    }
    match &offer.note {
        Some(note) => format!("{text}: {}", note.trim_end_matches('.')),
        None => text,
    }
}

fn scopes(scopes: &Scopes) -> String {
    let habit = match scopes.habit {
        ScopeHabit::NoneSent => "none sent: the registration decides",
        ScopeHabit::ListEach => "one for each type, no wildcards",
        ScopeHabit::Wildcard => "wildcards will do",
        ScopeHabit::Fixed => "one fixed scope",
    };
    let mut text = habit.to_owned();
    if !scopes.spelling.is_empty() {
        let words: Vec<String> = scopes.spelling.iter().map(word).collect();
        text = format!("{text}; spelt as in {}", words.join(" and "));
    }
    if !scopes.usual.is_empty() {
        text = format!("{text}; such as {}", scopes.usual.join(" "));
    }
    text
}

fn extra_header(header: &ExtraHeader) -> String {
    let need = if header.required { "required" } else { "optional" };
    let kept = if header.secret { ", kept as a secret" } else { "" };
    format!("{} ({need}{kept}): {}", header.name, header.ask)
}

fn bulk(bulk: &Bulk) -> Vec<(String, Cell)> {
    let mut facts = Facts::new(&bulk.unconfirmed);
    let levels: Vec<String> = bulk.levels.iter().map(level).collect();
    match (levels.is_empty(), facts.doubts("levels")) {
        (true, true) => facts.doubt("export of", "not known", true),
        (true, false) => facts.say("export of", "none"),
        (false, doubted) => facts.doubt("export of", levels.join(", "), doubted),
    }
    let methods: Vec<&str> = bulk.methods.iter().map(|method| http_method(*method)).collect();
    if !methods.is_empty() {
        facts.some("asked for by", "methods", Some(methods.join(", ")));
    }
    facts.some("status at", "status_url", bulk.status_url.as_deref());
    facts.some("look every", "poll_every", bulk.poll_every);
    facts.some("files are kept", "retention", bulk.retention);
    let concurrent = bulk.concurrent.map(|number| format!("{number} at a time"));
    facts.some("exports", "concurrent", concurrent);
    facts.some("again after", "again_after", bulk.again_after);
    let since = bulk.since.map(|taken| if taken { "taken" } else { "not taken" });
    facts.some("_since", "since", since);
    facts.some("_type", "types", bulk.types.as_deref());
    let files = bulk.files.map(|files| match files {
        FileSignIn::Token => "fetched with the same token",
        FileSignIn::SignedUrl => "fetched by a signed URL, without the token",
        FileSignIn::ObjectStore => "fetched with a credential of the object store",
        FileSignIn::Open => "open",
    });
    facts.some("files", "files", files);
    facts.some("import", "import", bulk.import.as_deref());
    facts.source(&bulk.source, bulk.date);
    facts.rows
}

fn level(level: &BulkLevel) -> String {
    word(level)
}

fn http_method(method: BulkMethod) -> &'static str {
    match method {
        BulkMethod::Get => "GET",
        BulkMethod::Post => "POST",
    }
}

fn limits(limits: &Limits) -> Vec<(String, Cell)> {
    let mut facts = Facts::new(&limits.unconfirmed);
    facts.some("page", "page_default", limits.page_default.map(|n| format!("{n} entries")));
    facts.some("largest page", "page_max", limits.page_max.map(|n| format!("{n} entries")));
    facts.some("requests", "requests", limits.requests.as_deref());
    facts.some("over the limit", "refusal", limits.refusal.as_deref());
    facts.source(&limits.source, limits.date);
    facts.rows
}

/// Other facts, by topic: what is known, what to do about it, and from where.
fn known(facts: &[Fact]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut topic = None;
    for fact in facts {
        if topic != Some(fact.topic) {
            topic = Some(fact.topic);
            blocks.extend([Block::Blank, Block::Heading(fact.topic.title().to_owned())]);
        }
        let mut text: Row = vec![Cell::plain(&fact.text)];
        if let Some(advice) = &fact.advice {
            text.push(Cell::toned(format!(" {advice}"), Tone::Strong));
        }
        let source = sourced(&fact.source, fact.date);
        let source = if fact.unconfirmed {
            Cell::toned(format!("unconfirmed: {source}"), Tone::Warning)
        } else {
            Cell::toned(source, Tone::Dim)
        };
        blocks.push(Block::Indented(vec![
            Block::Text(text),
            Block::Indented(vec![Block::Text(vec![source])]),
        ]));
    }
    blocks
}

/// Names with values; what was not seen at the vendor says so.
struct Facts<'a> {
    rows: Vec<(String, Cell)>,
    unconfirmed: &'a [String],
}

impl<'a> Facts<'a> {
    fn new(unconfirmed: &'a [String]) -> Facts<'a> {
        Facts { rows: Vec::new(), unconfirmed }
    }

    fn doubts(&self, key: &str) -> bool {
        self.unconfirmed.iter().any(|known| known == key)
    }

    fn say(&mut self, name: &str, text: impl Into<String>) {
        self.doubt(name, text, false);
    }

    fn some(&mut self, name: &str, key: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.doubt(name, value.to_string(), self.doubts(key));
        }
    }

    fn doubt(&mut self, name: &str, text: impl Into<String>, doubted: bool) {
        let text = text.into();
        // A name that goes on is said once.
        let said = self.rows.iter().rev().find(|(said, _)| !said.is_empty());
        let repeated = said.is_some_and(|(said, _)| said == name);
        let name = if repeated { String::new() } else { name.to_owned() };
        let cell = if doubted {
            Cell::toned(format!("{} (unconfirmed)", text.trim_end_matches('.')), Tone::Warning)
        } else {
            Cell::plain(text)
        };
        self.rows.push((name, cell));
    }

    fn source(&mut self, source: &str, date: Option<jiff::civil::Date>) {
        self.rows.push(("source".to_owned(), Cell::toned(sourced(source, date), Tone::Dim)));
    }
}

fn sourced(source: &str, date: Option<jiff::civil::Date>) -> String {
    match date {
        Some(date) => format!("{source}, {date}"),
        None => source.to_owned(),
    }
}

fn at_most(span: Span) -> String {
    format!("at most {span}")
}

/// A choice as its file spells it.
fn word(choice: &impl Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::preset::{preset, presets};
    use crate::render::{Format, Style, render};

    fn drawn(presets: &[&Preset], detailed: bool, width: u16) -> String {
        let style = Style { color: false, width: Some(width) };
        render(&output(presets, detailed), Format::Table, style).unwrap()
    }

    #[test]
    fn every_preset_fits_a_terminal_and_names_what_is_not_confirmed() {
        for one in presets() {
            let text = drawn(&[one], true, 80);
            for line in text.lines() {
                let long = unicode_width::UnicodeWidthStr::width(line) > 80;
                // A URL is not cut in two, and a setting stands as it is.
                assert!(!long || line.contains("://") || line.contains("status: "), "{line:?}");
            }
            let doubts = serde_json::to_string(one).unwrap();
            let doubted =
                doubts.contains("\"unconfirmed\":true") || doubts.contains("\"unconfirmed\":[\"");
            assert_eq!(text.contains("unconfirmed"), doubted, "{}", one.name);
            assert!(text.contains(&one.title) && text.contains("What it sets"), "{}", one.name);
        }
    }

    #[test]
    fn a_forbidden_vendor_says_so_with_its_source() {
        let text = drawn(&[preset("altera").unwrap()], true, 120);
        assert!(text.contains("forbidden, at most once in 15m. The developer terms"), "{text}");
    }

    #[test]
    fn all_presets_are_one_line_each_on_a_wide_terminal() {
        let all: Vec<&Preset> = presets().collect();
        let text = drawn(&all, false, 120);
        assert_eq!(text.lines().count(), all.len() + 3, "{text}");
    }
}
