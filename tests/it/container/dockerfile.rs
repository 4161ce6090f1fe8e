//! As much of a Dockerfile as is looked at.

/// One instruction and the stage that it is part of.
#[derive(Debug)]
pub struct Instruction {
    /// The name behind `AS`.
    pub stage: String,
    /// `COPY`, in capitals.
    pub name: String,
    /// What follows it, on one line.
    pub rest: String,
}

/// All instructions of a file.
pub fn read(text: &str) -> Vec<Instruction> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.fold(String::new(), |text, line| match line.strip_suffix('\\') {
        Some(begun) => text + begun,
        None => text + line + "\n",
    });
    let mut stage = String::new();
    let mut instructions = Vec::new();
    for line in joined.lines().filter(|line| !line.trim().is_empty()) {
        let (name, rest) = line.split_once(' ').expect("an instruction with arguments");
        if name == "FROM" {
            stage = rest.rsplit(" AS ").next().expect("at least one part").to_owned();
        }
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        instructions.push(Instruction { stage: stage.clone(), name: name.to_owned(), rest });
    }
    instructions
}

/// What follows the only instruction of this name in this stage.
#[track_caller]
pub fn only<'i>(instructions: &'i [Instruction], stage: &str, name: &str) -> &'i str {
    let mut found = instructions.iter().filter(|one| one.stage == stage && one.name == name);
    match (found.next(), found.next()) {
        (Some(one), None) => &one.rest,
        _ => panic!("{name} stands not once in {stage}"),
    }
}

/// The words of an instruction in the form of a JSON list.
#[track_caller]
pub fn list(rest: &str) -> Vec<String> {
    serde_json::from_str(rest).unwrap_or_else(|error| panic!("{rest}: {error}"))
}
