//! Replies as one printable line each, in the words of PostgreSQL's manual ("Message Formats").
//!
//! The lines are for people and for the literal expectations in `tests/conformance`; what two servers answered is
//! compared as bytes.

use std::fmt;

use super::wire::Message;

/// Values longer than this are printed as their beginning, their length and a checksum.
const LONGEST_PRINTED: usize = 200;

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reader = Reader(&self.body);
        match line(self.tag, &mut reader) {
            Some(text) if reader.0.is_empty() => f.write_str(&text),
            _ => write!(f, "Malformed {:?} {}", char::from(self.tag), quoted(&self.body)),
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The name of a reply's type.
pub fn name(tag: u8) -> &'static str {
    match tag {
        b'R' => "Authentication",
        b'K' => "BackendKeyData",
        b'2' => "BindComplete",
        b'3' => "CloseComplete",
        b'C' => "CommandComplete",
        b'd' => "CopyData",
        b'c' => "CopyDone",
        b'G' => "CopyInResponse",
        b'H' => "CopyOutResponse",
        b'W' => "CopyBothResponse",
        b'D' => "DataRow",
        b'I' => "EmptyQueryResponse",
        b'E' => "ErrorResponse",
        b'V' => "FunctionCallResponse",
        b'v' => "NegotiateProtocolVersion",
        b'n' => "NoData",
        b'N' => "NoticeResponse",
        b'A' => "NotificationResponse",
        b't' => "ParameterDescription",
        b'S' => "ParameterStatus",
        b'1' => "ParseComplete",
        b's' => "PortalSuspended",
        b'Z' => "ReadyForQuery",
        b'T' => "RowDescription",
        _ => "Unknown",
    }
}

/// The type byte of a reply's name.
pub fn tag(wanted: &str) -> Option<u8> {
    (1..=127).find(|tag| name(*tag) == wanted)
}

fn line(tag: u8, reader: &mut Reader<'_>) -> Option<String> {
    let mut parts = vec![name(tag).to_owned()];
    match tag {
        b'R' => parts.push(authentication(reader)?),
        b'K' => {
            parts.push(reader.i32()?.to_string());
            parts.push(quoted(reader.rest()));
        }
        b'C' => parts.push(quoted(reader.cstr()?)),
        b'd' => parts.push(quoted(reader.rest())),
        b'G' | b'H' | b'W' => {
            parts.push(reader.u8()?.to_string());
            let count = reader.i16()?;
            parts.push(list(reader, count, |r| r.i16().map(|n| n.to_string()))?);
        }
        b'D' => {
            let count = reader.i16()?;
            parts.push(list(reader, count, value)?);
        }
        b'E' | b'N' => parts.push(fields(reader)?),
        b'V' => parts.push(value(reader)?),
        b'v' => {
            parts.push(reader.i32()?.to_string());
            let count = i16::try_from(reader.i32()?).ok()?;
            parts.push(list(reader, count, |r| r.cstr().map(quoted))?);
        }
        b'A' => {
            parts.push(reader.i32()?.to_string());
            parts.push(quoted(reader.cstr()?));
            parts.push(quoted(reader.cstr()?));
        }
        b't' => {
            let count = reader.i16()?;
            parts.push(list(reader, count, |r| r.u32().map(|n| n.to_string()))?);
        }
        b'S' => {
            parts.push(quoted(reader.cstr()?));
            parts.push(quoted(reader.cstr()?));
        }
        b'Z' => parts.push(char::from(reader.u8()?).to_string()),
        b'T' => {
            let count = reader.i16()?;
            parts.push(list(reader, count, column)?);
        }
        b'1' | b'2' | b'3' | b'c' | b'I' | b'n' | b's' => {}
        _ => return None,
    }
    Some(parts.join(" "))
}

fn authentication(reader: &mut Reader<'_>) -> Option<String> {
    let code = reader.i32()?;
    let name = match code {
        0 => "Ok",
        3 => "CleartextPassword",
        5 => "MD5Password",
        10 => "SASL",
        11 => "SASLContinue",
        12 => "SASLFinal",
        _ => "Other",
    };
    Some(format!("{name} {}", quoted(reader.rest())))
}

fn fields(reader: &mut Reader<'_>) -> Option<String> {
    let mut parts = Vec::new();
    loop {
        match reader.u8()? {
            0 => return Some(parts.join(" ")),
            letter => parts.push(format!("{}={}", char::from(letter), quoted(reader.cstr()?))),
        }
    }
}

fn value(reader: &mut Reader<'_>) -> Option<String> {
    match usize::try_from(reader.i32()?) {
        Ok(length) => reader.take(length).map(quoted),
        Err(_) => Some("null".to_owned()),
    }
}

fn column(reader: &mut Reader<'_>) -> Option<String> {
    let name = quoted(reader.cstr()?);
    let (table, attribute) = (reader.u32()?, reader.i16()?);
    let (oid, size, modifier, format) = (reader.u32()?, reader.i16()?, reader.i32()?, reader.i16()?);
    Some(format!("{name} table={table}.{attribute} type={oid} size={size} mod={modifier} format={format}"))
}

fn list(
    reader: &mut Reader<'_>,
    count: i16,
    one: impl Fn(&mut Reader<'_>) -> Option<String>,
) -> Option<String> {
    let items = (0..count).map(|_| one(reader)).collect::<Option<Vec<_>>>()?;
    Some(format!("[{}]", items.join(", ")))
}

/// Bytes as a quoted string; long ones shortened.
pub fn quoted(bytes: &[u8]) -> String {
    if bytes.len() <= LONGEST_PRINTED {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let head = bytes[..24].escape_ascii();
    format!("\"{head}…\" ({} bytes, checksum {:08x})", bytes.len(), checksum(bytes))
}

/// FNV-1a: only to tell two long values apart in a printout.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// What is left of a body.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn cstr(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(text)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
