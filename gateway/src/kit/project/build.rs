//! From a project to its component, by the tools of its language.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Error, Language, tools};

/// What was made.
#[derive(Debug)]
pub struct Built {
    pub name: String,
    pub language: Language,
    /// `<name>.wasm` in the project's folder.
    pub path: PathBuf,
}

/// A command that is about to run.
#[derive(Debug)]
pub struct Step<'s> {
    pub what: &'s str,
    /// As it would be typed in the project's folder.
    pub command: String,
}

/// Builds the project in a folder. What the tools say goes to standard error.
///
/// # Errors
///
/// A folder without a project, a tool that is missing, and one that fails.
pub fn build(directory: &Path, progress: &mut dyn FnMut(Step<'_>)) -> Result<Built, Error> {
    let has_manifest = |language: &Language| directory.join(language.manifest()).is_file();
    let language = Language::ALL
        .into_iter()
        .find(has_manifest)
        .ok_or_else(|| Error::NoProject(directory.to_owned()))?;
    // Tools change into the folder, and a relative path would not lead there twice.
    let directory = fs::canonicalize(directory).map_err(|source| Error::Manifest {
        path: directory.to_owned(),
        what: source.to_string(),
    })?;
    let mut site = Site {
        directory: &directory,
        progress,
    };
    let name = match language {
        Language::Rust => site.rust()?,
        Language::JavaScript => site.javascript()?,
        Language::Python => site.python()?,
    };
    let path = directory.join(format!("{name}.wasm"));
    if !path.is_file() {
        return Err(Error::NothingMade {
            what: "the build".to_owned(),
            path,
        });
    }
    Ok(Built { name, language, path })
}

struct Site<'s> {
    directory: &'s Path,
    progress: &'s mut dyn FnMut(Step<'_>),
}

impl Site<'_> {
    fn rust(&mut self) -> Result<String, Error> {
        let cargo = tools::cargo()?;
        let manifest = self.toml("Cargo.toml")?;
        let name = self.text(&manifest, "Cargo.toml", &["package", "name"])?;
        let library = manifest.get("lib").and_then(|lib| lib.get("name"));
        let library = library.and_then(toml::Value::as_str).unwrap_or(&name).replace('-', "_");
        let mut build = Command::new(cargo);
        build.args([
            "build",
            "--release",
            "--target",
            "wasm32-wasip2",
            "--target-dir",
            "target",
        ]);
        // Flags meant for this machine's programs would break the component or change it.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            let meant = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_"];
            if meant.iter().any(|prefix| name.starts_with(prefix)) || name == "RUSTFLAGS" {
                build.env_remove(&*name);
            }
        }
        build.env("CARGO_ENCODED_RUSTFLAGS", "");
        self.run("the compiler", &mut build)?;
        let made = self
            .directory
            .join(format!("target/wasm32-wasip2/release/{library}.wasm"));
        let copied = fs::copy(&made, self.directory.join(format!("{name}.wasm")));
        copied.map_err(|_| Error::NothingMade {
            what: "cargo".to_owned(),
            path: made,
        })?;
        Ok(name)
    }

    fn javascript(&mut self) -> Result<String, Error> {
        let npm = tools::npm()?;
        let path = self.directory.join("package.json");
        let text = self.read("package.json")?;
        let manifest: Value = serde_json::from_str(&text).map_err(|error| Error::Manifest {
            path: path.clone(),
            what: error.to_string(),
        })?;
        let name = manifest["name"]
            .as_str()
            .map(|name| name.rsplit('/').next().unwrap_or(name));
        let name = name.ok_or_else(|| Error::Manifest {
            path,
            what: "it has no \"name\"".to_owned(),
        })?;
        let lock = self.read("package-lock.json").unwrap_or_default();
        self.once("node_modules", &[&text, &lock], |site| {
            let mut install = Command::new(&npm);
            install.arg(if lock.is_empty() { "install" } else { "ci" });
            install.args(["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]);
            site.run("npm (does it reach a registry?)", &mut install)
        })?;
        let mut build = Command::new(npm);
        self.run(
            "the build script of package.json",
            build.args(["run", "--silent", "build"]),
        )?;
        Ok(name.to_owned())
    }

    fn python(&mut self) -> Result<String, Error> {
        let python = tools::python()?;
        let manifest = self.toml("pyproject.toml")?;
        let name = self.text(&manifest, "pyproject.toml", &["project", "name"])?;
        let list = |table: &str, key: &str| {
            let items = manifest.get(table).and_then(|table| table.get(key));
            let items = items.and_then(toml::Value::as_array).into_iter().flatten();
            items
                .filter_map(toml::Value::as_str)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let requirements = [list("dependency-groups", "build"), list("project", "dependencies")].concat();
        let bin = if cfg!(windows) { ".venv/Scripts" } else { ".venv/bin" };
        let interpreter = python.display().to_string();
        self.once(".venv", &[&requirements.join("\n"), &interpreter], |site| {
            let mut venv = Command::new(&python);
            site.run("venv", venv.args(["-m", "venv", ".venv"]))?;
            let mut pip = Command::new(site.directory.join(bin).join("python"));
            pip.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-input",
                "--disable-pip-version-check",
            ]);
            site.run("pip (does it reach a package index?)", pip.args(&requirements))
        })?;
        let mut build = Command::new(self.directory.join(bin).join("componentize-py"));
        build.args([
            "--quiet",
            "--wit-path",
            "wit",
            "--world",
            "provider",
            "componentize",
            "--stub-wasi",
        ]);
        build.args(["plugin", "--output", &format!("{name}.wasm")]);
        // Where it looks for packages to build in; and a trace of the tool's own says nothing to an author.
        build
            .env("VIRTUAL_ENV", self.directory.join(".venv"))
            .env("RUST_BACKTRACE", "0");
        self.run("componentize-py", &mut build)?;
        Ok(name)
    }

    fn read(&self, file: &str) -> Result<String, Error> {
        let path = self.directory.join(file);
        fs::read_to_string(&path).map_err(|error| Error::Manifest {
            path,
            what: error.to_string(),
        })
    }

    fn toml(&self, file: &str) -> Result<toml::Table, Error> {
        toml::from_str(&self.read(file)?).map_err(|error| Error::Manifest {
            path: self.directory.join(file),
            what: error.to_string(),
        })
    }

    fn text(&self, manifest: &toml::Table, file: &str, [table, key]: &[&str; 2]) -> Result<String, Error> {
        let value = manifest.get(*table).and_then(|table| table.get(*key));
        value
            .and_then(toml::Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| Error::Manifest {
                path: self.directory.join(file),
                what: format!("it has no {table}.{key}"),
            })
    }

    /// Installs into a folder, unless that was done and nothing it was made of has changed since.
    fn once(
        &mut self,
        folder: &str,
        made_of: &[&str],
        install: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let digest = Sha256::digest(made_of.join("\0"));
        let complete = digest.iter().fold("callfeed-complete-".to_owned(), |mut text, byte| {
            text += &format!("{byte:02x}");
            text
        });
        let complete = self.directory.join(folder).join(complete);
        if complete.exists() {
            return Ok(());
        }
        // What is there broke off half-way, or is another version's.
        drop(fs::remove_dir_all(self.directory.join(folder)));
        install(self)?;
        fs::create_dir_all(self.directory.join(folder))
            .and_then(|()| fs::write(&complete, ""))
            .map_err(|source| Error::Write { path: complete, source })
    }

    fn run(&mut self, what: &str, command: &mut Command) -> Result<(), Error> {
        let program = Path::new(command.get_program());
        let program = program.strip_prefix(self.directory).unwrap_or_else(|_| {
            let name = program.file_name().unwrap_or_default();
            Path::new(name)
        });
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        let words: Vec<_> = std::iter::once(program.display().to_string()).chain(words).collect();
        (self.progress)(Step {
            what,
            command: words.join(" "),
        });
        // Standard output is for what was built.
        command
            .current_dir(self.directory)
            .stdin(Stdio::null())
            .stdout(std::io::stderr());
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            _ => Err(Error::Step { what: what.to_owned() }),
        }
    }
}
