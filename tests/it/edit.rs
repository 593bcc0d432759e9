//! Edits of an inventory's text: odd but valid files, before and after.

use std::path::{Path, PathBuf};

use fhirctl::inventory::edit::{Op, Step, apply, document, remove_server, rename_server};
use fhirctl::model::Result;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/edits")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn path(value: &Value) -> Vec<Step> {
    let step = |value: &Value| match value {
        Value::String(key) => Step::Key(key.clone()),
        index => Step::Index(usize::try_from(index.as_u64().unwrap()).unwrap()),
    };
    value.as_array().unwrap().iter().map(step).collect()
}

fn operation(text: &str, op: &Value) -> Result<Vec<Op>> {
    let word = |index: usize| op[index].as_str().unwrap();
    Ok(match word(0) {
        "set" => vec![Op::Set(path(&op[1]), op[2].clone())],
        "append" => vec![Op::Append(path(&op[1]), op[2].clone())],
        "extend" => vec![Op::Extend(path(&op[1]), op[2].as_array().unwrap().clone())],
        "remove" => vec![Op::Remove(path(&op[1]))],
        "remove_server" => remove_server(&document(text)?, word(1))?,
        "rename_server" => rename_server(&document(text)?, word(1), word(2))?,
        other => panic!("no operation {other}"),
    })
}

fn edit(text: &str, ops: &[Value]) -> Result<String> {
    ops.iter().try_fold(text.to_owned(), |text, op| apply(&text, &operation(&text, op)?))
}

struct Case {
    file: String,
    name: String,
    refused: bool,
    ops: Vec<Value>,
}

fn cases() -> Vec<Case> {
    let table: Value = serde_yaml::from_str(&read("cases.yml")).unwrap();
    let mut cases = Vec::new();
    for (file, rows) in table.as_object().unwrap() {
        for (name, case) in rows.as_object().unwrap() {
            cases.push(Case {
                file: file.clone(),
                name: name.clone(),
                refused: case.get("refused") == Some(&Value::Bool(true)),
                ops: case["ops"].as_array().unwrap().clone(),
            });
        }
    }
    cases
}

#[test]
fn every_edit_changes_what_was_meant_and_nothing_else() {
    let cases = cases();
    assert!(cases.len() > 50, "{} cases", cases.len());
    for Case { file, name, refused, ops } in cases {
        let result = edit(&read(&format!("{file}.before.yaml")), &ops);
        if refused {
            let error = result.expect_err(&format!("{file}.{name} has to be refused"));
            assert_eq!(error.exit().0, 78, "{file}.{name}");
            assert!(!error.hints.is_empty(), "{file}.{name} says what to do");
        } else {
            let after = result.unwrap_or_else(|error| panic!("{file}.{name}: {error:?}"));
            assert_eq!(after, read(&format!("{file}.{name}.after.yaml")), "{file}.{name}");
        }
    }
}

#[test]
fn every_after_file_belongs_to_a_case() {
    let known: Vec<String> =
        cases().iter().map(|case| format!("{}.{}.after.yaml", case.file, case.name)).collect();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.ends_with(".after.yaml") || known.contains(&name), "{name}");
    }
}

#[test]
fn many_items_at_once_are_those_items_one_after_the_other() {
    let items: Vec<Value> = ["x", "y", "z"]
        .iter()
        .map(|name| serde_json::json!({"name": name, "url": format!("https://{name}.example")}))
        .collect();
    let servers = || vec![Step::Key("servers".to_owned())];
    let mut files: Vec<String> = cases().into_iter().map(|case| case.file).collect();
    files.dedup();
    let mut edited = 0;
    for file in files {
        let before = read(&format!("{file}.before.yaml"));
        let one = items.iter().try_fold(before.clone(), |text, item| {
            apply(&text, &[Op::Append(servers(), item.clone())])
        });
        let all = apply(&before, &[Op::Extend(servers(), items.clone())]);
        assert_eq!(one.is_ok(), all.is_ok(), "{file}");
        let (Ok(one), Ok(all)) = (one, all) else { continue };
        edited += 1;
        assert_eq!(document(&one).unwrap(), document(&all).unwrap(), "{file}");
        for comment in comments(&before) {
            assert!(all.contains(comment), "{file}: {comment} is gone from\n{all}");
        }
        assert_eq!(apply(&before, &[Op::Extend(servers(), Vec::new())]).unwrap(), before);
    }
    assert!(edited > 10, "{edited}");
}

/// The comments of a file, as far as a glance tells.
fn comments(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.find(" #").map(|at| line[at..].trim())).collect()
}

/// A text with one line lost, put in, cut short or moved.
fn damage(text: &str, random: &mut fastrand::Rng) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = random.usize(..lines.len());
    match random.u8(..4) {
        0 => {
            lines.remove(at);
        }
        1 => {
            let odd = ["\u{fe}é: [\n", "  - x\n", "# c\n", "\t- {\n", "- é\n", "? x\n"];
            lines.insert(at, odd[random.usize(..odd.len())]);
        }
        2 => {
            let end = lines[at].char_indices().map(|(index, _)| index).next_back().unwrap_or(0);
            lines[at] = &lines[at][..end];
        }
        _ => {
            let last = lines.len() - 1;
            lines.swap(at, last);
        }
    }
    lines.concat()
}

#[test]
fn a_damaged_file_is_edited_rightly_or_not_at_all() {
    let add =
        serde_json::json!(["append", ["servers"], {"name": "new", "url": "https://n.example"}]);
    let mut random = fastrand::Rng::with_seed(7);
    let mut edited = 0;
    for Case { file, ops, .. } in cases() {
        let text = read(&format!("{file}.before.yaml"));
        for _ in 0..8 {
            let damaged = damage(&text, &mut random);
            for ops in [&ops, &vec![add.clone()]] {
                let Ok(after) = edit(&damaged, ops) else { continue };
                edited += 1;
                if ops.iter().all(|op| op[0] == "append") {
                    for comment in comments(&damaged) {
                        assert!(after.contains(comment), "{comment} is gone from\n{after}");
                    }
                }
            }
        }
    }
    assert!(edited > 150, "{edited} edits went through");
}
