//! Days in a gateway's life, one story a file: the real binary, real sockets, real plugins, a real database.
#![cfg(test)]

mod accept;
mod admin;
mod again;
mod answers;
mod bad_json;
mod commands;
mod deliveries;
mod disk_full;
mod duplicates;
mod durable;
mod erase;
mod filters;
mod floods;
mod hang_up;
mod kit;
mod order;
mod privacy;
mod rate;
mod reload;
mod retention;
mod secrets;
mod signatures;
mod slow_senders;
mod smuggling;
mod startup;
mod stop;
mod swap;
mod unsigned;
