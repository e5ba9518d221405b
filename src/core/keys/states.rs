//! The states of all keys, with copies to roll a push back.

use crate::core::state::{KeyState, Settings};

/// States of the keys in order of their first appearance.
#[derive(Debug, Default)]
pub struct KeyStates {
    states: Vec<KeyState>,
    /// Keys at the start of the push.
    count_at_begin: usize,
    /// States at the start of the push, of the keys that it touched.
    journal: Vec<(usize, KeyState)>,
    /// Push that last touched each key, so that a push costs nothing for keys that it leaves alone.
    touched_in: Vec<u64>,
    /// Number of the current push.
    push: u64,
}

impl KeyStates {
    pub fn as_slice(&self) -> &[KeyState] {
        &self.states
    }

    /// The state of a key that was touched.
    #[inline]
    pub fn get_mut(&mut self, key: u32) -> &mut KeyState {
        &mut self.states[key as usize]
    }

    /// States copied since the start of the push.
    #[cfg(test)]
    pub fn copied(&self) -> usize {
        self.journal.len()
    }

    /// Starts a push from the current states.
    pub fn begin(&mut self) {
        self.count_at_begin = self.states.len();
        self.journal.clear();
        self.push += 1;
    }

    /// Restores the states at the start of the push and starts another.
    pub fn roll_back(&mut self) {
        self.states.truncate(self.count_at_begin);
        for (key, state) in self.journal.drain(..) {
            self.states[key] = state;
        }
        self.begin();
    }

    /// Replaces all states and starts a push from them.
    pub fn replace(&mut self, states: Vec<KeyState>) {
        self.states = states;
        self.begin();
    }

    /// Makes sure that a key has a state, and a copy of it to roll back to.
    pub fn touch(&mut self, key: u32, settings: &Settings) {
        let key = key as usize;
        if self.states.len() <= key {
            self.states.resize_with(key + 1, || KeyState::new(settings));
        }
        if key >= self.count_at_begin {
            return;
        }
        if self.touched_in.len() < self.count_at_begin {
            self.touched_in.resize(self.count_at_begin, 0);
        }
        if self.touched_in[key] != self.push {
            self.touched_in[key] = self.push;
            self.journal.push((key, self.states[key].clone()));
        }
    }
}
