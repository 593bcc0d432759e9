//! Rules about people, agreements, groups and what was meant to end.

use std::time::Duration;

use super::{GroupRule, Notes, ServerRule, Subject, after, end_of};
use crate::inventory::edit::{Op, Path, Step};
use crate::inventory::{Group, Layer};
use crate::model::MonitoringPolicy;
use crate::model::server::Contact;
use crate::model::text::span;
use crate::stats::window::Period;

pub(super) const RULES: &[ServerRule] = &[
    ("contact.missing", contact_missing),
    ("support.missing", support_missing),
    ("thresholds.missing", thresholds_missing),
    ("retention.too-short", retention_too_short),
    ("monitoring.forbidden", monitoring_forbidden),
    ("monitoring.not-agreed", monitoring_not_agreed),
    ("monitoring.too-often", monitoring_too_often),
    ("accept.ended", accept_ended),
    ("accept.no-end", accept_no_end),
    ("maintenance.no-end", maintenance_no_end),
];

pub(super) const GROUP_RULES: &[GroupRule] = &[("group.single-member", single_member)];

/// After this long a window without an end was forgotten.
const FORGOTTEN: Duration = Duration::from_secs(7 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

fn contact_missing(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let Contact { name, email, phone, portal: _, account: _ } = &subject.server.contact;
    if name.is_none() && email.is_none() && phone.is_none() {
        notes.add(subject.at("contact"), "no contact");
    }
}

fn support_missing(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let Contact { name: _, email, phone, portal, account: _ } = &subject.server.support;
    if email.is_none() && phone.is_none() && portal.is_none() {
        notes.add(subject.at("support"), "no support contact");
    }
}

fn thresholds_missing(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let survey = subject.input.survey;
    let has_sla = survey.said(subject.index, "sla").is_some();
    let own =
        survey.said(subject.index, "thresholds").is_some_and(|said| said.layer <= Layer::Defaults);
    if has_sla && !own {
        notes.add(subject.at("sla"), "an sla, and no thresholds to match");
    }
}

/// A breach is decided from readings. Those of a finished period are needed until the next one is over:
/// its report is made in that time, and disputed.
fn retention_too_short(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let Some(agreement) = &subject.server.agreement else { return };
    let period = match &agreement.period {
        Some(text) => Period::find(text),
        None => Some(Period::CalendarMonth),
    };
    let Some(period) = period else { return };
    let needed = DAY * 2 * period.longest_days();
    let kept = subject.input.inventory.history.retention.raw;
    if kept < needed {
        notes.add(
            subject.at("sla"),
            format!(
                "an sla by {}, and readings are let go of after {}; history.retention.raw has to be {}, two of its periods",
                period.as_str(),
                days(kept),
                days(needed)
            ),
        );
    }
}

/// Such as `120d`; what is no number of whole days as it is.
fn days(length: Duration) -> String {
    match length.as_secs() {
        seconds if seconds % DAY.as_secs() == 0 => format!("{}d", seconds / DAY.as_secs()),
        _ => span(length),
    }
}

fn single_member(index: usize, group: &Group, notes: &mut Notes<'_>) {
    if group.members.len() < 2 {
        let path = [Step::from("groups"), index.into(), "members".into()];
        let location = notes.input.survey.location(&path);
        notes.add(location, "no second member");
    }
}

fn monitoring_forbidden(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    unapproved(subject, notes, MonitoringPolicy::Forbidden, "and the vendor forbids monitoring");
}

fn monitoring_not_agreed(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    unapproved(subject, notes, MonitoringPolicy::Ask, "and no agreement with who runs it");
}

fn unapproved(
    subject: &Subject<'_>,
    notes: &mut Notes<'_>,
    policy: MonitoringPolicy,
    message: &str,
) {
    let server = subject.server;
    let approved = server.terms.as_ref().is_some_and(|terms| terms.holds(subject.input.now));
    let scheduled = subject.load.checks_per_day.is_some();
    if scheduled && server.monitoring.policy == policy && !approved {
        notes.add(subject.at("schedule"), format!("a schedule, {message}"));
    }
}

fn monitoring_too_often(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let least = subject.server.monitoring.least_interval.filter(|least| !least.is_zero());
    let (Some(least), Some(checks)) = (least, subject.load.checks_per_day) else { return };
    let allowed = 86_400.0 / least.as_secs_f64();
    // A hair above comes from rounding.
    if checks > allowed * 1.001 {
        let least = humantime::format_duration(least);
        notes.add(subject.at("schedule"), format!("checked more often than every {least}"));
    }
}

fn accept_ended(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let accept = &subject.server.accept;
    let ended = |index: usize| {
        let until = accept.get(index)?.until?;
        end_of(until).filter(|end| *end <= subject.input.now).map(|_| until)
    };
    let over: Vec<usize> = (0..accept.len()).filter(|index| ended(*index).is_some()).collect();
    let path = subject.path("accept");
    for (place, index) in over.iter().enumerate() {
        let (Some(entry), Some(until)) = (accept.get(*index), ended(*index)) else { continue };
        let fix = path.as_ref().map(|path| take_out(path, &over, place));
        notes.add_fixable(
            subject.item("accept", *index),
            format!("{} was accepted until {until}", entry.code),
            fix,
        );
    }
}

/// Takes one of several items out of a list. They are taken out one after the other, so that each
/// stands as many places further up as went before it.
fn take_out(list: &Path, over: &[usize], place: usize) -> Op {
    let mut path = list.clone();
    path.push(Step::Index(over.get(place).copied().unwrap_or_default() - place));
    Op::Remove(path)
}

fn accept_no_end(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    for (index, entry) in subject.server.accept.iter().enumerate() {
        if entry.until.is_none() {
            let message = format!("{} is accepted without an end", entry.code);
            notes.add(subject.item("accept", index), message);
        }
    }
}

fn maintenance_no_end(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    for (index, window) in subject.server.maintenance.iter().enumerate() {
        let long_ago = window.from.is_some_and(|from| after(from, FORGOTTEN) <= subject.input.now);
        if window.until.is_none() && long_ago {
            notes.add(subject.item("maintenance", index), "in maintenance without an end");
        }
    }
}
