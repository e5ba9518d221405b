//! Contracts of a fixed worth in the quote currency, as coins.

/// `contracts * size / price` on the grid, rounded half to even; all three are grid values.
///
/// `None` when the result does not fit 63 bits, the price is not positive, or the others are negative.
#[inline]
pub fn coins(contracts: i64, size: i64, price: i64) -> Option<i64> {
    if contracts < 0 || size < 0 || price <= 0 {
        return None;
    }
    let (contracts, size, price) = (contracts.unsigned_abs(), size.unsigned_abs(), price.unsigned_abs());
    let (whole, rest) = match contracts.checked_mul(size) {
        Some(worth) => (u128::from(worth / price), worth % price),
        None => {
            let worth = u128::from(contracts) * u128::from(size);
            (worth / u128::from(price), (worth % u128::from(price)) as u64)
        }
    };
    // Below the price, so twice the rest may need 64 bits.
    let twice = u128::from(rest) * 2;
    let is_up = twice > u128::from(price) || (twice == u128::from(price) && whole % 2 == 1);
    i64::try_from(whole + u128::from(is_up)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halves_go_to_even() {
        assert_eq!(coins(1, 1, 2), Some(0));
        assert_eq!(coins(3, 1, 2), Some(2));
        assert_eq!(coins(5, 1, 2), Some(2));
        assert_eq!(coins(10 * 100_000_000, 100 * 100_000_000, 60_000 * 100_000_000), Some(1_666_667));
        assert_eq!(coins(i64::MAX, i64::MAX, 1), None);
        assert_eq!(coins(i64::MAX, i64::MAX, i64::MAX), Some(i64::MAX));
    }

    proptest! {
        #[test]
        fn no_other_integer_is_nearer(
            contracts in 0..=i64::MAX, size in 1..=i64::MAX, price in 1..=i64::MAX, shifts in (0u32..63, 0u32..63, 0u32..63),
        ) {
            let (contracts, size, price) = (contracts >> shifts.0, size >> shifts.1, (price >> shifts.2).max(1));
            let worth = i128::from(contracts) * i128::from(size);
            match coins(contracts, size, price) {
                None => prop_assert!(worth / i128::from(price) >= i128::from(i64::MAX)),
                Some(coins) => {
                    let error = (worth - i128::from(coins) * i128::from(price)).abs() * 2;
                    prop_assert!(error < i128::from(price) || (error == i128::from(price) && coins % 2 == 0));
                }
            }
        }
    }
}
