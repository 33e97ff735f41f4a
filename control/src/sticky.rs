//! The key that sticky cookies are authenticated with.
//!
//! Gateways of a group share one by `[server] sticky_key`. Without it a gateway makes its own and keeps it in
//! `workdir/sticky.key` (mode 0600), so that sessions outlive a restart. The file is read once: sessions must not
//! change because somebody deleted it. A file that is wrong stops nobody who has no sticky upstream; where the
//! workdir cannot be written, the key lasts as long as the process.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use config::Document;
use engine::plan::Plan;
use sha2::{Digest, Sha256};

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// The file's name in the workdir.
const FILE: &str = "sticky.key";
/// What nobody but the gateway may have on the file.
const FORBIDDEN_MODE: u32 = 0o077;

/// A key.
pub(crate) type Key = [u8; KEY_BYTES];

/// Holds what was found or made, for the process's life.
#[derive(Default)]
pub(crate) struct Keeper {
    own: Mutex<Option<Key>>,
}

/// A key for a plan, and what is wrong with it.
pub(crate) struct Found {
    /// The key; zeros with a fault.
    pub key: Key,
    /// Why a plan that needs a key must not be used.
    pub fault: Option<String>,
}

impl Keeper {
    /// The key for a document. Reads or makes the file where the document has no key of its own; blocking.
    pub(crate) fn key(&self, document: &Document) -> Found {
        if let Some(secret) = &document.server.sticky_key {
            return Found { key: Sha256::digest(secret.0.as_bytes()).into(), fault: None };
        }
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = *own {
            return Found { key, fault: None };
        }
        match read_or_make(&document.server.workdir) {
            Ok(key) => {
                *own = Some(key);
                Found { key, fault: None }
            }
            Err(fault) => Found { key: [0; KEY_BYTES], fault: Some(fault) },
        }
    }
}

impl Found {
    /// The fault, if the plan has an upstream that sets sticky cookies.
    pub(crate) fn fault_for(&self, plan: &Plan) -> Option<&str> {
        let fault = self.fault.as_deref()?;
        plan.upstreams().any(|upstream| upstream.source.sticky.is_some()).then_some(fault)
    }
}

/// The key of a workdir.
///
/// # Errors
///
/// When the file is there and is not to be trusted, or the system has no randomness.
fn read_or_make(workdir: &Path) -> Result<Key, String> {
    let path = workdir.join(FILE);
    if let Some(key) = read(&path)? {
        return Ok(key);
    }
    let key = random()?;
    match make(&path, &key) {
        Ok(()) => Ok(key),
        // Another gateway of this workdir was faster: its key counts.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            read(&path)?.ok_or_else(|| format!("error: {} comes and goes\n", path.display()))
        }
        Err(error) => {
            tracing::warn!(
                target: "ringway",
                path = %path.display(),
                %error,
                "the key of sticky cookies cannot be kept: sessions end with this process; make `workdir` writable or set `sticky_key` under [server]"
            );
            Ok(key)
        }
    }
}

/// The key in a file; `None` where there is no file.
fn read(path: &Path) -> Result<Option<Key>, String> {
    let wrong = |what: String| {
        let path = path.display();
        format!("error: the key of sticky cookies cannot be used: {path} {what}\nhelp: `chmod 600 {path}` if it is yours; delete it to have a new one made (sticky sessions begin anew); or set `sticky_key` under [server]\n")
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None)
        }
        Err(error) => return Err(wrong(format!("cannot be read: {error}"))),
    };
    let about = file.metadata().map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if !about.is_file() {
        return Err(wrong("is no file".to_owned()));
    }
    let mode = about.permissions().mode() & 0o777;
    if mode & FORBIDDEN_MODE != 0 {
        return Err(wrong(format!("has mode {mode:o}: others can read it")));
    }
    let mut bytes = Vec::with_capacity(KEY_BYTES + 1);
    let most = KEY_BYTES as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    match Key::try_from(&bytes[..]) {
        Ok(key) => Ok(Some(key)),
        Err(_) => Err(wrong(format!("has {} bytes instead of {KEY_BYTES}", about.len()))),
    }
}

/// Writes a file beside it first and links it into place: nobody ever reads half a key, and no other key is lost.
fn make(path: &Path, key: &Key) -> std::io::Result<()> {
    // Not by the process's id: in two containers on one volume both may be process 1, and the one would link what the
    // other is still writing.
    let mut tag = [0; 8];
    fill(&mut tag)?;
    let beside: PathBuf = path.with_extension(format!("key.{:016x}", u64::from_ne_bytes(tag)));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(key).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::hard_link(&beside, path));
    let _ = std::fs::remove_file(&beside);
    written
}

fn fill(bytes: &mut [u8]) -> std::io::Result<()> {
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(bytes))
}

fn random() -> Result<Key, String> {
    let mut key = [0; KEY_BYTES];
    fill(&mut key).map(|()| key).map_err(|error| {
        format!("error: no key for sticky cookies: /dev/urandom: {error}\nhelp: set `sticky_key` under [server]\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("ringway-sticky-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).expect("a writable temporary folder");
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn it_is_made_once_and_kept() {
        let folder = Folder::new("kept");
        let key = read_or_make(&folder.0).expect("made");
        assert_ne!(key, [0; KEY_BYTES]);
        assert_eq!(read_or_make(&folder.0), Ok(key), "as another process finds it");
        let path = folder.0.join(FILE);
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(std::fs::read_dir(&folder.0).expect("a folder").count(), 1, "nothing else is left");
        let again = make(&path, &[7; KEY_BYTES]).expect_err("there is one");
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        assert_eq!(read(&path), Ok(Some(key)), "and it was not replaced");
    }

    /// Gateways that start together on one workdir, whatever their process ids: all have the key that is kept.
    #[test]
    fn many_make_one() {
        let folder = Folder::new("many");
        let keys: Vec<Key> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| read_or_make(&folder.0))).collect();
            threads.into_iter().map(|thread| thread.join().expect("ends").expect("a key")).collect()
        });
        let kept = read(&folder.0.join(FILE)).expect("sound").expect("made");
        assert!(keys.iter().all(|key| *key == kept), "{keys:?}");
        assert_eq!(std::fs::read_dir(&folder.0).expect("a folder").count(), 1, "nothing else is left");
    }

    #[test]
    fn one_that_is_wrong_is_refused_with_a_remedy() {
        let check = |name: &str, bytes: &[u8], mode: u32, word: &str| {
            let folder = Folder::new(name);
            let path = folder.0.join(FILE);
            std::fs::write(&path, bytes).expect("writable");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("our own file");
            let fault = read_or_make(&folder.0).expect_err("refused");
            assert!(fault.contains(word) && fault.contains("help: "), "{fault} lacks {word}");
            assert_eq!(std::fs::read(&path).expect("readable"), bytes, "it stays");
        };
        check("short", &[1; 31], 0o600, "has 31 bytes instead of 32");
        check("long", &[1; 33], 0o600, "has 33 bytes");
        check("empty", &[], 0o600, "has 0 bytes");
        check("open", &[1; 32], 0o640, "has mode 640");
    }

    #[test]
    fn a_workdir_that_cannot_be_written_gives_a_key_for_this_run() {
        let folder = Folder::new("unwritable");
        let nowhere = folder.0.join("none");
        let document = Document {
            server: config::Server { workdir: nowhere, ..config::Server::default() },
            ..Document::default()
        };
        let keeper = Keeper::default();
        let first = keeper.key(&document);
        assert_eq!(first.fault, None);
        assert_eq!(keeper.key(&document).key, first.key, "the same over reloads");
    }

    #[test]
    fn a_written_key_counts() {
        let with = |text: &str| {
            let server = config::Server {
                sticky_key: Some(config::Secret(text.to_owned())),
                ..config::Server::default()
            };
            Keeper::default().key(&Document { server, ..Document::default() }).key
        };
        assert_eq!(with("one"), with("one"), "on every gateway");
        assert_ne!(with("one"), with("two"));
        // SHA-256 of `abc` (FIPS 180-2, appendix B.1).
        assert_eq!(with("abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
