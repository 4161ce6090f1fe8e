//! Who may log in: the `[users]` section, or without one the users that the databases' URLs name.

use super::defaults;
use super::error::{Faults, Origin};
use super::file::{Database, File, User};
use super::nearest::nearest;
use super::reader::{Entry, Read};
use super::url::UpstreamUrl;
use crate::client::{AuthMethod, UserParams, UserSecret};
use crate::secret::Secret;

/// One user of the proxy.
pub(super) struct Login {
    pub(super) name: String,
    /// Where the user, or its secret if there is one, is written.
    pub(super) at: Origin,
    pub(super) secret: Option<UserSecret>,
    /// The secret is there, but wrong; the fault is noted.
    pub(super) is_broken: bool,
    pub(super) max_clients: Option<usize>,
    /// It may use the reserved connections of servers.
    pub(super) reserved: bool,
    /// Databases it may use. None: all.
    databases: Option<Vec<String>>,
}

impl Login {
    pub(super) fn may_use(&self, database: &str) -> bool {
        self.databases.as_ref().is_none_or(|names| names.iter().any(|name| name == database))
    }

    pub(super) fn params(&self) -> UserParams {
        UserParams { name: self.name.clone(), secret: self.secret.clone(), max_clients: self.max_clients }
    }
}

/// All users, sorted by name.
pub(super) fn logins(file: &File, faults: &Faults) -> Vec<Login> {
    if file.users.is_empty() {
        return from_urls(file, faults);
    }
    file.users.iter().map(|user| from_section(user, file, faults)).collect()
}

/// The password for the user of a database's URL, from the URL or from its own keys.
pub(super) fn upstream_password(database: &Database, url: &UpstreamUrl) -> Option<Secret> {
    url.password.clone().or_else(|| database.upstream_password.good().map(|entry| entry.value.clone()))
}

fn from_section(user: &User, file: &File, faults: &Faults) -> Login {
    check_secret(user, &file.auth_type, faults);
    for name in user.databases.good().iter().flat_map(|list| &list.value) {
        if !file.databases.iter().any(|database| database.name == name.value) {
            faults.add(&name.at, no_such_database(&name.value, file));
        }
    }
    let names = |list: &Entry<Vec<Entry<String>>>| list.value.iter().map(|name| name.value.clone()).collect();
    Login {
        name: user.name.clone(),
        at: user.secret.good().map_or_else(|| user.at.clone(), |entry| entry.at.clone()),
        secret: user.secret.good().map(|entry| entry.value.clone()),
        is_broken: user.secret.is_bad(),
        max_clients: user.max_clients.value(),
        reserved: user.reserved.or(false),
        databases: user.databases.good().map(names),
    }
}

fn no_such_database(name: &str, file: &File) -> String {
    match nearest(name, file.databases.iter().map(|database| database.name.as_str())) {
        Some(known) => format!("there is no database {name:?}; did you mean `{known}`?"),
        None => format!("there is no database {name:?}"),
    }
}

/// Whether the way to log in can work with what is known of the user.
fn check_secret(user: &User, auth_type: &Read<AuthMethod>, faults: &Faults) {
    if auth_type.is_bad() {
        return;
    }
    match (auth_type.or(defaults::AUTH), &user.secret) {
        (AuthMethod::Trust, _) | (_, Read::Bad) => {}
        (_, Read::Absent) => {
            let message =
                "needs a password, password_env or password_file (only auth_type \"trust\" does without)";
            faults.add(&user.at, message);
        }
        (AuthMethod::Md5, Read::Good(Entry { value: UserSecret::ScramVerifier(_), at })) => {
            faults.add(
                at,
                "is a SCRAM verifier, with which auth_type \"md5\" cannot work: use \"scram-sha-256\"",
            );
        }
        (AuthMethod::ScramSha256, Read::Good(Entry { value: UserSecret::Md5Hash(_), at })) => {
            faults.add(
                at,
                "is an md5 hash, with which auth_type \"scram-sha-256\" cannot work: give the password \
                              itself",
            );
        }
        (_, Read::Good(_)) => {}
    }
}

fn from_urls(file: &File, faults: &Faults) -> Vec<Login> {
    let mut logins: Vec<Login> = Vec::new();
    for database in &file.databases {
        let Some(login) = from_url(database, &file.auth_type, faults) else { continue };
        match logins.iter_mut().find(|known| known.name == login.name) {
            Some(known) => merge(known, login, faults),
            None => logins.push(login),
        }
    }
    logins.sort_by(|a, b| a.name.cmp(&b.name));
    logins
}

fn from_url(database: &Database, auth_type: &Read<AuthMethod>, faults: &Faults) -> Option<Login> {
    let url = database.upstream.good()?;
    let Some(user) = &url.value.user else {
        faults.add(&url.at, "names no user, and there is no [users.NAME]: nobody could log in");
        return None;
    };
    let password = upstream_password(database, &url.value);
    let is_broken = database.upstream_password.is_bad();
    let needs_one = !auth_type.is_bad() && auth_type.or(defaults::AUTH) != AuthMethod::Trust;
    if password.is_none() && !is_broken && needs_one {
        let message = "has a user without a password, and there is no [users.NAME]: clients could not log in";
        faults.add(&url.at, message);
    }
    Some(Login {
        name: user.clone(),
        at: url.at.clone(),
        secret: password.map(UserSecret::Password),
        is_broken,
        max_clients: None,
        reserved: false,
        databases: Some(vec![database.name.clone()]),
    })
}

/// One more database for a user that another URL named before.
fn merge(known: &mut Login, login: Login, faults: &Faults) {
    let password = |login: &Login| match &login.secret {
        Some(UserSecret::Password(password)) => Some(password.clone()),
        _ => None,
    };
    if password(known) != password(&login) && !known.is_broken && !login.is_broken {
        let message = format!(
            "names the same user as {} with another password: say in [users.{}] which one clients log in with",
            known.at.key(),
            login.name
        );
        faults.add(&login.at, message);
    }
    known.databases.get_or_insert_default().extend(login.databases.into_iter().flatten());
}
