//! The hostile plugin as a file, built when it is first asked for.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use harness::guest;
pub(crate) use harness::guest::replaced;

/// The component that does what its route's options name.
pub(crate) fn rogue() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| std::fs::read(rogue_file()).expect("it was built just now"))
}

/// Its file.
pub(crate) fn rogue_file() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| guest::build(&["callfeed-plugin-rogue"]).join("rogue.wasm"))
}

/// The component with another scene for its description.
pub(crate) fn rogue_in(scene: &str) -> Vec<u8> {
    const MARK: &str = "scene: as it should be              ";
    let length = MARK.len() - "scene: ".len();
    assert!(scene.len() <= length, "{scene} does not fit in {length} bytes");
    replaced(rogue(), MARK, &format!("scene: {scene:length$}"))
}
