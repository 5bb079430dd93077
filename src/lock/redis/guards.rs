//! The guards of `lock.lua` that tests take out, one at a time, to show that they then fail. Only
//! builds for tests have this file.

/// A guard.
pub struct Guard {
    /// What tests call it, after `lock.redis.`.
    pub name: &'static str,
    /// Its text, which the script has once.
    text: &'static str,
    /// What stands there without it.
    otherwise: &'static str,
}

/// All of them.
pub const GUARDS: [Guard; 5] = [
    Guard {
        name: "memo",
        text: "    if others and redis.call('ZSCORE', ended, request) then return { 'ended' } end
    local grant = renewed(request, mode)
    if grant then return grant end
",
        otherwise: "",
    },
    Guard {
        name: "patience",
        text: "    redis.call('ZREMRANGEBYSCORE', crowd, '-inf', now)
    repeat
        local gone = redis.call('ZRANGEBYSCORE', patience, '-inf', now, 'LIMIT', 0, MOST_AT_ONCE)
        if #gone > 0 then
            redis.call('ZREM', patience, unpack(gone))
            redis.call('ZREM', queue, unpack(gone))
        end
    until #gone < MOST_AT_ONCE
",
        otherwise: "",
    },
    Guard {
        name: "ownership",
        text: "    local was, freed = 'none', false
    if writer == request then",
        otherwise: "    local was, freed = 'none', false
    if writer then",
    },
    Guard {
        name: "unsealed",
        text: "        unsealed = true",
        otherwise: "        unsealed = false",
    },
    Guard {
        name: "run",
        text: "local function incarnation()
",
        otherwise: "local function incarnation()
    do return 'any' end
",
    },
];

impl Guard {
    /// The script without it.
    ///
    /// # Panics
    /// If the script does not have it exactly once.
    pub fn taken_out_of(&self, script: &str) -> String {
        assert_eq!(script.matches(self.text).count(), 1, "the script has the guard {}", self.name);
        script.replace(self.text, self.otherwise)
    }
}
