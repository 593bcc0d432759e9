//! Resources that are made while they are sent: every line of a type has the same length, so that
//! any place of a file is found by arithmetic and no file is ever held.

use std::sync::Arc;

use serde_json::{Value, json};

use super::plan::BulkPlan;
use super::trap::Trap;

/// The last change of all generated resources.
pub(super) const LAST_UPDATED: &str = "2024-01-01T00:00:00.000Z";
/// The types that are generated, with how many of ten resources are of each.
const TYPES: [(&str, u64); 2] = [("Patient", 1), ("Observation", 9)];
/// Lines when neither they nor their bytes are said.
const LINES: u64 = 1_000;
/// Entries of a manifest that is meant to be long.
const MANY: u64 = 2_000_000;

/// Everything that one export generates.
#[derive(Clone, Debug)]
pub(super) struct Made {
    parts: Vec<Part>,
}

/// The resources of one type, spread over files.
#[derive(Clone, Debug)]
struct Part {
    template: Arc<Template>,
    lines: u64,
    files: u64,
}

/// One file of generated resources.
#[derive(Clone, Debug)]
pub(super) struct MadeFile {
    template: Arc<Template>,
    first: u64,
    pub(super) lines: u64,
}

impl Made {
    /// What a plan asks for, of the types that are wanted.
    pub(super) fn new(plan: &BulkPlan, seed: u64, wanted: impl Fn(&str) -> bool) -> Made {
        let kinds: Vec<_> = TYPES.iter().filter(|(name, _)| wanted(name)).collect();
        let weights: u64 = kinds.iter().map(|(_, weight)| weight).sum();
        let many = plan.has(Trap::ManifestMany).then_some(MANY);
        let files = plan.files.or(many);
        let mut parts = Vec::new();
        for (name, weight) in kinds {
            let template = Arc::new(Template::new(name, seed));
            let share = |whole: u64| {
                let whole = u128::from(whole) * u128::from(*weight) / u128::from(weights);
                u64::try_from(whole).unwrap_or(u64::MAX).max(1)
            };
            let lines = match (plan.lines, plan.bytes) {
                (Some(lines), _) => share(lines),
                (None, Some(bytes)) => (share(bytes.0) / template.width()).max(1),
                (None, None) => share(files.unwrap_or(0).max(LINES)),
            };
            let files = match (files, plan.files_per_type, plan.lines_per_file) {
                (Some(files), _, _) => share(files),
                (None, Some(files), _) => files,
                (None, None, Some(most)) => lines.div_ceil(most),
                (None, None, None) => 1,
            };
            parts.push(Part { template, lines, files: files.min(lines) });
        }
        Made { parts }
    }

    pub(super) fn files(&self) -> u64 {
        self.parts.iter().map(|part| part.files).sum()
    }

    /// The type, the number within it, and the content of the n-th file, counted from 0.
    pub(super) fn file(&self, n: u64) -> Option<(&'static str, u64, MadeFile)> {
        let mut n = n;
        for part in &self.parts {
            if n < part.files {
                return Some((part.template.kind, n + 1, part.file(n)));
            }
            n -= part.files;
        }
        None
    }

    /// The file of a name such as `Observation-17`.
    pub(super) fn named(&self, kind: &str, number: u64) -> Option<(u64, MadeFile)> {
        let mut before = 0;
        for part in &self.parts {
            if part.template.kind == kind {
                let n = number.checked_sub(1).filter(|n| *n < part.files)?;
                return Some((before + n, part.file(n)));
            }
            before += part.files;
        }
        None
    }
}

impl Part {
    fn file(&self, n: u64) -> MadeFile {
        let at = |n: u64| {
            let place = u128::from(self.lines) * u128::from(n) / u128::from(self.files);
            u64::try_from(place).unwrap_or(u64::MAX)
        };
        let (first, end) = (at(n), at(n + 1));
        MadeFile { template: self.template.clone(), first, lines: end - first }
    }
}

impl MadeFile {
    pub(super) fn len(&self) -> u64 {
        self.lines * self.template.width()
    }

    /// Appends what begins at a place of the file, about `most` bytes of it.
    pub(super) fn read(&self, at: u64, most: usize, to: &mut Vec<u8>) {
        let width = self.template.width();
        let mut line = at / width;
        let skip = usize::try_from(at % width).unwrap_or(0);
        let start = to.len();
        while line < self.lines && to.len() - start < most + skip {
            self.template.line(self.first + line, to);
            line += 1;
        }
        to.drain(start..(start + skip).min(to.len()));
    }
}

/// A line with holes in it.
#[derive(Debug)]
struct Template {
    kind: &'static str,
    seed: u64,
    line: Vec<u8>,
    /// Where the number of the resource stands, in twelve digits.
    number: usize,
    /// Where the number of its patient stands.
    patient: Option<usize>,
    /// Where three digits of a measurement stand.
    value: Option<usize>,
    /// Where 64 hexadecimal digits of noise stand.
    noise: usize,
}

const NUMBER: &str = "@@@@@@@@@@@@";
const PATIENT: &str = "%%%%%%%%%%%%";
const VALUE: &str = "\"value\":777";
const NOISE: &str = "################################################################";

impl Template {
    fn new(kind: &'static str, seed: u64) -> Template {
        let mut line = skeleton(kind).to_string().into_bytes();
        line.push(b'\n');
        let place =
            |needle: &str| line.windows(needle.len()).position(|bytes| bytes == needle.as_bytes());
        Template {
            kind,
            seed,
            number: place(NUMBER).unwrap_or(0),
            patient: place(PATIENT),
            value: place(VALUE).map(|at| at + VALUE.len() - 3),
            noise: place(NOISE).unwrap_or(0),
            line,
        }
    }

    fn width(&self) -> u64 {
        self.line.len() as u64
    }

    fn line(&self, n: u64, to: &mut Vec<u8>) {
        let start = to.len();
        to.extend_from_slice(&self.line);
        let line = &mut to[start..];
        digits(n + 1, &mut line[self.number..self.number + NUMBER.len()]);
        if let Some(at) = self.patient {
            // Nine observations to a patient, as there are of both.
            digits(n / 9 + 1, &mut line[at..at + PATIENT.len()]);
        }
        let mut random = mixed(self.seed ^ mixed(n));
        if let Some(at) = self.value {
            digits(100 + random % 900, &mut line[at..at + 3]);
        }
        for part in line[self.noise..self.noise + NOISE.len()].chunks_mut(16) {
            random = mixed(random);
            for (nth, byte) in part.iter_mut().enumerate() {
                *byte = b"0123456789abcdef"[usize::try_from(random >> (4 * nth) & 15).unwrap_or(0)];
            }
        }
    }
}

fn digits(number: u64, to: &mut [u8]) {
    let mut rest = number;
    for byte in to.iter_mut().rev() {
        *byte = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
}

/// The finaliser of SplitMix64: every bit of what goes in moves every bit of what comes out.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn skeleton(kind: &str) -> Value {
    let meta = json!({
        "versionId": "1",
        "lastUpdated": LAST_UPDATED,
        "security": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST",
        }],
        "tag": [{"system": "urn:fhirctl:sandbox", "code": "synthetic"}],
    });
    match kind {
        "Patient" => json!({
            "resourceType": "Patient", "id": format!("made-{NUMBER}"), "meta": meta,
            "identifier": [{"system": "urn:fhirctl:sandbox:made", "value": NOISE}],
            "active": true,
            "name": [{"use": "official", "family": "Test-Made", "given": ["Synthetic-Many"]}],
            "gender": "other", "birthDate": "1970-01-01",
        }),
        _ => json!({
            "resourceType": kind, "id": format!("made-{NUMBER}"), "meta": meta,
            "identifier": [{"system": "urn:fhirctl:sandbox:made", "value": NOISE}],
            "status": "final",
            "category": [{"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                "code": "vital-signs", "display": "Vital Signs",
            }]}],
            "code": {"coding": [{
                "system": "http://loinc.org", "code": "8867-4", "display": "Heart rate",
            }]},
            "subject": {"reference": format!("Patient/made-{PATIENT}")},
            "effectiveDateTime": "2023-12-31T09:10:00Z",
            "valueQuantity": {
                "value": 777, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min",
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Made {
        Made::new(&BulkPlan::parse(text).unwrap(), 7, |_| true)
    }

    #[test]
    fn any_place_of_a_file_reads_as_the_whole_does() {
        let (_, _, file) = made("lines=100").file(1).unwrap();
        let mut whole = Vec::new();
        file.read(0, usize::MAX / 2, &mut whole);
        assert_eq!(whole.len() as u64, file.len());
        for (at, most) in [(0, 10), (1, 1000), (701, 5000), (file.len() - 1, 1), (file.len(), 9)] {
            let mut part = Vec::new();
            file.read(at, most, &mut part);
            let from = usize::try_from(at).unwrap();
            assert_eq!(part, whole[from..from + part.len()], "{at}");
            assert!(part.len() as u64 >= (most as u64).min(file.len() - at));
        }
    }

    #[test]
    fn every_line_is_a_resource_with_an_id_of_its_own() {
        let (kind, number, file) = made("lines=500").file(1).unwrap();
        assert_eq!((kind, number, file.lines), ("Observation", 1, 450));
        let mut whole = Vec::new();
        file.read(0, usize::MAX / 2, &mut whole);
        let mut ids = std::collections::BTreeSet::new();
        for line in String::from_utf8(whole).unwrap().lines() {
            let resource: Value = serde_json::from_str(line).unwrap();
            assert_eq!(resource["resourceType"], "Observation");
            assert!(resource["valueQuantity"]["value"].is_u64());
            ids.insert(resource["id"].as_str().unwrap().to_owned());
        }
        assert_eq!(ids.len(), 450);
    }

    #[test]
    fn lines_bytes_and_files_are_spread_without_a_gap() {
        let many = made("files=20000");
        assert_eq!(many.files(), 20_000);
        let lines: u64 = (0..20_000).map(|n| many.file(n).unwrap().2.lines).sum();
        assert_eq!(lines, 20_000);
        assert!(many.file(20_000).is_none());
        let (n, file) = many.named("Observation", 1).unwrap();
        assert_eq!((n, file.first), (2_000, 0));
        assert!(many.named("Observation", 18_001).is_none() && many.named("Basic", 1).is_none());
        let big = made("bytes=10GB");
        let bytes: u64 = (0..big.files()).map(|n| big.file(n).unwrap().2.len()).sum();
        assert!((9_999_990_000..=10_000_000_000).contains(&bytes), "{bytes}");
    }
}
