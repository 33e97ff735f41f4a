//! The fuzz target of this crate: any bytes as a document.
//!
//! A plain function, so that the loop below runs it on the stable toolchain for some
//! seconds in every test run, and cargo-fuzz for hours where a nightly exists. It
//! must never panic, and what it reports must point into the text, or showing a
//! problem would be the next one.

use crate::{parse_str, MapEnv};

/// Checks bytes as a document, and everything that is shown of its problems.
///
/// # Panics
///
/// If a problem's place is not inside its file or not on character boundaries, if a
/// document comes with an error or none without, or if two readings differ.
pub fn document(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut env = MapEnv::default();
    env.vars.insert("SET".to_owned(), "127.0.0.1:80".to_owned());
    env.files.insert(
        "conf.d/a.toml".into(),
        "[[routes]]\nuri = \"/included\"\nupstream = \"127.0.0.1:1\"\n".to_owned(),
    );
    env.files.insert("conf.d/loop.toml".into(), "include = \"*.toml\"\n".to_owned());
    env.files.insert("secret".into(), "geheim\n".to_owned());
    let (document, report) = parse_str("fuzz.toml", &text, &env);
    for problem in report.problems() {
        let Some(place) = problem.place else { continue };
        let source = report.sources().get(place).expect("a place is in a file that was read");
        assert!(source.text.get(place.span()).is_some(), "{problem:?} is not in its file");
    }
    assert_eq!(document.is_some(), !report.has_errors());
    let shown = report.render(false);
    assert_eq!(shown.is_empty(), report.problems().is_empty());
    assert_eq!(report.to_json().as_array().map(Vec::len), Some(report.problems().len()));
    let (again, _) = parse_str("fuzz.toml", &text, &env);
    assert_eq!(document.as_ref().map(|it| &it.digest), again.as_ref().map(|it| &it.digest));
    if let (Some(document), Some(again)) = (document, again) {
        assert!(crate::Diff::between(&document, &again).is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;

    /// A small generator (xorshift64*): a seed makes a run repeatable.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
        }

        fn below(&mut self, bound: usize) -> usize {
            (self.next() % bound.max(1) as u64) as usize
        }
    }

    /// Pieces that a byte-wise mutation would hardly find.
    const PIECES: &[&str] = &[
        "\"",
        "'",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        "\n",
        "\r\n",
        "\"\"\"",
        "#",
        ",",
        ".",
        "${env:SET}",
        "${env:",
        "${file:secret}",
        "$${",
        "é",
        "\u{1F600}",
        "\\u00e9",
        "-1",
        "99999999999999999999",
        "1e400",
        "nan",
        "1979-05-27",
        "true",
        "\"\"",
        "[]",
        "{}",
        "include = [\"conf.d/*.toml\"]\n",
        "[[routes]]\n",
        "[server]\n",
        "upstream = \"x\"\n",
        "vars = [[\"a\",\"~~\",\"(\"]]\n",
        "[[[[[[[[[[[[[[[[",
        "\0",
        "uri = \"/*\"\n",
        "_meta = {}",
        ":",
        "/",
        "*",
        "unix:/",
        "weight=",
        "%",
    ];

    fn mutate(data: &mut Vec<u8>, other: &[u8], random: &mut Random) {
        for _ in 0..1 + random.below(6) {
            let at = random.below(data.len() + 1);
            let end = (at + random.below(40)).min(data.len());
            match random.below(6) {
                0 => drop(data.drain(at..end)),
                1 => {
                    let piece = PIECES[random.below(PIECES.len())];
                    data.splice(at..at, piece.bytes());
                }
                2 if at < data.len() => data[at] = random.next() as u8,
                3 => {
                    let copied = data[at..end].to_vec();
                    let to = random.below(data.len() + 1);
                    data.splice(to..to, copied);
                }
                4 => {
                    let from = random.below(other.len() + 1);
                    let to = (from + random.below(200)).min(other.len());
                    data.splice(at..at, other[from..to].iter().copied());
                }
                _ => {
                    let piece = PIECES[random.below(PIECES.len())];
                    data.splice(at..end, piece.bytes());
                }
            }
        }
        data.truncate(16 << 10);
    }

    #[test]
    fn mutated_corpus() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        let mut corpus: Vec<Vec<u8>> = vec![Vec::new()];
        for entry in std::fs::read_dir(folder).expect("the corpus is there") {
            let path = entry.expect("it can be listed").path();
            corpus.push(std::fs::read(path).expect("it can be read"));
        }
        corpus.iter().for_each(|data| document(data));
        let seconds = std::env::var("RINGWAY_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
        let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(2));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = std::env::var("RINGWAY_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or(now.map_or(1, |now| now.as_nanos() as u64)) | 1;
        println!("RINGWAY_FUZZ_SEED={seed}");
        let mut random = Random(seed);
        while Instant::now() < end {
            let mut data = corpus[random.below(corpus.len())].clone();
            let other = corpus[random.below(corpus.len())].clone();
            mutate(&mut data, &other, &mut random);
            let run = std::panic::catch_unwind(|| document(&data));
            assert!(run.is_ok(), "seed {seed}: {:?}", String::from_utf8_lossy(&data));
        }
    }
}
