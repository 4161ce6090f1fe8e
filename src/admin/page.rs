//! The live page: one document with nothing beside it, put together from the files in `page/` when it is first asked for.
//!
//! It holds no figures. Its script asks for `/status` and `/events`, with the token if there is one. What it shows has
//! names in it that clients have chosen, so it is served with a policy under which nothing runs but its own script,
//! which is known by its hash.

use std::sync::LazyLock;

use axum::http::HeaderName;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const DOCUMENT: &str = include_str!("page/page.html");

const STYLE: &str = include_str!("page/page.css");

/// One script, in the order in which its parts need each other.
const SCRIPT: &[&str] = &[
    include_str!("page/format.js"),
    include_str!("page/state.js"),
    include_str!("page/dom.js"),
    include_str!("page/plot.js"),
    include_str!("page/plots.js"),
    include_str!("page/table.js"),
    include_str!("page/tables.js"),
    include_str!("page/stream.js"),
    include_str!("page/main.js"),
];

static PAGE: LazyLock<Page> = LazyLock::new(Page::assemble);

/// `GET /`.
pub(super) async fn page() -> ([(HeaderName, &'static str); 5], &'static str) {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, PAGE.policy.as_str()),
        // Another version of the proxy may be here next time.
        (CACHE_CONTROL, "no-cache"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, PAGE.html.as_str())
}

struct Page {
    html: String,
    policy: String,
}

impl Page {
    fn assemble() -> Self {
        let (style, script) = (lean(STYLE), SCRIPT.iter().map(|part| lean(part)).collect::<String>());
        let html = lean(DOCUMENT)
            .replace("<style></style>", &format!("<style>{style}</style>"))
            .replace("<script></script>", &format!("<script>{script}</script>"));
        // The icon is a `data:` URL; forms go nowhere, as the script takes the token.
        let policy = format!(
            "default-src 'none'; connect-src 'self'; script-src {}; style-src {}; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash(&script),
            hash(&style),
        );
        Self { html, policy }
    }
}

/// Without the indentation and the comments, which are for those who read the files. No text in them goes over lines.
fn lean(source: &str) -> String {
    let lines = source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.fold(String::with_capacity(source.len()), |text, line| text + line + "\n")
}

/// How a policy names an inline script or style: by what is between its tags.
fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is between these tags in the page.
    fn between(open: &str, close: &str) -> &'static str {
        let (_, rest) = PAGE.html.split_once(open).unwrap();
        rest.split_once(close).unwrap().0
    }

    #[test]
    fn the_policy_names_what_is_in_the_page() {
        for (directive, text) in
            [("script-src", between("<script>", "</script>")), ("style-src", between("<style>", "</style>"))]
        {
            assert!(text.len() > 1000, "{directive}");
            assert!(PAGE.policy.contains(&format!("{directive} {};", hash(text))), "{}", PAGE.policy);
        }
    }

    #[test]
    fn it_is_small_and_needs_nothing_else() {
        assert!(PAGE.html.len() < 40_000, "{} bytes", PAGE.html.len());
        for foreign in ["src=\"", "@import", "url(", "//cdn", "https://", " style=\"", " onclick"] {
            assert!(!PAGE.html.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn names_of_clients_cannot_become_html() {
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"] {
            assert!(!PAGE.html.contains(way), "{way}");
        }
    }

    #[test]
    fn no_text_in_the_script_goes_over_lines() {
        for line in SCRIPT.iter().flat_map(|part| part.lines()) {
            assert!(line.matches('`').count() % 2 == 0, "{line}");
        }
    }
}
