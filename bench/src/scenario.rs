//! What is measured: the scenarios of the design, as data.
//!
//! A scenario has one or more cases (S8: 1,000 and 10,000 routes). A scenario whose feature is not built yet is
//! absent.

/// Which configuration the subjects get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Nothing but forwarding.
    Bare,
    /// X-Forwarded-For, request id, access log, metrics, one rate limit.
    Gateway,
    /// So many routes by prefix.
    Routes(usize),
    /// Three origins to choose from.
    Balance,
}

impl Profile {
    /// As in the names of the template files.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Bare => "bare",
            Profile::Gateway => "gateway",
            Profile::Routes(_) => "routes",
            Profile::Balance => "balance",
        }
    }

    /// How many routes to write.
    pub fn routes(self) -> usize {
        if let Profile::Routes(count) = self {
            count
        } else {
            0
        }
    }
}

/// How the load comes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Mode {
    /// Each connection asks as soon as it is answered.
    Saturated,
    /// So many requests per second.
    Rate(f64),
    /// Connections that do nothing, for so many seconds.
    Idle(f64),
}

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// For example `S8`.
    pub scenario: &'static str,
    /// For example `S8-1000`; the scenario's own name where it has one case.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// The subjects' configuration.
    pub profile: Profile,
    /// How many connections.
    pub connections: usize,
    /// Length of the answers, in bytes.
    pub bytes: u64,
    /// How the load comes.
    pub mode: Mode,
    /// Further arguments of the generator.
    pub arguments: &'static [&'static str],
    /// Whether the latency at fixed rates is measured as well.
    pub latency: bool,
    /// The origins, by the delay of their answers in milliseconds.
    pub delays_millis: &'static [u32],
    /// Warm-up and window are at least so long, in seconds.
    pub times_min: (f64, f64),
}

impl Case {
    /// Whether the subjects choose between origins.
    pub fn several_origins(&self) -> bool {
        self.delays_millis.len() > 1
    }
}

const BASE: Case = Case {
    scenario: "S1",
    name: "S1",
    title: "GET, 100 B, keep-alive, 64 connections",
    profile: Profile::Bare,
    connections: 64,
    bytes: 100,
    mode: Mode::Saturated,
    arguments: &[],
    latency: false,
    delays_millis: &[0],
    times_min: (0.0, 0.0),
};

/// All cases, in the order of the report.
pub const CASES: &[Case] = &[
    Case { latency: true, ..BASE },
    Case { scenario: "S2", name: "S2", title: "GET, 1 KiB", bytes: 1024, ..BASE },
    Case {
        scenario: "S3",
        name: "S3",
        title: "POST, 1 KiB up, 100 B down",
        arguments: &["--post=1024"],
        ..BASE
    },
    Case { scenario: "S4", name: "S4", title: "GET, 16 KiB", bytes: 16 << 10, ..BASE },
    Case { scenario: "S5", name: "S5", title: "GET, 64 KiB", bytes: 64 << 10, latency: true, ..BASE },
    Case { scenario: "S6", name: "S6", title: "GET, 1 MiB", bytes: 1 << 20, ..BASE },
    Case {
        scenario: "S7",
        name: "S7",
        title: "GET, 100 B, a head of 20 headers, 1.2 KiB",
        arguments: &["--headers=17"],
        ..BASE
    },
    Case {
        scenario: "S8",
        name: "S8-1000",
        title: "GET, 100 B, over 1,000 routes",
        profile: Profile::Routes(1000),
        arguments: &["--routes=1000"],
        ..BASE
    },
    Case {
        scenario: "S8",
        name: "S8-10000",
        title: "GET, 100 B, over 10,000 routes",
        profile: Profile::Routes(10_000),
        arguments: &["--routes=10000"],
        ..BASE
    },
    Case {
        scenario: "S9",
        name: "S9",
        title: "GET, 100 B, gateway profile (X-Forwarded-For, request id, access log, metrics, rate limit)",
        profile: Profile::Gateway,
        latency: true,
        ..BASE
    },
    Case { scenario: "S10", name: "S10-1", title: "GET, 100 B, 1 connection", connections: 1, ..BASE },
    Case {
        scenario: "S10",
        name: "S10-1000",
        title: "GET, 100 B, 1,000 connections",
        connections: 1000,
        ..BASE
    },
    Case {
        scenario: "S11",
        name: "S11",
        title: "GET, 100 B, a connection per request",
        arguments: &["--close"],
        ..BASE
    },
    Case {
        scenario: "S15",
        name: "S15",
        title: "10,000 idle keep-alive connections: user memory",
        connections: 10_000,
        mode: Mode::Idle(5.0),
        ..BASE
    },
    Case {
        scenario: "S16",
        name: "S16",
        title: "4,000 requests/s, 5 % of them 50 ms slow at the origin: latency of the fast ones",
        connections: 512,
        mode: Mode::Rate(4000.0),
        arguments: &["--slow-millis=50", "--slow-percent=5"],
        ..BASE
    },
    Case {
        scenario: "S20",
        name: "S20",
        title: "500 requests/s to three origins, one of which answers after 500 ms, the others after 1 ms",
        profile: Profile::Balance,
        // Where every third request waits, 83 do at any time; no arrival shall wait for a connection.
        connections: 512,
        mode: Mode::Rate(500.0),
        delays_millis: &[1, 500, 1],
        // ewma has to have met the slow origin, whose first answer alone takes half a second: two seconds are 1,000
        // requests. In ten seconds 50 requests lie above p99; and what has been learnt is forgotten meanwhile, too.
        times_min: (2.0, 10.0),
        ..BASE
    },
];

/// The cases of a comma-separated list of scenarios or cases; `all` is every one.
///
/// # Errors
///
/// Names what is not known, and what is.
pub fn select(list: &str) -> Result<Vec<Case>, String> {
    let mut selected = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let fits = |case: &&Case| {
            name.eq_ignore_ascii_case("all")
                || case.scenario.eq_ignore_ascii_case(name)
                || case.name.eq_ignore_ascii_case(name)
        };
        let before = selected.len();
        selected.extend(CASES.iter().filter(fits).copied());
        if selected.len() == before {
            let mut known: Vec<_> = CASES.iter().map(|case| case.scenario).collect();
            known.dedup();
            return Err(format!("no scenario `{name}`; there are {}", known.join(" ")));
        }
    }
    if selected.is_empty() {
        return Err("no scenario named".to_owned());
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::ORIGINS;

    #[test]
    fn selecting() {
        let check = |list: &str, expected: &[&str]| {
            let names: Vec<_> = select(list).expect(list).iter().map(|case| case.name).collect();
            assert_eq!(names, expected, "{list}");
        };
        check("S1", &["S1"]);
        check("s5, S8", &["S5", "S8-1000", "S8-10000"]);
        check("S10-1", &["S10-1"]);
        assert_eq!(select("all").map(|cases| cases.len()), Ok(CASES.len()));
        assert!(select("S99").is_err_and(|message| message.contains("S20")));
        assert!(select("").is_err());
    }

    #[test]
    fn cases_are_sound() {
        for case in CASES {
            assert!((1..=ORIGINS).contains(&case.delays_millis.len()), "{}: origins", case.name);
            // Little's law: at a fixed rate the mean number under way fits the connections, thrice over.
            if let Mode::Rate(rate) = case.mode {
                let slowest = case.delays_millis.iter().max().copied().unwrap_or(0);
                let share = 1.0 / case.delays_millis.len() as f64;
                let waiting = rate * share * f64::from(slowest) / 1000.0;
                assert!(waiting * 3.0 < case.connections as f64, "{}: {waiting} waiting", case.name);
            }
        }
    }
}
