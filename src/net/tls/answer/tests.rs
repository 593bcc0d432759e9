use proptest::prelude::*;

use super::*;

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 3, 3];
    record.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    record.extend_from_slice(body);
    record
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    message.extend_from_slice(body);
    message
}

fn server_hello(version: u16, random: [u8; 32], suite: u16, extensions: &[u8]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend_from_slice(&random);
    body.push(0);
    body.extend_from_slice(&suite.to_be_bytes());
    body.push(0);
    if !extensions.is_empty() {
        body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend_from_slice(extensions);
    }
    message(2, &body)
}

fn chain(certificates: usize, size: usize) -> Vec<u8> {
    let mut list = Vec::new();
    for _ in 0..certificates {
        list.extend_from_slice(&u32::try_from(size).unwrap().to_be_bytes()[1..]);
        list.extend(std::iter::repeat_n(0x30, size));
    }
    let mut body = u32::try_from(list.len()).unwrap().to_be_bytes()[1..].to_vec();
    body.extend_from_slice(&list);
    message(11, &body)
}

/// Messages in records that are as long as they may be.
fn records(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.concat().chunks(16_384).flat_map(|part| record(22, part)).collect()
}

fn read(bytes: &[u8]) -> Answer {
    let mut parser = Parser::default();
    for part in bytes.chunks(1000) {
        if !parser.push(part) {
            break;
        }
    }
    parser.finish(Trouble::Closed)
}

#[test]
fn a_whole_flight_is_read_in_pieces_of_any_size() {
    let mut prime = vec![0, 129, 0];
    prime.extend([0xff; 128]);
    prime.extend([0, 1, 2, 0, 1, 3, 0, 0]);
    let extensions = [
        &[0xff, 1, 0, 1, 0][..],
        &[0, 23, 0, 0],
        &[0, 35, 0, 0],
        &[0, 16, 0, 5, 0, 3, 2, b'h', b'2'],
    ]
    .concat();
    let flight = records(&[
        server_hello(0x0303, [1; 32], 0x009e, &extensions),
        chain(2, 300),
        message(22, &[1, 0, 0, 2, 7, 7]),
        message(12, &prime),
        message(13, &[1, 1, 0, 2, 4, 1, 0, 4, 0, 2, 0x30, 0]),
        message(14, &[]),
    ]);
    for size in [1, 3, 7, 100, flight.len()] {
        let mut parser = Parser::default();
        let mut wanted = true;
        for part in flight.chunks(size) {
            assert!(wanted);
            wanted = parser.push(part);
        }
        assert!(!wanted);
        let answer = parser.finish(Trouble::Closed);
        let hello = answer.hello.unwrap();
        assert_eq!((hello.version, hello.suite), (0x0303, 0x009e));
        assert!(hello.ticket && hello.renegotiation && hello.extended_master_secret);
        assert_eq!(hello.alpn.as_deref(), Some("h2"));
        assert_eq!(answer.chain.len(), 2);
        assert_eq!(answer.exchange, Some(KeyExchange::Prime(1024)));
        assert_eq!(answer.demand.unwrap().authorities, [vec![0x30, 0]]);
        assert_eq!(answer.staple, Some(vec![7, 7]));
        assert!(answer.done && answer.trouble.is_none());
    }
}

#[test]
fn a_request_for_another_hello_names_version_suite_and_group() {
    let extensions = [0, 43, 0, 2, 3, 4, 0, 51, 0, 2, 0, 0x1d];
    let answer = read(&records(&[server_hello(0x0303, RETRY, 0x1301, &extensions)]));
    let hello = answer.hello.unwrap();
    assert_eq!((hello.version, hello.suite, hello.group), (0x0304, 0x1301, Some(0x1d)));
    assert!(answer.done);
}

#[test]
fn what_is_no_answer_says_why() {
    let hello = server_hello(0x0303, [1; 32], 0xc02f, &[]);
    for (bytes, trouble) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Trouble::Garbage),
        (b"SSH-2.0-OpenSSH_9".to_vec(), Trouble::Garbage),
        (vec![22], Trouble::Closed),
        (vec![], Trouble::Closed),
        (vec![22, 3, 3, 0xff, 0xff], Trouble::Malformed),
        (record(23, b"too early"), Trouble::Malformed),
        (records(&[chain(1, 10)]), Trouble::Malformed),
        (records(&[hello.clone(), message(11, &[0, 0, 9, 0])]), Trouble::Malformed),
        (records(&[hello.clone(), message(99, &[])]), Trouble::Malformed),
        (records(&[message(2, &[3, 3, 1])]), Trouble::Malformed),
        (records(&[hello.clone(), chain(1, 400_000)]), Trouble::TooMuch),
        (records(&[hello.clone(), vec![11, 0xff, 0xff, 0xff]]), Trouble::TooMuch),
        (records(&[hello]), Trouble::Closed),
    ] {
        let answer = read(&bytes);
        assert_eq!(answer.trouble, Some(trouble), "{:?}", &bytes[..bytes.len().min(40)]);
        assert!(!answer.done);
    }
}

#[test]
fn an_alert_ends_it() {
    let answer = read(&record(21, &[2, 70]));
    assert_eq!((answer.alert, answer.trouble), (Some(70), None));
}

#[test]
fn no_more_certificates_are_kept_than_the_bound() {
    let hello = server_hello(0x0303, [1; 32], 0xc02f, &[]);
    let answer = read(&records(&[hello, chain(200, 500), message(14, &[])]));
    assert_eq!(answer.chain.len(), CERTIFICATES);
    assert!(answer.chain_cut && answer.done);
}

proptest! {
    #[test]
    fn nothing_that_comes_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes);
        read(&record(22, &bytes));
        let hello = server_hello(0x0303, [1; 32], 0x009e, &[]);
        for kind in [11, 12, 13, 22] {
            read(&records(&[hello.clone(), message(kind, &bytes)]));
        }
        read(&record(22, &message(2, &bytes)));
    }
}
