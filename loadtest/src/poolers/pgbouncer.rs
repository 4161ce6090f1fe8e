//! PgBouncer's settings. Variants differ in what comes after [`COMMON`]; every other setting has PgBouncer's default.

use super::{Assignment, PoolerError, doing};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What is the same in every comparison, whatever else is set: SCRAM as PostgreSQL's own default is, TCP only.
pub const COMMON: [(&str, &str); 3] =
    [("auth_type", "scram-sha-256"), ("pool_mode", "transaction"), ("unix_socket_dir", "")];

/// As it is shipped, but for the pool and for room for the clients; `query_wait_timeout` is 120 s then.
pub const DEFAULT: [(&str, &str); 1] = [("max_client_conn", "10000")];

/// What somebody sets who has read the manual with stampedes in mind: who cannot be served within 3 s is told so, the
/// accept queue holds a stampede, and a server that is back is noticed within a second.
pub const TUNED: [(&str, &str); 4] = [
    ("max_client_conn", "10000"),
    ("query_wait_timeout", "3"),
    ("listen_backlog", "4096"),
    ("server_login_retry", "1"),
];

/// Writes `pgbouncer.ini` and the file of users into `directory`; returns the former's path.
pub(super) fn write_files(
    directory: &Path,
    assignment: &Assignment,
    port: u16,
    settings: &[(String, String)],
) -> Result<PathBuf, PoolerError> {
    let (file, users_file) = (directory.join("pgbouncer.ini"), directory.join("users"));
    let text = configuration(assignment, port, &users_file, settings);
    fs::write(&file, text).map_err(doing("writing pgbouncer.ini"))?;
    fs::write(&users_file, users(assignment)).map_err(doing("writing PgBouncer's users"))?;
    Ok(file)
}

/// `pgbouncer.ini` for clients on `port`; of a name that is set twice the last value counts, and `settings` come last.
#[must_use]
pub fn configuration(
    assignment: &Assignment,
    port: u16,
    users_file: &Path,
    settings: &[(String, String)],
) -> String {
    let Assignment { upstream, pool_size, client_tls } = assignment;
    let database = &upstream.database;
    let mut text = format!(
        "[databases]\n\
         {database} = host=127.0.0.1 port={} dbname={database}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         auth_file = {}\n\
         default_pool_size = {pool_size}\n",
        upstream.port,
        users_file.display(),
    );
    if let Some(certificate) = client_tls {
        let (chain, key) = (certificate.chain.display(), certificate.key.display());
        let _ = writeln!(
            text,
            "client_tls_sslmode = allow\nclient_tls_cert_file = {chain}\nclient_tls_key_file = {key}"
        );
    }
    let own = settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in COMMON.into_iter().chain(own) {
        let _ = writeln!(text, "{key} = {value}");
    }
    text
}

/// PgBouncer gets the stored verifier instead of the password: from a password it derives the key anew at every login
/// (some 4 ms of CPU in 1.18), and a comparison with that would flatter everybody else.
fn users(assignment: &Assignment) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    assignment.upstream.logins().fold(String::new(), |mut text, login| {
        let _ = writeln!(text, "{} {}", quoted(&login.user), quoted(&login.verifier));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poolers::Certificate;
    use crate::poolers::examples::{assignment, login};

    fn text_of(settings: &[(&str, &str)], assignment: &Assignment) -> String {
        let settings: Vec<_> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        configuration(assignment, 7, Path::new("/run/users"), &settings)
    }

    #[test]
    fn default_sets_nothing_that_decides_about_overload() {
        let expected = "[databases]\n\
                        shop = host=127.0.0.1 port=20001 dbname=shop\n\
                        [pgbouncer]\n\
                        listen_addr = 127.0.0.1\n\
                        listen_port = 7\n\
                        auth_file = /run/users\n\
                        default_pool_size = 20\n\
                        auth_type = scram-sha-256\n\
                        pool_mode = transaction\n\
                        unix_socket_dir = \n\
                        max_client_conn = 10000\n";
        assert_eq!(text_of(&DEFAULT, &assignment()), expected);
    }

    #[test]
    fn tuned_is_default_with_three_lines_more() {
        let (default, tuned) = (text_of(&DEFAULT, &assignment()), text_of(&TUNED, &assignment()));
        let more = tuned.strip_prefix(&default).unwrap();
        assert_eq!(more, "query_wait_timeout = 3\nlisten_backlog = 4096\nserver_login_retry = 1\n");
    }

    #[test]
    fn clients_may_encrypt_if_there_is_a_certificate() {
        let certificate = Certificate { chain: "/run/client.crt".into(), key: "/run/client.key".into() };
        let text = text_of(&DEFAULT, &Assignment { client_tls: Some(certificate), ..assignment() });
        let expected = "client_tls_sslmode = allow\nclient_tls_cert_file = /run/client.crt\n\
                        client_tls_key_file = /run/client.key\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn every_role_is_a_user_with_its_verifier() {
        let mut assignment = assignment();
        assignment.upstream.more_logins.push(login("odd\"name", "x"));
        let expected = "\"app\" \"SCRAM-SHA-256$of app\"\n\"odd\"\"name\" \"SCRAM-SHA-256$of odd\"\"name\"\n";
        assert_eq!(users(&assignment), expected);
    }
}
