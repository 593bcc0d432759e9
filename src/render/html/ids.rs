//! Names of the parts of a page, each given once.

use std::collections::HashSet;

#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    given: HashSet<String>,
    charts: usize,
}

impl Ids {
    /// A name made of a title, so that a link to a part of a report stays good in the next one.
    pub(super) fn section(&mut self, title: &str) -> String {
        let mut name = String::new();
        for c in title.chars() {
            if c.is_ascii_alphanumeric() {
                name.push(c.to_ascii_lowercase());
            } else if !name.is_empty() && !name.ends_with('-') {
                name.push('-');
            }
        }
        // No name that the page itself gives begins like this.
        let name = format!("part-{}", name.trim_end_matches('-'));
        let mut unique = name.clone();
        let mut count = 1;
        // The heading of a part is named after it.
        while self.given.contains(&unique) || self.given.contains(&format!("{unique}-title")) {
            count += 1;
            unique = format!("{name}-{count}");
        }
        self.given.insert(unique.clone());
        self.given.insert(format!("{unique}-title"));
        unique
    }

    pub(super) fn chart(&mut self) -> String {
        self.charts += 1;
        format!("chart-{}", self.charts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_given_twice() {
        let mut ids = Ids::default();
        let titles =
            ["Latency", "Latency", "latency!", "Latency title", "Latency 2", "日本", "", "main"];
        let names: Vec<String> = titles
            .iter()
            .flat_map(|title| {
                let name = ids.section(title);
                [format!("{name}-title"), name]
            })
            .collect();
        let unique: HashSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        assert!(names.iter().all(|name| name.starts_with("part-")), "{names:?}");
    }
}
