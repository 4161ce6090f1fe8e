//! Where TCP cuts a conversation makes no difference: the same replies for every cut, and byte by byte.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::Test;
use crate::support::ground::{Ground, address};
use crate::support::script::Target;
use crate::support::transcript::{Errors, Transcript};
use crate::support::wire::{PROTOCOL_3_0, Wire, cstr, query, startup, tagged};

/// Enough for the first part to be read before the second is there. Too short on a busy machine is no failure: it
/// only makes the test easier.
const PAUSE: Duration = Duration::from_micros(500);

/// How many ReadyForQuery the conversation has.
const ROUNDS: usize = 7;

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    let mut trials = crate::trials("cuts::direct", ground, DIRECT);
    trials.extend(crate::trials("cuts::proxy", ground, PROXIED));
    trials
}

const DIRECT: &[Test] = &[
    ("at_every_byte", |ground| at_every_byte(ground, &ground.direct())),
    ("byte_by_byte", |ground| byte_by_byte(ground, &ground.direct())),
    ("startup_at_every_byte", |ground| startup_cut(&ground.direct())),
];

const PROXIED: &[Test] = &[
    ("at_every_byte", |ground| at_every_byte(ground, &ground.transaction())),
    ("byte_by_byte", |ground| byte_by_byte(ground, &ground.transaction())),
    ("startup_at_every_byte", |ground| startup_cut(&ground.transaction())),
];

/// A bit of everything: simple, several statements, extended, an error and what it skips, COPY both ways, a function.
fn conversation() -> Vec<u8> {
    let parse = tagged(b'P', &[cstr(""), cstr("select $1::text"), vec![0, 0]].concat());
    let bad_parse = tagged(b'P', &[cstr(""), cstr("selec"), vec![0, 0]].concat());
    let bind = tagged(
        b'B',
        &[cstr(""), cstr(""), vec![0, 0, 0, 1, 0, 0, 0, 3], b"abc".to_vec(), vec![0, 0]].concat(),
    );
    let describe = tagged(b'D', b"P\0");
    let execute = tagged(b'E', &[cstr(""), vec![0; 4]].concat());
    let sync = tagged(b'S', &[]);
    let function = [
        177_u32.to_be_bytes().to_vec(),
        vec![0, 0, 0, 2, 0, 0, 0, 1],
        b"4".to_vec(),
        vec![0, 0, 0, 1],
        b"2".to_vec(),
        vec![0, 0],
    ]
    .concat();
    [
        query("select 1; select 'two'"),
        parse,
        bind.clone(),
        describe,
        execute.clone(),
        sync.clone(),
        bad_parse,
        bind,
        execute,
        sync,
        query("begin; create temp table cut (a int) on commit drop; copy cut from stdin"),
        tagged(b'd', b"1\n2\n"),
        tagged(b'c', &[]),
        query("copy cut to stdout"),
        query("commit"),
        tagged(b'F', &function),
    ]
    .concat()
}

fn replies(wire: &mut Wire) -> Transcript {
    let mut transcript = Transcript::default();
    for _ in 0..ROUNDS {
        for message in wire.ready() {
            transcript.reply("a", &message, Errors::Exact);
        }
    }
    transcript
}

fn expected(ground: &Ground) -> Transcript {
    let mut wire = ground.conversation().login(address(ground.cluster()));
    wire.send(&conversation()).expect("send");
    replies(&mut wire)
}

fn assert_same(expected: &Transcript, got: &Transcript, place: &str) {
    if let Some(difference) = expected.difference(got) {
        panic!("{place}: {difference}");
    }
}

fn at_every_byte(ground: &Ground, target: &Target) {
    let (bytes, expected) = (conversation(), expected(ground));
    let mut wire = ground.conversation().login(target.address);
    for cut in 1..bytes.len() {
        wire.send(&bytes[..cut]).expect("the first part");
        std::thread::sleep(PAUSE);
        wire.send(&bytes[cut..]).expect("the second part");
        assert_same(&expected, &replies(&mut wire), &format!("cut at byte {cut}"));
    }
}

fn byte_by_byte(ground: &Ground, target: &Target) {
    let expected = expected(ground);
    let mut wire = ground.conversation().login(target.address);
    for byte in conversation() {
        wire.send(&[byte]).expect("a byte");
        std::thread::sleep(PAUSE);
    }
    assert_same(&expected, &replies(&mut wire), "byte by byte");
}

fn startup_cut(target: &Target) {
    let packet = startup(PROTOCOL_3_0, &[("user", &target.user), ("database", &target.database)]);
    for cut in 1..packet.len() {
        let mut wire = Wire::connect(target.address).expect("connect");
        wire.send(&packet[..cut]).expect("the first part");
        std::thread::sleep(PAUSE);
        wire.send(&packet[cut..]).expect("the second part");
        let (messages, result) = wire.authenticate(&target.user, &target.password);
        assert!(result.is_ok(), "cut at byte {cut}: {messages:?}");
        assert_eq!(wire.value("select 'in'"), "in");
    }
}
