//! Feature gates: `--feature-gates A=true,B=false`.
//!
//! The gates of etcd 3.6 (its `server/features`), with the two that stand for all alpha and all beta ones. On
//! a cluster of one member none of them changes what this server does; they are known so that a manifest that
//! names them starts.

use std::collections::BTreeMap;

use super::kind::parse_bool;

/// One gate of etcd 3.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Name as given in `--feature-gates`.
    pub name: &'static str,
    /// Maturity.
    pub stage: Stage,
    /// Value when nothing sets it.
    pub default: bool,
}

/// How far a feature has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off unless asked for.
    Alpha,
    /// On unless asked otherwise.
    Beta,
}

impl Stage {
    /// As metrics and help texts write it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        }
    }
}

const ALL_ALPHA: &str = "AllAlpha";
const ALL_BETA: &str = "AllBeta";

/// Every gate, by name.
pub const GATES: &[Gate] = &[
    Gate { name: ALL_ALPHA, stage: Stage::Alpha, default: false },
    Gate { name: ALL_BETA, stage: Stage::Beta, default: false },
    Gate { name: "CompactHashCheck", stage: Stage::Alpha, default: false },
    Gate { name: "InitialCorruptCheck", stage: Stage::Alpha, default: false },
    Gate { name: "LeaseCheckpoint", stage: Stage::Alpha, default: false },
    Gate { name: "LeaseCheckpointPersist", stage: Stage::Alpha, default: false },
    Gate { name: "SetMemberLocalAddr", stage: Stage::Alpha, default: false },
    Gate { name: "StopGRPCServiceOnDefrag", stage: Stage::Alpha, default: false },
    Gate { name: "TxnModeWriteWithSharedBuffer", stage: Stage::Beta, default: true },
];

/// Reads `Gate=bool,...`; the error is etcd's sentence.
pub fn parse(text: &str) -> Result<BTreeMap<&'static str, bool>, String> {
    let mut set = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value)));
        let name = name.trim();
        let value = value.ok_or_else(|| format!("missing bool value for {name}"))?.trim();
        let on = parse_bool(value).ok_or_else(|| {
            format!(
                "invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
            )
        })?;
        let gate = GATES.iter().find(|gate| gate.name == name);
        set.insert(gate.ok_or_else(|| format!("unrecognized feature gate: {name}"))?.name, on);
    }
    Ok(set)
}

/// Whether `name` is on after `set`; `AllAlpha` and `AllBeta` speak for the gates that nothing names.
pub fn enabled(set: &BTreeMap<&'static str, bool>, name: &str) -> bool {
    if let Some(on) = set.get(name) {
        return *on;
    }
    let gate = GATES.iter().find(|gate| gate.name == name).expect("callers name gates of the table");
    let all = match gate.stage {
        Stage::Alpha => ALL_ALPHA,
        Stage::Beta => ALL_BETA,
    };
    set.get(all).copied().unwrap_or(gate.default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_those_of_etcd() {
        for (text, complaint) in [
            ("", None),
            ("AllAlpha=true,,InitialCorruptCheck=F", None),
            (" LeaseCheckpoint = 1 ", None),
            ("Foo=true", Some("unrecognized feature gate: Foo")),
            ("Foo", Some("missing bool value for Foo")),
            (
                "AllAlpha=x",
                Some("invalid value of AllAlpha=x, err: strconv.ParseBool: parsing \"x\": invalid syntax"),
            ),
        ] {
            assert_eq!(parse(text).err().as_deref(), complaint);
        }
    }

    #[test]
    fn groups_speak_for_unnamed_gates() {
        for (text, name, on) in [
            ("", "InitialCorruptCheck", false),
            ("", "TxnModeWriteWithSharedBuffer", true),
            ("AllAlpha=true", "InitialCorruptCheck", true),
            ("AllAlpha=true", "TxnModeWriteWithSharedBuffer", true),
            ("AllBeta=false", "TxnModeWriteWithSharedBuffer", false),
            ("InitialCorruptCheck=false,AllAlpha=true", "InitialCorruptCheck", false),
        ] {
            assert_eq!(enabled(&parse(text).unwrap(), name), on, "{text} {name}");
        }
    }
}
