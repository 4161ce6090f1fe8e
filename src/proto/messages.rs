//! The messages that the proxy writes itself: those of a login, on both sides, and reports (errors and notices).
//!
//! Each function appends one whole message to `out`. Layouts: PostgreSQL manual, "Message Formats". Text is cut at a
//! NUL byte, which would otherwise end it early for the reader and put the rest out of step.

use std::borrow::Cow;

/// SQLSTATEs of the reports made while a client logs in (manual, appendix "PostgreSQL Error Codes").
pub mod sqlstate {
    /// `protocol_violation`: the peer broke the protocol; the connection is closed.
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// `feature_not_supported`.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// `invalid_parameter_value`.
    pub const INVALID_PARAMETER_VALUE: &str = "22023";
    /// `invalid_authorization_specification`.
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// `invalid_password`: also what unknown users are told.
    pub const INVALID_PASSWORD: &str = "28P01";
    /// `syntax_error`.
    pub const SYNTAX_ERROR: &str = "42601";
}

/// How bad a [`Report`] is: fields `S` and `V`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The connection is closed after it.
    Fatal,
    /// The statement failed; the connection goes on.
    Error,
    /// A notice that something is probably wrong.
    Warning,
    /// A notice.
    Notice,
}

impl Severity {
    fn text(self) -> &'static str {
        match self {
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
        }
    }
}

/// What an ErrorResponse or a NoticeResponse says.
///
/// In PostgreSQL's style: the message in lower case without a period, DETAIL and HINT as sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Fields `S` and `V`.
    pub severity: Severity,
    /// Field `C`: five characters.
    pub sqlstate: Cow<'static, str>,
    /// Field `M`.
    pub message: Cow<'static, str>,
    /// Field `D`.
    pub detail: Option<Cow<'static, str>>,
    /// Field `H`.
    pub hint: Option<Cow<'static, str>>,
    /// Field `R`: the routine of PostgreSQL's that says the same, where drivers look at it.
    pub routine: Option<&'static str>,
}

impl Report {
    /// A report of this severity with neither detail nor hint.
    pub fn new(
        severity: Severity,
        sqlstate: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            severity,
            sqlstate: sqlstate.into(),
            message: message.into(),
            detail: None,
            hint: None,
            routine: None,
        }
    }

    /// A report after which the connection is closed.
    pub fn fatal(sqlstate: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Fatal, sqlstate, message)
    }

    /// A report after which the session goes on.
    pub fn error(sqlstate: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Error, sqlstate, message)
    }

    /// The same with a DETAIL: a sentence.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// The same with a HINT: a sentence.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// AuthenticationOk: the client is who it says.
pub fn authentication_ok(out: &mut Vec<u8>) {
    authentication(out, 0, |_| ());
}

/// AuthenticationCleartextPassword: asks for the password as it is.
pub fn authentication_cleartext_password(out: &mut Vec<u8>) {
    authentication(out, 3, |_| ());
}

/// AuthenticationMD5Password: asks for the password hashed with `salt`.
pub fn authentication_md5_password(out: &mut Vec<u8>, salt: [u8; 4]) {
    authentication(out, 5, |out| out.extend_from_slice(&salt));
}

/// AuthenticationSASL: offers `mechanisms`, the preferred one first.
pub fn authentication_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) {
    authentication(out, 10, |out| {
        for mechanism in mechanisms {
            text(out, mechanism);
        }
        out.push(0);
    });
}

/// AuthenticationSASLContinue: the server's part of the exchange.
pub fn authentication_sasl_continue(out: &mut Vec<u8>, data: &[u8]) {
    authentication(out, 11, |out| out.extend_from_slice(data));
}

/// AuthenticationSASLFinal: the server's last part of the exchange.
pub fn authentication_sasl_final(out: &mut Vec<u8>, data: &[u8]) {
    authentication(out, 12, |out| out.extend_from_slice(data));
}

/// NegotiateProtocolVersion: protocol 3.`minor` is what will be spoken, and these options are not known.
///
/// The manual calls the first field the newest *minor* version; PostgreSQL sends, and libpq expects, the whole
/// version number (`SendNegotiateProtocolVersion`).
pub fn negotiate_protocol_version<S: AsRef<str>>(out: &mut Vec<u8>, minor: u16, unsupported: &[S]) {
    message(out, b'v', |out| {
        out.extend_from_slice(&(3_u32 << 16 | u32::from(minor)).to_be_bytes());
        length(out, unsupported.len());
        for option in unsupported {
            text(out, option.as_ref());
        }
    });
}

/// BackendKeyData: what a CancelRequest has to name. Protocol 3.0 knows secrets of four bytes only; 3.2 up to 256.
pub fn backend_key_data(out: &mut Vec<u8>, process_id: i32, secret: &[u8]) {
    debug_assert!((4..=256).contains(&secret.len()));
    message(out, b'K', |out| {
        out.extend_from_slice(&process_id.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

/// ParameterStatus: a run-time parameter has this value.
pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    message(out, b'S', |out| {
        text(out, name);
        text(out, value);
    });
}

/// ReadyForQuery; `status` is `I` (idle), `T` (in a transaction) or `E` (in a failed one).
pub fn ready_for_query(out: &mut Vec<u8>, status: u8) {
    debug_assert!(matches!(status, b'I' | b'T' | b'E'));
    message(out, b'Z', |out| out.push(status));
}

/// ErrorResponse.
pub fn error_response(out: &mut Vec<u8>, report: &Report) {
    debug_assert!(matches!(report.severity, Severity::Fatal | Severity::Error));
    message(out, b'E', |out| fields(out, report));
}

/// NoticeResponse.
pub fn notice_response(out: &mut Vec<u8>, report: &Report) {
    debug_assert!(matches!(report.severity, Severity::Warning | Severity::Notice));
    message(out, b'N', |out| fields(out, report));
}

/// PasswordMessage, sent to a server: a password in clear text, or hashed as AuthenticationMD5Password wants it.
pub fn password_message(out: &mut Vec<u8>, password: &str) {
    message(out, b'p', |out| text(out, password));
}

/// SASLInitialResponse, sent to a server: the mechanism chosen and the client's first part of the exchange.
pub fn sasl_initial_response(out: &mut Vec<u8>, mechanism: &str, data: &[u8]) {
    message(out, b'p', |out| {
        text(out, mechanism);
        length(out, data.len());
        out.extend_from_slice(data);
    });
}

/// SASLResponse, sent to a server: the client's next part of the exchange.
pub fn sasl_response(out: &mut Vec<u8>, data: &[u8]) {
    message(out, b'p', |out| out.extend_from_slice(data));
}

/// CommandComplete with this tag.
pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, b'C', |out| text(out, tag));
}

/// A message without a body: ParseComplete, CloseComplete.
pub fn bare(out: &mut Vec<u8>, kind: u8) {
    message(out, kind, |_| ());
}

fn authentication(out: &mut Vec<u8>, code: u32, rest: impl FnOnce(&mut Vec<u8>)) {
    message(out, b'R', |out| {
        out.extend_from_slice(&code.to_be_bytes());
        rest(out);
    });
}

/// Manual, "Error and Notice Message Fields".
fn fields(out: &mut Vec<u8>, report: &Report) {
    let mut field = |tag: u8, value: &str| {
        out.push(tag);
        text(out, value);
    };
    field(b'S', report.severity.text());
    field(b'V', report.severity.text());
    field(b'C', &report.sqlstate);
    field(b'M', &report.message);
    if let Some(detail) = &report.detail {
        field(b'D', detail);
    }
    if let Some(hint) = &report.hint {
        field(b'H', hint);
    }
    if let Some(routine) = report.routine {
        field(b'R', routine);
    }
    out.push(0);
}

/// Tag, length of what follows including itself, body.
fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let mut measured = Vec::with_capacity(4);
    length(&mut measured, out.len() - start);
    out[start..start + 4].copy_from_slice(&measured);
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().take_while(|byte| *byte != 0));
    out.push(0);
}

/// Nothing written here comes near the two gigabytes where the number would be cut off.
fn length(out: &mut Vec<u8>, length: usize) {
    debug_assert!(i32::try_from(length).is_ok());
    out.extend_from_slice(&i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use postgres_protocol::message::backend::Message;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn each_message_as_the_manual_lays_it_out() {
        let ok = written(authentication_ok);
        assert_eq!(ok, b"R\0\0\0\x08\0\0\0\0");
        let cleartext = written(authentication_cleartext_password);
        assert_eq!(cleartext, b"R\0\0\0\x08\0\0\0\x03");
        let md5 = written(|out| authentication_md5_password(out, *b"salt"));
        assert_eq!(md5, b"R\0\0\0\x0c\0\0\0\x05salt");
        let sasl = written(|out| authentication_sasl(out, &["A", "B"]));
        assert_eq!(sasl, b"R\0\0\0\x0d\0\0\0\x0aA\0B\0\0");
        let more = written(|out| authentication_sasl_continue(out, b"r=x"));
        assert_eq!(more, b"R\0\0\0\x0b\0\0\0\x0br=x");
        let last = written(|out| authentication_sasl_final(out, b"v=x"));
        assert_eq!(last, b"R\0\0\0\x0b\0\0\0\x0cv=x");
        let version = written(|out| negotiate_protocol_version(out, 2, &["_pq_.a"]));
        assert_eq!(version, b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.a\0");
        let key = written(|out| backend_key_data(out, 258, &[9; 5]));
        assert_eq!(key, b"K\0\0\0\x0d\0\0\x01\x02\x09\x09\x09\x09\x09");
        let parameter = written(|out| parameter_status(out, "TimeZone", "UTC"));
        assert_eq!(parameter, b"S\0\0\0\x11TimeZone\0UTC\0");
        let ready = written(|out| ready_for_query(out, b'I'));
        assert_eq!(ready, b"Z\0\0\0\x05I");
        let password = written(|out| password_message(out, "pw"));
        assert_eq!(password, b"p\0\0\0\x07pw\0");
        let initial = written(|out| sasl_initial_response(out, "A", b"n,,"));
        assert_eq!(initial, b"p\0\0\0\x0dA\0\0\0\0\x03n,,");
        let response = written(|out| sasl_response(out, b"c=x"));
        assert_eq!(response, b"p\0\0\0\x07c=x");
    }

    #[test]
    fn report_has_the_fields_in_order() {
        let report = Report::fatal("28000", "no").with_detail("D.").with_hint("H.");
        let error = written(|out| error_response(out, &report));
        assert_eq!(error, b"E\0\0\0\x26SFATAL\0VFATAL\0C28000\0Mno\0DD.\0HH.\0\0");
        let notice = written(|out| notice_response(out, &Report::new(Severity::Notice, "00000", "hi")));
        assert_eq!(notice, b"N\0\0\0\x20SNOTICE\0VNOTICE\0C00000\0Mhi\0\0");
    }

    #[test]
    fn messages_are_appended_and_read_by_a_driver() {
        let mut out = Vec::new();
        parameter_status(&mut out, "a", "b");
        ready_for_query(&mut out, b'T');
        let mut bytes = bytes_of(&out);
        assert!(matches!(Message::parse(&mut bytes), Ok(Some(Message::ParameterStatus(_)))));
        assert!(matches!(Message::parse(&mut bytes), Ok(Some(Message::ReadyForQuery(_)))));
        assert!(bytes.is_empty());
    }

    /// `BytesMut` without naming its crate, which is not ours.
    fn bytes_of<B: Default + Extend<u8>>(bytes: &[u8]) -> B {
        let mut buffer = B::default();
        buffer.extend(bytes.iter().copied());
        buffer
    }

    #[test]
    fn a_nul_ends_a_text_and_not_the_message() {
        let parameter = written(|out| parameter_status(out, "a\0b", "c"));
        assert_eq!(parameter, b"S\0\0\0\x08a\0c\0");
    }
}
