use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where and with what was measured.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What it is, and what it says.
    pub facts: Vec<(&'static str, String)>,
}

impl Machine {
    /// As far as the system tells.
    pub fn find() -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let facts = vec![
            ("Processor", processor()),
            ("Processors that could be used", cores.to_string()),
            ("System", format!("{} on {}{}", std::env::consts::OS, std::env::consts::ARCH, kernel())),
            ("Large pages", line("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_else(unknown)),
            ("Compiler", format!("{}, {}", env!("FIBRA_RUSTC"), profile())),
            ("Compiler for C and C++", env!("FIBRA_CC").to_owned()),
            ("Date", date(SystemTime::now())),
            ("Versions", versions()),
        ];
        Machine { facts }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.trim().to_owned())
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = info.lines().find(|line| line.starts_with(key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let Some(name) = value("model name") else { return unknown() };
    match (value("cpu family"), value("model\t")) {
        (Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        _ => name,
    }
}

fn kernel() -> String {
    line("/proc/sys/kernel/osrelease").map(|release| format!(", {release}")).unwrap_or_default()
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "with debug assertions: figures mean nothing" } else { "release, all crates at once" }
}

/// The day, in Greenwich.
fn date(now: SystemTime) -> String {
    let days = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    let (year, month, day) = civil(days);
    format!("{year}-{month:02}-{day:02}")
}

/// The date so many days after the first of January 1970. Years begin in March, so that the odd day is their last.
fn civil(days: u64) -> (u64, u64, u64) {
    const FOUR_CENTURIES: u64 = 146_097;
    let days = days + 719_468; // since the first of March of the year 0
    let of_era = days % FOUR_CENTURIES;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + days / FOUR_CENTURIES * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// Those of the crates that are compared.
fn versions() -> String {
    const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));
    const CRATES: [&str; 8] = [
        "fibra-allocators",
        "heapless",
        "mimalloc",
        "rlsf",
        "rusty_alloc-api",
        "snmalloc-rs",
        "talc",
        "tikv-jemallocator",
    ];
    let version = |name: &str| {
        let (_, after) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", after.split_once('"')?.0))
    };
    CRATES.into_iter().filter_map(version).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(20_453), (2025, 12, 31));
        assert_eq!(civil(20_454), (2026, 1, 1));
    }

    #[test]
    fn all_versions_are_known() {
        assert_eq!(versions().split(", ").count(), 8);
    }
}
