//! Run-time errors.

/// What went wrong while a model was loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The plan was made by another version of wpk, or is damaged.
    #[error("cannot read the plan: {0}")]
    Plan(#[from] wpk_plan::DecodeError),
    /// The plan breaks a rule of the executor.
    #[error("the plan is not valid: {0}")]
    Invalid(String),
    /// A kernel refuses a step.
    #[error("step {step} ({origin}): {message}")]
    Step {
        /// The step's number.
        step: usize,
        /// The ONNX nodes it came from.
        origin: String,
        /// What the kernel does not take.
        message: String,
    },
    /// The weights are missing or belong to another build.
    #[error("weights: {0}")]
    Weights(String),
    /// The wanted device is not there.
    #[error("device: {0}")]
    Device(String),
    /// The device has no memory left.
    #[error("no device memory left: {0}; load the model with fewer sessions, free tensors on the device, or use Device::Cpu")]
    OutOfMemory(String),
    /// The device failed in a way after which the process cannot use it any more.
    #[error("the device is lost to this process, which must be started again to use it: {0}")]
    DeviceLost(String),
    /// Every session is busy, and the model was loaded with [`WhenBusy::Fail`](crate::WhenBusy).
    #[error("all {sessions} sessions are busy")]
    Busy {
        /// How many there are.
        sessions: usize,
    },
    /// A tensor has another shape, type or number of elements than the model takes.
    #[error("{what}: expected {expected}, found {found}")]
    Mismatch {
        /// Which tensor.
        what: String,
        /// What the model takes.
        expected: String,
        /// What was given.
        found: String,
    },
}
