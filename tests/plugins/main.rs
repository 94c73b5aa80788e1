//! Plugins in the real host: the cases of every provider and example through the built component, and a plugin that
//! spins, grows, traps and lies.

mod acts;
mod cache;
mod cases;
mod declared;
mod examples;
mod files;
mod guest;
mod host;
mod json_test_suite;
mod kept;
mod neighbours;
mod rehearsal;
mod scenes;
