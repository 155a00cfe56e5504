//! `flumen-bench report`: makes outcomes readable.
//!
//! Does: read load runs, comparisons and limits, and write one self-contained page and a summary;
//! keep the raw files beside them.
//! Does not: measure or change a number.
//! Invariants: the same files give the same bytes; nothing is written unless everything could be
//! read.
//! Apart because a report can be made anywhere, long after the measurement.
//!
//! | room | what |
//! |---|---|
//! | [`input`] | files of strangers become outcomes |
//! | [`study`] | outcomes become scenarios with their runs |
//! | [`quantity`] | what is read off a run |
//! | [`estimate`] | medians and intervals |
//! | [`goals`] | the project's goals as data, and what became of them |
//! | [`tables`], [`figure`] | numbers as tables and drawings |
//! | [`content`] | everything in order, without a form |
//! | [`page`], [`summary`] | the two forms: HTML and Markdown |
//! | [`palette`], [`words`] | how colours and numbers look everywhere |
//! | [`output`] | files on the disk |

pub mod content;
pub mod estimate;
pub mod figure;
pub mod goals;
pub mod input;
pub mod output;
pub mod page;
pub mod palette;
pub mod quantity;
pub mod study;
pub mod summary;
pub mod tables;
pub mod words;

#[cfg(test)]
mod made_up;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;

use content::Content;
use output::Output;

/// Makes a page and a summary from the JSON of `load`, `compare` and `limits`.
///
/// Without --html and --markdown the summary goes to standard output.
#[derive(Debug, Args)]
pub struct Report {
    /// Outcomes of `load`, `compare` or `limits`: JSON, plain or gzip
    #[arg(required = true, value_name = "FILE.json")]
    files: Vec<PathBuf>,
    /// Write one self-contained HTML page
    #[arg(long, value_name = "OUT.html")]
    html: Option<PathBuf>,
    /// Write a Markdown summary
    #[arg(long, value_name = "OUT.md")]
    markdown: Option<PathBuf>,
    /// Keep the raw outcomes as .json.gz in this folder, 5 MiB at most
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Reads everything, then writes everything.
///
/// # Errors
/// One line about the first file that could not be read or written.
pub fn run(report: &Report) -> Result<(), Box<dyn std::error::Error>> {
    let sources =
        report.files.iter().map(|path| input::read(path)).collect::<Result<Vec<_>, _>>()?;
    let content = Content::of(&sources, report.html.is_some());
    let mut outputs = Vec::new();
    if let Some(path) = &report.html {
        let bytes = page::render(&content).into_bytes();
        outputs.push(Output { path: path.clone(), bytes });
    }
    if let Some(path) = &report.markdown {
        let bytes = summary::render(&content).into_bytes();
        outputs.push(Output { path: path.clone(), bytes });
    }
    if let Some(folder) = &report.keep {
        let kept = output::pack(&sources, folder);
        for (name, bytes) in &kept.left_out {
            eprintln!("flumen-bench: {name} was not kept: {} KiB too many", bytes >> 10);
        }
        outputs.extend(kept.outputs);
    }
    output::write_all(&outputs)?;
    if report.html.is_none() && report.markdown.is_none() {
        std::io::stdout().write_all(summary::render(&content).as_bytes())?;
    }
    Ok(())
}
