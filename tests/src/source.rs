//! Reads source text the way the tidy rules need it: code apart from comments and strings.
//!
//! Does: blank out comments and literals, find where the unit tests begin, find functions and their lengths.
//! Does not: parse Rust. It knows just enough tokens not to be fooled by a word in a comment.
//! Invariant: the blanked text has exactly the lines and columns (in characters) of the original.
//! Apart, because rules are easier to trust when what they look at is tested by itself.

/// One file of the project, as text, with the views that rules ask for.
pub struct Source {
    /// Path from the root of the project, with `/` between its parts.
    pub path: String,
    /// The whole text, as it is on disk.
    pub text: String,
    /// The same text with comments and the insides of literals turned into blanks.
    pub code: String,
}

/// Where a function stands and how long it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Line of its `fn`, counted from 1.
    pub line: usize,
    /// Lines from `fn` to the closing brace, both counted.
    pub length: usize,
}

impl Source {
    /// Takes the text of a file; `path` is relative to the project's root.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { blank_rust(text) } else { text.to_owned() };
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// The number of lines before the unit tests at the end of the file; all lines where it has none.
    #[must_use]
    pub fn lines_without_tests(&self) -> usize {
        let lines: Vec<&str> = self.code.lines().collect();
        lines
            .windows(2)
            .position(|pair| {
                pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod tests")
            })
            .unwrap_or(lines.len())
    }

    /// Blanked code without the unit tests, line by line, numbered from 1.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .lines()
            .take(self.lines_without_tests())
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    /// Lines of a word in the code (not in comments, literals or unit tests), found at word boundaries.
    #[must_use]
    pub fn lines_with_word(&self, word: &str) -> Vec<usize> {
        self.code_lines()
            .filter(|(_, line)| has_word(line, word))
            .map(|(number, _)| number)
            .collect()
    }

    /// Every function with a body outside the unit tests.
    #[must_use]
    pub fn functions(&self) -> Vec<Function> {
        let lines: Vec<&str> = self.code.lines().take(self.lines_without_tests()).collect();
        (0..lines.len()).filter_map(|index| function_at(&lines, index)).collect()
    }
}

/// Whether `word` stands in `line` with no identifier character on either side.
#[must_use]
pub fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open_start = !word.starts_with(is_word) || !before.is_some_and(is_word);
        let open_end = !word.ends_with(is_word) || !after.is_some_and(is_word);
        open_start && open_end
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The function whose `fn` is on this line, if one with a body is.
fn function_at(lines: &[&str], index: usize) -> Option<Function> {
    let start = lines[index];
    let at =
        start.match_indices("fn ").map(|(at, _)| at).find(|&at| !start[..at].ends_with(is_word))?;
    let name: String = start[at + 3..].chars().take_while(|&c| is_word(c)).collect();
    if name.is_empty() {
        return None; // a function pointer type
    }
    let mut depth = 0_i32;
    let mut opened = false;
    for (offset, line) in lines[index..].iter().enumerate() {
        let line = if offset == 0 { &line[at..] } else { line };
        for c in line.chars() {
            match c {
                '{' => (depth, opened) = (depth + 1, true),
                '}' => depth -= 1,
                ';' if !opened && depth == 0 => return None, // a signature without a body
                '(' | '[' if !opened => depth += 1,
                ')' | ']' if !opened => depth -= 1,
                _ => {}
            }
            if opened && depth == 0 {
                return Some(Function { name, line: index + 1, length: offset + 1 });
            }
        }
    }
    None
}

/// Replaces comments and the insides of string and character literals by blanks.
#[must_use]
pub fn blank_rust(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        if end == at + 1 {
            out.push(chars[at]);
        } else {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        }
        at = end;
    }
    out
}

/// The end of the comment or literal that begins at `at`; `at + 1` where none does.
fn token_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let in_word = at > 0 && is_word(chars[at - 1]);
    match rest {
        ['/', '/', ..] => at + rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => at + block_comment_length(rest),
        ['"', ..] => at + string_length(rest),
        ['r', '"' | '#', ..] if !in_word => {
            at + raw_string_length(&rest[1..]).map_or(1, |length| length + 1)
        }
        ['b', 'r', '"' | '#', ..] if !in_word => {
            at + raw_string_length(&rest[2..]).map_or(1, |length| length + 2)
        }
        ['\'', '\\', ..] => {
            at + rest.iter().skip(3).position(|&c| c == '\'').map_or(1, |length| length + 4)
        }
        ['\'', _, '\'', ..] => at + 3,
        _ => at + 1,
    }
}

fn block_comment_length(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn string_length(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of `#…"…"#…` after the `r`; `None` where it is a raw identifier such as `r#type`.
fn raw_string_length(rest: &[char]) -> Option<usize> {
    let hashes = rest.iter().take_while(|&&c| c == '#').count();
    if rest.get(hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let inside = hashes + 1;
    let found = rest[inside..].windows(close.len()).position(|window| window == close);
    Some(found.map_or(rest.len(), |at| inside + at + close.len()))
}

#[cfg(test)]
mod tests {
    use super::{Function, Source, blank_rust, has_word};

    #[test]
    fn comments_and_literals_become_blanks_and_code_stays() {
        let text = "let a = \"unsafe\"; // unsafe\nlet b = r#\"unsafe\"#; /* unsafe\n unsafe */ unsafe {}\nlet c = '\"'; let d: &'static str;";
        let blank = blank_rust(text);
        assert_eq!(blank.matches("unsafe").count(), 1, "{blank}");
        assert_eq!(blank.lines().count(), text.lines().count());
        assert!(blank.contains("&'static str"), "{blank}");
        assert_eq!(blank.chars().count(), text.chars().count());
    }

    #[test]
    fn escaped_quotes_and_raw_identifiers_do_not_derail() {
        let blank = blank_rust(
            "let a = \"x\\\"glommio\"; let r#type = '\\''; spawn(b\"glommio\", br\"glommio\");",
        );
        assert!(!blank.contains("glommio"), "{blank}");
        assert!(blank.contains("spawn") && blank.contains("type"), "{blank}");
    }

    #[test]
    fn functions_are_measured_with_their_signature() {
        let text = "trait T { fn none(&self) -> [u8; 4]; }\npub fn one() {}\nfn two(\n    a: u8,\n) -> [u8; 2] {\n    let f: fn (u8) = x;\n}\n";
        let found = Source::new("a.rs", text).functions();
        let want = [("one", 2, 1), ("two", 3, 5)];
        let want: Vec<Function> = want
            .into_iter()
            .map(|(name, line, length)| Function { name: name.to_owned(), line, length })
            .collect();
        assert_eq!(found, want);
    }

    #[test]
    fn unit_tests_at_the_end_do_not_count() {
        let source =
            Source::new("a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n    use glommio::X;\n}\n");
        assert_eq!(source.lines_without_tests(), 1);
        assert!(source.lines_with_word("glommio").is_empty());
    }

    #[test]
    fn words_end_at_their_boundaries() {
        assert!(has_word("a.await?", "await") && has_word("Instant::now()", "Instant::now"));
        assert!(!has_word("awaiting", "await") && !has_word("MyInstant::now()", "Instant::now"));
    }
}
