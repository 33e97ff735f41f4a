//! One URI pattern, as it is written: `/exact`, `/prefix/*`, `/user/:id`, `/files/*rest`.
//!
//! A pattern has a literal beginning, by which it is found, and perhaps a rest, by which it is
//! checked. The rest is a list of segments: literal, `:name` (one segment, not empty) or `*name`
//! (one segment or more, which may be empty; the leftmost takes the most, as APISIX's greedy
//! regular expression does). Matching is linear in the path: literal pieces between two stars are
//! placed from the right end, each at its rightmost place, and no place is tried twice. A regular
//! expression, APISIX's way, would backtrack over every star.
//!
//! Deliberately unlike APISIX: `:` and an inner `*` mean something at the start of a segment only.
//! There `/v1:batch` matches everything under `/v1` and `/a*b` everything under `/a`; here the first
//! is literal and the second refused.

use super::params::{Params, Scratch};
use super::table::RouteError;

/// The longest pattern, in bytes (APISIX's limit). It bounds the depth of the tree as well.
pub(crate) const URI_BYTES_MAX: usize = 4096;

/// A checked URI pattern.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// Everything before the first parameter or star.
    pub(crate) prefix: Box<[u8]>,
    pub(crate) kind: PatternKind,
    /// As written, in bytes: the longer of two equals goes first.
    pub(crate) length: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PatternKind {
    Exact,
    /// Any path that begins with `prefix`; what follows is captured under the name, if there is one.
    Prefix(Option<Box<[u8]>>),
    /// After `prefix`, these segments. At least one is no literal.
    Segments(Box<[Segment]>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(Box<[u8]>),
    Param(Box<[u8]>),
    Star(Box<[u8]>),
}

/// Where a path's segments are: start and end offsets in the path.
pub(crate) type Segments = Vec<(u32, u32)>;

impl Pattern {
    /// Reads `uri`; with `params`, `:name` segments and the captures of stars count.
    pub(crate) fn parse(uri: &str, params: bool) -> Result<Pattern, RouteError> {
        if uri.is_empty() {
            return Err(RouteError::EmptyUri);
        }
        if uri.len() > URI_BYTES_MAX {
            return Err(RouteError::UriTooLong { bytes: uri.len() });
        }
        let bytes = uri.as_bytes();
        let special =
            |at: usize| bytes[at] == b'*' || (params && bytes[at] == b':' && starts_segment(bytes, at));
        let length = bytes.len() as u32;
        let Some(at) = (0..bytes.len()).find(|&at| special(at)) else {
            return Ok(Pattern { prefix: bytes.into(), kind: PatternKind::Exact, length });
        };
        let prefix = bytes[..at].into();
        let rest = &uri[at..];
        if rest == "*" && !starts_segment(bytes, at) {
            return Ok(Pattern { prefix, kind: PatternKind::Prefix(None), length });
        }
        if !starts_segment(bytes, at) {
            return Err(RouteError::StarInside { uri: uri.to_owned() });
        }
        let segments = rest.split('/').map(|segment| Segment::parse(segment, uri, params));
        let segments: Box<[Segment]> = segments.collect::<Result<_, _>>()?;
        let kind = match &*segments {
            // The name of a lone star is kept where parameters are, and where it was given.
            [Segment::Star(name)] if !params && **name == *UNNAMED => PatternKind::Prefix(None),
            [Segment::Star(name)] => PatternKind::Prefix(Some(name.clone())),
            _ => PatternKind::Segments(segments),
        };
        Ok(Pattern { prefix, kind, length })
    }

    /// Whether nothing is left to be checked or captured once `prefix` was found.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.kind, PatternKind::Exact | PatternKind::Prefix(None))
    }

    /// Checks what follows `prefix` in `path` and adds what it captures to `params`. `path` is known to
    /// begin with `prefix`. On false, `params` may hold some captures of the failed try.
    pub(crate) fn capture(&self, path: &[u8], params: &mut Params, scratch: &mut Scratch) -> bool {
        let rest = &path[self.prefix.len()..];
        match &self.kind {
            PatternKind::Exact => rest.is_empty(),
            PatternKind::Prefix(None) => true,
            PatternKind::Prefix(Some(name)) => {
                params.push(name, rest);
                true
            }
            PatternKind::Segments(segments) => {
                split(rest, usize::MAX, &mut scratch.segments);
                let found = Found { text: rest, segments: &scratch.segments };
                capture_segments(segments, &found, &mut scratch.places, params)
            }
        }
    }
}

/// APISIX's name for what an unnamed `*` matched.
const UNNAMED: &[u8] = b":ext";

fn starts_segment(bytes: &[u8], at: usize) -> bool {
    at == 0 || bytes[at - 1] == b'/'
}

impl Segment {
    fn parse(text: &str, uri: &str, params: bool) -> Result<Segment, RouteError> {
        let (first, name) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
        match first {
            "*" if name.contains('*') => Err(RouteError::StarInside { uri: uri.to_owned() }),
            "*" if name.is_empty() => Ok(Segment::Star(UNNAMED.into())),
            "*" => Ok(Segment::Star(name.as_bytes().into())),
            ":" if params && name.is_empty() => Err(RouteError::EmptyName { uri: uri.to_owned() }),
            ":" if params => Ok(Segment::Param(name.as_bytes().into())),
            _ if text.contains('*') => Err(RouteError::StarInside { uri: uri.to_owned() }),
            _ => Ok(Segment::Literal(text.as_bytes().into())),
        }
    }

    fn is_star(&self) -> bool {
        matches!(self, Segment::Star(_))
    }

    fn star_name(&self) -> Option<&[u8]> {
        match self {
            Segment::Star(name) => Some(name),
            _ => None,
        }
    }

    /// Whether this segment, no star, matches `text`.
    fn matches(&self, text: &[u8]) -> bool {
        match self {
            Segment::Literal(literal) => **literal == *text,
            Segment::Param(_) => !text.is_empty(),
            Segment::Star(_) => true,
        }
    }
}

/// Splits `text` at slashes into at most `most` segments; an empty text is one empty segment.
pub(crate) fn split(text: &[u8], most: usize, segments: &mut Segments) {
    segments.clear();
    let mut start = 0;
    let ends = memchr::memchr_iter(b'/', text).chain(std::iter::once(text.len()));
    for end in ends.take(most) {
        segments.push((start as u32, end as u32));
        start = end + 1;
    }
}

/// A path's rest and its segments.
struct Found<'p> {
    text: &'p [u8],
    segments: &'p [(u32, u32)],
}

impl<'p> Found<'p> {
    fn between(&self, first: usize, end: usize) -> &'p [u8] {
        &self.text[self.segments[first].0 as usize..self.segments[end - 1].1 as usize]
    }

    /// Whether the star-free `piece` stands at segment `at`.
    fn holds(&self, piece: &[Segment], at: usize) -> bool {
        piece.iter().enumerate().all(|(offset, segment)| {
            let place = at + offset;
            segment.matches(self.between(place, place + 1))
        })
    }

    fn capture(&self, piece: &[Segment], at: usize, params: &mut Params) {
        for (offset, segment) in piece.iter().enumerate() {
            if let Segment::Param(name) = segment {
                params.push(name, self.between(at + offset, at + offset + 1));
            }
        }
    }
}

fn capture_segments(
    pattern: &[Segment],
    found: &Found<'_>,
    places: &mut Vec<u32>,
    params: &mut Params,
) -> bool {
    let Some(star) = pattern.iter().position(Segment::is_star) else {
        let whole = pattern.len() == found.segments.len() && found.holds(pattern, 0);
        if whole {
            found.capture(pattern, 0, params);
        }
        return whole;
    };
    let count = found.segments.len();
    // A star takes a segment or more, so a path with fewer segments than the pattern has does not match.
    if count < pattern.len() || !found.holds(&pattern[..star], 0) {
        return false;
    }
    if !place_from_right(&pattern[star..], star, found, places) {
        return false;
    }
    found.capture(&pattern[..star], 0, params);
    let mut start = star;
    let pieces = pattern[star..].split(Segment::is_star).skip(1);
    let names = pattern[star..].iter().filter_map(Segment::star_name);
    for ((name, piece), &place) in names.zip(pieces).zip(places.iter().rev()) {
        params.push(name, found.between(start, place as usize));
        found.capture(piece, place as usize, params);
        start = place as usize + piece.len();
    }
    true
}

/// Finds a place for each piece of `pattern` that follows a star, in the segments from `start` on, and
/// writes them to `places`, the last piece first. `pattern` begins with a star.
///
/// The last piece ends where the path ends. Each one before goes to the rightmost place that leaves
/// a segment for the star behind it: further left it would only take room from those before.
fn place_from_right(pattern: &[Segment], start: usize, found: &Found<'_>, places: &mut Vec<u32>) -> bool {
    places.clear();
    let stars = pattern.iter().filter(|segment| segment.is_star()).count();
    let mut end = found.segments.len();
    for piece in pattern.rsplit(Segment::is_star).take(stars) {
        let Some(highest) = end.checked_sub(piece.len()) else { return false };
        let lowest = if places.is_empty() { highest } else { start + 1 };
        let mut tried = (lowest.max(start + 1)..=highest).rev();
        let Some(place) = tried.find(|&place| found.holds(piece, place)) else { return false };
        places.push(place as u32);
        end = place - 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"/a/:id /a/7"` and what is captured, `no`, or the error's beginning.
    fn check(case: &str, expected: &str) {
        let (uri, path) = case.split_once(' ').expect("a pattern and a path");
        let pattern = match Pattern::parse(uri, true) {
            Ok(pattern) => pattern,
            Err(error) => return assert!(error.to_string().starts_with(expected), "{case}: {error}"),
        };
        let mut params = Params::new();
        let found = path.as_bytes().starts_with(&pattern.prefix)
            && pattern.capture(path.as_bytes(), &mut params, &mut Scratch::default());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let captures: Vec<_> =
            params.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect();
        let got = if found { captures.join(" ") } else { "no".to_owned() };
        assert_eq!(got, expected, "{case}");
    }

    #[test]
    fn patterns() {
        check("/a /a", "");
        check("/a /a/", "no");
        check("/a/* /a/", ":ext=");
        check("/a/* /a", "no");
        check("/a* /abc", "");
        check("/files/*rest /files/x/y", "rest=x/y");
        check("* /anything", ":ext=/anything");
        check("/user/:id /user/7", "id=7");
        check("/user/:id /user/", "no");
        check("/user/:id /user/7/", "no");
        check("/user/:id/ /user/7/", "id=7");
        check("/user/:id/pets/:pet /user/7/pets/rex", "id=7 pet=rex");
        check("/user/:id/pets/:pet /user/7/cats/tom", "no");
        check("/user/:id/* /user/7", "no");
        check("/user/:id/* /user/7/", "id=7 :ext=");
        check("/:a/*b/end /x/y/z/end", "a=x b=y/z");
        check("/:a/*b/end /x/end", "no");
        check("/*a/m/*b /1/m/2/m/3", "a=1/m/2 b=3");
        check("/*a/m/*b /m/m/m", "a=m b=m");
        check("/*a/m/*b /m/m", "no");
        check("/*a/*b /1/2/3", "a=1/2 b=3");
        check("/*a/m/:x/*b/end /1/m/2/3/m/4/5/end", "a=1/m/2/3 x=4 b=5");
        check("/v1:batch /v1:batch", "");
        check("/a*b /a", "`/a*b`");
        check("/a/*b*c /a", "`/a/*b*c`");
        check("/a/:/x /a", "`/a/:/x`");
    }

    #[test]
    fn many_stars_on_a_long_path() {
        let pattern = Pattern::parse(&"/*/a".repeat(1000), false).expect("a pattern");
        let mut scratch = Scratch::default();
        let mut params = Params::new();
        let path = "/a".repeat(8000);
        assert!(pattern.capture(path.as_bytes(), &mut params, &mut scratch));
        assert_eq!(params.iter().count(), 1000);
        assert!(!pattern.capture(path.replace("/a", "/b").as_bytes(), &mut params, &mut scratch));
    }
}
