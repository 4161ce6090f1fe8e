//! A configured user's secret, made ready for the method in use, so that a login costs next to nothing.

use std::sync::Arc;

use super::{DEFAULT_ITERATIONS, Derivation, Md5Hash, SALT_BYTES, Verifier};
use crate::proto::{AuthMethod, UserParams, UserSecret};
use crate::secret::Secret;

/// What a client's answer is checked against. Cheap to clone: keep one per user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientSecret {
    /// For SCRAM, and for clear text.
    Verifier(Arc<Verifier>),
    /// For MD5, and for clear text.
    Md5(Md5Hash),
    /// For clear text.
    Password(Secret),
    /// The user exists, but has no secret that the method could use: only `trust` lets it in.
    Unusable,
}

/// The result of [`ClientSecret::prepare`].
#[derive(Debug, Clone)]
pub enum Prepared {
    /// Ready for use.
    Ready(ClientSecret),
    /// Run [`Derivation::verifier`] once, off the I/O threads, and keep it as [`ClientSecret::Verifier`].
    Derive(Derivation),
}

impl ClientSecret {
    /// Makes the secret of a user ready for `method`. `salt` (random) is for passwords under SCRAM, whose verifier has
    /// to be derived. Best done for all users when the configuration is loaded: a derivation during a login
    /// would tell by its time that the user exists.
    pub fn prepare(method: AuthMethod, user: &UserParams, salt: [u8; SALT_BYTES]) -> Prepared {
        Prepared::Ready(match (method, &user.secret) {
            (AuthMethod::Trust, _) | (_, None) => Self::Unusable,
            // PostgreSQL refuses empty passwords, wherever they come from.
            (_, Some(UserSecret::Password(password))) if password.reveal().is_empty() => Self::Unusable,
            (AuthMethod::ScramSha256, Some(UserSecret::Password(password))) => {
                let password = password.reveal().as_bytes();
                return Prepared::Derive(Derivation::new(password, &salt, DEFAULT_ITERATIONS));
            }
            (AuthMethod::Md5, Some(UserSecret::Password(password))) => {
                Self::Md5(Md5Hash::new(password.reveal().as_bytes(), &user.name))
            }
            (AuthMethod::Password, Some(UserSecret::Password(password))) => Self::Password(password.clone()),
            (AuthMethod::ScramSha256 | AuthMethod::Password, Some(UserSecret::ScramVerifier(text))) => {
                Verifier::parse(text.reveal())
                    .map_or(Self::Unusable, |verifier| Self::Verifier(verifier.into()))
            }
            (AuthMethod::Md5 | AuthMethod::Password, Some(UserSecret::Md5Hash(text))) => {
                Md5Hash::parse(text.reveal()).map_or(Self::Unusable, Self::Md5)
            }
            (AuthMethod::ScramSha256, Some(UserSecret::Md5Hash(_)))
            | (AuthMethod::Md5, Some(UserSecret::ScramVerifier(_))) => Self::Unusable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows are methods, columns secrets; a change of any cell has to be meant.
    #[test]
    fn every_method_and_secret() {
        let verifier = Derivation::new(b"pw", b"salt", 1).verifier().reveal();
        let secrets = [
            None,
            Some(UserSecret::Password(Secret::new("pw"))),
            Some(UserSecret::Password(Secret::new(""))),
            Some(UserSecret::ScramVerifier(Secret::new(verifier))),
            Some(UserSecret::ScramVerifier(Secret::new("SCRAM-SHA-256$x"))),
            Some(UserSecret::Md5Hash(Secret::new("md5c98cbfeb6a347a47eb8e96cfb4c4b890"))),
            Some(UserSecret::Md5Hash(Secret::new("md5"))),
        ];
        let row = |method| {
            let cells = secrets.clone().map(|secret| {
                let user = UserParams { name: "u".into(), secret, max_clients: None };
                match ClientSecret::prepare(method, &user, [0; SALT_BYTES]) {
                    Prepared::Derive(_) => "derive",
                    Prepared::Ready(ClientSecret::Verifier(_)) => "verifier",
                    Prepared::Ready(ClientSecret::Md5(_)) => "md5",
                    Prepared::Ready(ClientSecret::Password(_)) => "password",
                    Prepared::Ready(ClientSecret::Unusable) => "-",
                }
            });
            cells.join(" ")
        };
        assert_eq!(row(AuthMethod::Trust), "- - - - - - -");
        assert_eq!(row(AuthMethod::Password), "- password - verifier - md5 -");
        assert_eq!(row(AuthMethod::Md5), "- md5 - - - md5 -");
        assert_eq!(row(AuthMethod::ScramSha256), "- derive - verifier - - -");
    }
}
