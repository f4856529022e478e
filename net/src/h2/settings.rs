//! SETTINGS (RFC 9113 §6.5): the few we send, and what the peer's mean to us.
//!
//! We never change ours after the first frame, so the peer's ack of it decides nothing and is not awaited.

use super::error::{ConnectionError, Reason};
use super::frame::{self, PAYLOAD_LEN_MAX, kind};

/// Initial flow-control window of both sides until told otherwise (§6.9.2).
pub const WINDOW_DEFAULT: u32 = 65_535;
/// Largest window (§6.9.1).
pub const WINDOW_MAX: u32 = (1 << 31) - 1;

/// The peer's settings we act upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// What its decoder keeps of our fields.
    pub header_table_size: u32,
    /// Window of each stream we send on.
    pub initial_window_size: u32,
}

impl Default for PeerSettings {
    fn default() -> PeerSettings {
        PeerSettings { header_table_size: 4_096, initial_window_size: WINDOW_DEFAULT }
    }
}

impl PeerSettings {
    /// Takes over the pairs of a SETTINGS payload, in order. Unknown ones and those that concern only servers of web
    /// pages are ignored after a check of their range; so is MAX_FRAME_SIZE, since like grpc-go we never send more
    /// than the smallest value it may have.
    pub fn apply(&mut self, payload: &[u8]) -> Result<(), ConnectionError> {
        if !payload.len().is_multiple_of(PAIR_LEN) {
            return fail(Reason::FrameSizeError, "settings payload");
        }
        for pair in payload.chunks_exact(PAIR_LEN) {
            let id = u16::from_be_bytes([pair[0], pair[1]]);
            let value = u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
            match id {
                id::HEADER_TABLE_SIZE => self.header_table_size = value,
                id::ENABLE_PUSH if value > 1 => return fail(Reason::ProtocolError, "enable_push"),
                id::INITIAL_WINDOW_SIZE if value > WINDOW_MAX => {
                    return fail(Reason::FlowControlError, "initial_window_size");
                }
                id::INITIAL_WINDOW_SIZE => self.initial_window_size = value,
                id::MAX_FRAME_SIZE if !(PAYLOAD_LEN_MAX as u32..1 << 24).contains(&value) => {
                    return fail(Reason::ProtocolError, "max_frame_size");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Appends our SETTINGS: what etcd's plain port sends, no more.
pub fn put_own(out: &mut Vec<u8>, max_concurrent_streams: Option<u32>) {
    let mut payload = [0; 2 * PAIR_LEN];
    let mut len = 0;
    let mut pair = |id: u16, value: u32| {
        payload[len..len + 2].copy_from_slice(&id.to_be_bytes());
        payload[len + 2..len + PAIR_LEN].copy_from_slice(&value.to_be_bytes());
        len += PAIR_LEN;
    };
    pair(id::MAX_FRAME_SIZE, PAYLOAD_LEN_MAX as u32);
    if let Some(max) = max_concurrent_streams {
        pair(id::MAX_CONCURRENT_STREAMS, max);
    }
    frame::put(out, kind::SETTINGS, 0, 0, &payload[..len]);
}

fn fail(reason: Reason, text: &'static str) -> Result<(), ConnectionError> {
    Err(ConnectionError { reason, text })
}

const PAIR_LEN: usize = 6;

mod id {
    pub(super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(super) const MAX_FRAME_SIZE: u16 = 5;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_settings_are_etcds() {
        let mut out = Vec::new();
        put_own(&mut out, None);
        assert_eq!(out, [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0x40, 0]);
        out.clear();
        put_own(&mut out, Some(7));
        assert_eq!(out, [0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0x40, 0, 0, 3, 0, 0, 0, 7]);
    }

    #[test]
    fn peer_values_are_checked() {
        let check = |pair: [u8; 6], expected: Result<PeerSettings, Reason>| {
            let mut settings = PeerSettings::default();
            let result = settings.apply(&pair).map(|()| settings).map_err(|error| error.reason);
            assert_eq!(result, expected, "{pair:?}");
        };
        let default = PeerSettings::default();
        check([0, 1, 0, 0, 0, 0], Ok(PeerSettings { header_table_size: 0, ..default }));
        check([0, 2, 0, 0, 0, 2], Err(Reason::ProtocolError));
        check(
            [0, 4, 0x7f, 0xff, 0xff, 0xff],
            Ok(PeerSettings { initial_window_size: WINDOW_MAX, ..default }),
        );
        check([0, 4, 0x80, 0, 0, 0], Err(Reason::FlowControlError));
        check([0, 5, 0, 0, 0x3f, 0xff], Err(Reason::ProtocolError));
        check([0, 5, 0, 0xff, 0xff, 0xff], Ok(default));
        check([0, 5, 1, 0, 0, 0], Err(Reason::ProtocolError));
        check([0x7f, 5, 1, 0, 0, 0], Ok(default));
        assert!(PeerSettings::default().apply(&[0; 5]).is_err());
    }
}
