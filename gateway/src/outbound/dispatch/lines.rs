//! Deliveries that are not settled, in the lines in which they wait for each other.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{config::Order, event::Kept, store::Waiting};

/// One that is not settled.
#[derive(Debug)]
pub(super) struct Delivery {
    line: Place,
    pub(super) subject: Arc<str>,
    /// In memory until it is forgotten or waits in the retry set.
    pub(super) event: Option<Arc<Kept>>,
    pub(super) kept_at: Timestamp,
    /// Attempts that ended …
    pub(super) attempts: u32,
    /// … and how many of them before its schedule began.
    pub(super) begun_after: u32,
    pub(super) due_at: Timestamp,
    pub(super) in_flight: bool,
    /// In the retry set, on disk or about to be.
    pub(super) waiting: bool,
}

/// Where a delivery stands in line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Of(Arc<str>),
    Alone(u64),
}

/// Those that wait for each other, in feed order.
#[derive(Debug, Default)]
struct Line {
    seqs: VecDeque<u64>,
    in_flight: bool,
    /// So many before the first are given up, and that is not durable yet.
    dying: usize,
}

/// All that is not settled.
#[derive(Debug)]
pub(super) struct Lines {
    order: Order,
    deliveries: HashMap<u64, Delivery>,
    lines: HashMap<Place, Line>,
    /// Given up and not on record yet, by place: the line that waits for it.
    dying: HashMap<u64, Place>,
    /// The first of every line that has none in flight and waits for no record, by when it is due.
    due: BTreeSet<(Timestamp, u64)>,
    /// Those that are not in the retry set.
    open: BTreeSet<u64>,
    in_flight: usize,
    /// Those whose event is in memory, and its bytes.
    window: usize,
    window_bytes: usize,
}

impl Lines {
    pub(super) fn new(order: Order) -> Self {
        Self {
            order,
            deliveries: HashMap::new(),
            lines: HashMap::new(),
            dying: HashMap::new(),
            due: BTreeSet::new(),
            open: BTreeSet::new(),
            in_flight: 0,
            window: 0,
            window_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Delivery> {
        self.deliveries.get(&seq)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Delivery)> {
        self.deliveries.iter().map(|(seq, delivery)| (*seq, delivery))
    }

    /// Those in the retry set.
    pub(super) fn waiting(&self) -> usize {
        self.deliveries.len() - self.open.len()
    }

    /// The first that is not in the retry set.
    pub(super) fn first_open(&self) -> Option<u64> {
        self.open.first().copied()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Those whose event is in memory.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    pub(super) fn window_bytes(&self) -> usize {
        self.window_bytes
    }

    /// The one that is due first, and when.
    pub(super) fn first_due(&self) -> Option<(Timestamp, u64)> {
        self.due.first().copied()
    }

    /// Puts one of the retry set into its line.
    pub(super) fn take_up(&mut self, waiting: &Waiting) {
        let subject = Arc::from(waiting.subject.as_str());
        let delivery = Delivery {
            line: self.place(waiting.seq, &subject),
            subject,
            event: None,
            kept_at: waiting.kept_at,
            attempts: waiting.attempts,
            begun_after: waiting.begun_after,
            due_at: waiting.due_at,
            in_flight: false,
            waiting: true,
        };
        self.enqueue(waiting.seq, delivery);
    }

    /// Puts one that was read into its line. It is open.
    pub(super) fn join(
        &mut self,
        event: Arc<Kept>,
        kept_at: Timestamp,
        (attempts, begun_after): (u32, u32),
        due_at: Timestamp,
    ) {
        let (seq, subject) = (event.seq, Arc::from(event.subject.as_str()));
        self.window += 1;
        self.window_bytes += event.json.len();
        self.open.insert(seq);
        let delivery = Delivery {
            line: self.place(seq, &subject),
            subject,
            event: Some(event),
            kept_at,
            attempts,
            begun_after,
            due_at,
            in_flight: false,
            waiting: false,
        };
        self.enqueue(seq, delivery);
    }

    fn place(&self, seq: u64, subject: &Arc<str>) -> Place {
        match self.order {
            Order::Call => Place::Of(Arc::clone(subject)),
            Order::None => Place::Alone(seq),
        }
    }

    fn enqueue(&mut self, seq: u64, delivery: Delivery) {
        let line = self.lines.entry(delivery.line.clone()).or_default();
        // Nearly always the end; what is replayed may belong before others.
        let place = line.seqs.partition_point(|other| *other < seq);
        if place == 0
            && !line.in_flight
            && let Some(first) = line.seqs.front()
        {
            self.due.remove(&(self.deliveries[first].due_at, *first));
        }
        line.seqs.insert(place, seq);
        let line = (place == 0).then(|| delivery.line.clone());
        self.deliveries.insert(seq, delivery);
        if let Some(line) = line {
            self.arm(&line);
        }
    }

    /// An attempt of the one that is due first begins.
    pub(super) fn begin_first(&mut self) -> Option<(u64, &Delivery)> {
        let (_, seq) = self.due.pop_first()?;
        let delivery = self.deliveries.get_mut(&seq).expect("what is due is not settled");
        delivery.in_flight = true;
        self.in_flight += 1;
        self.lines
            .get_mut(&delivery.line)
            .expect("what is due stands in its line")
            .in_flight = true;
        Some((seq, delivery))
    }

    /// No attempt of it is under way any more; after so many of them it is due again at this time.
    pub(super) fn again(&mut self, seq: u64, attempts: u32, due_at: Timestamp) {
        self.land(seq);
        let delivery = self.deliveries.get_mut(&seq).expect("what landed is not settled");
        delivery.attempts = attempts;
        delivery.due_at = due_at;
        let line = delivery.line.clone();
        self.arm(&line);
    }

    fn land(&mut self, seq: u64) {
        let delivery = self
            .deliveries
            .get_mut(&seq)
            .expect("what was in flight is not settled");
        delivery.in_flight = false;
        self.in_flight -= 1;
        self.lines
            .get_mut(&delivery.line)
            .expect("what was in flight stands in its line")
            .in_flight = false;
    }

    /// Begins its schedule anew after so many attempts, if not more: due at this time, if not before. The attempt under way is
    /// as good as another.
    pub(super) fn begin_anew(&mut self, seq: u64, attempts: u32, due_at: Timestamp) {
        let delivery = self.deliveries.get_mut(&seq).expect("what begins anew is not settled");
        if delivery.in_flight {
            delivery.begun_after = delivery.attempts;
            return;
        }
        delivery.attempts = delivery.attempts.max(attempts);
        delivery.begun_after = delivery.attempts;
        self.due.remove(&(delivery.due_at, seq));
        delivery.due_at = delivery.due_at.min(due_at);
        let line = delivery.line.clone();
        self.arm(&line);
    }

    /// Makes the first of a line due, unless one of the line is in flight or the record is waited for.
    fn arm(&mut self, line: &Place) {
        if let Some(line) = self.lines.get(line)
            && !line.in_flight
            && line.dying == 0
            && let Some(first) = line.seqs.front()
        {
            self.due.insert((self.deliveries[first].due_at, *first));
        }
    }

    /// Moves one into the retry set. Its event leaves the memory and is fetched again when it is due.
    pub(super) fn set_aside(&mut self, seq: u64) {
        let delivery = self
            .deliveries
            .get_mut(&seq)
            .expect("only unsettled deliveries are set aside");
        delivery.waiting = true;
        if let Some(event) = delivery.event.take() {
            self.window -= 1;
            self.window_bytes -= event.json.len();
        }
        self.open.remove(&seq);
    }

    /// Those that are not in the retry set among one and all before it in its line.
    pub(super) fn open_up_to(&self, seq: u64) -> Vec<u64> {
        let seqs = &self.lines[&self.deliveries[&seq].line].seqs;
        let place = seqs.partition_point(|other| *other <= seq);
        let mut open = Vec::new();
        for other in seqs.range(..place).rev() {
            if !self.deliveries[other].waiting {
                open.push(*other);
            } else if *other != seq {
                // All before one that waits wait already.
                break;
            }
        }
        open
    }

    /// Those that are not in the retry set behind one in its line.
    pub(super) fn open_behind(&self, seq: u64) -> Vec<u64> {
        let seqs = &self.lines[&self.deliveries[&seq].line].seqs;
        let behind = seqs.iter().copied().filter(|other| *other > seq);
        behind.filter(|other| !self.deliveries[other].waiting).collect()
    }

    /// Those that are not in the retry set and that no attempt is to wait for: all but the ones in flight that nobody stands
    /// behind.
    pub(super) fn open_and_idle(&self) -> Vec<u64> {
        let is_idle = |seq: &u64| {
            let delivery = &self.deliveries[seq];
            !delivery.in_flight || self.lines[&delivery.line].seqs.back() != Some(seq)
        };
        self.open.iter().copied().filter(is_idle).collect()
    }

    /// Whether the one before the last of its line is in the retry set.
    pub(super) fn follows_waiting(&self, last: u64) -> bool {
        let seqs = &self.lines[&self.deliveries[&last].line].seqs;
        seqs.iter()
            .nth_back(1)
            .is_some_and(|other| self.deliveries[other].waiting)
    }

    /// Takes one that is delivered out of its line, and makes the next one due.
    pub(super) fn deliver(&mut self, seq: u64) -> Delivery {
        let delivery = self.take_out(seq);
        self.go_on(&delivery.line);
        delivery
    }

    /// Takes one that is given up out of its line. Those behind it wait until that is durable: for [`Lines::release`].
    pub(super) fn give_up(&mut self, seq: u64) -> Delivery {
        let delivery = self.take_out(seq);
        self.hold(seq, delivery.line.clone());
        delivery
    }

    /// The same with one that never stood in its line.
    pub(super) fn give_up_unread(&mut self, seq: u64, subject: &str) {
        let line = self.place(seq, &Arc::from(subject));
        self.hold(seq, line);
    }

    fn take_out(&mut self, seq: u64) -> Delivery {
        if self.deliveries[&seq].in_flight {
            self.land(seq);
        }
        let delivery = self.deliveries.remove(&seq).expect("removed is what is not settled");
        self.due.remove(&(delivery.due_at, seq));
        if let Some(event) = &delivery.event {
            self.window -= 1;
            self.window_bytes -= event.json.len();
        }
        self.open.remove(&seq);
        let line = self
            .lines
            .get_mut(&delivery.line)
            .expect("what is not settled stands in its line");
        match line.seqs.front() {
            Some(first) if *first == seq => drop(line.seqs.pop_front()),
            _ => line.seqs.retain(|other| *other != seq),
        }
        delivery
    }

    fn hold(&mut self, seq: u64, line: Place) {
        self.lines.entry(line.clone()).or_default().dying += 1;
        self.dying.insert(seq, line);
    }

    /// That it was given up is durable, or no longer so: nobody waits for it any more.
    pub(super) fn release(&mut self, seq: u64) {
        let Some(line) = self.dying.remove(&seq) else { return };
        self.lines
            .get_mut(&line)
            .expect("a line stays while it waits for the record")
            .dying -= 1;
        self.go_on(&line);
    }

    /// After one of a line is out of the way: the next one has its turn, if there is one.
    fn go_on(&mut self, place: &Place) {
        let line = &self.lines[place];
        if !line.seqs.is_empty() {
            self.arm(place);
        } else if line.dying == 0 {
            self.lines.remove(place);
        }
    }

    pub(super) fn forget_events(&mut self) {
        for delivery in self.deliveries.values_mut() {
            delivery.event = None;
        }
        self.window = 0;
        self.window_bytes = 0;
    }
}
