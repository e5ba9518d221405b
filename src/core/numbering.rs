//! Keys to small numbers by first appearance.

use std::collections::HashMap;
use std::hash::Hash;

/// A slot that holds no code.
const EMPTY: u32 = u32::MAX;
/// Slots to a key, so that hardly any two keys want the same one.
const SPARSITY: usize = 64;
const FEWEST_SLOTS: usize = 1 << 9;
const MOST_SLOTS: usize = 1 << 16;
/// Slots a key may be in: the one it wants, and those after it.
const PROBES: usize = 4;
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// What can be numbered.
pub trait Key: Copy + Default + Eq + Hash {
    /// A word that differs where keys differ, nearly always.
    fn word(self) -> u64;
}

impl Key for u64 {
    #[inline]
    fn word(self) -> u64 {
        self
    }
}

impl Key for u128 {
    #[inline]
    fn word(self) -> u64 {
        self as u64 ^ ((self >> 64) as u64).rotate_left(17)
    }
}

impl Key for (u32, u32) {
    #[inline]
    fn word(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.1)
    }
}

/// A map to codes with a quick look into a sparse table first.
#[derive(Debug)]
pub struct Codes<K> {
    map: HashMap<K, u32>,
    /// Some keys of the map, each in one of its slots.
    table: Vec<(K, u32)>,
    /// Slots that keys may want, less one: all bits set.
    mask: usize,
}

impl<K> Default for Codes<K> {
    fn default() -> Self {
        Self { map: HashMap::new(), table: Vec::new(), mask: 0 }
    }
}

impl<K: Key> Codes<K> {
    /// The code of a key; a new one takes `next` and moves it on.
    #[inline]
    pub fn get_or_add(&mut self, key: K, next: &mut u32) -> u32 {
        match self.table.get(self.home(key)) {
            // One jump for both.
            Some((known, code)) if (*known == key) & (*code != EMPTY) => *code,
            _ => self.look_up(key, next),
        }
    }

    /// The slot a key wants.
    #[inline]
    fn home(&self, key: K) -> usize {
        // Both halves of the product, so that every bit of the word counts.
        let product = u128::from(key.word()) * u128::from(ODD);
        (product as u64 ^ (product >> 64) as u64) as usize & self.mask
    }

    #[cold]
    fn look_up(&mut self, key: K, next: &mut u32) -> u32 {
        let home = self.home(key);
        let slots = self.table.iter().skip(home).take(PROBES);
        if let Some((_, code)) = slots.into_iter().find(|(known, code)| *known == key && *code != EMPTY) {
            return *code;
        }
        let code = *self.map.entry(key).or_insert(*next);
        *next = (*next).max(code + 1);
        let wanted = (self.map.len() * SPARSITY).next_power_of_two().clamp(FEWEST_SLOTS, MOST_SLOTS) - 1;
        if wanted > self.mask {
            self.mask = wanted;
            self.fill_table();
        } else {
            self.put(key, code);
        }
        code
    }

    /// Puts a key into its first free slot, or in place of the one that has its own.
    fn put(&mut self, key: K, code: u32) {
        let home = self.home(key);
        let free = self.table.iter().skip(home).take(PROBES).position(|(_, code)| *code == EMPTY);
        if let Some(slot) = self.table.get_mut(home + free.unwrap_or(0)) {
            *slot = (key, code);
        }
    }

    fn fill_table(&mut self) {
        self.table.clear();
        self.table.resize(self.mask + PROBES, (K::default(), EMPTY));
        let map = std::mem::take(&mut self.map);
        map.iter().for_each(|(key, code)| self.put(*key, *code));
        self.map = map;
    }

    /// Forgets the codes from `count` on.
    pub fn truncate(&mut self, count: u32) {
        self.map.retain(|_, code| *code < count);
        self.fill_table();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn codes_are_first_appearances(
            keys in proptest::collection::vec((0u128..3_000, any::<bool>()), 1..2_000),
            kept in 0u32..100,
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
                next = next.min(kept);
                codes.truncate(next);
                model.retain(|_, code| *code < next);
            }
        }
    }
}
