//! The JSON Schema of the inventory, and the same as a shape that the walk can follow quickly.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::raw::RawInventory;

/// The JSON Schema (draft 2020-12) of an inventory, as `fhirctl schema inventory` prints it.
#[must_use]
pub fn inventory_schema() -> Value {
    let schema = schemars::schema_for!(RawInventory);
    let mut value = schema.to_value();
    if let Some(definitions) = value.get_mut("$defs").and_then(Value::as_object_mut) {
        for definition in definitions.values_mut() {
            close(definition);
            forbid_null(definition);
        }
    }
    // At the top `servers:` with nothing but comments below it is how a file begins.
    close(&mut value);
    forbid_null_at(&mut value, "version");
    rename(&mut value);
    let mut ordered = Map::new();
    ordered.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    if let Value::Object(root) = value {
        ordered.extend(root.into_iter().filter(|(key, _)| key != "$schema"));
    }
    Value::Object(ordered)
}

/// Takes our types' prefix out of the names that an editor shows, and formats that only a Rust
/// program knows.
fn rename(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get_mut("$ref") {
                *target = target.replace("#/$defs/Raw", "#/$defs/");
            }
            if map.get("format").and_then(Value::as_str).is_some_and(|format| {
                format.starts_with("uint") || matches!(format, "double" | "float")
            }) {
                map.shift_remove("format");
            }
            if let Some(Value::Object(definitions)) = map.get_mut("$defs") {
                *definitions = std::mem::take(definitions)
                    .into_iter()
                    .map(|(name, value)| (name.trim_start_matches("Raw").to_owned(), value))
                    .collect();
            }
            map.values_mut().for_each(rename);
        }
        Value::Array(items) => items.iter_mut().for_each(rename),
        _ => {}
    }
}

fn forbid_null_at(schema: &mut Value, property: &str) {
    if let Some(property) = schema.pointer_mut(&format!("/properties/{property}")) {
        forbid_null(property);
    }
}

/// Says of every record that it has no other keys.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties") && !map.contains_key("additionalProperties") {
                map.insert("additionalProperties".into(), false.into());
            }
            map.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Takes out what an optional field brings: a key with nothing behind it is a mistake.
fn forbid_null(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    map.insert("type".into(), one);
                }
            }
            if let Some(Value::Array(choices)) = map.get_mut("enum") {
                choices.retain(|choice| !choice.is_null());
            }
            if let Some(Value::Array(branches)) = map.get_mut("anyOf") {
                branches.retain(|branch| branch.get("type").is_none_or(|name| name != "null"));
                if let [Value::Object(one)] = branches.as_slice() {
                    let one = one.clone();
                    map.remove("anyOf");
                    for (key, value) in one {
                        map.entry(key).or_insert(value);
                    }
                }
            }
            map.values_mut().for_each(forbid_null);
        }
        Value::Array(items) => items.iter_mut().for_each(forbid_null),
        _ => {}
    }
}

/// What may stand in one place.
#[derive(Debug)]
pub(super) enum Shape {
    /// Whatever YAML can say.
    Any,
    /// A map of whatever.
    Object,
    Boolean,
    Number {
        whole: bool,
        low: Option<f64>,
        high: Option<f64>,
        above: Option<f64>,
    },
    /// A text of a kind; the empty kind is any text but nothing.
    Text {
        kind: String,
    },
    /// One of these words.
    Choice(Vec<String>),
    /// A text or `{exec: […]}`.
    Reference {
        kind: String,
    },
    /// A text of a kind, or a record that says more.
    TextOr {
        kind: String,
        more: Box<Shape>,
    },
    List(Box<Shape>),
    /// Keys of a kind to values of one shape.
    Dictionary {
        keys: String,
        values: Box<Shape>,
    },
    Record(Record),
    /// A record that is named in the table, so that records may hold each other.
    Named(String),
}

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) fields: HashMap<String, Field>,
    /// In the order of the description.
    pub(super) names: Vec<String>,
    pub(super) required: Vec<String>,
    /// Holds a secret, so that what is misspelt beside it may be one.
    pub(super) guarded: bool,
    /// Other keys are header names with secret references, when `method` says `headers`.
    pub(super) is_auth: bool,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) shape: Shape,
    pub(super) nullable: bool,
}

/// The whole description, compiled once.
#[derive(Debug)]
pub(super) struct Shapes {
    pub(super) root: Record,
    named: HashMap<String, Shape>,
}

impl Shapes {
    pub(super) fn of_inventory() -> &'static Shapes {
        static SHAPES: OnceLock<Shapes> = OnceLock::new();
        SHAPES.get_or_init(|| Shapes::compile(&inventory_schema()))
    }

    /// Follows names to what they name.
    pub(super) fn resolve<'a>(&'a self, shape: &'a Shape) -> &'a Shape {
        let mut shape = shape;
        // Names lead to names only a few times; the bound keeps a ring from turning for ever.
        for _ in 0..8 {
            match shape {
                Shape::Named(name) => shape = self.named.get(name).unwrap_or(&Shape::Any),
                other => return other,
            }
        }
        &Shape::Any
    }

    fn compile(schema: &Value) -> Shapes {
        let empty = Map::new();
        let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
        let named = definitions
            .iter()
            .map(|(name, definition)| (name.clone(), compile(definition)))
            .collect();
        let root = match compile(schema) {
            Shape::Record(record) => record,
            _ => Record::default(),
        };
        Shapes { root, named }
    }
}

fn compile(schema: &Value) -> Shape {
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    let kind = text("x-kind").unwrap_or_default().to_owned();
    match kind.as_str() {
        "secret" | "header-value" | "canary" | "link" => return Shape::Reference { kind },
        "object" => return Shape::Object,
        "proxy" => {
            let kind = schema.pointer("/anyOf/0/x-kind").and_then(Value::as_str);
            return Shape::TextOr {
                kind: kind.unwrap_or_default().to_owned(),
                more: Box::new(schema.pointer("/anyOf/1").map_or(Shape::Any, compile)),
            };
        }
        "auth" => {
            let keys = schema.pointer("/anyOf/0").map(compile).unwrap_or(Shape::Any);
            return keys;
        }
        _ => {}
    }
    if let Some(name) = text("$ref").and_then(|target| target.strip_prefix("#/$defs/")) {
        return Shape::Named(name.to_owned());
    }
    if let Some(choices) = choices(schema) {
        return Shape::Choice(choices);
    }
    if let Some(branch) = schema.get("anyOf").and_then(|branches| branches.get(0)) {
        return compile(branch);
    }
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    let type_name = match schema.get("type") {
        Some(Value::Array(names)) => names.first().and_then(Value::as_str),
        other => other.and_then(Value::as_str),
    };
    match type_name {
        Some("string") => Shape::Text { kind },
        Some("boolean") => Shape::Boolean,
        Some(name @ ("integer" | "number")) => Shape::Number {
            whole: name == "integer",
            low: number("minimum"),
            high: number("maximum"),
            above: number("exclusiveMinimum"),
        },
        Some("array") => {
            let mut items = schema.get("items").map_or(Shape::Any, compile);
            if let (Shape::Text { kind }, Some(named)) = (&mut items, text("x-items")) {
                named.clone_into(kind);
            }
            Shape::List(Box::new(items))
        }
        Some("object") => object(schema),
        _ => Shape::Any,
    }
}

fn object(schema: &Value) -> Shape {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        let values = schema.get("additionalProperties").map_or(Shape::Any, compile);
        let keys = schema.get("x-keys").and_then(Value::as_str).unwrap_or_default().to_owned();
        return Shape::Dictionary { keys, values: Box::new(values) };
    };
    let fields: HashMap<String, Field> = properties
        .iter()
        .map(|(name, property)| {
            let nullable = is_nullable(property);
            (name.clone(), Field { shape: compile(property), nullable })
        })
        .collect();
    let is_secret = |property: &Value| {
        property.get("$ref").and_then(Value::as_str) == Some("#/$defs/SecretReference")
    };
    let required = schema.get("required").and_then(Value::as_array);
    Shape::Record(Record {
        fields,
        names: properties.keys().cloned().collect(),
        required: required
            .map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default(),
        guarded: properties.values().any(is_secret),
        is_auth: properties.contains_key("token_cache"),
    })
}

fn is_nullable(schema: &Value) -> bool {
    let names_null = |value: &Value| {
        value.as_array().is_some_and(|items| {
            items.iter().any(|item| item == "null" || item.get("type").is_some_and(|t| t == "null"))
        })
    };
    schema.get("type").is_some_and(names_null) || schema.get("anyOf").is_some_and(names_null)
}

/// The words of an enum, however the generator wrote them.
fn choices(schema: &Value) -> Option<Vec<String>> {
    if let Some(Value::Array(words)) = schema.get("enum") {
        return Some(words.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    }
    let branches = schema.get("oneOf")?.as_array()?;
    branches.iter().map(|branch| Some(branch.get("const")?.as_str()?.to_owned())).collect()
}
