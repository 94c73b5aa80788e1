//! What a component carries besides its code: a section with its cases, and in that their files.

use std::path::Path;

use callfeed::{
    kit::{Case, Files},
    plugin::{self, Error},
};

/// What follows a component's header: sections of any content.
///
/// Whoever reads cases and whoever writes them find the same damage. What is written is read as it was, in place of what
/// was there; taken out, it leaves the component as if it had never been there.
pub fn sections(input: &[u8]) {
    drop((plugin::cases(input), plugin::with_cases(input, None)));
    let wasm = [b"\0asm\x0d\0\x01\0", input].concat();
    let found = plugin::cases(&wasm);
    let bare = match plugin::with_cases(&wasm, None) {
        Ok(bare) => bare,
        Err(error) => {
            assert!(matches!(error, Error::Damaged(at) if at < wasm.len()), "{error}");
            let read = found.expect_err("it is damaged").to_string();
            assert_eq!(read, error.to_string());
            return;
        }
    };
    assert_eq!(plugin::cases(&bare).expect("none is no harm"), None);
    match found {
        Ok(None) => assert_eq!(bare, wasm),
        Ok(Some(cases)) => assert!(wasm.len() > bare.len() + cases.len()),
        Err(error) => assert!(matches!(error, Error::SeveralCases(2..)), "{error}"),
    }
    let packed = plugin::with_cases(&wasm, Some(input)).expect("it was read just now");
    assert!(packed.starts_with(&bare));
    assert_eq!(plugin::cases(&packed).expect("it was written just now"), Some(input));
    assert_eq!(plugin::with_cases(&packed, None).expect("it was read just now"), bare);
}

/// A section of any content.
///
/// Its files are read or refused in a line that names the component; those that were read go into a component and come out
/// of it the same. So are the cases in them, each once, and every one has its webhook.
pub fn cases(input: &[u8]) {
    let file = Path::new("acme.wasm");
    let files = match Files::embedded(input, file) {
        Ok(files) => files,
        Err(error) => return check(&error.to_string()),
    };
    let again = Files::embedded(&files.section(), file).expect("it was read just now");
    assert!(again.are(&files));
    let (kept, left_out) = files.to_embed().expect("there are no more than a component may carry");
    assert_eq!(kept.names().len() + left_out.len(), files.names().len());
    match Case::all_in(&files, "acme") {
        Ok(cases) => {
            let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
            assert_eq!(names, Vec::from_iter(files.names()));
            assert!(cases.iter().all(|case| case.route.provider == "acme"));
        }
        Err(error) => check(&error.to_string()),
    }
}

fn check(said: &str) {
    assert!(said.starts_with("acme.wasm#cases"), "{said:?}");
    assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
}
