use super::*;

fn put(path: &Path, lines: &[&str]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

fn patient(id: &str, more: &str) -> String {
    format!("{{\"resourceType\":\"Patient\",\"id\":\"{id}\"{more}}}")
}

#[test]
fn changes_replace_deletions_take_out_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let full = Pending { number: 1, since: None };
    let (a, b, c) = (patient("a", ""), patient("b", ""), patient("c", ""));
    put(&run_folder(folder, 1).join("Patient.001.ndjson"), &[&a, &b]);
    put(&run_folder(folder, 1).join("Patient.002.ndjson"), &[&c]);
    put(
        &run_folder(folder, 1).join("Basic.001.ndjson"),
        &["{\"resourceType\":\"Basic\",\"id\":\"a\"}"],
    );
    let applied = apply(folder, &full).unwrap();
    assert_eq!((applied.received, applied.counts["Patient"]), (4, 3));

    let next = Pending { number: 2, since: Some("2026-01-01T00:00:00Z".into()) };
    let newer = patient("a", ",\"active\":true");
    put(&run_folder(folder, 2).join("Patient.001.ndjson"), &[&newer, &patient("d", "")]);
    put(
        &run_folder(folder, 2).join("deleted/Bundle.001.ndjson"),
        &[
            "{\"resourceType\":\"Bundle\",\"entry\":[{\"request\":{\"method\":\"DELETE\",\"url\":\"Patient/b\"}},{\"request\":{\"method\":\"DELETE\",\"url\":\"Basic/a\"}}]}",
        ],
    );
    let applied = apply(folder, &next).unwrap();
    assert_eq!((applied.received, applied.deleted), (2, 2));
    let text = std::fs::read_to_string(folder.join("current/Patient.ndjson")).unwrap();
    assert_eq!(text, format!("{c}\n{newer}\n{}\n", patient("d", "")));
    assert!(!folder.join("current/Basic.ndjson").exists());
    // Once more, as after a crash before the book was written: nothing changes.
    let again = apply(folder, &next).unwrap();
    assert_eq!(again.counts, applied.counts);
    // The state before is whole still.
    let old = std::fs::read_to_string(folder.join("states/000001/Patient.ndjson")).unwrap();
    assert_eq!(old.lines().count(), 3);
}

#[test]
fn the_watermark_moves_with_a_run_that_ended_and_not_before() {
    let scope = ExportRequest::new(super::super::request::Level::Patient);
    let dir = tempfile::tempdir().unwrap();
    let mut book = Book::open(dir.path(), "a", "https://h", &scope).unwrap();
    assert_eq!(book.next(false), Pending { number: 1, since: None });
    book.write(dir.path()).unwrap();
    let mut book = Book::open(dir.path(), "a", "https://h", &scope).unwrap();
    assert_eq!(book.next(true).number, 1);
    book.close(Run {
        number: 1,
        since: None,
        transaction_time: Some("2026-01-01T00:00:00Z".into()),
        finished_at: Timestamp::UNIX_EPOCH,
        received: 1,
        deleted: 0,
        resources: 1,
    });
    let next = book.next(false);
    assert_eq!((next.number, next.since.as_deref()), (2, Some("2026-01-01T00:00:00Z")));
    // One that failed for good is not gone on with.
    book.pending = None;
    assert_eq!(book.next(true), Pending { number: 3, since: None });
    book.write(dir.path()).unwrap();
    assert!(Book::open(dir.path(), "b", "https://h", &scope).is_err());
}
