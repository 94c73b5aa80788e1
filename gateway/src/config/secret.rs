//! Secrets as the file gives them: by the name of an environment variable, by a file, or literally.
//!
//! Nothing of a secret may reach a problem's text, not even of one that was put in the wrong place.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ring::signature::Ed25519KeyPair;

use super::{
    Secret, SigningKey,
    raw::{Report, Value, quote},
};

/// What the file's text refers to.
pub(super) struct Surroundings<'a> {
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// Relative paths start here: the directory of the configuration file.
    pub(super) base_dir: &'a Path,
}

impl Surroundings<'_> {
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.base_dir.join(path)
    }
}

/// Whether a value written into the file itself deserves a warning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Literal {
    Warned,
    Fine,
}

const SECRET_BYTES_MAX: u64 = 64 << 10;
const FORMS: &str = "write { env = \"NAME\" } or { file = \"path\" }";

/// The bytes behind a secret; not empty.
pub(super) fn read(value: Value<'_>, around: &Surroundings<'_>, literal: Literal) -> Option<Secret> {
    if value.is_text() {
        let text = value.text()?;
        if literal == Literal::Warned {
            value.warn("is a secret written into the file", FORMS);
        }
        return Some(Secret::new(text));
    }
    if !value.is_table() {
        value.wrong_type("a secret", FORMS);
        return None;
    }
    let source = value.table_like("secret", |t| {
        let (env, file) = (t.take("env"), t.take("file"));
        let (path, report) = (t.path(), t.report());
        match (env, file) {
            (Some(env), None) => from_env(env.text()?, around, path, report),
            (None, Some(file)) => from_file(&around.resolve(file.text()?), path, report),
            (Some(_), Some(_)) => {
                report.problem(path, "has both env and file", "keep one of them");
                None
            }
            (None, None) => {
                report.problem(path, "names no source", FORMS);
                None
            }
        }
    });
    source?.map(Secret::new)
}

fn from_env(name: &str, around: &Surroundings<'_>, path: &str, report: &Report) -> Option<Vec<u8>> {
    let plain = name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !plain || name.starts_with("whsec_") || name.starts_with("whsk_") {
        // What stands here may be the secret itself.
        let remedy = "write the name of the variable, not its value";
        report.problem(path, "env is not the name of an environment variable", remedy);
        return None;
    }
    match (around.env)(name) {
        None => {
            let remedy = "export it or use { file = \"…\" }";
            report.problem(path, format!("environment variable {name} is not set"), remedy);
            None
        }
        Some(text) if text.trim().is_empty() => {
            report.problem(path, format!("environment variable {name} is empty"), "give it a value");
            None
        }
        Some(text) => Some(text.into_bytes()),
    }
}

fn from_file(file: &Path, path: &str, report: &Report) -> Option<Vec<u8>> {
    let shown = quote(&file.to_string_lossy());
    let mut bytes = match read_file(file, SECRET_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) => {
            report.problem(
                path,
                format!("file {shown} cannot be read: {error}"),
                "check the path and its permissions",
            );
            return None;
        }
    };
    // An editor's newline is not part of the secret; any other white space may be.
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.trim_ascii().is_empty() {
        report.problem(path, format!("file {shown} is empty"), "put the secret into it");
        return None;
    }
    warn_if_readable_by_others(file, path, report);
    Some(bytes)
}

/// Reads an ordinary file of bounded size; a pipe would wait for ever.
pub(super) fn read_file(file: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(file)?.is_file() {
        return Err(io::Error::other("not an ordinary file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

#[cfg(unix)]
pub(super) fn warn_if_readable_by_others(file: &Path, path: &str, report: &Report) {
    use std::os::unix::fs::PermissionsExt as _;
    let readable = std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0);
    if readable {
        let shown = quote(&file.to_string_lossy());
        let message = format!("file {shown} can be read by every user of this machine");
        report.warn(path, message, format!("chmod 600 {}", file.display()));
    }
}

#[cfg(not(unix))]
pub(super) fn warn_if_readable_by_others(_: &Path, _: &str, _: &Report) {}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const MAKE_ONE: &str = "make one with `callfeed secret new`";

/// The key in a subscriber's secret. `raw`: text without a prefix is the key itself.
pub(super) fn signing_key(secret: &Secret, raw: bool, path: &str, report: &Report) -> Option<SigningKey> {
    let refuse = |message: &str, remedy: &str| {
        report.problem(path, message, remedy);
        None
    };
    let text = std::str::from_utf8(secret.expose()).unwrap_or_default();
    if let Some(encoded) = text.strip_prefix("whsec_") {
        return match BASE64.decode(encoded) {
            Ok(key) if (24..=64).contains(&key.len()) => Some(SigningKey::Hmac(Secret::new(key))),
            Ok(_) => refuse("whsec_ is not followed by 24 to 64 bytes", MAKE_ONE),
            Err(_) => refuse("whsec_ is not followed by base64", MAKE_ONE),
        };
    }
    if let Some(encoded) = text.strip_prefix("whsk_") {
        if raw {
            return refuse(
                "is an Ed25519 key, but signature is a table and means HMAC",
                "use a whsec_ or a plain key",
            );
        }
        return match BASE64.decode(encoded) {
            Ok(key) if key.len() == 32 => Some(SigningKey::Ed25519(Secret::new(key))),
            Ok(key) if key.len() == 64 => {
                let (seed, public) = key.split_at(32);
                match Ed25519KeyPair::from_seed_and_public_key(seed, public) {
                    Ok(_) => Some(SigningKey::Ed25519(Secret::new(seed))),
                    Err(_) => refuse("the public half of whsk_ does not belong to its seed", MAKE_ONE),
                }
            }
            Ok(_) => refuse("whsk_ is not followed by 32 or 64 bytes", MAKE_ONE),
            Err(_) => refuse("whsk_ is not followed by base64", MAKE_ONE),
        };
    }
    if raw {
        return Some(SigningKey::Hmac(secret.clone()));
    }
    refuse(
        "starts with neither whsec_ nor whsk_",
        "make one with `callfeed secret new`, or say in signature = { … } what the subscriber checks",
    )
}
