//! "Did you mean": the known name next to an unknown one.

/// PgBouncer's names of keys that are called otherwise here: because here they mean the same at each level, or have more
/// words than on and off, or are called as in PostgreSQL.
const PGBOUNCER_NAMES: [(&str, &str); 10] = [
    ("max_client_conn", "max_clients"),
    ("max_db_client_connections", "max_clients"),
    ("max_user_client_connections", "max_clients"),
    ("client_tls_sslmode", "mode"),
    ("client_tls_cert_file", "cert_file"),
    ("client_tls_key_file", "key_file"),
    ("listen_addr", "listen"),
    ("host", "upstream"),
    ("idle_transaction_timeout", "idle_in_transaction_timeout"),
    ("server_reset_query_always", "reset"),
];

/// Longest name, in bytes, that a nearest one is looked for: the search takes time and memory by its length.
const MAX_COMPARED: usize = 128;

/// The known name that was most probably meant.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let known: Vec<_> = known.filter(|key| name.len().max(key.len()) <= MAX_COMPARED).collect();
    let translated = PGBOUNCER_NAMES.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
    if let Some(same) = known.iter().find(|key| Some(**key) == translated) {
        return Some(same);
    }
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let distance = |key: &str| strsim::damerau_levenshtein(&plain(name), &plain(key));
    let (best, key) = known.into_iter().map(|key| (distance(key), key)).min()?;
    (best <= key.chars().count().div_ceil(3)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn nearest_name() {
        let known = ["pool_size", "pool_mode", "min_pool_size", "max_clients", "upstream", "reset"];
        let cases = [
            ("poolsize", Some("pool_size")),
            ("pool-mode", Some("pool_mode")),
            ("POOL_SIZE", Some("pool_size")),
            ("max_client_conn", Some("max_clients")),
            ("max_client", Some("max_clients")),
            ("server_reset_query_always", Some("reset")),
            ("upstraem", Some("upstream")),
            ("colour", None),
            ("", None),
        ];
        for (name, meant) in cases {
            assert_eq!(nearest(name, known.into_iter()), meant, "{name}");
        }
    }
}
