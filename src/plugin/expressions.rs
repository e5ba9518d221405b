//! Expressions, each a session of one push.

use polars::prelude::*;
use pyo3_polars::derive::polars_expr;

use crate::core::label::NO_BAR;
use crate::frames::binding::resolve;
use crate::frames::calls;
use crate::frames::options::Options;
use crate::frames::session::Session;

/// A session for these inputs, and the inputs that it takes.
fn bind(inputs: &[Series], options: Options) -> PolarsResult<(Session, Vec<Series>)> {
    calls::note();
    let fields: Vec<_> = inputs.iter().map(|series| (series.name().clone(), series.dtype().clone())).collect();
    let resolved = resolve(options, &fields)?;
    let taken = resolved.pick(inputs);
    let fields: Vec<_> = taken.iter().map(|series| (series.name().clone(), series.dtype().clone())).collect();
    Ok((Session::bind(resolved.options, &fields)?, taken))
}

/// A session for inputs of these names and types.
fn bind_fields(fields: &[Field], options: Options) -> PolarsResult<Session> {
    let fields: Vec<_> = fields.iter().map(|field| (field.name().clone(), field.dtype().clone())).collect();
    let resolved = resolve(options, &fields)?;
    let taken: Vec<_> = resolved.positions.iter().map(|at| fields[*at].clone()).collect();
    Ok(Session::bind(resolved.options, &taken)?)
}

fn bars_field(fields: &[Field], kwargs: Options) -> PolarsResult<Field> {
    let schema = bind_fields(fields, kwargs)?.schema()?;
    let columns = schema.into_iter().map(|(name, dtype)| Field::new(name, dtype)).collect();
    Ok(Field::new("bars".into(), DataType::Struct(columns)))
}

fn run(inputs: &[Series], options: Options) -> PolarsResult<Series> {
    let (mut session, inputs) = bind(inputs, options)?;
    let columns = session.run(&inputs)?;
    let len = columns.first().map_or(0, |series| series.len());
    Ok(StructChunked::from_series("bars".into(), len, columns.iter())?.into_series())
}

#[polars_expr(output_type_func_with_kwargs=bars_field)]
fn bars(inputs: &[Series], kwargs: Options) -> PolarsResult<Series> {
    run(inputs, kwargs)
}

#[polars_expr(output_type_func_with_kwargs=bars_field)]
fn aggregate(inputs: &[Series], kwargs: Options) -> PolarsResult<Series> {
    run(inputs, kwargs)
}

/// A grid value as the shortest decimal number.
fn decimal(grid: i64) -> String {
    let (whole, rest) = (grid / 100_000_000, grid % 100_000_000);
    if rest == 0 { whole.to_string() } else { format!("{whole}.{rest:08}").trim_end_matches('0').to_owned() }
}

fn id_names(options: &Options) -> Vec<PlSmallStr> {
    let percentages = options.thresholds.iter().map(|dbps| format!("bar_id_{dbps}").into());
    let distances = options.distances.iter().map(|distance| format!("bar_id_{}", decimal(*distance)).into());
    percentages.chain(distances).collect()
}

fn bar_id_field(fields: &[Field], kwargs: Options) -> PolarsResult<Field> {
    let (names, is_long) = (id_names(&kwargs), kwargs.long);
    bind_fields(fields, kwargs)?;
    let dtype = if is_long {
        DataType::Struct(names.into_iter().map(|name| Field::new(name, DataType::UInt32)).collect())
    } else {
        DataType::UInt32
    };
    Ok(Field::new("bar_id".into(), dtype))
}

fn id_column(name: PlSmallStr, ids: Vec<u32>) -> Series {
    if ids.contains(&NO_BAR) {
        let ids = ids.into_iter().map(|id| (id != NO_BAR).then_some(id));
        UInt32Chunked::from_iter_options(name, ids).into_series()
    } else {
        Series::from_vec(name, ids)
    }
}

#[polars_expr(output_type_func_with_kwargs=bar_id_field)]
fn bar_id(inputs: &[Series], kwargs: Options) -> PolarsResult<Series> {
    let (names, is_long) = (id_names(&kwargs), kwargs.long);
    let (mut session, inputs) = bind(inputs, kwargs)?;
    let ids = session.label(&inputs)?;
    let columns: Vec<Series> = names.into_iter().zip(ids).map(|(name, ids)| id_column(name, ids)).collect();
    match columns.first() {
        Some(only) if !is_long => Ok(only.clone().with_name("bar_id".into())),
        first => {
            let len = first.map_or(0, |series| series.len());
            Ok(StructChunked::from_series("bar_id".into(), len, columns.iter())?.into_series())
        }
    }
}
