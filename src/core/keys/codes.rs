//! Codes of keys: small integers by first appearance.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

use crate::core::simd::intrinsics::{HERE, prefetch};

/// A slot that holds no code.
const EMPTY: u32 = u32::MAX;
/// Slots per key in tables of up to [`MOST_SPARSE_SLOTS`], so that collisions are rare.
const SPARSITY: usize = 64;
const FEWEST_SLOTS: usize = 1 << 9;
const MOST_SPARSE_SLOTS: usize = 1 << 16;
/// Least number of slots per key in larger tables.
const DENSITY: usize = 2;

/// Random words that make the slots of keys unpredictable, so that nobody can choose keys that all
/// collide.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    first: u64,
    second: u64,
}

impl Default for Seeds {
    fn default() -> Self {
        let random = RandomState::new();
        Self { first: random.hash_one(0u8), second: random.hash_one(1u8) }
    }
}

impl Seeds {
    /// Combines both halves of a product, so that every bit has an effect.
    #[inline(always)]
    fn mix(self, low: u64, high: u64) -> u64 {
        let product = u128::from(low ^ self.first) * u128::from(high ^ self.second);
        product as u64 ^ (product >> 64) as u64
    }

    /// Hash of all bytes of a text.
    #[inline]
    fn hash_text(self, text: &[u8]) -> u64 {
        let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        let ends = (text.first_chunk(), text.last_chunk());
        let (Some(first), Some(last)) = ends else {
            return text.iter().fold(0, |state, byte| self.mix(state, u64::from(*byte)));
        };
        // The last word overlaps another if the length is not a multiple of eight.
        let state = self.mix(word(first) ^ text.len() as u64, word(last));
        let (blocks, _) = text.get(8..).unwrap_or_default().as_chunks::<8>();
        blocks.iter().fold(state, |state, block| self.mix(state, word(block)))
    }
}

/// A key that can have a code.
pub trait Key: Copy + Default + Eq + Hash {
    /// The key in two words.
    fn words(self) -> (u64, u64);
}

impl Key for u64 {
    #[inline(always)]
    fn words(self) -> (u64, u64) {
        (self, 0)
    }
}

impl Key for u128 {
    #[inline(always)]
    fn words(self) -> (u64, u64) {
        (self as u64, (self >> 64) as u64)
    }
}

impl Key for (u32, u32) {
    #[inline(always)]
    fn words(self) -> (u64, u64) {
        (u64::from(self.0) << 32 | u64::from(self.1), 0)
    }
}

/// A map from keys to codes, with open addressing and linear probing.
#[derive(Debug)]
pub struct Codes<K> {
    table: Vec<(K, u32)>,
    /// Number of slots less one, with all bits set.
    mask: usize,
    len: usize,
    seeds: Seeds,
}

impl<K> Default for Codes<K> {
    fn default() -> Self {
        Self { table: Vec::new(), mask: 0, len: 0, seeds: Seeds::default() }
    }
}

impl<K: Key> Codes<K> {
    /// The code of a key. A new key takes `next` and increments it.
    #[inline]
    pub fn get_or_add(&mut self, key: K, next: &mut u32) -> u32 {
        let home = self.home(key);
        match self.table.get(home) {
            // A single branch for both conditions.
            Some((known, code)) if (*known == key) & (*code != EMPTY) => *code,
            _ => self.look_up(key, home, next),
        }
    }

    /// Whether the table is too large for the nearest caches, so that [`Codes::fetch`] pays off.
    #[inline]
    pub fn is_far(&self) -> bool {
        self.table.len() >= MOST_SPARSE_SLOTS
    }

    /// Prefetches the slot of a key.
    #[inline]
    pub fn fetch(&self, key: K) {
        if let Some(slots) = self.table.get(self.home(key)..) {
            prefetch::<HERE, _>(slots);
        }
    }

    /// The first slot to probe for a key.
    #[inline(always)]
    fn home(&self, key: K) -> usize {
        let (low, high) = key.words();
        self.seeds.mix(low, high) as usize & self.mask
    }

    #[inline(never)]
    fn look_up(&mut self, key: K, home: usize, next: &mut u32) -> u32 {
        let mut at = home;
        while let Some((known, code)) = self.table.get(at).filter(|(_, code)| *code != EMPTY) {
            if *known == key {
                return *code;
            }
            at = (at + 1) & self.mask;
        }
        let code = *next;
        *next += 1;
        self.len += 1;
        if slots_for(self.len) > self.table.len() {
            self.resize(u32::MAX);
            self.put(key, code);
        } else if let Some(slot) = self.table.get_mut(at) {
            *slot = (key, code);
        }
        code
    }

    /// Puts a new key into its first free slot.
    fn put(&mut self, key: K, code: u32) {
        let mut at = self.home(key);
        while let Some((_, taken)) = self.table.get_mut(at) {
            if *taken == EMPTY {
                self.table[at] = (key, code);
                return;
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Creates a table for `self.len` keys and moves the old ones with codes below `count` into it.
    fn resize(&mut self, count: u32) {
        let slots = slots_for(self.len);
        let old = std::mem::replace(&mut self.table, vec![(K::default(), EMPTY); slots]);
        self.mask = slots - 1;
        for (key, code) in old.into_iter().filter(|(_, code)| *code != EMPTY && *code < count) {
            self.put(key, code);
        }
    }

    /// Forgets the codes from `count` on.
    pub fn truncate(&mut self, count: u32) {
        let remaining = self.table.iter().filter(|(_, code)| *code != EMPTY && *code < count).count();
        if remaining < self.len {
            self.len = remaining;
            self.resize(count);
        }
    }
}

/// A map from texts to codes.
///
/// Texts are found by their hash and then compared. Of two texts with the same 64-bit hash, which is
/// very rare, the later one is stored in a separate map.
#[derive(Debug, Default)]
pub struct TextCodes {
    seeds: Seeds,
    /// Positions of texts by their hashes.
    positions: Codes<u64>,
    texts: Vec<(Box<str>, u32)>,
    collisions: HashMap<Box<str>, u32>,
}

impl TextCodes {
    /// The code of a text. A new text takes `next` and increments it.
    #[inline]
    pub fn get_or_add(&mut self, text: &str, next: &mut u32) -> u32 {
        let hash = self.seeds.hash_text(text.as_bytes());
        let mut count = self.texts.len() as u32;
        let position = self.positions.get_or_add(hash, &mut count);
        match self.texts.get(position as usize) {
            Some((known, code)) if is_same(known.as_bytes(), text.as_bytes()) => *code,
            Some(_) => self.collisions(text, next),
            None => {
                self.texts.push((text.into(), *next));
                *next += 1;
                *next - 1
            }
        }
    }

    #[cold]
    fn collisions(&mut self, text: &str, next: &mut u32) -> u32 {
        if let Some(code) = self.collisions.get(text) {
            return *code;
        }
        self.collisions.insert(text.into(), *next);
        *next += 1;
        *next - 1
    }

    /// Forgets the codes from `count` on.
    pub fn truncate(&mut self, count: u32) {
        // Codes increase with the positions.
        let remaining = self.texts.partition_point(|(_, code)| *code < count);
        self.texts.truncate(remaining);
        self.positions.truncate(remaining as u32);
        self.collisions.retain(|_, code| *code < count);
    }
}

/// Compares two texts, eight bytes at a time: most keys are too short for a call to pay off.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let (blocks, others) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(last), Some(other)) => {
            a.len() == b.len() && last == other && blocks.iter().zip(others).all(|(a, b)| a == b)
        }
        _ => a == b,
    }
}

/// Number of slots for a number of keys: a power of two, above `DENSITY` times the keys.
fn slots_for(keys: usize) -> usize {
    let sparse = (keys * SPARSITY).min(MOST_SPARSE_SLOTS);
    sparse.max(keys * DENSITY).max(FEWEST_SLOTS).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn many_keys_keep_their_codes() {
        let (mut codes, mut next) = (Codes::default(), 0);
        for round in 0..2 {
            for key in 0..200_000u64 {
                assert_eq!(u64::from(codes.get_or_add(key << 20, &mut next)), key, "round {round}");
            }
        }
        assert!(codes.table.len() >= 2 * 200_000 && codes.table.len() <= 1 << 19);
        codes.truncate(70_000);
        next = 70_000;
        assert_eq!(codes.get_or_add(69_999 << 20, &mut next), 69_999);
        assert_eq!((codes.get_or_add(199_999 << 20, &mut next), next), (70_000, 70_001));
    }

    #[test]
    fn keys_chosen_to_collide_do_not() {
        // Multiples of the number of slots, and words that cancel each other out when combined.
        let (mut codes, mut next) = (Codes::default(), 0);
        for key in 0..10_000u128 {
            codes.get_or_add(key << 64 | key.rotate_left(17), &mut next);
            codes.get_or_add(key << 40, &mut next);
        }
        let longest = codes.table.chunk_by(|(_, a), (_, b)| (*a == EMPTY) == (*b == EMPTY));
        let longest = longest.filter(|run| run[0].1 != EMPTY).map(<[_]>::len).max();
        assert!(longest.is_some_and(|run| run < 200), "{longest:?}");
    }

    #[test]
    fn texts_of_one_hash_keep_codes_of_their_own() {
        let (mut codes, mut next) = (TextCodes::default(), 5);
        let texts: Vec<String> =
            (0..300).flat_map(|i| [format!("{i:0>40}"), format!("{i:0<20}"), format!("{i:x>13}x")]).collect();
        let distinct: std::collections::HashSet<&String> = texts.iter().collect();
        for text in &texts {
            codes.get_or_add(text, &mut next);
        }
        assert_eq!((codes.texts.len(), next as usize), (distinct.len(), distinct.len() + 5));
        assert!(codes.collisions.is_empty());
        // A text takes the place of another one, whose hash is then taken.
        codes.texts[3].0 = "another text".into();
        assert_eq!(codes.get_or_add(&texts[3], &mut next), next - 1);
        assert_eq!(codes.get_or_add(&texts[3], &mut next), next - 1);
        codes.truncate(7);
        assert_eq!((codes.texts.len(), codes.collisions.len()), (2, 0));
        next = 7;
        assert_eq!(codes.get_or_add(&texts[1], &mut next), 6);
        assert_eq!(codes.get_or_add(&texts[3], &mut next), 7);
    }

    #[test]
    fn texts_are_compared_by_all_of_their_bytes() {
        let text: Vec<u8> = (0..60).collect();
        for len in 0..text.len() {
            assert!(is_same(&text[..len], &text[..len]) && !is_same(&text[..len], &text[..len + 1]));
            for at in 0..len {
                let mut other = text[..len].to_vec();
                other[at] ^= 1;
                assert!(!is_same(&text[..len], &other) && !is_same(&other, &text[..len]), "{len} {at}");
                let seeds = Seeds::default();
                assert_ne!(seeds.hash_text(&text[..len]), seeds.hash_text(&other), "{len} {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn codes_are_first_appearances(
            keys in proptest::collection::vec((0u128..3_000, any::<bool>()), 1..2_000),
            remaining in 0u32..100,
        ) {
            let keys: Vec<u128> = keys.into_iter().map(|(key, is_high)| if is_high { key << 96 | 7 } else { key }).collect();
            let (mut codes, mut next) = (Codes::default(), 0);
            let mut model = HashMap::new();
            for _ in 0..2 {
                for key in &keys {
                    let count = model.len() as u32;
                    let expected = *model.entry(*key).or_insert(count);
                    prop_assert_eq!(codes.get_or_add(*key, &mut next), expected);
                    prop_assert_eq!(next as usize, model.len());
                }
                next = next.min(remaining);
                codes.truncate(next);
                model.retain(|_, code| *code < next);
            }
        }
    }
}
