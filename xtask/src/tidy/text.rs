//! Rules about single files: length, module docs, words that must not be there, and where unsafe code may live.

use super::{File, Finding};

const LINES_MAX: usize = 900;

/// Written by tools and checked in, never edited.
const GENERATED: &str = "_generated.rs";

/// Folders and files whose unsafe blocks have been argued for.
const UNSAFE_ALLOWED: [&str; 4] = [
    "engine/src/map/",
    // The model that loom explores shares cells on purpose.
    "engine/tests/loom_publish.rs",
    "net/src/listen.rs",
    "tuning/src/probe/ring_driver.rs",
];

// The words are put together here, or this file would break its own rules.
const UNSAFE_FORMS: [&str; 5] = [
    concat!("unsafe", " {"),
    concat!("unsafe", " fn "),
    concat!("unsafe", " impl"),
    concat!("unsafe", " extern"),
    concat!("unsafe", " trait"),
];
const UNFINISHED: [&str; 4] =
    [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore"), concat!("db", "g!(")];
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
const REGISTRIES: [&str; 4] = [
    concat!("proxy.go", "lang.org"),
    concat!("index.cra", "tes.io"),
    concat!("py", "pi.org"),
    concat!("registry.np", "mjs"),
];

/// Checks one file.
pub fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut note = |line: usize, message: String| {
        findings.push(Finding { path: file.path.clone(), line, message });
    };
    if file.is_rust() && !file.path.ends_with(GENERATED) {
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            note(
                0,
                format!(
                    "{lines} lines; split it where \"this file is about\" needs an \"and\" ({LINES_MAX} at most)"
                ),
            );
        }
        if !file.text.starts_with("//!") {
            note(
                1,
                "no module docs; open with `//!`: what it is for, what it does not do, where it comes from"
                    .into(),
            );
        }
    }
    for (index, line) in file.text.lines().enumerate() {
        for message in check_line(file, line) {
            note(index + 1, message);
        }
    }
    findings
}

fn check_line(file: &File, line: &str) -> Vec<String> {
    let mut messages = Vec::new();
    let code = line.split("//").next().unwrap_or_default();
    if file.is_rust() {
        if let Some(word) = UNFINISHED.iter().find(|word| code.contains(**word)) {
            messages.push(format!("`{word}`: finish it, or leave it out and list it in docs/"));
        }
        let allowed = UNSAFE_ALLOWED.iter().any(|allowed| file.path.starts_with(allowed));
        if !allowed && UNSAFE_FORMS.iter().any(|form| code.contains(form)) {
            messages.push(format!(
                "unsafe code; it may live in {} only: use what they export",
                UNSAFE_ALLOWED.join(", ")
            ));
        }
    }
    if let Some(path) = MACHINE_PATHS.iter().find(|path| names_path(line, path)) {
        messages
            .push(format!("`{path}` exists on one machine; use a path below the repository or a variable"));
    }
    if let Some(host) = REGISTRIES.iter().find(|host| line.contains(**host)) {
        messages.push(format!("`{host}`: clients know their registry; leave the host out"));
    }
    messages
}

/// Whether `line` has `path` from the root on, not as a part of a longer path such as `a/home/b`.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '}' | '$' | '*')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.into(), text: text.into() };
        check(&file).into_iter().map(|finding| format!("{}: {}", finding.line, finding.message)).collect()
    }

    #[test]
    fn broken_rules_are_found() {
        let check = |path: &str, text: &str, expected: &str| {
            let found = messages(path, text);
            assert_eq!(found.len(), 1, "{path}: {found:?}");
            assert!(found[0].contains(expected), "{found:?}");
        };
        check("raft/src/a.rs", "fn a() {}", "no module docs");
        check("raft/src/a.rs", &format!("//! A.\n{}", "\n".repeat(LINES_MAX)), "split it");
        check("raft/src/a.rs", &format!("//! A.\n{}\")", UNFINISHED[0]), "finish it");
        check("net/src/h2.rs", "//! A.\nlet a = unsafe { b() };", "unsafe code");
        check("docs/a.md", &format!("see {}x", MACHINE_PATHS[0]), "exists on one machine");
        check("docs/a.md", &format!("from https://{}", REGISTRIES[0]), "leave the host out");
    }

    #[test]
    fn what_is_fine_stays() {
        let check = |path: &str, text: &str| assert_eq!(messages(path, text), [""; 0], "{path}");
        check("raft/src/a.rs", "//! A.\n// unsafe { in a comment }");
        check("engine/src/map/page.rs", "//! A.\nlet a = unsafe { b() };");
        check("net/src/listen.rs", "//! A.\nlet a = unsafe { b() };");
        check("bin/src/flags.rs", "//! A.\nconst A: &str = \"--unsafe-no-fsync\";");
        check("docs/a.md", &format!("a{}b", MACHINE_PATHS[2]));
    }
}
