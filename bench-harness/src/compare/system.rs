//! A system under test, as it is named on the command line.
//!
//! Does: take `NAME=DURABILITY=START_COMMAND` apart and put port and data folder into the command.
//! Does not: start it.
//! Invariants: a name can be part of a file name; a command receives both its port and its folder.
//! Apart because what a stranger types deserves its own judge.

use std::path::Path;
use std::str::FromStr;

use crate::outcome::Durability;

/// What to start, and what its acknowledgements mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemSpec {
    /// Short name in tables.
    pub name: String,
    /// What its acknowledgements mean, as the caller declares it.
    pub durability: Durability,
    /// A command for the shell, with `{port}` and `{data}`.
    pub command: String,
}

impl FromStr for SystemSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "expected NAME=D0m|D0|D1=COMMAND";
        let mut parts = text.splitn(3, '=');
        let (Some(name), Some(class), Some(command)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(form.to_owned());
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(format!("the name {name:?} may hold letters, digits, - . _ only; {form}"));
        }
        let durability = match class {
            "D0m" => Durability::D0m,
            "D0" => Durability::D0,
            "D1" => Durability::D1,
            other => {
                return Err(format!("{other:?} is no durability class: D0m, D0 or D1; {form}"));
            }
        };
        for place in ["{port}", "{data}"] {
            if !command.contains(place) {
                return Err(format!("the command of {name} lacks {place}, which is replaced"));
            }
        }
        Ok(Self { name: name.to_owned(), durability, command: command.to_owned() })
    }
}

impl SystemSpec {
    /// The command as the shell gets it.
    #[must_use]
    pub fn command_for(&self, port: u16, data: &Path) -> String {
        let quoted = quoted(&data.to_string_lossy());
        self.command.replace("{port}", &port.to_string()).replace("{data}", &quoted)
    }

    /// The command for a report: where somebody keeps his programs says nothing to others.
    #[must_use]
    pub fn without_folders(&self) -> String {
        let named = |word: &str| match word.strip_prefix('/') {
            Some(path) => path.rsplit('/').next().unwrap_or(path).to_owned(),
            None => word.to_owned(),
        };
        self.command.split(' ').map(named).collect::<Vec<String>>().join(" ")
    }

    /// The program that the command begins with, where it is a plain word.
    #[must_use]
    pub fn program(&self) -> Option<&str> {
        let word = self.command.split_whitespace().next()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/');
        word.chars().all(plain).then_some(word)
    }

    /// Name and class together: what stands beside every number.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {:?}", self.name, self.durability)
    }
}

/// `text` as one word of the shell; as it is where it needs no quotes.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_name_class_and_command() {
        let system: SystemSpec =
            "kafka=D0=./kafka.sh {port} {data} a=b".parse().expect("well formed");
        assert_eq!((system.name.as_str(), system.durability), ("kafka", Durability::D0));
        assert_eq!(system.command_for(9092, Path::new("/x/y")), "./kafka.sh 9092 /x/y a=b");
        assert_eq!(system.program(), Some("./kafka.sh"));
        assert_eq!(system.label(), "kafka D0");
        let relaxed: SystemSpec = "flumen=D0m=x {port} {data}".parse().expect("well formed");
        assert_eq!(relaxed.label(), "flumen D0m");
    }

    #[test]
    fn a_report_does_not_say_where_programs_lie() {
        let system: SystemSpec =
            "a=D1=/opt/x/run -d {data} ./b {port}".parse().expect("well formed");
        assert_eq!(system.without_folders(), "run -d {data} ./b {port}");
    }

    #[test]
    fn folders_with_blanks_stay_one_word() {
        let system: SystemSpec = "a=D1=run {port} {data}".parse().expect("well formed");
        assert_eq!(system.command_for(1, Path::new("/a b/c'd")), r"run 1 '/a b/c'\''d'");
    }

    #[test]
    fn a_command_that_is_more_than_a_program_is_not_asked_for_its_version() {
        let system: SystemSpec = "a=D1=$X/run {port} {data}".parse().expect("well formed");
        assert_eq!(system.program(), None);
    }

    #[test]
    fn mistakes_are_told_in_a_line() {
        for (text, said) in [
            ("flumen", "expected NAME=D0m|D0|D1=COMMAND"),
            ("flumen=D1", "expected NAME=D0m|D0|D1=COMMAND"),
            ("a b=D1=x {port} {data}", "may hold letters"),
            ("a=D2=x {port} {data}", "\"D2\" is no durability class"),
            ("a=D1=x {data}", "lacks {port}"),
            ("a=D1=x {port}", "lacks {data}"),
        ] {
            let error = text.parse::<SystemSpec>().expect_err(text);
            assert!(error.contains(said) && !error.contains('\n'), "{error}");
        }
    }
}
