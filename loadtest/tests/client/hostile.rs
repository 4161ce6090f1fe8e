//! Servers that close, lie and babble: every one of them is a failure, none a panic or a hang.

use crate::stub::{LOGIN, REPLY, Seen, Stub, message};
use crate::support::{connect, ends};
use loadtest::client::{Failure, Reply};
use loadtest::plan::{End, Protocol};

/// So that the server is asked for nothing else first.
const PLAIN: &str = "sslmode=disable";

/// Logs in, runs a statement; either may be nothing.
async fn reply_to(login: &[u8], reply: &[u8], protocol: Protocol) -> Result<Reply, Failure> {
    let stub = Stub::new().await;
    let dsn = stub.dsn(PLAIN);
    let sayings = [login, reply].into_iter().filter(|saying| !saying.is_empty());
    stub.say(sayings.map(<[u8]>::to_vec).collect());
    let mut session = connect(&dsn).await?;
    let result = ends(session.run("select 1", protocol)).await;
    assert_eq!(session.is_usable(), result.is_ok(), "{result:?}");
    result
}

#[tokio::test]
async fn an_honest_stub_is_believed() {
    let reply = reply_to(LOGIN, REPLY, Protocol::Simple).await.unwrap();
    assert_eq!(reply, Reply { rows: 1, bytes: REPLY.len() as u64, completed: 1 });
}

#[tokio::test]
async fn a_close_after_every_byte_is_a_lost_connection() {
    for cut in 0..LOGIN.len() {
        let failure = reply_to(&LOGIN[..cut], b"", Protocol::Simple).await.unwrap_err();
        assert!(matches!(failure, Failure::Connection(_)), "{cut}: {failure}");
    }
    for cut in 0..REPLY.len() {
        let failure = reply_to(LOGIN, &REPLY[..cut], Protocol::Simple).await.unwrap_err();
        assert!(matches!(failure, Failure::Connection(_)), "{cut}: {failure}");
    }
}

#[tokio::test]
async fn every_byte_can_be_wrong() {
    for wrong in [0, 1, 0x7f, 0xff] {
        for place in 0..LOGIN.len() {
            let mut login = LOGIN.to_vec();
            login[place] = wrong;
            let _ = reply_to(&login, b"", Protocol::Extended).await;
        }
        for place in 0..REPLY.len() {
            let mut reply = REPLY.to_vec();
            reply[place] = wrong;
            let _ = reply_to(LOGIN, &reply, Protocol::Prepared).await;
        }
    }
}

#[tokio::test]
async fn what_no_server_says_is_not_the_protocol() {
    let logins: [(&str, &[u8]); 9] = [
        ("a web server", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("a length below four", b"R\0\0\0\x03"),
        ("a negative length", b"S\xff\xff\xff\xff"),
        ("a huge Authentication", b"R\x7f\xff\xff\xff\0\0\0\0"),
        ("ready before it knows us", b"Z\0\0\0\x05I"),
        ("Kerberos", b"R\0\0\0\x08\0\0\0\x02"),
        ("SASL without SCRAM", b"R\0\0\0\x0d\0\0\0\x0aNTLM\0"),
        ("SCRAM out of turn", b"R\0\0\0\x0c\0\0\0\x0cv=xx"),
        ("rows", b"D\0\0\0\x06\0\0"),
    ];
    for (name, login) in logins {
        let failure = reply_to(login, b"", Protocol::Simple).await.unwrap_err();
        assert!(matches!(failure, Failure::Protocol(_)), "{name}: {failure}");
    }
    let replies: [(&str, &[u8]); 7] = [
        ("nothing answered", b"Z\0\0\0\x05I"),
        ("an unknown status", b"C\0\0\0\x04Z\0\0\0\x05Q"),
        ("a ReadyForQuery that is too long", b"C\0\0\0\x04Z\0\0\0\x06II"),
        ("another login", LOGIN),
        ("a length below four", b"D\0\0\0\0"),
        ("an unknown kind", b"?\0\0\0\x04"),
        ("replication", b"W\0\0\0\x07\0\0\0"),
    ];
    for (name, reply) in replies {
        let failure = reply_to(LOGIN, reply, Protocol::Extended).await.unwrap_err();
        assert!(matches!(failure, Failure::Protocol(_)), "{name}: {failure}");
    }
}

/// It must not let a server in that never proved to know the password.
#[tokio::test]
async fn a_login_cannot_be_cut_short_in_the_middle_of_scram() {
    let stub = Stub::new().await;
    let dsn = stub.dsn(PLAIN);
    stub.say(vec![message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"), LOGIN.to_vec()]);
    let failure = connect(&dsn).await.unwrap_err();
    assert!(matches!(failure, Failure::Protocol(_)), "{failure}");
}

#[tokio::test]
async fn a_long_row_is_passed_over() {
    let row = 32 * 1024 * 1024;
    let reply = [&message(b'D', &vec![b'Z'; row]), REPLY].concat();
    let bytes = reply.len() as u64;
    let heard = reply_to(LOGIN, &reply, Protocol::Simple).await.unwrap();
    assert_eq!(heard, Reply { rows: 2, bytes, completed: 1 });
}

#[tokio::test]
async fn an_error_says_more_than_the_close_behind_it() {
    let error = message(b'E', b"SERROR\0C53300\0Mfull\0Dreason=queue_full\0\0");
    let failure = reply_to(LOGIN, &error, Protocol::Simple).await.unwrap_err();
    assert_eq!((failure.sqlstate(), failure.reason()), (Some("53300"), "queue_full"));
    let failure = reply_to(&error, b"", Protocol::Simple).await.unwrap_err();
    assert_eq!((failure.sqlstate(), failure.reason()), (Some("53300"), "queue_full"));
}

#[tokio::test]
async fn answers_to_a_request_for_tls() {
    for (mode, answer, connects) in [
        ("prefer", &b"N"[..], true),
        ("require", b"N", false),
        ("prefer", b"x", false),
        ("require", b"R", false),
    ] {
        let stub = Stub::new().await;
        let dsn = stub.dsn(&format!("sslmode={mode}"));
        stub.say(vec![answer.to_vec(), LOGIN.to_vec()]);
        let result = connect(&dsn).await;
        assert_eq!(result.is_ok(), connects, "{mode} {answer:?}: {result:?}");
    }
    let stub = Stub::new().await;
    let dsn = stub.dsn("sslmode=require");
    stub.say(vec![message(b'E', b"SFATAL\0C53300\0Mfull\0\0")]);
    assert_eq!(connect(&dsn).await.unwrap_err().sqlstate(), Some("53300"));
    let stub = Stub::new().await;
    let dsn = stub.dsn("sslmode=require");
    stub.say(vec![b"Sthis is not TLS".to_vec()]);
    assert!(matches!(connect(&dsn).await, Err(Failure::Connection(_))));
}

/// What a server sees of each way to leave.
#[tokio::test]
async fn ends_look_on_the_wire_as_they_are_called() {
    let query = b"Q\0\0\0\x0dselect 1\0";
    let goodbye = b"X\0\0\0\x04";
    for in_flight in [false, true] {
        for how in [End::Terminate, End::Fin, End::Rst] {
            let stub = Stub::new().await;
            let dsn = stub.dsn(PLAIN);
            let server = stub.say_and_wait(vec![LOGIN.to_vec()]);
            let mut session = connect(&dsn).await.unwrap();
            if in_flight {
                session.send("select 1", Protocol::Simple).await.unwrap();
            }
            ends(session.end(how)).await;
            let mut bytes = if in_flight { query.to_vec() } else { Vec::new() };
            if how == End::Terminate {
                bytes.extend(goodbye);
            }
            let expected = if how == End::Rst { Seen::Reset } else { Seen::Closed(bytes) };
            assert_eq!(ends(server).await.unwrap(), expected, "{how:?}, in flight: {in_flight}");
        }
    }
}

/// Its buffers are full; nobody wants to wait for that.
#[tokio::test]
async fn nobody_waits_to_say_good_bye_to_a_server_that_does_not_read() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(LOGIN).unwrap();
        stream
    });
    let mut session = connect(&format!("host=127.0.0.1 port={port} user=u {PLAIN}")).await.unwrap();
    let _stream = server.join().unwrap();
    let sql = "x".repeat(64 * 1024 * 1024);
    let sending = session.send(&sql, Protocol::Simple);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), sending).await.is_err());
    ends(session.end(End::Terminate)).await;
}
