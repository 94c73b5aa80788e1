//! The newest events, in memory: who follows the feed reads here and leaves the disk alone.

use std::{collections::VecDeque, sync::Arc};

use crate::event::Kept;

const BYTES_MAX: usize = 8 << 20;
const EVENTS_MAX: usize = 8192;

/// What an event weighs beside its JSON, roughly.
const OVERHEAD_BYTES: usize = 512;

/// An unbroken run of events that ends with the newest.
#[derive(Debug)]
pub(super) struct Tail {
    events: VecDeque<Arc<Kept>>,
    bytes: usize,
    /// The place after the newest event; that of the first one here is this less the length.
    next: u64,
}

impl Tail {
    pub(super) fn new(head: u64) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            next: head + 1,
        }
    }

    pub(super) fn push(&mut self, event: Arc<Kept>) {
        if event.seq != self.next {
            // Only after the file was opened anew and turned out to hold more than was answered.
            *self = Self::new(event.seq - 1);
        }
        self.next += 1;
        self.bytes += weight(&event);
        self.events.push_back(event);
        while self.bytes > BYTES_MAX || self.events.len() > EVENTS_MAX {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= weight(&oldest);
        }
    }

    /// The events after a place; `None` when they begin before this run.
    pub(super) fn after(&self, after: u64, limit: usize) -> Option<Vec<Arc<Kept>>> {
        let skip = if after >= self.next {
            self.events.len()
        } else {
            self.index(after + 1)?
        };
        Some(self.events.iter().skip(skip).take(limit).cloned().collect())
    }

    pub(super) fn at(&self, seq: u64) -> Option<Arc<Kept>> {
        self.events.get(self.index(seq)?).cloned()
    }

    fn index(&self, seq: u64) -> Option<usize> {
        let first = self.next - self.events.len() as u64;
        usize::try_from(seq.checked_sub(first)?).ok()
    }
}

fn weight(event: &Kept) -> usize {
    event.json.len() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::kept;

    fn seqs(events: &[Arc<Kept>]) -> Vec<u64> {
        events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn an_empty_tail_knows_that_nothing_follows_the_head() {
        let tail = Tail::new(7);
        assert_eq!(tail.after(7, 10).map(|events| events.len()), Some(0));
        assert_eq!(tail.after(9, 10).map(|events| events.len()), Some(0));
        assert!(tail.after(6, 10).is_none());
        assert!(tail.at(7).is_none());
    }

    #[test]
    fn it_serves_what_it_has_and_nothing_before() {
        let mut tail = Tail::new(2);
        for seq in 3..=6 {
            tail.push(Arc::new(kept(seq, 10)));
        }
        assert_eq!(seqs(&tail.after(2, 10).unwrap()), [3, 4, 5, 6]);
        assert_eq!(seqs(&tail.after(4, 1).unwrap()), [5]);
        assert!(tail.after(1, 10).is_none());
        assert_eq!(tail.at(6).unwrap().seq, 6);
        assert!(tail.at(7).is_none() && tail.at(2).is_none());
    }

    #[test]
    fn it_is_bounded_by_bytes() {
        let mut tail = Tail::new(0);
        for seq in 1..=20 {
            tail.push(Arc::new(kept(seq, 1 << 20)));
        }
        assert!(tail.bytes <= BYTES_MAX);
        assert_eq!(seqs(&tail.after(18, 10).unwrap()), [19, 20]);
        assert!(tail.after(1, 10).is_none());
        tail.push(Arc::new(kept(21, BYTES_MAX)));
        assert_eq!((tail.events.len(), tail.bytes), (0, 0));
        assert_eq!(tail.after(21, 10).map(|events| events.len()), Some(0));
    }

    #[test]
    fn a_gap_starts_it_anew() {
        let mut tail = Tail::new(0);
        tail.push(Arc::new(kept(1, 10)));
        tail.push(Arc::new(kept(3, 10)));
        assert!(tail.after(0, 10).is_none());
        assert_eq!(seqs(&tail.after(2, 10).unwrap()), [3]);
    }
}
