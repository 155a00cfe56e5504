//! The figures of a report.
//!
//! Does: turn studies into charts, and charts into SVG.
//! Does not: know HTML.
//! Invariants: every axis has a unit; what cannot stand on a logarithmic axis is left out, not
//! moved.
//! Apart because drawing is a trade of its own.
//!
//! | room | what |
//! |---|---|
//! | [`axis`] | ranges and ticks that people expect |
//! | [`canvas`] | a chart as shapes in its own coordinates, drawn by the plotting crate |
//! | [`latency`] | percentile curves |
//! | [`knee`] | rate against latency |
//! | [`ratios`] | bars of ratios with their intervals |
//! | [`timeline`] | second by second |

pub mod axis;
pub mod canvas;
pub mod knee;
pub mod latency;
pub mod ratios;
pub mod timeline;

use crate::outcome::Durability;
use crate::report::palette::{Colour, Palette};
use crate::report::study::Study;

/// A finished figure.
#[derive(Debug)]
pub struct Figure {
    /// What it shows.
    pub title: String,
    /// How to read it.
    pub caption: String,
    /// The drawing.
    pub svg: String,
    /// Takes the whole width of a page.
    pub is_wide: bool,
    /// Whose colours are in it: name, class and colour.
    pub legend: Vec<(String, Durability, Colour)>,
}

/// All figures that a study has the numbers for.
#[must_use]
pub fn all(study: &Study, palette: &Palette) -> Vec<Figure> {
    let mut figures = Vec::new();
    figures.extend(latency::produce(study, palette));
    figures.extend(latency::end_to_end(study, palette));
    figures.extend(knee::figure(study, palette));
    figures.extend(timeline::latency(study, palette));
    figures.extend(timeline::throughput(study, palette));
    figures.extend(ratios::figure(study, palette));
    figures
}

/// The systems of a study with their colours.
fn legend(study: &Study, palette: &Palette, shown: &[usize]) -> Vec<(String, Durability, Colour)> {
    shown
        .iter()
        .map(|system| {
            let named = &study.systems[*system];
            let colour = palette.colour(&named.name, named.durability);
            (named.name.clone(), named.durability, colour)
        })
        .collect()
}

fn colour(study: &Study, palette: &Palette, system: usize) -> Colour {
    palette.colour(&study.systems[system].name, study.systems[system].durability)
}
