//! Epochs of the walk that the reference library calls the "investment time horizon".
//!
//! The hurdle of the bull walk is the largest fall `(peak - price) / peak` of the bar, at least 2^-52; that
//! of the bear walk the largest rise over the price reached. With reference, best and worst price at the
//! first price, and gain and loss at 0, for each later price `y`: (1) a new best price sets the gain since
//! the reference, (2) a new worst price the loss; (3) the gain is added to a total; (4) when the gain
//! exceeds loss and hurdle, the record is an epoch: the reference becomes the best price, the worst price
//! that of the record before, gain and loss 0.
//!
//! Prices 100, 101, 100.5, 102, 103 have the bull epochs 1, 3, 4 and no bear epoch. On range bars these
//! columns say little: a bar ends at its first large move.

use crate::core::sample::family::{Cell, Entry, Formula, HeldFamily, float};
use crate::core::sample::records::{Piece, Uses};
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::{Definition, SHARE, records};

const fn column(at: usize) -> Definition {
    records("ratio", Inputs::NONE, SHARE, 2, Formula::Held(&EPOCHS, at))
}

pub const DENSITY_BULL: Definition = column(0);
pub const DENSITY_BEAR: Definition = column(1);
pub const EXCESS_BULL: Definition = column(2);
pub const EXCESS_BEAR: Definition = column(3);
pub const CV_BULL: Definition = column(4);
pub const CV_BEAR: Definition = column(5);

const EPOCHS: Entry<dyn HeldFamily> = Entry { name: "epochs", uses: Uses::PRICE, new: || Box::new(Epochs) };

#[derive(Debug)]
struct Epochs;

/// A walk over the prices of a bar.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    is_bear: bool,
    reference: i64,
    best: i64,
    worst: i64,
    gain: f64,
    loss: f64,
    total: f64,
    hurdle: f64,
    epochs: u64,
    last_epoch: u64,
    /// Sum of squared distances of successive epochs, from record 0 on.
    squares: i128,
}

/// An exact difference and its divisor as doubles, divided once.
#[inline(always)]
fn part(difference: i64, over: i64) -> f64 {
    difference as f64 / over as f64
}

impl Walk {
    #[inline(always)]
    fn step(&mut self, row: u64, price: i64, before: i64) {
        let (best, worst, reference) = (self.best, self.worst, self.reference);
        if if self.is_bear { price < best } else { price > best } {
            self.best = price;
            self.gain = if self.is_bear { part(reference - price, price) } else { part(price - reference, reference) };
        }
        if if self.is_bear { price > worst } else { price < worst } {
            self.worst = price;
            self.loss = if self.is_bear { part(price - reference, price) } else { part(reference - price, reference) };
        }
        self.total += self.gain;
        if self.gain > self.loss && self.gain > self.hurdle {
            let distance = i128::from(row - self.last_epoch);
            self.squares += distance * distance;
            (self.epochs, self.last_epoch) = (self.epochs + 1, row);
            (self.reference, self.worst, self.gain, self.loss) = (self.best, before, 0.0, 0.0);
        }
    }

    fn value(&self, kind: usize, records: f64) -> Cell {
        float(match kind {
            0 => Some(logistic(10.0 * (self.epochs as f64 / records - 0.5))),
            1 => Some(libm::tanh(self.total)),
            _ if self.epochs < 2 => None,
            _ => {
                let (count, sum) = (i128::from(self.epochs), i128::from(self.last_epoch));
                let deviation = ((count * self.squares - sum * sum) as f64).sqrt();
                Some(logistic(4.0 * (deviation / sum as f64 - 0.5)))
            }
        })
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// Hurdles of the bull and of the bear walk.
fn hurdles(pieces: &[Piece], open: i64) -> [f64; 2] {
    let (mut peak, mut trough) = (open, open);
    let (mut fall, mut rise) = (f64::EPSILON, f64::EPSILON);
    for price in pieces.iter().flat_map(|piece| piece.price) {
        peak = peak.max(*price);
        trough = trough.min(*price);
        fall = fall.max(part(peak - price, peak));
        rise = rise.max(part(price - trough, *price));
    }
    [fall, rise]
}

impl HeldFamily for Epochs {
    fn values(&self, pieces: &[Piece], wanted: &[usize], summary: &Summary) -> Vec<Cell> {
        let open = summary.open;
        let [fall, rise] = hurdles(pieces, open);
        let start = Walk { reference: open, best: open, worst: open, ..Walk::default() };
        let mut bull = Walk { hurdle: fall, ..start };
        let mut bear = Walk { is_bear: true, hurdle: rise, ..start };
        let is_wanted = |parity| wanted.iter().any(|column| column % 2 == parity);
        let (has_bull, has_bear) = (is_wanted(0), is_wanted(1));
        let (mut row, mut before) = (0, open);
        for price in pieces.iter().flat_map(|piece| piece.price) {
            if row > 0 {
                if has_bull {
                    bull.step(row, *price, before);
                }
                if has_bear {
                    bear.step(row, *price, before);
                }
            }
            (row, before) = (row + 1, *price);
        }
        let records = summary.records as f64;
        let value = |column: &usize| if column.is_multiple_of(2) { &bull } else { &bear }.value(column / 2, records);
        wanted.iter().map(value).collect()
    }
}
