//! Places in a body: finding what is there, and taking it away.

use callfeed_description::{Pointer, Text};
use callfeed_plugin::json::{List, Object, RawValue, Value};

/// What stands at a place; `None` where nothing does, or where an inner place was read before.
pub(crate) fn find<'a>(object: &mut Object<'a>, pointer: &[Text<'_>]) -> Option<&'a RawValue> {
    match pointer {
        [] => None,
        [last] => object.peek_raw(last),
        [first, rest @ ..] => match open(object, first)? {
            Inside::Object(inner) => find(inner, rest),
            Inside::List(list) => find_in(item(list, rest)?, &rest[1..]),
        },
    }
}

/// As [`find`], from an item of a list, which may be a place itself.
pub(crate) fn find_in<'a>(value: &mut Value<'a>, pointer: &[Text<'_>]) -> Option<&'a RawValue> {
    if pointer.is_empty() {
        return match value {
            Value::Raw(raw) => Some(raw),
            _ => None,
        };
    }
    if let Some(list) = value.open_list() {
        return find_in(item(list, pointer)?, &pointer[1..]);
    }
    find(value.open()?, pointer)
}

/// Takes away what stands at a place. What was read inside of it keeps it there.
pub(crate) fn remove(object: &mut Object<'_>, pointer: &[Text<'_>]) {
    match pointer {
        [] => {}
        [last] => {
            object.take_raw(last);
        }
        [first, rest @ ..] => match open(object, first) {
            Some(Inside::Object(inner)) => remove(inner, rest),
            Some(Inside::List(list)) => {
                if let Some(item) = item(list, rest) {
                    remove_in(item, &rest[1..]);
                }
            }
            None => {}
        },
    }
}

/// As [`remove`], from an item of a list; one that is taken itself leaves its place empty.
pub(crate) fn remove_in(value: &mut Value<'_>, pointer: &[Text<'_>]) {
    if pointer.is_empty() {
        *value = Value::Object(Object::default());
    } else if let Some(list) = value.open_list() {
        if let Some(item) = item(list, pointer) {
            remove_in(item, &pointer[1..]);
        }
    } else if let Some(object) = value.open() {
        remove(object, pointer);
    }
}

/// The list at a place, opened.
pub(crate) fn list<'b, 'a>(object: &'b mut Object<'a>, pointer: &Pointer<'_>) -> Option<&'b mut List<'a>> {
    let (last, parents) = pointer.split_last()?;
    let mut object = object;
    for key in parents {
        object = object.open(key)?;
    }
    object.open_list(last)
}

enum Inside<'b, 'a> {
    Object(&'b mut Object<'a>),
    List(&'b mut List<'a>),
}

fn open<'b, 'a>(object: &'b mut Object<'a>, key: &str) -> Option<Inside<'b, 'a>> {
    // Twice, because what one look borrows the other cannot have.
    if object.open(key).is_some() {
        object.open(key).map(Inside::Object)
    } else {
        object.open_list(key).map(Inside::List)
    }
}

fn item<'b, 'a>(list: &'b mut List<'a>, pointer: &[Text<'_>]) -> Option<&'b mut Value<'a>> {
    list.items().nth(pointer.first()?.parse().ok()?)
}
