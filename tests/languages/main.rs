//! Plugins in three languages, from nothing: projects that `callfeed plugin new` writes and `plugin build` builds, and the
//! examples in JavaScript and Python, each held to everything that `plugin test` knows.
//!
//! What is built stays in `<target>/tools`, by what it was built of.

mod guide;
mod missing;
mod projects;

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher as _},
    path::{Path, PathBuf},
};

use harness::{Callfeed, guest};

/// How a build is done; of another way another component comes.
const BUILD: [&str; 4] = [
    include_str!("../../gateway/src/cli/plugin/pack.rs"),
    include_str!("../../gateway/src/kit/project.rs"),
    include_str!("../../gateway/src/kit/project/build.rs"),
    include_str!("../../gateway/src/kit/project/tools.rs"),
];

/// The files below a folder, by their paths in it.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    fn below(folder: &Path, path: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
        let entries = fs::read_dir(folder.join(path)).expect("the folder can be read");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("the folder can be read").file_name())
            .collect();
        names.sort();
        for path in names.into_iter().map(|name| path.join(name)) {
            let file = folder.join(&path);
            if file.is_dir() {
                below(folder, &path, found);
            } else {
                found.push((path, fs::read(file).expect("the file can be read")));
            }
        }
    }
    let mut found = Vec::new();
    below(folder, Path::new(""), &mut found);
    found
}

/// Builds a copy of a project, unless one of the same files was built before, and says where it is.
async fn built(name: &str, project: &Path) -> PathBuf {
    let files = files(project);
    let mut hash = DefaultHasher::new();
    (&files, BUILD).hash(&mut hash);
    // <target>/<profile>/deps/<test>-<hash> is running.
    let this = std::env::current_exe().expect("a running test has a file");
    let tools = this
        .ancestors()
        .nth(3)
        .expect("a test lies in deps/ of its profile")
        .join("tools");
    fs::create_dir_all(&tools).expect("the build folder can be written to");
    let lock = File::create(tools.join(format!("{name}.lock"))).expect("the build folder can be written to");
    lock.lock().expect("files can be locked");
    let copy = tools.join(format!("{name}-{:016x}", hash.finish()));
    let complete = copy.join(".complete");
    if !complete.exists() {
        // What is there broke off half-way.
        drop(fs::remove_dir_all(&copy));
        for (path, content) in &files {
            let path = copy.join(path);
            fs::create_dir_all(path.parent().expect("it lies in the copy"))
                .expect("the build folder can be written to");
            fs::write(path, content).expect("the build folder can be written to");
        }
        let output = Callfeed::run(["plugin".as_ref(), "build".as_ref(), copy.as_os_str(), "--json".as_ref()]).await;
        assert_eq!(
            output.status,
            Some(0),
            "{name} did not build:\n{}{}",
            output.stdout,
            output.stderr
        );
        File::create(complete).expect("the build folder can be written to");
    }
    copy
}

/// Holds a built project to every check of the kit.
async fn right(project: &Path) {
    // The gateway under test is not optimised, and neither is its compiler.
    let bounds = ["--time", "200", "--mutations", "600", "--bytes", "24"];
    let test = ["plugin".as_ref(), "test".as_ref(), project.as_os_str()];
    let output = Callfeed::run(test.into_iter().chain(bounds.map(AsRef::as_ref))).await;
    assert_eq!(output.status, Some(0), "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("\nright: "), "{}", output.stdout);
}

#[tokio::test]
async fn the_example_in_javascript_is_right() {
    right(&built("quo", &guest::workspace().join("plugins/examples/quo")).await).await;
}

#[tokio::test]
async fn the_example_in_python_is_right() {
    right(&built("dialpad", &guest::workspace().join("plugins/examples/dialpad")).await).await;
}
