//! The `java.util.Properties` text form, so that an operator's Kafka file is read as Kafka reads it.
//!
//! Does: turns text into key/value pairs in file order. Does not: know any key.
//! Invariants: pure; a line number in an error is that of the first physical line of the entry.
//! Apart because the form has its own rules (separators, escapes, continuation) and its own tests.
//!
//! One deviation: the bytes are UTF-8 where they are valid UTF-8 and Latin-1 otherwise; Java always
//! takes Latin-1 and mangles a UTF-8 folder name.

/// One `key = value` of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Key with escapes resolved.
    pub key: String,
    /// Value with escapes resolved and outer white space removed, as Kafka does for every type.
    pub value: String,
    /// First physical line, counted from 1.
    pub line: usize,
}

/// Reads a whole file.
///
/// # Errors
/// A malformed `\uXXXX` escape, with its line.
pub fn parse(bytes: &[u8]) -> Result<Vec<Property>, String> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    };
    let mut properties = Vec::new();
    for (line, logical) in logical_lines(&text) {
        let (key, value) = split(&logical);
        let resolve = |raw: &str| unescape(raw).map_err(|reason| format!("line {line}: {reason}"));
        let (key, value) = (resolve(key)?, resolve(value)?);
        properties.push(Property { key, value: value.trim().to_owned(), line });
    }
    Ok(properties)
}

/// Joins continued lines; leaves out blank lines and comments. A comment is never continued, and a
/// continuation that starts with `#` is not a comment.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, natural) in split_lines(text).enumerate() {
        let body = natural.trim_start_matches(is_blank);
        if open.is_none() && (body.is_empty() || body.starts_with(['#', '!'])) {
            continue;
        }
        let (_, logical) = open.get_or_insert_with(|| (index + 1, String::new()));
        if ends_with_continuation(body) {
            logical.push_str(&body[..body.len() - 1]);
        } else {
            logical.push_str(body);
            lines.extend(open.take());
        }
    }
    lines.extend(open);
    lines
}

/// A line ends with a line feed, a carriage return or both.
fn split_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn ends_with_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Cuts at the first unescaped `=`, `:` or blank; one `=` or `:` may stand among the blanks.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c| {
        let ends = !escaped && (is_blank(c) || c == '=' || c == ':');
        escaped = !escaped && c == '\\';
        ends
    });
    let Some(end) = end else { return (line, "") };
    let rest = line[end..].trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], value.trim_start_matches(is_blank))
}

fn unescape(raw: &str) -> Result<String, String> {
    // UTF-16 units, because Java writes a character beyond the first plane as two \u escapes.
    let mut units = Vec::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        let plain = match (c, c == '\\') {
            (c, false) => c,
            (_, true) => match chars.next() {
                Some('u') => {
                    units.push(unicode_unit(&mut chars)?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some(other) => other,
                None => continue,
            },
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).map_err(|_| "half of a \\u surrogate pair is missing".to_owned())
}

fn unicode_unit(chars: &mut std::str::Chars<'_>) -> Result<u16, String> {
    let digits: String = chars.take(4).collect();
    let is_hex = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u16::from_str_radix(&digits, 16)
        .ok()
        .filter(|_| is_hex)
        .ok_or_else(|| format!("malformed \\u{digits} escape"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).unwrap().into_iter().map(|p| (p.key, p.value)).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn three_separators_mean_the_same() {
        let text = "a=1\nb: 2\nc 3\nd = 4\n e\t:\t5\nf";
        let expected = [
            pair("a", "1"),
            pair("b", "2"),
            pair("c", "3"),
            pair("d", "4"),
            pair("e", "5"),
            pair("f", ""),
        ];
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn only_the_first_separator_counts() {
        assert_eq!(pairs("url=http://x:1/?a=b"), [pair("url", "http://x:1/?a=b")]);
        assert_eq!(pairs("a==b"), [pair("a", "=b")]);
    }

    #[test]
    fn comments_and_blank_lines_are_nothing() {
        assert_eq!(
            pairs("# a=1\n  ! b=2 \\\n\n   \nc=3 # not a comment\r\n"),
            [pair("c", "3 # not a comment")]
        );
    }

    #[test]
    fn a_backslash_at_the_end_continues() {
        assert_eq!(pairs("a=1,\\\n   2,\\\n#3"), [pair("a", "1,2,#3")]);
        assert_eq!(pairs("a=path\\\\\nb=2"), [pair("a", "path\\"), pair("b", "2")]);
        assert_eq!(pairs("a=end\\"), [pair("a", "end")]);
    }

    #[test]
    fn escapes_in_keys_and_values() {
        assert_eq!(pairs("a\\ b\\=c=d\\te"), [pair("a b=c", "d\te")]);
        assert_eq!(pairs("a=\\u00e9\\uD83D\\uDE00\\q"), [pair("a", "é😀q")]);
    }

    #[test]
    fn any_of_three_line_ends_will_do() {
        for text in
            ["a=1\nb=2\nc=3", "a=1\rb=2\rc=3\r", "a=1\r\nb=2\r\nc=3\r\n", "a=1\r\n\rb=2\r#\nc=3"]
        {
            assert_eq!(pairs(text), [pair("a", "1"), pair("b", "2"), pair("c", "3")], "{text:?}");
        }
        assert_eq!(pairs("a=1,\\\r  2\rb=3"), [pair("a", "1,2"), pair("b", "3")]);
        let error = parse(b"a=1\rb=\\u12g4").unwrap_err();
        assert!(error.starts_with("line 2:"), "{error}");
    }

    #[test]
    fn a_malformed_escape_names_its_line() {
        let error = parse(b"a=1\nb=\\u12g4").unwrap_err();
        assert!(error.starts_with("line 2:"), "{error}");
        assert!(parse(b"a=\\u12").is_err());
        assert!(parse(b"a=\\uD83D").is_err());
    }

    #[test]
    fn latin1_bytes_are_read_as_java_reads_them() {
        assert_eq!(parse(b"a=caf\xe9").unwrap()[0].value, "café");
        assert_eq!(parse("a=café".as_bytes()).unwrap()[0].value, "café");
    }

    #[test]
    fn no_text_whatever_brings_the_reader_down() {
        // Every text of up to six of the characters that mean something.
        const MEANINGFUL: [u8; 7] = [b'\\', b'\n', b'=', b'u', b'0', b' ', 0xe9];
        for number in 0..MEANINGFUL.len().pow(6) {
            let text: Vec<u8> = (0..6)
                .map(|place| MEANINGFUL[number / MEANINGFUL.len().pow(place) % MEANINGFUL.len()])
                .collect();
            if let Ok(properties) = parse(&text) {
                assert!(properties.iter().all(|p| p.line >= 1));
            }
        }
    }

    #[test]
    fn line_numbers_point_at_the_start_of_an_entry() {
        let read = parse(b"\n# c\na=1\\\n2\nb=3").unwrap();
        assert_eq!(read.iter().map(|p| p.line).collect::<Vec<_>>(), [3, 5]);
    }
}
