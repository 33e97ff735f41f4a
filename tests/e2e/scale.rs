//! Many connections: what an idle one costs, what happens at the limit, and that descriptors do not run out.

use std::time::Duration;
use tests::gateway::{route_to, scaled, Start};
use tests::process::{self, Folder};
use tests::wait::{wait_for, wait_until};
use tests::{Client, Gateway, Origin};

/// What a descriptor-hungry test may open in this process.
fn affordable(wanted: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum);
    if soft < hard.unwrap_or(u64::MAX) {
        let raised = rustix::process::Rlimit { current: hard, maximum: hard };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
    }
    let soft = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    wanted.min(usize::try_from(soft.saturating_sub(600)).unwrap_or(usize::MAX))
}

/// An idle kept connection costs at most 1 KiB of user memory at 10,000 of them; at fewer the pools that a first burst
/// filled weigh more on each.
#[test]
fn idle_connections_are_cheap() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    let count = affordable(scaled(10_000).max(2000));
    // With few connections in a debug build, what the allocator keeps once weighs more than what each costs.
    let goal: u64 = if count >= 10_000 { 1024 } else { 8192 };
    for _ in 0..20 {
        assert_eq!(tests::get(gateway.address(), "/").text(), "fine");
    }
    let before = process::user_bytes(gateway.pid());
    let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(gateway.address())).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
    let mut least = u64::MAX;
    wait_for(&format!("at most {goal} bytes each at {count} connections"), Duration::from_secs(20), || {
        let each = process::user_bytes(gateway.pid()).saturating_sub(before) / count as u64;
        if each < least {
            least = each;
            eprintln!("{count} idle connections: {each} bytes each");
        }
        (each <= goal).then_some(())
    });
    // They are idle, not dead.
    for client in clients.iter_mut().step_by(97) {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "fine");
    }
}

/// An idle gateway sleeps: no core polls.
#[test]
fn idle_connections_use_no_cpu() {
    let origin = Origin::named("fine");
    let gateway = Gateway::before(&[origin.address()]);
    let mut clients: Vec<Client> = (0..50).map(|_| Client::connect(gateway.address())).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
    // Some second of the next ones passes with less than a twentieth of a core.
    wait_for("a quiet second", Duration::from_secs(20), || {
        let before = process::cpu_time(gateway.pid());
        tests::wait::pace(Duration::from_secs(1));
        (process::cpu_time(gateway.pid()) - before < Duration::from_millis(50)).then_some(())
    });
}

#[test]
fn connections_are_limited() {
    let origin = Origin::named("fine");
    let gateway =
        Gateway::start(&format!("[server.limits]\nconnections = 8\n{}", route_to(&[origin.address()])));
    let try_one = |client: &mut Client| {
        client.set_deadline(Duration::from_secs(2));
        let sent = client.try_send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        sent.is_ok() && client.try_response_to("GET").is_ok_and(|r| r.is_some_and(|r| r.status == 200))
    };
    let mut clients: Vec<Client> = (0..24).map(|_| Client::connect(gateway.address())).collect();
    let served = clients.iter_mut().map(try_one).filter(|served| *served).count();
    assert!((1..=8).contains(&served), "{served} of 24 were served at a limit of 8");
    drop(clients);
    wait_until("room for new ones", || try_one(&mut Client::connect(gateway.address())));
}

/// RLIMIT_NOFILE is raised at start: the soft limit of a login shell is no limit of a gateway.
#[test]
fn the_descriptor_limit_is_raised() {
    let folder = Folder::new();
    let script = folder.write("few.sh", "#!/bin/sh\nulimit -Sn 256\nexec \"$@\"\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("our own file");
    let origin = Origin::named("fine");
    let gateway = Start::new().through(script).start(&route_to(&[origin.address()]));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).expect("it runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line of it");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "soft and hard: {line}");
}
