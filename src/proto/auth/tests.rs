//! Whole logins: our two sides against each other, each against a driver's, and every state × message.

use std::sync::Arc;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::*;
use crate::proto::messages::Severity;
use crate::proto::{AuthMethod, UserParams, UserSecret};
use crate::secret::Secret;

const CLIENT_RANDOM: [u8; RANDOM_BYTES] = [1; RANDOM_BYTES];
const SERVER_RANDOM: [u8; RANDOM_BYTES] = [2; RANDOM_BYTES];

fn mock() -> Mock {
    Mock::new([7; 32], std::iter::empty())
}

fn ready(method: AuthMethod, secret: UserSecret) -> ClientSecret {
    let user = UserParams { name: "u".into(), secret: Some(secret), max_clients: None };
    match ClientSecret::prepare(method, &user, [3; SALT_BYTES]) {
        Prepared::Ready(secret) => secret,
        Prepared::Derive(derivation) => ClientSecret::Verifier(derivation.verifier().into()),
    }
}

fn verifier(password: &str, salt: &[u8], iterations: u32) -> ClientSecret {
    ClientSecret::Verifier(Arc::new(Derivation::new(password.as_bytes(), salt, iterations).verifier()))
}

fn start(method: AuthMethod, secret: Option<&ClientSecret>) -> (Vec<u8>, ClientAuth) {
    match ClientAuth::start(method, "u", secret, &mock(), SERVER_RANDOM) {
        ClientStep::Send { message, next } => (message, next),
        other => panic!("{other:?}"),
    }
}

/// Tag and body of each message.
fn split(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut messages = Vec::new();
    while let Some((tag, rest)) = bytes.split_first() {
        let length = u32::from_be_bytes(*rest.first_chunk().unwrap());
        let (message, others) = rest.split_at(usize::try_from(length).unwrap());
        messages.push((*tag, &message[4..]));
        bytes = others;
    }
    messages
}

/// Runs both machines until one of them ends. Ok: both are content.
fn log_in(method: AuthMethod, secret: Option<&ClientSecret>, password: &str) -> Result<(), String> {
    let password = Secret::new(password);
    let mut proxy = ServerAuth::new("u", Some(&password), CLIENT_RANDOM);
    let mut step = ClientAuth::start(method, "u", secret, &mock(), SERVER_RANDOM);
    loop {
        let (message, mut waiting) = match step {
            ClientStep::Derive { derivation, next } => {
                step = next.keys(&derivation.run());
                continue;
            }
            ClientStep::Send { message, next } => (message, Some(next)),
            ClientStep::Accept { message } => (message, None),
            ClientStep::Refuse(refusal) => return Err(format!("{:?}", refusal.cause)),
        };
        let mut answer = None;
        for (tag, body) in split(&message) {
            assert_eq!(tag, b'R');
            let mut reaction = proxy.handle(body);
            if let ServerStep::Derive { derivation, next } = reaction {
                reaction = next.keys(&derivation.run());
            }
            proxy = match reaction {
                ServerStep::Send { message, next } => {
                    answer = Some(message);
                    next
                }
                ServerStep::Read(next) => next,
                ServerStep::Authenticated => {
                    assert!(waiting.is_none(), "authenticated too early");
                    return Ok(());
                }
                other => return Err(format!("{other:?}")),
            };
        }
        let (answer, next) = (answer.expect("an answer"), waiting.take().expect("a machine"));
        let [(tag, body)] = split(&answer)[..] else { panic!("one message") };
        step = next.handle(tag, body);
    }
}

#[test]
fn both_sides_agree_on_every_method_and_secret() {
    let hash = format!("md5{}", String::from_utf8_lossy(Md5Hash::new(b"pw", "u").digits()));
    let scram = Derivation::new(b"pw", &[5; 32], 7).verifier().reveal();
    let plain = || UserSecret::Password(Secret::new("pw"));
    let table = [
        (AuthMethod::Password, plain()),
        (AuthMethod::Password, UserSecret::Md5Hash(Secret::new(hash.as_str()))),
        (AuthMethod::Password, UserSecret::ScramVerifier(Secret::new(scram.as_str()))),
        (AuthMethod::Md5, plain()),
        (AuthMethod::Md5, UserSecret::Md5Hash(Secret::new(hash.as_str()))),
        (AuthMethod::ScramSha256, plain()),
        (AuthMethod::ScramSha256, UserSecret::ScramVerifier(Secret::new(scram.as_str()))),
    ];
    for (method, secret) in table {
        let secret = ready(method, secret);
        assert_eq!(log_in(method, Some(&secret), "pw"), Ok(()), "{method:?} {secret:?}");
        for wrong in ["px", "p", "pww", "PW"] {
            assert_eq!(
                log_in(method, Some(&secret), wrong),
                Err("WrongPassword".into()),
                "{method:?} {secret:?}"
            );
        }
    }
}

#[test]
fn trust_lets_in_who_is_known() {
    assert_eq!(log_in(AuthMethod::Trust, Some(&ClientSecret::Unusable), "pw"), Ok(()));
    let ClientStep::Refuse(refusal) = ClientAuth::start(AuthMethod::Trust, "u", None, &mock(), SERVER_RANDOM)
    else {
        panic!("let in");
    };
    assert_eq!(refusal.cause, RefusalCause::UnknownUser);
    assert_eq!(refusal.report, messages_report("28000", "role \"u\" does not exist"));
}

fn messages_report(sqlstate: &'static str, message: &'static str) -> crate::proto::messages::Report {
    crate::proto::messages::Report::fatal(sqlstate, message)
}

/// Everything that goes over the wire in a failed login, and why it failed.
fn transcript(method: AuthMethod, secret: Option<&ClientSecret>) -> (Vec<Vec<u8>>, RefusalCause) {
    let mut proxy = ServerAuth::new("u", Some(&Secret::new("wrong")), CLIENT_RANDOM);
    let mut sent = Vec::new();
    let mut step = ClientAuth::start(method, "u", secret, &mock(), SERVER_RANDOM);
    loop {
        step = match step {
            ClientStep::Send { message, next } => {
                let mut reaction = proxy.handle(split(&message)[0].1);
                sent.push(message);
                if let ServerStep::Derive { derivation, next } = reaction {
                    reaction = next.keys(&derivation.run());
                }
                let ServerStep::Send { message, next: later } = reaction else { panic!("{reaction:?}") };
                proxy = later;
                next.handle(b'p', split(&message)[0].1)
            }
            ClientStep::Refuse(refusal) => {
                let mut message = Vec::new();
                crate::proto::messages::error_response(&mut message, &refusal.report);
                sent.push(message);
                return (sent, refusal.cause);
            }
            other => panic!("{other:?}"),
        };
    }
}

#[test]
fn unknown_users_look_like_wrong_passwords() {
    for method in [AuthMethod::Password, AuthMethod::Md5, AuthMethod::ScramSha256] {
        let (unknown, cause) = transcript(method, None);
        assert_eq!(cause, RefusalCause::UnknownUser);
        assert_eq!(transcript(method, None).0, unknown, "the same each time");
        let (unusable, cause) = transcript(method, Some(&ClientSecret::Unusable));
        assert_eq!(cause, RefusalCause::NoUsableSecret);
        assert_eq!(unusable, unknown);
        // A known user whose salt happens to be the invented one: not a byte differs.
        let invented = mock().secret(method, "u");
        let known = match (&invented, method) {
            (ClientSecret::Verifier(like), _) => verifier("pw", &like.salt, like.iterations),
            _ => ready(method, UserSecret::Password(Secret::new("pw"))),
        };
        let (wrong, cause) = transcript(method, Some(&known));
        assert_eq!(cause, RefusalCause::WrongPassword);
        assert_eq!(wrong, unknown);
        let error = String::from_utf8_lossy(unknown.last().unwrap()).into_owned();
        assert!(error.contains("C28P01\0Mpassword authentication failed for user \"u\"\0"), "{error}");
    }
}

#[test]
fn a_doomed_login_fails_even_with_the_right_proof() {
    let invented = mock().secret(AuthMethod::Md5, "u");
    let ClientSecret::Md5(hash) = invented else { panic!("{invented:?}") };
    let (message, next) = start(AuthMethod::Md5, None);
    let salt = split(&message)[0].1[4..].try_into().unwrap();
    let answer = format!("{}\0", hash.response(salt));
    let ClientStep::Refuse(refusal) = next.handle(b'p', answer.as_bytes()) else { panic!("let in") };
    assert_eq!(refusal.cause, RefusalCause::UnknownUser);
}

/// The driver's client against our server side.
fn driver_logs_in(secret: &ClientSecret, password: &[u8]) -> bool {
    let (_, next) = start(AuthMethod::ScramSha256, Some(secret));
    let mut driver = ScramSha256::new(password, ChannelBinding::unsupported());
    let mut initial = b"SCRAM-SHA-256\0".to_vec();
    initial.extend_from_slice(&u32::try_from(driver.message().len()).unwrap().to_be_bytes());
    initial.extend_from_slice(driver.message());
    let ClientStep::Send { message, next } = next.handle(b'p', &initial) else { panic!("refused") };
    driver.update(&split(&message)[0].1[4..]).unwrap();
    match next.handle(b'p', driver.message()) {
        ClientStep::Accept { message } => {
            let [last, ok] = split(&message)[..] else { panic!("two messages") };
            assert_eq!(ok, (b'R', &[0; 4][..]));
            driver.finish(&last.1[4..]).is_ok()
        }
        ClientStep::Refuse(refusal) if refusal.cause == RefusalCause::WrongPassword => false,
        other => panic!("{other:?}"),
    }
}

/// `create role u password 'pencil €'` on PostgreSQL 15.
#[test]
fn driver_against_a_verifier_made_by_postgresql() {
    let text = POSTGRESQL_S_VERIFIER;
    let secret = ready(AuthMethod::ScramSha256, UserSecret::ScramVerifier(Secret::new(text)));
    assert!(driver_logs_in(&secret, "pencil €".as_bytes()));
    assert!(!driver_logs_in(&secret, b"pencil"));
}

const POSTGRESQL_S_VERIFIER: &str = "SCRAM-SHA-256$4096:ecEn2ZXnr6HrCHOH+eYHWg==\
     $fjLBOxoN23tW5exDuU/ev2Gu9Sl/uH9cDZCMhy1sHyk=:5e5qMFt/bzhGURoSuItUD0iIiHk2JCaLFViMYvdv6Mc=";

#[test]
fn a_client_without_an_initial_response_is_asked_for_it() {
    let secret = verifier("pw", b"salt", 2);
    let (_, next) = start(AuthMethod::ScramSha256, Some(&secret));
    let step = next.handle(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff");
    let ClientStep::Send { message, next } = step else { panic!("{step:?}") };
    assert_eq!(split(&message), [(b'R', &[0, 0, 0, 11][..])]);
    let step = next.handle(b'p', b"n,,n=,r=abc");
    let ClientStep::Send { message, .. } = step else { panic!("{step:?}") };
    assert!(split(&message)[0].1.starts_with(b"\0\0\0\x0br=abc"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sides_agree(
        password in "\\PC{1,40}", other in "\\PC{1,40}",
        salt in proptest::collection::vec(any::<u8>(), 0..80), iterations in 1_u32..60,
    ) {
        let secret = verifier(&password, &salt, iterations);
        prop_assert_eq!(log_in(AuthMethod::ScramSha256, Some(&secret), &password), Ok(()));
        prop_assert_eq!(log_in(AuthMethod::Password, Some(&secret), &password), Ok(()));
        let same = Derivation::new(other.as_bytes(), &salt, iterations).verifier()
            == Derivation::new(password.as_bytes(), &salt, iterations).verifier();
        prop_assert_eq!(log_in(AuthMethod::ScramSha256, Some(&secret), &other).is_ok(), same);
    }

    #[test]
    fn driver_agrees(
        password in "\\PC{1,40}",
        salt in proptest::collection::vec(any::<u8>(), 0..80), iterations in 1_u32..60,
    ) {
        let secret = verifier(&password, &salt, iterations);
        prop_assert!(driver_logs_in(&secret, password.as_bytes()));
        let wrong = format!("{password}x");
        prop_assert!(!driver_logs_in(&secret, wrong.as_bytes()));
    }

    #[test]
    fn no_client_message_panics(
        state in 0..5_usize, tag in any::<u8>(), right_tag in any::<bool>(),
        body in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let (_, machine) = client_states().swap_remove(state);
        let tag = if right_tag { b'p' } else { tag };
        machine.handle(tag, &body);
    }

    #[test]
    fn no_text_of_a_client_panics(state in 0..5_usize, body in "[a-z,=\\x00]{0,40}") {
        let (_, machine) = client_states().swap_remove(state);
        machine.handle(b'p', body.as_bytes());
    }

    #[test]
    fn no_server_message_panics(
        state in 0..5_usize, code in 0..14_u32, body in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let (_, machine) = server_states().swap_remove(state);
        machine.handle(&[&code.to_be_bytes()[..], &body].concat());
        let (_, machine) = server_states().swap_remove(state);
        machine.handle(&body);
    }

    #[test]
    fn no_verifier_panics(text in "(SCRAM-SHA-256\\$)?[0-9:$A-Za-z=]{0,60}") {
        let _ = Verifier::parse(&text);
        let _ = Md5Hash::parse(&text);
    }
}

fn initial(mechanism: &str, data: &str) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [mechanism.as_bytes(), &[0], &length, data.as_bytes()].concat()
}

fn client_states() -> Vec<(&'static str, ClientAuth)> {
    let secret = verifier("pw", b"salt", 1);
    let next = |machine: ClientAuth, body: &[u8]| match machine.handle(b'p', body) {
        ClientStep::Send { next, .. } => next,
        other => panic!("{other:?}"),
    };
    let scram = || start(AuthMethod::ScramSha256, Some(&secret)).1;
    let method = |method| start(method, Some(&ready(method, UserSecret::Password(Secret::new("pw"))))).1;
    vec![
        ("password", method(AuthMethod::Password)),
        ("md5", method(AuthMethod::Md5)),
        ("sasl initial", scram()),
        ("scram first", next(scram(), b"SCRAM-SHA-256\0\xff\xff\xff\xff")),
        ("scram last", next(scram(), &initial("SCRAM-SHA-256", "n,,n=,r=abc"))),
    ]
}

/// Rows are states, columns messages; a change of any cell has to be meant.
#[test]
fn every_client_state_and_message() {
    let long = [b'x'; 10_001];
    let nonce = "AgICAgICAgICAgICAgICAgIC";
    let proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let messages: [(u8, Vec<u8>); 11] = [
        (b'Q', b"select 1\0".to_vec()),
        (b'p', b"".to_vec()),
        (b'p', b"\0".to_vec()),
        (b'p', b"pw\0".to_vec()),
        (b'p', b"pw\0x\0".to_vec()),
        (b'p', long.to_vec()),
        (b'p', initial("SCRAM-SHA-256-PLUS", "p=tls-unique,,n=,r=abc")),
        (b'p', initial("SCRAM-SHA-256", "n,,n=,r=abc")),
        (b'p', [&initial("SCRAM-SHA-256", "n,,n=,r=abc")[..], b"x"].concat()),
        (b'p', b"y,,n=,r=abc".to_vec()),
        (b'p', format!("c=biws,r=abc{nonce},p={proof}").into_bytes()),
    ];
    let mut table = String::from("\n");
    for index in 0..client_states().len() {
        let name = client_states()[index].0;
        let cells = messages.each_ref().map(|(tag, body)| {
            match client_states().swap_remove(index).1.handle(*tag, body) {
                ClientStep::Send { .. } => "Send".to_owned(),
                ClientStep::Derive { .. } => "Derive".to_owned(),
                ClientStep::Accept { .. } => "Accept".to_owned(),
                ClientStep::Refuse(Refusal { cause: RefusalCause::ClientMisbehaved(fault), .. }) => {
                    format!("{fault:?}")
                }
                ClientStep::Refuse(Refusal { cause, .. }) => format!("{cause:?}"),
            }
        });
        table += &format!("{name}: {}\n", cells.join(", "));
    }
    assert_eq!(table, CLIENT_STATES_AND_MESSAGES);
}

/// Columns: a query, nothing, an empty password, the right one, two strings, 10 kB, SASLInitialResponse with another
/// mechanism, a good one, one with a byte too many, a first SCRAM message, a last one with a wrong proof.
const CLIENT_STATES_AND_MESSAGES: &str = "
password: UnexpectedMessage(81), MessageLength, EmptyPassword, Accept, MessageLength, MessageLength, MessageLength, MessageLength, MessageLength, MessageLength, MessageLength
md5: UnexpectedMessage(81), MessageLength, EmptyPassword, WrongPassword, MessageLength, MessageLength, MessageLength, MessageLength, MessageLength, MessageLength, MessageLength
sasl initial: UnexpectedMessage(81), MessageLength, UnknownMechanism, UnknownMechanism, UnknownMechanism, MessageLength, UnknownMechanism, Send, MessageLength, MessageLength, MessageLength
scram first: UnexpectedMessage(81), MalformedScram, MalformedScram, MalformedScram, MalformedScram, MessageLength, MalformedScram, MalformedScram, MalformedScram, Send, MalformedScram
scram last: UnexpectedMessage(81), MalformedScram, MalformedScram, MalformedScram, MalformedScram, MessageLength, MalformedScram, MalformedScram, MalformedScram, MalformedScram, WrongPassword
";

/// One row for each way to misbehave: the client's view of it.
#[test]
fn every_misbehaviour_has_its_sqlstate() {
    let table = [
        (Misbehaved::UnexpectedMessage(81), "08P01", "expected password response, got message type 81"),
        (Misbehaved::MessageLength, "08P01", "invalid password packet size"),
        (Misbehaved::EmptyPassword, "28P01", "empty password returned by client"),
        (Misbehaved::UnknownMechanism, "08P01", "client selected an invalid SASL authentication mechanism"),
        (Misbehaved::MalformedScram, "08P01", "malformed SCRAM message"),
        (
            Misbehaved::AuthorizationIdentity,
            "0A000",
            "client uses authorization identity, but it is not supported",
        ),
        (Misbehaved::MandatoryExtension, "0A000", "client requires an unsupported SCRAM extension"),
        (Misbehaved::ChannelBindingNotOffered, "08P01", "malformed SCRAM message"),
        (Misbehaved::ChannelBindingDowngraded, "28000", "SCRAM channel binding negotiation error"),
        (Misbehaved::ChannelBindingMismatch, "08P01", "SCRAM channel binding check failed"),
        (Misbehaved::NonceMismatch, "08P01", "invalid SCRAM response"),
    ];
    for (fault, sqlstate, message) in table {
        let report = fault.report();
        assert_eq!((report.sqlstate.as_ref(), report.message.as_ref()), (sqlstate, message));
        assert_eq!(report.severity, Severity::Fatal);
    }
}

fn server_states() -> Vec<(&'static str, ServerAuth)> {
    let secret = Secret::new("pw");
    let new = || ServerAuth::new("u", Some(&secret), CLIENT_RANDOM);
    let next = |machine: ServerAuth, body: &[u8]| match machine.handle(body) {
        ServerStep::Send { next, .. } => next,
        ServerStep::Derive { derivation, next } => match next.keys(&derivation.run()) {
            ServerStep::Send { next, .. } => next,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let challenged = || next(new(), SASL);
    vec![
        ("request", new()),
        ("request, no password", ServerAuth::new("u", None, CLIENT_RANDOM)),
        ("challenge", challenged()),
        ("signature", next(challenged(), CHALLENGE)),
        ("verdict", next(new(), b"\0\0\0\x03")),
    ]
}

const SASL: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
const CHALLENGE: &[u8] = b"\0\0\0\x0br=AQEBAQEBAQEBAQEBAQEBAQEBxyz,s=c2FsdA==,i=1";

/// Rows are states, columns messages; a change of any cell has to be meant.
#[test]
fn every_server_state_and_message() {
    let messages: [&[u8]; 12] = [
        b"",
        b"\0\0\0\0",
        b"\0\0\0\x03",
        b"\0\0\0\x05salt",
        b"\0\0\0\x05sal",
        b"\0\0\0\x07",
        b"\0\0\0\x0aSCRAM-SHA-512\0\0",
        SASL,
        CHALLENGE,
        b"\0\0\0\x0br=other,s=c2FsdA==,i=1",
        b"\0\0\0\x0cv=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        b"\0\0\0\x0d",
    ];
    let mut table = String::from("\n");
    for index in 0..server_states().len() {
        let name = server_states()[index].0;
        let cells = messages.map(|body| match server_states().swap_remove(index).1.handle(body) {
            ServerStep::Send { .. } => "Send".to_owned(),
            ServerStep::Derive { .. } => "Derive".to_owned(),
            ServerStep::Read(_) => "Read".to_owned(),
            ServerStep::Authenticated => "Authenticated".to_owned(),
            ServerStep::Fail(Failure::ServerMisbehaved(fault)) => format!("{fault:?}"),
            ServerStep::Fail(failure) => format!("{failure:?}"),
        });
        table += &format!("{name}: {}\n", cells.join(", "));
    }
    assert_eq!(table, SERVER_STATES_AND_MESSAGES);
}

/// Columns: nothing, Ok, clear text, MD5, MD5 with a short salt, GSSAPI, SASL with unknown mechanisms, SASL, challenge,
/// challenge with another nonce, a wrong signature, a number that does not exist.
const SERVER_STATES_AND_MESSAGES: &str = "
request: MessageLength, Authenticated, Send, Send, MessageLength, UnsupportedMethod(7), UnsupportedMechanisms, Send, OutOfTurn(11), OutOfTurn(11), OutOfTurn(12), OutOfTurn(13)
request, no password: MessageLength, Authenticated, NoPassword, NoPassword, MessageLength, UnsupportedMethod(7), NoPassword, NoPassword, OutOfTurn(11), OutOfTurn(11), OutOfTurn(12), OutOfTurn(13)
challenge: MessageLength, SkippedProof, OutOfTurn(3), OutOfTurn(5), OutOfTurn(5), OutOfTurn(7), OutOfTurn(10), OutOfTurn(10), Derive, NonceMismatch, OutOfTurn(12), OutOfTurn(13)
signature: MessageLength, SkippedProof, OutOfTurn(3), OutOfTurn(5), OutOfTurn(5), OutOfTurn(7), OutOfTurn(10), OutOfTurn(10), OutOfTurn(11), OutOfTurn(11), WrongServerSignature, OutOfTurn(13)
verdict: MessageLength, Authenticated, OutOfTurn(3), OutOfTurn(5), OutOfTurn(5), OutOfTurn(7), OutOfTurn(10), OutOfTurn(10), OutOfTurn(11), OutOfTurn(11), OutOfTurn(12), OutOfTurn(13)
";

#[test]
fn every_failure_says_what_the_log_needs() {
    let misbehaved = Failure::ServerMisbehaved;
    let table = [
        (Failure::NoPassword, "server asks for a password, and none is configured"),
        (Failure::UnsupportedMethod(7), "server asks for GSSAPI authentication, which is not supported"),
        (Failure::UnsupportedMethod(4), "server asks for unknown (4) authentication, which is not supported"),
        (Failure::UnsupportedMechanisms, "server offers no SASL mechanism that is supported"),
        (Failure::TooManyIterations(9), "server asks for 9 iterations of SCRAM"),
        (Failure::WrongServerSignature, "server did not prove that it knows the password"),
        (
            misbehaved(ServerMisbehaved::OutOfTurn(3)),
            "server broke the protocol of the login: unexpected authentication message 3",
        ),
        (
            misbehaved(ServerMisbehaved::SkippedProof),
            "server broke the protocol of the login: login was granted before SCRAM was finished",
        ),
    ];
    for (failure, text) in table {
        assert_eq!(failure.to_string(), text);
    }
}

#[test]
fn an_oversized_authentication_message_is_refused() {
    let step = ServerAuth::new("u", None, CLIENT_RANDOM).handle(&[0; 10_001]);
    let ServerStep::Fail(failure) = step else { panic!("{step:?}") };
    assert_eq!(failure, Failure::ServerMisbehaved(ServerMisbehaved::MessageLength));
}

#[test]
fn no_machine_shows_a_password() {
    for (name, machine) in client_states() {
        assert!(!format!("{machine:?}").contains("\"pw\""), "{name}");
    }
    for (name, machine) in server_states() {
        assert!(!format!("{machine:?}").contains("pw"), "{name}");
    }
}
