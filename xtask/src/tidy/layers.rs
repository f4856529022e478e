//! Who may use what: `bin -> net -> engine -> raft`, pure cores without clocks, files or executors. Read from
//! `Cargo.toml` and from `use` lines.

use super::{File, Finding};

/// A crate and what its `[dependencies]` may hold of this workspace.
struct Layer {
    folder: &'static str,
    may_use: &'static [&'static str],
}

const LAYERS: [Layer; 5] = [
    Layer { folder: "raft", may_use: &[] },
    Layer { folder: "engine", may_use: &["kontiki-raft"] },
    Layer { folder: "net", may_use: &["kontiki-engine", "kontiki-raft"] },
    Layer { folder: "tuning", may_use: &[] },
    Layer { folder: "bin", may_use: &["kontiki-net", "kontiki-engine", "kontiki-raft", "kontiki-tuning"] },
];

/// The drivers: short loops that own the executor, sockets, files and the clock, and feed the cores. No wall stands
/// in them. A new one is added here on purpose.
const DRIVERS: [&str; 14] = [
    "engine/src/disk/dma.rs",
    "engine/src/disk/file.rs",
    "engine/src/disk/peek.rs",
    "engine/src/disk/thread.rs",
    "net/src/listen.rs",
    "bin/src/runtime/ring.rs",
    "bin/src/runtime/portable.rs",
    "bin/src/runtime/stream.rs",
    "bin/src/node.rs",
    "bin/src/conn.rs",
    "bin/src/server.rs",
    "bin/src/wake.rs",
    "bin/src/pulse.rs",
    "bin/src/http.rs",
];

/// Something that a folder may not name.
struct Wall {
    /// Below these paths, in all files but [`DRIVERS`].
    inside: &'static [&'static str],
    /// Nor below these.
    except: &'static [&'static str],
    /// These words.
    words: &'static [&'static str],
    /// Why, and what to do.
    cure: &'static str,
}

const WALLS: [Wall; 5] = [
    Wall {
        inside: &["raft/src/"],
        except: &[],
        words: &["std::time", "std::net", "std::fs", "std::thread", "HashMap", "HashSet", "Instant::now"],
        cure: "raft is a pure state machine: take it as an argument, or use BTreeMap",
    },
    Wall {
        inside: &["engine/src/"],
        except: &["engine/src/map/"],
        words: &["std::net", "Instant::now", "SystemTime::now"],
        cure: "engine's cores take `now`, bytes and completions; this belongs in a driver",
    },
    Wall {
        inside: &["net/src/"],
        except: &[],
        words: &["std::net", "std::fs", "Instant::now", "SystemTime::now", "socket2"],
        cure: "the codec is sans-IO: it takes bytes and `now`, and gives bytes; this belongs in a driver",
    },
    Wall {
        inside: &["raft/src/", "engine/src/", "net/src/", "bin/src/"],
        except: &[],
        words: &["glommio::", "use glommio", "tokio::net", "tokio::runtime", "tokio::task"],
        cure: "executors are seen by drivers only: the others run on both of them, and cores under the simulator as well",
    },
    Wall {
        inside: &["raft/src/", "engine/src/", "net/src/", "bin/src/"],
        except: &["engine/src/map/"],
        words: &["memmap2"],
        cure: "only engine/src/map/ sees mapped memory; others get byte slices",
    },
];

/// Checks one file.
pub fn check(file: &File) -> Vec<Finding> {
    if file.path.ends_with("Cargo.toml") {
        return check_manifest(file);
    }
    if file.is_rust() { check_source(file) } else { Vec::new() }
}

fn check_manifest(file: &File) -> Vec<Finding> {
    let Some(layer) = LAYERS.iter().find(|layer| file.path == format!("{}/Cargo.toml", layer.folder)) else {
        return Vec::new();
    };
    let finding = |message: String| Finding { path: file.path.clone(), line: 0, message };
    let manifest = match file.text.parse::<toml::Table>() {
        Ok(manifest) => manifest,
        Err(error) => return vec![finding(error.to_string())],
    };
    let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
    let names = dependencies.into_iter().flat_map(|table| table.keys());
    let ours = names.filter(|name| name.starts_with("kontiki"));
    ours.filter(|name| !layer.may_use.contains(&name.as_str()))
        .map(|name| {
            finding(format!(
                "{} may not use {name}: arrows go bin -> net -> engine -> raft; move what you need down, or pass it in",
                layer.folder
            ))
        })
        .collect()
}

fn check_source(file: &File) -> Vec<Finding> {
    let walls = WALLS.iter().filter(|wall| {
        let below = |folders: &[&str]| folders.iter().any(|folder| file.path.starts_with(folder));
        below(wall.inside) && !below(wall.except) && !DRIVERS.contains(&file.path.as_str())
    });
    let walls = walls.filter(|_| !is_test(&file.path));
    let mut findings = Vec::new();
    for wall in walls {
        for (index, line) in product_lines(&file.text) {
            let code = line.split("//").next().unwrap_or_default();
            if let Some(word) = wall.words.iter().find(|word| code.contains(**word)) {
                let message = format!("`{word}`: {}", wall.cure);
                findings.push(Finding { path: file.path.clone(), line: index + 1, message });
            }
        }
    }
    findings
}

/// Tests in a file of their own, or several.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The lines before the tests at the bottom; tests may use clocks and files.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.into(), text: text.into() };
        check(&file).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn arrows_point_one_way() {
        let bad = messages("raft/Cargo.toml", "[dependencies]\nkontiki-engine = { path = \"../engine\" }");
        assert_eq!(bad.len(), 1);
        assert!(bad[0].starts_with("raft may not use kontiki-engine"), "{bad:?}");
        assert_eq!(messages("net/Cargo.toml", "[dependencies]\nkontiki-engine.workspace = true"), [""; 0]);
        assert_eq!(messages("tests/Cargo.toml", "[dependencies]\nkontiki.workspace = true"), [""; 0]);
    }

    #[test]
    fn walls_hold_in_product_code() {
        let check = |path: &str, text: &str, expected: usize| {
            assert_eq!(messages(path, text).len(), expected, "{path}: {text}");
        };
        check("raft/src/log.rs", "use std::collections::HashMap;", 1);
        check("raft/src/log.rs", "// not a HashMap", 0);
        check("raft/src/log.rs", "#[cfg(test)]\nmod tests { use std::fs; }", 0);
        check("engine/src/wal/writer.rs", "use glommio::io::DmaFile;", 1);
        check("engine/src/disk/dma.rs", "use glommio::io::DmaFile;", 0);
        check("bin/src/metrics.rs", "glommio::executor().yield_now().await;", 1);
        check("bin/src/metrics.rs", "let now = Instant::now();", 0);
        check("engine/src/map/file.rs", "use memmap2::Mmap;", 0);
        check("net/src/h2/stream.rs", "let now = Instant::now();", 1);
        check("net/src/front/tests/node.rs", "let now = Instant::now();", 0);
        check("net/src/front/tests.rs", "let now = Instant::now();", 0);
    }

    #[test]
    fn drivers_exist() {
        for driver in DRIVERS {
            assert!(crate::root().join(driver).is_file(), "{driver} is gone: take it off the list");
        }
    }
}
