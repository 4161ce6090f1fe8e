//! pgcorral's configuration in comparisons: the pool that everybody has, and its defaults. It is not fitted to what is
//! measured.

use super::Assignment;
use std::fmt::Write as _;

/// `pgcorral.toml` for clients on `port`.
#[must_use]
pub fn configuration(assignment: &Assignment, port: u16) -> String {
    let Assignment { upstream, pool_size, client_tls } = assignment;
    let mut text = format!("listen = [\"127.0.0.1:{port}\"]\n");
    if let Some(certificate) = client_tls {
        let [chain, key] =
            [&certificate.chain, &certificate.key].map(|path| quoted(&path.display().to_string()));
        let _ = write!(text, "[client_tls]\nmode = \"prefer\"\ncert_file = {chain}\nkey_file = {key}\n");
    }
    let database = quoted(&upstream.database);
    let url = format!("postgres://127.0.0.1:{}/{}?sslmode=disable", upstream.port, upstream.database);
    let _ = write!(text, "[databases.{database}]\nupstream = {}\npool_size = {pool_size}\n", quoted(&url));
    for login in upstream.logins() {
        let (user, password) = (quoted(&login.user), quoted(&login.password));
        let _ = write!(text, "[users.{user}]\npassword = {password}\n");
    }
    text
}

/// A basic string of TOML: its escapes are those of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poolers::Certificate;
    use crate::poolers::examples::{assignment, login};

    #[test]
    fn nothing_is_set_but_the_pool_and_who_may_log_in() {
        let mut assignment = assignment();
        assignment.upstream.more_logins.push(login("batch", "q\"uote"));
        let read: toml::Value = toml::from_str(&configuration(&assignment, 7)).unwrap();
        let expected = r#"
            listen = ["127.0.0.1:7"]
            databases.shop = { upstream = "postgres://127.0.0.1:20001/shop?sslmode=disable", pool_size = 20 }
            users.app.password = "secret"
            users.batch.password = 'q"uote'
        "#;
        assert_eq!(read, toml::from_str(expected).unwrap());
    }

    #[test]
    fn clients_may_encrypt_if_there_is_a_certificate() {
        let certificate = Certificate { chain: "/run/client.crt".into(), key: "/run/client.key".into() };
        let assignment = Assignment { client_tls: Some(certificate), ..assignment() };
        let read: toml::Value = toml::from_str(&configuration(&assignment, 7)).unwrap();
        let expected: toml::Value =
            toml::from_str("mode = 'prefer'\ncert_file = '/run/client.crt'\nkey_file = '/run/client.key'")
                .unwrap();
        assert_eq!(read.get("client_tls"), Some(&expected));
    }
}
