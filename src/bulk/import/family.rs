//! The ways in which servers import by themselves: which one it is, and the request it wants.
//!
//! There is no one `$import`: a draft of ping and pull, a draft with a manifest, HAPI's and
//! Microsoft's forms, and `$bulk-submit` of the Bulk Data STU4 ballot. All of them fetch.

use http::Method;
use http::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use url::Url;

use crate::bulk::job::KickOff;
use crate::fhir::capability::Capability;
use crate::model::server::BaseUrl;
use crate::model::{Error, Result};

const FHIR_JSON: &str = "application/fhir+json";
const NDJSON: &str = "application/fhir+ndjson";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Ping and pull: Parameters with `exportUrl`.
    Parameters,
    /// A JSON manifest.
    Manifest,
    Hapi,
    Microsoft,
    /// `$bulk-submit`.
    Submit,
}

impl Family {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Parameters => "parameters",
            Family::Manifest => "manifest",
            Family::Hapi => "hapi",
            Family::Microsoft => "microsoft",
            Family::Submit => "submit",
        }
    }

    /// Whether it names a manifest instead of files.
    #[must_use]
    pub fn wants_manifest(self) -> bool {
        matches!(self, Family::Parameters | Family::Submit)
    }
}

/// How resources get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Bundles,
    Pull(Family),
}

/// What a server declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    pub has_import: bool,
    pub has_submit: bool,
    pub software: String,
}

impl Declared {
    #[must_use]
    pub fn of(capability: &Capability<'_>) -> Declared {
        let has = |name: &str| {
            capability.operations().any(|(_, it)| it.name.trim_start_matches('$') == name)
        };
        Declared {
            has_import: has("import"),
            has_submit: has("bulk-submit"),
            software: capability.software_label().unwrap_or_default(),
        }
    }
}

/// What somebody wants, and what is known.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// `None`: whatever fits.
    pub wanted: Option<Way>,
    /// The preset's name.
    pub vendor: Option<&'a str>,
    /// `None`: no CapabilityStatement could be had.
    pub declared: Option<&'a Declared>,
    /// Whether the inputs are addresses that the server can fetch.
    pub are_urls: bool,
    /// Whether local files are served to it.
    pub serves: bool,
}

/// Chooses the way, with the reason; nothing is guessed.
///
/// # Errors
/// Exit 64 where it has to be said, or there is none.
pub fn choose(known: Circumstances<'_>) -> Result<(Way, String)> {
    let fetches = known.are_urls || known.serves;
    match known.wanted {
        Some(Way::Bundles) if known.are_urls => {
            return Err(Error::usage("bundles are made of files, and these are addresses")
                .hint("fetch the files first, and name them or their folder"));
        }
        Some(Way::Bundles) => return Ok((Way::Bundles, "said by --family".to_owned())),
        Some(Way::Pull(family)) => {
            own_job(known.vendor)?;
            if !fetches {
                return Err(Error::usage(format!(
                    "with --family {} the server fetches the files itself",
                    family.as_str()
                ))
                .hint(
                    "--serve ADDRESS:PORT lets it fetch them from here; or name https:// addresses",
                ));
            }
            return Ok((Way::Pull(family), "said by --family".to_owned()));
        }
        None if !fetches => {
            let reason = match own_job(known.vendor) {
                Ok(()) => "local files without --serve, from where no server could fetch them",
                Err(_) => "the vendor's own import reads from its cloud storage only",
            };
            return Ok((Way::Bundles, reason.to_owned()));
        }
        None => {}
    }
    own_job(known.vendor)?;
    let declared = known.declared.ok_or_else(|| {
        Error::usage("the server's CapabilityStatement cannot be had, so its import is not known")
            .hint("say it: --family hapi, microsoft, manifest, parameters, submit or bundle")
    })?;
    let software = declared.software.to_ascii_lowercase();
    let family = match known.vendor {
        Some("hapi" | "hapi-public") => Some(Family::Hapi),
        Some("azure-fhir" | "ms-fhir-server") => Some(Family::Microsoft),
        _ if software.contains("hapi fhir") => Some(Family::Hapi),
        _ if software.contains("microsoft fhir") || software.contains("azure") => {
            Some(Family::Microsoft)
        }
        _ if software.contains("pathling") => Some(Family::Manifest),
        _ => None,
    };
    match (declared.has_import, family) {
        (true, Some(family)) => Ok((
            Way::Pull(family),
            format!("the server declares $import and is known for the form of {}", family.as_str()),
        )),
        (true, None) => Err(Error::usage("the server declares $import and not in which form")
            .hint("say it: --family hapi, microsoft, manifest or parameters; --dry-run shows each request")),
        (false, _) if declared.has_submit => Err(Error::usage(
            "the server declares $bulk-submit, which is a ballot, and is used on request only",
        )
        .hint("--family submit")),
        (false, _) if known.are_urls => Err(Error::usage("the server declares no import")
            .hint("fetch the files first, and import them with --family bundle")),
        (false, _) => Ok((Way::Bundles, "the server declares no import".to_owned())),
    }
}

/// Services whose import is no FHIR operation.
fn own_job(vendor: Option<&str>) -> Result<()> {
    let (message, hint) = match vendor {
        Some("google") => (
            "Google imports by fhirStores.import of its own API, from Cloud Storage; that is not FHIR",
            "gcloud healthcare fhir-stores import gcs STORE --gcs-uri=gs://BUCKET/*.ndjson --content-structure=resource",
        ),
        Some("healthlake") => (
            "HealthLake imports by StartFHIRImportJob of its own API, from S3; that is not FHIR",
            "aws healthlake start-fhir-import-job --input-data-config S3Uri=s3://BUCKET/PREFIX …",
        ),
        _ => return Ok(()),
    };
    Err(Error::usage(message).hint(hint).hint("local files: --family bundle"))
}

/// A file that the server fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    pub resource_type: String,
    pub url: Url,
}

/// What the server is told.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    pub files: &'a [Remote],
    /// For the families that name one.
    pub manifest: Option<&'a Url>,
    /// Where the data is from (`inputSource`, `fhirBaseUrl`).
    pub source: &'a str,
    /// Names the submission; the same for the same import.
    pub id: &'a str,
    /// Microsoft: `InitialLoad` or `IncrementalLoad`.
    pub mode: Option<&'a str>,
}

/// The request that begins an import.
///
/// # Errors
/// Exit 64 where something is missing.
pub fn kick_off(family: Family, base: &BaseUrl, told: &Told<'_>) -> Result<KickOff> {
    let manifest = || {
        told.manifest.map(Url::as_str).ok_or_else(|| {
            Error::usage(format!("--family {} names one manifest", family.as_str()))
                .hint("give the address of one manifest, or --serve local files")
        })
    };
    let (path, content_type, body) = match family {
        Family::Parameters => (
            "$import",
            FHIR_JSON,
            parameters(&[
                json!({"name": "exportUrl", "valueUrl": manifest()?}),
                json!({"name": "exportType", "valueCode": "static"}),
            ]),
        ),
        Family::Manifest => {
            let input = told.files.iter();
            let input = input.map(|it| json!({"type": it.resource_type, "url": it.url.as_str()}));
            let body = json!({
                "inputFormat": NDJSON,
                "inputSource": told.source,
                "storageDetail": {"type": "https"},
                "input": input.collect::<Vec<_>>(),
            });
            ("$import", "application/json", body)
        }
        Family::Hapi => {
            let mut all = vec![
                json!({"name": "inputFormat", "valueCode": NDJSON}),
                json!({"name": "inputSource", "valueUri": told.source}),
                json!({"name": "storageDetail", "part": [{"name": "type", "valueCode": "https"}]}),
            ];
            all.extend(told.files.iter().map(|it| {
                json!({"name": "input", "part": [
                    {"name": "type", "valueCode": it.resource_type},
                    {"name": "url", "valueUri": it.url.as_str()},
                ]})
            }));
            ("$import", FHIR_JSON, parameters(&all))
        }
        Family::Microsoft => {
            let mut all = vec![
                json!({"name": "inputFormat", "valueString": NDJSON}),
                json!({"name": "mode", "valueString": told.mode.unwrap_or("IncrementalLoad")}),
            ];
            all.extend(told.files.iter().map(|it| {
                json!({"name": "input", "part": [
                    {"name": "type", "valueString": it.resource_type},
                    {"name": "url", "valueUri": it.url.as_str()},
                ]})
            }));
            ("$import", FHIR_JSON, parameters(&all))
        }
        Family::Submit => {
            let mut all = submission(told.id);
            all.extend([
                json!({"name": "submissionStatus", "valueCoding":
                    {"system": "http://hl7.org/fhir/event-status", "code": "completed"}}),
                json!({"name": "manifestUrl", "valueUrl": manifest()?}),
                json!({"name": "fhirBaseUrl", "valueUrl": told.source}),
            ]);
            ("$bulk-submit", FHIR_JSON, parameters(&all))
        }
    };
    request(base, path, content_type, &body)
}

/// Asks for the state of a submission: its job.
///
/// # Errors
/// Exit 64 when the base makes no URL.
pub fn submit_status(base: &BaseUrl, id: &str) -> Result<KickOff> {
    request(base, "$bulk-submit-status", FHIR_JSON, &parameters(&submission(id)))
}

fn submission(id: &str) -> Vec<Value> {
    vec![
        json!({"name": "submitter", "valueIdentifier": {"system": "urn:fhirctl", "value": "fhirctl"}}),
        json!({"name": "submissionId", "valueString": id}),
    ]
}

fn parameters(all: &[Value]) -> Value {
    json!({"resourceType": "Parameters", "parameter": all})
}

fn request(
    base: &BaseUrl,
    path: &str,
    content_type: &'static str,
    body: &Value,
) -> Result<KickOff> {
    let url =
        base.join(path).map_err(|error| Error::usage(format!("no URL for the import: {error}")))?;
    let prefer = HeaderValue::from_static("respond-async");
    Ok(KickOff {
        method: Method::POST,
        url,
        headers: vec![(HeaderName::from_static("prefer"), prefer)],
        accept: FHIR_JSON,
        content_type,
        body: Some(body.to_string().into_bytes()),
    })
}

/// A URL as it may be shown and kept: its query may be what opens the storage.
#[must_use]
pub fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) => {
            let path = &url[..url::Position::AfterPath];
            let path = match path.split_once('@') {
                Some((_, rest)) if url.has_authority() && !url.username().is_empty() => {
                    format!("{}://{rest}", url.scheme())
                }
                _ => path.to_owned(),
            };
            if url.query().is_some() { format!("{path}?(redacted)") } else { path }
        }
        Err(_) => "(no address)".to_owned(),
    }
}

/// The type that an address tells by its last part: `Patient.000.ndjson`, `1.Patient.ndjson`.
#[must_use]
pub fn type_of(url: &Url) -> Option<String> {
    let name = url.path_segments()?.next_back()?;
    let part = name.split(['.', '-', '_']).find(|part| {
        crate::bulk::lines::is_type(part) && crate::fhir::types::is_any_resource_type(part)
    });
    part.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(has_import: bool, software: &str) -> Declared {
        Declared { has_import, has_submit: false, software: software.to_owned() }
    }

    #[test]
    fn the_way_is_chosen_by_what_is_known_and_never_guessed() {
        let import = declared(true, "Something");
        let none = declared(false, "HAPI FHIR Server");
        let hapi = declared(true, "HAPI FHIR Server 7");
        let known = |vendor, declared, are_urls, serves| Circumstances {
            wanted: None,
            vendor,
            declared,
            are_urls,
            serves,
        };
        let way = |it| choose(it).map(|(way, _)| way).map_err(|error| error.exit().0);
        for (known, expected) in [
            (known(None, None, false, false), Ok(Way::Bundles)),
            (known(Some("google"), None, false, false), Ok(Way::Bundles)),
            (known(Some("google"), Some(&hapi), true, false), Err(64)),
            (known(Some("healthlake"), Some(&hapi), false, true), Err(64)),
            (known(Some("hapi"), Some(&import), true, false), Ok(Way::Pull(Family::Hapi))),
            (
                known(Some("azure-fhir"), Some(&import), true, false),
                Ok(Way::Pull(Family::Microsoft)),
            ),
            (known(None, Some(&hapi), false, true), Ok(Way::Pull(Family::Hapi))),
            (known(None, Some(&import), true, false), Err(64)),
            (known(None, Some(&none), true, false), Err(64)),
            (known(None, Some(&none), false, true), Ok(Way::Bundles)),
            (known(None, None, true, false), Err(64)),
        ] {
            assert_eq!(way(known), expected, "{known:?}");
        }
        let wanted = Circumstances {
            wanted: Some(Way::Pull(Family::Hapi)),
            ..known(None, None, false, false)
        };
        assert_eq!(way(wanted), Err(64));
        let google = Circumstances { vendor: Some("google"), serves: true, ..wanted };
        assert_eq!(way(google), Err(64));
    }

    #[test]
    fn every_family_has_its_own_request() {
        let base = BaseUrl::parse("https://h.example/fhir").unwrap();
        let url = Url::parse("https://files.example/Patient.000.ndjson?sig=secret").unwrap();
        let manifest = Url::parse("https://files.example/manifest.json").unwrap();
        let files = [Remote { resource_type: type_of(&url).unwrap(), url }];
        let told = Told {
            files: &files,
            manifest: Some(&manifest),
            source: "https://source.example",
            id: "i1",
            mode: None,
        };
        let body = |family| {
            let kick_off = kick_off(family, &base, &told).unwrap();
            assert_eq!(kick_off.headers[0].1, "respond-async");
            let body: Value = serde_json::from_slice(&kick_off.body.unwrap()).unwrap();
            (kick_off.url.path().to_owned(), kick_off.content_type, body)
        };
        let (path, content_type, manifest_body) = body(Family::Manifest);
        assert_eq!((path.as_str(), content_type), ("/fhir/$import", "application/json"));
        assert_eq!(manifest_body["input"][0]["type"], "Patient");
        assert_eq!(manifest_body["storageDetail"], json!({"type": "https"}));
        let (_, content_type, hapi) = body(Family::Hapi);
        assert_eq!(content_type, "application/fhir+json");
        assert_eq!(hapi["parameter"][0], json!({"name": "inputFormat", "valueCode": NDJSON}));
        assert_eq!(
            hapi["parameter"][3]["part"][0],
            json!({"name": "type", "valueCode": "Patient"})
        );
        let (_, _, microsoft) = body(Family::Microsoft);
        assert_eq!(
            microsoft["parameter"][1],
            json!({"name": "mode", "valueString": "IncrementalLoad"})
        );
        assert_eq!(microsoft["parameter"][2]["part"][0]["valueString"], "Patient");
        let (_, _, pull) = body(Family::Parameters);
        assert_eq!(
            pull["parameter"][0],
            json!({"name": "exportUrl", "valueUrl": manifest.as_str()})
        );
        let (path, _, submit) = body(Family::Submit);
        assert_eq!(path, "/fhir/$bulk-submit");
        assert_eq!(submit["parameter"][1], json!({"name": "submissionId", "valueString": "i1"}));
    }

    #[test]
    fn what_opens_a_storage_is_not_shown() {
        assert_eq!(shown("https://u:p@h/a/b.ndjson?sig=x"), "https://h/a/b.ndjson?(redacted)");
        assert_eq!(shown("https://h/a.ndjson"), "https://h/a.ndjson");
    }
}
