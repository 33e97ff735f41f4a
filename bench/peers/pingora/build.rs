//! Reads Pingora's version from the lock file, for `--version`.

fn main() {
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    let mut lines = lock.lines().skip_while(|line| *line != "name = \"pingora\"");
    let version = lines.nth(1).and_then(|line| line.split('"').nth(1)).unwrap_or("?");
    println!("cargo:rustc-env=PINGORA_VERSION={version}");
    println!("cargo:rerun-if-changed=Cargo.lock");
}
