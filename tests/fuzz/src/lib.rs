//! Everything that reads foreign bytes, held to what it promises whatever they are.
//!
//! One function a reader. It takes any bytes and panics when a promise is broken: that nothing panics, that the same bytes
//! say the same, that nothing said is lost, that another spelling of the same is the same, that two readers of one format
//! agree. Three things call them:
//!
//! - `cargo test` plays what is kept in `corpus/` and in the plugins' cases, and a bounded number of seeded mutations;
//! - `targets/` gives them to libFuzzer, which makes up inputs that reach code no other input reached;
//! - whoever found an input that breaks something keeps it in `corpus/`, and it stays mended.
//!
//! # Fuzzing
//!
//! With a C++ compiler and `cargo install cargo-fuzz`, no nightly toolchain:
//!
//! ```text
//! cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none --features engine json -- -max_total_time=600
//! ```
//!
//! runs one target, here `json`, for ten minutes and adds what it finds worth keeping to `tests/fuzz/corpus/json`; an input
//! that breaks a promise is left in `tests/fuzz/artifacts`. Before the corpus is committed, the same with `cmin` for `run`
//! leaves of it what is needed to reach the same code.

mod canonical;
mod capture;
mod component;
mod config;
mod ecmascript;
mod events;
mod json;
mod providers;
mod spelling;
mod texts;

pub use canonical::canonical;
pub use capture::capture;
pub use component::{cases, sections};
pub use config::config;
pub use ecmascript::ecmascript;
pub use events::events;
pub use json::json;
pub use providers::{magnetis, magpipe, salpre, topcalls, voxagent};
pub use texts::texts;

/// A reader under test.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Target); 14] = [
    ("canonical", canonical),
    ("capture", capture),
    ("cases", cases),
    ("config", config),
    ("ecmascript", ecmascript),
    ("events", events),
    ("json", json),
    ("magnetis", magnetis),
    ("magpipe", magpipe),
    ("salpre", salpre),
    ("sections", sections),
    ("texts", texts),
    ("topcalls", topcalls),
    ("voxagent", voxagent),
];
