//! Functions that differ by a number only (`light-1`, `light-2`, …) are told as one: nine equal lines tell less.

use loadtest::plan::Plan;

/// A function, or several that differ by the number at their names' end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// The function's name, or `light-*`.
    pub name: String,
    /// Who belongs to it.
    pub members: Vec<String>,
}

impl Family {
    /// All of a plan's functions, in their order.
    pub fn all(plan: &Plan) -> Vec<Self> {
        let names: Vec<&String> = plan.functions.iter().map(|function| &function.name).collect();
        let mut families: Vec<Self> = Vec::new();
        for name in &names {
            let related = |other: &&&String| stem(name).is_some() && stem(other) == stem(name);
            let members: Vec<String> = names.iter().filter(related).map(|name| (*name).clone()).collect();
            let family = match (stem(name), members.len()) {
                (Some(stem), 2..) => Self { name: format!("{stem}*"), members },
                _ => Self { name: (*name).clone(), members: vec![(*name).clone()] },
            };
            if !families.contains(&family) {
                families.push(family);
            }
        }
        families
    }

    /// The one that a function belongs to.
    pub fn of(function: &str, families: &[Self]) -> Self {
        let its = families.iter().find(|family| family.members.iter().any(|member| member == function));
        its.cloned().unwrap_or_else(|| Self { name: function.to_owned(), members: vec![function.to_owned()] })
    }
}

/// `light-` of `light-7`.
fn stem(name: &str) -> Option<&str> {
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    (stem.len() < name.len() && stem.ends_with('-')).then_some(stem)
}

#[cfg(test)]
pub mod examples {
    use super::Plan;
    use std::path::Path;

    /// A plan with functions of these names, and this before them.
    pub fn plan(head: &str, names: &[&str]) -> Plan {
        let functions = names.iter().map(|name| {
            format!(
                "[[function]]\nname = \"{name}\"\ninstances = 1\narrival = {{ kind = \"at_once\" }}\n\
                 script = [\"select 1\"]\n"
            )
        });
        let text = format!("title = \"t\"\nduration = \"1s\"\n{head}\n{}", functions.collect::<String>());
        Plan::parse("p", &text, Path::new(".")).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_differ_by_their_number_are_one_family() {
        let families = Family::all(&examples::plan(
            "",
            &["heavy", "light-1", "api-v1", "light-12", "reader-16mb", "one-1"],
        ));
        let names: Vec<&str> = families.iter().map(|family| family.name.as_str()).collect();
        assert_eq!(names, ["heavy", "light-*", "api-v1", "reader-16mb", "one-1"]);
        assert_eq!(families[1].members, ["light-1", "light-12"]);
        assert_eq!(Family::of("light-12", &families), families[1]);
        assert_eq!(Family::of("unknown", &families).members, ["unknown"]);
    }
}
