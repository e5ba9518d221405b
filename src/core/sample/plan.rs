//! What to compute: the families of the requested columns, and where each column finds its value.

use crate::core::columns::{Column, Extract, Group, SampleKind, Type};
use crate::core::sample::family::{
    Cell, Entry, Formula, HeldFamily, MOST_HELD, OrderFamily, RecordFamily, float, integer,
};
use crate::core::sample::records::{Piece, Uses};
use crate::core::sample::summary::Summary;
use crate::core::time::TimeUnit;
use crate::core::window::Window;

/// Computed columns of a bar, in the order of the catalogue: those of the window come first.
#[derive(Debug)]
pub struct Plan {
    pub unit: TimeUnit,
    pub window: Window,
    pub before: SamplePlan,
    pub bar: SamplePlan,
}

/// Where a cell comes from; numbers are those of a family of the plan, and of its columns.
#[derive(Clone, Copy)]
enum Source {
    Summary(fn(&Summary) -> Cell),
    Records(usize, usize),
    Orders(usize, usize),
    /// Position among the columns that are requested of the family.
    Held(usize, usize),
}

/// A requested column.
#[derive(Clone, Copy)]
struct Planned {
    source: Source,
    least: u64,
    is_of_orders: bool,
    null: Cell,
}

/// A family over all records of a bar.
#[derive(Debug)]
pub struct PlannedHeld {
    pub family: Box<dyn HeldFamily>,
    wanted: Vec<usize>,
}

/// The requested columns of one kind of sample.
#[derive(Default)]
pub struct SamplePlan {
    columns: Vec<Planned>,
    names: [Vec<&'static str>; 3],
    pub records: Vec<Box<dyn RecordFamily>>,
    pub orders: Vec<Box<dyn OrderFamily>>,
    pub held: Vec<PlannedHeld>,
    pub uses: Uses,
}

impl std::fmt::Debug for SamplePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("SamplePlan").field("families", &self.names).finish_non_exhaustive()
    }
}

/// Number of a family among those of a plan, which it joins if it is new.
fn join<T>(names: &mut Vec<&'static str>, families: &mut Vec<T>, name: &'static str, new: impl FnOnce() -> T) -> usize {
    names.iter().position(|known| *known == name).unwrap_or_else(|| {
        names.push(name);
        families.push(new());
        names.len() - 1
    })
}

impl SamplePlan {
    fn add(&mut self, column: &Column, formula: &Formula, bound: Uses) {
        // The sums of a bar are known, those of a window are not.
        if column.group == Group::Lookback || !matches!(formula, Formula::Summary(..)) {
            self.uses = self.uses.with(formula.uses().and(bound));
        }
        let source = match formula {
            Formula::Summary(value, _) => Source::Summary(*value),
            Formula::Records(entry, at) => {
                Source::Records(join(&mut self.names[0], &mut self.records, entry.name, entry.new), *at)
            }
            Formula::Orders(entry, at) => {
                Source::Orders(join(&mut self.names[1], &mut self.orders, entry.name, entry.new), *at)
            }
            Formula::Held(entry, at) => self.add_held(entry, *at),
        };
        let null = if column.dtype == Type::Int64 { integer(None) } else { float(None) };
        let is_of_orders = column.sample == SampleKind::Orders;
        self.columns.push(Planned { source, least: column.min_sample.into(), is_of_orders, null });
    }

    fn add_held(&mut self, entry: &Entry<dyn HeldFamily>, column: usize) -> Source {
        let new = || PlannedHeld { family: (entry.new)(), wanted: Vec::new() };
        let family = join(&mut self.names[2], &mut self.held, entry.name, new);
        let wanted = self.held.get_mut(family).map(|held| &mut held.wanted);
        let at = wanted.map_or(0, |wanted| {
            wanted.push(column);
            wanted.len() - 1
        });
        Source::Held(family, at)
    }

    pub fn len(&self) -> usize {
        self.columns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Whether all records of the sample are read as they come.
    pub fn is_fed(&self) -> bool {
        !self.records.is_empty() || self.needs_orders()
    }

    /// Whether records are joined into orders as they come.
    pub fn needs_orders(&self) -> bool {
        let is_counted = |column: &Planned| column.is_of_orders && !matches!(column.source, Source::Held(..));
        !self.orders.is_empty() || self.columns.iter().any(is_counted)
    }

    /// Appends the value of every column; `held` has the values of each held family, or nothing if the
    /// bar is too long.
    pub fn values(
        &self,
        summary: &Summary,
        records: &[Box<dyn RecordFamily>],
        orders: &[Box<dyn OrderFamily>],
        held: &[Vec<Cell>],
        out: &mut Vec<Cell>,
    ) {
        out.extend(self.columns.iter().map(|column| {
            let size = if column.is_of_orders { summary.orders } else { summary.records as u64 };
            let value = match column.source {
                // The family itself counts the orders: they may not be joined as they come.
                Source::Held(family, at) if column.is_of_orders || size >= column.least => {
                    held.get(family).and_then(|values| values.get(at)).copied()
                }
                _ if size < column.least => None,
                Source::Held(..) => None,
                Source::Summary(value) => Some(value(summary)),
                Source::Records(family, at) => records.get(family).map(|family| family.value(at, summary)),
                Source::Orders(family, at) => orders.get(family).map(|family| family.value(at, summary)),
            };
            value.unwrap_or(column.null)
        }));
    }
}

impl PlannedHeld {
    /// Values of the requested columns; none if the bar is too long.
    pub fn values(&self, pieces: &[Piece], summary: &Summary) -> Vec<Cell> {
        if summary.records as u64 > MOST_HELD {
            return Vec::new();
        }
        self.family.values(pieces, &self.wanted, summary)
    }
}

impl Plan {
    /// A plan for columns in the order of the catalogue, whose inputs are bound; `None` if none of them is
    /// computed.
    pub fn new(columns: &[&Column], bound: Uses, window: Window, unit: TimeUnit) -> Option<Self> {
        let mut plan = Self { unit, window, before: SamplePlan::default(), bar: SamplePlan::default() };
        for column in columns {
            if let Extract::Computed(formula) = &column.extract {
                let sample = if column.group == Group::Lookback { &mut plan.before } else { &mut plan.bar };
                sample.add(column, formula, bound);
            }
        }
        (!plan.before.is_empty() || !plan.bar.is_empty()).then_some(plan)
    }

    /// Whether every record of a chunk is read.
    pub fn reads_all(&self) -> bool {
        self.bar.is_fed() || self.is_held()
    }

    /// Whether the records of a bar are held to its end.
    pub fn is_held(&self) -> bool {
        !self.bar.held.is_empty()
    }

    /// Bars before that the windows hold, if their extent is a number of bars.
    pub fn bars_before(&self) -> Option<u64> {
        match self.window {
            Window::Bars(bars) if !self.before.is_empty() => Some(bars),
            _ => None,
        }
    }

    /// Columns that are read of a record.
    pub fn uses(&self) -> Uses {
        self.before.uses.with(self.bar.uses)
    }

    /// Most records that a window or a bar can need.
    pub fn longest(&self) -> u64 {
        if self.is_held() { MOST_HELD } else { self.window.most_records() }
    }
}
