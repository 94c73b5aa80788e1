//! Builds the five providers' plugins to WebAssembly components and lists them, with their sample webhooks, for
//! embedding, and the plugin that serves whatever provider the configuration describes; and lists what
//! `callfeed plugin new` writes.
//!
//! `CALLFEED_PLUGINS_DIR` names a folder with `<provider>.wasm` files to embed instead of building them.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const TARGET: &str = "wasm32-wasip2";
const PROVIDERS: [&str; 5] = ["magnetis", "magpipe", "salpre", "topcalls", "voxagent"];
const DECLARED: &str = "declared";

fn main() -> Result<(), Box<dyn Error>> {
    let gateway = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = gateway.parent().ok_or("the gateway stands inside its workspace")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Printing one of these switches off cargo's own watching, so everything a plugin is made of is listed.
    let plugins: Vec<_> = plugins().map(|plugin| format!("plugins/{plugin}")).collect();
    for input in plugins.iter().map(String::as_str).chain([
        "plugins/sdk",
        "plugins/templates",
        "schemas",
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
        "gateway/build.rs",
    ]) {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-env-changed=CALLFEED_PLUGINS_DIR");

    match env::var_os("CALLFEED_PLUGINS_DIR") {
        Some(prebuilt) => {
            println!("cargo::rerun-if-changed={}", Path::new(&prebuilt).display());
            keep(Path::new(&prebuilt), &out)?;
        }
        None => {
            let target_dir = target_dir(&out)?;
            // Several checkouts may share a target folder: none may build its own between another's build and copy.
            let turn = fs::File::create(target_dir.join(".callfeed-plugins"))?;
            turn.lock()?;
            // Not the outer cargo's folder, whose lock it holds, and not OUT_DIR, which every profile has of its own.
            keep(&build(root, &target_dir.join("plugins"))?, &out)?;
        }
    }
    fs::write(out.join("builtin.rs"), list(root, &out)?)?;
    fs::write(out.join("templates.rs"), templates(root)?)?;
    Ok(())
}

/// The packages of the plugins, and of the one that serves every `[[provider]]`.
fn plugins() -> impl Iterator<Item = &'static str> {
    PROVIDERS.into_iter().chain([DECLARED])
}

/// Runs a second cargo for the other target and returns the folder with its components.
fn build(root: &Path, target_dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    ensure_target()?;
    let mut cargo = Command::new(env::var_os("CARGO").ok_or("cargo sets CARGO for build scripts")?);
    cargo.current_dir(root).args([
        "build",
        "--profile",
        "plugin",
        "--target",
        TARGET,
        "--locked",
        "--target-dir",
    ]);
    cargo.arg(target_dir);
    for provider in plugins() {
        cargo.args(["-p", &format!("callfeed-plugin-{provider}")]);
    }
    // Flags for the host would reach the guest through the environment and break its link, or silently change it.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let own = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        let own = own
            || matches!(
                name.as_ref(),
                "RUSTFLAGS" | "CARGO_INCREMENTAL" | "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER" | "CARGO_MAKEFLAGS"
            );
        if own {
            cargo.env_remove(name.as_ref());
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "");
    let status = cargo.stdin(Stdio::null()).status()?;
    if !status.success() {
        return Err(format!(
            "the plugins did not build (above says why). By hand: cargo build --profile plugin --target {TARGET} -p \
             callfeed-plugin-magpipe. If something could not be downloaded: cargo fetch, once while online"
        )
        .into());
    }
    Ok(target_dir.join(TARGET).join("plugin"))
}

/// Copies the components to where they stay: what is embedded must not change or vanish under a later compile.
fn keep(components: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    for provider in plugins() {
        let component = components.join(format!("{provider}.wasm"));
        fs::copy(&component, out.join(format!("{provider}.wasm")))
            .map_err(|error| format!("{} cannot be copied: {error}", component.display()))?;
    }
    Ok(())
}

/// The folder that cargo builds into: `<target>/<profile>/build/<package>/out`, five levels down when cross-compiling.
fn target_dir(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let build = out
        .ancestors()
        .find(|path| path.file_name().is_some_and(|name| name == "build"));
    let profile = build.and_then(Path::parent).ok_or("OUT_DIR lies in a build folder")?;
    let target = profile
        .parent()
        .ok_or("the profile's folder lies in the target folder")?;
    let cross = target
        .file_name()
        .is_some_and(|name| name == env::var("TARGET").unwrap_or_default().as_str());
    Ok(if cross {
        target.parent().unwrap_or(target)
    } else {
        target
    }
    .to_owned())
}

fn ensure_target() -> Result<(), Box<dyn Error>> {
    if has_target()? {
        return Ok(());
    }
    println!("cargo::warning=fetching the Rust target {TARGET} for the plugins (rustup target add {TARGET})");
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .stdin(Stdio::null())
        .status();
    if added.is_ok_and(|status| status.success()) && has_target()? {
        return Ok(());
    }
    Err(format!("the plugins need the Rust target {TARGET}. Run: rustup target add {TARGET}").into())
}

fn has_target() -> Result<bool, Box<dyn Error>> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()?;
    let libdir = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let mut entries = match fs::read_dir(&libdir) {
        Ok(entries) => entries,
        Err(_) => return Ok(false),
    };
    Ok(entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))))
}

/// Source text of the two lists.
fn list(root: &Path, components: &Path) -> Result<String, Box<dyn Error>> {
    let mut text = String::from(
        "/// Name and component of every built-in plugin.\n\
         pub(super) static PLUGINS: &[(&str, &[u8])] = &[\n",
    );
    for provider in PROVIDERS {
        let component = components.join(format!("{provider}.wasm"));
        writeln!(text, "    ({provider:?}, include_bytes!({component:?})),")?;
    }
    let declared = components.join(format!("{DECLARED}.wasm"));
    writeln!(
        text,
        "];\n\n/// The component that serves what the configuration describes.\n\
         pub(super) static DECLARED: &[u8] = include_bytes!({declared:?});"
    )?;
    text.push_str(
        "\n/// Provider, name and HTTP request of every sample webhook, in alphabetical order.\n\
         pub static SAMPLES: &[(&str, &str, &[u8])] = &[\n",
    );
    for provider in PROVIDERS {
        let mut cases: Vec<_> = fs::read_dir(root.join("plugins").join(provider).join("cases"))?
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .map(|entry| entry.path().join("request.http"))
            .filter(|request| request.is_file())
            .collect();
        cases.sort();
        for request in cases {
            let name = request
                .parent()
                .and_then(Path::file_name)
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            // Oddities are cases for tests; what remains is one webhook of every event.
            if !name.starts_with("oddity-") {
                writeln!(text, "    ({provider:?}, {name:?}, include_bytes!({request:?})),")?;
            }
        }
    }
    text.push_str("];\n");
    Ok(text)
}

/// Source text of the list of a new project's files: the templates, the SDK, the contract and the event's schema, where each
/// language has them.
fn templates(root: &Path) -> Result<String, Box<dyn Error>> {
    const SDK: &str = "rust/vendor/callfeed-plugin";
    let mut files = Vec::new();
    files_below(&root.join("plugins/templates"), String::new(), &mut files)?;
    files_below(&root.join("plugins/sdk/src"), format!("{SDK}/src/"), &mut files)?;
    files.push((format!("{SDK}/Cargo.toml"), root.join("plugins/sdk/Cargo.toml")));
    let contract = root.join("schemas/plugin/v1/provider.wit");
    // The SDK finds both where it finds them in this repository.
    files.push(("rust/schemas/plugin/v1/provider.wit".to_owned(), contract.clone()));
    let event = "schemas/event/v1/call-event.schema.json";
    files.push((format!("rust/{event}"), root.join(event)));
    for language in ["javascript", "python"] {
        files.push((format!("{language}/wit/provider.wit"), contract.clone()));
    }
    files.sort();
    let mut text = String::from(
        "/// Path and content of every file of a new project, below `common` or its language.\n\
         static TEMPLATES: &[(&str, &str)] = &[\n",
    );
    for (name, path) in files {
        writeln!(text, "    ({name:?}, include_str!({path:?})),")?;
    }
    text.push_str("];\n");
    Ok(text)
}

/// Every file below a folder, with its path in it after a prefix.
fn files_below(folder: &Path, prefix: String, found: &mut Vec<(String, PathBuf)>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match path.is_dir() {
            true => files_below(&path, format!("{prefix}{name}/"), found)?,
            false => found.push((format!("{prefix}{name}"), path.clone())),
        }
    }
    Ok(())
}
