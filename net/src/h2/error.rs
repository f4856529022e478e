//! What can go wrong on an HTTP/2 connection, and whom it concerns (RFC 9113 §5.4 and §7).

/// An HTTP/2 error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "named as in RFC 9113 §7")]
pub enum Reason {
    NoError = 0x0,
    ProtocolError = 0x1,
    InternalError = 0x2,
    FlowControlError = 0x3,
    SettingsTimeout = 0x4,
    StreamClosed = 0x5,
    FrameSizeError = 0x6,
    RefusedStream = 0x7,
    Cancel = 0x8,
    CompressionError = 0x9,
    ConnectError = 0xa,
    EnhanceYourCalm = 0xb,
    InadequateSecurity = 0xc,
    Http11Required = 0xd,
}

/// The connection is over. The GOAWAY that says so, if one is due, is already in the output: the driver sends what is
/// there and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionError {
    /// Code of the GOAWAY.
    pub reason: Reason,
    /// Its debug data: why, in a few words.
    pub text: &'static str,
}

impl std::fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.reason, self.text)
    }
}

impl std::error::Error for ConnectionError {}

/// How far the damage of one frame goes.
#[derive(Debug)]
pub(super) enum Fault {
    /// The whole connection.
    Connection(ConnectionError),
    /// One stream, which is reset with this code.
    Stream(u32, Reason),
}

impl From<ConnectionError> for Fault {
    fn from(error: ConnectionError) -> Fault {
        Fault::Connection(error)
    }
}

/// A connection error of the peer's making.
pub(super) fn refuse<T>(reason: Reason, text: &'static str) -> Result<T, Fault> {
    Err(Fault::Connection(ConnectionError { reason, text }))
}
