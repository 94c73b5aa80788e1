//! The outbound road: read the feed → filter → sign → deliver → record.

pub mod address;
pub mod deliver;
pub mod dispatch;
pub mod schedule;
pub mod sign;

#[cfg(test)]
mod tests;
