//! `fencepost openapi`

use fencepost::http;

use super::failure::Failure;
use super::output::print_json;

pub fn run() -> Result<(), Failure> {
    print_json(&format!("{:#}\n", http::openapi::document()))
}
