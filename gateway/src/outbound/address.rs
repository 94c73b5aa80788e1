//! Says which addresses a delivery may be dialled to, and sees to it that the address checked is the address dialled.
//!
//! A subscriber's URL is the operator's, but what its name resolves to is not. Link-local addresses, the places where
//! clouds hand out credentials, and addresses that are no single host are refused always. Loopback and private networks
//! are where many subscribers live, and allowed.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use crate::clock;

/// How long an answer of the resolver serves further connections. Long enough for the burst of connections that a backlog
/// opens, short enough to follow a failover.
const FRESH: SignedDuration = SignedDuration::from_secs(5);

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("link-local addresses are refused")]
    LinkLocal,
    #[error("addresses of cloud metadata services are refused")]
    Metadata,
    #[error("unspecified addresses are refused")]
    Unspecified,
    #[error("multicast and broadcast addresses are refused")]
    Multicast,
    #[error("private addresses are refused with public_only")]
    Private,
}

/// Which addresses may be dialled: [`check`] or [`check_public`].
pub(super) type Check = fn(IpAddr) -> Result<(), Refused>;

/// Says whether deliveries of a subscriber with `public_only` may go to this address.
///
/// # Errors
///
/// Those of [`check`], and [`Refused::Private`] for what is not globally reachable (IANA, special-purpose address
/// registries), however it is written.
pub fn check_public(address: IpAddr) -> Result<(), Refused> {
    check(address)?;
    let is_public = match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    };
    if is_public { Ok(()) } else { Err(Refused::Private) }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            // RFC 6598: shared by a provider's customers.
            | [100, 64..=127, ..]
            // RFC 6890, RFC 7526, RFC 2544, RFC 5737, and what is reserved.
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            | [240..=255, ..]
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let groups = address.segments();
    let is_private = match groups {
        // Global unicast is 2000::/3. Of it, RFC 3849 and RFC 9637 are for documentation, RFC 2928 is for protocols.
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => true,
        [0x2001, second, ..] => second & 0xfe00 == 0 && second != 0,
        // Others may carry an address that is public.
        [first, ..] => first & 0xe000 != 0x2000 && carried(groups).iter().all(Option::is_none),
    };
    !is_private && carried(groups).into_iter().flatten().all(is_public_v4)
}

/// Says whether deliveries may go to this address.
///
/// # Errors
///
/// When they may not, however the address is written: an IPv6 address that carries an IPv4 address (mapped, compatible,
/// translated, NAT64, 6to4, Teredo) is judged by that too.
pub fn check(address: IpAddr) -> Result<(), Refused> {
    match address {
        IpAddr::V4(address) => check_v4(address),
        IpAddr::V6(address) => check_v6(address),
    }
}

fn check_v4(address: Ipv4Addr) -> Result<(), Refused> {
    match address.octets() {
        // RFC 1122, 3.2.1.3: "this host on this network".
        [0, ..] => Err(Refused::Unspecified),
        // RFC 3927. AWS, Azure, Google Cloud and most others keep their metadata service here.
        [169, 254, ..] => Err(Refused::LinkLocal),
        // Alibaba Cloud, Oracle Cloud, Azure's host agent.
        [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => Err(Refused::Metadata),
        [224..=239, ..] | [255, 255, 255, 255] => Err(Refused::Multicast),
        _ => Ok(()),
    }
}

fn check_v6(address: Ipv6Addr) -> Result<(), Refused> {
    let groups = address.segments();
    match groups {
        [0, 0, 0, 0, 0, 0, 0, 0] => return Err(Refused::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => return Ok(()),
        // RFC 4291, 2.5.6.
        [first, ..] if first & 0xffc0 == 0xfe80 => return Err(Refused::LinkLocal),
        [first, ..] if first & 0xff00 == 0xff00 => return Err(Refused::Multicast),
        // AWS (all of fd00:ec2::/32 is its own), Google Cloud.
        [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254] => return Err(Refused::Metadata),
        _ => {}
    }
    carried(groups).into_iter().flatten().try_for_each(check_v4)
}

/// The IPv4 addresses that an IPv6 address carries, or may carry.
fn carried(groups: [u16; 8]) -> [Option<Ipv4Addr>; 4] {
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match groups {
        // RFC 4291, 2.5.5: compatible and mapped. RFC 2765, 2.1: translated. RFC 6052: the well-known prefix of NAT64.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => [v4(high, low), None, None, None],
        // RFC 8215: prefixes for NAT64 of one's own. How long they are is anyone's guess, so every length of RFC 6052 is
        // tried; a reading that begins with 0 is the filling of another length.
        [0x0064, 0xff9b, 0x0001, rest @ ..] => {
            let [a, b, c, d, e] = rest;
            [
                v4(a, b << 8 | c >> 8),
                v4(a << 8 | b & 0xff, c),
                v4(b << 8 | c >> 8, c << 8 | d >> 8),
                v4(d, e),
            ]
            .map(|address| address.filter(|address| address.octets()[0] != 0))
        }
        // RFC 3056: 6to4.
        [0x2002, high, low, ..] => [v4(high, low), None, None, None],
        // RFC 4380: Teredo, the server and the client; the latter's bits are inverted.
        [0x2001, 0, high, low, _, _, client_high, client_low] => {
            [v4(high, low), v4(!client_high, !client_low), None, None]
        }
        _ => [None; 4],
    }
}

/// Resolves names for one subscriber's connections and keeps back what must not be dialled.
///
/// Lookups run on threads that everyone shares, and a lookup that nobody answers holds its thread for long. So one
/// subscriber looks up once at a time, and what it learns serves its other connections.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    check: Check,
    ask: fn(&str) -> io::Result<Vec<SocketAddr>>,
    turn: Arc<Semaphore>,
    recent: Mutex<Option<Recent>>,
}

#[derive(Debug, Clone)]
struct Recent {
    at: Timestamp,
    name: String,
    addresses: Vec<SocketAddr>,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl Resolver {
    pub(super) fn new(check: Check) -> Self {
        // The port is set by the connector.
        Self::asking(|name| Ok((name, 0).to_socket_addrs()?.collect()), check)
    }

    /// The same with another source of addresses than the system's.
    pub(super) fn asking(ask: fn(&str) -> io::Result<Vec<SocketAddr>>, check: Check) -> Self {
        Self {
            shared: Arc::new(Shared {
                check,
                ask,
                turn: Arc::new(Semaphore::new(1)),
                recent: Mutex::new(None),
            }),
        }
    }
}

impl Shared {
    async fn resolve(self: Arc<Self>, name: String) -> Result<Vec<SocketAddr>, Failed> {
        let turn = Arc::clone(&self.turn).acquire_owned().await?;
        if let Some(addresses) = self.recent(&name) {
            return Ok(addresses);
        }
        // The thread holds the turn: a connection that gives up does not end the lookup it began.
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            self.look_up(&name)
        })
        .await?
    }

    fn look_up(&self, name: &str) -> Result<Vec<SocketAddr>, Failed> {
        let (mut allowed, mut refused) = (Vec::new(), None);
        for address in (self.ask)(name)? {
            match (self.check)(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(reason) => refused = Some(reason),
            }
        }
        match (allowed.is_empty(), refused) {
            (true, Some(reason)) => Err(reason.into()),
            (true, None) => Err("the name has no address".into()),
            (false, _) => {
                let recent = Recent {
                    at: clock::now(),
                    name: name.to_owned(),
                    addresses: allowed.clone(),
                };
                *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Some(recent);
                Ok(allowed)
            }
        }
    }

    fn recent(&self, name: &str) -> Option<Vec<SocketAddr>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = recent.as_ref().filter(|recent| recent.name == name)?;
        let age = clock::now().duration_since(recent.at);
        (SignedDuration::ZERO..FRESH)
            .contains(&age)
            .then(|| recent.addresses.clone())
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let addresses = shared.resolve(name.as_str().to_owned()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused() {
        for (address, refused) in [
            ("169.254.169.254", Refused::LinkLocal),
            ("169.254.0.1", Refused::LinkLocal),
            ("::ffff:169.254.169.254", Refused::LinkLocal),
            ("::169.254.169.254", Refused::LinkLocal),
            ("64:ff9b::a9fe:a9fe", Refused::LinkLocal),
            ("2002:a9fe:a9fe::1", Refused::LinkLocal),
            ("::ffff:0:169.254.169.254", Refused::LinkLocal),
            // The four lengths that fit behind the local prefix of NAT64, the shortest first.
            ("64:ff9b:1:a9fe:a9:fe00::", Refused::LinkLocal),
            ("64:ff9b:1:1a9:fe:a9fe::", Refused::LinkLocal),
            ("64:ff9b:1:1:a9:fea9:fe00:0", Refused::LinkLocal),
            ("64:ff9b:1::a9fe:a9fe", Refused::LinkLocal),
            ("64:ff9b:1::100.100.100.200", Refused::Metadata),
            // Teredo by its server and by its client.
            ("2001:0:a9fe:a9fe::f7f7:f7f7", Refused::LinkLocal),
            ("2001:0:5db8:d822:0:0:5601:5601", Refused::LinkLocal),
            ("fe80::1", Refused::LinkLocal),
            ("febf::1", Refused::LinkLocal),
            ("fd00:ec2::254", Refused::Metadata),
            ("fd20:ce::254", Refused::Metadata),
            ("100.100.100.200", Refused::Metadata),
            ("::ffff:100.100.100.200", Refused::Metadata),
            ("168.63.129.16", Refused::Metadata),
            ("192.0.0.192", Refused::Metadata),
            ("0.0.0.0", Refused::Unspecified),
            ("0.1.2.3", Refused::Unspecified),
            ("::", Refused::Unspecified),
            ("::ffff:0.0.0.0", Refused::Unspecified),
            ("224.0.0.1", Refused::Multicast),
            ("239.255.255.255", Refused::Multicast),
            ("255.255.255.255", Refused::Multicast),
            ("ff02::1", Refused::Multicast),
        ] {
            assert_eq!(check(address.parse().unwrap()), Err(refused), "{address}");
        }
    }

    #[test]
    fn what_is_allowed() {
        for address in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "93.184.216.34",
            "169.253.255.255",
            "2606:2800:220:1::1",
            "fd12:3456::1",
            "64:ff9b::5db8:d822",
            "64:ff9b:1::5db8:d822",
            "64:ff9b:1:5db8:d8:2200::",
            "::ffff:0:5db8:d822",
            "2001:0:5db8:d822::a247:27dd",
            "2001:db8::1",
        ] {
            assert_eq!(check(address.parse().unwrap()), Ok(()), "{address}");
        }
    }

    #[test]
    fn what_is_public() {
        for address in [
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "2606:2800:220:1::1",
            "64:ff9b::5db8:d822",
            "::ffff:93.184.216.34",
            "2001:4860:4860::8888",
        ] {
            assert_eq!(check_public(address.parse().unwrap()), Ok(()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "240.0.0.1",
            "::1",
            "fd12:3456::1",
            "fc00::1",
            "2001:db8::1",
            "3fff::1",
            "2001:2::1",
            "100::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:0a00:0001::1",
        ] {
            assert_eq!(
                check_public(address.parse().unwrap()),
                Err(Refused::Private),
                "{address}"
            );
        }
        assert_eq!(
            check_public("169.254.169.254".parse().unwrap()),
            Err(Refused::LinkLocal)
        );
    }

    #[tokio::test]
    async fn a_name_is_judged_by_its_addresses() {
        let resolver = Resolver::new(check);
        let addresses: Vec<_> = resolver.resolve("localhost".parse().unwrap()).await.unwrap().collect();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()) && !addresses.is_empty());
        // The system's resolver turns numbers into addresses without asking anyone.
        let refused = resolver
            .resolve("169.254.169.254".parse().unwrap())
            .await
            .err()
            .unwrap();
        assert_eq!(refused.downcast_ref(), Some(&Refused::LinkLocal));
    }
}
