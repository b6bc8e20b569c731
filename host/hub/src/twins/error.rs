//! Why a twin was not read or changed, in the words of each surface.

use weir_core::error_code::ErrorCode;
use weir_core::id::Identity;
use weir_core::twin::{Etag, Section, TwinProblem};

/// Why a twin was not read or changed. Nothing has changed then, except as [`TwinError::Unanswered`]
/// says.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    /// There is no such identity.
    #[error("there is no identity {0}")]
    Unknown(Identity),
    /// What was sent breaks a rule.
    #[error(transparent)]
    Refused(#[from] TwinProblem),
    /// The desired properties of `$edgeHub` are no configuration of the hub.
    #[error("the configuration of the hub is refused: {0}")]
    Configuration(Box<crate::ConfigurationError>),
    /// It was changed in the meantime.
    #[error("the twin was changed in the meantime; its ETag is {present}")]
    Mismatch {
        /// The present one.
        present: Etag,
    },
    /// The history does not reach back to it, or it is yet to come.
    #[error("version {version} of the {section} properties is not kept")]
    NoVersion {
        /// The section.
        section: Section,
        /// Which.
        version: u64,
    },
    /// Only the client writes them.
    #[error("reported properties are written by the client alone")]
    Reported,
    /// The change notification does not fit into a queue that it is routed to.
    #[error("a queue that the change notification goes to is full")]
    QueueFull,
    /// The disk cannot be written.
    #[error("the store cannot be written")]
    Unavailable,
    /// What is stored cannot be read.
    #[error("the stored twin cannot be read")]
    Damaged,
    /// The hub is stopping: it is not known whether the change is on disk.
    #[error("the hub is stopping")]
    Unanswered,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] weir_store::Error),
}

impl TwinError {
    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) | Self::NoVersion { .. } => ErrorCode::NotFound,
            Self::Refused(_) | Self::Configuration(_) => ErrorCode::TwinRefused,
            Self::Mismatch { .. } => ErrorCode::VersionMismatch,
            Self::Reported => ErrorCode::InvalidRequest,
            Self::QueueFull => ErrorCode::QueueFull,
            Self::Unavailable | Self::Store(_) => ErrorCode::StoreUnavailable,
            Self::Damaged => ErrorCode::Internal,
            Self::Unanswered => ErrorCode::NotReady,
        }
    }

    /// Status for clients of the SDKs, over HTTP and in answers over MQTT and AMQP.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.iothub().0
    }

    /// IoT Hub's name of it, as in `ErrorCode:ArgumentInvalid;…`.
    #[must_use]
    pub fn iothub_code(&self) -> &'static str {
        self.iothub().1
    }

    /// IoT Hub's number of it, as in `{"errorCode":400004,…}`.
    #[must_use]
    pub fn iothub_number(&self) -> u32 {
        self.iothub().2
    }

    fn iothub(&self) -> (u16, &'static str, u32) {
        match self {
            Self::Unknown(identity) if identity.module.is_some() => {
                (404, "ModuleNotFound", 404_010)
            }
            Self::Unknown(_) => (404, "DeviceNotFound", 404_001),
            Self::Refused(_) | Self::Configuration(_) | Self::Reported => {
                (400, "ArgumentInvalid", 400_004)
            }
            Self::NoVersion { .. } => (404, "TwinNotFound", 404_000),
            Self::Mismatch { .. } => (412, "PreconditionFailed", 412_001),
            Self::QueueFull | Self::Unavailable | Self::Unanswered | Self::Store(_) => {
                (503, "ServiceUnavailable", 503_001)
            }
            Self::Damaged => (500, "ServerError", 500_001),
        }
    }
}
