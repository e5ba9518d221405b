//! Options from the Python layer, which are validated there and here.

use serde::Deserialize;

use crate::core::columns::Group;
use crate::core::diagnose::Names;
use crate::core::rule::table::RuleName;
use crate::core::rule::threshold::Threshold;
use crate::core::state::Settings;
use crate::core::ticks::Inputs;
use crate::core::time::{Reset, TimeUnit};
use crate::core::window::{LONGEST_WINDOW, MOST_BARS, Window};
use crate::features::catalogue;
use crate::frames::error::FrameError;

/// Records of a window where nothing else is requested.
const DEFAULT_LOOKBACK: u64 = 200;
const NANOSECONDS_PER_DAY: u64 = 86_400_000_000_000;

/// Role of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Price,
    Timestamp,
    Quantity,
    IsBuyerMaker,
    Side,
    AggTradeId,
    FirstTradeId,
    LastTradeId,
    BarId,
    Key,
    /// Tells symbols apart where there is no key; only checked.
    Symbol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetName {
    Year,
    Month,
    WeekSunday,
    WeekMonday,
    Day,
}

impl From<ResetName> for Reset {
    fn from(name: ResetName) -> Self {
        match name {
            ResetName::Year => Self::Year,
            ResetName::Month => Self::Month,
            ResetName::WeekSunday => Self::WeekSunday,
            ResetName::WeekMonday => Self::WeekMonday,
            ResetName::Day => Self::Day,
        }
    }
}

/// Options of all entry points.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Options {
    pub roles: Vec<Role>,
    pub names: Vec<String>,
    /// Fields to find by name among the inputs that follow those of `roles`.
    #[serde(default)]
    pub by_name: Vec<Role>,
    #[serde(default)]
    pub thresholds: Vec<u32>,
    /// Absolute distances in grid units, instead of thresholds.
    #[serde(default)]
    pub distances: Vec<i64>,
    /// Name of the rule; by default the first one.
    #[serde(default)]
    pub rule: Option<String>,
    /// Whether the caller passed a list of thresholds.
    #[serde(default)]
    pub long: bool,
    /// Columns beyond the core.
    #[serde(default)]
    pub features: Vec<String>,
    /// Look-back window of so many records, bars or nanoseconds; at most one of them.
    #[serde(default)]
    pub lookback_records: Option<u64>,
    #[serde(default)]
    pub lookback_bars: Option<u64>,
    #[serde(default)]
    pub lookback_ns: Option<u64>,
    #[serde(default)]
    pub reset: Option<ResetName>,
    #[serde(default)]
    pub max_gap_ns: Option<u64>,
    #[serde(default)]
    pub keep: bool,
    #[serde(default = "yes")]
    pub gate: bool,
    /// Output columns to return; by default all.
    #[serde(default)]
    pub project: Option<Vec<String>>,
    /// Whether messages count rows over all pushes.
    #[serde(default)]
    pub absolute_rows: bool,
    /// Whether a column of sides holds the maker's.
    #[serde(default)]
    pub side_is_maker: bool,
    /// Worth of a contract in quote units on the grid, if quantities count contracts.
    #[serde(default)]
    pub contract_size: Option<i64>,
    /// Whether to look for fills that are counted twice.
    #[serde(default)]
    pub watch_fills: bool,
    /// Columns that could tell symbols apart, for messages.
    #[serde(default)]
    pub apart: Vec<String>,
    /// Whether the inputs are those of an expression, for messages.
    #[serde(default)]
    pub is_expression: bool,
}

fn yes() -> bool {
    true
}

impl Options {
    /// Position of the column with a role.
    pub fn position(&self, role: Role) -> Option<usize> {
        self.roles.iter().position(|other| *other == role)
    }

    /// Name of the column with a role, for messages.
    pub fn name(&self, role: Role) -> String {
        self.position(role).and_then(|at| self.names.get(at)).cloned().unwrap_or_default()
    }

    /// Optional inputs among the roles.
    pub fn inputs(&self) -> Inputs {
        self.roles.iter().fold(Inputs::NONE, |all, role| {
            all.with(match role {
                Role::Quantity => Inputs::QUANTITY,
                Role::IsBuyerMaker | Role::Side => Inputs::SIDE.with(Inputs::UNSIDED),
                Role::AggTradeId => Inputs::AGG_ID,
                Role::FirstTradeId => Inputs::FIRST_ID,
                Role::LastTradeId => Inputs::LAST_ID,
                Role::Price | Role::Timestamp | Role::BarId | Role::Key | Role::Symbol => Inputs::NONE,
            })
        })
    }

    fn rule(&self) -> Result<RuleName, FrameError> {
        match &self.rule {
            None => Ok(RuleName::default()),
            Some(name) => name.parse().map_err(FrameError::Options),
        }
    }

    /// Whether the thresholds are absolute distances.
    pub fn has_distances(&self) -> bool {
        !self.distances.is_empty()
    }

    pub fn is_aggregate(&self) -> bool {
        self.position(Role::BarId).is_some()
    }

    pub fn is_keyed(&self) -> bool {
        self.position(Role::Key).is_some()
    }

    pub fn column_names(&self) -> Names {
        let symbols = self.roles.iter().zip(&self.names).filter(|(role, _)| **role == Role::Symbol);
        let symbols = symbols.map(|(_, name)| name).chain(&self.apart);
        Names {
            time: self.name(Role::Timestamp),
            price: self.name(Role::Price),
            quantity: self.name(Role::Quantity),
            agg_id: self.name(Role::AggTradeId),
            first_id: self.name(Role::FirstTradeId),
            last_id: self.name(Role::LastTradeId),
            bar_id: self.name(Role::BarId),
            apart: symbols.cloned().collect(),
            is_keyed: self.is_keyed(),
            is_expression: self.is_expression,
        }
    }

    /// The core's settings for a time unit.
    ///
    /// # Errors
    /// When a threshold is out of range, or there is no such rule.
    pub fn settings(&self, unit: TimeUnit) -> Result<Settings, FrameError> {
        let percentages = self.thresholds.iter().map(|dbps| Threshold::try_from(*dbps));
        let distances = self.distances.iter().map(|grid| Threshold::of_grid(*grid));
        let thresholds = percentages.chain(distances).collect::<Result<_, _>>()?;
        Ok(Settings {
            rule: self.rule()?,
            thresholds,
            unit,
            reset: self.reset.map(Reset::from),
            max_gap: self.max_gap_ns.map(|gap| gap / unit.nanoseconds().unsigned_abs()),
            is_gated: self.gate,
            keeps_unfinished: self.keep,
        })
    }

    /// The look-back window; 200 records by default.
    pub fn window(&self, unit: TimeUnit) -> Window {
        match (self.lookback_records, self.lookback_bars, self.lookback_ns) {
            (_, Some(bars), _) => Window::Bars(bars),
            (_, _, Some(nanoseconds)) => Window::of_nanoseconds(nanoseconds, unit),
            (records, None, None) => Window::Records(records.unwrap_or(DEFAULT_LOOKBACK)),
        }
    }

    fn check_window(&self) -> Result<(), FrameError> {
        let is_between = |value: Option<u64>, most| value.is_none_or(|value| (1..=most).contains(&value));
        let count = [self.lookback_records, self.lookback_bars, self.lookback_ns].iter().flatten().count();
        let is_valid = is_between(self.lookback_records, LONGEST_WINDOW)
            && is_between(self.lookback_bars, MOST_BARS)
            && is_between(self.lookback_ns, NANOSECONDS_PER_DAY);
        if count <= 1 && is_valid {
            return Ok(());
        }
        let message = "a window has 1 to 10000 records, or is as long as 1 to 100 bars or up to 24 hours";
        Err(FrameError::Options(message.to_owned()))
    }

    /// Whether a catalogue column is part of the output.
    pub fn includes(&self, name: &str, group: Group, with_state: bool) -> bool {
        let is_available = match name {
            "threshold" => self.long,
            "is_closed" | "ended_by" => with_state && !self.is_aggregate(),
            _ => group == Group::Core || self.features.iter().any(|feature| feature == name),
        };
        is_available && self.selects(name)
    }

    /// Whether the caller selected an output column.
    pub fn selects(&self, name: &str) -> bool {
        self.project.as_ref().is_none_or(|names| names.iter().any(|selected| selected == name))
    }

    /// Checks that the options are complete and do not contradict each other.
    ///
    /// # Errors
    /// When they are not. The message names the contradiction.
    pub fn check(&self) -> Result<(), FrameError> {
        let invalid = |message: &str| Err(FrameError::Options(message.to_owned()));
        if self.roles.len() != self.names.len() {
            return invalid("every column needs a role and a name");
        }
        if self.position(Role::Price).is_none() || self.position(Role::Timestamp).is_none() {
            return invalid("price and timestamp are required");
        }
        let count = self.thresholds.len() + self.distances.len();
        if (count == 0) != self.is_aggregate() {
            return invalid("bars need either a threshold or bar ids");
        }
        if !self.thresholds.is_empty() && !self.distances.is_empty() {
            return invalid("a list cannot mix percentages and distances");
        }
        if self.contract_size.is_some_and(|size| size <= 0) {
            return invalid("a contract must be worth more than nothing");
        }
        self.rule()?;
        self.check_window()?;
        if count > usize::from(u16::MAX) {
            return invalid("there can be at most 65535 thresholds");
        }
        match self.features.iter().find(|name| !catalogue().any(|column| column.name == name.as_str())) {
            Some(name) => Err(FrameError::Options(format!("there is no column `{name}`"))),
            None => Ok(()),
        }
    }
}
