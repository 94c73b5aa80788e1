//! An author's project: written whole by [`create`], made a component by [`build`]. A project stands alone: the SDK and
//! the contract are in it, so nothing of this repository is needed to build it.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

mod build;
mod tools;

pub use build::{Built, Step, build};

include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// What stands in the templates for the project's name, and for the provider's name as people write it.
const NAME: &str = "{{name}}";
const TITLE: &str = "{{title}}";

const NAME_BYTES_MAX: usize = 40;

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Rust,
    JavaScript,
    Python,
}

impl Language {
    pub const ALL: [Self; 3] = [Self::Rust, Self::JavaScript, Self::Python];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "javascript",
            Self::Python => "python",
        }
    }

    /// The file that says that a folder is a project in this language.
    fn manifest(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::JavaScript => "package.json",
            Self::Python => "pyproject.toml",
        }
    }
}

/// Why a project was not written or not built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{0:?} is no name for a plugin: 1 to {NAME_BYTES_MAX} lower-case letters, digits and hyphens, a letter first and no \
         hyphen last"
    )]
    Name(String),
    #[error("{} is there already; nothing was written", .0.display())]
    Exists(PathBuf),
    #[error("failed to write {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("there is no plugin's project in {}: it has no {}", .0.display(), manifests())]
    NoProject(PathBuf),
    #[error("{}: {what}", path.display())]
    Manifest { path: PathBuf, what: String },
    #[error("{what} is missing. To install it: {remedy}")]
    Missing { what: String, remedy: &'static str },
    #[error("{what} failed; what it said is above")]
    Step { what: String },
    #[error("{what} made no {}", path.display())]
    NothingMade { what: String, path: PathBuf },
}

fn manifests() -> String {
    Language::ALL.map(Language::manifest).join(", ")
}

/// Writes a project into a folder that is not there yet, and gives the paths of its files within it.
///
/// # Errors
///
/// A name that cannot be one, a folder that is there, and what cannot be written.
pub fn create(name: &str, language: Language, directory: &Path) -> Result<Vec<String>, Error> {
    check_name(name)?;
    let written = |path: &Path, done: std::io::Result<()>| {
        done.map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
    };
    if let Some(parent) = directory.parent() {
        written(parent, fs::create_dir_all(parent))?;
    }
    match fs::create_dir(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(Error::Exists(directory.to_owned())),
        done => written(directory, done)?,
    }
    let title = title(name);
    let mut paths = Vec::new();
    for (path, content) in files(language) {
        let file = directory.join(&path);
        if let Some(folder) = file.parent() {
            written(folder, fs::create_dir_all(folder))?;
        }
        written(
            &file,
            fs::write(&file, content.replace(NAME, name).replace(TITLE, &title)),
        )?;
        paths.push(path);
    }
    Ok(paths)
}

/// The templates of a language, by the path each has in a project.
fn files(language: Language) -> impl Iterator<Item = (String, &'static str)> {
    TEMPLATES.iter().filter_map(move |(path, content)| {
        let (folder, path) = path.split_once('/')?;
        // In this repository it must not be one.
        let path = if path == "gitignore" { ".gitignore" } else { path };
        ["common", language.as_str()]
            .contains(&folder)
            .then(|| (path.to_owned(), *content))
    })
}

/// It is the name of a provider in routes and paths, of a package in three languages, and of a file.
fn check_name(name: &str) -> Result<(), Error> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && !name.contains("--")
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    // What a package cannot be called, and the SDK is.
    let taken = [
        "callfeed",
        "callfeed-plugin",
        "node-modules",
        "plugin",
        "test",
        "core",
        "std",
    ]
    .contains(&name);
    match fits && !taken {
        true => Ok(()),
        false => Err(Error::Name(name.to_owned())),
    }
}

/// `acme-calls` is `Acme Calls`.
fn title(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at(1.min(word.len()));
        first.to_ascii_uppercase() + rest
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_written_whole_and_over_nothing() {
        let directory = tempfile::tempdir().unwrap();
        for language in Language::ALL {
            let project = directory.path().join(language.as_str());
            let paths = create("acme-calls", language, &project).unwrap();
            for needed in [
                language.manifest(),
                "README.md",
                ".gitignore",
                "cases/route.toml",
                "cases/call-ended/request.http",
                "cases/call-ended/expected.json",
            ] {
                assert!(paths.iter().any(|path| path == needed), "{language:?} has no {needed}");
            }
            for path in &paths {
                let content = fs::read_to_string(project.join(path)).unwrap();
                assert!(!content.contains(NAME) && !content.contains(TITLE), "{path}");
            }
            let readme = fs::read_to_string(project.join("README.md")).unwrap();
            assert!(readme.starts_with("# Acme Calls\n"), "{readme}");
            let again = create("acme-calls", language, &project).unwrap_err();
            assert!(matches!(again, Error::Exists(_)), "{again}");
        }
    }

    #[test]
    fn a_name_fits_everywhere() {
        for name in ["acme", "a", "acme-calls-2"] {
            check_name(name).unwrap();
        }
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for name in [
            "", "Acme", "2acme", "-acme", "acme-", "a--b", "a_b", "a b", "../a", "é", "plugin", &long,
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    /// The project is its own workspace, so it repeats the versions that the SDK is built with here.
    #[test]
    fn a_rust_project_has_the_dependencies_of_the_sdk() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let dependencies =
            |text: &str| toml::from_str::<toml::Table>(text).unwrap()["workspace"]["dependencies"].clone();
        let ours = dependencies(&fs::read_to_string(root.join("Cargo.toml")).unwrap());
        let (_, template) = files(Language::Rust).find(|(path, _)| path == "Cargo.toml").unwrap();
        let theirs = dependencies(&template.replace(NAME, "acme"));
        for (name, version) in theirs.as_table().unwrap() {
            assert_eq!(ours.get(name), Some(version), "{name}");
        }
        let sdk = fs::read_to_string(root.join("plugins/sdk/Cargo.toml")).unwrap();
        let sdk: toml::Table = toml::from_str(&sdk).unwrap();
        let native = &sdk["target"]["cfg(not(target_arch = \"wasm32\"))"];
        for list in [&sdk["dependencies"], &sdk["dev-dependencies"], &native["dependencies"]] {
            for name in list.as_table().unwrap().keys() {
                assert!(
                    theirs.get(name).is_some(),
                    "plugins/templates/rust/Cargo.toml lacks {name}"
                );
            }
        }
    }

    /// An example is a project as `create` writes it, apart from the plugin itself.
    #[test]
    fn the_examples_are_made_as_a_new_project_is() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/examples");
        for (language, example, made) in [
            (
                Language::JavaScript,
                "quo",
                &["package.json", "package-lock.json", ".gitignore"][..],
            ),
            (Language::Python, "dialpad", &["pyproject.toml", ".gitignore"]),
        ] {
            for file in made {
                let (_, template) = files(language).find(|(path, _)| path == file).unwrap();
                let theirs = fs::read_to_string(examples.join(example).join(file)).unwrap();
                let new = template.replace(NAME, example).replace(TITLE, &title(example));
                assert_eq!(theirs, new, "{example}/{file} differs from that of a new project");
            }
        }
    }
}
