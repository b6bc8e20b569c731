//! Who may do what, over which protocol: one table, asked by the hub and its heads, walked by the tests,
//! printed into `docs/authorisation.md`.
//!
//! A client acts for its own identity only: the table says what it may do as itself, never as whom. An
//! API token's operations are allowed here as far as its scopes go; each operation of the API names its
//! scope in the OpenAPI document.

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every one, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As the table prints it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

names! {
    /// Who acts.
    Principal {
        /// A leaf device, or the edge device itself.
        Device = "device",
        /// A module of a leaf device.
        LeafModule = "module of a leaf device",
        /// A module of the edge device, in a process of its own.
        EdgeModule = "module of the edge device",
        /// A Wasm module of the hub.
        WasmModule = "Wasm module",
        /// Service policy `iothubowner`.
        IotHubOwner = "policy iothubowner",
        /// Service policy `service`.
        Service = "policy service",
        /// Service policy `registryReadWrite`.
        RegistryReadWrite = "policy registryReadWrite",
        /// Service policy `registryRead`.
        RegistryRead = "policy registryRead",
        /// Service policy `device`.
        DevicePolicy = "policy device",
        /// A token of the native API, as far as its scopes go.
        ApiToken = "API token",
    }
}

names! {
    /// What is done.
    Operation {
        /// Send messages as oneself.
        SendMessages = "send messages",
        /// Take what routes send to one's inputs.
        TakeInputs = "take inputs",
        /// Read one's own twin, and be told of desired changes.
        ReadOwnTwin = "read own twin",
        /// Report properties of one's own twin.
        ReportOwnTwin = "report own twin",
        /// Answer calls of one's own methods.
        AnswerMethods = "answer methods",
        /// Take one's own cloud-to-device messages.
        TakeCommands = "take commands",
        /// Call a method of another.
        CallMethods = "call methods",
        /// Send a cloud-to-device message.
        SendCommands = "send commands",
        /// Read what became of cloud-to-device messages.
        ReadFeedback = "read feedback",
        /// Read any twin.
        ReadTwins = "read twins",
        /// Change desired properties and tags of any twin.
        WriteTwins = "write twins",
        /// Read identities, and figures about them.
        ReadRegistry = "read registry",
        /// Create, change and delete identities.
        WriteRegistry = "write registry",
        /// Put a deployment's configuration in force.
        ApplyConfiguration = "apply configuration",
    }
}

names! {
    /// Over what.
    Protocol {
        /// MQTT, over WebSockets too.
        Mqtt = "MQTT",
        /// AMQP, over WebSockets too.
        Amqp = "AMQP",
        /// HTTP on the port of the IoT Hub paths.
        Https = "HTTPS",
        /// Calls between a Wasm module and the hub.
        Wit = "WIT",
        /// The native API.
        Api = "API",
    }
}

impl Protocol {
    /// Of a session, by the name that its head gives: `mqtt`, `mqtt-ws`, `amqp`, …
    #[must_use]
    pub fn of_session(name: &str) -> Self {
        match name {
            name if name.starts_with("amqp") => Self::Amqp,
            name if name.starts_with("http") => Self::Https,
            _ => Self::Mqtt,
        }
    }
}

impl Principal {
    /// A service policy by its name.
    #[must_use]
    pub fn of_policy(name: &str) -> Option<Self> {
        match name {
            "iothubowner" => Some(Self::IotHubOwner),
            "service" => Some(Self::Service),
            "registryReadWrite" => Some(Self::RegistryReadWrite),
            "registryRead" => Some(Self::RegistryRead),
            "device" => Some(Self::DevicePolicy),
            _ => None,
        }
    }
}

use Operation as O;
use Principal as P;
use Protocol::{Amqp, Api, Https, Mqtt, Wit};

/// An operation, and who may do it over what.
type Row = (Operation, &'static [(Principal, &'static [Protocol])]);

/// What is allowed; everything else is not.
const TABLE: &[Row] = &[
    (
        O::SendMessages,
        &[
            (P::Device, &[Mqtt, Amqp, Https]),
            (P::LeafModule, &[Mqtt, Amqp, Https]),
            (P::EdgeModule, &[Mqtt, Amqp, Https]),
            (P::WasmModule, &[Wit]),
        ],
    ),
    // Routes lead to modules of this edge device only.
    (O::TakeInputs, &[(P::EdgeModule, &[Mqtt, Amqp]), (P::WasmModule, &[Wit])]),
    (
        O::ReadOwnTwin,
        &[
            (P::Device, &[Mqtt, Amqp]),
            (P::LeafModule, &[Mqtt, Amqp]),
            (P::EdgeModule, &[Mqtt, Amqp]),
            (P::WasmModule, &[Wit]),
        ],
    ),
    (
        O::ReportOwnTwin,
        &[
            (P::Device, &[Mqtt, Amqp]),
            (P::LeafModule, &[Mqtt, Amqp]),
            (P::EdgeModule, &[Mqtt, Amqp]),
            (P::WasmModule, &[Wit]),
        ],
    ),
    (
        O::AnswerMethods,
        &[
            (P::Device, &[Mqtt, Amqp]),
            (P::LeafModule, &[Mqtt, Amqp]),
            (P::EdgeModule, &[Mqtt, Amqp]),
            (P::WasmModule, &[Wit]),
        ],
    ),
    // IoT Hub has them for devices only.
    (
        O::TakeCommands,
        &[
            (P::Device, &[Mqtt, Amqp, Https]),
            (P::LeafModule, &[Mqtt, Amqp, Https]),
            (P::EdgeModule, &[Mqtt, Amqp, Https]),
        ],
    ),
    // IoT Edge: the caller must be a module of this very edge device.
    (
        O::CallMethods,
        &[
            (P::EdgeModule, &[Https]),
            (P::IotHubOwner, &[Https]),
            (P::Service, &[Https]),
            (P::ApiToken, &[Api]),
        ],
    ),
    (
        O::SendCommands,
        &[(P::IotHubOwner, &[Amqp, Https]), (P::Service, &[Amqp, Https]), (P::ApiToken, &[Api])],
    ),
    (
        O::ReadFeedback,
        &[(P::IotHubOwner, &[Amqp, Https]), (P::Service, &[Amqp, Https]), (P::ApiToken, &[Api])],
    ),
    (O::ReadTwins, &[(P::IotHubOwner, &[Https]), (P::Service, &[Https]), (P::ApiToken, &[Api])]),
    (O::WriteTwins, &[(P::IotHubOwner, &[Https]), (P::Service, &[Https]), (P::ApiToken, &[Api])]),
    (
        O::ReadRegistry,
        &[
            (P::IotHubOwner, &[Https]),
            (P::RegistryReadWrite, &[Https]),
            (P::RegistryRead, &[Https]),
            (P::ApiToken, &[Api]),
        ],
    ),
    (
        O::WriteRegistry,
        &[(P::IotHubOwner, &[Https]), (P::RegistryReadWrite, &[Https]), (P::ApiToken, &[Api])],
    ),
    (
        O::ApplyConfiguration,
        &[(P::IotHubOwner, &[Https]), (P::RegistryReadWrite, &[Https]), (P::ApiToken, &[Api])],
    ),
];

/// True when the principal may do this over this protocol.
#[must_use]
pub fn allows(principal: Principal, operation: Operation, protocol: Protocol) -> bool {
    let rows = TABLE.iter().filter(|(of, _)| *of == operation).flat_map(|(_, rows)| *rows);
    rows.filter(|(who, _)| *who == principal).any(|(_, over)| over.contains(&protocol))
}

/// The table in Markdown, as it stands in `docs/authorisation.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| |");
    for operation in Operation::ALL {
        text.extend([" ", operation.name(), " |"]);
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(Operation::ALL.len()));
    text.push('\n');
    for principal in Principal::ALL {
        text.extend(["| ", principal.name(), " |"]);
        for operation in Operation::ALL {
            let over = Protocol::ALL.iter().filter(|over| allows(*principal, *operation, **over));
            let names: Vec<&str> = over.map(|over| over.name()).collect();
            let cell = if names.is_empty() { "–".to_owned() } else { names.join(", ") };
            text.extend([" ", &cell, " |"]);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells() -> impl Iterator<Item = (Principal, Operation, Protocol)> {
        let pairs = Principal::ALL
            .iter()
            .flat_map(|principal| Operation::ALL.iter().map(|operation| (*principal, *operation)));
        pairs.flat_map(|(principal, operation)| {
            Protocol::ALL.iter().map(move |protocol| (principal, operation, *protocol))
        })
    }

    #[test]
    fn every_operation_has_one_row_and_every_row_somebody() {
        for operation in Operation::ALL {
            let rows: Vec<_> = TABLE.iter().filter(|(of, _)| of == operation).collect();
            assert_eq!(rows.len(), 1, "{}", operation.name());
            assert!(!rows[0].1.is_empty(), "{}", operation.name());
        }
    }

    #[test]
    fn no_cell_gives_more_than_the_kind_of_principal_can_have() {
        use Principal as P;
        for (principal, operation, protocol) in cells() {
            if !allows(principal, operation, protocol) {
                continue;
            }
            let cell = format!("{} / {} / {}", principal.name(), operation.name(), protocol.name());
            let own = [
                O::SendMessages,
                O::TakeInputs,
                O::ReadOwnTwin,
                O::ReportOwnTwin,
                O::AnswerMethods,
                O::TakeCommands,
            ];
            match principal {
                P::Device | P::LeafModule => {
                    assert!(own.contains(&operation), "{cell}: for itself only");
                    assert!([Mqtt, Amqp, Https].contains(&protocol), "{cell}");
                    assert_ne!(operation, O::TakeInputs, "{cell}");
                }
                P::EdgeModule => {
                    assert!(own.contains(&operation) || operation == O::CallMethods, "{cell}");
                    assert!([Mqtt, Amqp, Https].contains(&protocol), "{cell}");
                }
                P::WasmModule => {
                    assert_eq!(protocol, Wit, "{cell}");
                    assert!(own.contains(&operation), "{cell}");
                }
                P::IotHubOwner | P::Service | P::RegistryReadWrite | P::RegistryRead => {
                    assert!(!own.contains(&operation), "{cell}: a back end is no device");
                    assert!([Amqp, Https].contains(&protocol), "{cell}");
                }
                P::DevicePolicy => panic!("{cell}: it opens no service path"),
                P::ApiToken => assert_eq!(protocol, Api, "{cell}"),
            }
        }
    }

    #[test]
    fn a_policy_has_the_rights_of_its_name_in_iot_hub() {
        let may = |policy, operation| {
            allows(Principal::of_policy(policy).unwrap(), operation, Protocol::Https)
        };
        for (operation, service, write, read) in [
            (O::CallMethods, true, false, false),
            (O::SendCommands, true, false, false),
            (O::ReadTwins, true, false, false),
            (O::WriteTwins, true, false, false),
            (O::ReadRegistry, false, true, true),
            (O::WriteRegistry, false, true, false),
            (O::ApplyConfiguration, false, true, false),
        ] {
            assert!(may("iothubowner", operation));
            assert_eq!(may("service", operation), service, "{}", operation.name());
            assert_eq!(may("registryReadWrite", operation), write, "{}", operation.name());
            assert_eq!(may("registryRead", operation), read, "{}", operation.name());
            assert!(!may("device", operation), "{}", operation.name());
        }
    }

    #[test]
    fn the_page_shows_this_table() {
        let path = format!("{}/../../docs/authorisation.md", env!("CARGO_MANIFEST_DIR"));
        let page = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = page.split_once("<!-- table -->\n").expect("a mark before the table");
        let (shown, after) = rest.split_once("<!-- end -->").expect("a mark behind the table");
        if shown != markdown() && std::env::var_os("WEIR_BLESS").is_some() {
            let page = format!("{before}<!-- table -->\n{}<!-- end -->{after}", markdown());
            std::fs::write(&path, page).unwrap();
            return;
        }
        assert_eq!(shown, markdown(), "WEIR_BLESS=1 cargo test -p weir-hub authorize writes it");
    }
}
