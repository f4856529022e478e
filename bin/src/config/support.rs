//! What this server makes of flags that name things it lacks, and of older spellings.

use std::collections::BTreeMap;

use crate::flags::{Flag, Given, Note, SECTIONS, Support};
use crate::logging::Level;

fn rows() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|(_, flags)| flags.iter())
}

/// The spelling whose value counts for flag `name`: the older one if it is set.
pub(super) fn current(given: &Given, name: &'static str) -> &'static str {
    let older = rows().find(|flag| flag.support == Support::SpelledNow(name) && given.is_set(flag.name));
    older.map_or(name, |flag| flag.name)
}

/// The gates that are set, by `--feature-gates` or an older flag each.
pub(super) fn gates(given: &Given) -> BTreeMap<&'static str, bool> {
    let mut gates = given.gates();
    for flag in rows() {
        if let Support::GateNow(gate) = flag.support
            && given.is_set(flag.name)
        {
            gates.insert(gate, given.bool(flag.name));
        }
    }
    gates
}

/// An older spelling and its successor exclude each other.
pub(super) fn conflicts(given: &Given) -> Result<(), String> {
    let named = given.gates();
    for flag in rows().filter(|flag| given.is_set(flag.name)) {
        match flag.support {
            // etcd looks for the gate's name anywhere in the flag's text.
            Support::GateNow(gate) if given.text("feature-gates").contains(gate) => {
                let (old, on) = (flag.name, given.bool(flag.name));
                let gate_on = crate::flags::gate_enabled(&named, gate);
                return Err(format!(
                    "cannot specify both flags: --{old}={on} and --feature-gates={gate}={gate_on} at the same time, \
                     please just use --feature-gates={gate}={gate_on}"
                ));
            }
            // This pair has a sentence of its own, and comes later.
            Support::SpelledNow("warning-unary-request-duration") => {}
            Support::SpelledNow(now) if given.is_set(now) => {
                let old = flag.name;
                return Err(format!(
                    "cannot set --{old} and --{now} at the same time, please use --{now} only"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// One warning for each deprecated flag that is set. etcd words them in five ways.
pub(super) fn note_deprecated(given: &Given, notes: &mut Vec<Note>) {
    for flag in rows().filter(|flag| given.is_set(flag.name)) {
        let old = flag.name;
        let msg = match (old, flag.support) {
            ("experimental-warning-unary-request-duration", Support::SpelledNow(now)) => {
                format!("--{old} is deprecated, and will be decommissioned in v3.7. Use --{now} instead.")
            }
            (_, Support::SpelledNow(now)) if now.contains("distributed-tracing") => {
                format!(
                    "--{old} is deprecated in 3.6 and will be decommissioned in 3.7. Use --{now} instead."
                )
            }
            ("experimental-compact-hash-check-time", Support::SpelledNow(now)) => {
                format!(
                    "--{old} is deprecated in 3.6 and will be decommissioned in 3.7. Use '--{now}' instead."
                )
            }
            ("experimental-compaction-sleep-interval", Support::SpelledNow(now)) => {
                format!(
                    "--{old} is deprecated in v3.6 and will be decommissioned in v3.7. Use '{now}' instead."
                )
            }
            ("experimental-compact-hash-check-enabled", Support::GateNow(gate)) => format!(
                "--{old} is deprecated in 3.6 and will be decommissioned in 3.7. \
                 Use '--feature-gates={gate}=true' instead."
            ),
            ("max-snapshots", _) => {
                "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.".to_owned()
            }
            ("v2-deprecation", _) => {
                "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default \
                                      value is enforced, ignoring user input."
                    .to_owned()
            }
            (_, Support::SpelledNow(now)) => {
                format!(
                    "--{old} is deprecated in v3.6 and will be decommissioned in v3.7. Use '--{now}' instead."
                )
            }
            (_, Support::GateNow(gate)) => format!(
                "--{old} is deprecated in v3.6 and will be decommissioned in v3.7. \
                 Use '--feature-gates={gate}=true' instead."
            ),
            _ => continue,
        };
        notes.push(Note::new(Level::Warn, msg));
    }
}

/// Refuses what would be less safe here than asked for.
pub(super) fn refuse(given: &Given) -> Result<(), String> {
    for flag in rows().filter(|flag| given.is_changed(flag)) {
        if let Support::Refused(why) = successor(flag).support {
            return Err(format!("--{} is not supported: {why}", flag.name));
        }
    }
    let kind = given.text("auth-token").split(',').next().unwrap_or("");
    if kind != "simple" && !kind.is_empty() {
        return Err(format!("--auth-token={kind} is not supported: only simple tokens are built yet"));
    }
    Ok(())
}

/// Says of every flag that changes nothing that it changes nothing.
pub(super) fn note_ineffective(given: &Given, notes: &mut Vec<Note>) {
    for flag in rows().filter(|flag| given.is_set(flag.name)) {
        let name = flag.name;
        match successor(flag).support {
            Support::Inert(why) if given.is_changed(flag) => {
                notes.push(Note::new(Level::Info, format!("--{name} has no effect: {why}")));
            }
            Support::NotBuilt(what) if given.is_changed(flag) => {
                notes.push(Note::new(Level::Warn, format!("--{name} is not built yet: {what}")));
            }
            Support::TestAid if given.is_changed(flag) => {
                notes.push(Note::new(Level::Warn, format!("--{name} is for tests; do not serve with it")));
            }
            Support::Historic => {
                let note = Note::new(Level::Info, "flag is no longer supported - ignoring");
                notes.push(note.with("flag-name", name));
            }
            _ => {}
        }
    }
    for (gate, on) in gates(given) {
        let msg = format!("feature gate {gate}={on} has no effect on a cluster of one member");
        notes.push(Note::new(Level::Info, msg));
    }
}

/// The row that an older spelling stands for, or the row itself.
fn successor(flag: &'static Flag) -> &'static Flag {
    match flag.support {
        Support::SpelledNow(now) => {
            rows().find(|flag| flag.name == now).expect("older spellings name a row: a test of flags says so")
        }
        _ => flag,
    }
}
