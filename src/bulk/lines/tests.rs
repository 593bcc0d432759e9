use super::*;
use crate::bulk::ids::IdFile;

/// Feeds a content in pieces of every size up to some: what is seen may not depend on them.
fn judge(kind: Kind, expected_type: &str, content: &[u8], count: Option<u64>) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let ids = IdFile::open(dir.path()).unwrap();
    let mut seen: Option<Seen> = None;
    for size in [content.len().max(1), 1, 7] {
        let mut lines = Lines::new(kind, expected_type, false, 1024 * 1024, ids.of(1, 1));
        for piece in content.chunks(size) {
            lines.feed(piece).unwrap();
        }
        let now = lines.finish(count).unwrap();
        assert!(seen.as_ref().is_none_or(|seen| *seen == now), "pieces of {size}");
        seen = Some(now);
    }
    seen.unwrap()
}

fn found(seen: &Seen) -> Vec<(u64, &str, &str)> {
    seen.findings
        .iter()
        .map(|it| (it.line.unwrap_or(0), it.code.as_str(), it.message.as_str()))
        .collect()
}

#[test]
fn good_lines_are_counted_with_and_without_a_last_newline() {
    let content = b"{\"resourceType\":\"Patient\",\"id\":\"a\"}\n{\"id\":\"b\",\"name\":[{\"given\":[\"x\"]}],\"resourceType\":\"Patient\"}";
    for content in [content.to_vec(), [&content[..], b"\n"].concat()] {
        let seen = judge(Kind::Output, "Patient", &content, Some(2));
        assert_eq!((seen.lines, seen.found), (2, 0), "{:?}", seen.findings);
    }
}

#[test]
fn what_is_wrong_with_a_line_is_told_with_its_number() {
    let mut content = b"\xef\xbb\xbf{\"resourceType\":\"Patient\",\"id\":\"a\"}\r\n\n".to_vec();
    content.extend_from_slice(b"{\"resourceType\":\"Observation\",\"id\":\"b\"}\n");
    content.extend_from_slice(b"{\"resourceType\":\"Patient\",\"id\":\"c\"\n");
    content.extend_from_slice(b"{\"resourceType\":\"Patient\",\"id\":\"\xff\"}\n");
    content.extend_from_slice(b"{\"resourceType\":\"Patient\"}\n{\"id\":\"x\"}\n[1]\n<html>\n");
    content.extend_from_slice(b"{\"resourceType\":\"Patient\",\"id\":7}\n");
    content.extend_from_slice(b"{\"resourceType\":\"Patient\",\"id\":\"a b\"}");
    let seen = judge(Kind::Output, "Patient", &content, Some(4));
    assert_eq!(
        found(&seen),
        [
            (1, "bulk.odd_line", "the file begins with a byte order mark"),
            (2, "bulk.odd_line", "the line is blank"),
            (3, "bulk.wrong_type", "Observation in a file of Patient"),
            (4, "bulk.bad_line", "the line ends in the middle of a JSON object (column 34)"),
            (5, "bulk.bad_line", "the line is not UTF-8"),
            (6, "bulk.bad_line", "the resource has no id"),
            (7, "bulk.bad_line", "the line has no resourceType"),
            (8, "bulk.bad_line", "the line is not a JSON object (column 1)"),
            (9, "bulk.bad_line", "the line is not a JSON object (column 1)"),
            (10, "bulk.bad_line", "the resource has no id"),
            (11, "bulk.bad_line", "the resource's id is no FHIR id"),
            (0, "bulk.count_mismatch", "the manifest counts 4 resources, 5 are there"),
        ]
    );
}

#[test]
fn a_line_without_end_and_one_without_bottom_are_bad_and_the_rest_goes_on() {
    let mut content = vec![b'x'; 3 * 1024 * 1024];
    content.extend_from_slice(b"\n{\"resourceType\":\"Patient\",\"id\":\"a\",\"extension\":");
    content.extend(std::iter::repeat_n(b'[', 200_000));
    content.extend(std::iter::repeat_n(b']', 200_000));
    content.extend_from_slice(b"}\n");
    let dir = tempfile::tempdir().unwrap();
    let ids = IdFile::open(dir.path()).unwrap();
    let mut lines = Lines::new(Kind::Output, "Patient", false, 1024 * 1024, ids.of(1, 1));
    for piece in content.chunks(8192) {
        lines.feed(piece).unwrap();
        assert!(lines.rest.len() <= 1024 * 1024);
    }
    let seen = lines.finish(None).unwrap();
    assert_eq!(found(&seen), [(1, "bulk.bad_line", "the line is longer than 1 MiB")]);
    assert_eq!(seen.lines, 1);
}

#[test]
fn headers_of_organised_files_are_no_data() {
    let dir = tempfile::tempdir().unwrap();
    let ids = IdFile::open(dir.path()).unwrap();
    let mut lines = Lines::new(Kind::Output, "", true, 1024, ids.of(1, 1));
    lines
        .feed(b"{\"resourceType\":\"Parameters\",\"parameter\":[]}\n{\"resourceType\":\"Patient\",\"id\":\"a\"}\n{\"resourceType\":\"Observation\",\"id\":\"a\"}\n")
        .unwrap();
    let seen = lines.finish(Some(2)).unwrap();
    assert_eq!((seen.lines, seen.found), (2, 0));
}

#[test]
fn outcomes_are_weighed_by_severity() {
    let content = b"{\"resourceType\":\"OperationOutcome\",\"issue\":[{\"severity\":\"information\",\"code\":\"informational\"}]}\n{\"resourceType\":\"OperationOutcome\",\"issue\":[{\"severity\":\"warning\",\"code\":\"processing\"},{\"severity\":\"fatal\",\"code\":\"exception\",\"diagnostics\":\"Jane Doe\"}]}\n";
    let seen = judge(Kind::Error, "OperationOutcome", content, None);
    assert_eq!(seen.issues, Issues { information: 1, warning: 1, error: 1 });
    assert_eq!(
        found(&seen),
        [
            (
                1,
                "bulk.outcome",
                "the server reports an issue of severity information: informational"
            ),
            (2, "bulk.outcome", "the server reports an issue of severity fatal: exception"),
        ]
    );
    assert_eq!(seen.errors, 1);
}

#[test]
fn deletions_are_counted_and_what_is_none_is_told() {
    let content = b"{\"resourceType\":\"Bundle\",\"type\":\"transaction\",\"entry\":[{\"request\":{\"method\":\"DELETE\",\"url\":\"Patient/a\"}},{\"request\":{\"method\":\"DELETE\",\"url\":\"https://h/fhir/Patient/b\"}},{\"request\":{\"method\":\"PUT\",\"url\":\"Patient/c\"}}]}\n";
    let seen = judge(Kind::Deleted, "Bundle", content, None);
    assert_eq!((seen.lines, seen.deletions), (1, 2));
    assert_eq!(
        found(&seen),
        [(1, "bulk.bad_line", "an entry of the Bundle is no deletion of a resource")]
    );
}
