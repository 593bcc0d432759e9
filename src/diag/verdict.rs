//! One sentence over all topics: which layer broke, who has to act, what to do next.

use std::cmp::Reverse;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Layer, Problem, Topic, TopicName};
use crate::model::{Code, Party, Status};

/// What a diagnosis comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Verdict {
    /// The worst of all problems that count.
    pub status: Status,
    /// Where it broke; `null` when nothing did.
    pub layer: Option<Layer>,
    /// Who has to act.
    pub party: Option<Party>,
    pub code: Option<Code>,
    /// One sentence.
    pub message: String,
    pub next_step: Option<String>,
    /// The topic that found it.
    pub topic: Option<TopicName>,
}

/// Names the problem that explains the others: the worst, and of equals the one lowest on the way
/// from the wire up. What a topic of its own found says more than the same stage of a test.
#[must_use]
pub fn judge(topics: &[Topic]) -> Verdict {
    let looked = topics.iter().filter(|topic| topic.has_run()).count();
    let all = topics
        .iter()
        .flat_map(|topic| topic.problems.iter().map(move |problem| (topic.name, problem)));
    let speaks = |(name, problem): &(TopicName, &Problem)| {
        (Reverse(problem.status.rank()), problem.layer, *name == TopicName::Health)
    };
    let Some((name, worst)) = all.filter(|(_, problem)| problem.counts()).min_by_key(speaks) else {
        let status = if looked == 0 { Status::Unknown } else { Status::Healthy };
        let message = match looked {
            0 => "nothing could be looked at".to_owned(),
            1 => "nothing wrong found by one topic".to_owned(),
            looked => format!("nothing wrong found by {looked} topics"),
        };
        let remarks = topics.iter().filter_map(|topic| topic.remark.as_deref());
        let message =
            std::iter::once(message.as_str()).chain(remarks).collect::<Vec<_>>().join("; ");
        return Verdict {
            status,
            layer: None,
            party: None,
            code: None,
            message,
            next_step: None,
            topic: None,
        };
    };
    Verdict {
        status: worst.status,
        layer: Some(worst.layer),
        party: Some(worst.party),
        code: Some(worst.code),
        message: worst.message.clone(),
        next_step: worst.next_step.clone(),
        topic: Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: TopicName, problems: &[(&'static str, Layer)]) -> Topic {
        let mut topic = Topic::new(name);
        for (code, layer) in problems {
            topic.problem(Problem::new(Code::new(code), *code).layer(*layer));
        }
        topic
    }

    #[test]
    fn the_lowest_of_the_worst_problems_speaks() {
        let found = topic(
            TopicName::Health,
            &[
                ("tls.expiring", Layer::Tls),
                ("auth.invalid_client", Layer::Auth),
                ("fhir.search_failed", Layer::Fhir),
            ],
        );
        let verdict = judge(&[found]);
        assert_eq!(verdict.layer, Some(Layer::Auth));
        assert_eq!(verdict.party, Some(Code::new("auth.invalid_client").party()));
        assert_eq!(verdict.status, Status::Critical);
    }

    #[test]
    fn nothing_looked_at_is_not_healthy() {
        let left = Topic::left_out(TopicName::Health, Code::new("check.skipped"), "no");
        assert_eq!(judge(&[left]).status, Status::Unknown);
        assert_eq!(judge(&[Topic::new(TopicName::Health)]).status, Status::Healthy);
        let graded =
            Topic { remark: Some("TLS is graded B: old".into()), ..Topic::new(TopicName::Tls) };
        assert_eq!(
            judge(&[graded]).message,
            "nothing wrong found by one topic; TLS is graded B: old"
        );
    }
}
