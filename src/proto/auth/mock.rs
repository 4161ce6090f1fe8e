//! Secrets of users that do not exist, so that a login does not tell whether they do. PostgreSQL's "mock
//! authentication" (`auth-scram.c`): the same user gets the same salt each time.

use super::keys::{Key, hmac};
use super::{ClientSecret, DEFAULT_ITERATIONS, Keys, Md5Hash, SALT_BYTES, Verifier};
use crate::proto::{AuthMethod, UserParams, UserSecret};
use crate::secret::Secret;

/// Invents a secret for any user name. What it invents looks like the secrets that are configured.
#[derive(Clone)]
pub struct Mock {
    seed: Key,
    iterations: u32,
    salt_bytes: usize,
    clear_text: ClearText,
}

/// What the check of a clear-text password costs, which depends on what it is checked against.
#[derive(Clone, Copy)]
enum ClearText {
    Verifier,
    Md5,
    Password,
}

impl Mock {
    /// `seed` is random and secret; logins tell unknown users apart from known ones when it changes between them, so
    /// it should last as long as the process. Of `users`, the first one with a secret and the first one with a verifier
    /// are the model.
    pub fn new<'a>(seed: [u8; 32], users: impl Iterator<Item = &'a UserParams>) -> Self {
        let secrets: Vec<_> = users.filter_map(|user| user.secret.as_ref()).collect();
        let verifier = secrets.iter().find_map(|secret| match secret {
            UserSecret::ScramVerifier(text) => Verifier::parse(text.reveal()),
            _ => None,
        });
        let clear_text = match secrets.first() {
            Some(UserSecret::ScramVerifier(_)) => ClearText::Verifier,
            Some(UserSecret::Md5Hash(_)) => ClearText::Md5,
            Some(UserSecret::Password(_)) | None => ClearText::Password,
        };
        let (iterations, salt_bytes) =
            verifier.map_or((DEFAULT_ITERATIONS, SALT_BYTES), |model| (model.iterations, model.salt.len()));
        Self { seed, iterations, salt_bytes, clear_text }
    }

    /// A secret for `user`: the same each time. Nobody knows a password that fits.
    pub(super) fn secret(&self, method: AuthMethod, user: &str) -> ClientSecret {
        match (method, self.clear_text) {
            (AuthMethod::Trust, _) => ClientSecret::Unusable,
            (AuthMethod::ScramSha256, _) | (AuthMethod::Password, ClearText::Verifier) => {
                ClientSecret::Verifier(self.verifier(user).into())
            }
            (AuthMethod::Md5, _) | (AuthMethod::Password, ClearText::Md5) => {
                ClientSecret::Md5(Md5Hash::new(&self.bytes("md5", user, 0), user))
            }
            (AuthMethod::Password, ClearText::Password) => {
                let bytes = self.bytes("password", user, 0);
                ClientSecret::Password(Secret::new(bytes.map(|byte| format!("{byte:02x}")).concat()))
            }
        }
    }

    fn verifier(&self, user: &str) -> Verifier {
        let blocks = (0..).flat_map(|block| self.bytes("salt", user, block));
        let salt: Vec<u8> = blocks.take(self.salt_bytes).collect();
        let keys =
            Keys { client: self.bytes("client key", user, 0), server: self.bytes("server key", user, 0) };
        Verifier::new(&keys, &salt, self.iterations)
    }

    fn bytes(&self, purpose: &str, user: &str, block: u32) -> Key {
        hmac(&self.seed, &[purpose.as_bytes(), &[0], &block.to_be_bytes(), user.as_bytes()])
    }
}

impl std::fmt::Debug for Mock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mock(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Derivation;
    use super::*;

    fn user(secret: UserSecret) -> UserParams {
        UserParams { name: "known".into(), secret: Some(secret), max_clients: None }
    }

    #[test]
    fn the_same_user_gets_the_same_salt_and_others_do_not() {
        let mock = Mock::new([1; 32], std::iter::empty());
        assert_eq!(mock.verifier("a"), mock.verifier("a"));
        assert_ne!(mock.verifier("a").salt, mock.verifier("b").salt);
        assert_ne!(mock.verifier("a").salt, Mock::new([2; 32], std::iter::empty()).verifier("a").salt);
        assert_eq!((mock.verifier("a").salt.len(), mock.verifier("a").iterations), (16, 4096));
    }

    #[test]
    fn salt_and_iterations_are_those_of_the_configured_verifiers() {
        for salt in [&[1; 0][..], &[1; 32], &[1; 100]] {
            let text = Derivation::new(b"pw", salt, 3).verifier().reveal();
            let users = [
                user(UserSecret::Password(Secret::new("pw"))),
                user(UserSecret::ScramVerifier(Secret::new(text))),
            ];
            let mock = Mock::new([1; 32], users.iter()).verifier("a");
            assert_eq!((mock.salt.len(), mock.iterations), (salt.len(), 3));
        }
    }

    #[test]
    fn clear_text_is_checked_like_that_of_configured_users() {
        let kind = |secret| Mock::new([1; 32], [user(secret)].iter()).secret(AuthMethod::Password, "a");
        let secret = || Secret::new("md5");
        assert!(matches!(kind(UserSecret::Password(secret())), ClientSecret::Password(_)));
        assert!(matches!(kind(UserSecret::Md5Hash(secret())), ClientSecret::Md5(_)));
        assert!(matches!(kind(UserSecret::ScramVerifier(secret())), ClientSecret::Verifier(_)));
    }
}
