//! A stream of pushes: options and types bound to a state of the core. Both entry points use it.

use std::iter;

use polars::prelude::*;

use crate::core::aggregate::Aggregator;
use crate::core::bar::Bar;
use crate::core::builder::RangeBarBuilder;
use crate::core::checkpoint::{Reader, VERSION, VERSION_WITH_FEATURES, unusable};
use crate::core::columns::Context;
use crate::core::rule::threshold::Threshold;
use crate::core::ticks::Inputs;
use crate::frames::checks::fills::Fills;
use crate::frames::checks::symbols::{Symbols, beside};
use crate::frames::checks::times::time_unit;
use crate::frames::error::FrameError;
use crate::frames::input::{Columns, align, check_type};
use crate::frames::keys::Keyer;
use crate::frames::options::{Options, Role};
use crate::frames::output::{BarTable, dtype, entries, plan};
use crate::frames::pieces::{push_ids, push_pieces, raise_fault};

/// Rows of a piece from which on symbols are checked by another thread.
const CHECKED_BESIDE: usize = 131_072;

/// Takes bars that ended and leaves the vector empty.
type Sink<'a> = &'a mut dyn FnMut(&mut Vec<Bar>, Context);

/// State that computes bars from records.
pub(super) enum Engine {
    Builder(Box<RangeBarBuilder>),
    Aggregator(Box<Aggregator>),
}

/// Options bound to column types, with a state.
pub struct Session {
    pub(super) options: Options,
    thresholds: Vec<Threshold>,
    /// Types of the columns, in the order of the roles.
    pub(super) dtypes: Vec<DataType>,
    time: DataType,
    inputs: Inputs,
    /// Empty columns of the keys, for their types.
    empty_keys: Vec<Series>,
    keyer: Keyer,
    symbols: Symbols,
    /// Whether symbols are checked before a piece is processed, as an error has to name the first row.
    checks_symbols_first: bool,
    fills: Fills,
    pub(super) engine: Engine,
    id_dtype: DataType,
    /// Tables without and with the state columns.
    empty: [BarTable; 2],
}

impl Session {
    /// Binds options to column types, given in the order of the roles.
    ///
    /// # Errors
    /// When a type is not supported or the options contradict each other.
    pub fn bind(options: Options, fields: &[(PlSmallStr, DataType)]) -> Result<Self, FrameError> {
        options.check()?;
        if fields.len() != options.roles.len() {
            let message = format!("{} columns were expected, got {}", options.roles.len(), fields.len());
            return Err(FrameError::Options(message));
        }
        for ((role, name), (_, dtype)) in options.roles.iter().zip(&options.names).zip(fields) {
            check_type(*role, name, dtype)?;
        }
        let dtype_of = |role| options.position(role).map_or(DataType::Null, |at| fields[at].1.clone());
        let time = dtype_of(Role::Timestamp);
        let unit = time_unit(&options.name(Role::Timestamp), &time)?;
        let settings = options.settings(unit)?;
        let names = options.column_names();
        let empty = |((role, name), (_, dtype)): ((&Role, &String), &(PlSmallStr, DataType))| {
            (*role == Role::Key).then(|| Series::new_empty(name.as_str().into(), dtype))
        };
        let empty_keys: Vec<Series> = options.roles.iter().zip(&options.names).zip(fields).filter_map(empty).collect();
        let thresholds = settings.thresholds.clone();
        let (inputs, keyer, id_dtype) = (options.inputs(), Keyer::new(&empty_keys), dtype_of(Role::BarId));
        let plan = plan(&options, inputs, unit);
        let engine = if options.is_aggregate() {
            let mut aggregator = Aggregator::new(unit, names, options.absolute_rows);
            plan.into_iter().for_each(|plan| aggregator.compute(plan));
            Engine::Aggregator(Box::new(aggregator))
        } else {
            let mut builder = RangeBarBuilder::new(settings, names, options.absolute_rows);
            builder.watch_fills(options.watch_fills);
            plan.into_iter().for_each(|plan| builder.compute(plan));
            Engine::Builder(Box::new(builder))
        };
        let session = Self {
            thresholds,
            dtypes: fields.iter().map(|(_, dtype)| dtype.clone()).collect(),
            time,
            inputs,
            empty_keys,
            keyer,
            symbols: Symbols::new(&options),
            checks_symbols_first: false,
            fills: Fills::new(options.watch_fills),
            engine,
            id_dtype,
            empty: [false, true].map(|with_state| BarTable::new(&options, inputs, with_state)),
            options,
        };
        if session.schema()?.is_empty() {
            // The number of bars would be lost.
            return Err(FrameError::Options("at least one column of the bars must be selected".to_owned()));
        }
        Ok(session)
    }

    /// Name and type of the output columns.
    ///
    /// # Errors
    /// Never in practice.
    pub fn schema(&self) -> Result<Vec<(PlSmallStr, DataType)>, FrameError> {
        let selected_keys = self.empty_keys.iter().filter(|key| self.options.selects(key.name()));
        let mut fields: Vec<_> = selected_keys.map(|key| (key.name().clone(), key.dtype().clone())).collect();
        for entry in entries(&self.options, self.options.keep) {
            let is_caller_id = entry.name == "bar_id" && self.options.is_aggregate();
            let dtype = if is_caller_id { self.id_dtype.clone() } else { dtype(entry, &self.time)? };
            fields.push((entry.name.into(), dtype));
        }
        Ok(fields)
    }

    pub(super) fn table(&self, with_state: bool) -> BarTable {
        self.empty[usize::from(with_state)].clone()
    }

    pub(super) fn context(&self) -> Context<'_> {
        let unit = match &self.engine {
            Engine::Builder(builder) => builder.settings().unit,
            Engine::Aggregator(aggregator) => aggregator.fault_context().unit,
        };
        Context { unit, thresholds: &self.thresholds }
    }

    /// Processes the columns of a push, in one or more pieces, and returns the bars that ended.
    ///
    /// After an error the pieces are requested once more, to find the row at fault. If no bar ended,
    /// which is the most frequent outcome of a short push, no columns are created.
    ///
    /// # Errors
    /// At the first invalid record, or on an error of the iterator. The state is then unchanged.
    pub fn push<E: From<FrameError>, I: Iterator<Item = Result<Vec<Series>, E>>>(
        &mut self,
        pieces: impl Fn() -> I,
    ) -> Result<Option<Vec<Series>>, E> {
        let mut table = self.table(self.options.keep);
        self.take(pieces, &mut |bars, context| table.take(bars, context))?;
        Ok(self.finish_if_any(table)?)
    }

    /// Processes a push as a whole stream: with the unfinished bars at its end, if they are kept.
    ///
    /// # Errors
    /// As for [`Session::push`].
    pub fn run(&mut self, inputs: &[Series]) -> Result<Vec<Series>, FrameError> {
        let mut table = self.table(self.options.keep);
        self.take_one(inputs, &mut |bars, context| table.take(bars, context))?;
        table.take(&mut self.ending(), self.context());
        self.finish_table(table)
    }

    /// The bars that the end of a stream adds.
    fn ending(&self) -> Vec<Bar> {
        match &self.engine {
            Engine::Builder(builder) if self.options.keep => builder.partial(),
            Engine::Builder(_) => Vec::new(),
            Engine::Aggregator(aggregator) => aggregator.last_run().into_iter().collect(),
        }
    }

    /// The bars that the end of the stream adds, if any, in the schema of a push.
    ///
    /// # Errors
    /// Never in practice.
    pub fn finish(&self) -> Result<Option<Vec<Series>>, FrameError> {
        let mut table = self.table(self.options.keep);
        table.take(&mut self.ending(), self.context());
        self.finish_if_any(table)
    }

    /// The forming bars, always with their state columns.
    ///
    /// # Errors
    /// Never in practice.
    pub fn partial(&self) -> Result<Vec<Series>, FrameError> {
        let mut table = self.table(true);
        let mut bars = match &self.engine {
            Engine::Builder(builder) => builder.partial(),
            Engine::Aggregator(_) => self.ending(),
        };
        table.take(&mut bars, self.context());
        self.finish_table(table)
    }

    fn finish_if_any(&self, table: BarTable) -> Result<Option<Vec<Series>>, FrameError> {
        if table.is_empty() { Ok(None) } else { self.finish_table(table).map(Some) }
    }

    pub(super) fn finish_table(&self, mut table: BarTable) -> Result<Vec<Series>, FrameError> {
        let codes = std::mem::take(&mut table.codes);
        let mut columns = self.keyer.values(&codes)?;
        columns.retain(|key| self.options.selects(key.name()));
        let mut values = table.finish(&self.time)?;
        if let Engine::Aggregator(aggregator) = &self.engine {
            for series in values.iter_mut().filter(|series| series.name() == "bar_id") {
                *series = self.caller_ids(series, aggregator)?;
            }
        }
        columns.append(&mut values);
        Ok(columns)
    }

    /// Maps positions of runs back to the ids of the caller.
    fn caller_ids(&self, positions: &Series, aggregator: &Aggregator) -> PolarsResult<Series> {
        let run_ids = aggregator.run_ids();
        let id = |position: u32| run_ids.get(position as usize).copied();
        let ids = positions.u32()?.iter().map(|position| position.and_then(id));
        let name = positions.name().clone();
        if self.id_dtype == DataType::UInt64 {
            return Ok(UInt64Chunked::from_iter_options(name, ids.map(|id| id.map(|id| id as u64))).into_series());
        }
        Int64Chunked::from_iter_options(name, ids.map(|id| id.map(|id| id as i64))).into_series().cast(&self.id_dtype)
    }

    fn take_one(&mut self, inputs: &[Series], sink: Sink) -> Result<(), FrameError> {
        self.take(|| iter::once(Ok(inputs.to_vec())), sink)
    }

    /// Processes all pieces of a push, or none.
    fn take<E: From<FrameError>, I: Iterator<Item = Result<Vec<Series>, E>>>(
        &mut self,
        pieces: impl Fn() -> I,
        sink: Sink,
    ) -> Result<(), E> {
        let keys_before = self.keyer.count();
        let symbols_before = self.symbols.clone();
        let fills_before = self.fills.mark();
        match &mut self.engine {
            Engine::Builder(builder) => builder.begin(),
            Engine::Aggregator(aggregator) => aggregator.begin(),
        }
        let mut result = self.extend_all(pieces(), sink);
        for restart in [Self::begin_again, Self::retrace] {
            if result.is_err() && restart(self) {
                self.symbols = symbols_before.clone();
                result = self.extend_all(pieces(), &mut |bars, _| bars.clear());
            }
        }
        // An aggregation ends at its first error and cannot be rolled back.
        if let Engine::Builder(builder) = &mut self.engine {
            if result.is_err() {
                builder.roll_back();
                self.keyer.truncate(keys_before);
                self.symbols = symbols_before;
                self.fills.forget(builder.rows(), fills_before);
                builder.watch_fills(self.fills.is_on());
            } else {
                builder.commit();
            }
        }
        self.checks_symbols_first = false;
        result
    }

    /// Restarts the push if it has two faults, to find out which of them comes first.
    fn begin_again(&mut self) -> bool {
        let Engine::Builder(builder) = &mut self.engine else { return false };
        if self.checks_symbols_first {
            builder.roll_back();
            builder.begin();
        }
        self.checks_symbols_first
    }

    fn retrace(&mut self) -> bool {
        match &mut self.engine {
            Engine::Builder(builder) => builder.retrace(),
            Engine::Aggregator(_) => false,
        }
    }

    fn extend_all<E: From<FrameError>>(
        &mut self,
        pieces: impl Iterator<Item = Result<Vec<Series>, E>>,
        sink: Sink,
    ) -> Result<(), E> {
        for piece in pieces {
            let inputs = piece?;
            self.check_dtypes(&inputs)?;
            let inputs = align(&inputs).map_err(FrameError::from)?;
            match &mut self.engine {
                Engine::Builder(_) => self.extend_builder(&inputs, sink)?,
                Engine::Aggregator(_) => self.extend_aggregator(&inputs, sink)?,
            }
        }
        Ok(())
    }

    fn check_dtypes(&self, inputs: &[Series]) -> Result<(), FrameError> {
        if inputs.len() != self.dtypes.len() {
            let message = format!("{} columns were expected, got {}", self.dtypes.len(), inputs.len());
            return Err(FrameError::Options(message));
        }
        for ((series, dtype), name) in inputs.iter().zip(&self.dtypes).zip(&self.options.names) {
            if series.dtype() != dtype {
                let message = format!("column `{name}` is of type {}, but it was {dtype} before", series.dtype());
                return Err(FrameError::Type(message));
            }
        }
        Ok(())
    }

    /// The bar id of every record of a single push, one column per threshold.
    ///
    /// # Errors
    /// As for [`Session::push`].
    pub fn label(&mut self, inputs: &[Series]) -> Result<Vec<Vec<u32>>, FrameError> {
        use crate::core::label::Labels;
        let inputs = align(inputs)?;
        let rows = inputs.first().map_or(0, |series| series.len());
        let keeps = std::mem::replace(&mut self.options.keep, true);
        if let Engine::Builder(builder) = &mut self.engine {
            builder.keep_unfinished();
        }
        let mut labels = Labels::new(rows, self.thresholds.len(), keeps, self.options.is_keyed());
        if self.options.is_keyed() {
            labels.add_codes(&self.keyer.codes(&Keyer::select(&self.options, &inputs))?);
        }
        self.take_one(&inputs, &mut |bars, _| bars.drain(..).for_each(|bar| labels.add(&bar)))?;
        self.ending().iter().for_each(|bar| labels.add(bar));
        Ok(labels.finish())
    }

    fn extend_builder(&mut self, inputs: &[Series], sink: Sink) -> Result<(), FrameError> {
        let mut columns = Columns::of(&self.options, inputs)?;
        let rows = inputs.first().map_or(0, |series| series.len());
        let is_beside = rows >= CHECKED_BESIDE && !self.symbols.is_empty() && !self.checks_symbols_first;
        if !is_beside && let Some(fault) = self.symbols.check(inputs) {
            columns.add_fault(fault);
        }
        let keys = Keyer::select(&self.options, inputs);
        let Engine::Builder(builder) = &mut self.engine else {
            return Err(FrameError::Options("bars need a threshold".to_owned()));
        };
        let context = Context { unit: builder.settings().unit, thresholds: &self.thresholds };
        let first_row = builder.rows();
        let keyer = &mut self.keyer;
        let mut push = || push_pieces(builder, &mut columns, keyer, &keys, &mut |bars| sink(bars, context));
        if is_beside {
            let check = || {
                let mut symbols = self.symbols.clone();
                let fault = symbols.check(inputs);
                (symbols, fault)
            };
            let (pushed, (symbols, fault)) = beside(push, check);
            self.symbols = symbols;
            self.checks_symbols_first = pushed.is_err() && fault.is_some();
            pushed?;
            if let Some(fault) = fault {
                return Err((fault.describe)(builder.fault_context().row(first_row + fault.row as u64)).into());
            }
        } else {
            push()?;
        }
        self.fills.compare(builder, &self.options, inputs, (&keys, &mut self.keyer))
    }

    /// Number of look-back windows that reached the limit of records, since the last call.
    pub fn take_cut_windows(&mut self) -> u64 {
        match &mut self.engine {
            Engine::Builder(builder) => builder.take_cut_windows(),
            Engine::Aggregator(aggregator) => aggregator.take_cut_windows(),
        }
    }

    /// Version of the checkpoints of this session.
    pub fn version(&self) -> u32 {
        match &self.engine {
            Engine::Builder(builder) if builder.features().is_some() => VERSION_WITH_FEATURES,
            _ => VERSION,
        }
    }

    /// The message about fills that are counted twice, once.
    pub fn take_double_fill(&mut self) -> Option<String> {
        self.fills.take()
    }

    fn extend_aggregator(&mut self, inputs: &[Series], sink: Sink) -> Result<(), FrameError> {
        let mut columns = Columns::of(&self.options, inputs)?;
        let context = Context { unit: self.context().unit, thresholds: &self.thresholds };
        let Engine::Aggregator(aggregator) = &mut self.engine else {
            return Err(FrameError::Options("aggregate needs bar ids".to_owned()));
        };
        let Some(ids) = self.options.position(Role::BarId).map(|at| &inputs[at]) else {
            return Err(FrameError::Options("aggregate needs bar ids".to_owned()));
        };
        let first_row = aggregator.rows();
        let mut bars = Vec::new();
        for (row, ticks) in columns.pieces() {
            push_ids(aggregator, ids, row, &ticks, &mut bars, &mut |bars| sink(bars, context))?;
        }
        raise_fault(&mut columns, |row| aggregator.fault_context().row(first_row + row as u64))
    }

    /// State and keys as bytes, with the version of such a state; `is_plain` leaves the features out.
    ///
    /// # Errors
    /// In aggregate mode, which has no checkpoints.
    pub fn save(&self, is_plain: bool) -> Result<(u32, Vec<u8>), FrameError> {
        let Engine::Builder(builder) = &self.engine else {
            return Err(FrameError::Options("an aggregation has no checkpoint".to_owned()));
        };
        let state = if is_plain { builder.save_sums() } else { builder.save() };
        let mut out = (state.len() as u64).to_le_bytes().to_vec();
        out.extend_from_slice(&state);
        out.extend_from_slice(&self.keyer.save());
        Ok((if is_plain { VERSION } else { self.version() }, out))
    }

    /// Restores a saved state. Returns the number of rows pushed before it was saved. After an error
    /// the session must not be used.
    ///
    /// # Errors
    /// When the bytes are not a state of these options and types.
    pub fn load(&mut self, bytes: &[u8]) -> Result<u64, FrameError> {
        let mut reader = Reader(bytes);
        let state = reader.part()?;
        let Engine::Builder(builder) = &mut self.engine else {
            return Err(FrameError::Options("an aggregation has no checkpoint".to_owned()));
        };
        builder.load(state, self.inputs)?;
        let (rows, keys) = (builder.rows(), builder.key_count());
        let mut keyer = Keyer::new(&self.empty_keys);
        keyer.load(reader.0, &self.empty_keys)?;
        let has_fitting_keys = if self.options.is_keyed() { keyer.count() == keys } else { keys <= 1 };
        self.keyer = keyer;
        // Several byte sequences can be read as the same state, but only one of them is ever written.
        if !has_fitting_keys || self.save(false)?.1 != bytes {
            return Err(unusable("its keys do not fit its states").into());
        }
        Ok(rows)
    }
}
