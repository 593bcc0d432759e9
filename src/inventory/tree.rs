//! The text of an inventory as a tree that knows where everything stands.
//!
//! The parser is the one under `serde_yaml`; reading its events keeps what a typed read drops:
//! the place of every key, both of two equal keys, and how a scalar was written.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Parser, ScalarStyle, Span};

/// Deeper nesting is refused: no inventory needs it, and walking it could exhaust the stack.
const MAX_DEPTH: usize = 48;
/// More nodes than this are refused, aliases counted as often as they are used.
const MAX_NODES: u64 = 4_000_000;

/// Names a node of a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeId(u32);

/// Byte offsets `[start, end)` into the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) enum Kind<'a> {
    Scalar(Scalar<'a>),
    List(Vec<NodeId>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Scalar<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) class: Class,
}

/// What a scalar is by the core schema of YAML 1.2: `yes` and `on` are text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Null,
    Boolean,
    Number,
    Text,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) key: NodeId,
    pub(super) value: NodeId,
    /// Came in by `<<`.
    pub(super) merged: bool,
}

/// What stops a text from becoming a tree.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) at: usize,
    pub(super) message: String,
}

#[derive(Debug)]
pub(super) struct Tree<'a> {
    nodes: Vec<Node<'a>>,
    root: Option<NodeId>,
    /// Complaints that do not stop the reading: odd keys, tags, merges of no map.
    pub(super) flaws: Vec<Broken>,
}

impl<'a> Tree<'a> {
    /// Reads one document. A byte-order mark has to be gone already.
    pub(super) fn read(text: &'a str) -> Result<Tree<'a>, Broken> {
        Builder::new(text).run()
    }

    /// `None` when the text holds nothing but space and comments.
    pub(super) fn root(&self) -> Option<NodeId> {
        self.root
    }

    pub(super) fn node(&self, id: NodeId) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }

    /// The text of a scalar.
    pub(super) fn text(&self, id: NodeId) -> Option<&str> {
        match &self.node(id).kind {
            Kind::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// The entry with this key.
    pub(super) fn entry(&self, map: NodeId, key: &str) -> Option<Entry> {
        match &self.node(map).kind {
            Kind::Map(entries) => {
                entries.iter().find(|entry| self.text(entry.key) == Some(key)).copied()
            }
            _ => None,
        }
    }

    /// The entries of a map; none for anything else.
    pub(super) fn entries(&self, id: NodeId) -> &[Entry] {
        match &self.node(id).kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none for anything else.
    pub(super) fn items(&self, id: NodeId) -> &[NodeId] {
        match &self.node(id).kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }
}

struct Builder<'a> {
    text: &'a str,
    nodes: Vec<Node<'a>>,
    /// How many nodes a node stands for, aliases expanded.
    weights: Vec<u64>,
    anchors: HashMap<usize, NodeId>,
    open: Vec<Open>,
    root: Option<NodeId>,
    flaws: Vec<Broken>,
}

/// A collection whose end has not been read.
struct Open {
    is_map: bool,
    anchor: usize,
    start: usize,
    children: Vec<NodeId>,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str) -> Builder<'a> {
        Builder {
            text,
            nodes: Vec::new(),
            weights: Vec::new(),
            anchors: HashMap::new(),
            open: Vec::new(),
            root: None,
            flaws: Vec::new(),
        }
    }

    fn run(mut self) -> Result<Tree<'a>, Broken> {
        let mut documents = 0;
        for event in Parser::new_from_str(self.text) {
            let (event, span) = event.map_err(|error| self.scan_error(&error))?;
            let place = place(span);
            match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(Broken {
                            at: place.start,
                            message: "a second document starts here; an inventory is one document"
                                .into(),
                        });
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let class = self.class(&text, style, tag.as_deref(), place);
                    // A block of text reaches into the indentation of what follows it.
                    let (start, end) = (floor(self.text, place.start), floor(self.text, place.end));
                    let length = self.text[start..end.max(start)].trim_end().len();
                    let place = Place { start, end: start + length };
                    let kind = Kind::Scalar(Scalar { text, class });
                    self.add(kind, place, anchor, 1)?;
                }
                Event::SequenceStart(_, anchor, tag) => {
                    self.known_tag(tag.as_deref(), "seq", place);
                    self.enter(false, anchor, place.start)?;
                }
                Event::MappingStart(_, anchor, tag) => {
                    self.known_tag(tag.as_deref(), "map", place);
                    self.enter(true, anchor, place.start)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.leave(place.end)?,
                Event::Alias(anchor) => match self.anchors.get(&anchor) {
                    Some(&id) => self.hang(id),
                    None => {
                        return Err(Broken {
                            at: place.start,
                            message: "this alias stands inside the value that it repeats".into(),
                        });
                    }
                },
                _ => {}
            }
        }
        Ok(Tree { nodes: self.nodes, root: self.root, flaws: self.flaws })
    }

    fn scan_error(&self, error: &granit_parser::ScanError) -> Broken {
        let at = error.marker().byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        let line_start = self.text[..floor(self.text, at)].rfind('\n').map_or(0, |end| end + 1);
        let indent = self.text[line_start..].chars().take_while(|c| matches!(c, ' ' | '\t'));
        let message = match error.kind() {
            // The name of the anchor could be a piece of a secret that begins with an asterisk.
            granit_parser::ErrorKind::UnknownAnchor => {
                "no anchor of this name stands above; put quotes around a text that begins with *"
                    .to_owned()
            }
            _ if indent.clone().any(|c| c == '\t') => {
                "a tab stands in the indentation; YAML indents with spaces only".to_owned()
            }
            _ => format!("this is no YAML: {}", plain_words(&error.info())),
        };
        Broken { at, message }
    }

    fn class(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&granit_parser::Tag>,
        place: Place,
    ) -> Class {
        if let Some(tag) = tag {
            match tag.core_suffix() {
                Some("str") => return Class::Text,
                Some("null") => return Class::Null,
                Some("bool") if matches!(text, "true" | "false") => return Class::Boolean,
                Some("int" | "float") if is_number(text) => return Class::Number,
                _ => self.flaw(place, "tags have no meaning in an inventory"),
            }
        }
        if style != ScalarStyle::Plain {
            return Class::Text;
        }
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Class::Null,
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Class::Boolean,
            _ if is_number(text) => Class::Number,
            _ => Class::Text,
        }
    }

    fn known_tag(&mut self, tag: Option<&granit_parser::Tag>, name: &str, place: Place) {
        if tag.is_some_and(|tag| tag.core_suffix() != Some(name)) {
            self.flaw(place, "tags have no meaning in an inventory");
        }
    }

    fn flaw(&mut self, place: Place, message: &str) {
        self.flaws.push(Broken { at: place.start, message: message.to_owned() });
    }

    fn enter(&mut self, is_map: bool, anchor: usize, start: usize) -> Result<(), Broken> {
        if self.open.len() >= MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(Broken { at: start, message });
        }
        self.open.push(Open { is_map, anchor, start, children: Vec::new() });
        Ok(())
    }

    fn leave(&mut self, end: usize) -> Result<(), Broken> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let weight =
            open.children.iter().fold(1_u64, |sum, id| sum.saturating_add(self.weight(*id)));
        let kind = if open.is_map {
            Kind::Map(self.map(&open.children))
        } else {
            Kind::List(open.children)
        };
        // The end of a block lies behind the space and comments that follow it.
        let end = floor(self.text, end.max(open.start));
        let end = open.start + self.text[open.start..end].trim_end().len();
        self.add(kind, Place { start: open.start, end }, open.anchor, weight)
    }

    fn add(
        &mut self,
        kind: Kind<'a>,
        place: Place,
        anchor: usize,
        weight: u64,
    ) -> Result<(), Broken> {
        let id = u32::try_from(self.nodes.len())
            .ok()
            .filter(|_| weight <= MAX_NODES && self.nodes.len() as u64 <= MAX_NODES);
        let Some(id) = id.map(NodeId) else {
            let message =
                format!("more than {MAX_NODES} values, aliases counted as often as they are used");
            return Err(Broken { at: place.start, message });
        };
        self.nodes.push(Node { kind, place });
        self.weights.push(weight);
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.hang(id);
        Ok(())
    }

    fn hang(&mut self, id: NodeId) {
        match self.open.last_mut() {
            Some(open) => open.children.push(id),
            None => self.root = Some(id),
        }
    }

    fn weight(&self, id: NodeId) -> u64 {
        self.weights.get(id.0 as usize).copied().unwrap_or(1)
    }

    /// Pairs keys with values and applies `<<`; equal keys are left for the walk to find.
    fn map(&mut self, children: &[NodeId]) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(children.len() / 2);
        let mut merges = Vec::new();
        for pair in children.chunks_exact(2) {
            let (key, value) = (pair[0], pair[1]);
            match self.key(key) {
                Some("<<") => merges.push(value),
                Some(_) => entries.push(Entry { key, value, merged: false }),
                None => self.flaw(self.nodes[key.0 as usize].place, "a key has to be plain text"),
            }
        }
        if merges.is_empty() {
            return entries;
        }
        let mut seen: HashSet<String> =
            entries.iter().filter_map(|entry| self.key(entry.key).map(str::to_owned)).collect();
        for source in merges {
            let sources = match &self.nodes[source.0 as usize].kind {
                Kind::List(items) => items.clone(),
                _ => vec![source],
            };
            for source in sources {
                let Kind::Map(inherited) = &self.nodes[source.0 as usize].kind else {
                    self.flaw(
                        self.nodes[source.0 as usize].place,
                        "<< wants a map or a list of maps",
                    );
                    continue;
                };
                for entry in inherited.clone() {
                    let Some(name) = self.key(entry.key).map(str::to_owned) else { continue };
                    // What stands in the map itself wins, then the source that came first.
                    if seen.insert(name) {
                        entries.push(Entry { merged: true, ..entry });
                    }
                }
            }
        }
        entries
    }

    fn key(&self, id: NodeId) -> Option<&str> {
        match &self.nodes[id.0 as usize].kind {
            Kind::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }
}

fn place(span: Span) -> Place {
    let start = span.start.byte_offset().unwrap_or(0);
    Place { start, end: span.end.byte_offset().unwrap_or(start).max(start) }
}

/// The nearest character boundary at or before an offset.
pub(super) fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The parser's words without anything that it quotes from the text: that may be a secret.
fn plain_words(info: &str) -> String {
    let mut words = String::with_capacity(info.len());
    let mut quote: Option<char> = None;
    for c in info.lines().next().unwrap_or_default().chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`') => {
                quote = Some(c);
                words.push('…');
            }
            None => words.push(c),
        }
    }
    words
}

/// `12`, `-3`, `0x1f`, `0o17`, `1.5e3`, `.inf`, `.nan`.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x") {
        return !hex.is_empty() && hex.chars().all(|c| c.is_ascii_hexdigit());
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return !octal.is_empty() && octal.chars().all(|c| ('0'..='7').contains(&c));
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.chars().any(|c| c.is_ascii_digit())
        && unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'))
        && unsigned.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_fill_what_is_missing_and_equal_keys_are_kept() {
        let text = "a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  k: 3\n  k: 4\n";
        let tree = Tree::read(text).unwrap();
        let b = tree.entry(tree.root().unwrap(), "b").unwrap().value;
        let keys: Vec<_> = tree.entries(b).iter().map(|e| (tree.text(e.key), e.merged)).collect();
        assert_eq!(keys, [(Some("k"), false), (Some("k"), false), (Some("l"), true)]);
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = level - 1;
            let item = format!("*a{below}, ").repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{item}]\n"));
        }
        assert!(Tree::read(&text).unwrap_err().message.contains("aliases"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(Tree::read(&"[".repeat(100_000)).is_err());
        assert!(Tree::read(&"- ".repeat(100_000)).is_err());
    }

    #[test]
    fn scalars_are_classed_by_the_core_schema() {
        for (text, class) in [
            ("yes", Class::Text),
            ("24x7", Class::Text),
            ("06:00", Class::Text),
            ("99.9%", Class::Text),
            ("2027-03-31", Class::Text),
            ("1.2", Class::Number),
            ("4711", Class::Number),
            ("1e3", Class::Number),
            ("'1.2'", Class::Text),
            ("True", Class::Boolean),
            ("~", Class::Null),
        ] {
            let tree = Tree::read(text).unwrap();
            match &tree.node(tree.root().unwrap()).kind {
                Kind::Scalar(scalar) => assert_eq!(scalar.class, class, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
