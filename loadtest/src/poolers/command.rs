//! Poolers that the user names by a command.

use super::Assignment;

/// What `pgcorral serve` needs to be told.
const OPTIONS: &str =
    "--upstream {upstream} --pool-size {pool} --listen 127.0.0.1:{port} --admin 127.0.0.1:{admin}";

/// Name and words of `NAME=PROGRAM ARGUMENT…`; never without a word.
///
/// # Errors
/// There is no name or no program.
pub fn parse(text: &str) -> Result<(String, Vec<String>), String> {
    let wrong = || format!("{text:?} is not NAME=PROGRAM ARGUMENT…");
    let (name, command) = text.split_once('=').ok_or_else(wrong)?;
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if name.is_empty() || words.is_empty() {
        return Err(wrong());
    }
    Ok((name.to_owned(), words))
}

/// Program and arguments.
pub fn fill_in(words: &[String], assignment: &Assignment, port: u16, admin: u16) -> (String, Vec<String>) {
    let mut words = words.to_vec();
    if !words.iter().any(|word| word.contains("{port}")) {
        words.extend(OPTIONS.split(' ').map(str::to_owned));
    }
    let upstream = assignment.upstream.url_at(assignment.upstream.port);
    let mut filled = words.into_iter().map(|word| {
        word.replace("{port}", &port.to_string())
            .replace("{admin}", &admin.to_string())
            .replace("{pool}", &assignment.pool_size.to_string())
            .replace("{upstream}", &upstream)
    });
    (filled.next().unwrap_or_default(), filled.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poolers::examples::assignment;

    fn filled(text: &str) -> String {
        let (program, arguments) = fill_in(&parse(text).unwrap().1, &assignment(), 7, 8);
        format!("{program} {}", arguments.join(" "))
    }

    #[test]
    fn the_options_of_pgcorral_are_appended() {
        let expected = "./pgcorral serve --log warn --upstream postgres://app:secret@127.0.0.1:20001/shop \
                        --pool-size 20 --listen 127.0.0.1:7 --admin 127.0.0.1:8";
        assert_eq!(filled("one=./pgcorral serve --log warn"), expected);
    }

    #[test]
    fn placeholders_are_replaced_and_then_nothing_is_appended() {
        let expected = "./relay --to postgres://app:secret@127.0.0.1:20001/shop 7";
        assert_eq!(filled("other=./relay --to {upstream} {port}"), expected);
    }

    #[test]
    fn a_pooler_needs_a_name_and_a_program() {
        for text in ["", "name", "=program", "name= "] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
