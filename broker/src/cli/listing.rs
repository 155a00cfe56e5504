//! What a command found, as a table for people or as JSON for programs.
//!
//! Does: hold rows and named values once; lay them out twice.
//! Does not: know what they mean, or where they are written to.
//! Invariants: both forms show the same cells; a table's columns are aligned and its cells hold no
//! control characters, since names and errors come from strangers.
//! Apart because every command needs both forms, and none should draw them itself.

use std::fmt::Write;

use serde_json::{Map, Value};

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A count, an id, an offset.
    Number(i64),
    /// A number with a fraction, as seconds are; shown with three digits.
    Decimal(f64),
    /// Yes or no.
    Flag(bool),
    /// Several, such as replicas.
    Numbers(Vec<i32>),
    /// Not known, or there is none.
    Absent,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i32> for Cell {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Into::into)
    }
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Text(text) if text.is_empty() => "-".to_owned(),
            Self::Text(text) => {
                text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
            }
            Self::Number(number) => number.to_string(),
            Self::Decimal(number) => format!("{number:.3}"),
            Self::Flag(true) => "yes".to_owned(),
            Self::Flag(false) => "no".to_owned(),
            Self::Numbers(numbers) if numbers.is_empty() => "-".to_owned(),
            Self::Numbers(numbers) => {
                numbers.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
            }
            Self::Absent => "-".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Number(number) => (*number).into(),
            Self::Decimal(number) => (*number).into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Numbers(numbers) => numbers.as_slice().into(),
            Self::Absent => Value::Null,
        }
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Decimal(_))
    }
}

/// Rows of the same kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    columns: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

impl Listing {
    /// An empty one; columns are named as JSON names fields.
    #[must_use]
    pub fn new(columns: &'static [&'static str]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// When it has not a cell for each column.
    pub fn push(&mut self, row: Vec<Cell>) {
        assert_eq!(row.len(), self.columns.len(), "a row has a cell for each column");
        self.rows.push(row);
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// For people: headings and aligned columns, numbers to the right; nothing for no rows.
    #[must_use]
    pub fn text(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let heads = self.columns.iter().map(|name| name.to_uppercase().replace('_', "-"));
        let mut lines: Vec<Vec<String>> = vec![heads.collect()];
        lines.extend(self.rows.iter().map(|row| row.iter().map(Cell::text).collect()));
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0))
            .collect();
        let rights: Vec<bool> = (0..self.columns.len())
            .map(|at| self.rows.iter().any(|row| row[at].is_number()))
            .collect();
        let mut text = String::new();
        for line in lines {
            let mut written = String::new();
            for ((cell, width), right) in line.iter().zip(&widths).zip(&rights) {
                // Writing into a String cannot fail.
                let _ = match right {
                    true => write!(written, "{cell:>width$}  "),
                    false => write!(written, "{cell:<width$}  "),
                };
            }
            text.push_str(written.trim_end());
            text.push('\n');
        }
        text
    }

    /// For programs: an array of objects.
    #[must_use]
    pub fn json(&self) -> Value {
        let object = |row: &Vec<Cell>| {
            let fields = self.columns.iter().zip(row);
            fields.map(|(name, cell)| ((*name).to_owned(), cell.json())).collect::<Map<_, _>>()
        };
        self.rows.iter().map(object).map(Value::Object).collect()
    }
}

/// One thing in detail: named values, then tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    fields: Vec<(&'static str, Cell)>,
    tables: Vec<(&'static str, Listing)>,
}

impl Document {
    /// Adds a named value.
    #[must_use]
    pub fn with(mut self, name: &'static str, cell: impl Into<Cell>) -> Self {
        self.fields.push((name, cell.into()));
        self
    }

    /// Adds a table.
    #[must_use]
    pub fn table(mut self, name: &'static str, listing: Listing) -> Self {
        self.tables.push((name, listing));
        self
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let width = self.fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, cell) in &self.fields {
            let name = name.replace('_', " ");
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{name:<width$}  {}", cell.text());
        }
        for (name, listing) in self.tables.iter().filter(|(_, listing)| !listing.is_empty()) {
            let _ = write!(text, "\n{}:\n{}", name.replace('_', " "), listing.text());
        }
        text
    }

    /// For programs: one object, its tables as arrays.
    #[must_use]
    pub fn json(&self) -> Value {
        let fields = self.fields.iter().map(|(name, cell)| ((*name).to_owned(), cell.json()));
        let tables = self.tables.iter().map(|(name, rows)| ((*name).to_owned(), rows.json()));
        Value::Object(fields.chain(tables).collect())
    }
}

/// What a command says when it is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Rows.
    Listing(Listing),
    /// Things in detail.
    Documents(Vec<Document>),
    /// A sentence for people, and the same as rows for programs.
    Done(String, Listing),
    /// Everything was said already.
    Silent,
}

impl Outcome {
    /// What is to be written, with its last line ended; empty when there is nothing to say.
    #[must_use]
    pub fn render(&self, json: bool) -> String {
        if !json {
            return match self {
                Self::Listing(listing) => listing.text(),
                Self::Documents(documents) => {
                    documents.iter().map(Document::text).collect::<Vec<_>>().join("\n")
                }
                Self::Done(sentence, _) => format!("{sentence}\n"),
                Self::Silent => String::new(),
            };
        }
        match self {
            Self::Listing(listing) | Self::Done(_, listing) => format!("{}\n", listing.json()),
            Self::Documents(documents) => {
                format!("{}\n", documents.iter().map(Document::json).collect::<Value>())
            }
            Self::Silent => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let mut listing = Listing::new(&["topic", "end_offset", "replicas"]);
        listing.push(vec!["orders".into(), 7_i64.into(), Cell::Numbers(vec![1, 2])]);
        listing.push(vec!["a\u{1b}[2Jb".into(), 12_345_i64.into(), Cell::Absent]);
        listing
    }

    #[test]
    fn a_table_is_aligned_and_harmless() {
        let text = listing().text();
        assert_eq!(
            text,
            "TOPIC   END-OFFSET  REPLICAS\n\
             orders           7  1,2\n\
             a\u{fffd}[2Jb       12345  -\n"
        );
    }

    #[test]
    fn json_holds_the_same_cells() {
        let json = listing().json();
        assert_eq!(json[0]["end_offset"], 7);
        assert_eq!(json[0]["replicas"], serde_json::json!([1, 2]));
        assert_eq!(json[1]["replicas"], Value::Null);
        assert_eq!(json[1]["topic"], "a\u{1b}[2Jb");
    }

    #[test]
    fn a_document_shows_its_tables_only_where_they_have_rows() {
        let empty = Listing::new(&["x"]);
        let document = Document::default().with("group_state", "Empty").table("members", empty);
        let document = document.table("offsets", listing());
        assert!(document.text().starts_with("group state  Empty\n\noffsets:\nTOPIC"));
        assert_eq!(document.json()["members"], serde_json::json!([]));
        let both = Outcome::Documents(vec![document.clone(), document]);
        assert!(both.render(true).starts_with("[{") && both.render(false).contains("\n\ngroup"));
    }
}
