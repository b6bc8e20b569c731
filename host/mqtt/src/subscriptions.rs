//! What one client has subscribed to, in memory; the hub keeps the same on disk.
//!
//! Decides what a SUBSCRIBE is granted and at which QoS a message for an input is delivered. Filters
//! of one's own that the hub has no use for are kept like others: they are part of the client's
//! session.

use weir_core::id::{Identity, InputName};
use weir_core::limits;
use weir_core::topic::filter::{FilterUse, classify_filter};
use weir_hub::Subscription;
use weir_mqtt_codec::{Granted, Qos, Subscribe, TopicFilter};

/// What a SUBSCRIBE is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct New {
    /// Messages for the module's inputs.
    pub(crate) inputs: bool,
    /// Cloud-to-device messages.
    pub(crate) commands: bool,
    /// A filter for inputs was not there before.
    pub(crate) grown: bool,
}

/// The filters of a client.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    identity: Identity,
    filters: Vec<Subscription>,
}

impl Subscriptions {
    /// Those that the hub has kept.
    pub(crate) fn restore(identity: Identity, filters: Vec<Subscription>) -> Self {
        Self { identity, filters }
    }

    /// True when there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// What a SUBSCRIBE is granted, and what of it is to be kept. Changes nothing.
    pub(crate) fn judge(&self, subscribe: &Subscribe) -> (Vec<Granted>, Vec<Subscription>) {
        let mut results = Vec::with_capacity(subscribe.subscriptions.len());
        let mut kept: Vec<Subscription> = Vec::new();
        for asked in &subscribe.subscriptions {
            let filter = asked.filter.as_str();
            let known = |list: &[Subscription]| list.iter().any(|known| known.filter == filter);
            let is_new = !known(&self.filters) && !known(&kept);
            let new = kept.iter().filter(|kept| !self.has(&kept.filter)).count();
            let is_full = self.filters.len() + new >= limits::MAX_FILTERS_PER_CLIENT;
            if !self.is_allowed(filter) || is_new && is_full {
                results.push(Granted::Failure);
                continue;
            }
            let (qos, granted) = match asked.qos {
                Qos::AtMostOnce => (0, Qos::AtMostOnce),
                Qos::AtLeastOnce | Qos::ExactlyOnce => (1, Qos::AtLeastOnce),
            };
            results.push(Granted::Qos(granted));
            // Of a filter that is there twice the last counts [MQTT-3.8.4-3].
            kept.retain(|earlier| earlier.filter != filter);
            kept.push(Subscription { filter: filter.to_owned(), qos });
        }
        (results, kept)
    }

    fn is_allowed(&self, filter: &str) -> bool {
        let levels = filter.split('/').count();
        filter.len() <= limits::MAX_TOPIC_BYTES
            && levels <= limits::MAX_TOPIC_LEVELS
            && classify_filter(&self.identity, filter) != FilterUse::Foreign
    }

    fn has(&self, filter: &str) -> bool {
        self.filters.iter().any(|kept| kept.filter == filter)
    }

    /// Adds or replaces filters that the hub has kept, and says what they are about.
    pub(crate) fn add(&mut self, kept: Vec<Subscription>) -> New {
        let mut new = New::default();
        for filter in &kept {
            match classify_filter(&self.identity, &filter.filter) {
                FilterUse::ModuleInputs { .. } => {
                    new.inputs = true;
                    new.grown |= !self.has(&filter.filter);
                }
                FilterUse::C2d => new.commands = true,
                FilterUse::TwinRes
                | FilterUse::TwinDesired
                | FilterUse::Methods
                | FilterUse::Unknown
                | FilterUse::Foreign => {}
            }
        }
        self.filters.retain(|old| kept.iter().all(|new| new.filter != old.filter));
        self.filters.extend(kept);
        new
    }

    /// Takes filters out; compared character by character [MQTT-3.10.4-1].
    pub(crate) fn remove(&mut self, filters: &[TopicFilter]) {
        self.filters.retain(|kept| filters.iter().all(|gone| gone.as_str() != kept.filter));
    }

    /// True when messages for some input of the module are wanted.
    pub(crate) fn takes_inputs(&self) -> bool {
        self.uses().any(|(used, _)| matches!(used, FilterUse::ModuleInputs { .. }))
    }

    /// The highest QoS of the filters that match this input [MQTT-3.3.5-1]; none when none does.
    pub(crate) fn qos_of_input(&self, input: &InputName) -> Option<Qos> {
        self.highest(|used| used.takes_input(input))
    }

    /// The same of cloud-to-device messages.
    pub(crate) fn qos_of_commands(&self) -> Option<Qos> {
        self.highest(|used| *used == FilterUse::C2d)
    }

    /// The same of patches of the desired properties.
    pub(crate) fn qos_of_desired(&self) -> Option<Qos> {
        self.highest(|used| *used == FilterUse::TwinDesired)
    }

    /// True when direct methods are wanted; they are sent with QoS 0 in any case.
    pub(crate) fn takes_methods(&self) -> bool {
        self.uses().any(|(used, _)| used == FilterUse::Methods)
    }

    fn highest(&self, matches: impl Fn(&FilterUse<'_>) -> bool) -> Option<Qos> {
        let matching = self.uses().filter(|(used, _)| matches(used));
        let highest = matching.map(|(_, qos)| qos).max()?;
        Some(if highest == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce })
    }

    fn uses(&self) -> impl Iterator<Item = (FilterUse<'_>, u8)> {
        self.filters.iter().map(|kept| (classify_filter(&self.identity, &kept.filter), kept.qos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_mqtt_codec::PacketId;

    fn module() -> Subscriptions {
        let identity = Identity::module("E".parse().unwrap(), "M".parse().unwrap());
        Subscriptions::restore(identity, Vec::new())
    }

    fn asks(filters: &[(&str, Qos)]) -> Subscribe {
        let of = |(filter, qos): &(&str, Qos)| weir_mqtt_codec::Subscription {
            filter: filter.parse().unwrap(),
            qos: *qos,
        };
        let subscriptions = filters.iter().map(of).collect();
        Subscribe { id: PacketId::new(1).unwrap(), subscriptions }
    }

    fn subscribe(client: &mut Subscriptions, filters: &[(&str, Qos)]) -> Vec<Granted> {
        let (results, kept) = client.judge(&asks(filters));
        client.add(kept);
        results
    }

    const ONE: Granted = Granted::Qos(Qos::AtLeastOnce);
    const ZERO: Granted = Granted::Qos(Qos::AtMostOnce);

    #[test]
    fn at_most_qos_1_is_granted() {
        let mut client = module();
        let asked = [
            ("devices/E/modules/M/inputs/#", Qos::ExactlyOnce),
            ("$iothub/twin/res/#", Qos::AtMostOnce),
            ("of/no/use", Qos::AtLeastOnce),
        ];
        assert_eq!(subscribe(&mut client, &asked), [ONE, ZERO, ONE]);
        let input = "in1".parse().unwrap();
        assert_eq!(client.qos_of_input(&input), Some(Qos::AtLeastOnce));
    }

    #[test]
    fn a_foreign_filter_fails_and_the_others_of_the_packet_do_not() {
        let mut client = module();
        let asked = [
            ("devices/E/modules/N/inputs/#", Qos::AtLeastOnce),
            ("#", Qos::AtLeastOnce),
            ("devices/E/modules/M/#", Qos::AtLeastOnce),
        ];
        let results = subscribe(&mut client, &asked);
        assert_eq!(results, [Granted::Failure, Granted::Failure, ONE]);
        assert_eq!(client.filters.len(), 1);
    }

    #[test]
    fn the_highest_qos_of_overlapping_filters_counts() {
        let mut client = module();
        subscribe(
            &mut client,
            &[
                ("devices/E/modules/M/#", Qos::AtMostOnce),
                ("devices/E/modules/M/inputs/in1/#", Qos::AtLeastOnce),
            ],
        );
        assert_eq!(client.qos_of_input(&"in1".parse().unwrap()), Some(Qos::AtLeastOnce));
        assert_eq!(client.qos_of_input(&"in2".parse().unwrap()), Some(Qos::AtMostOnce));
        client.remove(&["devices/E/modules/M/#".parse().unwrap()]);
        assert_eq!(client.qos_of_input(&"in2".parse().unwrap()), None);
        assert!(client.takes_inputs());
    }

    #[test]
    fn subscribing_again_replaces_the_qos() {
        let mut client = module();
        let filter = "devices/E/modules/M/#";
        let (_, kept) = client.judge(&asks(&[(filter, Qos::AtLeastOnce)]));
        assert_eq!(client.add(kept), New { inputs: true, commands: false, grown: true });
        let twice = asks(&[(filter, Qos::AtLeastOnce), (filter, Qos::AtMostOnce)]);
        let (_, kept) = client.judge(&twice);
        assert!(!client.add(kept).grown, "they are the same inputs");
        assert_eq!(client.qos_of_input(&"in1".parse().unwrap()), Some(Qos::AtMostOnce));
        assert_eq!(client.filters.len(), 1);
    }

    #[test]
    fn each_feature_has_the_qos_of_its_own_filter() {
        let mut client = module();
        let asked = [
            ("$iothub/methods/POST/#", Qos::AtMostOnce),
            ("$iothub/twin/PATCH/properties/desired/#", Qos::AtLeastOnce),
            ("$iothub/twin/res/#", Qos::AtMostOnce),
        ];
        subscribe(&mut client, &asked);
        assert!(client.takes_methods());
        assert_eq!(client.qos_of_desired(), Some(Qos::AtLeastOnce));
        assert_eq!(client.qos_of_commands(), None);
        let c2d = ("devices/E/modules/M/messages/devicebound/#", Qos::AtMostOnce);
        let (_, kept) = client.judge(&asks(&[c2d]));
        assert_eq!(client.add(kept), New { inputs: false, commands: true, grown: false });
        assert_eq!(client.qos_of_commands(), Some(Qos::AtMostOnce));
        client.remove(&[c2d.0.parse().unwrap(), asked[0].0.parse().unwrap()]);
        assert_eq!((client.qos_of_commands(), client.takes_methods()), (None, false));
    }

    #[test]
    fn a_client_has_fifty_filters_and_may_repeat_one_of_them() {
        let mut client = module();
        let filters: Vec<String> = (0..51).map(|n| format!("x/{n}")).collect();
        for (at, filter) in filters.iter().enumerate() {
            let expected = if at < limits::MAX_FILTERS_PER_CLIENT { ONE } else { Granted::Failure };
            assert_eq!(subscribe(&mut client, &[(filter, Qos::AtLeastOnce)]), [expected]);
        }
        assert_eq!(subscribe(&mut client, &[("x/0", Qos::AtMostOnce)]), [ZERO]);
    }

    #[test]
    fn filters_that_are_too_long_or_too_deep_fail() {
        let mut client = module();
        let (long, deep) = ("x".repeat(limits::MAX_TOPIC_BYTES), "/".repeat(63));
        let fits = [(long.as_str(), Qos::AtMostOnce), (deep.as_str(), Qos::AtMostOnce)];
        assert_eq!(subscribe(&mut client, &fits), [ZERO, ZERO]);
        let (long, deep) = ("x".repeat(limits::MAX_TOPIC_BYTES + 1), "/".repeat(64));
        let over = [(long.as_str(), Qos::AtMostOnce), (deep.as_str(), Qos::AtMostOnce)];
        assert_eq!(subscribe(&mut client, &over), [Granted::Failure; 2]);
    }
}
