//! Trace comments: what sqlcommenter puts in front of a statement or behind it (its specification: a comment of
//! `key='value'` pairs with commas between them). They differ from execution to execution. OpenTelemetry's libraries for
//! Python write numbers without quotes (`libpq_version=170005`).

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

/// The value of the first of these tags that a trace comment around the text has, those behind it before those in front.
pub fn tag(text: &[u8], tags: &[String]) -> Option<String> {
    let mut comments = vec![];
    let kept = without(text);
    for part in [text.get(kept.end..), text.get(..kept.start)] {
        let mut rest = part.unwrap_or_default().trim_ascii();
        while !rest.is_empty() {
            let (comment, behind) = rest.split_at_checked(block_comment(rest))?;
            comments.push(comment);
            rest = behind.trim_ascii();
        }
    }
    let value = |tag: &String| {
        let mut found = None;
        for comment in &comments {
            each_pair(comment, |key, value| {
                if found.is_none() && key == tag.as_bytes() {
                    found = Some(decoded(value));
                }
            });
        }
        found
    };
    tags.iter().find_map(value)
}

/// The value of `traceparent` in a trace comment around the text. Libraries put a semicolon at the end behind their comment.
#[inline]
pub fn traceparent_comment(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().rposition(|byte| !byte.is_ascii_whitespace() && *byte != b';')?;
    let text = text.get(..=end)?;
    // Most texts have no comment at either end.
    let ends_in_comment = text.ends_with(b"*/");
    if !ends_in_comment && text.first().is_some_and(u8::is_ascii_alphabetic) {
        return None;
    }
    // And most of those that have one have it as the last one.
    let last = memchr::memmem::rfind(text, b"/*").filter(|_| ends_in_comment);
    let found = last.and_then(|at| value_of(text.get(at..)?, b"traceparent"));
    found.or_else(|| find_traceparent(text))
}

fn find_traceparent(text: &[u8]) -> Option<&[u8]> {
    let kept = without(text);
    let around = [text.get(kept.end..), text.get(..kept.start)];
    around.into_iter().flatten().find_map(|part| {
        let mut rest = part.trim_ascii();
        while !rest.is_empty() {
            let (comment, behind) = rest.split_at_checked(block_comment(rest))?;
            let value = value_of(comment, b"traceparent");
            if value.is_some() {
                return value;
            }
            rest = behind.trim_ascii();
        }
        None
    })
}

/// The value of a key as it is written.
fn value_of<'t>(comment: &'t [u8], wanted: &[u8]) -> Option<&'t [u8]> {
    let mut found = None;
    let is_trace = each_pair(comment, |key, value| {
        if key == wanted {
            found = found.or(Some(value));
        }
    });
    found.filter(|_| is_trace)
}

/// A value as it was before it was written into a comment: without `%2F` and `\'`.
fn decoded(value: &[u8]) -> String {
    let mut bytes = vec![];
    let mut rest = value;
    while let Some((first, behind)) = rest.split_first() {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let (byte, used) = match (first, behind.get(..2).and_then(hex), behind.first()) {
            (b'%', Some(byte), _) => (byte, 2),
            (b'\\', _, Some(byte)) => (*byte, 1),
            _ => (*first, 0),
        };
        bytes.push(byte);
        rest = behind.get(used..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `/*key='value',key='value'*/`
fn is_trace(comment: &[u8]) -> bool {
    each_pair(comment, |_, _| ())
}

/// Goes through the pairs of a trace comment; false if it is none. One with nothing but numbers is none.
fn each_pair<'t>(comment: &'t [u8], mut pair: impl FnMut(&'t [u8], &'t [u8])) -> bool {
    let Some(mut rest) = comment.strip_prefix(b"/*").and_then(|rest| rest.strip_suffix(b"*/")) else {
        return false;
    };
    let mut is_quoted = false;
    loop {
        rest = rest.trim_ascii();
        let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || b"_%.-".contains(byte);
        let key = rest.iter().take_while(|byte| is_key(byte)).count();
        let Some(value) = rest.get(key..).and_then(|rest| rest.strip_prefix(b"=")) else { return false };
        let (value, behind) = match value.strip_prefix(b"'") {
            Some(quoted) => {
                is_quoted = true;
                let Some(end) = end_of_value(quoted) else { return false };
                (quoted.get(..end).unwrap_or_default(), quoted.get(end + 1..).unwrap_or_default())
            }
            None => value.split_at(value.iter().take_while(|byte| byte.is_ascii_digit()).count()),
        };
        pair(rest.get(..key).unwrap_or_default(), value);
        match (key, behind.trim_ascii()) {
            (0, _) => return false,
            (_, []) => return is_quoted,
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
            ("select 1 /*a='b',c=12*/".to_owned(), "select 1"),
            ("select 1 /*c=12 , a='b'*/".to_owned(), "select 1"),
            ("select 1 /*c=12*/".to_owned(), "select 1 /*c=12*/"),
            ("select 1 /*a='b',c=d*/".to_owned(), "select 1 /*a='b',c=d*/"),
            ("/*".to_owned(), "/*"),
            (String::new(), ""),
        ] {
            assert_eq!(&text[without(text.as_bytes())], left, "{text}");
        }
        assert!(is_trace(br"/*a='it\'s'*/"));
    }

    #[test]
    fn tags_are_found_and_decoded() {
        let tags = ["action".to_owned(), "route".to_owned()];
        for (text, value) in [
            ("select 1", None),
            ("select 1 /*action='pay'*/", Some("pay")),
            ("select 1 /*db_driver='x',route='%2Fpay%2f%C3%A9',traceparent='00'*/ ;", None),
            ("select 1 /*db_driver='x',route='%2Fpay%2f%C3%A9',traceparent='00'*/ \n", Some("/pay/é")),
            ("/*route='a'*/ /*action='b'*/ select 1", Some("b")),
            ("/*action='front'*/ select 1 /*action='behind'*/", Some("behind")),
            (r"select 1 /*action='it\'s 100%'*/", Some("it's 100%")),
            ("select '/*action=''a''*/'", None),
            ("select 1 /*action='a' b*/", None),
            ("select 1 /* action='a' */", Some("a")),
        ] {
            assert_eq!(tag(text.as_bytes(), &tags).as_deref(), value, "{text}");
        }
        assert_eq!(tag(b"select 1 /*action='a'*/", &[]), None);
    }

    #[test]
    fn a_traceparent_is_found_at_either_end() {
        for (text, value) in [
            ("", None),
            ("; ;", None),
            ("select 1", None),
            ("select 1 /*action='pay'*/", None),
            ("select 1 /*action='pay',traceparent='00-a'*/", Some("00-a")),
            ("select 1 /*traceparent='00-a'*/ ; \n", Some("00-a")),
            ("select 1; /*traceparent='00-a'*/", Some("00-a")),
            ("/*traceparent='00-a'*/ select 1", Some("00-a")),
            ("/*traceparent='00-a'*/ select 1 /*traceparent='00-b'*/", Some("00-b")),
            ("select 1 /*traceparent='00-a'*/ /*action='pay'*/", Some("00-a")),
            ("select '/*traceparent=''00-a''*/'", None),
            ("select 1 /*traceparent='00-a'*/ + 1", None),
            ("select 1 /*traceparent='00-a',x*/", None),
            ("select 1 /*traceparent='00-a'*/ /* no trace */", None),
            ("/* traceparent */ select 1", None),
        ] {
            assert_eq!(traceparent_comment(text.as_bytes()), value.map(str::as_bytes), "{text}");
        }
    }
}
