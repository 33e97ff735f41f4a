//! The manual's examples hold: every TOML block of `docs/manual` is a document that the checks accept.
//!
//! A block fenced as `toml` is complete and goes through `config::parse_str` here, and through `ringway check` as an
//! operator would run it, which looks at the settings of plugins as well. A block fenced as `toml,part` is a fragment
//! and has to be TOML. A page that names another page names one that is there.

use config::{MapEnv, Report};
use std::path::{Path, PathBuf};
use tests::gateway::{both, run};
use tests::process::Folder;
use tests::Gateway;

/// One fenced block: the page's name, the line of its first line, and its text.
struct Block {
    page: String,
    line: usize,
    part: bool,
    text: String,
}

fn manual() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/manual")
}

/// Name and text of each page, in the order of their names.
fn pages() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(manual()).expect("docs/manual is there");
    let mut pages: Vec<(String, String)> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "md"))
        .map(|entry| {
            let text = std::fs::read_to_string(entry.path()).expect("a page is text");
            (entry.file_name().to_string_lossy().into_owned(), text)
        })
        .collect();
    pages.sort();
    pages
}

fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<Block> = None;
    let mut other = false;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, Some(_)) if other => other = false,
            (None, Some(kind @ ("toml" | "toml,part"))) => {
                let part = kind != "toml";
                open = Some(Block { page: page.to_owned(), line: index + 2, part, text: String::new() });
            }
            (None, Some(_)) => other = true,
            (None, None) => {}
        }
    }
    assert!(open.is_none() && !other, "{page}: a block is not closed");
    blocks
}

fn all_blocks() -> Vec<Block> {
    pages().iter().flat_map(|(page, text)| blocks(page, text)).collect()
}

/// Parses under a name that says page and line, padded so that the lines of the report are the page's.
fn parse(block: &Block) -> Report {
    let padded = format!("{}{}", "\n".repeat(block.line - 1), block.text);
    config::parse_str(&format!("docs/manual/{}", block.page), &padded, &MapEnv::default()).1
}

#[test]
fn every_document_of_the_manual_passes_the_checks() {
    let blocks = all_blocks();
    let complete: Vec<&Block> = blocks.iter().filter(|block| !block.part).collect();
    assert!(complete.len() > 20, "only {} complete documents were found", complete.len());
    let reports: Vec<String> = complete
        .iter()
        .map(|block| parse(block))
        .filter(|report| !report.problems().is_empty())
        .map(|report| report.render(false))
        .collect();
    assert!(reports.is_empty(), "\n{}", reports.join("\n"));
}

#[test]
fn every_fragment_of_the_manual_is_toml() {
    for block in all_blocks().iter().filter(|block| block.part) {
        if let Err(error) = block.text.parse::<toml::Table>() {
            panic!("docs/manual/{}:{}: {error}\n{}", block.page, block.line, block.text);
        }
    }
}

/// The settings of plugins are checked where a plan is compiled, which the command does.
#[test]
fn the_command_accepts_every_document_of_the_manual() {
    let folder = Folder::new();
    for block in all_blocks().iter().filter(|block| !block.part) {
        let path = folder.write("ringway.toml", &block.text);
        let output = run(&["check", "-c", &path.to_string_lossy()]);
        let place = format!("docs/manual/{}:{}", block.page, block.line);
        assert!(output.status.success(), "{place}: {}\n{}", output.status, both(&output));
    }
}

/// The documents on where requests go are run as well: each starts, and what it sends nowhere is answered in order.
#[test]
fn the_documents_on_healing_upstreams_run() {
    let pages =
        ["balancing.md", "health.md", "sticky-sessions.md", "canary-and-shadow-traffic.md", "upstreams.md"];
    let blocks = all_blocks();
    for page in pages {
        let complete: Vec<&Block> = blocks.iter().filter(|block| block.page == page && !block.part).collect();
        assert!(!complete.is_empty(), "{page} has no document");
        for block in complete {
            // Its ports are the reader's; the harness gives free ones.
            let text: String = block
                .text
                .lines()
                .filter(|line| !line.starts_with("listen = "))
                .fold(String::new(), |text, line| text + line + "\n");
            let gateway = Gateway::start(&text);
            let status = tests::get(gateway.address(), "/").status;
            let place = format!("docs/manual/{}:{}", block.page, block.line);
            assert!([404, 502, 503, 504].contains(&status), "{place}: {status}");
        }
    }
}

#[test]
fn every_page_is_in_the_index_and_every_link_leads_somewhere() {
    let pages = pages();
    let index = pages.iter().find(|(name, _)| name == "index.md").expect("an index");
    for (name, text) in &pages {
        assert!(name == "index.md" || index.1.contains(&format!("({name})")), "{name} is not in the index");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            assert!(manual().join(path).exists(), "{name} links to {target}, which is not there");
        }
    }
}

#[test]
fn a_bad_block_is_found_with_its_line() {
    let text =
        "# Page\n\n```toml\n[server]\nlisten = \":8080\"\n\n[[routes]]\nupstrem = \"127.0.0.1:1\"\n```\n";
    let blocks = blocks("page.md", text);
    let report = parse(&blocks[0]);
    assert!(report.has_errors());
    assert!(report.render(false).contains("docs/manual/page.md:8"), "{}", report.render(false));
}
