//! One colour per system, everywhere.
//!
//! Does: give each system a colour that stays its own on the whole page, and the style sheet that
//! adapts the drawn colours to a dark screen.
//! Does not: draw.
//! Invariants: colours can be told apart by people who do not see red or green (Okabe and Ito);
//! what is not durable is also dashed or pale, so that no meaning hangs on a hue alone.
//! Apart because figures and tables must agree.

use std::fmt::Write as _;

use crate::outcome::Durability;

/// Red, green, blue.
pub type Colour = (u8, u8, u8);

/// Text and axes.
pub const INK: Colour = (0x24, 0x29, 0x2f);
/// Grid lines.
pub const GRID: Colour = (0xc8, 0xd0, 0xd8);
/// Lines between grid lines.
pub const FAINT: Colour = (0xea, 0xee, 0xf2);
/// The ground that figures stand on, where something must be covered.
pub const GROUND: Colour = (0xff, 0xff, 0xff);

const INK_DARK: Colour = (0xd5, 0xdb, 0xe2);
const GRID_DARK: Colour = (0x3a, 0x42, 0x4c);
const FAINT_DARK: Colour = (0x22, 0x28, 0x30);
const GROUND_DARK: Colour = (0x12, 0x16, 0x1c);

/// Hues on light and on dark ground.
const HUES: [(Colour, Colour); 6] = [
    ((0x00, 0x72, 0xb2), (0x56, 0xb4, 0xe9)),
    ((0xd5, 0x5e, 0x00), (0xff, 0x9e, 0x4a)),
    ((0x00, 0x8e, 0x68), (0x3c, 0xcb, 0x9f)),
    ((0xa8, 0x4c, 0x84), (0xe8, 0xa0, 0xc8)),
    ((0x8a, 0x6d, 0x00), (0xe6, 0xc8, 0x4a)),
    ((0x55, 0x55, 0x55), (0xbb, 0xbb, 0xbb)),
];

/// Which system has which colour.
#[derive(Debug)]
pub struct Palette {
    names: Vec<String>,
}

impl Palette {
    /// Colours in this order of systems; more systems than hues share them.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self { names }
    }

    /// The colour of a system in a class. Classes differ by one in blue: nobody sees it, but a style
    /// sheet can tell them apart.
    #[must_use]
    pub fn colour(&self, name: &str, class: Durability) -> Colour {
        let place = self.names.iter().position(|known| known == name).unwrap_or(0);
        marked(HUES[place % HUES.len()].0, class)
    }

    /// Rules that dash class D0 and dot class D0m, and that turn drawn colours into those of a dark screen.
    #[must_use]
    pub fn style() -> String {
        let mut light = String::new();
        let mut dark = String::new();
        for (on_light, on_dark) in HUES {
            for class in [Durability::D0m, Durability::D0, Durability::D1] {
                recolour(&mut dark, marked(on_light, class), on_dark);
            }
            for (class, dashes) in [(Durability::D0m, "5 7"), (Durability::D0, "14 9")] {
                let hex = hex(marked(on_light, class));
                let _ = writeln!(light, "polyline[stroke=\"{hex}\"]{{stroke-dasharray:{dashes}}}");
                let _ = writeln!(light, "rect[fill=\"{hex}\"]{{fill-opacity:.5}}");
            }
        }
        for (on_light, on_dark) in
            [(INK, INK_DARK), (GRID, GRID_DARK), (FAINT, FAINT_DARK), (GROUND, GROUND_DARK)]
        {
            recolour(&mut dark, on_light, on_dark);
        }
        format!("{light}@media screen and (prefers-color-scheme:dark){{\n{dark}}}\n")
    }
}

fn marked((red, green, blue): Colour, class: Durability) -> Colour {
    match class {
        Durability::D0m => (red, green, blue + 2),
        Durability::D0 => (red, green, blue + 1),
        Durability::D1 => (red, green, blue),
    }
}

fn recolour(rules: &mut String, from: Colour, to: Colour) {
    let (from, to) = (hex(from), hex(to));
    let _ = writeln!(rules, "svg [fill=\"{from}\"]{{fill:{to}}}");
    let _ = writeln!(rules, "svg [stroke=\"{from}\"]{{stroke:{to}}}");
}

/// As the drawing crate writes it.
#[must_use]
pub fn hex((red, green, blue): Colour) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_keeps_its_colour_and_its_classes_can_be_told_apart() {
        let palette = Palette::new(vec!["flumen".to_owned(), "kafka".to_owned()]);
        let flumen = palette.colour("flumen", Durability::D1);
        assert_ne!(flumen, palette.colour("kafka", Durability::D1));
        assert_ne!(flumen, palette.colour("flumen", Durability::D0));
        assert_ne!(flumen, palette.colour("flumen", Durability::D0m));
        for class in [Durability::D0m, Durability::D0] {
            assert!(Palette::style().contains(&hex(palette.colour("flumen", class))));
        }
    }
}
