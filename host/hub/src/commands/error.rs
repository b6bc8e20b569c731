//! Why a command is not sent, or not settled.

use weir_core::error_code::ErrorCode;
use weir_core::id::Identity;
use weir_core::limits;

/// Why nothing happened.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such identity.
    #[error("there is no identity {0}")]
    Unknown(Identity),
    /// Over [`limits::COMMAND_BYTES`].
    #[error("the command has {bytes} bytes; {} are allowed", limits::COMMAND_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// In the past, or too far ahead.
    #[error(
        "a command expires after now and within {} hours",
        limits::COMMAND_TTL_MAX.as_secs() / 3600
    )]
    Expiry,
    /// The property `ack` is not one of the four words.
    #[error("ack is one of none, positive, negative and full")]
    Ack,
    /// [`limits::COMMANDS`] wait already.
    #[error("{limit} commands wait for {0} already", limit = limits::COMMANDS)]
    QueueFull(Identity),
    /// The lock is not in force.
    #[error("the lock is not in force")]
    LockLost,
    /// All queues together are at their limit.
    #[error("the store is full")]
    StoreFull,
    /// The disk cannot be written.
    #[error("the store cannot be written")]
    Unavailable,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] weir_store::Error),
}

impl CommandError {
    /// HTTP status for clients of the IoT Hub paths.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Unknown(_) => 404,
            Self::TooLarge { .. } => 413,
            Self::Expiry | Self::Ack => 400,
            Self::QueueFull(_) => 403,
            Self::LockLost => 412,
            Self::StoreFull | Self::Unavailable | Self::Store(_) => 503,
        }
    }

    /// IoT Hub's name for it and the number that goes with the name.
    #[must_use]
    pub fn iothub_code(&self) -> (&'static str, u32) {
        match self {
            Self::Unknown(identity) => match identity.module {
                Some(_) => ("ModuleNotFound", 404_010),
                None => ("DeviceNotFound", 404_001),
            },
            Self::TooLarge { .. } => ("MessageTooLarge", 413_001),
            Self::Expiry | Self::Ack => ("ArgumentInvalid", 400_004),
            Self::QueueFull(_) => ("DeviceMaximumQueueDepthExceeded", 403_004),
            Self::LockLost => ("DeviceMessageLockLost", 412_002),
            Self::StoreFull | Self::Unavailable | Self::Store(_) => ("ServiceUnavailable", 503_001),
        }
    }

    /// Its stable name in the native API.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::NotFound,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Expiry => ErrorCode::CommandExpiry,
            Self::Ack => ErrorCode::InvalidRequest,
            Self::QueueFull(_) => ErrorCode::QueueFull,
            Self::LockLost => ErrorCode::LockLost,
            Self::StoreFull | Self::Unavailable | Self::Store(_) => ErrorCode::StoreUnavailable,
        }
    }
}
