//! The history checker, and what checks it: histories written by hand, a simulated service with
//! mistakes built in, and another judge.

mod agreement;
mod anomalies;
mod bad_files;
mod base;
mod command;
mod existence;
mod lists;
mod mutants;
mod refusals;
mod rejections;
mod replays;
mod script;
mod simulator;
mod told_twice;
mod truth;
