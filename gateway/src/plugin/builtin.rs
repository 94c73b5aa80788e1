//! The plugins that are part of the binary, built from `plugins/` by the build script, with each one's sample webhooks.

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));
