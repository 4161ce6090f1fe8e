//! The name of the function that a client belongs to, kept up with its `application_name`.

use std::sync::Arc;

use super::door::Door;
use super::session::Session;
use crate::proto::function::Caller;
use crate::proto::parameters::Parameters;

const APPLICATION_NAME: &str = "application_name";

/// The name of a client's function by what it has logged in with.
pub(super) fn name(door: &Door, wanted: &Parameters, user: &str) -> Arc<str> {
    // Nobody logs in without a user, so its address is not needed.
    let caller = Caller { tag: None, application_name: wanted.get(APPLICATION_NAME), user, address: None };
    door.params.functions.name(&caller).into()
}

impl Session {
    /// These are the parameters that its server connection shall have from now on.
    pub(super) fn wants(&mut self, wanted: Arc<Parameters>) {
        if self.wanted.get(APPLICATION_NAME) != wanted.get(APPLICATION_NAME) {
            self.function = name(self.seat.door(), &wanted, &self.pool.params.user);
        }
        self.wanted = wanted;
    }
}
