//! SUBSCRIBE, SUBACK and UNSUBSCRIBE (MQTT 3.1.1, sections 3.8 to 3.10).

use bytes::BufMut;

use crate::encode::{field_bytes, put_field, put_header};
use crate::read::Reader;
use crate::{Error, Limits, PacketId, PacketKind, Qos, TopicFilter};

const FAILURE: u8 = 0x80;

/// A client asks for the messages of some topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Comes back in the SUBACK.
    pub id: PacketId,
    /// At least one, in the order of the packet.
    pub subscriptions: Vec<Subscription>,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Which topics.
    pub filter: TopicFilter,
    /// The highest QoS that the client wants; the server may grant less.
    pub qos: Qos,
}

/// The server's answer to SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suback {
    /// The id of the SUBSCRIBE [MQTT-3.8.4-2].
    pub id: PacketId,
    /// One for each filter, in the same order [MQTT-3.9.3-1].
    pub results: Vec<Granted>,
}

/// What became of one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// Subscribed, with this QoS at most.
    Qos(Qos),
    /// Refused: return code 0x80.
    Failure,
}

/// A client no longer wants the messages of some filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Comes back in the UNSUBACK.
    pub id: PacketId,
    /// At least one; compared with subscriptions character by character [MQTT-3.10.4-1].
    pub filters: Vec<TopicFilter>,
}

impl Subscribe {
    pub(crate) fn decode(mut reader: Reader, limits: &Limits) -> Result<Self, Error> {
        let id = reader.packet_id(PacketKind::Subscribe)?;
        let mut subscriptions = Vec::new();
        while !reader.is_at_end() {
            check_room(PacketKind::Subscribe, subscriptions.len(), limits)?;
            let filter = reader.topic_filter()?;
            let (at, value) = (reader.at(), reader.u8()?);
            let qos = Qos::from_wire(value).ok_or(Error::SubscriptionQos { at, value })?;
            subscriptions.push(Subscription { filter, qos });
        }
        if subscriptions.is_empty() {
            return Err(Error::SubscribeEmpty);
        }
        Ok(Self { id, subscriptions })
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), Error> {
        if self.subscriptions.is_empty() {
            return Err(Error::SubscribeEmpty);
        }
        let mut bytes = 2;
        for subscription in &self.subscriptions {
            bytes += field_bytes(subscription.filter.as_bytes())? + 1;
        }
        put_header(PacketKind::Subscribe.first_byte(), bytes, out)?;
        out.put_u16(self.id.get());
        for subscription in &self.subscriptions {
            put_field(subscription.filter.as_bytes(), out);
            out.put_u8(subscription.qos as u8);
        }
        Ok(())
    }
}

impl Suback {
    pub(crate) fn decode(mut reader: Reader, limits: &Limits) -> Result<Self, Error> {
        let id = reader.packet_id(PacketKind::Suback)?;
        let mut results = Vec::new();
        while !reader.is_at_end() {
            check_room(PacketKind::Suback, results.len(), limits)?;
            let (at, value) = (reader.at(), reader.u8()?);
            results.push(match Qos::from_wire(value) {
                Some(qos) => Granted::Qos(qos),
                None if value == FAILURE => Granted::Failure,
                None => return Err(Error::SubackCode { at, value }),
            });
        }
        if results.is_empty() {
            return Err(Error::SubackEmpty);
        }
        Ok(Self { id, results })
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), Error> {
        if self.results.is_empty() {
            return Err(Error::SubackEmpty);
        }
        put_header(PacketKind::Suback.first_byte(), 2 + self.results.len(), out)?;
        out.put_u16(self.id.get());
        for result in &self.results {
            out.put_u8(match result {
                Granted::Qos(qos) => *qos as u8,
                Granted::Failure => FAILURE,
            });
        }
        Ok(())
    }
}

impl Unsubscribe {
    pub(crate) fn decode(mut reader: Reader, limits: &Limits) -> Result<Self, Error> {
        let id = reader.packet_id(PacketKind::Unsubscribe)?;
        let mut filters = Vec::new();
        while !reader.is_at_end() {
            check_room(PacketKind::Unsubscribe, filters.len(), limits)?;
            filters.push(reader.topic_filter()?);
        }
        if filters.is_empty() {
            return Err(Error::UnsubscribeEmpty);
        }
        Ok(Self { id, filters })
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), Error> {
        if self.filters.is_empty() {
            return Err(Error::UnsubscribeEmpty);
        }
        let mut bytes = 2;
        for filter in &self.filters {
            bytes += field_bytes(filter.as_bytes())?;
        }
        put_header(PacketKind::Unsubscribe.first_byte(), bytes, out)?;
        out.put_u16(self.id.get());
        for filter in &self.filters {
            put_field(filter.as_bytes(), out);
        }
        Ok(())
    }
}

fn check_room(kind: PacketKind, taken: usize, limits: &Limits) -> Result<(), Error> {
    let limit = limits.max_filters;
    if taken < limit { Ok(()) } else { Err(Error::TooManyFilters { kind, limit }) }
}
