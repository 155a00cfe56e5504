//! Regular expressions that clients bring: subscriptions of groups, filters of lists.
//!
//! Does: check and compile them; match whole names.
//! Does not: know whose names.
//! Invariants: a match takes time linear in the name; a compiled pattern has a bound size.
//! Apart because it is the only room where what a client sends is run like a program.
//!
//! Kafka's patterns are RE2's and match whole names. This crate's are the same language but for
//! `\Q…\E`, the classes of ASCII and braces that repeat nothing, which are rewritten, the octal
//! escapes, which are not taken, and a few forms that RE2 does not know and that are taken here.

use regex::bytes::{Regex, RegexBuilder};

use crate::limits::{PATTERN_BYTES_MAX, PATTERN_COMPILED_BYTES_MAX, PATTERN_NESTING_MAX};

/// RE2's number.
const REPEATS_MAX: u32 = 1000;

/// A pattern, ready to be matched with.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Why it is none, in one line.
    pub fn new(pattern: &str) -> Result<Self, String> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(format!("it is longer than {PATTERN_BYTES_MAX} bytes"));
        }
        let plain = with_ascii_classes(&with_literal_braces(&unquoted(pattern))?);
        // By itself as well: in the brackets that anchor it, `a)|(b` would be a pattern.
        build(&plain)?;
        build(&format!(r"\A(?:{plain})\z")).map(Self)
    }

    /// Whether it stands for this name, all of it.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name.as_bytes())
    }
}

fn build(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern)
        .size_limit(PATTERN_COMPILED_BYTES_MAX)
        .dfa_size_limit(PATTERN_COMPILED_BYTES_MAX)
        .nest_limit(PATTERN_NESTING_MAX)
        .build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
        // The last line says what is wrong, those before point at it.
        other => {
            let text = other.to_string();
            let line = text.lines().last().unwrap_or_default().trim();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        }
    })
}

/// In RE2 `\w`, `\d` and `\s` stand for ASCII only; this crate's would also be a hundred times larger.
fn with_ascii_classes(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        match letters.next() {
            Some('w') => plain.push_str("[0-9A-Za-z_]"),
            Some('W') => plain.push_str("[^0-9A-Za-z_]"),
            Some('d') => plain.push_str("[0-9]"),
            Some('D') => plain.push_str("[^0-9]"),
            Some('s') => plain.push_str(r"[\t\n\f\r ]"),
            Some('S') => plain.push_str(r"[^\t\n\f\r ]"),
            Some(other) => plain.extend([letter, other]),
            None => plain.push(letter),
        }
    }
    plain
}

/// In RE2 an opening brace that begins no repetition, as in `a{` or `a{,5}`, stands for itself, and nothing
/// is repeated more than a thousand times.
fn with_literal_braces(pattern: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find(['\\', '{']) {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        let taken = if from.starts_with('\\') {
            escape_bytes(from)
        } else if let Some(length) = repetition_bytes(from)? {
            length
        } else {
            plain.push('\\');
            1
        };
        plain.push_str(&from[..taken]);
        rest = &from[taken..];
    }
    plain.push_str(rest);
    Ok(plain)
}

/// How long the escape is that begins here; the braces of `\p{Greek}` and `\x{41}` are part of it.
fn escape_bytes(from: &str) -> usize {
    let mut letters = from.char_indices().skip(1);
    let Some((at, letter)) = letters.next() else { return from.len() };
    let next = at + letter.len_utf8();
    let has_braces = matches!(letter, 'p' | 'P' | 'x') && from[next..].starts_with('{');
    match from[next..].find('}') {
        Some(end) if has_braces => next + end + 1,
        Some(_) | None => next,
    }
}

/// How long the repetition is that begins with this brace, if it does begin one.
fn repetition_bytes(from: &str) -> Result<Option<usize>, String> {
    let Some((counts, _)) = from[1..].split_once('}') else { return Ok(None) };
    let (min, max) = counts.split_once(',').unwrap_or((counts, ""));
    let is_number = |text: &str| text.bytes().all(|letter| letter.is_ascii_digit());
    if min.is_empty() || !is_number(min) || !is_number(max) {
        return Ok(None);
    }
    let is_too_large = |text: &str| {
        !text.is_empty() && text.parse().map_or(true, |count: u32| count > REPEATS_MAX)
    };
    if is_too_large(min) || is_too_large(max) {
        return Err("invalid repeat count".to_owned());
    }
    Ok(Some(counts.len() + 2))
}

/// RE2 takes what stands between `\Q` and `\E` literally.
fn unquoted(pattern: &str) -> String {
    let mut parts = pattern.split(r"\Q");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (literal, rest) = part.split_once(r"\E").unwrap_or((part, ""));
        plain.push_str(&regex::escape(literal));
        plain.push_str(rest);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).expect("a pattern").matches(name)
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        assert!(matches("a|ab", "ab"));
        assert!(!matches("a", "ab"));
        assert!(matches("^orders-.*$", "orders-eu"));
        assert!(matches(r"\Qa.b\E.*", "a.bc"));
        assert!(!matches(r"\Qa.b\E", "axb"));
        assert!(matches(r"\Qa.b", "a.b"));
        assert!(matches(r"\p{Lu}\w+", "Topic_1"));
        assert!(matches("(?i)TOPIC", "topic"));
        assert!(matches(r"f.r-\d+", "für-7"));
        assert!(matches(r"[\w.-]+\.[^\s\W]{2}", "a-b.c.d1"));
        assert!(!matches(r"\w+", "für"), "RE2's letters are ASCII");
        assert!(matches(r"\\w", r"\w"));
    }

    #[test]
    fn braces_repeat_or_stand_for_themselves() {
        assert!(matches("a{2,3}", "aaa") && !matches("a{2,3}", "a"));
        assert!(matches("a{2}b{1,}", "aabb"));
        assert!(matches("a{", "a{") && matches("a{,2}", "a{,2}") && matches("{x}", "{x}"));
        assert!(matches(r"\{2}", "{2}") && matches("[{]+", "{") && matches(r"\\{2}", r"\\"));
        assert!(matches(r"\p{Lu}{2}", "AB") && matches(r"\x{41}{2}", "AA"));
        assert!(matches("a{1000}", &"a".repeat(1000)));
        for bad in ["a{1001}", "a{1,1001}", "a{99999999999}", "a{3,2}", "{2}"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_pattern_or_explodes_is_refused() {
        let check = |pattern: &str| Pattern::new(pattern).map(drop);
        for bad in ["(", "a)|(b", "[", "*", r"(?=a)", r"(a)\1", "(?P<a", r"a\"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        let exploding = "((a{0,100}){0,100}){0,100}";
        assert_eq!(check(exploding), Err("it is too large when compiled".to_owned()));
        assert!(check(&"(".repeat(300)).is_err());
        assert!(check(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_err());
        assert_eq!(check(&"a".repeat(PATTERN_BYTES_MAX)), Ok(()));
        assert_eq!(check("(a+)+(a+)+(a+)+b"), Ok(()), "harmless where time is linear");
        assert_eq!(check(r"\w+-\w+-\w+-\w+-\d{4}-.*"), Ok(()));
    }
}
