//! The layout of a YAML text: where every key, value and comment stands.

use std::ops::Range;

use yaml_edit::{Mapping, MappingEntry, Sequence, YamlFile, YamlNode};

/// A parsed text with byte positions.
pub(super) struct Tree {
    /// `None` when the document holds nothing but comments.
    pub(super) root: Option<Node>,
    /// Where comments stand, ascending.
    pub(super) comments: Vec<Range<usize>>,
}

/// A value. `start..end` is its text without anchor, tag and trailing space.
pub(super) struct Node {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Scalar(Style),
    /// Nothing stands here; `start` is where it would.
    Empty,
    Alias,
    Mapping {
        flow: bool,
        entries: Vec<Entry>,
    },
    Sequence {
        flow: bool,
        items: Vec<Item>,
    },
    /// A tagged value or something else that is not edited.
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
    Block,
}

pub(super) struct Entry {
    /// `None` for a key that is no plain word, and for `<<`.
    pub(super) key: Option<String>,
    /// Whether the key stands in double quotes, as in JSON.
    pub(super) quoted: bool,
    /// Where the key, or its anchor, begins.
    pub(super) start: usize,
    /// After the colon and an anchor or tag on its line.
    pub(super) value_at: usize,
    pub(super) value: Node,
}

pub(super) struct Item {
    /// The dash, or in flow style the item with its anchor.
    pub(super) start: usize,
    pub(super) value: Node,
}

/// Reads the layout.
///
/// # Errors
/// A plain sentence when the text is not one document, or not understood.
pub(super) fn read(text: &str) -> Result<Tree, String> {
    let parsed = YamlFile::parse(text);
    if let Some(error) = parsed.errors().first() {
        return Err(format!("its layout is not understood: {error}"));
    }
    let file = parsed.tree();
    let mut documents = file.documents();
    let document = documents.next();
    if documents.next().is_some() {
        return Err("it holds more than one YAML document".to_owned());
    }
    let root = match document {
        Some(document) => match (document.as_mapping(), document.as_scalar()) {
            (Some(mapping), _) => Some(mapping_node(text, &mapping)),
            (None, Some(scalar)) if scalar.is_null() => None,
            (None, None) if document.as_sequence().is_none() => None,
            _ => return Err("it is not a map".to_owned()),
        },
        None => None,
    };
    let mut comments: Vec<Range<usize>> = file
        .comments()
        .map(|comment| {
            let range = comment.text_range();
            usize::from(range.start())..usize::from(range.end())
        })
        .collect();
    comments.sort_by_key(|range| range.start);
    Ok(Tree { root, comments })
}

/// The first position at or after `at` that is neither space, line break, comment nor one of
/// `also`.
pub(super) fn skip(text: &str, mut at: usize, also: &[u8]) -> usize {
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'#' => at = line_end(text, at),
            other if also.contains(other) => at += 1,
            _ => break,
        }
    }
    at
}

/// Where the line that holds `at` begins.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Where the line that holds `at` ends, before its line break.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    if end > at && text.as_bytes().get(end) == Some(&b'\n') && text.as_bytes()[end - 1] == b'\r' {
        end - 1
    } else {
        end
    }
}

/// Where the line after the one that holds `at` begins; the end of the text when there is none.
pub(super) fn next_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1)
}

/// Characters between the begin of the line and `at`, a byte order mark not counted.
pub(super) fn column(text: &str, at: usize) -> usize {
    text[line_start(text, at)..at].chars().filter(|c| *c != '\u{feff}').count()
}

fn range(node: &YamlNode) -> Range<usize> {
    let range = node.byte_range();
    range.start as usize..range.end as usize
}

fn node(text: &str, node: &YamlNode, value_at: usize) -> Node {
    if let Some(mapping) = node.as_mapping() {
        return mapping_node(text, mapping);
    }
    if let Some(sequence) = node.as_sequence() {
        return sequence_node(text, sequence);
    }
    let Range { start, end } = range(node);
    let body = &text[start..end];
    let trimmed = start + body.trim_end().len();
    if node.is_alias() {
        return Node { start, end: trimmed, kind: Kind::Alias };
    }
    let Some(scalar) = node.as_scalar() else {
        return Node { start, end: trimmed, kind: Kind::Other };
    };
    if body.trim().is_empty() {
        return Node { start: value_at, end: value_at, kind: Kind::Empty };
    }
    let style = match body.as_bytes()[0] {
        _ if scalar.is_block() => Style::Block,
        b'"' => Style::Double,
        b'\'' => Style::Single,
        _ => Style::Plain,
    };
    let header = body.lines().next().unwrap_or_default();
    let end = if style == Style::Block && header.contains('+') {
        // The blank lines at its end are part of the value.
        body.strip_suffix('\n').map_or(end, |rest| start + rest.trim_end_matches('\r').len())
    } else {
        trimmed
    };
    Node { start, end, kind: Kind::Scalar(style) }
}

fn mapping_node(text: &str, mapping: &Mapping) -> Node {
    let whole = mapping.byte_range();
    let (start, mut end) = (whole.start as usize, whole.end as usize);
    let flow = mapping.is_flow_style();
    let mut entries: Vec<Entry> = Vec::new();
    let mut at = start + usize::from(flow);
    for entry in mapping.entries() {
        let entry = entry_of(text, &entry, skip(text, at, b","));
        at = entry.value.end.max(entry.value_at);
        entries.push(entry);
    }
    if flow {
        end = start + text[start..end].trim_end().len();
    } else if !entries.is_empty() {
        end = at;
    }
    Node { start, end, kind: Kind::Mapping { flow, entries } }
}

fn entry_of(text: &str, entry: &MappingEntry, start: usize) -> Entry {
    let key_node = entry.key_node();
    let key_range = key_node.as_ref().map_or(start..start, range);
    let written = text[key_range.clone()].trim_end();
    let key = key_node
        .as_ref()
        .and_then(YamlNode::as_scalar)
        .map(yaml_edit::Scalar::as_string)
        .filter(|_| written != "<<");
    let key_end = key_range.start + written.len();
    let colon =
        key_end + text[key_end..].bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let has_colon = text.as_bytes().get(colon) == Some(&b':');
    let value_at = if has_colon { properties_end(text, colon + 1) } else { key_end };
    let value = match entry.value_node() {
        Some(value) if has_colon => node(text, &value, value_at),
        Some(value) => {
            let range = range(&value);
            Node { start: range.start, end: range.end, kind: Kind::Other }
        }
        None => Node { start: value_at, end: value_at, kind: Kind::Empty },
    };
    Entry { key, quoted: written.starts_with('"'), start, value_at, value }
}

fn sequence_node(text: &str, sequence: &Sequence) -> Node {
    let whole = sequence.byte_range();
    let (start, mut end) = (whole.start as usize, whole.end as usize);
    let flow = sequence.is_flow_style();
    let mut items: Vec<Item> = Vec::new();
    let mut at = start + usize::from(flow);
    for value in sequence.values() {
        let item_start = skip(text, at, b",");
        let dash = !flow && text.as_bytes().get(item_start) == Some(&b'-');
        let value_at = if dash { properties_end(text, item_start + 1) } else { item_start };
        let value = node(text, &value, value_at);
        at = value.end.max(value_at);
        items.push(Item { start: item_start, value });
    }
    if flow {
        end = start + text[start..end].trim_end().len();
    } else if !items.is_empty() {
        end = at;
    }
    Node { start, end, kind: Kind::Sequence { flow, items } }
}

/// After an anchor and a tag that follow on the same line; `at` itself when there is none.
fn properties_end(text: &str, at: usize) -> usize {
    let mut end = at;
    loop {
        let Some(rest) = text.get(end..) else { return at };
        let blank = rest.bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if blank == 0 || !rest[blank..].starts_with(['&', '!']) {
            return end;
        }
        let word = rest[blank..].find(char::is_whitespace).unwrap_or(rest.len() - blank);
        end += blank + word;
    }
}
