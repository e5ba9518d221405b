//! The state of a sample while its records come in.

use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, OrderFamily, RecordFamily};
use crate::core::sample::orders::{Order, OrderCutter, Orders};
use crate::core::sample::plan::SamplePlan;
use crate::core::sample::records::{Before, Piece, Records};
use crate::core::sample::summary::Summary;
use crate::core::simd::InstructionSet;

/// Families of a plan, with what they have seen of a sample.
#[derive(Clone, Debug)]
pub struct FormingSample {
    pub before: Before,
    cutter: OrderCutter,
    has_orders: bool,
    records: Vec<Box<dyn RecordFamily>>,
    orders: Vec<Box<dyn OrderFamily>>,
}

impl FormingSample {
    pub fn new(plan: &SamplePlan) -> Self {
        Self {
            before: Before::default(),
            cutter: OrderCutter::default(),
            has_orders: plan.needs_orders(),
            records: plan.records.clone(),
            orders: plan.orders.clone(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.before.count == 0
    }

    /// Adds records that follow.
    pub fn absorb(&mut self, piece: &Piece, buffer: &mut Vec<Order>) {
        let records = Records { piece: *piece, before: self.before, set: InstructionSet::current() };
        for family in &mut self.records {
            family.absorb(&records);
        }
        if self.has_orders {
            let families = &mut self.orders;
            self.cutter.cut(piece, buffer, |orders| families.iter_mut().for_each(|family| family.absorb(orders)));
        }
        self.before.advance(piece);
    }

    /// Ends the sample: appends its values and starts another.
    pub fn finish(&mut self, plan: &SamplePlan, mut summary: Summary, held: &[Vec<Cell>], out: &mut Vec<Cell>) {
        if self.cutter.is_open {
            let last = [self.cutter.last];
            let last = Orders::new(&last, self.cutter.count);
            self.orders.iter_mut().for_each(|family| family.absorb(&last));
        }
        summary.orders = self.cutter.total();
        plan.values(&summary, &self.records, &self.orders, held, out);
        self.reset();
    }

    pub fn reset(&mut self) {
        self.before = Before::default();
        self.cutter = OrderCutter::default();
        self.records.iter_mut().for_each(|family| family.reset());
        self.orders.iter_mut().for_each(|family| family.reset());
    }

    /// Writes or reads the state, but for the part that the sums of the bar tell.
    ///
    /// # Errors
    /// When the bytes are no such state.
    pub fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        if self.has_orders {
            transfer_cutter(&mut self.cutter, codec)?;
        }
        for family in &mut self.records {
            family.transfer(codec)?;
        }
        self.orders.iter_mut().try_for_each(|family| family.transfer(codec))
    }
}

fn transfer_cutter(cutter: &mut OrderCutter, codec: &mut Codec) -> Result<(), CoreError> {
    codec.count(&mut cutter.count)?;
    codec.flag(&mut cutter.is_open)?;
    codec.long(&mut cutter.time)?;
    let last = &mut cutter.last;
    codec.sum(&mut last.size)?;
    codec.price(&mut last.price)?;
    codec.long(&mut last.gap)?;
    codec.long(&mut last.change)?;
    codec.word(&mut last.interval)?;
    codec.side(&mut last.side)?;
    codec.side(&mut last.side_before)?;
    codec.flag(&mut last.is_sweep)
}
