//! The chain, held against itself and against heads that were kept elsewhere.

use schemars::JsonSchema;
use serde::Serialize;

use super::lines::Lines;
use super::log::Log;
use super::record::{Head, Kind, Link, Record};
use crate::model::Result;

/// How many problems are told one by one; a log that was written anew has as many as lines.
const TOLD: usize = 100;

/// What became of a chain.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// How many lines are records.
    pub records: u64,
    /// The last record; `None` for an empty log.
    pub head: Option<Head>,
    /// What is wrong, in the order of the lines; the first hundred.
    pub problems: Vec<Problem>,
    /// How many there are.
    pub problem_count: u64,
    /// A last line that a crash cut short; the next append moves it aside.
    pub torn: Option<Torn>,
    /// Torn records that were moved aside before.
    pub recovered: Vec<Recovered>,
    /// The heads that were given, with what became of each.
    pub expected: Vec<Expected>,
}

impl Verification {
    /// Whether the chain is whole and every expected head is in it.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.problem_count == 0 && self.expected.iter().all(|it| it.held)
    }
}

/// Something that is wrong with the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    pub kind: ProblemKind,
    /// The line in the file, from 1.
    pub line: u64,
    /// The record, as far as it can be said.
    pub sequence: Option<u64>,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// A record is not what its hash, or the record after it, says.
    Changed,
    /// Records are not there.
    Missing,
    /// A record is there that the chain does not hold.
    Inserted,
    /// A record stands in another place than it was written.
    Reordered,
    /// A line is no record.
    Unreadable,
}

/// A last line without an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Torn {
    pub line: u64,
    pub bytes: u64,
}

/// A torn record that was moved aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Recovered {
    /// The record that says so.
    pub sequence: u64,
    pub message: String,
}

/// A head that was kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Expected {
    /// `SEQUENCE:HASH`.
    pub head: String,
    /// Whether the log has this record.
    pub held: bool,
    /// What is wrong where it does not.
    pub message: Option<String>,
}

impl Log {
    /// Follows the chain from its beginning to its end.
    ///
    /// # Errors
    /// Exit 74 when the log cannot be read; a log that is not there is empty.
    pub fn verify(&self, expected: &[Head]) -> Result<Verification> {
        let mut walk = Walk::new(expected);
        if let Some((file, length)) = self.open_to_read()? {
            let mut lines = Lines::new(file, length);
            while lines.advance().map_err(|error| self.broken("read", &error))? {
                walk.line(&lines);
            }
        }
        Ok(walk.end())
    }
}

/// Records that were not there when the one after them was.
struct Gap {
    from: u64,
    to: u64,
    line: u64,
}

/// A record that does not fit the one before it, until the next one tells which was wrong.
struct Doubt {
    problem: usize,
    line: u64,
    sequence: u64,
    /// What the record should have been chained to.
    before: Vec<String>,
}

struct Walk<'a> {
    expected: &'a [Head],
    /// What was found in the place of each expected head.
    met: Vec<Option<bool>>,
    found: Verification,
    /// The number of the next record.
    next: u64,
    /// The hashes to which it may be chained: two after a record that is there twice.
    links: Vec<String>,
    /// The line of the last record.
    last_line: u64,
    gaps: Vec<Gap>,
    doubt: Option<Doubt>,
    /// Lines that are no records, until the next record tells whether they were any.
    unreadable: Vec<u64>,
}

impl Walk<'_> {
    fn new(expected: &[Head]) -> Walk<'_> {
        Walk {
            expected,
            met: vec![None; expected.len()],
            found: Verification::default(),
            next: 1,
            links: vec![Head::genesis().hash],
            last_line: 0,
            gaps: Vec::new(),
            doubt: None,
            unreadable: Vec::new(),
        }
    }

    fn line(&mut self, lines: &Lines) {
        let number = lines.number;
        let link = Link::of(&lines.line);
        match link {
            // Without its newline a record may still be whole.
            Some(link) if lines.is_ended || link.is_whole => {
                self.found.records += 1;
                self.meet(&link);
                self.recovery(&lines.line, &link);
                self.place(&link, number);
            }
            _ if !lines.is_ended => {
                self.found.torn = Some(Torn { line: number, bytes: lines.bytes });
            }
            _ => self.unreadable.push(number),
        }
    }

    /// Holds a record against the heads that are expected.
    fn meet(&mut self, link: &Link) {
        for (head, met) in self.expected.iter().zip(&mut self.met) {
            if head.sequence == link.sequence {
                let same = link.is_whole && head.hash == link.hash;
                *met = Some(same || *met == Some(true));
            }
        }
    }

    fn recovery(&mut self, line: &[u8], link: &Link) {
        // Nearly no line is one: it is not worth reading each whole.
        let may_be = std::str::from_utf8(line).is_ok_and(|line| line.contains("\"recovery\""));
        if !may_be || !link.is_whole {
            return;
        }
        let record = serde_json::from_slice::<Record>(line).ok();
        if let Some(record) = record.filter(|record| record.kind == Kind::Recovery) {
            let message = record.target.unwrap_or_default();
            self.found.recovered.push(Recovered { sequence: record.sequence, message });
        }
    }

    /// Finds the place of a record in the chain.
    fn place(&mut self, link: &Link, line: u64) {
        let follows = self.links.contains(&link.previous);
        // The number of a record that was changed is not to be trusted where it follows.
        let sequence = if follows && !link.is_whole { self.next } else { link.sequence };
        self.settle_unreadable(sequence);
        let fits = follows || self.links.is_empty();
        if !link.is_whole {
            let what = format!("record {sequence} was changed: it is not what its hash says");
            self.tell(ProblemKind::Changed, line, Some(sequence), what);
        }
        if sequence < self.next {
            self.earlier(link, sequence, line);
            return;
        }
        let before = std::mem::take(&mut self.links);
        self.doubt = None;
        if sequence > self.next {
            self.gaps.push(Gap { from: self.next, to: sequence - 1, line });
        } else if !fits && link.is_whole {
            let what = if sequence == 1 {
                "record 1 is not chained to the beginning: it was written anew".to_owned()
            } else {
                format!(
                    "record {} is not the one that record {sequence} was chained to: it was written anew",
                    sequence - 1
                )
            };
            let place = if sequence == 1 { line } else { self.last_line };
            let about = if sequence == 1 { 1 } else { sequence - 1 };
            if let Some(problem) = self.tell(ProblemKind::Changed, place, Some(about), what) {
                self.doubt = Some(Doubt { problem, line, sequence, before });
            }
        }
        self.links = vec![link.hash.clone()];
        self.next = sequence.saturating_add(1);
        self.last_line = line;
        self.found.head = Some(Head { sequence, hash: link.hash.clone() });
    }

    /// A record with a number that was passed already.
    fn earlier(&mut self, link: &Link, sequence: u64, line: u64) {
        if let Some(doubt) = self
            .doubt
            .take_if(|doubt| doubt.sequence == sequence && doubt.before.contains(&link.previous))
        {
            // This is the record that belongs here: the one before it was put in.
            if let Some(problem) = self.found.problems.get_mut(doubt.problem) {
                *problem = Problem {
                    kind: ProblemKind::Inserted,
                    line: doubt.line,
                    sequence: Some(sequence),
                    message: format!(
                        "a record {sequence} was put in here; the real one is on line {line}"
                    ),
                };
            }
            self.links = vec![link.hash.clone()];
            self.last_line = line;
            self.found.head = Some(link.head());
            return;
        }
        if let Some(at) = self.gaps.iter().position(|gap| (gap.from..=gap.to).contains(&sequence)) {
            let gap = self.gaps.swap_remove(at);
            if gap.from < sequence {
                self.gaps.push(Gap { from: gap.from, to: sequence - 1, line: gap.line });
            }
            if sequence < gap.to {
                self.gaps.push(Gap { from: sequence + 1, to: gap.to, line: gap.line });
            }
            let what = format!("record {sequence} stands behind record {}", self.next - 1);
            self.tell(ProblemKind::Reordered, line, Some(sequence), what);
            return;
        }
        if sequence == self.next - 1 && link.is_whole {
            // Which of the two is the real one, the next record tells.
            self.links.push(link.hash.clone());
        }
        let what = format!("record {sequence} is there once more: it was put in or copied");
        self.tell(ProblemKind::Inserted, line, Some(sequence), what);
    }

    /// Says what the lines that are no records were, now that the next record is known.
    fn settle_unreadable(&mut self, sequence: u64) {
        for line in std::mem::take(&mut self.unreadable) {
            if sequence > self.next {
                let what = format!("record {} was changed: the line is no record", self.next);
                self.tell(ProblemKind::Unreadable, line, Some(self.next), what);
                // The record after it cannot be held against a hash that is gone.
                self.next += 1;
                self.links.clear();
            } else {
                let what = "the line is no record: it was put in or overwritten".to_owned();
                self.tell(ProblemKind::Unreadable, line, None, what);
            }
        }
    }

    /// Notes a problem; gives its place in the list when it is told.
    fn tell(
        &mut self,
        kind: ProblemKind,
        line: u64,
        sequence: Option<u64>,
        message: String,
    ) -> Option<usize> {
        self.found.problem_count += 1;
        if self.found.problems.len() >= TOLD {
            return None;
        }
        self.found.problems.push(Problem { kind, line, sequence, message });
        Some(self.found.problems.len() - 1)
    }

    fn end(mut self) -> Verification {
        let next = self.next;
        self.settle_unreadable(next);
        for gap in std::mem::take(&mut self.gaps) {
            let what = if gap.from == gap.to {
                format!("record {} is missing before this line", gap.from)
            } else {
                format!("records {} to {} are missing before this line", gap.from, gap.to)
            };
            self.tell(ProblemKind::Missing, gap.line, Some(gap.from), what);
        }
        self.found.problems.sort_by_key(|problem| problem.line);
        let last = self.found.head.as_ref().map_or(0, |head| head.sequence);
        self.found.expected = self
            .expected
            .iter()
            .zip(&self.met)
            .map(|(head, met)| {
                let message = judge(head, *met, last);
                Expected { head: head.to_string(), held: message.is_none(), message }
            })
            .collect();
        self.found
    }
}

/// What is wrong with an expected head.
fn judge(head: &Head, met: Option<bool>, last: u64) -> Option<String> {
    match met {
        Some(true) => None,
        _ if *head == Head::genesis() => None,
        Some(false) => {
            Some(format!("record {} is another one: the log was written anew", head.sequence))
        }
        None if last < head.sequence => Some(match last {
            0 => format!("the log is empty: {} are gone", records(head.sequence)),
            _ => format!(
                "the log ends with record {last}: {} after it are gone",
                records(head.sequence - last)
            ),
        }),
        None => Some(format!("the log has no record {}", head.sequence)),
    }
}

fn records(count: u64) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}

#[cfg(test)]
mod tests {
    use super::super::record::seal;
    use super::super::record::tests::{chain, entry, who};
    use super::ProblemKind::{Changed, Inserted, Missing, Reordered, Unreadable};
    use super::*;

    fn verify(text: &str, expected: &[Head]) -> Verification {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::in_folder(dir.path());
        std::fs::write(log.path(), text).unwrap();
        log.verify(expected).unwrap()
    }

    fn told(lines: &[String]) -> Vec<(ProblemKind, u64, Option<u64>)> {
        let found = verify(&lines.concat(), &[]);
        assert_eq!(found.problem_count as usize, found.problems.len());
        found.problems.iter().map(|it| (it.kind, it.line, it.sequence)).collect()
    }

    /// A record that is sound in itself, behind another.
    fn forged(after: &str, target: &str) -> String {
        let link = Link::of(after.trim_end().as_bytes()).unwrap();
        seal(&entry(target), &who(), &link.head()).unwrap().0
    }

    #[test]
    fn a_chain_that_nobody_touched_holds() {
        let found = verify(&chain(5).concat(), &[]);
        assert!(found.holds() && found.torn.is_none() && found.recovered.is_empty());
        assert_eq!((found.records, found.head.unwrap().sequence), (5, 5));
        let empty = verify("", &[]);
        assert!(empty.holds() && empty.head.is_none());
    }

    #[test]
    fn every_kind_of_tampering_is_found_with_its_place() {
        type Tampering = fn(&mut Vec<String>);
        type Place = (ProblemKind, u64, Option<u64>);
        let cases: &[(&str, Tampering, &[Place])] = &[
            ("edited", |it| it[2] = it[2].replace("ehr", "her"), &[(Changed, 3, Some(3))]),
            ("first edited", |it| it[0] = it[0].replace("ehr", "her"), &[(Changed, 1, Some(1))]),
            ("last edited", |it| it[5] = it[5].replace("ehr", "her"), &[(Changed, 6, Some(6))]),
            (
                "numbered otherwise",
                |it| it[2] = it[2].replace("\"sequence\":3", "\"sequence\":9"),
                &[(Changed, 3, Some(3))],
            ),
            (
                "rewritten with a hash of its own",
                |it| it[2] = forged(&it[1], "forged"),
                &[(Changed, 3, Some(3))],
            ),
            ("dropped", |it| drop(it.remove(2)), &[(Missing, 3, Some(3))]),
            ("first dropped", |it| drop(it.remove(0)), &[(Missing, 1, Some(1))]),
            ("several dropped", |it| drop(it.drain(1..4)), &[(Missing, 2, Some(2))]),
            ("swapped neighbours", |it| it.swap(2, 3), &[(Reordered, 4, Some(3))]),
            (
                "moved to the end",
                |it| {
                    let one = it.remove(2);
                    it.push(one);
                },
                &[(Reordered, 6, Some(3))],
            ),
            ("copied", |it| it.insert(4, it[1].clone()), &[(Inserted, 5, Some(2))]),
            ("doubled", |it| it.insert(3, it[2].clone()), &[(Inserted, 4, Some(3))]),
            (
                "a sound record put in before the real one",
                |it| it.insert(3, forged(&it[2], "forged")),
                &[(Inserted, 5, Some(4))],
            ),
            (
                "a record of another chain put in",
                |it| it.insert(3, forged(&forged(&it[1], "x"), "y")),
                &[(Inserted, 4, Some(4))],
            ),
            ("a line put in", |it| it.insert(3, "hello\n".into()), &[(Unreadable, 4, None)]),
            ("an empty line put in", |it| it.insert(3, "\n".into()), &[(Unreadable, 4, None)]),
            ("overwritten", |it| it[3] = "hello\n".into(), &[(Unreadable, 4, Some(4))]),
            (
                "spaces added",
                |it| it[3] = it[3].replace(",\"time", ", \"time"),
                &[(Changed, 4, Some(4))],
            ),
            (
                "edited and dropped",
                |it| {
                    it[1] = it[1].replace("ehr", "her");
                    it.remove(3);
                },
                &[(Changed, 2, Some(2)), (Missing, 4, Some(4))],
            ),
        ];
        for (what, tamper, expected) in cases {
            let mut lines = chain(6);
            tamper(&mut lines);
            assert_eq!(told(&lines), *expected, "{what}");
        }
    }

    #[test]
    fn a_cut_tail_is_found_by_a_head_that_was_kept() {
        let lines = chain(6);
        let head = |line: &String| Link::of(line.trim_end().as_bytes()).unwrap().head();
        let kept = [head(&lines[2]), head(&lines[5])];
        assert!(verify(&lines.concat(), &kept).holds());
        let cut = verify(&lines[..4].concat(), &kept);
        assert_eq!(cut.problem_count, 0, "the chain alone cannot tell");
        assert_eq!((cut.expected[0].held, cut.expected[1].held), (true, false));
        let message = cut.expected[1].message.clone().unwrap();
        assert_eq!(message, "the log ends with record 4: 2 records after it are gone");
        let gone = verify("", &kept);
        assert!(gone.expected[0].message.as_deref().unwrap().contains("3 records are gone"));
    }

    #[test]
    fn a_chain_that_was_written_anew_is_found_by_a_head_that_was_kept() {
        let lines = chain(4);
        let kept = Link::of(lines[2].trim_end().as_bytes()).unwrap().head();
        let mut anew = lines[..2].to_vec();
        for target in ["x", "y"] {
            anew.push(forged(&anew[anew.len() - 1], target));
        }
        let found = verify(&anew.concat(), &[kept]);
        assert_eq!(found.problem_count, 0, "the chain alone cannot tell");
        assert!(!found.holds());
        assert!(verify(&anew.concat(), &[Head::genesis()]).holds());
    }

    #[test]
    fn a_torn_last_line_is_told_and_breaks_nothing() {
        let mut text = chain(3).concat();
        text.push_str("{\"sequence\":4,");
        let found = verify(&text, &[]);
        assert!(found.holds());
        assert_eq!(found.torn, Some(Torn { line: 4, bytes: 14 }));
        assert_eq!(found.head.unwrap().sequence, 3);
    }

    #[test]
    fn a_file_of_garbage_costs_little() {
        let found = verify(&"x\n".repeat(5000), &[]);
        assert_eq!((found.problem_count, found.problems.len(), found.records), (5000, TOLD, 0));
    }
}
