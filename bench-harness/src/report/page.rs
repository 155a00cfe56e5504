//! The report as one HTML page.
//!
//! Does: lay the content out, with its style and its drawings inside, nothing from elsewhere.
//! Does not: compute.
//! Invariants: every text of a file is escaped by the template; the page has no script.
//! Apart because it is one of two forms of the same content.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::outcome::Durability;
use crate::report::content::{Content, Section, Warning};
use crate::report::figure::Figure;
use crate::report::palette::{Colour, Palette, hex};
use crate::report::tables::{Cell, Table, Tone};
use crate::report::words;

const STYLE: &str = include_str!("page/style.css");

/// The whole page.
#[must_use]
pub fn render(content: &Content) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (content.title) }
                style { (PreEscaped(STYLE)) (PreEscaped(Palette::style())) }
            }
            body {
                header {
                    h1 { (content.title) }
                    p class="subtitle" { (content.subtitle) }
                    (warnings(&content.warnings))
                    (contents(content))
                    ul class="reading" { @for line in &content.how_to_read { li { (line) } } }
                }
                main { @for part in &content.sections { (section(part)) } }
                footer { p { "Made by flumen-bench from " (content.files.join(", ")) "." } }
            }
        }
    };
    page.into_string()
}

fn contents(content: &Content) -> Markup {
    html! {
        nav aria-label="Contents" {
            @for section in &content.sections {
                a href={ "#" (section.anchor) } class=[(!section.warnings.is_empty()).then_some("doubtful")] {
                    (section.title)
                }
            }
        }
    }
}

fn section(section: &Section) -> Markup {
    html! {
        section id=(section.anchor) {
            h2 { (section.title) }
            (warnings(&section.warnings))
            @for paragraph in &section.paragraphs { p { (paragraph) } }
            @for part in &section.tables { (table(part)) }
            @if !section.figures.is_empty() {
                div class="figures" { @for drawn in &section.figures { (figure(drawn)) } }
            }
            @if !section.notes.is_empty() {
                ul class="notes" { @for note in &section.notes { li { (note) } } }
            }
        }
    }
}

fn warnings(warnings: &[Warning]) -> Markup {
    html! {
        @for warning in warnings {
            p class="warning" role="alert" { strong { (warning.loud) } " " (warning.text) }
        }
    }
}

fn table(table: &Table) -> Markup {
    html! {
        @if !table.rows.is_empty() {
            div class="wide" tabindex="0" {
                table {
                    caption { (table.title) }
                    thead {
                        tr {
                            @for column in &table.columns {
                                th scope="col" class=[column.is_number.then_some("number")] {
                                    (column.name)
                                }
                            }
                        }
                    }
                    tbody {
                        @for row in &table.rows {
                            tr {
                                @for (column, shown) in table.columns.iter().zip(row) {
                                    td class=(classes(column.is_number, shown)) { (shown.text) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn classes(is_number: bool, cell: &Cell) -> String {
    let tone = match cell.tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Fair => "fair",
        Tone::Bad => "bad",
        Tone::Faint => "faint",
    };
    if is_number { format!("number {tone}") } else { tone.to_owned() }
}

fn figure(figure: &Figure) -> Markup {
    html! {
        figure class=[figure.is_wide.then_some("whole")] {
            figcaption {
                strong { (figure.title) }
                span class="legend" {
                    @for (name, class, colour) in &figure.legend { (key(name, *class, *colour)) }
                }
            }
            div role="img" aria-label=(figure.title) { (PreEscaped(&figure.svg)) }
            p class="caption" { (figure.caption) }
        }
    }
}

/// The key of a system: its line as it is drawn, its name, its class.
fn key(name: &str, class: Durability, colour: Colour) -> Markup {
    html! {
        span class="key" {
            svg width="30" height="10" viewBox="0 0 60 20" {
                polyline points="0,10 60,10" fill="none" stroke=(hex(colour)) stroke-width="7" {}
            }
            (name) " " (words::class(class))
        }
    }
}
