//! A network of IPv4 addresses, as people write it: `"172.18.0.0/16"`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: Ipv4Addr,
    bits: u8,
}

impl Network {
    /// True when the address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address.to_canonical() else { return false };
        let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
        address.to_bits() & mask == self.address.to_bits() & mask
    }
}

impl FromStr for Network {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('/');
        let network = parts.and_then(|(address, bits)| {
            Some(Self { address: address.parse().ok()?, bits: bits.parse().ok()? })
        });
        // A wider one is nobody's network of containers.
        let network = network.filter(|network| (8..=32).contains(&network.bits));
        network.ok_or("expected a network such as \"172.18.0.0/16\"")
    }
}

impl TryFrom<String> for Network {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_like_it() {
        let network: Network = "172.18.0.0/16".parse().unwrap();
        assert!(network.contains("172.18.255.1".parse().unwrap()));
        assert!(network.contains("::ffff:172.18.0.1".parse().unwrap()));
        assert!(!network.contains("172.19.0.1".parse().unwrap()));
        assert!(!network.contains("2001:db8::1".parse().unwrap()));
        let one: Network = "10.0.0.7/32".parse().unwrap();
        assert!(!one.contains("10.0.0.6".parse().unwrap()));
        for bad in ["", "10.0.0.0", "0.0.0.0/0", "10.0.0.0/33", "10.0.0.0/x", "::1/64"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
