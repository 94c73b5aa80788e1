//! The files that cases are kept in, in a folder or in a component, which carries the same files in a section of its own.
//! `schemas/plugin/CHANGELOG.md` says how that section may change. What stands in a file is for [`Case`](super::Case) to know.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::telemetry::one_line;

/// What a component may carry: they are run before it serves, and a reload waits for them.
pub(super) const EMBEDDED_CASES_MAX: usize = 256;
/// Bytes that are told of what a component carries and is no case.
const TOLD_BYTES: usize = 200;

pub(super) const ROUTE: &str = "route.toml";
pub(super) const REQUEST: &str = "request.http";
pub(super) const EXPECTED: &str = "expected.json";

/// Why cases cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct Error {
    path: PathBuf,
    what: String,
}

impl Error {
    pub(super) fn new(path: &Path, what: impl ToString) -> Self {
        Self {
            path: path.to_owned(),
            what: what.to_string(),
        }
    }
}

/// The files of cases, from a directory or out of a component.
#[derive(Debug, Clone)]
pub struct Files {
    /// The directory, or what stands for it.
    origin: PathBuf,
    /// By their paths below it.
    contents: BTreeMap<String, Vec<u8>>,
}

impl Files {
    /// # Errors
    ///
    /// The first file that cannot be read, and a folder without a webhook.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let mut files = Self {
            origin: directory.to_owned(),
            contents: BTreeMap::new(),
        };
        files.take(ROUTE.to_owned(), &directory.join(ROUTE))?;
        let entries = fs::read_dir(directory).map_err(|error| Error::new(directory, error))?;
        for entry in entries {
            let path = entry.map_err(|error| Error::new(directory, error))?.path();
            if !path.is_dir() {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for file in [ROUTE, REQUEST, EXPECTED] {
                let is_there = files.take(format!("{name}/{file}"), &path.join(file))?;
                if !is_there && file == REQUEST {
                    return Err(Error::new(&path.join(file), "is not there, and a case has one"));
                }
            }
        }
        Ok(files)
    }

    fn take(&mut self, key: String, path: &Path) -> Result<bool, Error> {
        match fs::read(path) {
            Ok(content) => Ok(self.contents.insert(key, content).is_none()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::new(path, error)),
        }
    }

    /// Reads the section of a component in this file.
    ///
    /// # Errors
    ///
    /// What in it is no file of a case, and more cases than a component may carry.
    pub fn embedded(section: &[u8], file: &Path) -> Result<Self, Error> {
        let mut origin = file.as_os_str().to_owned();
        origin.push("#cases");
        let origin = PathBuf::from(origin);
        let texts: BTreeMap<String, String> = serde_json::from_slice(section).map_err(|error| {
            // Not in the parser's words, which show the value.
            let (line, column) = (error.line(), error.column());
            let what = format!("is no JSON object of paths and base64: line {line}, column {column}");
            Error::new(&origin, what)
        })?;
        let mut contents = BTreeMap::new();
        for (path, text) in texts {
            let is_known = match path.split('/').collect::<Vec<_>>()[..] {
                [ROUTE] => true,
                [name, ROUTE | REQUEST | EXPECTED] => !name.is_empty() && !name.contains(char::is_control),
                _ => false,
            };
            let told = one_line(&path, TOLD_BYTES);
            if !is_known {
                return Err(Error::new(&origin, format!("{told:?} is no file of a case")));
            }
            let content = BASE64_STANDARD
                .decode(text)
                .map_err(|_| Error::new(&origin.join(&told), "is not base64"))?;
            contents.insert(path, content);
        }
        let files = Self { origin, contents };
        match files.names().len() {
            count if count > EMBEDDED_CASES_MAX => Err(Error::new(&files.origin, too_many(count))),
            _ => Ok(files),
        }
    }

    /// What a component carries of them: those that say what should become of them. Beside it the names of the others.
    ///
    /// # Errors
    ///
    /// More cases than a component may carry.
    pub fn to_embed(&self) -> Result<(Self, Vec<String>), Error> {
        let has_expected = |name: &&str| self.contents.contains_key(&format!("{name}/{EXPECTED}"));
        let (kept, left_out): (Vec<&str>, Vec<&str>) = self.names().into_iter().partition(has_expected);
        if kept.len() > EMBEDDED_CASES_MAX {
            return Err(Error::new(&self.origin, too_many(kept.len())));
        }
        let mut files = self.clone();
        files.contents.retain(|path, _| match path.split_once('/') {
            Some((name, _)) => !left_out.contains(&name),
            None => true,
        });
        Ok((files, left_out.into_iter().map(str::to_owned).collect()))
    }

    /// As a component carries them: the same files, the same bytes.
    pub fn section(&self) -> Vec<u8> {
        let texts: BTreeMap<_, _> = self
            .contents
            .iter()
            .map(|(path, content)| (path, BASE64_STANDARD.encode(content)))
            .collect();
        serde_json::to_vec(&texts).expect("texts are JSON")
    }

    /// The names of the cases, in order.
    pub fn names(&self) -> BTreeSet<&str> {
        let paths = self.contents.keys();
        paths.filter_map(|path| Some(path.split_once('/')?.0)).collect()
    }

    /// Whether both have the same cases.
    pub fn are(&self, others: &Self) -> bool {
        self.contents == others.contents
    }

    /// What stands in one of them.
    pub(super) fn content(&self, path: &str) -> Option<&[u8]> {
        self.contents.get(path).map(Vec::as_slice)
    }

    /// What their paths are below.
    pub(super) fn origin(&self) -> &Path {
        &self.origin
    }
}

fn too_many(count: usize) -> String {
    format!(
        "{count} cases are too many for a component, which may carry {EMBEDDED_CASES_MAX}; embed those of another folder with \
         --cases"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::Case;

    fn written_cases() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &[u8]| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("route.toml", b"secrets = { signing = ['s'] }\n");
        write("README.md", b"no file of a case");
        write("b/request.http", b"POST /hooks/acme HTTP/1.1\r\n\r\n\0\xff\xfe");
        write("b/expected.json", b"{ \"verdict\": \"rejected\" }\n");
        write("b/notes.txt", b"no file of a case");
        write("a/request.http", b"POST /hooks/acme HTTP/1.1\n\n");
        write("a/route.toml", b"allow_unsigned = true\n");
        directory
    }

    #[test]
    fn cases_come_out_of_a_component_as_they_went_in() {
        let directory = written_cases();
        let files = Files::read(directory.path()).unwrap();
        let section = files.section();
        assert_eq!(section, Files::read(directory.path()).unwrap().section());
        let embedded = Files::embedded(&section, Path::new("acme.wasm")).unwrap();
        assert!(embedded.are(&files));
        let cases = Case::all_in(&embedded, "acme").unwrap();
        let names: Vec<_> = cases
            .iter()
            .map(|case| (case.name.as_str(), case.route.allow_unsigned))
            .collect();
        assert_eq!(names, [("a", true), ("b", false)]);
        assert_eq!(&cases[1].webhook.body[..], b"\0\xff\xfe");
        assert_eq!(cases[1].expected.as_ref().unwrap()["verdict"], "rejected");
        assert_eq!(
            cases[0].route.secrets,
            Case::read_all(directory.path(), "acme").unwrap()[0].route.secrets
        );

        let (kept, left_out) = files.to_embed().unwrap();
        assert_eq!(
            (kept.names().into_iter().collect::<Vec<_>>(), left_out),
            (vec!["b"], vec!["a".to_owned()])
        );
        assert!(!kept.are(&files));
    }

    #[test]
    fn what_is_no_section_of_cases_is_refused() {
        let error = |section: &str| {
            let files = Files::embedded(section.as_bytes(), Path::new("acme.wasm"));
            files
                .and_then(|files| Case::all_in(&files, "acme"))
                .unwrap_err()
                .to_string()
        };
        for (section, said) in [
            ("", "acme.wasm#cases: is no JSON object of paths and base64: "),
            ("[]", "acme.wasm#cases: is no JSON object"),
            (
                "\"c2VjcmV0\"",
                "is no JSON object of paths and base64: line 1, column 10",
            ),
            (r#"{"route.toml":7}"#, "acme.wasm#cases: is no JSON object"),
            ("{}", "acme.wasm#cases: has no cases"),
            (
                r#"{"a/request.http":"?"}"#,
                "acme.wasm#cases/a/request.http: is not base64",
            ),
            (
                r#"{"../request.http/x":""}"#,
                r#"acme.wasm#cases: "../request.http/x" is no file of a case"#,
            ),
            (r#"{"/request.http":""}"#, r#""/request.http" is no file of a case"#),
            (r#"{"a/notes.txt":""}"#, r#""a/notes.txt" is no file of a case"#),
            (r#"{"\u0000a/request.http":""}"#, "is no file of a case"),
            (
                r#"{"a/expected.json":"e30="}"#,
                "acme.wasm#cases/a/request.http: is not there",
            ),
            (
                r#"{"a/request.http":"","a/route.toml":"/w=="}"#,
                "a/route.toml: is not UTF-8",
            ),
        ] {
            assert!(error(section).contains(said), "{section}: {}", error(section));
        }
        let many: BTreeMap<_, _> = (0..=EMBEDDED_CASES_MAX)
            .map(|n| (format!("{n}/request.http"), String::new()))
            .collect();
        let many = serde_json::to_string(&many).unwrap();
        assert!(error(&many).contains("257 cases are too many"), "{}", error(&many));
    }
}
