//! Rust source with its comments and literals blanked, so that a word search sees code only.
//!
//! A real parser would pull half of the compiler's dependencies into a check that has to find a handful of words.
//! Lengths and line breaks are kept: an offset in the blanked text is an offset in the file.

/// Returns `source` with every comment, string and character literal replaced by spaces (line breaks stay).
pub fn blank(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at + 1),
            b'r' if !is_word_before(bytes, at) || is_byte_prefix(bytes, at) => raw_string_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The 1-based numbers of the lines on which `word` stands as a whole word of `blanked`.
pub fn lines_with_word(blanked: &str, word: &str) -> Vec<usize> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = blanked.as_bytes();
    blanked
        .match_indices(word)
        .filter(|(at, _)| {
            let before = at.checked_sub(1).map(|i| bytes[i]);
            let after = bytes.get(at + word.len()).copied();
            let ends_inside = word.ends_with(char::is_alphanumeric) && after.is_some_and(is_word);
            !before.is_some_and(is_word) && !ends_inside
        })
        .map(|(at, _)| line_of(blanked, at))
        .collect()
}

/// Where the unit tests of a file begin (`#[cfg(test)]`), or its length.
pub fn tests_start(blanked: &str) -> usize {
    blanked.find("#[cfg(test)]").unwrap_or(blanked.len())
}

/// The 1-based line of a byte offset.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |n| at + n)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `r"..."`, `r#"..."#`; anything else that begins with `r` is no literal and ends where it starts.
fn raw_string_end(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(start + 1 + hashes) != Some(&b'"') {
        return start;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = start + 2 + hashes;
    let found = bytes[body..].windows(close.len()).position(|window| window == close);
    found.map_or(bytes.len(), |n| body + n + close.len())
}

/// A character literal, told from a lifetime by its closing quote.
fn char_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => {
            let from = (at + 3).min(bytes.len());
            bytes[from..].iter().position(|byte| *byte == b'\'').map_or(bytes.len(), |n| from + n + 1)
        }
        Some(_) => {
            let width = 1 + bytes[at + 2..].iter().take_while(|byte| **byte & 0xC0 == 0x80).count();
            if bytes.get(at + 1 + width) == Some(&b'\'') {
                at + 2 + width
            } else {
                at
            }
        }
        None => at,
    }
}

fn is_word_before(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

/// Whether the `r` at `at` belongs to `br"..."`.
fn is_byte_prefix(bytes: &[u8], at: usize) -> bool {
    at > 0 && bytes[at - 1] == b'b' && !is_word_before(bytes, at - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, word: &str, lines: &[usize]) {
        assert_eq!(lines_with_word(&blank(source), word), lines, "{source}");
    }

    #[test]
    fn words_are_found_in_code_only() {
        check("unsafe { }", "unsafe", &[1]);
        check("// unsafe\nunsafe fn f() {}", "unsafe", &[2]);
        check("/* unsafe /* unsafe */ unsafe */ fn f() {}", "unsafe", &[]);
        check("let s = \"unsafe \\\" unsafe\"; unsafe {}", "unsafe", &[1]);
        check("let s = r#\"unsafe \" \"#;\nlet c = '\"'; unsafe {}", "unsafe", &[2]);
        check("let s = br\"unsafe\";", "unsafe", &[]);
        check("fn f<'a>(x: &'a str) { unsafe {} }", "unsafe", &[1]);
        check("let c = '\\''; let d = '\\u{1F600}'; unsafe {}", "unsafe", &[1]);
        check("#![forbid(unsafe_code)]", "unsafe", &[]);
        check("let c = 'é'; // unsafe", "unsafe", &[]);
        check("todo!()", "todo!", &[1]);
        check("my_todo!()", "todo!", &[]);
    }

    #[test]
    fn offsets_are_kept() {
        let source = "let a = \"x\ny\"; // é\nlet b = 'c';";
        assert_eq!(blank(source).len(), source.len());
        assert_eq!(blank(source).lines().count(), source.lines().count());
    }
}
