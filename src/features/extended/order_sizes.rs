//! Quantiles of the sizes of orders, and the share and the side of the largest tenth.
//!
//! The quantile `q` of `J` orders is the `⌈qJ⌉`-th smallest size (`inverted_cdf` of NumPy).
//! `large_order_share` is the volume of the orders of at least the 90 % quantile over that of all, and
//! `large_order_ofi` the imbalance of their bought and sold volume. Sizes 1 to 100 have the quantiles 50
//! and 90, and a share of 1045/5050.

use std::ops::{Add, Sub};

use crate::core::arithmetic::grid::to_f64;
use crate::core::sample::family::{Cell, Entry, Formula, HeldFamily, float};
use crate::core::sample::records::{Piece, Uses};
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::{share, signed_share};
use crate::features::shared::{Definition, POSITIVE, SHARE, SIGNED_SHARE, orders as of_orders};

/// Least number of orders for a share.
const LEAST: u32 = 10;

pub const ORDER_SIZE_P50: Definition =
    of_orders("base currency", Inputs::QUANTITY, POSITIVE, 1, Formula::Held(&ORDER_SIZES, 0));
pub const ORDER_SIZE_P90: Definition =
    of_orders("base currency", Inputs::QUANTITY, POSITIVE, 1, Formula::Held(&ORDER_SIZES, 1));
pub const LARGE_ORDER_SHARE: Definition =
    of_orders("ratio", Inputs::QUANTITY, SHARE, LEAST, Formula::Held(&ORDER_SIZES, 2));
pub const LARGE_ORDER_OFI: Definition =
    of_orders("ratio", Inputs::FLOW, SIGNED_SHARE, LEAST, Formula::Held(&ORDER_SIZES, 3));

const ORDER_SIZES: Entry<dyn HeldFamily> =
    // An order ends where the side changes.
    Entry { name: "order sizes", uses: Uses::ALL, new: || Box::new(OrderSizes) };

#[derive(Debug)]
struct OrderSizes;

/// An integer that holds the volume of the bar, as narrow as it may be: a long bar has many orders.
trait Size: Copy + Default + Ord + Add<Output = Self> + Sub<Output = Self> + From<i64> {
    fn wide(self) -> i128;
}

impl Size for i64 {
    fn wide(self) -> i128 {
        self.into()
    }
}

impl Size for i128 {
    fn wide(self) -> i128 {
        self
    }
}

/// Sizes and sides of orders.
struct Cut<T> {
    sizes: Vec<T>,
    sides: Vec<i8>,
}

impl<T: Size> Cut<T> {
    fn new(pieces: &[Piece]) -> Self {
        let records = pieces.iter().map(Piece::len).sum();
        let mut cut = Self { sizes: vec![T::default(); records], sides: vec![0; records] };
        // The last order is written again until another one begins, without a branch that depends on the trades.
        let (mut at, mut size, mut last) = (0, T::default(), None);
        for piece in pieces {
            let mut sides = piece.side.iter().copied();
            for (time, more) in piece.time.iter().zip(piece.size) {
                let side = sides.next().unwrap_or_default();
                let is_new = last != Some((*time, side));
                at += usize::from(is_new & last.is_some());
                size = if is_new { T::default() } else { size } + T::from(*more);
                last = Some((*time, side));
                (cut.sizes[at], cut.sides[at]) = (size, side);
            }
        }
        let count = at + usize::from(last.is_some());
        cut.sizes.truncate(count);
        cut.sides.truncate(count);
        cut
    }

    /// Volume of the orders of at least a size, of those of them with an aggressor, and bought less sold.
    fn volumes(&self, least: T) -> [f64; 3] {
        let [mut all, mut sided, mut net] = [T::default(); 3];
        for (size, side) in self.sizes.iter().zip(&self.sides) {
            let size = if *size >= least { *size } else { T::default() };
            let of_side = |is_own: bool| if is_own { size } else { T::default() };
            let (bought, sold) = (of_side(*side > 0), of_side(*side < 0));
            all = all + size;
            sided = sided + bought + sold;
            net = net + bought - sold;
        }
        [all, sided, net].map(|volume| to_f64(volume.wide()))
    }
}

/// Place of the smallest size with at least so many percent of the sizes at or below it.
fn rank(percent: usize, count: usize) -> usize {
    (percent * count).div_ceil(100).saturating_sub(1)
}

/// Values of the requested columns.
fn values_of<T: Size>(pieces: &[Piece], wanted: &[usize], volume: f64) -> Vec<Cell> {
    let cut = Cut::<T>::new(pieces);
    let count = cut.sizes.len();
    if count == 0 {
        return wanted.iter().map(|_| float(None)).collect();
    }
    let mut selected = cut.sizes.clone();
    let (below, large, _) = selected.select_nth_unstable(rank(90, count));
    let (large, middle) = (*large, rank(50, count));
    let median = if middle < below.len() { *below.select_nth_unstable(middle).1 } else { large };
    let is_wanted = |column| count >= LEAST as usize && wanted.contains(&column);
    let [all, sided, net] = if is_wanted(2) || is_wanted(3) { cut.volumes(large) } else { [0.0; 3] };
    let value = |column: &usize| match column {
        0 => Some(to_f64(median.wide()) / 1e8),
        1 => Some(to_f64(large.wide()) / 1e8),
        2 if is_wanted(2) => share(all, volume),
        3 if is_wanted(3) => signed_share(net, sided),
        _ => None,
    };
    wanted.iter().map(value).map(float).collect()
}

impl HeldFamily for OrderSizes {
    fn values(&self, pieces: &[Piece], wanted: &[usize], summary: &Summary) -> Vec<Cell> {
        let volume = to_f64(summary.volume);
        match i64::try_from(summary.volume) {
            Ok(_) => values_of::<i64>(pieces, wanted, volume),
            Err(_) => values_of::<i128>(pieces, wanted, volume),
        }
    }
}
