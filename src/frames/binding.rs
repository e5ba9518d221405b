//! Finds which input of an expression is which field of a trade.
//!
//! A caller names some inputs and leaves the others to their names: those follow the named inputs,
//! since an expression learns only when it runs which columns its frame has.

use polars::prelude::*;

use crate::frames::error::FrameError;
use crate::frames::names::{Candidates, Field, Kind};
use crate::frames::options::{Options, Role};

/// Options with a role for each input that is used, and the positions of those inputs.
pub struct Resolved {
    pub options: Options,
    pub positions: Vec<usize>,
}

impl Resolved {
    /// The inputs that are used, in the order of the roles.
    pub fn pick(&self, inputs: &[Series]) -> Vec<Series> {
        self.positions.iter().map(|at| inputs[*at].clone()).collect()
    }
}

/// Gives roles to the inputs that follow those of the caller.
///
/// # Errors
/// When a field has two candidates, or there is no time.
pub fn resolve(mut options: Options, inputs: &[(PlSmallStr, DataType)]) -> Result<Resolved, FrameError> {
    options.is_expression = true;
    let named = options.roles.len().min(inputs.len());
    let mut positions: Vec<usize> = (0..named).collect();
    let fields = std::mem::take(&mut options.by_name);
    if fields.is_empty() {
        positions = (0..inputs.len()).collect();
        return Ok(Resolved { options, positions });
    }
    // A named input may be among the others once more.
    let is_free = |name: &PlSmallStr| inputs[..named].iter().all(|(other, _)| other != name);
    let columns = inputs.iter().map(|(name, dtype)| (name.as_str(), Kind::from(dtype), is_free(name)));
    let candidates = Candidates::new(columns.collect());
    for role in fields {
        for at in candidates_of(&candidates, role, &options, inputs)? {
            let is_key = |(other, name): (&Role, &String)| *other == Role::Key && *name == inputs[at].0.as_str();
            if options.roles.iter().zip(&options.names).any(is_key) {
                return Err(bound_key(role, &inputs[at].0));
            }
            options.roles.push(role);
            options.names.push(inputs[at].0.to_string());
            positions.push(at);
        }
    }
    Ok(Resolved { options, positions })
}

fn candidates_of(
    candidates: &Candidates,
    role: Role,
    options: &Options,
    inputs: &[(PlSmallStr, DataType)],
) -> Result<Vec<usize>, FrameError> {
    // Both say who the aggressor was.
    let is_said = role == Role::Side && options.position(Role::IsBuyerMaker).is_some();
    if is_said || (role == Role::Symbol && options.is_keyed()) {
        return Ok(Vec::new());
    }
    let Some(field) = Field::of(role) else { return Ok(candidates.symbols()) };
    match candidates.of(field).as_slice() {
        [] if role == Role::Timestamp => Err(FrameError::Polars(polars_err!(
            ColumnNotFound: "no column is known as the time of the trades\n\nhint: name it: timestamp=\"...\""
        ))),
        [first, second, ..] => {
            let (first, second) = (&inputs[*first].0, &inputs[*second].0);
            let name = field.name;
            Err(FrameError::Options(format!(
                "there is no column `{name}`, and `{first}` and `{second}` could each be it\n\nhint: say which: \
                 {name}=\"{first}\""
            )))
        }
        found => Ok(found.to_vec()),
    }
}

/// The error for a key that is also a field of the trades.
fn bound_key(role: Role, name: &str) -> FrameError {
    let field = Field::of(role).map_or("symbol", |field| field.name);
    FrameError::Options(format!(
        "`group_by` names `{name}`, which is the `{field}` of the trades\n\nhint: if it is a key and no `{field}`, say \
         so: {field}=None"
    ))
}
