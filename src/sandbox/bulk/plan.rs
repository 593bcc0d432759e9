//! What a server's bulk data is like, from a persona, a scenario or flags: one set of keys.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

use super::super::fault::duration;
use super::trap::Trap;

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

/// A time such as `200ms` or `2s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

/// A number of bytes such as `10GB` (10^9 bytes) or `4MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// A text; a bare number is one too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

/// A list, or its items in one text with commas between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> List<T> {
        List(Vec::new())
    }
}

/// An issue of an OperationOutcome in an error file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issue {
    pub severity: String,
    pub code: String,
}

macro_rules! plan {
    ($($(#[$about:meta])* $name:ident: $kind:ty,)*) => {
        /// The keys under `bulk:`. What is not said is as the persona does, else as the standard
        /// has it.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct BulkPlan {
            $($(#[$about])* pub $name: Option<$kind>,)*
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

            /// The names of the keys.
            pub const KEYS: &[&str] = &[$(stringify!($name),)* "traps"];
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
    /// The status of a poll after a DELETE.
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
        if !BulkPlan::KEYS.contains(&key) {
            return Err(match crate::model::text::nearest(key, BulkPlan::KEYS.iter().copied()) {
                Some(near) => format!("no such key: {key}; did you mean {near}?"),
                None => format!("no such key: {key}; there are {}", BulkPlan::KEYS.join(", ")),
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
        status("cancelled", self.cancelled, 400, 499)?;
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
        let file = self.file_url.as_ref();
        if file.is_some_and(|url| !url.contains("{file}")) {
            return Err("file_url: name {file}".into());
        }
        Ok(())
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" => 1_000,
            "m" | "mb" => 1_000_000,
            "g" | "gb" => 1_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            _ => return Err(format!("{text:?} is no size; write one such as 10GB or 4MiB")),
        };
        let number: u64 = digits
            .trim()
            .parse()
            .map_err(|_| format!("{text:?} is no size; write one such as 10GB or 4MiB"))?;
        number.checked_mul(factor).map(Size).ok_or_else(|| format!("{text} is too much"))
    }
}

struct Scalar;

impl Visitor<'_> for Scalar {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<String, E> {
        Ok(String::new())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        deserializer.deserialize_any(Scalar).map(Text)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        deserializer.deserialize_any(Scalar)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        duration(&text).map(Time).map_err(D::Error::custom)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List<T>, D::Error> {
        struct Items<T>(PhantomData<T>);

        impl<'de, T: FromStr<Err: fmt::Display>> Visitor<'de> for Items<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, or a text with commas")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<List<T>, E> {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                items
                    .map(|item| item.parse().map_err(E::custom))
                    .collect::<Result<_, _>>()
                    .map(List)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<String>()? {
                    items.push(item.parse().map_err(A::Error::custom)?);
                }
                Ok(List(items))
            }
        }

        deserializer.deserialize_any(Items(PhantomData))
    }
}

#[cfg(test)]
mod tests {
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
