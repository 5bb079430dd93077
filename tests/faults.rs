//! Several nodes on one Postgres and one Redis, all real processes, and what befalls them. Every
//! test ends with the checker, which reads all that was asked and answered, the change log and the
//! rows; and with a look at whether the fault has hit at all.

mod ahead;
mod clocks;
mod cut_off;
mod designs;
mod field;
mod floods;
mod forwarding;
mod holders;
mod kept;
mod leader;
mod put_back;
mod servers;
mod silence;
mod unchecked;
