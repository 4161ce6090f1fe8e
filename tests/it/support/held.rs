//! A pool of one whose server connection a client holds: all others wait.

use super::ground::{Ground, Tenant};
use super::proxy::{Proxy, ProxyOptions};
use super::wire::Wire;

/// A pool of one, and a client that holds it in a transaction.
pub struct Held {
    pub tenant: Tenant,
    pub proxy: Proxy,
    pub holder: Wire,
}

impl Held {
    /// Others wait for up to `max_wait`.
    pub fn start(ground: &Ground, name: &str, max_wait: &str) -> Self {
        let tenant = ground.tenant(name);
        let database = tenant.database(ground.cluster(), 1);
        let options =
            ProxyOptions { max_wait: Some(max_wait.to_owned()), ..ProxyOptions::new(vec![database]) };
        let proxy = Proxy::start(&options);
        let mut holder = tenant.login(proxy.address);
        holder.run("create table ran (a int)");
        holder.run("begin; select 1");
        Self { tenant, proxy, holder }
    }

    pub fn login(&self) -> Wire {
        self.tenant.login(self.proxy.address)
    }

    pub fn depth(&self) -> f64 {
        self.proxy.metric("pgcorral_queue_depth{")
    }
}
