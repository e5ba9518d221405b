//! Quantiles of the sizes of orders, and the share and the side of the largest tenth.
//!
//! The quantile `q` of `J` orders is the `⌈qJ⌉`-th smallest size (`inverted_cdf` of NumPy).
//! `large_order_share` is the volume of the orders of at least the 90 % quantile over that of all, and
//! `large_order_ofi` the imbalance of their bought and sold volume. Sizes 1 to 100 have the quantiles 50
//! and 90, and a share of 1045/5050.

use crate::core::arithmetic::grid::to_f64;
use crate::core::sample::family::{Cell, Entry, Formula, HeldFamily, float};
use crate::core::sample::orders::{Order, OrderCutter};
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

/// An integer of a size, as narrow as the sizes allow: a long bar has many.
trait Size: Copy + Ord + TryFrom<i128> {
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

/// The smallest size with at least so many percent of the sizes at or below it.
fn quantile<T: Size>(sizes: &mut [T], percent: usize) -> i128 {
    let rank = (percent * sizes.len()).div_ceil(100).saturating_sub(1);
    if rank < sizes.len() { sizes.select_nth_unstable(rank).1.wide() } else { 0 }
}

/// Sizes and sides of orders; `None` if a size does not fit the type.
fn orders<T: Size>(pieces: &[Piece]) -> Option<(Vec<T>, Vec<i8>)> {
    let (mut cutter, mut buffer) = (OrderCutter::default(), Vec::new());
    let (mut sizes, mut sides, mut is_fitting) = (Vec::new(), Vec::new(), true);
    let mut take = |list: &[Order]| {
        sides.extend(list.iter().map(|order| order.side));
        sizes.extend(list.iter().map_while(|order| T::try_from(order.size).ok()));
        is_fitting &= sizes.len() == sides.len();
    };
    for piece in pieces {
        cutter.cut(piece, &mut buffer, |orders| take(orders.list));
    }
    if cutter.is_open {
        take(&[cutter.last]);
    }
    is_fitting.then_some((sizes, sides))
}

/// Values of the requested columns; `None` if a size does not fit the type.
fn values_of<T: Size>(pieces: &[Piece], wanted: &[usize], volume: f64) -> Option<Vec<Cell>> {
    let (sizes, sides) = orders::<T>(pieces)?;
    let mut selected = sizes.clone();
    let large = quantile(&mut selected, 90);
    let median = quantile(&mut selected, 50);
    let of_large = |weight: fn(i8) -> i8| -> f64 {
        let large = sizes.iter().zip(&sides).filter(|(size, _)| size.wide() >= large);
        to_f64(large.map(|(size, side)| size.wide() * i128::from(weight(*side))).sum())
    };
    let has_tenth = sizes.len() >= LEAST as usize;
    let value = |column: &usize| match column {
        0 => Some(to_f64(median) / 1e8),
        1 => Some(to_f64(large) / 1e8),
        2 if has_tenth => share(of_large(|_| 1), volume),
        3 if has_tenth => signed_share(of_large(|side| side), of_large(i8::abs)),
        _ => None,
    };
    Some(wanted.iter().map(value).map(float).collect())
}

impl HeldFamily for OrderSizes {
    fn values(&self, pieces: &[Piece], wanted: &[usize], summary: &Summary) -> Vec<Cell> {
        let volume = to_f64(summary.volume);
        let narrow = values_of::<i64>(pieces, wanted, volume);
        narrow.or_else(|| values_of::<i128>(pieces, wanted, volume)).unwrap_or_default()
    }
}
