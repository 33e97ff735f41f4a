//! The world outside the document: variables, files, directories.
//!
//! [`ProcessEnv`] is the only place of this crate that touches `std::env` and
//! `std::fs`, so that every rule of the language can be tested, fuzzed and used by
//! the Admin API (which must not read files) without either.

use std::collections::BTreeMap;
use std::io;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// No file larger than this is read.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// What a document may ask of the outside.
pub trait Env {
    /// The value of a variable; `None` if it is not set or no UTF-8.
    fn var(&self, name: &str) -> Option<String>;

    /// The text of a file.
    ///
    /// # Errors
    ///
    /// As for `std::fs::read_to_string`; no UTF-8 is `InvalidData`, too large is `FileTooLarge`.
    fn file(&self, path: &Path) -> io::Result<String>;

    /// The names of what a directory holds, in any order.
    ///
    /// # Errors
    ///
    /// As for `std::fs::read_dir`.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// A path by which two spellings of one file can be told to be the same.
    fn identity(&self, path: &Path) -> PathBuf {
        path.to_path_buf()
    }
}

/// The process's own variables and files.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnv;

impl Env for ProcessEnv {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        let read = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if read as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 256 MiB"));
        }
        Ok(text)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn identity(&self, path: &Path) -> PathBuf {
        path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
    }
}

/// Variables and files held in memory: for tests, and for whoever must not read the process's own.
#[derive(Clone, Debug, Default)]
pub struct MapEnv {
    /// Variables by name.
    pub vars: BTreeMap<String, String>,
    /// Files by path; directories are those that their paths imply.
    pub files: BTreeMap<PathBuf, String>,
}

impl Env for MapEnv {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for path in self.files.keys() {
            let Ok(rest) = path.strip_prefix(directory) else { continue };
            let first = rest.components().next();
            names.extend(first.and_then(|name| name.as_os_str().to_str()).map(str::to_owned));
        }
        names.dedup();
        if names.is_empty() {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        Ok(names)
    }
}
