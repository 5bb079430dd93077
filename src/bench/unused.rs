//! Options that are of some workloads only: with another, one that is given would be without
//! effect, and the figures not those of what was asked for.

use clap::ValueEnum;
use serde_json::Value;

use super::WorkloadName::{self, Churn, Conflict, Load, Mixed, Plans, Register, Reregister};
use super::{BenchError, DriveArgs};

/// Which workloads make use of an option, by its name.
const USED_BY: [(&str, &[WorkloadName]); 23] = [
    ("graphs", &[Register]),
    ("shape", &[Register, Mixed, Load]),
    ("order", &[Register, Mixed]),
    ("name_bytes", &[Register, Mixed, Load]),
    ("jobs", &[Load, Conflict]),
    ("datasets", &[Load]),
    ("edges", &[Load]),
    ("batch", &[Load]),
    ("first_job", &[Register, Mixed]),
    ("changed_percent", &[Reregister]),
    ("write_percent", &[Mixed, Conflict]),
    ("replay_percent", &[Conflict]),
    ("next_page_percent", &[Conflict]),
    ("delete_percent", &[Conflict]),
    ("revalidate_percent", &[Mixed]),
    ("plan_percent", &[Mixed]),
    ("reject_percent", &[Register]),
    ("spec_bytes", &[Register, Mixed]),
    ("skew", &[Reregister, Mixed]),
    ("plan_jobs", &[Plans]),
    ("sample", &[Register, Reregister, Churn, Plans, Mixed]),
    ("path", &[WorkloadName::Fetch]),
    ("churn_steps", &[Churn]),
];

/// # Errors
/// [`BenchError::Usage`] names an option that has another value than without it, and is of no use to
/// the workload.
pub fn refuse_unused(args: &DriveArgs) -> Result<(), BenchError> {
    let name = |workload: WorkloadName| {
        workload.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    };
    let usual = DriveArgs::of_words(["", "--workload", &name(args.workload)]);
    let usual = usual.map_err(|error| BenchError::Usage(error.to_string()))?;
    let members = |args: &DriveArgs| serde_json::to_value(args).unwrap_or_default();
    let (given, usual): (Value, Value) = (members(args), members(&usual));
    let unused = |(option, workloads): &&(&str, &[WorkloadName])| {
        given[option] != usual[option] && !workloads.contains(&args.workload)
    };
    let Some((option, workloads)) = USED_BY.iter().find(unused) else { return Ok(()) };
    let workloads: Vec<String> =
        workloads.iter().map(|workload| format!("`{}`", name(*workload))).collect();
    Err(BenchError::Usage(format!(
        "--{}: the workload `{}` makes no use of it; it is for {}",
        option.replace('_', "-"),
        name(args.workload),
        workloads.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn args_of(line: &str) -> DriveArgs {
        DriveArgs::of_words(line.split(' ')).unwrap()
    }

    #[test]
    fn an_option_is_refused_where_the_workload_makes_no_use_of_it() {
        let said = refuse_unused(&args_of("drive --workload conflict --skew 1")).unwrap_err();
        assert_eq!(
            said.to_string(),
            "--skew: the workload `conflict` makes no use of it; it is for `reregister`, `mixed`"
        );
        for line in ["--workload reregister --skew 1", "--workload conflict --skew 0"] {
            refuse_unused(&args_of(&format!("drive {line}"))).unwrap();
        }
    }

    /// So that no option is left out by the table, or named in it wrongly.
    #[test]
    fn every_option_is_of_some_workloads_or_known_to_be_of_all() {
        let of_all = [
            "url",
            "graph",
            "workload",
            "seed",
            "clients",
            "rate",
            "seconds",
            "in_turn",
            "requests",
            "warmup_seconds",
            "timeout_seconds",
            "patience_seconds",
            "timeline_seconds",
        ];
        let members = serde_json::to_value(args_of("drive --workload register")).unwrap();
        let members: BTreeSet<&str> =
            members.as_object().unwrap().keys().map(String::as_str).collect();
        let told: BTreeSet<&str> =
            USED_BY.iter().map(|(option, _)| *option).chain(of_all).collect();
        assert_eq!(members, told);
        for (option, workloads) in USED_BY {
            assert!(!workloads.is_empty(), "{option}");
        }
    }
}
