//! Plugins in the real host: every provider's cases through the built component, and a plugin that spins, grows, traps
//! and lies.

mod acts;
mod cache;
mod case;
mod cases;
mod files;
mod forgeries;
mod guest;
mod host;
mod neighbours;
mod scenes;
