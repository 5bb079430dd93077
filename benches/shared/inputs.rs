//! Which earlier jobs a job depends on, in benchmarks that make graphs of their own.

/// Three different numbers below `number`, or as many as there are, in random order: Xorshift (G.
/// Marsaglia, 2003), seeded with the number.
pub fn before(number: usize) -> Vec<usize> {
    let mut random = number as u64 + 1;
    let mut before = Vec::new();
    while before.len() < 3.min(number) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let drawn = (random % number as u64) as usize;
        if !before.contains(&drawn) {
            before.push(drawn);
        }
    }
    before
}
