//! From many servers to one verdict and one exit code.

use super::{Exit, ServerReport, State, Status};

/// Which statuses make a gate fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailOn {
    #[default]
    Warning,
    Unknown,
    Critical,
    Never,
}

impl FailOn {
    fn keeps(self, status: Status) -> bool {
        match self {
            FailOn::Warning => status != Status::Healthy,
            FailOn::Unknown => matches!(status, Status::Unknown | Status::Critical),
            FailOn::Critical => status == Status::Critical,
            FailOn::Never => false,
        }
    }
}

/// What a run of many servers comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The raw worst of the servers that count.
    pub status: Status,
    pub exit: Exit,
}

/// Judges a run. Servers in maintenance stay out of it unless they are to be included, and so do
/// those that were left out on purpose; when none is left, the run is healthy.
#[must_use]
pub fn judge(reports: &[ServerReport], fail_on: FailOn, include_maintenance: bool) -> Verdict {
    let counted: Vec<Status> = reports
        .iter()
        .filter(|report| report.state != State::Maintenance || include_maintenance)
        .filter(|report| !report.was_left_out())
        .map(|report| report.status)
        .collect();
    let status = Status::worst(counted.iter().copied());
    let none_judged =
        !counted.is_empty() && counted.iter().all(|status| *status == Status::Unknown);
    let exit = match fail_on {
        FailOn::Never => Exit::OK,
        _ if none_judged => Exit::UNKNOWN,
        _ if fail_on.keeps(status) => Exit(status.exit_code()),
        _ => Exit::OK,
    };
    Verdict { status, exit }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(status: Status, state: State) -> ServerReport {
        ServerReport {
            name: "a".into(),
            url: String::new(),
            vendor: None,
            state,
            status,
            code: None,
            message: String::new(),
            party: None,
            duration_ms: 0.0,
            fhir_version: None,
            software: None,
            certificate: None,
            certificate_threshold_days: None,
            checks: Vec::new(),
        }
    }

    #[test]
    fn each_gate_keeps_what_it_is_told_to() {
        use FailOn::{Critical, Never, Unknown, Warning};
        use Status as S;
        let cases: [(&[Status], [u8; 4]); 7] = [
            (&[S::Healthy], [0, 0, 0, 0]),
            (&[S::Healthy, S::Warning], [1, 0, 0, 0]),
            (&[S::Warning, S::Unknown], [3, 3, 0, 0]),
            (&[S::Unknown, S::Critical], [2, 2, 2, 0]),
            (&[S::Unknown, S::Unknown], [3, 3, 3, 0]),
            (&[S::Warning], [1, 0, 0, 0]),
            (&[], [0, 0, 0, 0]),
        ];
        for (statuses, expected) in cases {
            let reports: Vec<_> =
                statuses.iter().map(|status| report(*status, State::Active)).collect();
            let exits = [Warning, Unknown, Critical, Never]
                .map(|fail_on| judge(&reports, fail_on, false).exit.0);
            assert_eq!(exits, expected, "{statuses:?}");
        }
    }

    #[test]
    fn what_was_left_out_changes_no_verdict() {
        let mut left_out = report(Status::Unknown, State::Active);
        left_out.code = Some(crate::model::Code::new("check.skipped"));
        for (others, expected) in [
            (vec![], (Status::Healthy, 0)),
            (vec![report(Status::Healthy, State::Active)], (Status::Healthy, 0)),
            (vec![report(Status::Unknown, State::Active)], (Status::Unknown, 3)),
        ] {
            let mut reports = others;
            reports.push(left_out.clone());
            let verdict = judge(&reports, FailOn::Critical, true);
            assert_eq!((verdict.status, verdict.exit.0), expected);
        }
    }

    #[test]
    fn maintenance_stays_out_of_the_verdict_unless_included() {
        let reports = [report(Status::Critical, State::Maintenance)];
        let out = judge(&reports, FailOn::Warning, false);
        assert_eq!((out.status, out.exit), (Status::Healthy, Exit::OK));
        assert_eq!(judge(&reports, FailOn::Warning, true).exit, Exit::CRITICAL);
    }
}
