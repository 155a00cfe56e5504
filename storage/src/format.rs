//! The bytes on disk, one file per kind; FORMAT.md draws them.
//!
//! Does: encode, decode, check. Does not: read or write files. Apart because these bytes outlive
//! the program that wrote them.

pub mod frame;
pub mod node;
pub mod segment;
pub mod slots;
pub mod watermark;

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of FORMAT.md from the constants the code is checked against.
    fn table(name: &str, layout: &[(usize, usize, &str)]) -> String {
        let mut out =
            format!("<!-- layout: {name} -->\n| offset | bytes | field |\n|---|---|---|\n");
        for (at, bytes, field) in layout {
            out.push_str(&format!("| {at} | {bytes} | {field} |\n"));
        }
        out
    }

    #[test]
    fn format_md_draws_what_the_code_writes() {
        let page = include_str!("../FORMAT.md");
        for (name, layout) in [
            ("frame header", &frame::LAYOUT[..]),
            ("opening payload", &frame::OPENING_LAYOUT[..]),
            ("two copies", &slots::SLOT_LAYOUT[..]),
            ("node record body", &node::NODE_LAYOUT[..]),
            ("watermark body", &watermark::WATERMARK_LAYOUT[..]),
            ("index entry", &segment::LAYOUT[..]),
            ("manifest chunk", &crate::manifest::manifest::LAYOUT[..]),
        ] {
            let table = table(name, layout);
            assert!(page.contains(&table), "FORMAT.md is stale, it should say:\n{table}");
        }
    }
}
