//! From a file to a plugin that can be called: check, compile (or take the compiled code from the cache), link, describe.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreContextMut,
    component::{Component, ComponentType, HasSelf, Linker, Lower, ResourceType, types::ComponentItem},
    format_err,
};

use super::{
    Conditions, Plugin,
    call::Runtime,
    host::CallState,
    limits::{CORE_INSTANCES, DETAIL_BYTES, SlowLane, TABLE_ELEMENTS},
    section, v1,
};
use crate::{config, telemetry::one_line};

/// The custom section in which a component carries its own cases.
const CASES: &str = "callfeed:cases";
/// Bytes of that section. The largest of the built-in plugins' would take half of it.
const CASES_BYTES_MAX: usize = 1 << 20;

/// Why a file cannot serve as a plugin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{bytes} bytes are more than limits.plugin_file allows ({max})")]
    TooLarge { bytes: u64, max: u64 },
    #[error("it is not a file")]
    NotFile,
    #[error("the file is not WebAssembly; expected a component, as `cargo build --target wasm32-wasip2` makes")]
    NotWasm,
    #[error("the file is a core WebAssembly module, not a component; build it for wasm32-wasip2")]
    NotComponent,
    #[error("it serves {found}; this gateway serves callfeed:provider@1")]
    ContractVersion { found: String },
    #[error("it exports no callfeed:provider/plugin, so it is a component of some other kind")]
    NotPlugin,
    #[error("it imports {0}, which a plugin cannot have; only callfeed:provider and wasi are served")]
    ForeignImport(String),
    #[error("it does not compile: {0}")]
    Compile(String),
    #[error("it does not fit the contract: {0}")]
    Link(String),
    #[error("its describe failed: {0}")]
    Describe(String),
    #[error("its description breaks the contract: {0}")]
    Descriptor(String),
    #[error("it is cut off or damaged at byte {0}")]
    Damaged(usize),
    #[error("it has {0} sections {CASES}; `callfeed plugin pack` makes one of them")]
    SeveralCases(usize),
    #[error(
        "its cases take {bytes} bytes of it, and {CASES_BYTES_MAX} are allowed; embed fewer with `callfeed plugin pack`"
    )]
    CasesTooLarge { bytes: usize },
    #[error("the plugin cache {path} is not usable: {detail}")]
    Cache { path: PathBuf, detail: String },
    #[error("the WebAssembly engine did not start: {0}")]
    Engine(String),
}

/// The engine for every plugin: pooled memory that is reused while warm, interrupted by epochs.
///
/// Memory of finished instances stays resident up to a bound and only the pages they touched are reset; that halves the
/// cost of a fresh instance per webhook.
pub(super) fn engine(limits: &config::Limits) -> Result<Engine, Error> {
    // One more than may be in flight: a plugin may be loaded while all places are taken.
    let instances = u32::try_from(limits.plugins_in_flight)
        .unwrap_or(u32::MAX)
        .saturating_add(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        // A QuickJS plugin has 3 memories, a Python one 38 core instances.
        .total_core_instances(instances.saturating_mul(16).max(64))
        .total_memories(instances.saturating_mul(3))
        .total_tables(instances.saturating_mul(4).max(64))
        .total_stacks(instances)
        .max_memories_per_component(4)
        .max_tables_per_component(64)
        .max_core_instances_per_component(CORE_INSTANCES as u32)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(limits.plugin_memory_bytes)
        .linear_memory_keep_resident(2 << 20)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_backtrace_max_frames(None);
    Engine::new(&config).map_err(|error| Error::Engine(format!("{error:#}")))
}

/// Compiles, links and describes a plugin. Takes a tenth of a second of processor time for a Rust plugin and seconds for
/// others, unless the cache has it.
///
/// # Errors
///
/// [`Error`] says what is wrong with the file.
pub async fn compile(runtime: &Runtime, name: &str, wasm: &[u8]) -> Result<Plugin, Error> {
    check_header(wasm, runtime.limits().plugin_file_bytes)?;
    let component = match &runtime.limits().plugin_cache {
        Some(directory) => match Cache::open(directory)? {
            Some(cache) => cache.component(runtime.engine(), wasm)?,
            None => compile_component(runtime.engine(), wasm)?,
        },
        None => compile_component(runtime.engine(), wasm)?,
    };
    let (contract, imports) = check_interfaces(runtime.engine(), &component)?;
    let cases = cases(wasm)?.map(Bytes::copy_from_slice);
    let linker = linker(runtime.engine(), &component).map_err(|error| Error::Link(format!("{error:#}")))?;
    let pre = linker
        .instantiate_pre(&component)
        .and_then(v1::ProviderPre::new)
        .map_err(|error| Error::Link(format!("{error:#}")))?;
    let raw = runtime
        .describe(&pre, Conditions::default())
        .await
        .map_err(Error::Describe)?;
    let descriptor = v1::descriptor(raw)?;
    let options_schema = jsonschema::draft202012::options()
        .build(&descriptor.options_schema)
        .map_err(|error| Error::Descriptor(one_line(&format!("options-schema: {error}"), DETAIL_BYTES)))?;
    Ok(Plugin {
        name: name.to_owned(),
        contract,
        imports,
        descriptor,
        digest: Sha256::digest(wasm).into(),
        cases,
        options_schema,
        description: None,
        pre,
        share: runtime.share(),
        lane: SlowLane::new(),
    })
}

/// The first eight bytes tell a component from a core module (component-model, Binary.md).
fn check_header(wasm: &[u8], max: u64) -> Result<(), Error> {
    if wasm.len() as u64 > max {
        return Err(Error::TooLarge {
            bytes: wasm.len() as u64,
            max,
        });
    }
    match wasm.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', ..]) => Err(Error::NotComponent),
        _ => Err(Error::NotWasm),
    }
}

/// The section in which a component carries its own cases, as it is there.
///
/// # Errors
///
/// When there are several, or it is over its bound, or the component is damaged.
pub fn cases(wasm: &[u8]) -> Result<Option<&[u8]>, Error> {
    let found = section::find(wasm, CASES).map_err(|section::Damaged(at)| Error::Damaged(at))?;
    match found[..] {
        [] => Ok(None),
        [cases] => bounded(cases).map(Some),
        _ => Err(Error::SeveralCases(found.len())),
    }
}

/// A component with these as its own cases, or with none. What it does stays the same.
///
/// # Errors
///
/// When they are over their bound, and when it is no component or is damaged.
pub fn with_cases(wasm: &[u8], cases: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    check_header(wasm, u64::MAX)?;
    let cases = cases.map(bounded).transpose()?;
    section::replace(wasm, CASES, cases).map_err(|section::Damaged(at)| Error::Damaged(at))
}

fn bounded(cases: &[u8]) -> Result<&[u8], Error> {
    match cases.len() {
        bytes if bytes > CASES_BYTES_MAX => Err(Error::CasesTooLarge { bytes }),
        _ => Ok(cases),
    }
}

fn compile_component(engine: &Engine, wasm: &[u8]) -> Result<Component, Error> {
    Component::from_binary(engine, wasm).map_err(|error| Error::Compile(format!("{error:#}")))
}

/// The interface of the contract that the component exports, and the names of what it imports.
fn check_interfaces(engine: &Engine, component: &Component) -> Result<(String, Vec<String>), Error> {
    let ty = component.component_type();
    let mut found = None;
    for (name, _) in ty.exports(engine) {
        if name.starts_with(v1::PLUGIN_EXPORT) {
            found = Some(Ok(name.to_owned()));
            break;
        }
        if name.starts_with(v1::INTERFACE) {
            found = Some(Err(Error::ContractVersion { found: name.to_owned() }));
        }
    }
    let contract = found.unwrap_or(Err(Error::NotPlugin))?;
    let imports: Vec<_> = ty.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let mut foreign = imports
        .iter()
        .filter(|name| !name.starts_with(v1::INTERFACE) && !name.starts_with("wasi:"));
    match foreign.next() {
        Some(name) => Err(Error::ForeignImport(name.clone())),
        None => Ok((contract, imports)),
    }
}

/// `wasi:clocks/wall-clock.datetime`.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// Links the contract, answers with constants the few WASI functions that language runtimes call by themselves, and
/// traps every other one. A full WASI would bring sleeping, files and sockets within reach, and waits that no epoch ends.
fn linker(engine: &Engine, component: &Component) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::<CallState>::new(engine);
    v1::Provider::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
    for (name, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(ty) = item.ty else {
            continue;
        };
        // What is missing of the contract itself, a plugin of a later revision needs: it must not load.
        if !name.starts_with("wasi:") {
            continue;
        }
        let interface = name.split('@').next().unwrap_or(name);
        for (function, item) in ty.exports(engine) {
            // Under the exact name of this component: a trap would shadow another version's.
            let mut instance = linker.instance(name)?;
            match (interface, function) {
                ("wasi:random/insecure-seed", "insecure-seed" | "get-insecure-seed") => {
                    instance.func_wrap(function, |store: StoreContextMut<'_, CallState>, (): ()| {
                        let noise = store.data().conditions.noise;
                        Ok(((0x9e37_79b9_u64 ^ noise, 0x7f4a_7c15_u64 ^ noise),))
                    })?;
                }
                ("wasi:random/random" | "wasi:random/insecure", "get-random-u64" | "get-insecure-random-u64") => {
                    instance.func_wrap(function, |store: StoreContextMut<'_, CallState>, (): ()| {
                        Ok((0x9e37_79b9_u64 ^ store.data().conditions.noise,))
                    })?;
                }
                ("wasi:random/random" | "wasi:random/insecure", "get-random-bytes" | "get-insecure-random-bytes") => {
                    instance.func_wrap(function, |store: StoreContextMut<'_, CallState>, (length,): (u64,)| {
                        let length = usize::try_from(length).unwrap_or(usize::MAX).min(4096);
                        let [.., noise] = store.data().conditions.noise.to_be_bytes();
                        Ok((vec![0x5a_u8 ^ noise; length],))
                    })?;
                }
                ("wasi:clocks/monotonic-clock", "now") => {
                    instance.func_wrap(function, |store: StoreContextMut<'_, CallState>, (): ()| {
                        Ok((store.data().conditions.noise,))
                    })?;
                }
                ("wasi:clocks/wall-clock", "now") => {
                    instance.func_wrap(function, |store: StoreContextMut<'_, CallState>, (): ()| {
                        let ms = store.data().received_at_ms();
                        let nanoseconds = (ms % 1000) as u32 * 1_000_000;
                        Ok((Datetime {
                            seconds: ms / 1000,
                            nanoseconds,
                        },))
                    })?;
                }
                ("wasi:cli/environment", "get-environment") => {
                    instance.func_wrap(function, |_, (): ()| Ok((Vec::<(String, String)>::new(),)))?;
                }
                ("wasi:cli/environment", "get-arguments") => {
                    instance.func_wrap(function, |_, (): ()| Ok((Vec::<String>::new(),)))?;
                }
                ("wasi:cli/environment", "initial-cwd") => {
                    instance.func_wrap(function, |_, (): ()| Ok((None::<String>,)))?;
                }
                _ => match item.ty {
                    ComponentItem::ComponentFunc(_) => {
                        let what = format!("it called {name}#{function}, which no plugin has");
                        instance.func_new(function, move |_, _, _, _| Err(format_err!("{what}")))?;
                    }
                    ComponentItem::Resource(_) => {
                        instance.resource(function, ResourceType::host::<()>(), |_, _| Ok(()))?;
                    }
                    _ => {}
                },
            }
        }
    }
    Ok(linker)
}

/// Compiled code on disk, by the digest of the file and of the compiler's settings.
struct Cache {
    directory: PathBuf,
    /// Whose the directory is, and every file in it.
    owner: u32,
}

/// SHA-256, before the code in each file.
const DIGEST_BYTES: usize = 32;

impl Cache {
    /// Loading compiled code trusts it like the gateway's own, so nobody else may be able to write it. A directory that
    /// cannot be made is no cache, which costs time at every start and nothing else.
    fn open(directory: &Path) -> Result<Option<Self>, Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        let metadata = match made.and_then(|()| fs::symlink_metadata(directory)) {
            Ok(metadata) => metadata,
            Err(error) => {
                tracing::warn!(path = %directory.display(), %error, "compiled plugins are not cached");
                return Ok(None);
            }
        };
        let refuse = |detail: &str| {
            Err(Error::Cache {
                path: directory.to_owned(),
                detail: detail.to_owned(),
            })
        };
        if metadata.mode() & 0o022 != 0 {
            return refuse("others may write to it; run `chmod 700` on it");
        }
        // A file made here belongs to whom the gateway runs as.
        let own = tempfile::tempfile_in(directory).and_then(|file| file.metadata());
        if metadata.uid() != 0 && own.map_or(true, |own| own.uid() != metadata.uid()) {
            return refuse("it belongs to somebody else; name a directory that the gateway makes");
        }
        Ok(Some(Self {
            directory: directory.to_owned(),
            owner: metadata.uid(),
        }))
    }

    fn component(&self, engine: &Engine, wasm: &[u8]) -> Result<Component, Error> {
        let path = self.directory.join(format!("{}.cwasm", cache_key(engine, wasm)));
        match self.load(engine, &path) {
            Ok(Some(component)) => return Ok(component),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), error, "the cached code does not load; compiling again");
            }
        }
        let component = compile_component(engine, wasm)?;
        // A cache that cannot be written costs time at the next start, nothing else.
        if let Err(error) = self.store(&path, &component) {
            tracing::warn!(path = %path.display(), %error, "the compiled plugin was not cached");
        }
        Ok(component)
    }

    /// `None` when the file is not there.
    fn load(&self, engine: &Engine, path: &Path) -> Result<Option<Component>, String> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        if !metadata.is_file() || metadata.mode() & 0o022 != 0 || metadata.uid() != self.owner {
            return Err("others may have written it".into());
        }
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        // The engine itself does not notice damage within machine code.
        let code = match bytes.split_at_checked(DIGEST_BYTES) {
            Some((digest, code)) if Sha256::digest(code)[..] == *digest => code,
            _ => return Err("the file is damaged".into()),
        };
        #[expect(
            unsafe_code,
            reason = "the directory is writable by the gateway alone, and only store() writes it"
        )]
        // SAFETY: the file was written by `store` from code this very engine compiled, and is as it was.
        let loaded = unsafe { Component::deserialize(engine, code) };
        loaded.map(Some).map_err(|error| format!("{error:#}"))
    }

    /// The digest of the code, and the code.
    fn store(&self, path: &Path, component: &Component) -> std::io::Result<()> {
        let code = component
            .serialize()
            .map_err(|error| std::io::Error::other(format!("{error:#}")))?;
        // Under another name first: a crash must not leave half a file under the right one.
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(&Sha256::digest(&code))?;
        file.write_all(&code)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }
}

fn cache_key(engine: &Engine, wasm: &[u8]) -> String {
    use std::hash::{Hash as _, Hasher};

    /// Feeds what the engine says of itself into the same digest.
    struct Digesting(Sha256);
    impl Hasher for Digesting {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut digest = Digesting(Sha256::new_with_prefix(wasm));
    engine.precompile_compatibility_hash().hash(&mut digest);
    digest.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a plugin's file within its bound.
///
/// # Errors
///
/// [`Error::Read`] and [`Error::TooLarge`].
pub(crate) fn read_file(path: &Path, max: u64) -> Result<Bytes, Error> {
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(read)?;
    if !metadata.is_file() {
        return Err(Error::NotFile);
    }
    let mut bytes = Vec::new();
    // One more than allowed: the file may have grown since its length was asked for.
    let limit = max.saturating_add(1);
    if metadata.len() <= max {
        fs::File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(read)?;
    }
    match metadata.len().max(bytes.len() as u64) {
        length if length > max => Err(Error::TooLarge { bytes: length, max }),
        _ => Ok(Bytes::from(bytes)),
    }
}

/// A store for one call, with every bound in force before the first instruction runs.
pub(super) fn bounded_store(engine: &Engine, state: CallState, hostcall_fuel: usize) -> Store<CallState> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.growth);
    store.set_hostcall_fuel(hostcall_fuel);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut context| Ok(context.data_mut().clockwork.tick()));
    store
}
