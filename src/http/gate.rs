//! How many connections are let in: in all, and from one address.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Server;
use crate::limits::network;

/// Lets connections in; shared by all ports.
#[derive(Debug, Clone)]
pub struct Gate {
    slots: Arc<Semaphore>,
    crowd: Option<Arc<Crowd>>,
    proxies: Arc<[IpNet]>,
}

/// Connections by address; an entry lives while there is one.
#[derive(Debug)]
struct Crowd {
    most: u32,
    inside: DashMap<IpAddr, u32>,
}

/// One connection's place; dropping it gives the place back.
#[derive(Debug)]
pub struct Pass {
    _slot: OwnedSemaphorePermit,
    _place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Gate {
    /// With the bounds of the settings. Trusted proxies carry many clients, so they are not
    /// counted by address.
    pub fn new(settings: &Server) -> Self {
        let slots = settings.connections_max.min(Semaphore::MAX_PERMITS);
        let crowd = |most| Arc::new(Crowd { most, inside: DashMap::new() });
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            crowd: settings.connections_per_address_max.map(crowd),
            proxies: Arc::clone(&settings.trusted_proxies),
        }
    }

    /// A place for a connection from `address`, or `None` where there is none left.
    pub fn enter(&self, address: IpAddr) -> Option<Pass> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        let is_proxy = self.proxies.iter().any(|net| net.contains(&address.to_canonical()));
        let place = match &self.crowd {
            Some(crowd) if !is_proxy => Some(Crowd::enter(crowd, network(address))?),
            _ => None,
        };
        Some(Pass { _slot: slot, _place: place })
    }
}

impl Crowd {
    fn enter(crowd: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut inside = crowd.inside.entry(address).or_insert(0);
        if *inside >= crowd.most {
            return None;
        }
        *inside += 1;
        Some(Place { crowd: Arc::clone(crowd), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.inside.remove_if_mut(&self.address, |_, inside| {
            *inside = inside.saturating_sub(1);
            *inside == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn gate(set: &[(&str, &str)]) -> Gate {
        let find =
            |name: &str| set.iter().find(|(it, _)| *it == name).map(|(_, text)| (*text).to_owned());
        Gate::new(&Config::load(find).unwrap().server)
    }

    #[test]
    fn no_more_than_all_together() {
        let gate = gate(&[("CONNECTIONS_MAX", "2")]);
        let address = |it: &str| it.parse().unwrap();
        let first = gate.enter(address("192.0.2.1")).unwrap();
        let _second = gate.enter(address("192.0.2.1")).unwrap();
        assert!(gate.enter(address("192.0.2.2")).is_none());
        drop(first);
        assert!(gate.enter(address("192.0.2.2")).is_some());
    }

    #[test]
    fn no_more_than_each_address_may() {
        let gate = gate(&[("CONNECTIONS_PER_ADDRESS_MAX", "1"), ("TRUSTED_PROXIES", "10.0.0.0/8")]);
        let address = |it: &str| it.parse().unwrap();
        let first = gate.enter(address("2001:db8::1")).unwrap();
        assert!(gate.enter(address("2001:db8::2")).is_none(), "the same /64");
        assert!(gate.enter(address("2001:db8:0:1::2")).is_some());
        let proxied = [gate.enter(address("10.0.0.1")), gate.enter(address("::ffff:10.0.0.1"))];
        assert!(proxied.iter().all(Option::is_some));
        drop(first);
        assert!(gate.enter(address("2001:db8::2")).is_some());
        assert!(gate.crowd.as_ref().unwrap().inside.is_empty(), "nothing is kept");
    }
}
