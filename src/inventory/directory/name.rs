//! Names for servers out of the names of organizations: readable, and each once.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::inventory::leaf;

/// The longest name that is made.
const LONGEST: usize = 60;

/// The names that are in use.
pub(super) struct Names {
    /// In lower case: names that differ in case alone are hard to tell apart.
    taken: HashSet<String>,
    /// The number from which a name's next copy is sought.
    next: HashMap<String, usize>,
}

impl Names {
    /// Those of the servers and groups of an inventory.
    pub(super) fn taken(document: &Value) -> Names {
        let lists = ["servers", "groups"].into_iter().filter_map(|key| document.get(key));
        let items = lists.filter_map(Value::as_array).flatten();
        let names = items.filter_map(|item| item.get("name").and_then(Value::as_str));
        Names { taken: names.map(str::to_ascii_lowercase).collect(), next: HashMap::new() }
    }

    /// A name that nobody has yet: the one that was given where it can stand, else the first of the
    /// texts out of which one can be made.
    pub(super) fn give<'t>(
        &mut self,
        own: Option<&str>,
        texts: impl IntoIterator<Item = &'t str>,
    ) -> String {
        let own = own.filter(|name| is_name(name) && name.len() <= LONGEST).map(str::to_owned);
        let base =
            own.or_else(|| texts.into_iter().find_map(slug)).unwrap_or_else(|| "server".to_owned());
        let lower = base.to_ascii_lowercase();
        if !self.taken.contains(&lower) {
            self.taken.insert(lower);
            return base;
        }
        let start = self.next.get(&lower).copied().unwrap_or(2);
        for number in start.. {
            let suffix = format!("-{number}");
            let stem = cut(&base, LONGEST - suffix.len());
            let name = format!("{stem}{suffix}");
            if self.taken.insert(name.to_ascii_lowercase()) {
                self.next.insert(lower, number + 1);
                return name;
            }
        }
        base
    }
}

fn is_name(text: &str) -> bool {
    leaf::check("name", text).is_ok()
}

/// `St. Mary's Hospital` → `st-marys-hospital`; `None` when no letter or digit is left.
fn slug(text: &str) -> Option<String> {
    let mut slug = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            // A host's name keeps its dots.
            '.' if !text.contains(' ') => slug.push('.'),
            '\'' | '’' | '`' | '.' => {}
            '&' => slug.push_str("-and-"),
            _ => match plain(c) {
                Some(letters) => slug.push_str(letters),
                None => slug.push('-'),
            },
        }
    }
    let words: Vec<&str> = slug.split('-').filter(|word| !word.is_empty()).collect();
    let mut name = cut(&words.join("-"), LONGEST).to_owned();
    if name.is_empty() {
        return None;
    }
    if !is_name(&name) {
        // A word that is a command's.
        name = format!("{}-fhir", cut(&name, LONGEST - 5));
    }
    is_name(&name).then_some(name)
}

/// At most so many bytes, cut between words where one is near; starts and ends with a letter or
/// digit.
fn cut(text: &str, most: usize) -> &str {
    let edge = |c: char| matches!(c, '-' | '.' | '_');
    let text = text.trim_matches(edge);
    if text.len() <= most {
        return text;
    }
    let head = &text[..most];
    let head = match head.rfind('-') {
        Some(at) if at * 2 > most => &head[..at],
        _ => head,
    };
    head.trim_matches(edge)
}

/// Letters of European names without their marks.
fn plain(c: char) -> Option<&'static str> {
    Some(match c {
        'à' | 'á' | 'â' | 'ã' | 'å' | 'ā' | 'ă' | 'ą' => "a",
        'ä' | 'æ' => "ae",
        'ç' | 'ć' | 'č' | 'ĉ' | 'ċ' => "c",
        'ď' | 'đ' | 'ð' => "d",
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => "e",
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => "g",
        'ì' | 'í' | 'î' | 'ï' | 'ī' | 'į' | 'ı' => "i",
        'ķ' => "k",
        'ł' | 'ĺ' | 'ļ' | 'ľ' => "l",
        'ñ' | 'ń' | 'ņ' | 'ň' => "n",
        'ò' | 'ó' | 'ô' | 'õ' | 'ō' | 'ő' => "o",
        'ö' | 'ø' | 'œ' => "oe",
        'ŕ' | 'ř' => "r",
        'ś' | 'š' | 'ş' | 'ș' => "s",
        'ß' => "ss",
        'ţ' | 'ť' | 'ț' => "t",
        'þ' => "th",
        'ù' | 'ú' | 'û' | 'ū' | 'ů' | 'ű' | 'ų' => "u",
        'ü' => "u",
        'ý' | 'ÿ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        // What marks a letter that stands before it.
        '\u{300}'..='\u{36f}' => "",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_readable_and_can_stand_in_an_inventory() {
        for (text, expected) in [
            ("St. Mary's Hospital & Clinics", Some("st-marys-hospital-and-clinics")),
            ("  Łódź — Żoliborz ", Some("lodz-zoliborz")),
            ("Cafe\u{301}", Some("cafe")),
            ("ehr.example.org", Some("ehr.example.org")),
            ("Check", Some("check-fhir")),
            ("...", None),
            ("病院", None),
            ("病院 7", Some("7")),
            ("-_-", None),
            (
                "The Very Long Name of an Association of Many Regional Hospitals and Clinics of the North",
                Some("the-very-long-name-of-an-association-of-many-regional"),
            ),
        ] {
            assert_eq!(slug(text).as_deref(), expected, "{text}");
        }
        let long = slug(&"x".repeat(500)).unwrap();
        assert_eq!(long.len(), LONGEST);
    }

    #[test]
    fn a_name_is_given_once() {
        let mut names = Names::taken(
            &json!({"servers": [{"name": "North"}], "groups": [{"name": "south-2"}, {}, 5]}),
        );
        let mut give = |own: Option<&str>, text: &'static str| names.give(own, [text]);
        assert_eq!(give(None, "North"), "north-2");
        assert_eq!(give(None, "north"), "north-3");
        assert_eq!(give(Some("NORTH"), "x"), "NORTH-4");
        assert_eq!(give(None, "South"), "south");
        assert_eq!(give(None, "South"), "south-3");
        assert_eq!(give(Some("Own_Name.1"), "x"), "Own_Name.1");
        assert_eq!(give(Some("no name!"), "no name!"), "no-name");
        assert_eq!(give(None, "病院"), "server");
        assert_eq!(give(None, "病院"), "server-2");
        let long: &'static str =
            "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy";
        assert_eq!(give(None, long).len(), LONGEST);
        let second = give(None, long);
        assert!(second.len() <= LONGEST && second.ends_with("-2"), "{second}");
    }

    proptest::proptest! {
        #[test]
        fn every_text_makes_a_name_that_can_stand(text in "\\PC{0,80}") {
            let name = Names::taken(&json!({})).give(Some(&text), [text.as_str()]);
            proptest::prop_assert!(is_name(&name) && name.len() <= LONGEST, "{:?} → {:?}", text, name);
        }
    }
}
