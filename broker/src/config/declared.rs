//! What an option that Flumen honours is declared with.
//!
//! Does: hold a row of the declaration, say its unit, put a checked value into its field.
//! Does not: know which options there are.
//! Invariants: a value that its kind does not allow reaches no field.
//! Apart from the rows, which are read as a table.

use super::dynamic;
use super::kind::{Kind, parse_boolean};
use super::options::Options;

/// One honoured option.
pub struct Declaration {
    /// Kafka's name where Kafka has the setting, otherwise one that starts with `flumen.`.
    pub name: &'static str,
    /// Allowed values.
    pub kind: Kind,
    /// Value where none is given; `None` means unset.
    pub default: Option<&'static str>,
    /// What it does here, in one or two sentences.
    pub meaning: &'static str,
    /// Where the value goes.
    pub(super) field: Field,
}

/// The field one option sets on its own.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Bool(fn(&mut Options) -> &mut bool),
    I16(fn(&mut Options) -> &mut i16),
    I32(fn(&mut Options) -> &mut i32),
    I64(fn(&mut Options) -> &mut i64),
    F64(fn(&mut Options) -> &mut f64),
    OptionalI64(fn(&mut Options) -> &mut Option<i64>),
    OptionalText(fn(&mut Options) -> &mut Option<String>),
    /// Read together with others in `resolve`.
    Combined,
}

impl Declaration {
    /// The unit the number counts, taken from how the name ends; empty where it counts things.
    pub fn unit(&self) -> &'static str {
        const UNITS: [(&str, &str); 5] = [
            (".ms", "milliseconds"),
            (".minutes", "minutes"),
            (".hours", "hours"),
            (".bytes", "bytes"),
            (".percent", "percent"),
        ];
        UNITS.iter().find(|(end, _)| self.name.ends_with(end)).map_or("", |(_, unit)| unit)
    }

    /// Whether a change takes effect only at the next start.
    pub fn restart_needed(&self) -> bool {
        !dynamic::is_changeable(self.name)
    }

    /// Puts a checked text into its field; an empty optional text counts as unset.
    ///
    /// # Errors
    /// The sentence of `Kind::check`.
    pub(super) fn set(&self, options: &mut Options, value: &str) -> Result<(), String> {
        self.kind.check(self.name, value)?;
        let number = value.parse::<i64>().unwrap_or_default();
        match self.field {
            Field::Bool(field) => *field(options) = parse_boolean(value).unwrap_or_default(),
            Field::I16(field) => *field(options) = i16::try_from(number).unwrap_or_default(),
            Field::I32(field) => *field(options) = i32::try_from(number).unwrap_or_default(),
            Field::I64(field) => *field(options) = number,
            Field::F64(field) => *field(options) = value.parse().unwrap_or_default(),
            Field::OptionalI64(field) => *field(options) = Some(number),
            Field::OptionalText(field) => {
                *field(options) = Some(value.to_owned()).filter(|v| !v.is_empty())
            }
            Field::Combined => {}
        }
        Ok(())
    }
}

pub(super) const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
    field: Field,
) -> Declaration {
    Declaration { name, kind, default: Some(default), meaning, field }
}

/// A row that only topics go by.
pub(super) const fn for_topics(
    name: &'static str,
    kind: Kind,
    default: &'static str,
) -> Declaration {
    let meaning =
        "For topics that do not say it themselves; see the topic config that inherits it.";
    row(name, kind, default, meaning, Field::Combined)
}

pub(super) const fn unset(
    name: &'static str,
    kind: Kind,
    meaning: &'static str,
    field: Field,
) -> Declaration {
    Declaration { name, kind, default: None, meaning, field }
}
