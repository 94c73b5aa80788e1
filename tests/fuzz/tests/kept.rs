//! What is kept, and what is near it, keeps every promise.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use callfeed_fuzz::{TARGETS, Target};
use fastrand::Rng;

/// Mutations of each target's inputs.
const MUTATIONS: usize = 500;
const PROVIDERS: [&str; 5] = ["magnetis", "magpipe", "salpre", "topcalls", "voxagent"];

#[test]
fn what_is_kept_and_what_is_near_it_keeps_every_promise() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<String> = entries(&here.join("corpus")).iter().map(|path| name(path)).collect();
    folders.sort();
    assert_eq!(
        folders,
        TARGETS.map(|(name, _)| name),
        "every target has a corpus, and no other"
    );

    std::thread::scope(|scope| {
        for (name, target) in TARGETS {
            scope.spawn(move || play(name, target, here));
        }
    });
}

fn play(name: &str, target: Target, here: &Path) {
    let mut inputs: Vec<(String, Vec<u8>)> = entries(&here.join("corpus").join(name))
        .iter()
        .map(|path| (path.display().to_string(), fs::read(path).expect("it can be read")))
        .collect();
    inputs.extend(seeds(name, here));
    assert!(inputs.len() > 1, "{name} has nothing to play");
    for (what, input) in &inputs {
        hold(target, input, what);
    }
    // The same on every run.
    let mut random = Rng::with_seed(0x9e37_79b9_7f4a_7c15);
    for turn in 0..MUTATIONS {
        let (what, input) = &inputs[random.usize(..inputs.len())];
        let (_, other) = &inputs[random.usize(..inputs.len())];
        hold(
            target,
            &mutated(&mut random, input, other),
            &format!("mutation {turn}, of {what}"),
        );
    }
}

fn hold(target: Target, input: &[u8], what: &str) {
    let kept = catch_unwind(AssertUnwindSafe(|| target(input)));
    assert!(
        kept.is_ok(),
        "{what} breaks a promise, above says which; the input: {}",
        input.escape_ascii()
    );
}

/// What is kept elsewhere: every provider's cases, and the configurations.
fn seeds(name: &str, here: &Path) -> Vec<(String, Vec<u8>)> {
    let root = here.ancestors().nth(2).expect("it stands two levels below the root");
    let mut paths = Vec::new();
    if PROVIDERS.contains(&name) {
        for case in entries(&root.join("plugins").join(name).join("cases")) {
            paths.push(case.join("request.http"));
        }
    }
    if name == "config" {
        paths.push(root.join("config.example.toml"));
        paths.extend(entries(&root.join("gateway/src/config/tests")));
    }
    let files = paths.into_iter().filter(|path| path.is_file());
    files
        .map(|path| (path.display().to_string(), fs::read(path).expect("it can be read")))
        .collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = found.map(|entry| entry.expect("it can be read").path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name()
        .and_then(|name| name.to_str())
        .expect("names are text")
        .to_owned()
}

/// An input with some bytes changed, taken out, doubled, or taken from another one.
fn mutated(random: &mut Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
    const WORDS: [&str; 20] = [
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "true",
        "-0",
        "1e400",
        "\\ud800",
        "\\u0000",
        "\n",
        "\r\n",
        "%5B",
        "é",
        "\u{2028}",
        "9999999999999999999",
    ];
    let mut input = input.to_vec();
    for _ in 0..=random.usize(..4) {
        let at = random.usize(..=input.len());
        let length = random.usize(..16).min(input.len() - at);
        match random.usize(..6) {
            0 if at < input.len() => input[at] ^= 1 << random.usize(..8),
            1 => drop(input.drain(at..at + length)),
            2 => {
                let piece = input[at..at + length].to_vec();
                input.splice(at..at, piece);
            }
            3 => {
                let from = random.usize(..=other.len());
                let end = (from + random.usize(..64)).min(other.len());
                input.splice(at..at + length, other[from..end].iter().copied());
            }
            4 => {
                let to = random.usize(..=input.len());
                let piece = input[at..at + length].to_vec();
                input.splice(to..to, piece);
            }
            _ => {
                let word = WORDS[random.usize(..WORDS.len())];
                input.splice(at..at, word.bytes());
            }
        }
    }
    input
}
