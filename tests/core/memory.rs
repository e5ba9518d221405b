//! Memory that features take, by the bytes that this thread has allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rangebar_polars::core::columns::Column;
use rangebar_polars::core::window::Window;

use crate::features::{builder, columns, settings};
use crate::trades::{Trades, bitmap, walk};

struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(added: usize, removed: usize) {
    // Memory may pass from thread to thread.
    let live = (LIVE.get() + added).saturating_sub(removed);
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that a builder of these columns has at once, over trades in pushes of so many rows.
fn peak(trades: &Trades, dbps: u32, columns: &[&Column], window: Window, rows: usize) -> usize {
    let bytes = bitmap(&trades.is_sell, 0);
    let ticks = trades.ticks(&bytes, 0);
    let before = LIVE.get();
    PEAK.set(before);
    let mut builder = builder(&settings(&[dbps], None, None), columns, window);
    let mut bars = Vec::new();
    for from in (0..trades.len()).step_by(rows) {
        builder.begin();
        let part = ticks.slice(from, trades.len().min(from + rows));
        builder.push(&part, None, &mut bars, &mut |bars| bars.clear()).unwrap();
        builder.commit();
    }
    PEAK.get() - before
}

/// Columns for which no records of the bar are held.
fn light(column: &&&Column) -> bool {
    let held = ["_epoch_density", "_excess_gain", "_cv", "order_size_p50", "order_size_p90"];
    !held.iter().any(|end| column.name.ends_with(end)) && !column.name.starts_with("large_order")
}

const MEGABYTE: usize = 1_000_000;

/// Trades whose price goes up and down by a sixth of a percent.
fn waves(rows: usize) -> Trades {
    let mut trades = walk(rows, 1, 1.0, 1);
    trades.price = (0..rows).map(|row| 60_000.0 + (row % 1_000) as f64 / 10.0).collect();
    trades
}

#[test]
fn windows_and_sums_need_little() {
    let trades = waves(400_000);
    let all = columns(&[""]);
    let light: Vec<&Column> = all.iter().filter(light).copied().collect();
    assert_eq!(light.len() + 10, all.len());
    for rows in [400_000, 1_000] {
        let most = peak(&trades, 10, &light, Window::Records(10_000), rows);
        assert!(most < 2 * MEGABYTE, "{most} bytes");
    }
    // 10 KB a key, and the buffers of a chunk.
    let short = peak(&trades, 10, &columns(&["lookback"]), Window::Records(200), 10);
    assert!(short < MEGABYTE / 20, "{short} bytes");
}

#[test]
fn records_of_long_bars_are_held_once() {
    let trades = waves(2_500_000);
    let most = peak(&trades, 1_000, &columns(&[""]), Window::Records(200), 2_500_000);
    assert!((20 * MEGABYTE..60 * MEGABYTE).contains(&most), "{most} bytes");
    let pushed = peak(&trades, 1_000, &columns(&[""]), Window::Records(200), 100_000);
    assert!(pushed < 60 * MEGABYTE, "{pushed} bytes");
}
