//! Which function a client belongs to: the name under which its transactions are counted together, shared out and
//! limited. Instances of one function have the same name, whatever version of it they are.
//!
//! The name is made at login and when `application_name` changes, never on the way of a query (but for tags, and only
//! where the configuration lists any).

use std::fmt;
use std::net::IpAddr;

use regex::{Regex, RegexBuilder};

use super::trace::TraceParent;

/// Longest name of a function, in bytes.
pub const LONGEST: usize = 64;

/// Most memory of a compiled expression, in bytes. The default takes a small part of it.
const PATTERN_SIZE: usize = 256 << 10;

/// What the configuration says about how functions are told apart.
#[derive(Debug, Clone, Default)]
pub struct FunctionRules {
    /// What is cut away from `application_name`. None: nothing.
    pub version: Option<NamePattern>,
    /// The sqlcommenter tags that name a function, the first one that a statement has. Mostly none: it is the client that
    /// writes them, and each statement has to be looked at for them.
    pub tags: Vec<String>,
}

/// An expression, compiled. It takes linear time, whatever a client has called itself.
#[derive(Clone)]
pub struct NamePattern(Regex);

impl NamePattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// It is not one, or takes too much memory; the message is the end of a sentence.
    pub fn new(pattern: &str) -> Result<Self, String> {
        match RegexBuilder::new(pattern).size_limit(PATTERN_SIZE).build() {
            Ok(regex) => Ok(Self(regex)),
            Err(regex::Error::CompiledTooBig(_)) => Err("is too large an expression".to_owned()),
            Err(error) => {
                // The last line of several says what is wrong, the others show where.
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                Err(format!("is not a regular expression: {}", last.trim_start_matches("error: ")))
            }
        }
    }
}

impl fmt::Debug for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_str())
    }
}

/// What is known of a client when its function is named.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The value of the first allow-listed tag, if there is one.
    pub tag: Option<&'a str>,
    /// The current value.
    pub application_name: Option<&'a str>,
    /// The user that it has logged in as, or claims to be.
    pub user: &'a str,
    /// Where it comes from. None: over a Unix socket, or nobody knows any more.
    pub address: Option<IpAddr>,
}

impl FunctionRules {
    /// The name of a client's function: its tag, else its `application_name` without what the expression matches, else
    /// its user, else its address. Printable, never empty, at most [`LONGEST`] bytes.
    pub fn name(&self, caller: &Caller<'_>) -> String {
        let application = || Some(self.without_version(caller.application_name?));
        let found =
            [caller.tag.and_then(clean), application().as_deref().and_then(clean), clean(caller.user)];
        let address = || caller.address.map_or_else(|| "unix".to_owned(), |address| address.to_string());
        found.into_iter().flatten().next().unwrap_or_else(address)
    }

    fn without_version(&self, name: &str) -> String {
        // What differs from request to request is no part of the name either.
        let untraced = TraceParent::of_name(name).map(|(_, rest)| rest);
        let name = untraced.as_deref().unwrap_or(name);
        match &self.version {
            Some(NamePattern(pattern)) => pattern.replace_all(name, "").into_owned(),
            None => name.to_owned(),
        }
    }
}

/// A name as it is shown; None if nothing is left of it.
fn clean(name: &str) -> Option<String> {
    let mut shown = String::new();
    for character in name.trim().chars() {
        let printable = matches!(character, ' '..='~') || character.is_alphanumeric();
        let character = if printable { character } else { '?' };
        if shown.len() + character.len_utf8() > LONGEST {
            break;
        }
        shown.push(character);
    }
    shown.truncate(shown.trim_end().len());
    (!shown.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::defaults::NAME_PATTERN;

    fn rules() -> FunctionRules {
        FunctionRules { version: Some(NamePattern::new(NAME_PATTERN).unwrap()), tags: vec![] }
    }

    fn named(application_name: &str) -> String {
        let address = Some(IpAddr::from([10, 0, 0, 1]));
        let caller = Caller { tag: None, application_name: Some(application_name), user: "web", address };
        rules().name(&caller)
    }

    #[test]
    fn versions_hashes_and_instances_are_cut_away() {
        for (written, name) in [
            ("checkout", "checkout"),
            ("checkout-v12", "checkout"),
            ("checkout-V12", "checkout"),
            ("checkout:1.2.3", "checkout"),
            ("checkout:v1.2.3-rc.1", "checkout"),
            ("checkout@1.2.3+build.5", "checkout"),
            ("checkout@3f2a9bc", "checkout"),
            ("checkout@sha256:3f2a9bc01d", "checkout"),
            ("checkout-3f2a9bc01d3f2a9bc01d3f2a9bc01d3f2a9bc01d", "checkout"),
            ("checkout/42", "checkout"),
            ("checkout#42", "checkout"),
            ("checkout_7", "checkout"),
            ("checkout:$LATEST", "checkout"),
            ("checkout-00012-tug", "checkout"),
            ("checkout-7d4b9c6f5d-x2x9k", "checkout"),
            ("checkout-5bd66ef5-0953-69c7-b0d1-f8f4bd33716a", "checkout"),
            ("checkout:1.2.3/42", "checkout"),
            ("checkout-v12@3f2a9bc", "checkout"),
            ("pay-v2 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "pay"),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "web"),
            // What is no version stays.
            ("checkout-worker", "checkout-worker"),
            ("checkout-facade", "checkout-facade"),
            ("pgAdmin 4 - DB:postgres", "pgAdmin 4 - DB:postgres"),
            ("v12", "v12"),
            ("s3", "s3"),
            ("oauth2", "oauth2"),
            // Nothing is left: it is as if there were no name.
            (":42", "web"),
            ("", "web"),
            (" ", "web"),
        ] {
            assert_eq!(named(written), name, "{written:?}");
        }
    }

    #[test]
    fn the_first_that_is_known_names_it() {
        let all = Caller {
            tag: Some("job"),
            application_name: Some("app-v1"),
            user: "web",
            address: Some(IpAddr::from([10, 0, 0, 1])),
        };
        assert_eq!(rules().name(&all), "job");
        let untagged = Caller { tag: Some(""), ..all };
        assert_eq!(rules().name(&untagged), "app");
        assert_eq!(FunctionRules::default().name(&untagged), "app-v1");
        let unnamed = Caller { application_name: None, ..untagged };
        assert_eq!(rules().name(&unnamed), "web");
        let nobody = Caller { user: "", ..unnamed };
        assert_eq!(rules().name(&nobody), "10.0.0.1");
        assert_eq!(rules().name(&Caller { address: None, ..nobody }), "unix");
    }

    #[test]
    fn an_expression_is_checked() {
        for (pattern, message) in [
            ("(", "is not a regular expression: unclosed group"),
            (
                "(?=x)",
                "is not a regular expression: look-around, including look-ahead and look-behind, is not supported",
            ),
            (r"(\w{500}){500}", "is too large an expression"),
        ] {
            assert_eq!(NamePattern::new(pattern).unwrap_err(), message, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn names_are_bounded_and_printable(tag in any::<Option<String>>(), app in any::<Option<String>>(), user in any::<String>()) {
            let caller = Caller {
                tag: tag.as_deref(),
                application_name: app.as_deref(),
                user: &user,
                address: None,
            };
            let name = rules().name(&caller);
            prop_assert!((1..=LONGEST).contains(&name.len()));
            prop_assert!(!name.chars().any(char::is_control));
            prop_assert_eq!(name.trim(), &name);
        }
    }
}
