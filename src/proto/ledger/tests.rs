use super::*;
use proptest::prelude::*;

/// Plays `script`: `>Q` is a message to the server, `<Z:I` a reply; what is expected is `<`, `~` (swallowed) or `!`.
fn play(ledger: &mut Ledger, script: &str) -> String {
    let mut verdicts = String::new();
    for word in script.split_whitespace() {
        let (direction, word) = word.split_at(1);
        let (kind, body) = word.split_once(':').unwrap_or((word, ""));
        let kind = kind.as_bytes()[0];
        match direction {
            ">" if kind == b'~' => ledger.sent_injected(),
            ">" => ledger.sent(kind, body.bytes().next()),
            _ => verdicts.push(match ledger.reply(kind, body.as_bytes()) {
                Verdict::Forward => '<',
                Verdict::Swallow => '~',
                Verdict::InjectedFailed | Verdict::AuditFailed | Verdict::Refused(_) => 'x',
                Verdict::AuditRow | Verdict::AuditDone => '~',
                Verdict::OutOfStep => '!',
            }),
        }
    }
    verdicts
}

#[test]
fn conversations() {
    // (what happens, verdicts, free at the end)
    for (script, verdicts, free) in [
        (">Q <T <D <C <Z:I", "<<<<", true),
        (">Q <T <D <C <T <C <I <Z:T", "<<<<<<<", false),
        (">Q <E:SERROR\0C42601\0 <Z:I", "<<", true),
        (">P >B >D:P >E >S <1 <2 <T <D <C <Z:I", "<<<<<<", true),
        // nothing is owed, but the implicit transaction is open until the Sync
        (">P >D:S >H <1 <t <n", "<<<", false),
        (">P >B >E >H <1 <2 <C", "<<<", false),
        (">P >B >E >H <1 <2 <C >S <Z:I", "<<<<", true),
        (">P >B >S >P <1 <2 <Z:I <1", "<<<<", false),
        (">P >B >E >S >P >B >E >S <1 <2 <C <Z:I <1 <2 <C <Z:I", "<<<<<<<<", true),
        // an error drops what is behind it up to the Sync, a simple query too
        (">P >B >Q >S >Q <E:C42601\0 <Z:I <C <Z:I", "<<<<", true),
        (">P >B <1 <E:C22000\0 >E >Q >S <Z:I", "<<<", true),
        (">P <E:C42601\0 >P >B", "<", false),
        // a commit that fails at Sync
        (">E >S <C <E:C23503\0 <Z:I", "<<<", true),
        (">F <V <Z:I", "<<", true),
        // ours in front of the client's
        (">~ >Q <S <T <D <C <Z:I <S <C <Z:I", "~~~~~<<<", true),
        (">~ >Q <E:C22023\0", "x", false),
        // COPY
        (">Q <G >d >c <C <Z:I", "<<<", true),
        (">Q <G >d >f <E:C57014\0 <Z:I", "<<<", true),
        (">Q <H <d <c <C <Z:I", "<<<<<", true),
        (">P >B >E >S <1 <2 <G >d >c >S <C <Z:I", "<<<<<", true),
        // the Sync before the data counts for nothing
        (">P >B >E >S <1 <2 <G >d >c <C", "<<<<", false),
        (">P >B >E >S >c <1 <2 <G <C", "<<<<", false),
        (">Q >c >c <G <C <G <C <Z:I", "<<<<<", true),
        (">P >B >E >d >c >S <1 <2 <G <C <Z:I", "<<<<<", true),
        (">P >B >E >S <1 <2 <G >d <E:C22P04\0 >c >S <Z:I", "<<<<<", true),
        (">Q <G >d <E:C22P04\0 <Z:I >d >c", "<<<", true),
        (">Q <G >Q <E:C08P01\0 <Z:I", "<<<", true),
        (">Q >c <C <Z:I", "<<", true),
        // lost
        ("<Z:I", "!", true),
        (">P <2", "!", false),
        (">Q <Z:X", "!", false),
        (">S <C", "!", false),
        (">Q <W", "!", false),
    ] {
        let mut ledger = Ledger::new();
        assert_eq!(play(&mut ledger, script), verdicts, "{script}");
        assert_eq!(ledger.is_free(), free, "{script}: {ledger:?}");
    }
}

#[test]
fn every_message_against_every_reply() {
    let messages = [">Q", ">~", ">F", ">P", ">B", ">D:S", ">D:P", ">E", ">C", ">S", ">c"];
    let replies = "TDCIEZ1234ntsGHWVdcNSAvRK";
    let mut table = String::new();
    for message in messages {
        table += &format!("{message:5}");
        for reply in replies.chars() {
            let mut ledger = Ledger::new();
            table += &play(&mut ledger, &format!("{message} <{reply}:I"));
        }
        table += "\n";
    }
    let expected = "\
      TDCIEZ1234ntsGHWVdcNSAvRK\n\
>Q   <<<<<<!!!!!!!<<!!<<<<<!!!\n\
>~   ~~~~x~!!!!!!!!!!!!!~~<!!!\n\
>F   !!!!<<!!!!!!!!!!<!!<<<!!!\n\
>P   !!!!<!<!!!!!!!!!!!!<<<!!!\n\
>B   !!!!<!!<!!!!!!!!!!!<<<!!!\n\
>D:S <!!!<!!!!!<<!!!!!!!<<<!!!\n\
>D:P <!!!<!!!!!<!!!!!!!!<<<!!!\n\
>E   !<<<<!!!!!!!<<<!!<<<<<!!!\n\
>C   !!!!<!!!<!!!!!!!!!!<<<!!!\n\
>S   !!!!<<!!!!!!!!!!!!!<<<!!!\n\
>c   !!!!!!!!!!!!!!!!!!!<<<!!!\n";
    assert_eq!(table.trim(), expected.split_once('\n').unwrap().1.trim());
}

#[test]
fn says_what_is_missing_for_ready() {
    let mut ledger = Ledger::new();
    play(&mut ledger, ">P >B");
    assert!(ledger.wants_sync());
    play(&mut ledger, ">S >Q");
    assert!(!ledger.wants_sync());
    assert_eq!(ledger.ready_owed(), 2);
    play(&mut ledger, "<E:C42601\0 <Z:I <C <Z:I >P <E:C42601\0");
    assert!(ledger.wants_sync() && !ledger.is_settled());
}

/// A server that answers as PostgreSQL would, message by message, with errors where `fails` says so.
fn answers(messages: &[u8], fails: &[bool]) -> Vec<(u8, Vec<u8>)> {
    let (mut replies, mut skipping) = (vec![], false);
    for (message, fails) in messages.iter().zip(fails) {
        let error = (b'E', b"SERROR\0C42601\0\0".to_vec());
        match (message, fails) {
            (b'S', _) => {
                skipping = false;
                replies.push((b'Z', b"I".to_vec()));
            }
            _ if skipping => {}
            (b'Q', false) => replies.extend([(b'C', vec![]), (b'Z', b"I".to_vec())]),
            (b'Q', true) => replies.extend([error, (b'Z', b"I".to_vec())]),
            (_, true) => {
                replies.push(error);
                skipping = true;
            }
            (b'P', _) => replies.push((b'1', vec![])),
            (b'B', _) => replies.push((b'2', vec![])),
            (b'E', _) => replies.extend([(b'D', vec![]), (b'C', vec![])]),
            (b'D', _) => replies.push((b'n', vec![])),
            _ => replies.push((b'3', vec![])),
        }
    }
    replies
}

proptest! {
    /// However the replies lag behind the messages, the ledger follows and ends free.
    #[test]
    fn follows_any_pipeline(
        messages in prop::collection::vec((prop::sample::select(b"QPBDECS".to_vec()), prop::bool::weighted(0.2)), 0..40),
        lag in prop::collection::vec(0usize..40, 40),
    ) {
        let (mut messages, mut fails): (Vec<u8>, Vec<bool>) = messages.into_iter().unzip();
        messages.push(b'S');
        fails.push(false);
        let mut ledger = Ledger::new();
        let mut seen = 0;
        for (index, message) in messages.iter().enumerate() {
            ledger.sent(*message, Some(b'P'));
            // the server has answered any part of what was sent so far
            let possible = answers(&messages[..=index], &fails[..=index]);
            let upto = possible.len().saturating_sub(lag[index % lag.len()]).max(seen);
            for (kind, body) in &possible[seen..upto] {
                prop_assert_eq!(ledger.reply(*kind, body), Verdict::Forward);
            }
            seen = upto;
        }
        for (kind, body) in &answers(&messages, &fails)[seen..] {
            prop_assert!(!ledger.is_free());
            prop_assert_eq!(ledger.reply(*kind, body), Verdict::Forward);
        }
        prop_assert!(ledger.is_free());
    }

    #[test]
    fn never_panics(events in prop::collection::vec((any::<bool>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..8)), 0..60)) {
        let mut ledger = Ledger::new();
        for (sent, kind, body) in events {
            if sent { ledger.sent(kind, body.first().copied()) } else { ledger.reply(kind, &body); }
        }
    }
}
