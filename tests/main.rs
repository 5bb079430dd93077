//! All tests from outside, in one binary.

mod http;
mod support;
