//! Which cores the workers run on: `[cores]` against what this machine allows.
//!
//! "auto" is the smaller of the physical cores that the process may use (its
//! affinity mask, so cpusets count) and the cgroup's cpu quota. What a key asks
//! for and the machine lacks is an error that names the key.

use std::collections::BTreeSet;
use std::path::Path;

use config::{Cores, Count};

/// The core ids to start workers on, in order.
///
/// # Errors
///
/// What is wrong with `[cores]`, with a remedy.
#[allow(clippy::disallowed_methods)] // runs once, before any core starts
pub fn resolve(cores: &Cores) -> Result<Vec<usize>, String> {
    let allowed: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok();
    choose(cores, &allowed, &|core| siblings(core, &read), quota(&read))
}

fn choose(
    cores: &Cores,
    allowed: &[usize],
    first_sibling: &dyn Fn(usize) -> usize,
    quota: Option<usize>,
) -> Result<Vec<usize>, String> {
    if allowed.is_empty() {
        return Err("the set of allowed cpus cannot be read".to_owned());
    }
    let candidates = match &cores.set {
        Some(set) => {
            let missing: Vec<String> =
                set.iter().filter(|core| !allowed.contains(core)).map(ToString::to_string).collect();
            if !missing.is_empty() {
                return Err(format!(
                    "cores.set names cpu {} but this process may use {allowed:?} only; change `set` or the cpuset",
                    missing.join(", ")
                ));
            }
            set.clone()
        }
        None => allowed.to_vec(),
    };
    let physical: Vec<usize> = {
        let mut seen = BTreeSet::new();
        candidates.iter().copied().filter(|core| seen.insert(first_sibling(*core))).collect()
    };
    let written_set = cores.set.is_some();
    let available = candidates.len();
    let count = match &cores.count {
        Count::Auto if written_set => available,
        Count::Auto => physical.len().min(quota.unwrap_or(usize::MAX)),
        Count::Percent(percent) => (available * usize::from(*percent)).div_ceil(100),
        Count::Number(number) => *number,
    };
    if count > available.saturating_sub(cores.reserve)
        && !matches!(cores.count, Count::Auto | Count::Percent(_))
    {
        return Err(format!(
            "cores.count = {count} with cores.reserve = {} asks for more than the {available} cpus there are: lower one of them",
            cores.reserve
        ));
    }
    let count = count.min(available.saturating_sub(cores.reserve));
    if count == 0 {
        return Err(format!("cores.reserve = {} leaves no core for a worker: lower it", cores.reserve));
    }
    // Physical cores first; the reserve is taken from the front, where
    // interrupts and housekeeping usually land.
    let mut order: Vec<usize> = physical.clone();
    order.extend(candidates.iter().filter(|core| !physical.contains(core)));
    let reserved: Vec<usize> = candidates.iter().copied().take(cores.reserve).collect();
    order.retain(|core| !reserved.contains(core));
    order.truncate(count);
    Ok(order)
}

/// The lowest cpu that shares the physical core.
fn siblings(core: usize, read: &dyn Fn(&str) -> Option<String>) -> usize {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    read(&path)
        .and_then(|list| list.trim().split([',', '-']).next().and_then(|first| first.parse().ok()))
        .unwrap_or(core)
}

/// Whole cpus of the cgroup's quota (v2, then v1), rounded up, at least one.
fn quota(read: &dyn Fn(&str) -> Option<String>) -> Option<usize> {
    let whole = |quota: f64, period: f64| {
        (quota > 0.0 && period > 0.0).then(|| ((quota / period).ceil() as usize).max(1))
    };
    if let Some(text) = read("/sys/fs/cgroup/cpu.max") {
        let mut parts = text.split_whitespace();
        let quota = parts.next()?.parse::<f64>().ok()?;
        return whole(quota, parts.next()?.parse().ok()?);
    }
    let quota = read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")?.trim().parse().ok()?;
    whole(quota, read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(count: Count, set: Option<&[usize]>, reserve: usize, quota: Option<usize>, expected: &str) {
        let cores = Cores { count, set: set.map(<[usize]>::to_vec), reserve, ..Cores::default() };
        // Eight cpus, of which n and n+4 share a physical core.
        let allowed: Vec<usize> = (0..8).collect();
        let got = match choose(&cores, &allowed, &|core| core % 4, quota) {
            Ok(list) => format!("{list:?}"),
            Err(error) => error,
        };
        assert!(got.contains(expected), "{got} lacks {expected}");
    }

    #[test]
    fn choices() {
        check(Count::Auto, None, 0, None, "[0, 1, 2, 3]");
        check(Count::Auto, None, 0, Some(2), "[0, 1]");
        check(Count::Auto, None, 1, None, "[1, 2, 3, 4]");
        check(Count::Number(6), None, 0, None, "[0, 1, 2, 3, 4, 5]");
        check(Count::Percent(50), None, 0, None, "[0, 1, 2, 3]");
        check(Count::Auto, Some(&[2, 6]), 0, None, "[2, 6]");
        check(Count::Number(1), Some(&[5]), 0, None, "[5]");
        check(Count::Number(9), None, 0, None, "asks for more than the 8 cpus");
        check(Count::Number(8), None, 1, None, "lower one of them");
        check(Count::Auto, Some(&[9]), 0, None, "cores.set names cpu 9");
        check(Count::Auto, None, 8, None, "leaves no core");
    }

    #[test]
    fn quotas() {
        let check = |text: &str, expected| {
            let read = |path: &str| path.ends_with("cpu.max").then(|| text.to_owned());
            assert_eq!(quota(&read), expected, "{text}");
        };
        check("max 100000", None);
        check("150000 100000", Some(2));
        check("50000 100000", Some(1));
    }
}
