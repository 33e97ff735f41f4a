//! Regular expressions with a replacement, as `regex_uri` and `filters` have them.
//!
//! The replacement is `ngx.re.sub`'s: `$1`, `${1}`, `$0` for the whole match, `$$`
//! for a dollar. The expressions are those of the `regex` crate: linear in time
//! whatever a client sends, therefore without look-around and back-references,
//! which are refused when the settings are read.
//!
//! A `Regex` keeps its scratch memory in a pool that its users share, and a second
//! thread pays for that on every match. Clones have pools of their own, so each
//! thread takes a clone, made when it first comes by.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;

use regex::bytes::{Captures, Regex, RegexBuilder};

/// Threads beyond this share lanes: slower, never wrong.
const LANES: usize = 16;
/// Bytes of a compiled expression: an expression of an operator, not of a client,
/// but one typing error in a repetition should not take a gigabyte.
const COMPILED_BYTES_MAX: usize = 4 << 20;

/// A compiled expression, with a clone for each thread that uses it.
pub(crate) struct Pattern {
    written: Regex,
    lanes: Box<[OnceLock<Regex>; LANES]>,
}

impl Pattern {
    /// Compiles `text` with PCRE option letters as `ngx.re` takes them: `i`, `s`,
    /// `m`, `x`, `u` and `a` change the meaning; `j`, `o`, `d`, `D`, `J`, `U` concern
    /// PCRE's machinery and are accepted.
    pub(crate) fn new(text: &str, options: &str) -> Result<Pattern, String> {
        if let Some(odd) = options.chars().find(|letter| !"ismxuajodDJU".contains(*letter)) {
            return Err(format!("there is no regex option `{odd}`"));
        }
        let has = |letter| options.contains(letter);
        let anchored = format!("\\A(?:{text})");
        let text = if has('a') { &anchored } else { text };
        let compile = |unicode| {
            RegexBuilder::new(text)
                .case_insensitive(has('i'))
                .dot_matches_new_line(has('s'))
                .multi_line(has('m'))
                .ignore_whitespace(has('x'))
                .unicode(unicode)
                .size_limit(COMPILED_BYTES_MAX)
                .build()
        };
        // Without `u`, PCRE compares bytes, which also finds text in bodies that are
        // no UTF-8. Classes that name characters beyond ASCII need the other mode.
        let compiled = if has('u') { compile(true) } else { compile(false).or_else(|_| compile(true)) };
        let written = compiled.map_err(|error| describe(&error))?;
        Ok(Pattern { written, lanes: Box::new(std::array::from_fn(|_| OnceLock::new())) })
    }

    /// How many groups it has, the whole match (0) among them.
    pub(crate) fn groups(&self) -> usize {
        self.written.captures_len()
    }

    /// This thread's expression.
    pub(crate) fn get(&self) -> &Regex {
        self.lanes[lane()].get_or_init(|| self.written.clone())
    }
}

/// The last line of a syntax error says what is wrong; those above draw an arrow.
fn describe(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

fn lane() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static LANE: Cell<Option<usize>> = const { Cell::new(None) });
    LANE.with(|own| {
        own.get().unwrap_or_else(|| {
            let lane = NEXT.fetch_add(1, Ordering::Relaxed) % LANES;
            own.set(Some(lane));
            lane
        })
    })
}

/// What a match is replaced by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replacement(Vec<Piece>);

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text as written.
    Text(Vec<u8>),
    /// What a group matched; nothing where it took no part.
    Group(usize),
}

impl Replacement {
    /// Reads `$1`, `${1}`, `$0` and `$$`.
    pub(crate) fn parse(text: &str) -> Result<Replacement, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            push_text(&mut pieces, before);
            if let Some(after) = after.strip_prefix('$') {
                push_text(&mut pieces, "$");
                rest = after;
                continue;
            }
            let (group, after) = group_number(after)
                .ok_or_else(|| "`$` stands before a group's number, `$1` or `${1}`".to_owned())?;
            pieces.push(Piece::Group(group));
            rest = after;
        }
        push_text(&mut pieces, rest);
        Ok(Replacement(pieces))
    }

    /// The pieces in order.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The highest group it names.
    pub(crate) fn group_max(&self) -> usize {
        let number = |piece: &Piece| if let Piece::Group(group) = piece { *group } else { 0 };
        self.0.iter().map(number).max().unwrap_or(0)
    }

    /// Appends the replacement of one match.
    pub(crate) fn render(&self, captures: &Captures<'_>, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Group(group) => out.extend_from_slice(group_of(captures, *group)),
            }
        }
    }
}

/// What a group matched; nothing where it took no part.
pub(crate) fn group_of<'t>(captures: &Captures<'t>, group: usize) -> &'t [u8] {
    captures.get(group).map_or(b"", |found| found.as_bytes())
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(last)) => last.extend_from_slice(text.as_bytes()),
        _ => pieces.push(Piece::Text(text.as_bytes().to_vec())),
    }
}

/// The number at the start of `text` (after the dollar) and what follows it.
fn group_number(text: &str) -> Option<(usize, &str)> {
    if let Some(braced) = text.strip_prefix('{') {
        let (number, rest) = braced.split_once('}')?;
        return Some((number.parse().ok()?, rest));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    Some((number.parse().ok()?, rest))
}

/// Replaces the first match, or all of them, in `input`; `None` if there is none.
pub(crate) fn replace(
    pattern: &Pattern,
    replacement: &Replacement,
    all: bool,
    input: &[u8],
) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut from = 0;
    let mut matches = pattern.get().captures_iter(input);
    let mut next = matches.next()?;
    loop {
        let whole = next.get(0).expect("group 0 is the match itself");
        out.extend_from_slice(&input[from..whole.start()]);
        replacement.render(&next, &mut out);
        from = whole.end();
        match matches.next() {
            Some(another) if all => next = another,
            _ => break,
        }
    }
    out.extend_from_slice(&input[from..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `want` is the result, `none` where nothing matched, or `error: ...`.
    fn check(pattern: &str, options: &str, replacement: &str, all: bool, input: &str, want: &str) {
        let run = || -> Result<Option<Vec<u8>>, String> {
            let pattern = Pattern::new(pattern, options)?;
            let replacement = Replacement::parse(replacement)?;
            Ok(replace(&pattern, &replacement, all, input.as_bytes()))
        };
        let got = match run() {
            Ok(None) => "none".to_owned(),
            Ok(Some(out)) => String::from_utf8_lossy(&out).into_owned(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(got, want, "{pattern:?} {replacement:?} on {input:?}");
    }

    #[test]
    fn substitutes() {
        check("o", "jo", "0", false, "foo", "f0o");
        check("o", "jo", "0", true, "foo", "f00");
        check("(a)(b)?", "", "[$1$2${1}$0]", true, "abxa", "[abaab]x[aaa]");
        check("a", "", "$$1", false, "a", "$1");
        check("A", "i", "x", false, "a", "x");
        check("A", "", "x", false, "a", "none");
        check("a.b", "s", "x", false, "a\nb", "x");
        check("^b", "m", "x", false, "a\nb", "a\nx");
        check("b", "a", "x", false, "ab", "none");
        check("x*", "", "-", true, "ab", "-a-b-");
        check("[ä]", "jo", "ae", false, "bär", "baer");
        check("a", "", "$2", false, "a", "");
    }

    #[test]
    fn refuses() {
        check("(", "", "x", false, "", "error: unclosed group");
        check(
            "a(?=b)",
            "",
            "x",
            false,
            "",
            "error: look-around, including look-ahead and look-behind, is not supported",
        );
        check("a", "q", "x", false, "", "error: there is no regex option `q`");
        for bad in ["$", "$x", "${x}", "${1", "a$-"] {
            check("a", "", bad, false, "", "error: `$` stands before a group's number, `$1` or `${1}`");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_found() {
        let pattern = Pattern::new("a.b", "jo").expect("compiles");
        let replacement = Replacement::parse("x").expect("parses");
        assert_eq!(replace(&pattern, &replacement, false, b"a\xffb"), Some(b"x".to_vec()));
    }
}
