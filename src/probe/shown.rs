//! What a server shows of itself: what its vendor is told by.

use crate::fhir::capability::Capability;
use crate::http::Exchange;
use crate::inventory::preset::{self, Detectable, Preset};
use crate::model::text;

/// Texts beyond this tell no vendor from another.
const LONGEST: usize = 2_000;

/// Members of a CapabilityStatement and headers of that answer, as the server wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub software_name: Option<String>,
    pub software_version: Option<String>,
    pub publisher: Option<String>,
    pub copyright: Option<String>,
    pub implementation_description: Option<String>,
    /// Those that a preset looks at.
    pub headers: Vec<(String, String)>,
}

impl Shown {
    pub(super) fn of(capability: &Capability<'_>, exchange: &Exchange) -> Shown {
        let kept = |value: Option<&str>| {
            let value = text::one_line(value?);
            (!value.is_empty()).then(|| text::bounded(&value, LONGEST))
        };
        let software = capability.software.as_ref();
        let implementation = capability.implementation.as_ref();
        let mut names: Vec<String> =
            preset::detection_headers().map(str::to_ascii_lowercase).collect();
        names.sort_unstable();
        names.dedup();
        let headers = names.into_iter().flat_map(|name| {
            let values = exchange.headers.get_all(name.as_str()).iter();
            let values: Vec<_> = values
                .filter_map(|value| kept(value.to_str().ok()))
                .map(|value| (name.clone(), value))
                .collect();
            values
        });
        Shown {
            software_name: kept(software.and_then(|software| software.name.as_deref())),
            software_version: kept(software.and_then(|software| software.version.as_deref())),
            publisher: kept(capability.publisher.as_deref()),
            copyright: kept(capability.copyright.as_deref()),
            implementation_description: kept(
                implementation.and_then(|implementation| implementation.description.as_deref()),
            ),
            headers: headers.collect(),
        }
    }

    /// The preset that a server at this base URL looks like.
    #[must_use]
    pub fn vendor(&self, base_url: &str) -> Option<&'static Preset> {
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        preset::detect(&Detectable {
            base_url: Some(base_url),
            software_name: self.software_name.as_deref(),
            software_version: self.software_version.as_deref(),
            publisher: self.publisher.as_deref(),
            copyright: self.copyright.as_deref(),
            implementation_description: self.implementation_description.as_deref(),
            headers: &headers,
        })
    }
}
