//! Where a route leads: `$upstream` or an input of a module.

use std::fmt;

use super::suggest;

/// The `INTO` part of a route. Names are compared exactly.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sink {
    Upstream,
    ModuleInput { module: String, input: String },
}

/// What is wrong with the `INTO` part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    #[error("unknown endpoint {name}, expected $upstream")]
    UnknownSystemEndpoint { name: String, likely: bool },
    #[error("unknown endpoint function {name}, expected BrokeredEndpoint")]
    UnknownFunction { name: String, likely: bool },
    #[error("the address of a module input has the form /modules/{{module}}/inputs/{{input}}")]
    Address,
}

const UPSTREAM: &str = "$upstream";
const FUNCTION: &str = "BrokeredEndpoint";

impl Sink {
    /// `$upstream`, in any case.
    pub fn from_system_name(name: &str) -> Result<Self, SinkError> {
        if name.eq_ignore_ascii_case(UPSTREAM) {
            return Ok(Sink::Upstream);
        }
        let likely = suggest::closest(name, [UPSTREAM]).is_some();
        Err(SinkError::UnknownSystemEndpoint { name: name.to_owned(), likely })
    }

    /// `BrokeredEndpoint` (in any case) with its address.
    ///
    /// As in IoT Edge one slash more or less at either end is tolerated, and the words `modules` and
    /// `inputs` are not compared. Names must not be empty.
    pub fn from_function(function: &str, address: &str) -> Result<Self, SinkError> {
        if !function.eq_ignore_ascii_case(FUNCTION) {
            let likely = suggest::closest(function, [FUNCTION]).is_some();
            return Err(SinkError::UnknownFunction { name: function.to_owned(), likely });
        }
        let address = address.trim();
        let address = address.strip_prefix('/').unwrap_or(address);
        let address = address.strip_suffix('/').unwrap_or(address);
        let mut segments = address.split('/');
        let parts: [Option<&str>; 5] = std::array::from_fn(|_| segments.next());
        match parts {
            [Some(_), Some(module), Some(_), Some(input), None]
                if !module.is_empty() && !input.is_empty() =>
            {
                Ok(Sink::ModuleInput { module: module.to_owned(), input: input.to_owned() })
            }
            _ => Err(SinkError::Address),
        }
    }

    /// Name of the endpoint, as in IoT Edge: `iothub`, or `{edge device}/{module}/{input}`.
    pub fn endpoint_id(&self, edge_device: &str) -> String {
        match self {
            Sink::Upstream => "iothub".to_owned(),
            Sink::ModuleInput { module, input } => format!("{edge_device}/{module}/{input}"),
        }
    }
}

impl SinkError {
    /// What to write instead.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            SinkError::UnknownSystemEndpoint { likely: true, .. } => {
                Some(format!("did you mean {UPSTREAM}?"))
            }
            SinkError::UnknownFunction { likely: true, .. } => {
                Some(format!("did you mean {FUNCTION}?"))
            }
            SinkError::UnknownSystemEndpoint { .. } | SinkError::UnknownFunction { .. } => {
                Some(format!("a route leads to {UPSTREAM} or {FUNCTION}(\"/modules/m/inputs/i\")"))
            }
            SinkError::Address => None,
        }
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sink::Upstream => f.write_str(UPSTREAM),
            Sink::ModuleInput { module, input } => {
                let address = format!("/modules/{module}/inputs/{input}");
                // The address is taken as it stands between its quotes; escapes are not resolved.
                let unescaped = address.replace("\\\"", "");
                let quote = if unescaped.contains('"') { '\'' } else { '"' };
                write!(f, "{FUNCTION}({quote}{address}{quote})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_four_segments() {
        let sink = |address| Sink::from_function("brokeredendpoint", address);
        let expected = Sink::ModuleInput { module: "b".into(), input: "d".into() };
        for address in ["/a/b/c/d", "a/b/c/d", "/a/b/c/d/", " /a/b/c/d "] {
            assert_eq!(sink(address).as_ref(), Ok(&expected), "{address}");
        }
        for address in ["", "/", "/modules/m", "//a/b/c/d", "/a//c/d", "/a/b/c/", "/a/b/c/d/e"] {
            assert_eq!(sink(address), Err(SinkError::Address), "{address}");
        }
    }

    #[test]
    fn a_slip_in_the_name_is_corrected() {
        let help = |error: SinkError| error.help().unwrap();
        assert_eq!(
            help(Sink::from_system_name("$upsteam").unwrap_err()),
            "did you mean $upstream?"
        );
        assert_eq!(
            help(Sink::from_function("BrokerEndpoint", "/a/b/c/d").unwrap_err()),
            "did you mean BrokeredEndpoint?"
        );
    }
}
