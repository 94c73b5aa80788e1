//! Python and Node with the packages that consumers use, installed once into `<target>/tools`.
//!
//! A folder there belongs to one set of pinned versions and one interpreter, and is complete once it says so; processes
//! that want it at the same moment wait for each other. Nothing is skipped: what cannot be installed fails the test, with
//! the command that helps.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// Where this test and what it runs stand.
pub(crate) const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/consumers");

const REQUIREMENTS: &str = include_str!("requirements.txt");
const NODE_PACKAGES: [(&str, &str); 3] = [
    ("package.json", include_str!("package.json")),
    ("package-lock.json", include_str!("package-lock.json")),
    (".npmrc", include_str!(".npmrc")),
];

/// What an operator or another project may have set for interpreters and must not reach ours.
const FOREIGN: [&str; 6] = [
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "VIRTUAL_ENV",
    "NODE_OPTIONS",
    "NODE_PATH",
];

/// A command that runs a script of this folder in Python.
pub(crate) fn python(script: &str) -> Command {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let mut command = bare(PYTHON.get_or_init(install_python));
    // Scripts run where they stand, and nothing is to be written there.
    command.arg("-B").arg(Path::new(HERE).join(script));
    command
}

/// A command that runs a script of this folder in Node.
pub(crate) fn node(script: &str) -> Command {
    static NODE: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    let (node, scripts) = NODE.get_or_init(install_node);
    let mut command = bare(node);
    command.arg(scripts.join(script));
    command
}

/// `curl`, as it is found.
pub(crate) fn curl() -> PathBuf {
    find("curl", &["--version"], |_| true)
        .unwrap_or_else(|| panic!("curl is needed: apt-get install curl"))
        .0
}

fn install_python() -> PathBuf {
    let about = "import sys, venv, ensurepip; print(sys.executable, *sys.version_info[:2], sep='\\n')";
    // The interpreter says itself where it is: what stands in PATH may be a shim that chooses by directory.
    let base = find("python3", &["-c", about], |said| {
        said.lines().skip(1).map(number).ge([3, 10])
    });
    let (_, said) = base.unwrap_or_else(|| {
        panic!("Python 3.10 or later is needed, with venv and pip: apt-get install python3 python3-venv python3-pip")
    });
    let folder = installed(&tools_dir(), "python", &(REQUIREMENTS, &said), |folder| {
        let base = said.lines().next().expect("the interpreter said where it is");
        run(
            bare(base).args(["-m", "venv"]).arg(folder),
            "apt-get install python3-venv",
        );
        let mut pip = bare(venv_python(folder));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            "--no-deps",
            "-r",
        ]);
        run(
            pip.arg(Path::new(HERE).join("requirements.txt")),
            "a package index that pip reaches",
        );
    });
    venv_python(&folder)
}

fn venv_python(folder: &Path) -> PathBuf {
    folder.join("bin").join("python")
}

/// The interpreter, and the folder of the scripts.
fn install_node() -> (PathBuf, PathBuf) {
    const REMEDY: &str = "apt-get install nodejs npm";
    let about = "console.log(process.execPath + '\\n' + process.versions.node)";
    let found = find("node", &["-e", about], |said| {
        said.lines().nth(1).map(number) >= Some(20)
    });
    let (_, said) = found.unwrap_or_else(|| panic!("Node 20 or later is needed: {REMEDY}"));
    let (npm, _) = find("npm", &["--version"], |_| true).unwrap_or_else(|| panic!("npm is needed: {REMEDY}"));
    let packages = installed(&tools_dir(), "node", &(NODE_PACKAGES, &said), |folder| {
        fs::create_dir_all(folder).expect("the build folder can be written to");
        for (name, content) in NODE_PACKAGES {
            fs::write(folder.join(name), content).expect("the build folder can be written to");
        }
        let mut npm = bare(&npm);
        npm.current_dir(folder)
            .args(["ci", "--ignore-scripts", "--loglevel", "error"]);
        run(&mut npm, "a package registry that npm reaches");
    });
    // Node looks for packages in the folders above a script, so the scripts have to stand below them.
    let mut scripts = Vec::new();
    scripts_below(Path::new(""), &mut scripts);
    let folder = installed(&packages, "scripts", &scripts, |folder| {
        for (path, content) in &scripts {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("it lies in the folder"))
                .expect("the build folder can be written to");
            fs::write(path, content).expect("the build folder can be written to");
        }
    });
    (said.lines().next().expect("Node said where it is").into(), folder)
}

/// The leading number of a version.
fn number(version: &str) -> u32 {
    version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .unwrap_or_default()
}

/// The folder of what is made of this, made by `install` unless it is complete.
fn installed(parent: &Path, name: &str, made_of: &impl Hash, install: impl FnOnce(&Path)) -> PathBuf {
    const COMPLETE: &str = "complete";
    let mut hash = DefaultHasher::new();
    made_of.hash(&mut hash);
    fs::create_dir_all(parent).expect("the build folder can be written to");
    let folder = parent.join(format!("{name}-{:016x}", hash.finish()));
    let lock = File::create(parent.join(format!("{name}.lock"))).expect("the build folder can be written to");
    lock.lock().expect("files can be locked");
    if !folder.join(COMPLETE).exists() {
        // What is there broke off half-way.
        drop(fs::remove_dir_all(&folder));
        install(&folder);
        File::create(folder.join(COMPLETE)).expect("the build folder can be written to");
    }
    folder
}

/// `<target>/<profile>/deps/<test>-<hash>` is running.
fn tools_dir() -> PathBuf {
    let this = env::current_exe().expect("a running test has a file");
    this.ancestors()
        .nth(3)
        .expect("a test lies in deps/ of its profile")
        .join("tools")
}

/// The first program of this name in `PATH` that answers, and answers well; with its answer.
fn find(name: &str, question: &[&str], good: impl Fn(&str) -> bool) -> Option<(PathBuf, String)> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .filter(|program| program.is_file())
        .find_map(|program| {
            let output = bare(&program)
                .args(question)
                .output()
                .ok()
                .filter(|output| output.status.success())?;
            let said = String::from_utf8(output.stdout).ok()?;
            good(&said).then_some((program, said))
        })
}

fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(HERE).stdin(Stdio::null());
    for name in FOREIGN {
        command.env_remove(name);
    }
    command
}

fn run(command: &mut Command, remedy: &str) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}. It needs: {remedy}"));
    assert!(
        output.status.success(),
        "{command:?} failed. It needs: {remedy}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Every script for Node below a folder of this one, with its content.
fn scripts_below(folder: &Path, scripts: &mut Vec<(PathBuf, Vec<u8>)>) {
    let entries = fs::read_dir(Path::new(HERE).join(folder)).expect("this folder can be read");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("this folder can be read").file_name())
        .collect();
    names.sort();
    for path in names.into_iter().map(|name| folder.join(name)) {
        let file = Path::new(HERE).join(&path);
        if file.is_dir() {
            scripts_below(&path, scripts);
        } else if path.extension().is_some_and(|kind| kind == "mjs" || kind == "cjs") {
            scripts.push((path, fs::read(file).expect("this folder can be read")));
        }
    }
}

#[test]
fn the_lock_files_name_versions_and_no_registry() {
    let lock = NODE_PACKAGES[1].1;
    assert!(
        !lock.contains("\"resolved\""),
        "package-lock.json names a registry; .npmrc keeps npm from writing it"
    );
    for line in REQUIREMENTS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        assert!(line.contains("==") && !line.contains("://"), "{line}");
    }
}
