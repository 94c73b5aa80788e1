//! Compiled code on disk.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use callfeed::{config::Limits, plugin::Error};

use crate::{
    guest,
    host::{Host, grant, route, webhook},
};

/// A gateway's start, as far as its plugins go.
async fn start(cache: &Path) -> Result<(), Error> {
    let host = Host::new(&Limits {
        plugin_cache: Some(cache.to_owned()),
        ..Limits::default()
    });
    let plugin = host.load(guest::rogue()).await?;
    assert_eq!(
        host.judge(&grant(&plugin, &route("r", "behave")), webhook())
            .await
            .to_string(),
        "accepted 1"
    );
    Ok(())
}

/// The one file of a cache.
fn only_file(cache: &Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(cache)
        .expect("the cache exists")
        .map(|e| e.expect("readable").path())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// What changes when a file is written again.
fn identity(file: &Path) -> (u64, i64, i64) {
    let metadata = fs::metadata(file).expect("the file exists");
    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

#[tokio::test]
async fn the_second_start_takes_the_compiled_code() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = directory.path().join("made/by/the/gateway");
    start(&cache).await.expect("it starts");
    let file = only_file(&cache);
    assert_eq!(file.extension().and_then(|name| name.to_str()), Some("cwasm"));
    assert_eq!(fs::metadata(&cache).expect("it exists").mode() & 0o777, 0o700);
    assert_eq!(
        fs::metadata(&file).expect("it exists").mode() & 0o077,
        0,
        "nobody else needs it"
    );
    let before = identity(&file);
    start(&cache).await.expect("it starts again");
    assert_eq!(identity(&only_file(&cache)), before);
}

#[tokio::test]
async fn a_damaged_file_is_compiled_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = directory.path().join("cache");
    start(&cache).await.expect("it starts");
    let file = only_file(&cache);
    let good = fs::read(&file).expect("it can be read");
    let flipped = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        bad
    };
    let damages = [
        Vec::new(),
        b"garbage".to_vec(),
        good[..good.len() / 2].to_vec(),
        good[..good.len() - 1].to_vec(),
        flipped(0),
        // In the middle of machine code, which nothing but a sum over it can tell from the right one.
        flipped(good.len() / 3),
        flipped(good.len() / 2),
        flipped(good.len() - 1),
    ];
    for bad in damages {
        fs::write(&file, &bad).expect("it can be written");
        start(&cache).await.expect("it starts");
        assert!(
            fs::read(only_file(&cache)).expect("it can be read") == good,
            "{} bytes were left",
            bad.len()
        );
    }
}

#[tokio::test]
async fn a_cache_that_others_can_write_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = directory.path().join("cache");
    start(&cache).await.expect("it starts");
    for mode in [0o777, 0o770, 0o707, 0o720, 0o702] {
        fs::set_permissions(&cache, fs::Permissions::from_mode(mode)).expect("it is ours");
        let error = start(&cache).await.expect_err("others may write there");
        assert!(matches!(&error, Error::Cache { path, .. } if *path == cache), "{error}");
    }
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).expect("it is ours");
    // Only root can give a directory away; for anybody else the one above is enough.
    if std::os::unix::fs::chown(&cache, Some(12345), None).is_ok() {
        assert!(
            matches!(start(&cache).await, Err(Error::Cache { .. })),
            "it is somebody else's"
        );
        std::os::unix::fs::chown(&cache, Some(0), None).expect("root can take it back");
    }
    start(&cache).await.expect("others may read it");
    // One file that others can write is as bad, but costs only a compilation.
    let file = only_file(&cache);
    let before = identity(&file);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("it is ours");
    start(&cache).await.expect("it starts");
    assert_ne!(identity(&only_file(&cache)), before);
}

#[tokio::test]
async fn a_cache_that_cannot_be_made_costs_time_only() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    start(file.path()).await.expect("it starts");
    start(&file.path().join("below")).await.expect("it starts");
}
