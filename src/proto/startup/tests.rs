//! Packets, violations, and every state × event of the machine.

use proptest::prelude::*;

use super::*;

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
const CANCEL_REQUEST: [u8; 16] = [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 7, 1, 2, 3, 4];

fn packet(major: u16, minor: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &major.to_be_bytes(), &minor.to_be_bytes(), body].concat()
}

fn startup_bytes(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in parameters {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    packet(3, minor, &body)
}

fn accepted(parameters: &[(&str, &str)]) -> StartupPacket {
    match parse(&startup_bytes(0, parameters)) {
        Ok(FirstPacket::Startup(startup)) => startup,
        other => panic!("{other:?}"),
    }
}

fn refused(packet: &[u8]) -> Violation {
    parse(packet).expect_err("a violation")
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn length_is_known_after_four_bytes_and_never_trusted() {
    assert_eq!(packet_length(&[0, 0, 0]), Ok(None));
    assert_eq!(packet_length(&[0, 0, 0, 8]), Ok(Some(8)));
    assert_eq!(packet_length(&10_000_u32.to_be_bytes()), Ok(Some(10_000)));
    for impossible in [0, 7, 10_001, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0x1603_0100] {
        assert_eq!(packet_length(&impossible.to_be_bytes()), Err(Violation::Length), "{impossible}");
    }
}

#[test]
fn packet_of_another_length_than_it_says_is_refused() {
    assert_eq!(refused(&SSL_REQUEST[..7]), Violation::Length);
    assert_eq!(refused(&[&SSL_REQUEST[..], &[0]].concat()), Violation::Length);
    assert_eq!(refused(&packet(1234, 5679, &[0])), Violation::Length);
    assert_eq!(refused(&packet(1234, 5680, &[0])), Violation::Length);
    assert_eq!(refused(&[]), Violation::Length);
}

#[test]
fn requests() {
    assert_eq!(parse(&SSL_REQUEST), Ok(FirstPacket::SslRequest));
    assert_eq!(parse(&GSSENC_REQUEST), Ok(FirstPacket::GssEncRequest));
    let cancel = FirstPacket::CancelRequest { process_id: 7, secret: &[1, 2, 3, 4] };
    assert_eq!(parse(&CANCEL_REQUEST), Ok(cancel));
}

#[test]
fn cancel_keys_have_4_to_256_bytes() {
    for (length, good) in [(0, false), (3, false), (4, true), (32, true), (256, true), (257, false)] {
        let bytes = packet(1234, 5678, &[&[0, 0, 0, 1][..], &vec![9; length]].concat());
        assert_eq!(parse(&bytes).is_ok(), good, "{length}");
    }
    assert_eq!(refused(&packet(1234, 5678, &[0, 0])), Violation::CancelKeyLength);
}

#[test]
fn startup_with_everything() {
    let startup = accepted(&[
        ("user", "u"),
        ("database", "d"),
        ("application_name", "app"),
        ("options", r"-c work_mem=1MB --search-path=a,\ b"),
        ("TimeZone", "UTC"),
        ("replication", "database"),
        ("_pq_.wish", "1"),
    ]);
    assert_eq!((startup.user.as_str(), startup.database.as_str()), ("u", "d"));
    let expected =
        [("work_mem", "1MB"), ("search_path", "a, b"), ("application_name", "app"), ("TimeZone", "UTC")];
    assert_eq!(startup.parameters, pairs(&expected));
    assert_eq!(startup.replication.as_deref(), Some("database"));
    assert_eq!(startup.unsupported_protocol_options, ["_pq_.wish"]);
}

#[test]
fn missing_or_empty_database_is_the_user() {
    assert_eq!(accepted(&[("user", "u")]).database, "u");
    assert_eq!(accepted(&[("database", ""), ("user", "u")]).database, "u");
}

#[test]
fn later_settings_win_and_options_lose() {
    let startup = accepted(&[
        ("user", "first"),
        ("TimeZone", "A"),
        ("options", "-c timezone=B -c x.y=1 -c X.Y=2"),
        ("timezone", "C"),
        ("user", "u"),
    ]);
    assert_eq!(startup.user, "u");
    assert_eq!(startup.parameters, pairs(&[("timezone", "C"), ("x.y", "2")]));
}

#[test]
fn replication_is_a_boolean_or_database() {
    for (value, wanted) in
        [("true", true), ("on", true), ("1", true), ("T", true), ("off", false), ("0", false)]
    {
        let startup = accepted(&[("user", "u"), ("replication", value)]);
        assert_eq!(startup.replication.is_some(), wanted, "{value}");
    }
    for value in ["", "o", "maybe", "2"] {
        let violation = refused(&startup_bytes(0, &[("user", "u"), ("replication", value)]));
        assert_eq!(violation, Violation::Replication(value.to_owned()));
    }
}

#[test]
fn bad_startups() {
    assert_eq!(refused(&startup_bytes(0, &[])), Violation::NoUser);
    assert_eq!(refused(&startup_bytes(0, &[("user", "")])), Violation::NoUser);
    for body in [&b""[..], b"user", b"user\0", b"user\0u\0", b"user\0u", b"user\0u\0\0\0", b"user\0u\0\0x"] {
        assert_eq!(refused(&packet(3, 0, body)), Violation::Layout, "{body:?}");
    }
    assert_eq!(refused(&packet(3, 0, b"user\0\xff\0\0")), Violation::NotUtf8);
    let old = refused(&packet(2, 0, b"whatever"));
    assert_eq!(old.report().message, "unsupported frontend protocol 2.0: server supports 3.0 to 3.2");
}

/// One row for each violation: the client's view of it.
#[test]
fn every_violation_has_its_sqlstate() {
    let table = [
        (Violation::Length, "08P01", "invalid length of startup packet"),
        (Violation::CancelKeyLength, "08P01", "invalid length of cancel key in cancel request packet"),
        (
            Violation::Protocol { major: 4, minor: 1 },
            "0A000",
            "unsupported frontend protocol 4.1: server supports 3.0 to 3.2",
        ),
        (Violation::Layout, "08P01", "invalid startup packet layout: expected terminator as last byte"),
        (Violation::NotUtf8, "08P01", "startup packet contains text that is not valid UTF-8"),
        (Violation::NoUser, "28000", "no PostgreSQL user name specified in startup packet"),
        (Violation::Replication("x".into()), "22023", "invalid value for parameter \"replication\": \"x\""),
        (Violation::Switch("-e".into()), "42601", "invalid command-line argument for server process: -e"),
        (Violation::SettingWithoutValue("-c a".into()), "42601", "-c a requires a value"),
        (Violation::RepeatedRequest, "08P01", "unexpected request for encryption"),
        (Violation::PlainTextBehindSslRequest, "08P01", "received unencrypted data after SSL request"),
        (
            Violation::PlainTextBehindGssEncRequest,
            "08P01",
            "received unencrypted data after GSSAPI encryption request",
        ),
        (Violation::TlsRequired, "28000", "connection must be encrypted with TLS"),
        (Violation::OutOfTurn, "08P01", "unexpected packet during startup"),
    ];
    for (violation, sqlstate, message) in table {
        let report = violation.report();
        assert_eq!((report.sqlstate.as_ref(), report.message.as_ref()), (sqlstate, message));
        assert_eq!(report.severity, messages::Severity::Fatal);
    }
}

#[test]
fn versions_are_negotiated_as_postgresql_does() {
    let reply = |minor, parameters: &[(&str, &str)]| {
        let bytes = startup_bytes(minor, parameters);
        let mut machine = Startup::new(ClientTlsMode::Prefer, Transport::Tcp);
        match machine.handle(Event::Packet { bytes: &bytes, buffered: 0 }) {
            Action::Accept { startup, reply } => (startup.served_minor(), reply),
            other => panic!("{other:?}"),
        }
    };
    let user = ("user", "u");
    for (minor, served) in [(0, 0), (1, 0), (2, 2)] {
        assert_eq!(reply(minor, &[user]), (served, vec![]));
    }
    assert_eq!(reply(9999, &[user]), (2, b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0".to_vec()));
    for minor in [0, 1] {
        let unknown = reply(minor, &[user, ("_pq_.a", "")]);
        assert_eq!(unknown, (0, b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.a\0".to_vec()));
    }
}

#[test]
fn whether_plain_text_is_let_in_depends_on_mode_and_transport() {
    let bytes = startup_bytes(0, &[("user", "u")]);
    let table = [
        (ClientTlsMode::Disable, Transport::Tcp, true),
        (ClientTlsMode::Prefer, Transport::Tcp, true),
        (ClientTlsMode::Require, Transport::Tcp, false),
        (ClientTlsMode::Require, Transport::Unix, true),
    ];
    for (mode, transport, good) in table {
        let action = Startup::new(mode, transport).handle(Event::Packet { bytes: &bytes, buffered: 0 });
        assert_eq!(matches!(action, Action::Accept { .. }), good, "{mode:?} {transport:?}");
        let refused = action == Action::Refuse(Violation::TlsRequired);
        assert_eq!(refused, !good, "{mode:?} {transport:?}");
    }
}

#[test]
fn tls_is_only_offered_where_it_is_served() {
    let table = [
        (ClientTlsMode::Disable, Transport::Tcp, Action::Deny),
        (ClientTlsMode::Prefer, Transport::Tcp, Action::StartTls),
        (ClientTlsMode::Require, Transport::Tcp, Action::StartTls),
        (ClientTlsMode::Prefer, Transport::Unix, Action::Deny),
    ];
    for (mode, transport, expected) in table {
        let mut machine = Startup::new(mode, transport);
        assert_eq!(machine.handle(Event::Packet { bytes: &SSL_REQUEST, buffered: 0 }), expected);
    }
}

/// Rows are states, columns events; a change of any cell has to be meant.
#[test]
fn every_state_and_event() {
    let startup = startup_bytes(0, &[("user", "u")]);
    let request = |bytes, buffered| Event::Packet { bytes, buffered };
    let (ssl, gssenc) = (request(&SSL_REQUEST, 0), request(&GSSENC_REQUEST, 0));
    let states: [(&str, ClientTlsMode, &[Event<'_>]); 7] = [
        ("fresh", ClientTlsMode::Require, &[]),
        ("gssenc denied", ClientTlsMode::Require, &[gssenc]),
        ("ssl denied", ClientTlsMode::Disable, &[ssl]),
        ("both denied", ClientTlsMode::Disable, &[gssenc, ssl]),
        ("handshake", ClientTlsMode::Require, &[ssl]),
        ("encrypted", ClientTlsMode::Require, &[ssl, Event::TlsUp]),
        ("done", ClientTlsMode::Disable, &[request(&CANCEL_REQUEST, 0)]),
    ];
    let events = [
        ssl,
        request(&SSL_REQUEST, 1),
        gssenc,
        request(&GSSENC_REQUEST, 1),
        request(&CANCEL_REQUEST, 0),
        request(&startup, 0),
        request(b"GET ", 0),
        Event::TlsUp,
    ];
    let mut table = String::from("\n");
    for (name, mode, before) in states {
        let cells = events.map(|event| {
            let mut machine = Startup::new(mode, Transport::Tcp);
            for earlier in before {
                machine.handle(*earlier);
            }
            let action = format!("{:?}", machine.handle(event));
            action.split([' ', '{']).next().unwrap_or_default().to_owned()
        });
        table += &format!("{name}: {}\n", cells.join(", "));
    }
    assert_eq!(table, STATES_AND_EVENTS);
}

/// Columns: SSLRequest, the same with bytes behind it, GSSENCRequest, the same with bytes behind it, CancelRequest,
/// StartupMessage, nonsense, TLS is up.
const STATES_AND_EVENTS: &str = "
fresh: StartTls, Refuse(PlainTextBehindSslRequest), Deny, Refuse(PlainTextBehindGssEncRequest), Cancel, Refuse(TlsRequired), Refuse(Length), Refuse(OutOfTurn)
gssenc denied: StartTls, Refuse(PlainTextBehindSslRequest), Refuse(RepeatedRequest), Refuse(RepeatedRequest), Cancel, Refuse(TlsRequired), Refuse(Length), Refuse(OutOfTurn)
ssl denied: Refuse(RepeatedRequest), Refuse(RepeatedRequest), Deny, Refuse(PlainTextBehindGssEncRequest), Cancel, Accept, Refuse(Length), Refuse(OutOfTurn)
both denied: Refuse(RepeatedRequest), Refuse(RepeatedRequest), Refuse(RepeatedRequest), Refuse(RepeatedRequest), Cancel, Accept, Refuse(Length), Refuse(OutOfTurn)
handshake: Refuse(OutOfTurn), Refuse(OutOfTurn), Refuse(OutOfTurn), Refuse(OutOfTurn), Refuse(OutOfTurn), Refuse(OutOfTurn), Refuse(OutOfTurn), Read
encrypted: Refuse(RepeatedRequest), Refuse(RepeatedRequest), Refuse(RepeatedRequest), Refuse(RepeatedRequest), Cancel, Accept, Refuse(Length), Refuse(OutOfTurn)
done: Refuse(OutOfTurn), Refuse(OutOfTurn), Refuse(OutOfTurn), Refuse(OutOfTurn), Refuse(OutOfTurn), Refuse(OutOfTurn), Refuse(OutOfTurn), Refuse(OutOfTurn)
";

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = packet_length(&bytes);
        let _ = parse(&bytes);
        let _ = parse(&packet(3, 0, &bytes));
        let _ = parse(&packet(1234, 5678, &bytes));
    }

    #[test]
    fn no_options_panic(options in "[-c= \\\\a\\PC]{0,40}") {
        let _ = parse(&startup_bytes(0, &[("user", "u"), ("options", &options)]));
    }

    #[test]
    fn escaped_values_come_back(value in "[^\\x00]{0,40}") {
        let escaped: String = value.chars().flat_map(|character| ['\\', character]).collect();
        let startup = accepted(&[("user", "u"), ("options", &format!("-c x.y={escaped}"))]);
        prop_assert_eq!(startup.parameters, pairs(&[("x.y", &value)]));
    }
}
