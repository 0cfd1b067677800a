//! What cargo built, by its own account: the JSON messages of a build, reduced to the programs it made.
//!
//! A program is named by its target and its path is the one cargo gives, so nothing here guesses at file names.

use std::io;

use serde_json::Value;

/// One program that cargo built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Name of the cargo target: a binary, a test, or the library whose unit tests the program holds.
    pub(crate) name: String,
    /// Path of the executable file.
    pub(crate) path: String,
    /// Built to run tests.
    pub(crate) is_test: bool,
}

/// Reads messages from standard input and prints the test programs among them.
pub(crate) fn print_tests() -> Result<(), String> {
    let messages =
        io::read_to_string(io::stdin()).map_err(|error| format!("cannot read cargo's messages: {error}"))?;
    let mut programs = programs(&messages)?;
    programs.retain(|program| program.is_test);
    if programs.is_empty() {
        return Err("cargo's messages name no test program".to_owned());
    }
    for program in programs {
        println!("{}\t{}", program.name, program.path);
    }
    Ok(())
}

/// The programs that the messages of one build name, in the order of their names.
pub(crate) fn programs(messages: &str) -> Result<Vec<Program>, String> {
    let mut found = Vec::new();
    for line in messages.lines().filter(|line| !line.trim().is_empty()) {
        let message: Value =
            serde_json::from_str(line).map_err(|error| format!("not a message of cargo: {error}: {line}"))?;
        found.extend(program(&message));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn program(message: &Value) -> Option<Program> {
    Some(Program {
        path: message.get("executable")?.as_str()?.to_owned(),
        name: message.pointer("/target/name")?.as_str()?.to_owned(),
        is_test: message.pointer("/profile/test")?.as_bool()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_programs_and_leaves_libraries() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"tcp"},"profile":{"test":true},"executable":"/b/tcp-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"core"},"profile":{"test":false},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"echo"},"profile":{"test":false},"executable":"/b/echo"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
            "\n",
        );
        let echo = Program { name: "echo".to_owned(), path: "/b/echo".to_owned(), is_test: false };
        let tcp = Program { name: "tcp".to_owned(), path: "/b/tcp-1".to_owned(), is_test: true };
        assert_eq!(programs(messages), Ok(vec![echo, tcp]));
    }

    #[test]
    fn refuses_what_is_no_message() {
        assert!(programs("error: no such package\n").is_err());
    }
}
