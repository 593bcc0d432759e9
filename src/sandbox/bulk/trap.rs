//! Traps: the ways in which a bulk data server misbehaves on request, each by its name.

use std::fmt;
use std::str::FromStr;

use crate::model::text::nearest;

macro_rules! traps {
    ($($variant:ident $name:literal $about:literal,)*) => {
        /// One way to misbehave.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Trap {
            $(#[doc = $about] $variant,)*
        }

        /// Every trap with its name and what it does, in the order in which people see them.
        pub const TRAPS: &[(Trap, &str, &str)] = &[$((Trap::$variant, $name, $about),)*];
    };
}

traps! {
    LocationRelative "location-relative" "Content-Location without scheme and host",
    LocationMissing "location-missing" "202 without Content-Location",
    RetryAfterDate "retry-after-date" "Retry-After as an HTTP date, two seconds ahead",
    RetryAfterNegative "retry-after-negative" "Retry-After: -5",
    RetryAfterAbsurd "retry-after-absurd" "Retry-After: 86400",
    RetryAfterGarbage "retry-after-garbage" "Retry-After: soon",
    RetryAfterEpoch "retry-after-epoch" "Retry-After as seconds since 1970",
    RetryAfterEpochMs "retry-after-epoch-ms" "Retry-After as milliseconds since 1970",
    RetryAfterAbsent "retry-after-absent" "no Retry-After at all",
    Poll429 "poll-429" "one poll is answered 429",
    Poll503Html "poll-503-html" "one poll is answered 503 by a proxy, in HTML",
    Poll500Transient "poll-500-transient" "one poll is answered 500 with a transient issue",
    Poll401 "poll-401" "the token is refused at one poll",
    JobFailed "job-failed" "the job ends with 500 and an issue that is final",
    JobForever "job-forever" "202 for ever",
    ProgressCurly "progress-curly" "X-Progress with curly quotes",
    ProgressBytes "progress-bytes" "X-Progress with bytes that are no UTF-8",
    ProgressLong "progress-long" "X-Progress of more than 100 characters",
    StatusHeader "export-status" "X-Export-Status with 200, and Preference-Applied, when asked for",
    StatusHeaderBare "export-status-bare" "X-Export-Status on 202 and 200, but no Preference-Applied",
    StatusHeaderFailed "export-status-failed" "200 with X-Export-Status: 500 when the job is over",
    ManifestGrows "manifest-grows" "202 with a manifest that grows from poll to poll",
    ManifestStu4 "manifest-stu4" "outcome in the place of error, and no request",
    ManifestNoError "manifest-no-error" "no error element",
    ManifestHtml "manifest-html" "a page of HTML at 200 in the place of the manifest",
    ManifestLong "manifest-long" "a manifest of 200 MB",
    ManifestMany "manifest-many" "a manifest of 2,000,000 entries",
    ManifestTime "manifest-time" "a transactionTime that is no FHIR instant",
    ExtensionObject "extension-object" "extension as an object",
    ExtensionArray "extension-array" "extension as an array",
    UrlRelative "url-relative" "relative file URLs",
    UrlEscapes "url-escapes" "types and file URLs that try to leave a directory",
    LinkLoop "link-loop" "the last page leads to the first again",
    Link500Once "link-500-once" "a page is answered 500, once",
    Link404 "link-404" "the second page is not there",
    ErrorInformation "error-information" "an error file with information alone",
    ErrorWarning "error-warning" "an error file with a warning",
    ErrorError "error-error" "an error file with an error",
    ErrorFatal "error-fatal" "an error file with a fatal issue",
    DeletedAlsoOutput "deleted-also-output" "a deleted resource is in the output too",
    OrganisedSplit "organised-split" "organised files of which one goes on in the next",
    CountWrong "count-wrong" "a count that is one too high",
    File401 "file-401" "the token is refused at one file",
    File302 "file-302" "files redirect to another origin, with 302",
    File307 "file-307" "files redirect to another origin, with 307",
    FileGzip "file-gzip" "files come as gzip whatever was asked for",
    FileGzipMembers "file-gzip-members" "files come as gzip of two members",
    FileGzipTruncated "file-gzip-truncated" "the gzip stream ends early, at the first attempt",
    FileGzipUnmarked "file-gzip-unmarked" "gzip without Content-Encoding",
    FileCut "file-cut" "the connection breaks within a file, at the first attempt",
    FileStall "file-stall" "a file stands still half way, at the first attempt",
    File503 "file-503" "a file is answered 503, at the first attempt",
    FileHtml "file-html" "the first file is a page of HTML at 200",
    FileGone "file-gone" "the last file is answered 404",
    StorageDown "storage-down" "the host of the last file does not answer",
    ExpiresPast "expires-past" "Expires lies in the past; links work after a second look at the manifest",
    LineBlank "line-blank" "blank lines between the resources",
    LineCrlf "line-crlf" "lines end with CR and LF",
    LineBom "line-bom" "a byte order mark in front",
    LineOpen "line-open" "the last line has no end",
    LineHalf "line-half" "the last line is half a resource",
    LineTwice "line-twice" "a resource is there twice",
    LineType "line-type" "a resource of another type",
    LineNoId "line-no-id" "a resource without id",
    LineUtf8 "line-utf8" "a line that is no UTF-8",
    LineLong "line-long" "a line of 200 MB",
    LineDeep "line-deep" "100,000 arrays within each other",
    Delete404 "delete-404" "DELETE is answered 404",
    Delete200 "delete-200" "DELETE is answered 200",
}

impl FromStr for Trap {
    type Err = String;

    /// By its name.
    fn from_str(text: &str) -> Result<Trap, String> {
        if let Some((trap, _, _)) = TRAPS.iter().find(|(_, name, _)| *name == text) {
            return Ok(*trap);
        }
        Err(match nearest(text, TRAPS.iter().map(|(_, name, _)| *name)) {
            Some(near) => format!("no such trap: {text}; did you mean {near}?"),
            None => format!("no such trap: {text}; sandbox --help lists them"),
        })
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = TRAPS.iter().find(|(trap, _, _)| trap == self);
        f.write_str(row.map_or("", |(_, name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trap_is_found_by_its_name_and_a_misspelt_one_is_guessed() {
        for (trap, name, _) in TRAPS {
            assert_eq!(name.parse(), Ok(*trap));
            assert_eq!(trap.to_string(), *name);
        }
        assert!("file-cutt".parse::<Trap>().unwrap_err().contains("did you mean file-cut?"));
    }
}
