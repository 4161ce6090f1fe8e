//! The dashboards and rules, executed: a real Prometheus scrapes the proxy as `config/prometheus` says, and every expression of a
//! panel, a variable, an annotation or a rule must have a value. What has one only in some trouble is in the table of
//! [`occasion`], and a trial makes that trouble.

mod documented;
mod expression;
mod files;
mod occasion;
mod operator;
mod overload;
mod prometheus;
mod rude;
mod small;

use std::sync::Arc;

use libtest_mimic::Trial;

use crate::Test;
use crate::support::ground::Ground;

/// All trials of this directory.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("dashboards", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("are_what_the_generator_writes", |_| files::generated()),
    ("are_of_grafanas_schema", |_| files::schema()),
    ("rules_and_configuration_are_sound", |_| files::checked()),
    ("rules_fire_and_do_not_as_their_tests_say", |_| files::tested()),
    ("each_alert_has_a_runbook_and_both_cases", |_| files::alerts()),
    ("speak_of_metrics_that_there_are", |_| documented::known()),
    ("have_values_in_an_overload", overload::all),
    ("have_values_with_a_small_server_and_without_it", |_| small::server()),
    ("have_values_with_rude_clients", rude::clients),
    ("have_values_when_an_operator_acts", operator::acts),
];
