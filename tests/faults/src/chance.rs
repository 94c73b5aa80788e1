//! Decisions that come out the same for the same seed.

/// SplitMix64: small, and any seed is a good one.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Decisions about something else, the same ones whatever else was decided before.
    pub fn of(seed: u64, what: &[u8]) -> Self {
        // FNV-1a.
        let hash = what.iter().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(hash)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// From `least` to `most`.
    pub fn within(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// So many times of a thousand.
    pub fn permille(&mut self, times: u64) -> bool {
        self.below(1000) < times
    }

    pub fn one_of<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        let index = self.below(choices.len() as u64);
        &choices[usize::try_from(index).expect("an index fits")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_decides_the_same() {
        let (mut one, mut same, mut other) = (Chance::new(7), Chance::new(7), Chance::new(8));
        let numbers: Vec<u64> = (0..9).map(|_| one.number()).collect();
        assert_eq!(numbers, (0..9).map(|_| same.number()).collect::<Vec<_>>());
        assert_ne!(numbers, (0..9).map(|_| other.number()).collect::<Vec<_>>());
        assert_eq!(Chance::of(7, b"a").number(), Chance::of(7, b"a").number());
        assert_ne!(Chance::of(7, b"a").number(), Chance::of(7, b"b").number());
        assert!((0..999).all(|_| (3..=5).contains(&one.within(3, 5))));
    }
}
