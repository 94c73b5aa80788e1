//! Too much of everything: time, memory, stack, log.

use std::hint::black_box;

use callfeed_plugin::{
    Request,
    environment::{self, Level},
};

pub(crate) fn spin() {
    let mut round = 0_u64;
    while black_box(true) {
        round = black_box(round.wrapping_add(1));
    }
}

pub(crate) fn grow() {
    let mut kept = Vec::new();
    while black_box(true) {
        kept.push(black_box(vec![1_u8; 1 << 16]));
    }
}

pub(crate) fn recurse() {
    fn deeper(depth: u64) -> u64 {
        let frame = black_box([depth; 64]);
        if black_box(true) {
            deeper(depth + 1) + frame[63]
        } else {
            0
        }
    }
    black_box(deeper(0));
}

/// Without anything in memory: the calls alone fill the machine's stack.
pub(crate) fn recurse_flat() {
    fn deeper(depth: u64) -> u64 {
        if depth == u64::MAX {
            0
        } else {
            deeper(depth + 1).wrapping_mul(31) ^ depth
        }
    }
    black_box(deeper(black_box(0)));
}

pub(crate) fn flood_the_log() {
    let line = format!("flood {}", "x".repeat(10_000));
    for _ in 0..1000 {
        environment::log(Level::Error, &line);
    }
}

pub(crate) fn log_forged_lines() {
    environment::log(
        Level::Error,
        "first\nERROR callfeed: forged\r\n\u{1b}[2J{\"level\":\"ERROR\"}",
    );
}

/// The token is a secret of the route; the plugin sees it as the sender presented it.
pub(crate) fn log_token(request: &Request) {
    let token = request.header("x-rogue-token").unwrap_or_default();
    environment::log(Level::Error, &format!("the token is {token}"));
}
