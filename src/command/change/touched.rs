//! What a change of the inventory touches, in words for the audit log.

use serde_json::Value;

use crate::inventory::edit::{self, Op, Step};

/// What changes touch: servers with the keys of their entries, never a value. What is beside the
/// servers, such as a group that loses a member, belongs to the one server that is touched.
pub(super) fn touched_by(document: &Value, ops: &[Op]) -> Vec<(Option<String>, String)> {
    let mut touched: Vec<(Option<String>, Vec<String>)> = Vec::new();
    let mut beside = Vec::new();
    for op in ops {
        let (server, what) = touch(document, op);
        if server.is_none() {
            beside.push(what);
            continue;
        }
        match touched.iter_mut().rev().find(|(known, _)| *known == server) {
            Some((_, keys)) => keys.push(what),
            None => touched.push((server, vec![what])),
        }
    }
    match touched.as_mut_slice() {
        _ if beside.is_empty() => {}
        [(_, keys)] => keys.extend(beside),
        _ => touched.push((None, beside)),
    }
    touched.into_iter().map(|(server, keys)| (server, keys.join(", "))).collect()
}

/// The server that one change is of, and what it changes there.
fn touch(document: &Value, op: &Op) -> (Option<String>, String) {
    let name = |entry: &Value| entry.get("name").and_then(Value::as_str).map(str::to_owned);
    let keys = |value: &Value| {
        let keys = value.as_object().into_iter().flat_map(|map| map.keys());
        keys.map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    let path = op.path();
    let [Step::Key(top), below @ ..] = path else { return (None, edit::show(path)) };
    match (top.as_str(), below, op) {
        ("servers", [], Op::Append(_, entry)) => {
            (name(entry), format!("registered with {}", keys(entry)))
        }
        ("servers", [Step::Index(index)], Op::Remove(_)) => (
            document.pointer(&format!("/servers/{index}")).and_then(name),
            "entry taken out".into(),
        ),
        ("servers", [Step::Index(index), key @ ..], op) => {
            let server = document.pointer(&format!("/servers/{index}")).and_then(name);
            let what = match op {
                // The new name is what makes the old one findable.
                Op::Set(_, Value::String(new)) if edit::show(key) == "name" => {
                    format!("name, now {new}")
                }
                Op::Remove(_) => format!("{} taken out", edit::show(key)),
                _ => edit::show(key),
            };
            (server, what)
        }
        _ => (None, edit::show(path)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_touched_is_told_by_server_and_key_and_without_values() {
        let document = json!({
            "servers": [{"name": "a"}, {"name": "b"}],
            "groups": [{"name": "g", "members": ["a"]}],
        });
        let place = |keys: &[&str]| {
            let step = |key: &&str| match key.parse() {
                Ok(index) => Step::Index(index),
                Err(_) => Step::Key((*key).to_owned()),
            };
            keys.iter().map(step).collect::<edit::Path>()
        };
        let set = |keys: &[&str]| Op::Set(place(keys), "hunter2".into());
        let entry = json!({"name": "c", "url": "hunter2", "auth": {"password": "hunter2"}});
        type Touched = &'static [(Option<&'static str>, &'static str)];
        let cases: [(Vec<Op>, Touched); 5] = [
            (
                vec![
                    set(&["servers", "0", "timeouts", "total"]),
                    set(&["servers", "1", "url"]),
                    Op::Remove(place(&["servers", "0", "labels"])),
                ],
                &[(Some("a"), "timeouts.total, labels taken out"), (Some("b"), "url")],
            ),
            (
                vec![Op::Append(place(&["servers"]), entry)],
                &[(Some("c"), "registered with name, url, auth")],
            ),
            (
                vec![
                    Op::Remove(place(&["servers", "0"])),
                    Op::Remove(place(&["groups", "0", "members", "0"])),
                ],
                &[(Some("a"), "entry taken out, groups[0].members[0]")],
            ),
            (
                vec![Op::Set(place(&["servers", "1", "name"]), "new".into())],
                &[(Some("b"), "name, now new")],
            ),
            (vec![set(&["defaults", "deadline"])], &[(None, "defaults.deadline")]),
        ];
        for (ops, expected) in cases {
            let touched = touched_by(&document, &ops);
            let told: Vec<_> =
                touched.iter().map(|(server, keys)| (server.as_deref(), keys.as_str())).collect();
            assert_eq!(told, expected);
        }
    }
}
