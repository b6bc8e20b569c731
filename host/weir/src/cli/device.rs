//! `weir device`: identities of devices and of the modules on them.

use super::sample::read_json;
use super::{Error, HubArgs};
use crate::client::{Client, paths};
use crate::output::{Column, Console};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Arguments of `weir device`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir device create pump-1                    with keys of the hub's; see weir connection-string
  weir device create edge --module sender      a module of the edge device
  weir device create cam --auth self-signed --thumbprint 9f86d081...
  weir device update pump-1 --body change.json
  weir device disable pump-1                   it leaves, and may not connect any more
  weir device enable pump-1
  weir device keys pump-1                      print both keys
  weir device keys pump-1 --rotate primary     who came with the other key stays
  weir device show pump-1
  weir device delete pump-1
  weir device list
  weir device list --modules-of edge")]
pub struct DeviceArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: DeviceVerb,
}

/// What is done with devices.
#[derive(Debug, clap::Subcommand)]
pub(super) enum DeviceVerb {
    /// List devices, or the modules of one
    List {
        /// The modules of this device
        #[arg(long, value_name = "ID")]
        modules_of: Option<String>,
    },
    /// Show a device or module, without its keys
    Show(WhichArgs),
    /// Create or replace a device or module
    Create(Box<CreateArgs>),
    /// Change some of a device or module: block it, or exchange its keys
    Update(UpdateArgs),
    /// Print the keys of a device or module, or exchange them for new ones
    Keys(KeysArgs),
    /// End the connection of a device or module and let it in no more
    Disable(WhichArgs),
    /// Let a device or module in again
    Enable(WhichArgs),
    /// Delete a device or module
    Delete(WhichArgs),
}

/// Arguments of `weir device keys`.
#[derive(Debug, clap::Args)]
pub(super) struct KeysArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Exchange this key first
    #[arg(long, value_enum, value_name = "KEY")]
    rotate: Option<Rotate>,
}

/// Which keys are exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Rotate {
    Primary,
    Secondary,
    Both,
}

/// A device, or a module of it.
#[derive(Debug, clap::Args)]
pub(super) struct WhichArgs {
    /// The device
    id: String,
    /// A module of it
    #[arg(long, value_name = "M")]
    module: Option<String>,
}

/// Arguments of `weir device create`.
#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// How it proves who it is: by one of two keys, by a certificate's thumbprint, by a certificate of
    /// security.device_ca_files, or not at all
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    auth: Auth,
    /// File with its first key (base64); the hub makes one when it is left out
    #[arg(long, value_name = "FILE")]
    primary_key_file: Option<PathBuf>,
    /// File with its second key
    #[arg(long, value_name = "FILE")]
    secondary_key_file: Option<PathBuf>,
    /// Thumbprint of its certificate (SHA-1 or SHA-256)
    #[arg(long, value_name = "HEX", required_if_eq("auth", "self-signed"))]
    thumbprint: Option<String>,
    /// Thumbprint of its next certificate
    #[arg(long, value_name = "HEX")]
    secondary_thumbprint: Option<String>,
    /// It may not connect
    #[arg(long)]
    disabled: bool,
    /// The edge device above it
    #[arg(long, value_name = "ID")]
    parent: Option<String>,
    /// JSON file with the whole body instead; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "auth", "primary_key_file", "secondary_key_file", "thumbprint", "secondary_thumbprint",
        "disabled", "parent",
    ])]
    body: Option<String>,
}

/// Arguments of `weir device update`.
#[derive(Debug, clap::Args)]
pub(super) struct UpdateArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Whether it may connect; disabled ends its connection
    #[arg(long, value_enum, value_name = "STATUS", required_unless_present = "body")]
    status: Option<Status>,
    /// JSON file with the members that change instead; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "status")]
    body: Option<String>,
}

/// Whether an identity may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Status {
    Enabled,
    Disabled,
}

/// How an identity proves who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Auth {
    #[default]
    Sas,
    SelfSigned,
    CertificateAuthority,
    None,
}

const COLUMNS: &[Column] = &[
    ("DEVICE", "/deviceId"),
    ("MODULE", "/moduleId"),
    ("STATUS", "/status"),
    ("AUTH", "/authentication/type"),
    ("UPDATED", "/updated"),
];

impl WhichArgs {
    fn path(&self) -> String {
        match &self.module {
            Some(module) => paths::device_module(&self.id, module),
            None => paths::device(&self.id),
        }
    }

    fn name(&self) -> String {
        match &self.module {
            Some(module) => format!("{}/{module}", self.id),
            None => self.id.clone(),
        }
    }
}

impl DeviceVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        match self {
            Self::List { modules_of } => {
                let path = modules_of.map_or_else(paths::devices, |id| paths::device_modules(&id));
                Ok(console.list(COLUMNS, &hub.list(&path, None).await?)?)
            }
            Self::Show(which) => Ok(console.thing(&hub.get(&which.path()).await?.body)?),
            Self::Create(args) => args.run(hub, console).await,
            Self::Update(args) => args.run(hub, console).await,
            Self::Keys(args) => args.run(hub, console).await,
            Self::Disable(which) => which.set_status(hub, console, "disabled").await,
            Self::Enable(which) => which.set_status(hub, console, "enabled").await,
            Self::Delete(which) => {
                hub.delete(&which.path()).await?;
                Ok(console.note(&format!("{} is gone", which.name()))?)
            }
        }
    }
}

impl WhichArgs {
    async fn set_status(
        self,
        hub: &Client,
        console: &mut Console<'_>,
        status: &str,
    ) -> Result<(), Error> {
        let answer = hub.patch(&self.path(), &json!({ "status": status })).await?;
        if console.wants_json() {
            return Ok(console.json(&answer.body)?);
        }
        Ok(console.note(&format!("{} is {status}", self.name()))?)
    }
}

impl KeysArgs {
    async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let path = match &self.which.module {
            Some(module) => paths::module_keys(&self.which.id, module),
            None => paths::device_keys(&self.which.id),
        };
        let rotate = self.rotate.map(|rotate| match rotate {
            Rotate::Primary => "primary",
            Rotate::Secondary => "secondary",
            Rotate::Both => "both",
        });
        let answer = match rotate {
            Some(rotate) => hub.post(&path, &json!({ "rotate": rotate })).await?,
            None => hub.get(&path).await?,
        };
        Ok(console.thing(&answer.body)?)
    }
}

impl CreateArgs {
    async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let body = match &self.body {
            Some(file) => read_json(file)?,
            None => self.body()?,
        };
        let answer = hub.put(&self.which.path(), &body).await?;
        if console.wants_json() {
            return Ok(console.json(&answer.body)?);
        }
        let done =
            if answer.status == hyper::StatusCode::CREATED { "is new" } else { "was replaced" };
        // Keys are printed by `connection-string` only, never by the way.
        Ok(console.note(&format!("{} {done}", self.which.name()))?)
    }

    fn body(&self) -> Result<Value, Error> {
        let authentication = match self.auth {
            Auth::Sas => {
                let mut authentication = json!({ "type": "sas" });
                let keys = [
                    ("primaryKey", &self.primary_key_file),
                    ("secondaryKey", &self.secondary_key_file),
                ];
                for (name, file) in keys {
                    if let Some(file) = file {
                        authentication["symmetricKey"][name] = key(file)?.into();
                    }
                }
                authentication
            }
            Auth::SelfSigned => {
                let mut thumbprints = json!({ "primaryThumbprint": self.thumbprint });
                if let Some(secondary) = &self.secondary_thumbprint {
                    thumbprints["secondaryThumbprint"] = Value::from(secondary.as_str());
                }
                json!({ "type": "selfSigned", "x509Thumbprint": thumbprints })
            }
            Auth::CertificateAuthority => json!({ "type": "certificateAuthority" }),
            Auth::None => json!({ "type": "none" }),
        };
        let status = if self.disabled { "disabled" } else { "enabled" };
        let mut body = json!({ "authentication": authentication, "status": status });
        if let Some(parent) = &self.parent {
            body["parent"] = Value::from(parent.as_str());
        }
        Ok(body)
    }
}

impl UpdateArgs {
    async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let body = match (&self.body, self.status) {
            (Some(file), _) => read_json(file)?,
            (None, Some(Status::Disabled)) => json!({ "status": "disabled" }),
            (None, Some(Status::Enabled) | None) => json!({ "status": "enabled" }),
        };
        let answer = hub.patch(&self.which.path(), &body).await?;
        if console.wants_json() {
            return Ok(console.json(&answer.body)?);
        }
        Ok(console.note(&format!("{} was changed", self.which.name()))?)
    }
}

fn key(file: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(file).map_err(|cause| Error::Input {
        doing: format!("read the key {}", file.display()),
        cause,
    })?;
    Ok(text.trim().to_owned())
}
