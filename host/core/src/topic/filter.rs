//! What a client's topic filter subscribes to.
//!
//! The rules are IoT Edge's, in its order, after one of our own: a filter that names another identity,
//! or whose wildcard would reach one, is refused. Everything that matches no rule is granted and has
//! no effect, because the SDKs take no refusal in their stride.

use crate::id::{Identity, InputName};

/// What a filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterUse<'a> {
    /// Messages to a module's inputs.
    ModuleInputs {
        /// Only this one; none: all of them.
        input: Option<&'a str>,
    },
    /// Cloud-to-device messages.
    C2d,
    /// Answers to twin requests.
    TwinRes,
    /// Changes of desired properties.
    TwinDesired,
    /// Direct methods.
    Methods,
    /// Nothing: granted, without effect.
    Unknown,
    /// Another identity's: refused with 0x80 [MQTT-3.9.3-2].
    Foreign,
}

impl FilterUse<'_> {
    /// True when a message for this input matches the filter.
    #[must_use]
    pub fn takes_input(&self, name: &InputName) -> bool {
        match self {
            Self::ModuleInputs { input: Some(input) } => *input == name.as_str(),
            Self::ModuleInputs { input: None } => true,
            Self::C2d
            | Self::TwinRes
            | Self::TwinDesired
            | Self::Methods
            | Self::Unknown
            | Self::Foreign => false,
        }
    }
}

/// Says what `filter` is for when `identity` subscribes to it.
#[must_use]
pub fn classify_filter<'a>(identity: &Identity, filter: &'a str) -> FilterUse<'a> {
    if filter.starts_with("$iothub/methods/POST/") {
        return FilterUse::Methods;
    }
    if filter.starts_with("$iothub/twin/PATCH/properties/desired/") {
        return FilterUse::TwinDesired;
    }
    if filter == "$iothub/twin/res/#" {
        return FilterUse::TwinRes;
    }
    let Some((first, rest)) = filter.split_once('/') else {
        return match filter {
            "#" => FilterUse::Foreign,
            _ => FilterUse::Unknown,
        };
    };
    match first {
        "devices" => own_path(identity, rest).map_or(FilterUse::Foreign, by_path),
        // It matches `devices` too, and then what follows is somebody's.
        "+" => FilterUse::Foreign,
        _ => FilterUse::Unknown,
    }
}

/// Where a filter below `devices/` leads, if to this identity alone.
enum OwnPath<'a> {
    Device(&'a str),
    Module(&'a str),
}

fn own_path<'a>(identity: &Identity, rest: &'a str) -> Option<OwnPath<'a>> {
    let rest = below(rest, identity.device.as_str())?;
    match &identity.module {
        Some(module) => {
            let rest = below(below(rest, "modules")?, module.as_str())?;
            Some(OwnPath::Module(rest))
        }
        None => match rest.split('/').next() {
            // These lead to the device's modules, which are other identities.
            Some("modules" | "+" | "#") => None,
            Some(_) | None => Some(OwnPath::Device(rest)),
        },
    }
}

fn below<'a>(path: &'a str, level: &str) -> Option<&'a str> {
    path.strip_prefix(level)?.strip_prefix('/')
}

fn by_path(path: OwnPath<'_>) -> FilterUse<'_> {
    match path {
        OwnPath::Device("messages/devicebound/#") => FilterUse::C2d,
        OwnPath::Module("messages/devicebound/#") => FilterUse::C2d,
        OwnPath::Device(_) => FilterUse::Unknown,
        OwnPath::Module(rest) => module_inputs(rest),
    }
}

/// IoT Edge takes every `devices/{d}/modules/{m}/…#` for all inputs. Here a filter that names one
/// input gets that one: no message may come that matches no filter [MQTT-3.3.2-3].
fn module_inputs(rest: &str) -> FilterUse<'_> {
    if rest != "#" && !rest.ends_with("/#") {
        return FilterUse::Unknown;
    }
    let mut levels = rest.split('/');
    match (levels.next(), levels.next(), levels.next(), levels.next()) {
        (Some("#"), ..) | (Some("inputs" | "+"), Some("#" | "+"), ..) => {
            FilterUse::ModuleInputs { input: None }
        }
        (Some("inputs" | "+"), Some(input), Some("#"), None)
        | (Some("inputs" | "+"), Some(input), Some("+"), Some("#")) => {
            FilterUse::ModuleInputs { input: Some(input) }
        }
        _ => FilterUse::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: FilterUse<'static> = FilterUse::ModuleInputs { input: None };

    fn module() -> Identity {
        Identity::module("E".parse().unwrap(), "M".parse().unwrap())
    }

    fn device() -> Identity {
        Identity::device("D".parse().unwrap())
    }

    #[test]
    fn the_filters_of_the_sdks_are_known() {
        for (identity, filter, expected) in [
            (module(), "devices/E/modules/M/inputs/#", ALL),
            (module(), "devices/E/modules/M/#", ALL),
            (
                module(),
                "devices/E/modules/M/inputs/in1/#",
                FilterUse::ModuleInputs { input: Some("in1") },
            ),
            (module(), "devices/E/modules/M/messages/devicebound/#", FilterUse::C2d),
            (device(), "devices/D/messages/devicebound/#", FilterUse::C2d),
            (device(), "$iothub/twin/res/#", FilterUse::TwinRes),
            (device(), "$iothub/twin/PATCH/properties/desired/#", FilterUse::TwinDesired),
            (device(), "$iothub/methods/POST/#", FilterUse::Methods),
        ] {
            assert_eq!(classify_filter(&identity, filter), expected, "{filter}");
        }
    }

    #[test]
    fn what_is_ones_own_and_unknown_is_granted_without_effect() {
        for filter in [
            "some/other/topic",
            "devices",
            "+",
            "$iothub/#",
            "$iothub/twin/res/+",
            "$SYS/#",
            "devices/E/modules/M/inputs/in1",
            "devices/E/modules/M/messages/events/#",
            "",
        ] {
            assert_eq!(classify_filter(&module(), filter), FilterUse::Unknown, "{filter}");
        }
        let events = classify_filter(&device(), "devices/D/messages/events/#");
        assert_eq!(events, FilterUse::Unknown);
    }

    #[test]
    fn a_filter_that_would_reach_another_is_foreign() {
        for filter in [
            "#",
            "+/#",
            "+/E/modules/M/#",
            "devices/#",
            "devices/+/modules/M/#",
            "devices/E/#",
            "devices/E/+/M/#",
            "devices/E/modules/+/inputs/#",
            "devices/E/modules/#",
            "devices/E/modules/other/#",
            "devices/E/modules/MM/#",
            "devices/other/modules/M/#",
            "devices/E/messages/devicebound/#",
        ] {
            assert_eq!(classify_filter(&module(), filter), FilterUse::Foreign, "{filter}");
        }
        for filter in [
            "devices/D/#",
            "devices/D/+/x",
            "devices/D/modules/m/#",
            "devices/D2/messages/devicebound/#",
        ] {
            assert_eq!(classify_filter(&device(), filter), FilterUse::Foreign, "{filter}");
        }
    }

    /// MQTT's own matching [MQTT-4.7], written apart from the code above.
    fn matches(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([f, filter @ ..], [t, topic @ ..]) => (*f == "+" || f == t) && matches(filter, topic),
            ([], []) => true,
            ([], [_, ..]) | ([_, ..], []) => false,
        }
    }

    fn identities() -> impl Strategy<Value = Identity> {
        let name = prop::sample::select(vec!["A", "B"]);
        (name.clone(), prop::option::of(name)).prop_map(|(device, module)| Identity {
            device: device.parse().unwrap(),
            module: module.map(|module| module.parse().unwrap()),
        })
    }

    fn topic_of(identity: &Identity, tail: &str) -> String {
        match &identity.module {
            Some(module) => format!("devices/{}/modules/{module}/{tail}", identity.device),
            None => format!("devices/{}/{tail}", identity.device),
        }
    }

    proptest! {
        #[test]
        fn a_granted_filter_matches_no_topic_of_another(own in identities(), other in identities(), aim in identities(), wild in prop::array::uniform8(0u8..4), cut in 1usize..9) {
            prop_assume!(own != other);
            // A filter aimed at somebody's topic, with levels replaced by wildcards.
            let topic = topic_of(&aim, "messages/devicebound/x");
            let mut filter: Vec<&str> = topic.split('/').collect();
            for (level, wild) in filter.iter_mut().zip(wild) {
                *level = if wild == 0 { "+" } else { level };
            }
            if cut < filter.len() {
                filter.truncate(cut);
                filter.push("#");
            }
            let text = filter.join("/");
            if classify_filter(&own, &text) != FilterUse::Foreign {
                for tail in ["messages/devicebound/x", "messages/events/x", "inputs/A/x", "inputs/B/x"] {
                    let topic = topic_of(&other, tail);
                    let levels: Vec<&str> = topic.split('/').collect();
                    prop_assert!(!matches(&filter, &levels), "{text} of {own} reaches {topic}");
                }
            }
        }

        #[test]
        fn inputs_that_a_filter_takes_are_those_whose_topic_it_matches(filter in prop::sample::select(vec!["#", "inputs/#", "inputs/+/#", "inputs/in1/#", "inputs/in2/#", "+/in1/#", "+/#", "inputs/in1/+/#", "messages/#", "inputs/in1", "x/#"]), input in prop::sample::select(vec!["in1", "in2"])) {
            let whole = format!("devices/E/modules/M/{filter}");
            let topic = format!("devices/E/modules/M/inputs/{input}/bag");
            let filter_levels: Vec<&str> = whole.split('/').collect();
            let topic_levels: Vec<&str> = topic.split('/').collect();
            let identity = module();
            let takes = classify_filter(&identity, &whole).takes_input(&input.parse().unwrap());
            prop_assert_eq!(takes, matches(&filter_levels, &topic_levels));
        }

        #[test]
        fn any_filter_is_classified_without_a_panic(filter in any::<String>()) {
            std::hint::black_box(classify_filter(&module(), &filter));
            std::hint::black_box(classify_filter(&device(), &filter));
        }
    }
}
