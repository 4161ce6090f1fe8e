//! Lists of `a=value` as SCRAM messages are made of: RFC 5802 section 5.1 and the grammar in section 7.

/// Reads the attributes of a message from its start. Values have no comma.
pub(super) struct Attributes<'a> {
    rest: Option<&'a str>,
}

/// Not a list of attributes, or not the one expected here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> Attributes<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: Some(text) }
    }

    /// The value of the next attribute, which must have this name.
    pub(super) fn expect(&mut self, name: char) -> Result<&'a str, Malformed> {
        match self.next()? {
            Some((found, value)) if found == name => Ok(value),
            _ => Err(Malformed),
        }
    }

    /// Skips extensions up to the end; they must at least look like attributes.
    pub(super) fn ignore_rest(&mut self) -> Result<(), Malformed> {
        while self.next()?.is_some() {}
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(char, &'a str)>, Malformed> {
        let Some(rest) = self.rest else { return Ok(None) };
        let (attribute, rest) = match rest.split_once(',') {
            Some((attribute, rest)) => (attribute, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        let (name, value) = attribute.split_once('=').ok_or(Malformed)?;
        match name.as_bytes() {
            [letter] if letter.is_ascii_alphabetic() => Ok(Some((char::from(*letter), value))),
            _ => Err(Malformed),
        }
    }
}

/// A nonce is made of printable ASCII other than the comma, and has some.
pub(super) fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_in_order() {
        let mut attributes = Attributes::new("r=x=y,s=,i=1,z=2");
        assert_eq!(attributes.expect('r'), Ok("x=y"));
        assert_eq!(attributes.expect('s'), Ok(""));
        assert_eq!(attributes.expect('i'), Ok("1"));
        assert_eq!(attributes.ignore_rest(), Ok(()));
        assert_eq!(attributes.expect('q'), Err(Malformed));
    }

    #[test]
    fn what_is_not_an_attribute() {
        for text in ["", "r", "=x", "rr=x", "1=x", "é=x"] {
            assert_eq!(Attributes::new(text).expect('r'), Err(Malformed), "{text}");
            assert_eq!(Attributes::new(text).ignore_rest(), Err(Malformed), "{text}");
        }
        assert_eq!(Attributes::new("r=x").expect('s'), Err(Malformed));
    }

    #[test]
    fn nonces() {
        assert!(is_nonce("!~="));
        for text in ["", "a,b", "a b", "é", "\u{7f}"] {
            assert!(!is_nonce(text), "{text}");
        }
    }
}
