//! Reaching for what a plugin does not have. What a language runtime needs by itself works; the rest traps.

use std::{
    collections::HashMap,
    fs,
    net::TcpStream,
    thread,
    time::{Duration, Instant, SystemTime},
};

use callfeed_plugin::environment;

pub(crate) fn attempt(act: &str) {
    match act {
        "sleep" => thread::sleep(Duration::from_secs(30)),
        "read-a-file" => drop(fs::read("/etc/passwd")),
        "write-a-file" => drop(fs::write("/tmp/rogue", "was here")),
        "connect" => drop(TcpStream::connect("127.0.0.1:1")),
        "print" => {
            use std::io::Write as _;
            drop(std::io::stdout().write_all(b"rogue was here\n"));
        }
        "exit" => std::process::exit(0),
        // These are served, with the same answer every time.
        "environment" => assert_eq!(std::env::vars().count(), 0, "a plugin has no environment"),
        "arguments" => assert_eq!(std::env::args().count(), 0, "a plugin has no arguments"),
        "hash-map" => {
            let map: HashMap<_, _> = (0..100_u32).map(|n| (n, n)).collect();
            assert_eq!(map.values().sum::<u32>(), 4950);
        }
        "clock" => {
            let now = SystemTime::UNIX_EPOCH
                .elapsed()
                .expect("the received time is after 1970");
            assert_eq!(now.as_millis(), u128::from(environment::now_ms()));
            assert_eq!(Instant::now().elapsed(), Duration::ZERO);
        }
        "thread" => assert!(thread::Builder::new().spawn(|| {}).is_err(), "a plugin has one thread"),
        _ => {}
    }
}
