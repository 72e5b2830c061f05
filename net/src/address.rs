//! Peers' keys and addresses, in our words and in libp2p's.
//!
//! *Invariant:* an address that a peer told us is dialled only if it is a plain TCP or QUIC address
//! of a kind that this peer can know about; nobody can aim us at our own machine from outside it.

use std::net::IpAddr;

use cairn_protocol::{PeerKey, PeerSecret};
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::{PeerId, identity};

/// The libp2p key pair of a peer's secret.
pub(crate) fn keypair(secret: &PeerSecret) -> Result<Keypair, identity::DecodingError> {
    Keypair::ed25519_from_bytes(secret.to_bytes())
}

/// The libp2p id of a peer; none if the bytes are no point of the curve.
pub(crate) fn peer_id(key: &PeerKey) -> Option<PeerId> {
    ed25519::PublicKey::try_from_bytes(&key.0).ok().map(|key| PublicKey::from(key).to_peer_id())
}

/// The key of a libp2p peer; none if it has no Ed25519 key.
pub(crate) fn peer_key(id: &PeerId) -> Option<PeerKey> {
    // The multihash of a short key is the key itself, in its protobuf frame.
    const IDENTITY: u64 = 0;
    let multihash = id.as_ref();
    if multihash.code() != IDENTITY {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(multihash.digest()).ok()?.try_into_ed25519().ok()?;
    Some(PeerKey(key.to_bytes()))
}

/// Splits `…/p2p/ID` into the address and the id.
pub(crate) fn split(address: Multiaddr) -> (Multiaddr, Option<PeerId>) {
    let mut rest = address.clone();
    match rest.pop() {
        Some(Protocol::P2p(id)) => (rest, Some(id)),
        _ => (address, None),
    }
}

/// The IP address at the head of `address`.
pub(crate) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    }
}

/// The name and port at the head of `address`, if it is one that must be looked up.
pub(crate) fn name(address: &Multiaddr) -> Option<String> {
    match address.iter().next()? {
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Some(name.into_owned()),
        _ => None,
    }
}

/// `address` with its name replaced by `ip`; none if the name asks for the other family.
pub(crate) fn looked_up(address: &Multiaddr, ip: IpAddr) -> Option<Multiaddr> {
    match (address.iter().next()?, ip) {
        (Protocol::Dns(_) | Protocol::Dns4(_), IpAddr::V4(ip)) => address.replace(0, |_| Some(Protocol::Ip4(ip))),
        (Protocol::Dns(_) | Protocol::Dns6(_), IpAddr::V6(ip)) => address.replace(0, |_| Some(Protocol::Ip6(ip))),
        _ => None,
    }
}

/// How far an address can be reached from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Machine,
    Site,
    World,
}

fn reach(ip: IpAddr) -> Option<Reach> {
    let (nowhere, machine, site) = match ip {
        IpAddr::V4(ip) => (
            ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.octets().starts_with(&[0]),
            ip.is_loopback(),
            // 100.64.0.0/10 is shared by the customers of one provider.
            ip.is_private() || ip.is_link_local() || matches!(ip.octets(), [100, 64..=127, _, _]),
        ),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(_) => (true, false, false),
            None => (
                ip.is_unspecified() || ip.is_multicast(),
                ip.is_loopback(),
                ip.is_unique_local() || ip.is_unicast_link_local(),
            ),
        },
    };
    match (nowhere, machine, site) {
        (true, ..) => None,
        (_, true, _) => Some(Reach::Machine),
        (_, _, true) => Some(Reach::Site),
        _ => Some(Reach::World),
    }
}

/// The address, without its id, if a peer at `teller` may make us dial it.
pub(crate) fn dialable(address: Multiaddr, teller: IpAddr) -> Option<Multiaddr> {
    let (address, _) = split(address);
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    match parts.as_slice() {
        [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(port)] if *port != 0 => {}
        [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(port), Protocol::QuicV1] if *port != 0 => {}
        _ => return None,
    }
    // Who reaches us from the world knows addresses of the world; our own site and machine are
    // told about by those who are there.
    if reach(ip(&address)?)? < reach(teller)? {
        return None;
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_becomes_an_id_and_comes_back() {
        let secret = PeerSecret::from_bytes(&[7; 32]);
        let id = keypair(&secret).unwrap().public().to_peer_id();
        assert_eq!(peer_id(&secret.public()), Some(id));
        assert_eq!(peer_key(&id), Some(secret.public()));
        assert_eq!(peer_key(&PeerId::random()).map(|key| key.0.len()), None);
    }

    #[test]
    fn addresses_are_dialled_only_from_inside_their_reach() {
        let cases = [
            ("/ip4/127.0.0.1/tcp/1", "127.0.0.1", true),
            ("/ip4/127.0.0.1/udp/1/quic-v1", "127.0.0.1", true),
            ("/ip4/10.0.0.1/tcp/1", "127.0.0.1", true),
            ("/ip4/10.0.0.1/tcp/1", "192.168.1.2", true),
            ("/ip4/8.8.8.8/tcp/1", "10.0.0.1", true),
            ("/ip6/2001:4860::1/tcp/1", "2001:4860::2", true),
            ("/ip4/127.0.0.1/tcp/1", "10.0.0.1", false),
            ("/ip4/127.0.0.1/tcp/1", "8.8.8.8", false),
            ("/ip4/10.0.0.1/tcp/1", "8.8.8.8", false),
            ("/ip4/169.254.169.254/tcp/80", "8.8.8.8", false),
            ("/ip6/::1/tcp/1", "2001:4860::2", false),
            ("/ip6/::ffff:127.0.0.1/tcp/1", "2001:4860::2", false),
            ("/ip4/0.0.0.0/tcp/1", "127.0.0.1", false),
            ("/ip4/224.0.0.1/udp/1/quic-v1", "127.0.0.1", false),
            ("/ip4/8.8.8.8/tcp/0", "8.8.8.8", false),
            ("/ip4/8.8.8.8/udp/53", "8.8.8.8", false),
            ("/dns4/localhost/tcp/1", "127.0.0.1", false),
            ("/ip4/8.8.8.8/tcp/1/ws", "8.8.8.8", false),
        ];
        for (address, teller, want) in cases {
            let got = dialable(address.parse().unwrap(), teller.parse().unwrap());
            assert_eq!(got.is_some(), want, "{address} told by {teller}");
        }
    }

    #[test]
    fn a_name_becomes_the_addresses_of_its_family() {
        let (v4, v6) = ("1.2.3.4".parse().unwrap(), "2001::5".parse().unwrap());
        let cases = [("dns4", true, false), ("dns6", false, true), ("dns", true, true), ("ip4", false, false)];
        for (kind, four, six) in cases {
            let host = if kind == "ip4" { "9.9.9.9" } else { "a.example" };
            let address: Multiaddr = format!("/{kind}/{host}/tcp/7").parse().unwrap();
            assert_eq!(name(&address).is_some(), kind != "ip4");
            let want4 = four.then(|| "/ip4/1.2.3.4/tcp/7".parse().unwrap());
            let want6 = six.then(|| "/ip6/2001::5/tcp/7".parse().unwrap());
            assert_eq!((looked_up(&address, v4), looked_up(&address, v6)), (want4, want6));
        }
    }

    #[test]
    fn an_id_at_the_end_is_split_off() {
        let id = keypair(&PeerSecret::from_bytes(&[1; 32])).unwrap().public().to_peer_id();
        let bare: Multiaddr = "/ip4/1.2.3.4/tcp/5".parse().unwrap();
        assert_eq!(split(bare.clone()), (bare.clone(), None));
        assert_eq!(split(bare.clone().with(Protocol::P2p(id))), (bare, Some(id)));
    }
}
