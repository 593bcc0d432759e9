//! What a source file names: read as words and signs, without comments and strings, and followed as
//! the compiler would through groups, `super` and inline modules.

use std::collections::BTreeMap;

/// Every path that a file names whose module is `module`.
pub fn named_in(text: &str, module: &[String]) -> Vec<Named> {
    in_full(paths(&words(text), module))
}

/// A path that the source names, as far as it can be followed without types.
pub struct Named {
    /// From the crate's root when it begins with `crate`; else as written. `println!` keeps its `!`.
    pub parts: Vec<String>,
    /// In a `use`, or a module declared here.
    pub is_import: bool,
    pub in_test: bool,
    /// `stdout().is_terminal()` asks and writes nothing.
    pub asks_terminal: bool,
}

impl Named {
    /// What follows `crate`, if the path leads into this crate.
    pub fn within_crate(&self) -> Option<&[String]> {
        self.parts.split_first().filter(|(first, _)| *first == "crate").map(|(_, rest)| rest)
    }
}

/// Bare names that an import of this crate's own items brought in are given in full: after
/// `use crate::credentials::keyring` a `keyring::get` is not the crate of that name.
fn in_full(mut found: Vec<Named>) -> Vec<Named> {
    let ours: BTreeMap<_, _> = found
        .iter()
        .filter(|named| named.is_import && named.parts.len() > 1 && named.parts[0] == "crate")
        .filter_map(|named| Some((named.parts.last()?.clone(), named.parts.clone())))
        .collect();
    for named in found.iter_mut().filter(|named| !named.is_import) {
        if let Some(whole) = ours.get(&named.parts[0]) {
            named.parts.splice(..1, whole.iter().cloned());
        }
    }
    found
}

/// Every path in a file whose module is `module`, groups and `super` resolved.
fn paths(words: &[String], module: &[String]) -> Vec<Named> {
    let mut found = Vec::new();
    // Inline modules that are open: the depth of their brace, whether they hold tests, their name.
    let mut open: Vec<(usize, bool, String)> = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while at < words.len() {
        let word = words[at].as_str();
        let before = at.checked_sub(1).map_or("", |at| words[at].as_str());
        let after = |ahead: usize| words.get(at + ahead).map_or("", String::as_str);
        match word {
            "mod" if after(2) == "{" => {
                let attribute = words[..at]
                    .ends_with(&["#", "[", "cfg", "(", "test", ")", "]"].map(String::from));
                depth += 1;
                open.push((depth, attribute, after(1).to_owned()));
                at += 3;
                continue;
            }
            "mod" if after(2) == ";" => {
                let mut parts = vec!["crate".to_owned()];
                parts.extend_from_slice(module);
                parts.push(after(1).to_owned());
                found.push(Named { parts, is_import: true, in_test: false, asks_terminal: false });
                at += 2;
                continue;
            }
            "{" => depth += 1,
            "}" => {
                open.retain(|(opened, _, _)| *opened != depth);
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        let in_use = before == "use";
        let starts = is_name(word) && word != "use" && !matches!(before, "::" | "." | "mod" | "fn")
            || (in_use && matches!(word, "::" | "{"));
        let goes_on = in_use || matches!(after(1), "::" | "!");
        if !(starts && goes_on) {
            at += 1;
            continue;
        }
        let mut here: Vec<_> = module.to_vec();
        here.extend(open.iter().map(|(_, _, name)| name.clone()));
        let in_test = open.iter().any(|(_, test, _)| *test);
        let mut trees = Vec::new();
        let end = tree(words, at, &Vec::new(), &mut trees);
        let asks_terminal = words[end..].iter().take(4).eq(["(", ")", ".", "is_terminal"].iter());
        for parts in trees {
            let parts = resolved(parts, &here);
            if !parts.is_empty() {
                found.push(Named { parts, is_import: in_use, in_test, asks_terminal });
            }
        }
        at = end.max(at + 1);
    }
    found
}

/// Reads one path or import tree from `at`; gives the place behind it.
fn tree(words: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        let word = words.get(at).map_or("", String::as_str);
        if word == "::" {
            at += 1;
        } else if word == "{" {
            at += 1;
            while words.get(at).is_some_and(|word| word != "}") {
                let end = tree(words, at, &path, found);
                at = end.max(at + 1);
                // A renamed item: `as name`.
                if words.get(at).is_some_and(|word| word == "as") {
                    at += 2;
                }
                if words.get(at).is_some_and(|word| word == ",") {
                    at += 1;
                }
            }
            return at + 1;
        } else if word == "<" && words.get(at - 1).is_some_and(|word| word == "::") {
            // A turbofish names types, not a path; they are read on their own.
            break;
        } else if is_name(word) || word == "*" {
            path.push(word.to_owned());
            at += 1;
            match words.get(at).map_or("", String::as_str) {
                "::" => {}
                "!" if words
                    .get(at + 1)
                    .is_some_and(|word| matches!(word.as_str(), "(" | "[" | "{")) =>
                {
                    if let Some(last) = path.last_mut() {
                        last.push('!');
                    }
                    break;
                }
                _ => break,
            }
        } else {
            break;
        }
    }
    found.push(path);
    at
}

/// The path from the crate's root, if it leads into this crate by `crate`, `self` or `super`.
fn resolved(parts: Vec<String>, here: &[String]) -> Vec<String> {
    let mut parts: Vec<_> = parts.into_iter().filter(|part| part != "*").collect();
    // `env::{self}` names `env`.
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "self") {
        parts.pop();
    }
    let ups = parts.iter().take_while(|part| matches!(part.as_str(), "self" | "super")).count();
    if ups == 0 {
        return parts;
    }
    let levels = parts[..ups].iter().filter(|part| *part == "super").count();
    let base = &here[..here.len().saturating_sub(levels)];
    let mut whole = vec!["crate".to_owned()];
    whole.extend_from_slice(base);
    whole.extend_from_slice(&parts[ups..]);
    whole
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::` and single signs, without comments, strings and characters.
fn words(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        match c {
            '/' if next == '/' => at = skip_while(&chars, at, |c| c != '\n'),
            '/' if next == '*' => at = skip_block_comment(&chars, at),
            '"' => at = skip_string(&chars, at),
            '\'' => at = skip_character_or_lifetime(&chars, at),
            ':' if next == ':' => {
                found.push("::".to_owned());
                at += 2;
            }
            _ if c.is_alphanumeric() || c == '_' => {
                let end = skip_while(&chars, at, |c| c.is_alphanumeric() || c == '_');
                let word: String = chars[at..end].iter().collect();
                let hashes = skip_while(&chars, end, |c| c == '#');
                let is_raw = matches!(word.as_str(), "r" | "br" | "cr");
                if is_raw && chars.get(hashes) == Some(&'"') {
                    at = skip_raw_string(&chars, hashes, hashes - end);
                } else if word == "r" && hashes == end + 1 {
                    // A raw name: `r#type`.
                    at = hashes;
                } else {
                    found.push(word);
                    at = end;
                }
            }
            _ => {
                if !c.is_whitespace() {
                    found.push(c.to_string());
                }
                at += 1;
            }
        }
    }
    found
}

fn skip_while(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|c| !wanted(*c)).map_or(chars.len(), |ahead| from + ahead)
}

fn skip_block_comment(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => {
                depth += 1;
                at += 2;
            }
            ('*', '/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn skip_string(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn skip_raw_string(chars: &[char], quote: usize, hashes: usize) -> usize {
    let mut at = quote + 1;
    while at < chars.len() {
        if chars[at] == '"'
            && skip_while(&chars[..(at + 1 + hashes).min(chars.len())], at + 1, |c| c == '#')
                == at + 1 + hashes
        {
            return at + 1 + hashes;
        }
        at += 1;
    }
    chars.len()
}

/// `'a'` and `'\n'` are characters; `'a` is a lifetime.
fn skip_character_or_lifetime(chars: &[char], from: usize) -> usize {
    if chars.get(from + 1) == Some(&'\\') {
        // The escaped sign itself may be a quote.
        return skip_while(chars, (from + 3).min(chars.len()), |c| c != '\'') + 1;
    }
    if chars.get(from + 2) == Some(&'\'') {
        return from + 3;
    }
    skip_while(chars, from + 1, |c| c.is_alphanumeric() || c == '_')
}
