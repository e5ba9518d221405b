//! Tests of what a push costs, which only the module itself can see.

use super::*;
use crate::core::rule::table::RuleName;
use crate::core::rule::threshold::Threshold;
use crate::core::ticks::Values;
use crate::core::time::TimeUnit;

const KEYS: u32 = 50_000;

fn builder() -> RangeBarBuilder {
    let settings = Settings {
        rule: RuleName::default(),
        thresholds: vec![Threshold::try_from(250).unwrap()],
        unit: TimeUnit::Microseconds,
        reset: None,
        max_gap: None,
        is_gated: true,
        keeps_unfinished: false,
    };
    RangeBarBuilder::new(settings, Names::default(), false)
}

fn push(builder: &mut RangeBarBuilder, time: i64, codes: &[u32]) -> Result<(), DataError> {
    let (time, price) = (vec![time; codes.len()], vec![100_0000_0000; codes.len()]);
    let ticks = Ticks {
        time: &time,
        price: Values::Grid(&price),
        quantity: None,
        is_buyer_maker: None, unsided: None,
        agg_id: None,
        first_id: None,
        last_id: None,
    };
    builder.push(&ticks, Some(codes), &mut Vec::new(), &mut |bars| bars.clear())
}

#[test]
fn a_push_copies_the_states_of_its_own_keys_only() {
    let mut builder = builder();
    let all: Vec<u32> = (0..KEYS).collect();
    builder.begin();
    push(&mut builder, 1, &all).unwrap();
    assert!(builder.states.copied() == 0, "new keys are cut off");
    builder.commit();
    let some: Vec<u32> = (0..100).map(|at| at * 400).collect();
    builder.begin();
    push(&mut builder, 2, &[some.clone(), some.clone()].concat()).unwrap();
    assert_eq!(builder.states.copied(), some.len());
    builder.commit();
    assert!(builder.states.copied() == 0);
    builder.begin();
    push(&mut builder, 3, &some[..7]).unwrap();
    assert_eq!(builder.states.copied(), 7);
    let before = builder.states().to_vec();
    builder.commit();
    builder.begin();
    push(&mut builder, 4, &[some[3], KEYS, some[5]]).unwrap();
    assert!(push(&mut builder, 2, &[some[9], some[3]]).is_err());
    builder.roll_back();
    assert_eq!(builder.states(), before);
}
