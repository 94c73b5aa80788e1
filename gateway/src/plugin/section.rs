//! Custom sections of a component, found and replaced without a look at anything else (component-model, Binary.md).
//!
//! Pure. After its first eight bytes a component is a row of sections: an id, a length, and as many bytes. Those with the
//! id 0 begin with a name and mean nothing to an engine.

const HEADER_BYTES: usize = 8;
const CUSTOM: u8 = 0;

/// The byte at which the row of sections ends too early, or says what cannot be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damaged(pub(super) usize);

#[derive(Debug)]
struct Section<'w> {
    /// Id and length included.
    whole: &'w [u8],
    /// `None` when it is not a custom one.
    name: Option<&'w [u8]>,
    content: &'w [u8],
}

/// A component's sections, up to the first that is damaged.
fn sections(wasm: &[u8]) -> impl Iterator<Item = Result<Section<'_>, Damaged>> {
    let mut rest = wasm.get(HEADER_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = wasm.len() - rest.len();
        match section(rest) {
            Some((section, after)) => {
                rest = after;
                Some(Ok(section))
            }
            None => {
                rest = &[];
                Some(Err(Damaged(at)))
            }
        }
    })
}

/// The first section, and what follows it.
fn section(bytes: &[u8]) -> Option<(Section<'_>, &[u8])> {
    let (id, rest) = bytes.split_first()?;
    let (content, rest) = counted(rest)?;
    let (name, content) = match *id {
        CUSTOM => {
            let (name, content) = counted(content)?;
            (Some(name), content)
        }
        _ => (None, content),
    };
    let whole = &bytes[..bytes.len() - rest.len()];
    Some((Section { whole, name, content }, rest))
}

/// Bytes with their count before them, and what follows them.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    const DIGITS_MAX: usize = 5;
    let mut count = 0_u32;
    for (at, byte) in bytes.iter().enumerate().take(DIGITS_MAX) {
        let digit = u32::from(byte & 0x7f);
        let shifted = digit << (7 * at);
        if shifted >> (7 * at) != digit {
            return None;
        }
        count |= shifted;
        if byte & 0x80 == 0 {
            return bytes[at + 1..].split_at_checked(usize::try_from(count).ok()?);
        }
    }
    None
}

/// What the sections of this name hold; each of them, for there may be several.
pub(super) fn find<'w>(wasm: &'w [u8], name: &str) -> Result<Vec<&'w [u8]>, Damaged> {
    let mut found = Vec::new();
    for section in sections(wasm) {
        let section = section?;
        if section.name == Some(name.as_bytes()) {
            found.push(section.content);
        }
    }
    Ok(found)
}

/// The component with this as its only section of the name, behind all others; without content, with none.
pub(super) fn replace(wasm: &[u8], name: &str, content: Option<&[u8]>) -> Result<Vec<u8>, Damaged> {
    let mut replaced = wasm.get(..HEADER_BYTES).ok_or(Damaged(wasm.len()))?.to_vec();
    for section in sections(wasm) {
        let section = section?;
        if section.name != Some(name.as_bytes()) {
            replaced.extend_from_slice(section.whole);
        }
    }
    if let Some(content) = content {
        let mut named = Vec::with_capacity(content.len() + name.len() + 1);
        count_into(&mut named, name.len());
        named.extend_from_slice(name.as_bytes());
        named.extend_from_slice(content);
        replaced.push(CUSTOM);
        count_into(&mut replaced, named.len());
        replaced.extend(named);
    }
    Ok(replaced)
}

fn count_into(bytes: &mut Vec<u8>, mut count: usize) {
    while count > 0x7f {
        bytes.push((count & 0x7f) as u8 | 0x80);
        count >>= 7;
    }
    bytes.push(count as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
    const NAME: &str = "callfeed:cases";

    fn with(sections: &[&[u8]]) -> Vec<u8> {
        [EMPTY, &sections.concat()].concat()
    }

    #[test]
    fn a_section_is_found_as_it_was_put_there() {
        // A core module with a custom section of that name in it, which is not the component's.
        let inner = b"\x01\x19\0asm\x01\0\0\0\0\x0f\x0ecallfeed:cases".as_slice();
        for length in [0, 1, 100, 127, 128, 20_000, 1 << 21] {
            let content: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let wasm = with(&[inner, b"\0\x06\x04namea", b"\x0b\x01\0"]);
            let packed = replace(&wasm, NAME, Some(&content)).unwrap();
            assert_eq!(find(&packed, NAME), Ok(vec![content.as_slice()]));
            assert!(packed.starts_with(&wasm));
            assert_eq!(find(&packed, "name"), Ok(vec![b"a".as_slice()]));
            assert_eq!(replace(&packed, NAME, Some(&content)), Ok(packed.clone()));
            assert_eq!(replace(&packed, NAME, None), Ok(wasm.clone()));
        }
        assert_eq!(find(&with(&[inner]), NAME), Ok(Vec::new()));
    }

    #[test]
    fn several_of_one_name_become_one() {
        let wasm = with(&[b"\0\x03\x01ab", b"\x0b\x01\0", b"\0\x03\x01ac"]);
        assert_eq!(find(&wasm, "a"), Ok(vec![b"b".as_slice(), b"c"]));
        assert_eq!(
            replace(&wasm, "a", Some(b"d")).unwrap(),
            with(&[b"\x0b\x01\0", b"\0\x03\x01ad"])
        );
    }

    #[test]
    fn what_is_cut_off_or_absurd_is_damaged() {
        let packed = replace(&with(&[b"\x0b\x01\0"]), NAME, Some(b"content")).unwrap();
        let whole = EMPTY.len() + 3;
        for length in EMPTY.len() + 1..packed.len() {
            let cut = find(&packed[..length], NAME);
            match length {
                _ if length < whole => assert_eq!(cut, Err(Damaged(EMPTY.len()))),
                _ if length == whole => assert_eq!(cut, Ok(Vec::new())),
                _ => assert_eq!(cut, Err(Damaged(whole))),
            }
        }
        let damaged: [&[u8]; 6] = [
            b"\0\xff\xff\xff\xff\x0f",
            b"\0\xff\xff\xff\xff\x1f",
            b"\0\x80\x80\x80\x80\x80\x80\0",
            b"\0\x80",
            b"\0\0",
            b"\0\x05\x0ecall",
        ];
        for section in damaged {
            assert_eq!(find(&with(&[section]), NAME), Err(Damaged(EMPTY.len())), "{section:?}");
            assert!(replace(&with(&[section]), NAME, None).is_err(), "{section:?}");
        }
        assert!(replace(b"\0asm", NAME, None).is_err());
    }
}
