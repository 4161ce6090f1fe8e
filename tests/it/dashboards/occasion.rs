//! What has a value only in some trouble, and in which.

use super::expression::{Choice, Expression, of_boards};
use super::prometheus::Prometheus;

/// A trouble, and the trial that makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// More is asked for than the pool can do: [`super::overload`].
    Overload,
    /// PostgreSQL has room for fewer connections than the pools may open: [`super::small`].
    SmallServer,
    /// PostgreSQL is away: the same.
    Outage,
    /// The proxy is away: the same.
    Gone,
    /// Clients freeze, keep server connections, guess passwords, are too many: [`super::rude`].
    RudeClients,
    /// Reloads, a drain, a certificate that nobody has renewed: [`super::operator`].
    Operator,
}

use Occasion::{Gone, Operator, Outage, Overload, RudeClients, SmallServer};

/// Ends of names (those of annotations are the same in all dashboards), and when they have a value. Everything else has one
/// as soon as there is work; no alert has one without a trouble.
const ONLY_DURING: &[(&str, Occasion)] = &[
    ("alert PgcorralPoolSaturated (warning)", Overload),
    ("alert PgcorralCollapseRatioRising (warning)", Overload),
    ("alert PgcorralShedding (warning)", Overload),
    ("alert PgcorralShedding (critical)", Overload),
    ("alert PgcorralQueueStanding (warning)", Overload),
    ("alert PgcorralBudgetOverMaxConnections (warning)", SmallServer),
    ("alert PgcorralBudgetReduced (warning)", SmallServer),
    ("alert PgcorralBreakerOpen (critical)", Outage),
    ("Logins and dialling: Refused dials by SQLSTATE ({{result}} {{sqlstate}})", Outage),
    ("alert PgcorralTargetDown (critical)", Gone),
    ("alert PgcorralPinsOverBudget (warning)", RudeClients),
    ("alert PgcorralFrozenClients (warning)", RudeClients),
    ("alert PgcorralSpoolFilling (warning)", RudeClients),
    ("alert PgcorralLoginsFailing (warning)", RudeClients),
    ("alert PgcorralFileDescriptors (warning)", RudeClients),
    ("alert PgcorralCertificateExpiring (warning)", Operator),
    ("alert PgcorralCertificateExpiring (critical)", Operator),
    ("alert PgcorralReloadFailed (warning)", Operator),
    ("annotation Reloads", Operator),
    ("annotation Refused reloads", Operator),
    ("annotation Drains", Operator),
];

/// When an expression has a value. None: always.
fn only_during(name: &str) -> Option<Occasion> {
    ONLY_DURING.iter().find(|(end, _)| name.ends_with(end)).map(|(_, occasion)| *occasion)
}

/// What must have a value on an occasion, with its variables filled in.
pub fn expected(prometheus: &Prometheus, choice: &Choice, occasion: Occasion) -> Vec<Expression> {
    let mut found = everything(prometheus, choice);
    found.retain(|expression| only_during(&expression.name) == Some(occasion));
    found
}

/// What must have a value as soon as there is work.
pub fn usual(prometheus: &Prometheus, choice: &Choice) -> Vec<Expression> {
    let mut found = everything(prometheus, choice);
    found.retain(|expression| only_during(&expression.name).is_none());
    found
}

/// The alerts, none of which may have a value in quiet times.
pub fn alerts(prometheus: &Prometheus) -> Vec<Expression> {
    let mut found = prometheus.rules();
    found.retain(|expression| expression.name.starts_with("alert "));
    found
}

fn everything(prometheus: &Prometheus, choice: &Choice) -> Vec<Expression> {
    let found: Vec<Expression> =
        of_boards().iter().map(|expression| choice.fill(expression)).chain(prometheus.rules()).collect();
    for (end, _) in ONLY_DURING {
        assert!(
            found.iter().any(|expression| expression.name.ends_with(end)),
            "{end} is in the table and nowhere else"
        );
    }
    found
}
