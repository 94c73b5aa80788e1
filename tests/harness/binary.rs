use std::{
    ffi::OsStr,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{Seek as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

/// The binary under test, of the profile the tests were built with; built now unless it is up to date.
///
/// # Panics
///
/// When it does not build.
pub fn callfeed_bin() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(build)
}

fn build() -> PathBuf {
    let profile_dir = build_package("callfeed");
    // A link of its own: several checkouts may share a target folder, and a build of another one replaces the file.
    let mut checkout = DefaultHasher::new();
    env!("CARGO_MANIFEST_DIR").hash(&mut checkout);
    let directory = profile_dir.join(format!("under-test/{:016x}", checkout.finish()));
    fs::create_dir_all(&directory).expect("the target folder can be written to");
    let (link, fresh) = (
        directory.join("callfeed"),
        directory.join(std::process::id().to_string()),
    );
    fs::hard_link(profile_dir.join("callfeed"), &fresh).expect("the binary can be linked to");
    fs::rename(&fresh, &link).expect("a link can be renamed");
    // Renaming one link onto another of the same file leaves both.
    drop(fs::remove_file(&fresh));
    link
}

/// Builds a package of the workspace, in the profile and the target folder of this very program, and returns the directory
/// where its files are.
///
/// # Panics
///
/// When it does not build.
pub fn build_package(package: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a running program has a file");
    // <target>/<profile>/<program>, or <target>/<profile>/deps/<test>-<hash>
    let profile_dir = this
        .ancestors()
        .skip(1)
        .find(|directory| directory.file_name() != Some(OsStr::new("deps")))
        .expect("a program lies in the folder of its profile");
    let target_dir = profile_dir.parent().expect("the profile lies in the target folder");
    let profile = match profile_dir.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--package", package, "--profile", profile])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .arg("--target-dir")
        .arg(target_dir);
    // What cargo told this program about its own package would make it build again what it has.
    for (name, _) in std::env::vars_os() {
        let of_this_package = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
            "CARGO_PRIMARY_",
        ];
        if name
            .to_str()
            .is_some_and(|name| of_this_package.iter().any(|prefix| name.starts_with(prefix)))
        {
            cargo.env_remove(&name);
        }
    }
    let status = cargo.stdin(Stdio::null()).status().expect("cargo runs");
    assert!(status.success(), "{package} did not build; above says why");
    profile_dir.to_owned()
}

/// The commands besides `serve`.
#[derive(Debug)]
pub struct Callfeed;

impl Callfeed {
    /// Runs one command to its end, without blocking the subscribers and clients of the story.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub async fn run(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        Self::output(Self::command(args)).await
    }

    /// The same, with something to read on standard input.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub async fn run_reading(args: impl IntoIterator<Item = impl AsRef<OsStr>>, input: &[u8]) -> Output {
        let mut file = tempfile::tempfile().expect("a file can be made");
        file.write_all(input).expect("it can be written to");
        file.rewind().expect("it can be read");
        let mut command = Self::command(args);
        command.stdin(file);
        Self::output(command).await
    }

    /// The same, with a configuration that is named by the environment.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub async fn run_with(config: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        let mut command = Self::command(args);
        command.env("CALLFEED_CONFIG", config);
        Self::output(command).await
    }

    fn command(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(callfeed_bin());
        command
            .args(args)
            .stdin(Stdio::null())
            .env_remove("CALLFEED_CONFIG")
            .env_remove("CALLFEED_LOG");
        command
    }

    async fn output(mut command: tokio::process::Command) -> Output {
        let output = command.kill_on_drop(true).output().await.expect("callfeed starts");
        Output {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("callfeed prints UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("callfeed prints UTF-8"),
        }
    }
}

/// What a command came to.
#[derive(Debug)]
pub struct Output {
    /// `None` when a signal ended it.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// What it printed, when it succeeded.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.status, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// Each line of what it printed, as JSON.
    ///
    /// # Panics
    ///
    /// When it failed, or a line is not JSON.
    #[track_caller]
    pub fn json_lines(self) -> Vec<Value> {
        self.success()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
            .collect()
    }
}
