//! `receive.rs` as the README prints it, under the lints of this workspace.

#![expect(clippy::print_stdout, reason = "the receiver shows what it receives")]

include!("receive.rs");
