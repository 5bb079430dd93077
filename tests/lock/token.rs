//! Fencing tokens as numbers.

use fencepost::lock::FencingToken;
use proptest::prelude::*;

fn parts() -> impl Strategy<Value = (u32, u64)> {
    let epoch = prop_oneof![
        0..4_u32,
        FencingToken::MAX_EPOCH - 4..=FencingToken::MAX_EPOCH,
        0..=FencingToken::MAX_EPOCH
    ];
    let counter = prop_oneof![
        0..4_u64,
        FencingToken::MAX_COUNTER - 4..=FencingToken::MAX_COUNTER,
        0..=FencingToken::MAX_COUNTER
    ];
    (epoch, counter)
}

fn token((epoch, counter): (u32, u64)) -> FencingToken {
    FencingToken::new(epoch, counter).expect("in range")
}

proptest! {
    #[test]
    fn a_token_is_its_epoch_and_counter(parts in parts()) {
        let token = token(parts);
        prop_assert_eq!((token.epoch(), token.counter()), parts);
        prop_assert!(token.as_i64() >= 0);
        prop_assert_eq!(FencingToken::from_i64(token.as_i64()), Some(token));
    }

    #[test]
    fn tokens_are_ordered_by_epoch_then_counter_and_in_the_database_too(one in parts(), other in parts()) {
        prop_assert_eq!(token(one).cmp(&token(other)), one.cmp(&other));
        prop_assert_eq!(token(one).as_i64().cmp(&token(other).as_i64()), one.cmp(&other));
    }

    #[test]
    fn the_next_token_is_larger_and_of_the_same_epoch(parts in parts()) {
        match token(parts).next() {
            Some(next) => prop_assert_eq!((next.epoch(), next.counter()), (parts.0, parts.1 + 1)),
            None => prop_assert_eq!(parts.1, FencingToken::MAX_COUNTER),
        }
    }

    #[test]
    fn every_number_that_is_not_negative_is_a_token(number in any::<i64>()) {
        prop_assert_eq!(FencingToken::from_i64(number).map(FencingToken::as_i64), (number >= 0).then_some(number));
    }
}

#[test]
fn what_does_not_fit_is_no_token() {
    assert_eq!(FencingToken::new(FencingToken::MAX_EPOCH + 1, 0), None);
    assert_eq!(FencingToken::new(0, FencingToken::MAX_COUNTER + 1), None);
    assert_eq!(token((FencingToken::MAX_EPOCH, FencingToken::MAX_COUNTER)).as_i64(), i64::MAX);
    assert_eq!(token((3, 41)).to_string(), "3.41");
}
