//! The command line: a mode, then `--name value` pairs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

#[derive(Debug)]
pub struct Arguments {
    pub mode: String,
    given: HashMap<String, String>,
}

impl Arguments {
    pub fn from_command_line() -> Self {
        let mut words = std::env::args().skip(1);
        let mode = words.next().expect("usage: load MODE [--NAME VALUE]...");
        let mut given = HashMap::new();
        while let Some(name) = words.next() {
            let name = name.strip_prefix("--").unwrap_or_else(|| panic!("{name} is no --name")).to_string();
            let value = words.next().unwrap_or_else(|| panic!("--{name} has no value"));
            given.insert(name, value);
        }
        Self { mode, given }
    }

    pub fn word(&self, name: &str) -> String {
        self.given.get(name).unwrap_or_else(|| panic!("--{name} is missing")).clone()
    }

    pub fn number<T: FromStr>(&self, name: &str, default: T) -> T {
        let Some(text) = self.given.get(name) else { return default };
        text.parse().unwrap_or_else(|_| panic!("--{name} {text} is no number"))
    }

    pub fn seconds(&self, name: &str, default: f64) -> Duration {
        Duration::from_secs_f64(self.number(name, default))
    }

    pub fn server(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.number("port", 7800)))
    }
}
