//! Questions to a name server on loopback.

use std::net::IpAddr;

use engine::plan::ServiceNode;

use super::book::{Fault, Found};
use super::server::{Data, Record, Server, A, AAAA};
use super::*;

const SOON: Duration = Duration::from_secs(30);

fn run<F: std::future::Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(SOON, future).await.expect("in time") })
}

fn ip(text: &str, ttl: u8) -> Record {
    (ttl, Data::Ip(text.parse().expect("an address")))
}

fn addresses_of(name: &str) -> Question {
    Question::Addresses(name.to_owned())
}

fn service(name: &str) -> Question {
    Question::Service(name.to_owned())
}

/// `address target weight priority`
fn nodes(list: &[&str]) -> Vec<ServiceNode> {
    let node = |text: &&str| {
        let words: Vec<&str> = text.split(' ').collect();
        ServiceNode {
            address: words[0].parse().expect("an address"),
            target: words[1].to_owned(),
            weight: words[2].parse().expect("a weight"),
            priority: words[3].parse().expect("a priority"),
        }
    };
    list.iter().map(node).collect()
}

/// One question to the server.
async fn ask(server: &Server, question: Question, before: Option<Found>) -> Result<(Found, Duration), Fault> {
    let resolver = lookup::resolver(&[server.address]).expect("a resolver");
    lookup::ask(resolver, question, before).await.1
}

/// The system's own resolver, without a network: /etc/hosts.
#[test]
fn localhost_resolves() {
    let found = run(first(&[addresses_of("localhost")], &[]));
    let Some(Found::Addresses(found)) = found.get(&addresses_of("localhost")) else { panic!("{found:?}") };
    assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
}

/// Servers of one's own do not take /etc/hosts away.
#[test]
fn localhost_resolves_beside_other_servers() {
    run(async {
        let server = Server::start().await;
        let found = first(&[addresses_of("localhost")], &[server.address]).await;
        assert!(found.contains_key(&addresses_of("localhost")), "{found:?}");
    });
}

#[test]
fn all_addresses_are_used_for_the_shortest_ttl() {
    run(async {
        let server = Server::start().await;
        server.set("users.test", &[ip("10.0.0.2", 7), ip("10.0.0.1", 7), ip("2001:db8::1", 9)]);
        let (found, ttl) = ask(&server, addresses_of("users.test"), None).await.expect("it resolves");
        let expected = ["10.0.0.1", "10.0.0.2", "2001:db8::1"].map(|text| text.parse().expect("an address"));
        assert_eq!(found, Found::Addresses(expected.to_vec()));
        assert!(ttl > Duration::from_secs(5) && ttl <= Duration::from_secs(7), "{ttl:?}");
        let fault = ask(&server, addresses_of("none.test"), None).await.expect_err("NXDOMAIN");
        assert!(fault.absent, "{fault:?}");
    });
}

#[test]
fn services_with_weights_and_priorities() {
    run(async {
        let server = Server::start().await;
        let records = [
            (30, Data::Srv(10, 0, 8001, "one.test")),
            (30, Data::Srv(10, 5, 8002, "Two.Test")),
            (30, Data::Srv(20, 9, 8003, "two.test")),
            // The same address twice: the more urgent record counts.
            (30, Data::Srv(30, 9, 8003, "two.test")),
        ];
        server.set("_http._tcp.app.test", &records);
        server.set("one.test", &[ip("10.0.0.1", 60), ip("2001:db8::1", 60)]);
        server.set("two.test", &[ip("10.0.0.2", 8)]);
        let (found, ttl) = ask(&server, service("_http._tcp.app.test"), None).await.expect("it resolves");
        let expected = nodes(&[
            "10.0.0.1:8001 one.test 1 10",
            "10.0.0.2:8002 two.test 5 10",
            "10.0.0.2:8003 two.test 9 20",
            "[2001:db8::1]:8001 one.test 1 10",
        ]);
        assert_eq!(found, Found::Nodes(expected));
        assert!(ttl > Duration::from_secs(5) && ttl <= Duration::from_secs(8), "the target's: {ttl:?}");
    });
}

/// What a name is found to be that had `before`, once the name server breaks; and whether it is asked again soon.
fn check_family(before: &str, broken: impl Fn(&Server), expected: &str, soon: bool) {
    let list = |text: &str| {
        let addresses = text.split_ascii_whitespace().map(|text| text.parse().expect("an address"));
        Found::Addresses(addresses.collect())
    };
    let (found, ttl) = run(async {
        let server = Server::start().await;
        server.set("users.test", &[ip("10.0.0.1", 60), ip("2001:db8::1", 60)]);
        broken(&server);
        ask(&server, addresses_of("users.test"), Some(list(before))).await.expect("one family answers")
    });
    assert_eq!((found, ttl <= book::RETRY), (list(expected), soon), "before: {before}");
}

#[test]
fn a_family_that_cannot_be_told_keeps_its_addresses() {
    let (fails, drops) = (
        |kind| move |server: &Server| server.fail(kind),
        |kind| move |server: &Server| server.drop_questions(kind),
    );
    check_family("10.0.0.9 2001:db8::9", fails(A), "10.0.0.9 2001:db8::1", true);
    check_family("10.0.0.9 2001:db8::9", fails(AAAA), "10.0.0.1 2001:db8::9", true);
    check_family("10.0.0.9 10.0.0.8 2001:db8::9", drops(A), "10.0.0.8 10.0.0.9 2001:db8::1", true);
    // It never had any of that family: many name servers cannot be asked for AAAA at all.
    check_family("10.0.0.9", fails(AAAA), "10.0.0.1", false);
    check_family("10.0.0.9", drops(AAAA), "10.0.0.1", false);
    // There are none any more, and that was said.
    let gone = |server: &Server| server.set("users.test", &[ip("10.0.0.1", 60)]);
    check_family("10.0.0.9 2001:db8::9", gone, "10.0.0.1", false);
}

/// A start waits for a few seconds only: a family whose questions are dropped must not take the other's answer along.
#[test]
fn a_family_without_answer_does_not_hold_a_start_up() {
    let question = addresses_of("users.test");
    let found = run(async {
        let server = Server::start().await;
        server.set("users.test", &[ip("10.0.0.1", 60)]);
        server.drop_questions(AAAA);
        first(std::slice::from_ref(&question), &[server.address]).await
    });
    let expected = Found::Addresses(vec!["10.0.0.1".parse().expect("an address")]);
    assert_eq!(found.get(&question), Some(&expected));
}

/// As APISIX has it: a weight is the target's, and a record without a port leaves that to the upstream.
#[test]
fn addresses_of_a_target_share_its_weight() {
    run(async {
        let server = Server::start().await;
        let records = [
            (60, Data::Srv(10, 60, 1980, "a.test")),
            (60, Data::Srv(10, 20, 0, "b.test")),
            (60, Data::Srv(10, 1, 1982, "c.test")),
        ];
        server.set("srv.test", &records);
        server.set("a.test", &[ip("1.1.1.1", 60)]);
        server.set("b.test", &[ip("1.1.1.2", 60), ip("1.1.1.3", 60)]);
        server.set("c.test", &[ip("1.1.1.4", 60), ip("1.1.1.5", 60)]);
        let (found, _) = ask(&server, service("srv.test"), None).await.expect("it resolves");
        let expected = nodes(&[
            "1.1.1.1:1980 a.test 60 10",
            "1.1.1.2:0 b.test 10 10",
            "1.1.1.3:0 b.test 10 10",
            "1.1.1.4:1982 c.test 1 10",
            "1.1.1.5:1982 c.test 1 10",
        ]);
        assert_eq!(found, Found::Nodes(expected));
    });
}

#[test]
fn services_that_are_none() {
    run(async {
        let server = Server::start().await;
        server.set("plain.test", &[ip("10.0.0.1", 60)]);
        server.set("off.test", &[(60, Data::Srv(0, 0, 80, "."))]);
        server.set("lost.test", &[(60, Data::Srv(0, 0, 80, "gone.test"))]);
        for (name, absent) in
            [("plain.test", true), ("none.test", true), ("off.test", true), ("lost.test", false)]
        {
            let fault = ask(&server, service(name), None).await.expect_err(name);
            assert_eq!(fault.absent, absent, "{name}: {fault:?}");
        }
    });
}

/// One target out of two that does not resolve takes nothing away.
#[test]
fn a_target_that_does_not_resolve_keeps_its_addresses() {
    run(async {
        let server = Server::start().await;
        server
            .set("app.test", &[(60, Data::Srv(1, 1, 81, "one.test")), (60, Data::Srv(1, 1, 82, "two.test"))]);
        server.set("one.test", &[ip("10.0.0.1", 60)]);
        let before = nodes(&["10.0.0.2:82 two.test 1 1", "10.0.0.3:83 three.test 1 1"]);
        let (found, ttl) =
            ask(&server, service("app.test"), Some(Found::Nodes(before))).await.expect("one does");
        assert_eq!(found, Found::Nodes(nodes(&["10.0.0.1:81 one.test 1 1", "10.0.0.2:82 two.test 1 1"])));
        assert!(ttl <= Duration::from_secs(2), "asked again soon: {ttl:?}");
    });
}

/// The whole task: a change is told, a name that is gone keeps what it had and is told once, other servers count.
#[test]
fn answers_are_kept_fresh() {
    run(async {
        let server = Server::start().await;
        let (name, app) = (addresses_of("users.test"), service("app.test"));
        server.set("users.test", &[ip("10.0.0.1", 1)]);
        server.set("app.test", &[(1, Data::Srv(1, 1, 81, "users.test"))]);
        let questions = vec![name.clone(), app.clone()];
        let known = first(&questions, &[server.address]).await;
        assert_eq!(known.len(), 2, "{known:?}");
        let (events, mut inbox) = unbounded_channel();
        let wanted =
            |servers: Vec<SocketAddr>| Wanted { questions: questions.clone(), known: known.clone(), servers };
        let names = start(events, wanted(vec![server.address]));
        server.set("users.test", &[ip("10.0.0.9", 1)]);
        let mut latest = known.clone();
        let moved = [
            (name.clone(), Found::Addresses(vec!["10.0.0.9".parse().expect("an address")])),
            (app.clone(), Found::Nodes(nodes(&["10.0.0.9:81 users.test 1 1"]))),
        ];
        while latest != moved.clone().into() {
            match inbox.recv().await.expect("it runs") {
                Event::Resolved(changed) => latest.extend(changed),
                Event::Failing(failing) => panic!("{failing:?}"),
                _ => {}
            }
        }
        server.set("users.test", &[]);
        server.set("app.test", &[]);
        let mut failing = Vec::new();
        while failing.len() < 2 {
            match inbox.recv().await.expect("it runs") {
                Event::Failing(now) => failing = now,
                Event::Resolved(known) => panic!("{known:?}"),
                _ => {}
            }
        }
        assert!(failing.iter().all(|failing| failing.kept == 1), "{failing:?}");
        // Another server, which knows other addresses.
        let other = Server::start().await;
        other.set("users.test", &[ip("10.0.0.7", 60)]);
        names.set(wanted(vec![other.address]));
        loop {
            let Event::Resolved(changed) = inbox.recv().await.expect("it runs") else { continue };
            let expected = Found::Addresses(vec!["10.0.0.7".parse().expect("an address")]);
            assert_eq!(changed, [(name, expected)].into(), "what it does not know stays");
            break;
        }
    });
}
