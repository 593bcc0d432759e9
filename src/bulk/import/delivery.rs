//! What an answer means for the items of a bundle: done, refused, smaller bundles, or again.
//!
//! Pure: it says what to send next and is told what came of it.

use std::time::Duration;

use super::bundle::EntryAnswer;

/// How often an entry is sent whose answer may pass.
const ENTRY_TRIES: u32 = 5;
/// How often a bundle is sent that broke off or failed.
const BUNDLE_TRIES: u32 = 5;
/// How often a busy server is asked again.
const BUSY_TRIES: u32 = 30;

/// What became of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// With the status of its entry.
    Accepted(u16),
    Rejected {
        /// `None`: the answer said nothing of it.
        status: Option<u16>,
        issues: Vec<String>,
    },
}

/// What came back for a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Entries(Vec<EntryAnswer>),
    /// 2xx, and not one answer for each entry.
    Unanswered,
    /// 413.
    TooLarge,
    /// The bundle as a whole.
    Refused {
        status: u16,
        issues: Vec<String>,
    },
    /// 429 or 503: nothing was done.
    Busy {
        wait: Option<Duration>,
    },
    /// No answer, or one that says nothing of what was done.
    Broken {
        status: Option<u16>,
        is_timeout: bool,
        wait: Option<Duration>,
    },
}

/// What to do before the next bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    GoOn,
    /// The server has too much: after this long, or growing with the rounds, with fewer at once.
    SlowDown {
        wait: Option<Duration>,
        round: u32,
    },
    /// After this long, or growing with the rounds.
    Wait {
        wait: Option<Duration>,
        round: u32,
    },
    Stop(Stop),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The server is busy for too long.
    Busy,
    /// It breaks off or fails again and again.
    Broken,
    /// What was not to be sent twice may have arrived.
    Uncertain,
}

/// Items that are sent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub members: Vec<usize>,
    round: u32,
    busy: u32,
}

/// One bundle's way to its end.
#[derive(Debug)]
pub struct Delivery {
    pending: Vec<Group>,
    fates: Vec<Option<Fate>>,
    tries: Vec<u32>,
    /// Whether it may be cut into smaller bundles.
    splits: bool,
    /// Whether it may be sent twice.
    repeats: bool,
}

impl Delivery {
    #[must_use]
    pub fn new(items: usize, splits: bool, repeats: bool) -> Delivery {
        let all = Group { members: (0..items).collect(), round: 0, busy: 0 };
        let pending = if items == 0 { Vec::new() } else { vec![all] };
        Delivery { pending, fates: vec![None; items], tries: vec![0; items], splits, repeats }
    }

    /// What to send next; `None` when every item has its fate.
    pub fn next_group(&mut self) -> Option<Group> {
        self.pending.pop()
    }

    /// Takes what came of a group.
    pub fn took(&mut self, group: Group, reply: Reply) -> Then {
        match reply {
            Reply::Entries(answers) if answers.len() == group.members.len() => {
                self.entries(&group, answers)
            }
            Reply::Entries(_) | Reply::Unanswered => {
                if !self.repeats {
                    return Then::Stop(Stop::Uncertain);
                }
                self.split_or_reject(&group, None, &[])
            }
            Reply::TooLarge => self.split_or_reject(&group, Some(413), &[]),
            // Somebody else's lock, or a request that took too long: it may pass.
            Reply::Refused { status: 409 | 408, .. } if group.round + 1 < BUNDLE_TRIES => {
                self.again(group, None)
            }
            Reply::Refused { status, issues } => {
                self.split_or_reject(&group, Some(status), &issues)
            }
            Reply::Busy { wait } => {
                if group.busy + 1 >= BUSY_TRIES {
                    return Then::Stop(Stop::Busy);
                }
                let round = group.busy;
                self.pending.push(Group { busy: round + 1, ..group });
                Then::SlowDown { wait, round }
            }
            Reply::Broken { .. } if !self.repeats => Then::Stop(Stop::Uncertain),
            Reply::Broken { status, is_timeout, wait } => {
                let is_one = group.members.len() == 1;
                let is_its_fault = is_timeout || status == Some(500);
                // A server that needs too long for many may do a few; one bad resource may be
                // what it falls over.
                if is_its_fault && !is_one && self.splits && group.round >= 1 {
                    return self.split_or_reject(&group, status, &[]);
                }
                if group.round + 1 < BUNDLE_TRIES {
                    return self.again(group, wait);
                }
                if status == Some(500) && is_one {
                    return self.split_or_reject(&group, status, &[]);
                }
                Then::Stop(Stop::Broken)
            }
        }
    }

    /// What became of each item, and how many times it was sent again.
    #[must_use]
    pub fn ended(self) -> Vec<(Fate, u32)> {
        let lost = || Fate::Rejected { status: None, issues: Vec::new() };
        let fates = self.fates.into_iter().map(|fate| fate.unwrap_or_else(lost));
        fates.zip(self.tries).collect()
    }

    fn entries(&mut self, group: &Group, answers: Vec<EntryAnswer>) -> Then {
        let mut again = Vec::new();
        let mut is_busy = false;
        for (&member, answer) in group.members.iter().zip(answers) {
            match answer.status {
                200..=299 => self.fates[member] = Some(Fate::Accepted(answer.status)),
                408 | 409 | 429 | 500..=599 if self.tries[member] + 1 < ENTRY_TRIES => {
                    self.tries[member] += 1;
                    is_busy |= matches!(answer.status, 429 | 503);
                    again.push(member);
                }
                status => {
                    self.fates[member] =
                        Some(Fate::Rejected { status: Some(status), issues: answer.issues });
                }
            }
        }
        let Some(&first) = again.first() else { return Then::GoOn };
        let round = self.tries[first] - 1;
        self.pending.push(Group { members: again, round: 0, busy: 0 });
        if is_busy {
            Then::SlowDown { wait: None, round }
        } else {
            Then::Wait { wait: None, round }
        }
    }

    fn again(&mut self, group: Group, wait: Option<Duration>) -> Then {
        for &member in &group.members {
            self.tries[member] += 1;
        }
        let round = group.round;
        self.pending.push(Group { round: round + 1, ..group });
        Then::Wait { wait, round }
    }

    fn split_or_reject(&mut self, group: &Group, status: Option<u16>, issues: &[String]) -> Then {
        if group.members.len() > 1 && self.splits {
            let (first, second) = group.members.split_at(group.members.len() / 2);
            // The first half is sent first: what others refer to stands in front.
            for half in [second, first] {
                self.pending.push(Group { members: half.to_vec(), round: 0, busy: 0 });
            }
        } else {
            for &member in &group.members {
                self.fates[member] = Some(Fate::Rejected { status, issues: issues.to_vec() });
            }
        }
        Then::GoOn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(count: usize) -> Reply {
        Reply::Entries(vec![EntryAnswer { status: 201, issues: Vec::new() }; count])
    }

    /// Plays a server; gives fates as statuses and the sizes of what was sent.
    fn play(
        items: usize,
        mut server: impl FnMut(&[usize], usize) -> Reply,
    ) -> (Vec<u16>, Vec<usize>, Option<Stop>) {
        let mut delivery = Delivery::new(items, true, true);
        let mut sent = Vec::new();
        while let Some(group) = delivery.next_group() {
            sent.push(group.members.len());
            let reply = server(&group.members, sent.len());
            if let Then::Stop(stop) = delivery.took(group, reply) {
                return (Vec::new(), sent, Some(stop));
            }
        }
        let fates = delivery.ended().into_iter().map(|(fate, _)| match fate {
            Fate::Accepted(status) => status,
            Fate::Rejected { status, .. } => status.unwrap_or(0),
        });
        (fates.collect(), sent, None)
    }

    #[test]
    fn a_refused_transaction_is_bisected_to_the_bad_resource() {
        let refused = |status| Reply::Refused { status, issues: vec!["invalid".into()] };
        let (fates, sent, _) =
            play(8, |group, _| if group.contains(&5) { refused(422) } else { ok(group.len()) });
        assert_eq!(fates, [201, 201, 201, 201, 201, 422, 201, 201]);
        assert_eq!(sent, [8, 4, 4, 2, 1, 1, 2]);
    }

    #[test]
    fn what_is_too_large_is_halved_and_what_is_alone_too_large_refused() {
        let (fates, sent, _) =
            play(10, |group, _| if group.len() > 3 { Reply::TooLarge } else { ok(group.len()) });
        assert!(fates.iter().all(|&status| status == 201));
        assert_eq!(sent, [10, 5, 2, 3, 5, 2, 3]);
        let (fates, _, _) = play(2, |_, _| Reply::TooLarge);
        assert_eq!(fates, [413, 413]);
    }

    #[test]
    fn entries_that_may_pass_are_sent_again_and_the_others_are_not() {
        let (fates, sent, _) = play(4, |group, round| {
            let status = |&member: &usize| match (member, round) {
                (0, 1) => 429,
                (1, _) => 500,
                (2, _) => 422,
                _ => 200,
            };
            let answers = group.iter().map(status);
            let answers = answers.map(|status| EntryAnswer { status, issues: Vec::new() });
            Reply::Entries(answers.collect())
        });
        assert_eq!(fates, [200, 500, 422, 200]);
        assert_eq!(sent, [4, 2, 1, 1, 1]);
    }

    #[test]
    fn a_server_that_breaks_off_is_asked_again_and_then_left() {
        let broken = |status| Reply::Broken { status, is_timeout: false, wait: None };
        let (fates, _, _) =
            play(3, |group, round| if round < 4 { broken(None) } else { ok(group.len()) });
        assert_eq!(fates, [201, 201, 201]);
        let (_, sent, stop) = play(3, |_, _| broken(Some(502)));
        assert_eq!((sent.len(), stop), (5, Some(Stop::Broken)));
        let (_, sent, stop) = play(3, |_, _| Reply::Busy { wait: None });
        assert_eq!((sent.len(), stop), (30, Some(Stop::Busy)));
        // One resource that the server falls over is found.
        let (fates, _, _) =
            play(
                4,
                |group, _| {
                    if group.contains(&2) { broken(Some(500)) } else { ok(group.len()) }
                },
            );
        assert_eq!(fates, [201, 201, 500, 201]);
    }

    #[test]
    fn what_may_not_be_sent_twice_is_not() {
        for reply in [
            Reply::Broken { status: None, is_timeout: true, wait: None },
            Reply::Broken { status: Some(502), is_timeout: false, wait: None },
            Reply::Unanswered,
        ] {
            let mut delivery = Delivery::new(2, false, false);
            let group = delivery.next_group().unwrap();
            assert_eq!(delivery.took(group, reply), Then::Stop(Stop::Uncertain));
        }
        let mut delivery = Delivery::new(2, false, false);
        let group = delivery.next_group().unwrap();
        let refused = Reply::Refused { status: 422, issues: Vec::new() };
        assert_eq!(delivery.took(group, refused), Then::GoOn);
        assert!(delivery.next_group().is_none());
    }
}
