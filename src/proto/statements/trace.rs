//! Trace comments: what sqlcommenter puts in front of a statement or behind it (its specification: a comment of
//! `key='value'` pairs with commas between them). They differ from execution to execution.

use std::ops::Range;

use crate::proto::sql::block_comment;

/// The part of a text that is left without the trace comments around it, and without the white space around those.
#[inline]
pub(super) fn without(text: &[u8]) -> Range<usize> {
    let (mut start, mut end) = (0, text.len());
    // Nearly every text begins with a letter, and most do not end in a comment.
    if text.first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
        start = behind_leading(text);
    }
    while let Some(at) = trailing(text.get(start..end).unwrap_or_default()) {
        end = start + at;
    }
    start..end
}

fn behind_leading(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let blank = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let comment = rest.get(blank..).unwrap_or_default();
        if !comment.starts_with(b"/*") {
            return at;
        }
        let length = block_comment(comment);
        if !is_trace(comment.get(..length).unwrap_or_default()) {
            return at;
        }
        at += blank + length;
        at += text.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }
}

/// Where a trace comment begins that the text ends with.
fn trailing(text: &[u8]) -> Option<usize> {
    let trimmed = text.trim_ascii_end();
    if !trimmed.ends_with(b"*/") {
        return None;
    }
    let start = trimmed.windows(2).rposition(|pair| pair == b"/*")?;
    let before = trimmed.get(..start)?;
    // Two slashes may stand in a string; a pair of key and value in quotes hardly ends one. A line comment hides it.
    is_trace(trimmed.get(start..)?).then(|| before.trim_ascii_end().len())
}

/// `/*key='value',key='value'*/`
fn is_trace(comment: &[u8]) -> bool {
    let Some(mut rest) = comment.strip_prefix(b"/*").and_then(|rest| rest.strip_suffix(b"*/")) else {
        return false;
    };
    loop {
        rest = rest.trim_ascii();
        let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || b"_%.-".contains(byte);
        let key = rest.iter().take_while(|byte| is_key(byte)).count();
        let Some(value) = rest.get(key..).and_then(|rest| rest.strip_prefix(b"='")) else { return false };
        let Some(end) = end_of_value(value) else { return false };
        match (key, value.get(end + 1..).unwrap_or_default().trim_ascii()) {
            (0, _) => return false,
            (_, []) => return true,
            (_, [b',', next @ ..]) => rest = next,
            _ => return false,
        }
    }
}

/// The quote that ends a value; one behind a backslash does not.
fn end_of_value(value: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match value.get(at)? {
            b'\\' => at += 2,
            b'\'' => return Some(at),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trace_comments_are_taken_away() {
        let trace =
            "/*action='run+this',traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01'*/";
        for (text, left) in [
            ("select 1".to_owned(), "select 1"),
            (format!("select 1 {trace}"), "select 1"),
            (format!("select 1{trace} \n"), "select 1"),
            (format!("{trace} select 1"), "select 1"),
            (format!(" {trace}{trace}\nselect 1; {trace}{trace}"), "select 1;"),
            ("/*+ SeqScan(t) */ select 1".to_owned(), "/*+ SeqScan(t) */ select 1"),
            ("select 1 /* a comment */".to_owned(), "select 1 /* a comment */"),
            ("select 1 /*a='b',*/".to_owned(), "select 1 /*a='b',*/"),
            ("/*".to_owned(), "/*"),
            (String::new(), ""),
        ] {
            assert_eq!(&text[without(text.as_bytes())], left, "{text}");
        }
        assert!(is_trace(br"/*a='it\'s'*/"));
    }
}
