//! The plugin kit: the built-in plugins pass all of its checks, and a plugin that is wrong in one way is found by one.
#![cfg(test)]

mod conformance;
mod faults;
mod lab;
