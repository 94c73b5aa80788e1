use super::*;

/// What the allocator handed out and has not got back, each piece full of bytes of its own.
struct Piece {
    start: *mut u8,
    layout: Layout,
    mark: u8,
}

impl Piece {
    fn fill(&self) {
        // SAFETY: it is in use, and nobody else's.
        unsafe { self.start.write_bytes(self.mark, self.layout.size()) };
    }

    fn check(&self, bytes: usize) {
        // SAFETY: as many bytes were filled.
        let content = unsafe { std::slice::from_raw_parts(self.start, bytes) };
        assert!(
            content.iter().all(|byte| *byte == self.mark),
            "{:?} changed",
            self.layout
        );
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.start.addr()..self.start.addr() + self.layout.size()
    }
}

/// A seeded sequence of small numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap() % bound
    }

    /// Mostly small; some at the largest size of a piece, and some beyond it.
    fn bytes(&mut self) -> usize {
        match self.below(40) {
            0 => PIECE_BYTES_MAX - 2 + self.below(5),
            1 => 1 + self.below(3 * PIECE_BYTES_MAX),
            2..10 => 1 + self.below(4 << 10),
            _ => 1 + self.below(96),
        }
    }
}

/// One allocator and what it should be: pieces that are apart, aligned, and keep what is written into them.
struct Model {
    pieces: Box<Pieces>,
    random: Random,
    used: Vec<Piece>,
    mark: u8,
}

impl Model {
    fn take(&mut self) {
        let layout = Layout::from_size_align(self.random.bytes(), 1 << self.random.below(8)).unwrap();
        let has_room = self.pieces.used.get() + layout.align() + layout.size() <= AREA_BYTES;
        // SAFETY: the size is not zero.
        let start = unsafe { self.pieces.alloc(layout) };
        if has_room && layout.size() <= PIECE_BYTES_MAX {
            assert!(self.pieces.offset(start).is_some(), "{layout:?} is not in the area");
        }
        self.mark = self.mark.wrapping_add(1);
        self.put(Piece {
            start,
            layout,
            mark: self.mark,
        });
    }

    fn put(&mut self, piece: Piece) {
        assert!(!piece.start.is_null());
        assert_eq!(piece.start.addr() % piece.layout.align(), 0, "{:?}", piece.layout);
        let range = piece.range();
        for other in self.used.iter().map(Piece::range) {
            assert!(
                range.end <= other.start || other.end <= range.start,
                "{range:x?} overlaps {other:x?}"
            );
        }
        if let Some(offset) = self.pieces.offset(piece.start) {
            assert!(
                piece.layout.size() <= PIECE_BYTES_MAX,
                "{:?} is in the area",
                piece.layout
            );
            assert!(offset + piece.layout.size() <= self.pieces.used.get());
        }
        piece.fill();
        self.used.push(piece);
    }

    fn any(&mut self) -> Option<Piece> {
        let count = self.used.len();
        // The last one most often, as vectors that grow are.
        let at = match count {
            0 => return None,
            _ if self.random.below(3) > 0 => count - 1,
            _ => self.random.below(count),
        };
        Some(self.used.remove(at))
    }

    fn resize(&mut self) {
        let Some(old) = self.any() else { return };
        let bytes = self.random.bytes();
        let in_area = self.pieces.offset(old.start).is_some();
        // SAFETY: it is in use and has this layout, and the new size is not zero.
        let start = unsafe { self.pieces.realloc(old.start, old.layout, bytes) };
        if in_area && bytes <= old.layout.size() {
            assert_eq!(start, old.start, "what shrinks stays");
        }
        let layout = Layout::from_size_align(bytes, old.layout.align()).unwrap();
        let new = Piece { start, layout, ..old };
        new.check(bytes.min(old.layout.size()));
        self.put(new);
    }

    fn give_back(&mut self) {
        let Some(piece) = self.any() else { return };
        piece.check(piece.layout.size());
        // SAFETY: it is in use and has this layout.
        unsafe { self.pieces.dealloc(piece.start, piece.layout) };
    }
}

#[test]
fn pieces_are_apart_and_keep_their_content() {
    for seed in 0..200 {
        let mut model = Model {
            pieces: Box::new(Pieces::new()),
            random: Random(seed),
            used: Vec::new(),
            mark: 0,
        };
        for _ in 0..400 {
            match model.random.below(10) {
                0..5 => model.take(),
                5..8 => model.resize(),
                _ => model.give_back(),
            }
        }
        for piece in &model.used {
            piece.check(piece.layout.size());
        }
        while !model.used.is_empty() {
            model.give_back();
        }
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 8).unwrap()
}

#[test]
fn a_last_piece_that_outgrows_the_area_gives_back_its_place() {
    let pieces = Box::new(Pieces::new());
    // SAFETY: every piece is given back once, with the layout it has.
    unsafe {
        let piece = pieces.alloc(layout(64));
        let grown = pieces.realloc(piece, layout(64), PIECE_BYTES_MAX);
        assert_eq!(
            (grown, pieces.used.get()),
            (piece, pieces.offset(piece).unwrap() + PIECE_BYTES_MAX)
        );
        let moved = pieces.realloc(grown, layout(PIECE_BYTES_MAX), PIECE_BYTES_MAX + 1);
        assert_eq!(pieces.offset(moved), None);
        assert_eq!(pieces.alloc(layout(64)), piece, "its place is free again");
        pieces.dealloc(moved, layout(PIECE_BYTES_MAX + 1));
    }
}

#[test]
fn shrinking_never_moves() {
    let pieces = Box::new(Pieces::new());
    // SAFETY: each piece has the layout it is said to have.
    unsafe {
        let (first, last) = (pieces.alloc(layout(64)), pieces.alloc(layout(64)));
        let used = pieces.used.get();
        assert_eq!(pieces.realloc(first, layout(64), 8), first);
        assert_eq!(pieces.used.get(), used);
        assert_eq!(pieces.realloc(last, layout(64), 8), last);
        assert_eq!(pieces.used.get(), used - 56);
    }
}
