//! `--metrics-file`: what a scraper is told of an export.

use super::Scene;

/// The value of a metric of server `a`.
fn value(text: &str, name: &str) -> Option<f64> {
    let start = format!("fhirctl_bulk_export_{name}{{server=\"a\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)).map(|it| it.parse().unwrap())
}

#[test]
fn a_finished_export_keeps_its_figures_and_a_failed_one_says_so() {
    let scene = Scene::new("");
    let flags = ["--metrics-file", "a.prom"];
    let (result, code) = scene.export("out", &flags);
    assert_eq!(code, 0, "{result:#}");
    let text = std::fs::read_to_string(scene.path("a.prom")).unwrap();
    let number = |name: &str| value(&text, name).unwrap_or_else(|| panic!("{name}: {text}"));
    let as_of: jiff::Timestamp = result["transaction_time"].as_str().unwrap().parse().unwrap();
    assert_eq!((number("success"), number("exit_code"), number("running")), (1.0, 0.0, 0.0));
    assert_eq!(Some(number("resources")), result["totals"]["resources"].as_f64());
    assert_eq!(Some(number("stored_bytes")), result["totals"]["bytes"].as_f64());
    assert!((number("transaction_time_seconds") - as_of.as_second() as f64).abs() < 1.0);
    assert!(number("start_time_seconds") <= number("end_time_seconds"));
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(scene.export("out", &flags).0["was_done"], true);
    assert_eq!(std::fs::read_to_string(scene.path("a.prom")).unwrap(), text);

    let scene = Scene::new("traps=job-failed");
    assert_eq!(scene.export("out", &flags).1, 69);
    let text = std::fs::read_to_string(scene.path("a.prom")).unwrap();
    assert_eq!((value(&text, "success"), value(&text, "exit_code")), (Some(0.0), Some(69.0)));
    assert!(value(&text, "end_time_seconds").is_some());
}

#[test]
fn metrics_that_cannot_be_written_are_told_before_anything_is_asked() {
    let scene = Scene::new("");
    for file in ["nowhere/a.prom", "/dev/null", "."] {
        let (error, code) = scene.export("out", &["--metrics-file", file]);
        assert_eq!(code, 73, "{file}: {error:#}");
        assert!(error["message"].as_str().unwrap().contains(file), "{error:#}");
    }
    assert!(!scene.path("out").exists());
    assert!(!scene.log.exists() || scene.seen().is_empty());
}
