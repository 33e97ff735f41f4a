//! Documents of the size that the gateway is meant for, and what is wrong with them at worst.

use std::time::{Duration, Instant};

use config::{parse_str, MapEnv};

/// No rule may take a step for each pair of routes: at 40,000 that would be minutes,
/// where even an unoptimised build needs a few seconds.
#[test]
fn forty_thousand_routes() {
    let check = |name: &str, route: &dyn Fn(usize) -> String| {
        let mut text = "[server]\nlisten = \":8080\"\n".to_owned();
        (0..40_000).for_each(|index| text.push_str(&route(index)));
        let start = Instant::now();
        let (_, report) = parse_str("t.toml", &text, &MapEnv::default());
        let shown = report.render(false).len();
        let took = start.elapsed();
        assert!(took < Duration::from_secs(30), "{name}: {took:?}, {shown} bytes of problems");
    };
    check("different", &|index| format!("[[routes]]\nuri = \"/a{index}/*\"\nupstream = \"127.0.0.1:1\"\n"));
    check("the same", &|_| "[[routes]]\nupstream = \"127.0.0.1:1\"\n".to_owned());
    check("one path", &|index| {
        format!("[[routes]]\nvars = [[\"arg_x\", \"~~\", \"{}\"], [\"arg_y\", \"==\", {index}]]\nupstream = \"127.0.0.1:1\"\n", index % 7)
    });
    check("dangling", &|index| {
        format!("[[upstreams]]\nname = \"upstream-{index}\"\nservers = [\"127.0.0.1:1\"]\n[[routes]]\nupstream = \"upstraem-{index}\"\n")
    });
    check("twins", &|_| "[[routes]]\nname = \"a\"\nupstream = \"127.0.0.1:1\"\n".to_owned());
    check("listeners", &|index| format!("[[listeners]]\naddress = \":{}\"\n", index + 1));
}
