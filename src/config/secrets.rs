//! Secrets: in the file itself, in an environment variable, or in a file of their own; and what kind a user's is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::environment::Environment;
use super::error::Origin;
use super::reader::{Entry, Read, Section};
use crate::client::UserSecret;
use crate::secret::Secret;

/// Names of the three keys that can hold one secret.
pub(super) struct SecretKeys {
    /// The secret itself. None: not for this one, its place is the URL.
    pub(super) plain: Option<&'static str>,
    /// Name of an environment variable.
    pub(super) variable: &'static str,
    /// Path of a file; one line end at its end is not part of the secret.
    pub(super) file: &'static str,
}

/// A client's secret.
pub(super) const USER_PASSWORD: SecretKeys =
    SecretKeys { plain: Some("password"), variable: "password_env", file: "password_file" };

/// What the admin address asks for.
pub(super) const ADMIN_TOKEN: SecretKeys =
    SecretKeys { plain: Some("admin_token"), variable: "admin_token_env", file: "admin_token_file" };

/// The password for the user of a database's URL.
pub(super) const UPSTREAM_PASSWORD: SecretKeys =
    SecretKeys { plain: None, variable: "upstream_password_env", file: "upstream_password_file" };

/// The value of a header for the collector of traces.
pub(super) const HEADER_VALUE: SecretKeys =
    SecretKeys { plain: Some("value"), variable: "value_env", file: "value_file" };

/// Reads a secret from whichever of its keys is there; two at once are a fault.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    keys: &SecretKeys,
    environment: &dyn Environment,
) -> Read<Secret> {
    let plain = keys.plain.map_or(Read::Absent, |key| section.parsed(key, |text| usable(text.to_owned())));
    let variable = section.parsed(keys.variable, |name| from_variable(name, environment));
    let path = section.path(keys.file);
    let file = match &path {
        Read::Absent => Read::Absent,
        Read::Bad => Read::Bad,
        Read::Good(path) => match from_file(&path.value, environment) {
            Ok(value) => Read::Good(Entry { value, at: path.at.clone() }),
            Err(message) => {
                section.fault(&path.at, message);
                Read::Bad
            }
        },
    };
    the_only_one(section, [plain, variable, file])
}

/// Sorts a user's secret by its form, as PostgreSQL does (`get_password_type` in `src/backend/libpq/crypt.c`), except
/// that what looks like a SCRAM verifier and is none is not taken for a password: nobody has chosen that one.
///
/// # Errors
/// A verifier that cannot be one; the message does not quote it.
pub(super) fn user_secret(secret: Secret) -> Result<UserSecret, String> {
    let text = secret.reveal();
    let is_md5 = text.strip_prefix("md5").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(is_lower_hex));
    match text.strip_prefix("SCRAM-SHA-256$") {
        Some(verifier) if !is_verifier(verifier) => Err(
            "begins like a SCRAM verifier, but is not SCRAM-SHA-256$iterations:salt$stored key:server key"
                .to_owned(),
        ),
        Some(_) => Ok(UserSecret::ScramVerifier(secret)),
        None if is_md5 => Ok(UserSecret::Md5Hash(secret)),
        None => Ok(UserSecret::Password(secret)),
    }
}

fn from_variable(name: &str, environment: &dyn Environment) -> Result<Secret, String> {
    match environment.variable(name) {
        Ok(value) => usable(value).map_err(|fault| format!("environment variable {name}: {fault}")),
        Err(std::env::VarError::NotPresent) => Err(format!("environment variable {name:?} is not set")),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("environment variable {name:?} is not UTF-8")),
    }
}

fn from_file(path: &std::path::Path, environment: &dyn Environment) -> Result<Secret, String> {
    let mut text =
        environment.read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    usable(text).map_err(|fault| format!("{}: {fault}", path.display()))
}

/// An empty password would let everybody in who sends none; a NUL ends a string on the wire.
fn usable(text: String) -> Result<Secret, String> {
    match text.as_str() {
        "" => Err("the secret is empty".to_owned()),
        text if text.contains('\0') => Err("the secret contains a NUL character".to_owned()),
        _ => Ok(Secret::new(text)),
    }
}

fn the_only_one(section: &Section<'_, '_>, reads: [Read<Secret>; 3]) -> Read<Secret> {
    let mut only = Read::Absent;
    for read in reads {
        only = match (only, read) {
            (Read::Absent, read) => read,
            (read, Read::Absent) => read,
            (Read::Good(first), Read::Good(second)) => {
                section.fault(
                    &second.at,
                    format!("the secret is given twice: {} is there, too", last_part(&first.at)),
                );
                Read::Bad
            }
            (Read::Bad, _) | (_, Read::Bad) => Read::Bad,
        };
    }
    only
}

fn last_part(at: &Origin) -> &str {
    at.key().rsplit('.').next().unwrap_or_default()
}

/// `iterations:salt$stored key:server key`, the last three in base64.
fn is_verifier(text: &str) -> bool {
    let Some((start, keys)) = text.split_once('$') else { return false };
    let (Some((iterations, salt)), Some((stored, server))) = (start.split_once(':'), keys.split_once(':'))
    else {
        return false;
    };
    let digest = |key: &str| BASE64.decode(key).is_ok_and(|bytes| bytes.len() == 32);
    iterations.parse::<i32>().is_ok_and(|n| n > 0)
        && BASE64.decode(salt).is_ok_and(|salt| !salt.is_empty())
        && digest(stored)
        && digest(server)
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> &'static str {
        match user_secret(Secret::new(text)) {
            Ok(UserSecret::Password(_)) => "password",
            Ok(UserSecret::ScramVerifier(_)) => "scram",
            Ok(UserSecret::Md5Hash(_)) => "md5",
            Err(_) => "error",
        }
    }

    #[test]
    fn kinds() {
        let key = BASE64.encode([7; 32]);
        let good = format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}");
        assert_eq!(kind(&good), "scram");
        assert_eq!(kind("hunter2"), "password");
        assert_eq!(kind("md50123456789abcdef0123456789abcdef"), "md5");
        assert_eq!(kind("md50123456789ABCDEF0123456789abcdef"), "password");
        assert_eq!(kind("md5 is my password"), "password");
        let broken = [
            "SCRAM-SHA-256$".to_owned(),
            good.replace("4096", "0"),
            good.replace("4096", "99999999999"),
            good.replace("c2FsdA==", ""),
            good.replace("c2FsdA==", "?"),
            good.replacen(&key, "AAAA", 1),
            good.replace(&format!(":{key}"), ""),
        ];
        for text in broken {
            assert_eq!(kind(&text), "error", "{text}");
        }
    }
}
