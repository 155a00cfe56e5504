//! The report as Markdown.
//!
//! Does: word warnings, tables and notes so that a repository shows them.
//! Does not: draw figures.
//! Invariants: the same input gives the same bytes; no text of a file can break a table.
//! Apart because it is one of two forms of the same content.

use std::fmt::Write as _;

use crate::report::content::{Content, Section};
use crate::report::tables::{Cell, Table, Tone};

/// The whole summary.
#[must_use]
pub fn render(content: &Content) -> String {
    let mut out = format!("# {}\n\n{}\n\n", content.title, content.subtitle);
    for warning in &content.warnings {
        let _ = writeln!(out, "> **{}** {}\n", plain(&warning.loud), plain(&warning.text));
    }
    for line in &content.how_to_read {
        let _ = writeln!(out, "- {}", plain(line));
    }
    out.push('\n');
    for section in &content.sections {
        render_section(&mut out, section);
    }
    let _ = writeln!(out, "Made from {}.", plain(&content.files.join(", ")));
    out
}

fn render_section(out: &mut String, section: &Section) {
    let _ = writeln!(out, "## {}\n", plain(&section.title));
    for warning in &section.warnings {
        let _ = writeln!(out, "> **{}** {}\n", plain(&warning.loud), plain(&warning.text));
    }
    for paragraph in &section.paragraphs {
        let _ = writeln!(out, "{}\n", plain(paragraph));
    }
    for table in &section.tables {
        render_table(out, table);
    }
    for note in &section.notes {
        let _ = writeln!(out, "- {}", plain(note));
    }
    if !section.notes.is_empty() {
        out.push('\n');
    }
}

fn render_table(out: &mut String, table: &Table) {
    if table.rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "**{}**\n", plain(&table.title));
    let names: Vec<String> = table.columns.iter().map(|column| plain(&column.name)).collect();
    let _ = writeln!(out, "| {} |", names.join(" | "));
    let rule: Vec<&str> =
        table.columns.iter().map(|c| if c.is_number { "---:" } else { "---" }).collect();
    let _ = writeln!(out, "| {} |", rule.join(" | "));
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(cell).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out.push('\n');
}

fn cell(cell: &Cell) -> String {
    let text = plain(&cell.text);
    match cell.tone {
        Tone::Bad | Tone::Good if !text.is_empty() => format!("**{text}**"),
        Tone::Plain | Tone::Good | Tone::Fair | Tone::Bad | Tone::Faint => text,
    }
}

/// Words of a file, so that they stay words: no markup, no new lines, no columns of their own.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '|' | '*' | '_' | '`' | '\\' | '#' => {
                out.push('\\');
                out.push(character);
            }
            // Brackets read better bare, and make a link only before a parenthesis.
            '(' if out.ends_with(']') => out.push_str("\\("),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}
