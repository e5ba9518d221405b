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

/// The smallest size with at least so many percent of the sizes at or below it.
fn quantile<T: Copy + Ord + Default>(sizes: &mut [T], percent: usize) -> T {
    let rank = (percent * sizes.len()).div_ceil(100).saturating_sub(1);
    if rank < sizes.len() { *sizes.select_nth_unstable(rank).1 } else { T::default() }
}

/// The quantiles of 50 and 90 percent.
fn quantiles(orders: &[(i128, i8)]) -> [i128; 2] {
    let narrow: Option<Vec<i64>> = orders.iter().map(|(size, _)| i64::try_from(*size).ok()).collect();
    match narrow {
        Some(mut sizes) => [90, 50].map(|percent| i128::from(quantile(&mut sizes, percent))),
        None => {
            let mut sizes: Vec<i128> = orders.iter().map(|(size, _)| *size).collect();
            [90, 50].map(|percent| quantile(&mut sizes, percent))
        }
    }
}

/// Sizes and sides of orders.
fn orders(pieces: &[Piece]) -> Vec<(i128, i8)> {
    let (mut cutter, mut buffer) = (OrderCutter::default(), Vec::new());
    let mut orders = Vec::new();
    let order = |order: &Order| (order.size, order.side);
    for piece in pieces {
        cutter.cut(piece, &mut buffer, |some| orders.extend(some.list.iter().map(order)));
    }
    if cutter.is_open {
        orders.push(order(&cutter.last));
    }
    orders
}

impl HeldFamily for OrderSizes {
    fn values(&self, pieces: &[Piece], wanted: &[usize], summary: &Summary) -> Vec<Cell> {
        let orders = orders(pieces);
        let [large, median] = quantiles(&orders);
        let of_large = |weight: fn(i8) -> i8| -> f64 {
            let large = orders.iter().filter(|(size, _)| *size >= large);
            to_f64(large.map(|(size, side)| size * i128::from(weight(*side))).sum())
        };
        let has_tenth = orders.len() >= LEAST as usize;
        let value = |column: &usize| match column {
            0 => Some(to_f64(median) / 1e8),
            1 => Some(to_f64(large) / 1e8),
            2 if has_tenth => share(of_large(|_| 1), to_f64(summary.volume)),
            3 if has_tenth => signed_share(of_large(|side| side), of_large(i8::abs)),
            _ => None,
        };
        wanted.iter().map(value).map(float).collect()
    }
}
