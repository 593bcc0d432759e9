//! One change as the smallest replacement of text.

use std::ops::Range;

use serde_json::Value;

use super::scalar::{self, Place};
use super::tree::{self, Entry, Item, Kind, Node, Tree, column, line_end, line_start, next_line};
use super::{Op, Path, Step};

/// A piece of text and what takes its place.
pub(super) struct Splice {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

/// Why there is no splice; a plain sentence.
pub(super) type Refusal = String;

/// The replacements, in the order of the text, that make `op` happen. `intended` is the whole
/// value as it is to be afterwards.
pub(super) fn plan(
    text: &str,
    tree: &Tree,
    op: &Op,
    intended: &Value,
) -> Result<Vec<Splice>, Refusal> {
    let editor = Editor { text, tree, newline: if text.contains("\r\n") { "\r\n" } else { "\n" } };
    match op {
        Op::Set(path, _) => editor.set(path, intended),
        Op::Append(path, value) => editor.append(path, std::slice::from_ref(value), intended),
        Op::Extend(path, values) => editor.append(path, values, intended),
        Op::Remove(path) => editor.remove(path),
    }
}

/// A text with its splices made.
pub(super) fn apply(text: &str, splices: &[Splice]) -> String {
    let mut result = String::with_capacity(text.len() + 256);
    let mut at = 0;
    for splice in splices {
        result.push_str(&text[at..splice.range.start]);
        result.push_str(&splice.text);
        at = splice.range.end;
    }
    result.push_str(&text[at..]);
    result
}

struct Editor<'a> {
    text: &'a str,
    tree: &'a Tree,
    newline: &'static str,
}

/// A node together with what it hangs on.
struct Spot<'a> {
    node: &'a Node,
    /// After the colon or the dash.
    value_at: usize,
    place: Place,
}

/// How far a path leads in the text.
enum Found<'a> {
    Whole(Spot<'a>),
    /// This map has no such key; the number of steps that were found.
    NoKey(Spot<'a>, usize),
    /// Something that is neither map nor list stands here.
    Blocked(Spot<'a>, usize),
}

fn insert(at: usize, text: String) -> Splice {
    Splice { range: at..at, text }
}

impl<'a> Editor<'a> {
    fn set(&self, path: &Path, intended: &Value) -> Result<Vec<Splice>, Refusal> {
        let Some(found) = self.find(path) else { return self.first_key(path, intended) };
        match found {
            Found::Whole(spot) => self.replace(&spot, value_at(intended, path)?),
            Found::Blocked(spot, depth) => self.replace(&spot, value_at(intended, &path[..depth])?),
            Found::NoKey(spot, depth) => {
                let value = value_at(intended, &path[..=depth])?;
                let Step::Key(key) = &path[depth] else {
                    return Err("a list item is missing".to_owned());
                };
                self.insert_key(&spot, key, value)
            }
        }
    }

    fn append(
        &self,
        path: &Path,
        values: &[Value],
        intended: &Value,
    ) -> Result<Vec<Splice>, Refusal> {
        let top = match path.as_slice() {
            [Step::Key(key)] => Some(key),
            _ => None,
        };
        let Some(found) = self.find(path) else {
            return match top {
                Some(key) => Ok(vec![self.at_document_end(&self.fresh_list(key, values))]),
                None => self.first_key(path, intended),
            };
        };
        match (found, top) {
            (Found::Whole(spot), _) => match &spot.node.kind {
                Kind::Sequence { flow: false, items } => self.append_block(items, values),
                Kind::Sequence { flow: true, items } => match (items.last(), top) {
                    (Some(last), _) => Ok(self.append_flow(spot.node, last, values, spot.place)),
                    (None, Some(_)) if spot.place == Place::Block => {
                        Ok(self.block_list_for_brackets(&spot, values))
                    }
                    (None, _) => self.replace(&spot, value_at(intended, path)?),
                },
                Kind::Empty if top.is_some() && spot.place == Place::Block => {
                    let items = self.block_items(values, 2, false);
                    Ok(vec![self.after_comments(spot.value_at, 0, &items)])
                }
                _ => self.replace(&spot, value_at(intended, path)?),
            },
            (Found::NoKey(spot, 0), Some(key)) if spot.place == Place::Block => {
                let Kind::Mapping { flow: false, entries } = &spot.node.kind else {
                    return self.set(path, intended);
                };
                match entries.last() {
                    Some(last) => {
                        let list = self.fresh_list(key, values);
                        Ok(vec![insert(
                            self.end_of(&last.value),
                            format!("{}{list}", self.newline),
                        )])
                    }
                    None => self.set(path, intended),
                }
            }
            _ => self.set(path, intended),
        }
    }

    fn remove(&self, path: &Path) -> Result<Vec<Splice>, Refusal> {
        let Some((last, parent)) = path.split_last() else {
            return Err("the whole document".to_owned());
        };
        let Some(Found::Whole(spot)) = self.find(parent) else {
            return Err("it does not stand there by itself: it comes through an alias".to_owned());
        };
        match (&spot.node.kind, last) {
            (Kind::Mapping { flow, entries }, Step::Key(key)) => {
                let Some(index) = entries.iter().position(|e| e.key.as_ref() == Some(key)) else {
                    return Err("it comes from elsewhere, through a merge key".to_owned());
                };
                if entries.len() == 1 {
                    return self.replace(&spot, &serde_json::json!({}));
                }
                let pieces: Vec<Range<usize>> =
                    entries.iter().map(|e| e.start..e.value.end.max(e.value_at)).collect();
                if *flow {
                    Ok(vec![self.cut_flow(spot.node, &pieces, index)])
                } else {
                    Ok(vec![self.cut_entry(entries, index)])
                }
            }
            (Kind::Sequence { flow, items }, Step::Index(index)) if *index < items.len() => {
                if items.len() == 1 {
                    return self.replace(&spot, &serde_json::json!([]));
                }
                if *flow {
                    let pieces: Vec<Range<usize>> =
                        items.iter().map(|item| item.start..item.value.end).collect();
                    Ok(vec![self.cut_flow(spot.node, &pieces, *index)])
                } else {
                    Ok(vec![self.cut_item(&items[*index])])
                }
            }
            _ => Err("it comes through an alias".to_owned()),
        }
    }

    /// Follows a path; `None` when the document is empty.
    fn find(&self, path: &[Step]) -> Option<Found<'a>> {
        let root = self.tree.root.as_ref()?;
        let mut spot =
            Spot { node: root, value_at: root.start, place: place_in(root, Place::Block) };
        for (depth, step) in path.iter().enumerate() {
            let place = place_in(spot.node, spot.place);
            spot = match (&spot.node.kind, step) {
                (Kind::Mapping { entries, .. }, Step::Key(key)) => {
                    match entries.iter().find(|entry| entry.key.as_ref() == Some(key)) {
                        Some(entry) => Spot { node: &entry.value, value_at: entry.value_at, place },
                        None => return Some(Found::NoKey(spot, depth)),
                    }
                }
                (Kind::Sequence { flow, items }, Step::Index(index)) if *index < items.len() => {
                    let item = &items[*index];
                    let value_at = if *flow { item.start } else { item.start + 1 };
                    Spot { node: &item.value, value_at, place }
                }
                _ => return Some(Found::Blocked(spot, depth)),
            };
        }
        Some(Found::Whole(spot))
    }

    /// Puts a value where another one stands.
    fn replace(&self, spot: &Spot<'_>, value: &Value) -> Result<Vec<Splice>, Refusal> {
        let node = spot.node;
        let inside = node.start..node.end;
        match &node.kind {
            Kind::Empty => {
                let text = format!(" {}", scalar::render(value, spot.place));
                Ok(vec![insert(spot.value_at, text)])
            }
            Kind::Scalar(style) => {
                let text = scalar::in_style(value, *style, spot.place);
                Ok(vec![Splice { range: inside, text }])
            }
            Kind::Alias | Kind::Mapping { flow: true, .. } | Kind::Sequence { flow: true, .. } => {
                let text = scalar::render(value, spot.place);
                Ok(vec![Splice { range: inside, text }])
            }
            Kind::Mapping { .. } | Kind::Sequence { .. } => {
                let text = scalar::render(value, spot.place);
                if line_start(self.text, spot.value_at) == line_start(self.text, node.start) {
                    return Ok(vec![Splice { range: inside, text }]);
                }
                // The value moves up beside its key; the lines it took go.
                let lines = line_start(self.text, node.start)..line_end(self.text, node.end);
                let before = lines.start - self.break_before(lines.start);
                Ok(vec![
                    insert(spot.value_at, format!(" {text}")),
                    Splice { range: before..lines.end, text: String::new() },
                ])
            }
            Kind::Other => Err("what stands there is tagged or of an unusual form".to_owned()),
        }
    }

    fn insert_key(
        &self,
        spot: &Spot<'_>,
        key: &str,
        value: &Value,
    ) -> Result<Vec<Splice>, Refusal> {
        let Kind::Mapping { flow, entries } = &spot.node.kind else {
            return Err("what stands there is no map".to_owned());
        };
        let Some(last) = entries.last() else {
            let text = scalar::entry(key, value, place_in(spot.node, spot.place));
            return Ok(vec![insert(spot.node.start + 1, text)]);
        };
        if *flow {
            let text = scalar::entry(key, value, place_in(spot.node, spot.place));
            let end = last.value.end.max(last.value_at);
            return Ok(self.add_flow(spot.node, last.start, end, &[text]));
        }
        // The first key may stand behind a dash or an anchor; a later one shows the column better.
        let indent = column(self.text, last.start);
        let line = scalar::entry(key, value, Place::Block);
        let text = format!("{}{}{line}", self.newline, " ".repeat(indent));
        Ok(vec![insert(self.end_of(&last.value), text)])
    }

    /// A key for a document that holds none.
    fn first_key(&self, path: &Path, intended: &Value) -> Result<Vec<Splice>, Refusal> {
        let Some(Step::Key(key)) = path.first() else {
            return Err("the document is empty".to_owned());
        };
        let line = scalar::entry(key, value_at(intended, &path[..1])?, Place::Block);
        Ok(vec![self.at_document_end(&line)])
    }

    fn at_document_end(&self, lines: &str) -> Splice {
        let end = self.text.len();
        let joined = if self.text.is_empty() || self.text.ends_with(['\n', '\u{feff}']) {
            format!("{lines}{}", self.newline)
        } else {
            format!("{}{lines}", self.newline)
        };
        insert(end, joined)
    }

    fn fresh_list(&self, key: &str, values: &[Value]) -> String {
        format!("{key}:{}{}", self.newline, self.block_items(values, 2, false))
    }

    /// A list item as lines without a final line break: a map has a line for each key.
    fn block_item(&self, value: &Value, indent: usize) -> String {
        let margin = " ".repeat(indent);
        match value {
            Value::Object(map) if !map.is_empty() => {
                let lines: Vec<String> = map
                    .iter()
                    .map(|(key, value)| scalar::entry(key, value, Place::Block))
                    .collect();
                format!("{margin}- {}", lines.join(&format!("{}{margin}  ", self.newline)))
            }
            other => format!("{margin}- {}", scalar::render(other, Place::Block)),
        }
    }

    /// Items one below the other, with an empty line between them where they stand apart.
    fn block_items(&self, values: &[Value], indent: usize, apart: bool) -> String {
        let between = self.newline.repeat(if apart { 2 } else { 1 });
        let items: Vec<String> = values.iter().map(|v| self.block_item(v, indent)).collect();
        items.join(&between)
    }

    fn append_block(&self, items: &[Item], values: &[Value]) -> Result<Vec<Splice>, Refusal> {
        let Some(last) = items.last() else { return Err("the list is empty".to_owned()) };
        let indent = column(self.text, last.start);
        let block = matches!(last.value.kind, Kind::Mapping { flow: false, .. })
            || (items.len() == 1 && indent <= 2 && self.is_top(last));
        let apart = items.len() > 1
            && self.text[..line_start(self.text, last.start)]
                .trim_end_matches(['\r', ' '])
                .strip_suffix('\n')
                .is_some_and(|above| above.trim_end_matches('\r').ends_with('\n'));
        let new = if block {
            self.block_items(values, indent, apart)
        } else {
            let margin = " ".repeat(indent);
            let line = |value| format!("{margin}- {}", scalar::render(value, Place::Flow));
            let lines: Vec<String> = values.iter().map(line).collect();
            lines.join(&self.newline.repeat(if apart { 2 } else { 1 }))
        };
        let item = if apart { format!("{}{new}", self.newline) } else { new };
        Ok(vec![self.after_comments(self.end_of(&last.value), indent, &item)])
    }

    /// Whether an item belongs to a list right below a key of the document.
    fn is_top(&self, item: &Item) -> bool {
        let Some(Node { kind: Kind::Mapping { entries, .. }, .. }) = &self.tree.root else {
            return false;
        };
        entries.iter().any(|entry| match &entry.value.kind {
            Kind::Sequence { items, .. } => items.iter().any(|other| other.start == item.start),
            _ => false,
        })
    }

    /// Lines put below the line of `at`, and below the comments there that belong to the list: those
    /// that stand as deep as its dashes or deeper.
    fn after_comments(&self, at: usize, indent: usize, lines: &str) -> Splice {
        let mut end = line_end(self.text, at);
        let mut next = next_line(self.text, end);
        while next < self.text.len() {
            let line = &self.text[next..line_end(self.text, next)];
            let depth = line.len() - line.trim_start().len();
            if line.trim_start().starts_with('#') && depth >= indent.max(1) {
                end = next + line.len();
            } else if !line.trim().is_empty() {
                break;
            }
            next = next_line(self.text, next);
        }
        insert(end, format!("{}{lines}", self.newline))
    }

    /// A block list in place of `[]`.
    fn block_list_for_brackets(&self, spot: &Spot<'_>, values: &[Value]) -> Vec<Splice> {
        let node = spot.node;
        let rest = &self.text[node.end..line_end(self.text, node.end)];
        let spaces = self.text[spot.value_at..node.start].len();
        // A space goes with the brackets; all of them when no comment needs them.
        let start =
            if rest.trim().is_empty() { node.start - spaces } else { node.start - spaces.min(1) };
        vec![
            Splice { range: start..node.end, text: String::new() },
            self.after_comments(node.end, 0, &self.block_items(values, 2, false)),
        ]
    }

    fn append_flow(&self, list: &Node, last: &Item, values: &[Value], place: Place) -> Vec<Splice> {
        let json = place == Place::Json || is_json(&last.value);
        let place = if json { Place::Json } else { Place::Flow };
        let texts: Vec<String> = values.iter().map(|v| scalar::render(v, place)).collect();
        self.add_flow(list, last.start, last.value.end, &texts)
    }

    /// More pieces in braces or brackets, each on a line of its own where the last one has one.
    fn add_flow(
        &self,
        whole: &Node,
        last_start: usize,
        last_end: usize,
        pieces: &[String],
    ) -> Vec<Splice> {
        let margin = &self.text[line_start(self.text, last_start)..last_start];
        let own_line = margin.chars().all(|c| matches!(c, ' ' | '\t'))
            && line_start(self.text, last_start) > whole.start;
        if !own_line {
            return vec![insert(last_end, format!(", {}", pieces.join(", ")))];
        }
        let piece = pieces.join(&format!(",{}{margin}", self.newline));
        let comma = tree::skip(self.text, last_end, b"");
        let has_comma = self.text.as_bytes().get(comma) == Some(&b',') && comma < whole.end;
        let line = line_end(self.text, if has_comma { comma } else { last_end });
        if line > whole.end {
            // The closing bracket stands on the same line.
            return vec![insert(last_end, format!(",{}{margin}{piece}", self.newline))];
        }
        if has_comma {
            return vec![insert(line, format!("{}{margin}{piece},", self.newline))];
        }
        vec![
            insert(last_end, ",".to_owned()),
            insert(line, format!("{}{margin}{piece}", self.newline)),
        ]
    }

    /// Takes one piece out of braces or brackets, with its comma.
    fn cut_flow(&self, whole: &Node, pieces: &[Range<usize>], index: usize) -> Splice {
        let piece = &pieces[index];
        let range = match pieces.get(index + 1) {
            Some(next) => piece.start..next.start,
            None => {
                let comma = tree::skip(self.text, piece.end, b"");
                let trailing = self.text.as_bytes().get(comma) == Some(&b',') && comma < whole.end;
                match (trailing, index.checked_sub(1).map(|before| pieces[before].end)) {
                    (true, _) => {
                        let start = line_start(self.text, piece.start);
                        let alone = self.text[start..piece.start].trim().is_empty();
                        let after = line_end(self.text, comma + 1);
                        if alone && self.text[comma + 1..after].trim().is_empty() {
                            start..next_line(self.text, after)
                        } else {
                            piece.start..comma + 1
                        }
                    }
                    (false, Some(before)) => before..piece.end,
                    (false, None) => piece.clone(),
                }
            }
        };
        Splice { range, text: String::new() }
    }

    /// Takes a key and its value out of a block map.
    fn cut_entry(&self, entries: &[Entry], index: usize) -> Splice {
        let entry = &entries[index];
        let start = line_start(self.text, entry.start);
        let range = if self.text[start..entry.start].trim_matches([' ', '\u{feff}']).is_empty() {
            start..self.whole_lines_end(entry.value.end.max(entry.value_at))
        } else {
            // Behind a dash: the next key moves there.
            let next = entries.get(index + 1).map_or(entry.value.end, |next| next.start);
            entry.start..next
        };
        Splice { range: self.with_break(range), text: String::new() }
    }

    /// Takes an item out of a block list, with the comments that are indented deeper than its dash.
    fn cut_item(&self, item: &Item) -> Splice {
        let start = line_start(self.text, item.start);
        let depth = column(self.text, item.start);
        let mut end = self.whole_lines_end(item.value.end.max(item.start + 1));
        while end < self.text.len() {
            let line = &self.text[end..line_end(self.text, end)];
            let trimmed = line.trim_start();
            if !trimmed.starts_with('#') || line.len() - trimmed.len() <= depth {
                break;
            }
            end = next_line(self.text, end);
        }
        // Of the empty lines above and below one is enough.
        let above = line_start(self.text, start - self.break_before(start));
        let lone = self.text[above..start].trim().is_empty()
            && self.text[end..line_end(self.text, end)].trim().is_empty();
        let start = if lone { above } else { start };
        Splice { range: self.with_break(start..end), text: String::new() }
    }

    /// After the line break of the line that holds `at`.
    fn whole_lines_end(&self, at: usize) -> usize {
        next_line(self.text, line_end(self.text, at))
    }

    /// A cut at the end of a text without a final line break takes the break before it instead.
    fn with_break(&self, range: Range<usize>) -> Range<usize> {
        if range.end == self.text.len() && !self.text.ends_with('\n') {
            range.start - self.break_before(range.start)..range.end
        } else {
            range
        }
    }

    fn break_before(&self, at: usize) -> usize {
        let above = &self.text[..at];
        if above.ends_with("\r\n") { 2 } else { usize::from(above.ends_with('\n')) }
    }

    /// The end of the line on which a value ends, comment included.
    fn end_of(&self, node: &Node) -> usize {
        line_end(self.text, node.end)
    }
}

/// How a value inside this node is written.
fn place_in(node: &Node, outer: Place) -> Place {
    match &node.kind {
        _ if is_json(node) => Place::Json,
        Kind::Mapping { flow: true, entries } if entries.is_empty() && outer == Place::Json => {
            outer
        }
        Kind::Mapping { flow: true, .. } => Place::Flow,
        Kind::Sequence { flow: true, .. } if outer == Place::Block => Place::Flow,
        _ => outer,
    }
}

fn is_json(node: &Node) -> bool {
    matches!(&node.kind, Kind::Mapping { flow: true, entries }
        if !entries.is_empty() && entries.iter().all(|entry| entry.quoted))
}

fn value_at<'v>(intended: &'v Value, path: &[Step]) -> Result<&'v Value, Refusal> {
    super::lookup(intended, path).ok_or_else(|| "the place is missing".to_owned())
}
