//! What Weir does not do: answered at once and in words, so that a script does not wait or guess.

use super::refusal::Refusal;

/// Jobs: import and export by blobs, and scheduled jobs over many devices.
pub(super) async fn jobs() -> Refusal {
    Refusal::absent("jobs are not offered; change twins and call methods one by one")
}

/// Digital twins: the plain twin and direct methods say the same.
pub(super) async fn digital_twins() -> Refusal {
    Refusal::absent("digital twins are not offered; use /twins and direct methods")
}

/// Feedback of cloud-to-device messages over REST; both SDKs that use it do so over AMQP.
pub(super) async fn feedback() -> Refusal {
    Refusal::absent("feedback is received over AMQP, from /messages/serviceBound/feedback")
}
