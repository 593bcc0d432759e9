//! What a server's bulk data is like, from a persona, a scenario or flags: one set of keys.

use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::trap::Trap;
use super::value::{List, Size, Text, Time};
use crate::model::text::nearest;
use crate::serve::HeaderValue;

/// What an export is asked for: everything, all patients, or the patients of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    System,
    Patient,
    Group,
}

/// How a kick-off may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Post,
}

/// What a manifest says of how many lines a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    Right,
    Wrong,
    Absent,
}

/// Where files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoragePlace {
    /// At the server itself.
    Own,
    /// At another port, which takes no token and refuses who brings one.
    Separate,
}

/// The family of `$import` that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportStyle {
    Hapi,
    Microsoft,
    Manifest,
    None,
}

macro_rules! words {
    ($($kind:ident { $($variant:ident $name:literal),* })*) => {$(
        impl FromStr for $kind {
            type Err = String;

            fn from_str(text: &str) -> Result<$kind, String> {
                match text {
                    $($name => Ok($kind::$variant),)*
                    _ => Err(format!("unknown {text:?}; choose {}", [$($name),*].join(", "))),
                }
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$kind, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

words! {
    Level { System "system", Patient "patient", Group "group" }
    Verb { Get "get", Post "post" }
    Count { Right "right", Wrong "wrong", Absent "absent" }
    StoragePlace { Own "own", Separate "separate" }
    ImportStyle { Hapi "hapi", Microsoft "microsoft", Manifest "manifest", None "none" }
}

/// An issue of an OperationOutcome in an error file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issue {
    pub severity: String,
    pub code: String,
}

macro_rules! plan {
    ($($(#[doc = $about:literal])* $name:ident: $kind:ty,)*) => {
        /// The keys under `bulk:`. What is not said is as the persona does, else as the standard
        /// has it.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct BulkPlan {
            $($(#[doc = $about])* pub $name: Option<$kind>,)*
            /// How the server misbehaves; these add up.
            pub traps: List<Trap>,
        }

        impl BulkPlan {
            /// This plan, and where it says nothing, the other one.
            #[must_use]
            pub fn over(&self, below: &BulkPlan) -> BulkPlan {
                let traps = below.traps.0.iter().chain(&self.traps.0).copied().collect();
                BulkPlan {
                    $($name: self.$name.clone().or_else(|| below.$name.clone()),)*
                    traps: List(traps),
                }
            }

            /// The keys with what they are about.
            pub const KEYS: &[(&str, &str)] = &[
                $((stringify!($name), concat!($($about),*)),)*
                ("traps", " How the server misbehaves, by name; these add up."),
            ];
        }
    };
}

plan! {
    /// Whether there is bulk export at all.
    enabled: bool,
    /// The levels that are offered: system, patient, group.
    levels: List<Level>,
    /// How a kick-off may be sent: get, post.
    methods: List<Verb>,
    /// The levels that take POST alone.
    post_only: List<Level>,
    /// The status with which what is not offered is refused.
    refusal: u16,
    /// Parameters that are refused, unless the client asks for leniency.
    refuse: List<String>,
    /// Parameters of the vendor's own that are taken, without effect.
    accept: List<String>,
    /// Whether a repeated `_type` is refused.
    comma_type: bool,
    /// Whether a kick-off without `Prefer: respond-async` is refused.
    needs_prefer: bool,
    /// The version of the standard in its CapabilityStatement.
    version: String,
    /// Where the status is, below the base; `{job}` stands for the job.
    status_url: String,
    /// Where files are, below the base; `{job}` and `{file}` stand for what they are called.
    file_url: String,
    /// How long a job runs.
    wait: Time,
    /// How many polls are answered 202 at least.
    polls: u32,
    /// `Retry-After` of a 202, verbatim; `http-date` for a date one second ahead, empty for none.
    retry_after: Text,
    /// `X-Progress`, one text per poll; the last one stays.
    progress: Vec<String>,
    /// Polls that come sooner are answered 429.
    poll_no_faster_than: Time,
    /// Whether a second kick-off is answered 429 while a job runs.
    one_job_at_a_time: bool,
    /// How soon the same export may be asked for again; sooner is answered 429.
    min_interval: Time,
    /// Whether `separate-export-status` is understood.
    separate_status: bool,
    /// The status with which a DELETE is answered when the job is over.
    delete_done: u16,
    /// The status of a poll after a DELETE; 202: the job seems to run for ever.
    cancelled: u16,
    /// `requiresAccessToken`; else whether the server has a sign-in.
    requires_access_token: bool,
    /// Where files are: own, or separate, on another port without a token.
    storage: StoragePlace,
    /// The status with which a file redirects to the other port.
    file_redirect: u16,
    /// How long links work; a manifest that is read again has new ones.
    expires: Time,
    /// Most resources of a file.
    lines_per_file: u64,
    /// How many files the resources of a type are spread over.
    files_per_type: u64,
    /// So many generated resources, in the place of the server's own.
    lines: u64,
    /// So many bytes of generated resources.
    bytes: Size,
    /// So many files of generated resources.
    files: u64,
    /// So many deleted resources are told of.
    deleted: u32,
    /// The issues of an error file.
    outcomes: Vec<Issue>,
    /// right, wrong or absent.
    count: Count,
    /// Whether files are compressed for those who take it.
    gzip: bool,
    /// Whether parts of a file can be asked for; files then come uncompressed.
    accept_ranges: bool,
    /// Bytes per second of one file.
    rate: Size,
    /// Where `file-cut` and `file-stall` strike, in percent of the file.
    cut_at: u8,
    /// The resource type by which files are organised, asked for or not.
    organize_output_by: String,
    /// Whether a manifest may come in parts while the job runs, when asked for.
    partial_manifests: bool,
    /// Over how many pages a manifest is spread.
    links: u32,
    /// The family of `$import`: hapi, microsoft, manifest or none.
    import: ImportStyle,
    /// Most bytes of a Bundle that is posted to the base; a larger one is answered 413.
    bundle_bytes: Size,
    /// Most entries of such a Bundle.
    bundle_entries: usize,
    /// Ids of resources that are refused with 422.
    refuse_ids: List<String>,
    /// Ids of resources that are refused with 412.
    conflict_ids: List<String>,
    /// The percentage of Bundles that is answered 429.
    busy: u8,
    /// The percentage of Bundles that is answered 503.
    unavailable: u8,
}

impl BulkPlan {
    /// Reads `KEY=VALUE`; the value is written as in a scenario.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<BulkPlan, String> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as wait=2s")?;
        let keys = || BulkPlan::KEYS.iter().map(|(name, _)| *name);
        if !keys().any(|name| name == key) {
            return Err(match nearest(key, keys()) {
                Some(near) => format!("no such key: {key}; did you mean {near}?"),
                None => format!("no such key: {key}; sandbox --help lists them"),
            });
        }
        serde_yaml::from_str(&format!("{key}: {value}\n"))
            .map_err(|error| error.without_snippet().to_string())
    }

    /// Whether the server has a trap.
    #[must_use]
    pub fn has(&self, trap: Trap) -> bool {
        self.traps.0.contains(&trap)
    }

    /// Whether a level is offered.
    #[must_use]
    pub fn offers(&self, level: Level) -> bool {
        self.is_enabled() && self.levels.as_ref().is_none_or(|levels| levels.0.contains(&level))
    }

    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled != Some(false)
    }

    /// Whether resources are generated in the place of the server's own.
    #[must_use]
    pub fn generates(&self) -> bool {
        self.lines.is_some()
            || self.bytes.is_some()
            || self.files.is_some()
            || self.has(Trap::ManifestMany)
    }

    /// Whether something lies at another port.
    #[must_use]
    pub fn needs_storage(&self) -> bool {
        self.storage == Some(StoragePlace::Separate) || self.redirect().is_some()
    }

    /// The status with which a file redirects.
    #[must_use]
    pub fn redirect(&self) -> Option<u16> {
        let trap = || match self {
            plan if plan.has(Trap::File302) => Some(302),
            plan if plan.has(Trap::File307) => Some(307),
            _ => None,
        };
        self.file_redirect.or_else(trap)
    }

    /// What types alone do not say.
    ///
    /// # Errors
    /// Which key is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let status = |key: &str, value: Option<u16>, from: u16, to: u16| match value {
            Some(code) if !(from..=to).contains(&code) => {
                Err(format!("{key}: a status from {from} to {to}"))
            }
            _ => Ok(()),
        };
        status("refusal", self.refusal, 400, 599)?;
        status("cancelled", self.cancelled.filter(|code| *code != 202), 400, 499)?;
        status("delete_done", self.delete_done, 200, 499)?;
        status("file_redirect", self.file_redirect, 301, 308)?;
        let some = |key: &str, value: Option<u64>, most: u64| match value {
            Some(number) if !(1..=most).contains(&number) => {
                Err(format!("{key}: a number from 1 to {most}"))
            }
            _ => Ok(()),
        };
        some("lines_per_file", self.lines_per_file, u64::from(u32::MAX))?;
        some("files_per_type", self.files_per_type, 100_000)?;
        some("files", self.files, 10_000_000)?;
        some("lines", self.lines, 1_000_000_000_000)?;
        some("links", self.links.map(u64::from), 10_000)?;
        some("deleted", self.deleted.map(u64::from), 1_000_000)?;
        some("rate", self.rate.map(|rate| rate.0), u64::MAX)?;
        for (key, percent) in
            [("cut_at", self.cut_at), ("busy", self.busy), ("unavailable", self.unavailable)]
        {
            if percent.is_some_and(|percent| percent > 100) {
                return Err(format!("{key}: a percentage from 0 to 100"));
            }
        }
        for (key, url) in [("status_url", &self.status_url), ("file_url", &self.file_url)] {
            if url.as_ref().is_some_and(|url| !url.starts_with('/') || !url.contains("{job}")) {
                return Err(format!("{key}: begin with a slash and name {{job}}"));
            }
        }
        let plain = |text: &Text| HeaderValue::from_str(&text.0).is_ok();
        if !self.retry_after.as_ref().is_none_or(plain) {
            return Err("retry_after: a header cannot hold this".into());
        }
        let file = self.file_url.as_ref();
        if file.is_some_and(|url| !url.contains("{file}")) {
            return Err("file_url: name {file}".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flag_is_one_key_of_a_scenario() {
        let plan = [
            "wait=2s",
            "retry_after=1",
            "bytes=10GB",
            "traps=file-cut,poll-429",
            "progress=[a, 'b, c']",
            "levels=group",
            "traps=line-bom",
        ]
        .iter()
        .fold(BulkPlan::default(), |plan, text| BulkPlan::parse(text).unwrap().over(&plan));
        assert_eq!(plan.wait, Some(Time(Duration::from_secs(2))));
        assert_eq!(plan.retry_after, Some(Text("1".into())));
        assert_eq!(plan.bytes, Some(Size(10_000_000_000)));
        assert_eq!(plan.progress, Some(vec!["a".to_owned(), "b, c".to_owned()]));
        assert!(plan.has(Trap::FileCut) && plan.has(Trap::Poll429) && plan.has(Trap::LineBom));
        assert!(plan.offers(Level::Group) && !plan.offers(Level::System));
    }

    #[test]
    fn a_wrong_flag_says_what_would_be_right() {
        for (text, part) in [
            ("wait", "KEY=VALUE"),
            ("wayt=2s", "did you mean wait?"),
            ("wait=soon", ""),
            ("traps=file-cutt", "did you mean file-cut?"),
            ("bytes=10 bytes", "is no size"),
            ("levels=planet", "choose system"),
        ] {
            let error = BulkPlan::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(BulkPlan::parse("cut_at=101").unwrap().validate().is_err());
        assert!(BulkPlan::parse("status_url=/x").unwrap().validate().is_err());
        assert!(BulkPlan::parse("files=0").unwrap().validate().is_err());
    }

    #[test]
    fn the_upper_plan_wins_and_the_lower_one_fills_in() {
        let upper = BulkPlan::parse("wait=1s").unwrap();
        let lower = BulkPlan::parse("wait=9s").unwrap().over(&BulkPlan::parse("links=3").unwrap());
        let both = upper.over(&lower);
        assert_eq!((both.wait, both.links), (Some(Time(Duration::from_secs(1))), Some(3)));
    }
}
