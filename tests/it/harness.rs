//! The harness itself: a difference is seen, and only what may differ is overlooked.

use std::sync::Arc;

use libtest_mimic::Trial;

use crate::Test;
use crate::support::ground::Ground;
use crate::support::script::Script;
use crate::support::text::{Token, tokens};
use crate::support::transcript::{Errors, Transcript};
use crate::support::wire::{Message, cstr};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("harness", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("texts_of_scripts", |_| texts()),
    ("broken_scripts_are_refused", |_| broken()),
    ("another_byte_is_a_difference", |_| another_byte()),
    ("what_may_differ_is_blanked", |_| blanked()),
    ("a_last_fatal_may_be_missing", |_| last_fatal()),
    ("a_wrong_literal_fails_the_script", wrong_literal),
];

fn message(tag: u8, body: &[u8]) -> Message {
    Message { tag, body: body.to_vec() }
}

fn transcript(messages: &[Message], errors: Errors) -> Transcript {
    let mut transcript = Transcript::default();
    messages.iter().for_each(|message| transcript.reply("a", message, errors));
    transcript
}

fn texts() {
    let text = |bytes: &[u8]| Token::Text(bytes.to_vec());
    let got = tokens(r#"S "a\n\x00\"" "ab"*2+"c" null"#).expect("well formed");
    assert_eq!(
        got,
        [Token::Word("S".to_owned()), text(b"a\n\0\""), text(b"ababc"), Token::Word("null".to_owned())]
    );
}

fn broken() {
    for text in
        ["> Query", "> Query \"x", "> Nonsense", "until Never", "repeat 3", "end", "> Sync 1", "speak"]
    {
        assert!(Script::parse(text).is_err(), "{text}");
    }
    let error = Script::parse("mode session\n\n> Query").expect_err("no text");
    assert!(error.starts_with("line 3:"), "{error}");
}

fn another_byte() {
    let one = transcript(&[message(b'C', b"SELECT 1\0"), message(b'Z', b"I")], Errors::Exact);
    let other = transcript(&[message(b'C', b"SELECT 1\0"), message(b'Z', b"T")], Errors::Exact);
    let shorter = transcript(&[message(b'C', b"SELECT 1\0")], Errors::Exact);
    assert!(one.difference(&one).is_none());
    assert!(one.difference(&other).is_some_and(|text| text.starts_with("reply 2 of 2")));
    assert!(one.difference(&shorter).is_some() && shorter.difference(&one).is_some());
}

fn blanked() {
    let column = |oid: u32| {
        let mut body = vec![0, 1];
        body.extend(cstr("c"));
        body.extend(oid.to_be_bytes());
        body.extend([0; 2 + 4 + 2 + 4 + 2]);
        message(b'T', &body)
    };
    let differ = |one: Message, other: Message, errors| {
        transcript(&[one], errors).difference(&transcript(&[other], errors)).is_some()
    };
    assert!(!differ(message(b'K', &[1; 8]), message(b'K', &[2; 36]), Errors::Exact));
    assert!(!differ(column(17_000), column(18_000), Errors::Exact));
    assert!(differ(column(23), column(25), Errors::Exact));
    let error =
        |line: &str, text: &str| message(b'E', format!("SERROR\0C42601\0M{text}\0L{line}\0\0").as_bytes());
    assert!(differ(error("1", "x"), error("2", "x"), Errors::Exact));
    assert!(!differ(error("1", "x"), error("2", "x"), Errors::Message));
    assert!(differ(error("1", "x"), error("1", "y"), Errors::Message));
    assert!(!differ(error("1", "x"), error("1", "y"), Errors::Code));
}

fn last_fatal() {
    let fatal = message(b'E', b"SFATAL\0VFATAL\0C08P01\0Mx\0\0");
    for (errors, same) in [(Errors::Optional, true), (Errors::Code, false)] {
        let mut with = transcript(std::slice::from_ref(&fatal), errors);
        with.closed("a", errors);
        let mut without = Transcript::default();
        without.closed("a", errors);
        assert_eq!(with.difference(&without).is_none(), same);
    }
}

fn wrong_literal(ground: &Ground) {
    let play = |literal: &str| {
        let text = format!(
            "> Query \"select 1\"\nuntil ReadyForQuery\n< RowDescription\n< {literal}\n\
                            < CommandComplete\n< ReadyForQuery I"
        );
        let script = Script::parse(&text).expect("a script");
        script.play(&ground.direct(), &mut ground.root("postgres"))
    };
    assert!(play("DataRow [\"1\"]").is_ok());
    let error = play("DataRow [\"2\"]").expect_err("PostgreSQL answers 1");
    assert!(error.starts_with("direct: line 3: expected"), "{error}");
}
