//! Places in a body: finding what is there, and taking it away.

use callfeed_description::Text;
use callfeed_plugin::json::{List, Object, RawValue, Value};

/// What stands at a place; `None` where nothing does, or where an inner place was read before.
pub(crate) fn find<'a>(object: &mut Object<'a>, pointer: &[Text<'_>]) -> Option<&'a RawValue> {
    find_inside(Inside::Object(object), pointer)
}

/// As [`find`], from an item of a list, which may be a place itself.
pub(crate) fn find_in<'a>(value: &mut Value<'a>, pointer: &[Text<'_>]) -> Option<&'a RawValue> {
    match (pointer, value) {
        ([], Value::Raw(raw)) => Some(raw),
        ([], _) => None,
        (_, value) => find_inside(Inside::of(value)?, pointer),
    }
}

fn find_inside<'a>(inside: Inside<'_, 'a>, pointer: &[Text<'_>]) -> Option<&'a RawValue> {
    match inside.at_last(pointer)? {
        (Inside::Object(object), key) => object.peek_raw(key),
        (Inside::List(list), key) => find_in(item(list, key)?, &[]),
    }
}

/// Takes away what stands at a place. What was read inside of it keeps it there.
pub(crate) fn remove(object: &mut Object<'_>, pointer: &[Text<'_>]) {
    remove_inside(Inside::Object(object), pointer);
}

/// As [`remove`], from an item of a list; one that is taken itself leaves its place empty.
pub(crate) fn remove_in(value: &mut Value<'_>, pointer: &[Text<'_>]) {
    if pointer.is_empty() {
        *value = Value::Object(Object::default());
    } else if let Some(inside) = Inside::of(value) {
        remove_inside(inside, pointer);
    }
}

fn remove_inside(inside: Inside<'_, '_>, pointer: &[Text<'_>]) {
    match inside.at_last(pointer) {
        Some((Inside::Object(object), key)) => {
            object.take_raw(key);
        }
        Some((Inside::List(list), key)) => {
            if let Some(item) = item(list, key) {
                remove_in(item, &[]);
            }
        }
        None => {}
    }
}

/// The list at a place, opened.
pub(crate) fn list<'b, 'a>(object: &'b mut Object<'a>, pointer: &[Text<'_>]) -> Option<&'b mut List<'a>> {
    match Inside::Object(object).at_last(pointer)? {
        (Inside::Object(object), key) => object.open_list(key),
        (Inside::List(list), key) => item(list, key)?.open_list(),
    }
}

/// What has places inside.
enum Inside<'b, 'a> {
    Object(&'b mut Object<'a>),
    List(&'b mut List<'a>),
}

impl<'b, 'a> Inside<'b, 'a> {
    fn of(value: &'b mut Value<'a>) -> Option<Self> {
        // Twice, because what one look borrows the other cannot have.
        if value.open().is_some() {
            value.open().map(Self::Object)
        } else {
            value.open_list().map(Self::List)
        }
    }

    /// What the last part of a pointer is a part of, and that part.
    fn at_last<'p>(self, pointer: &'p [Text<'_>]) -> Option<(Self, &'p str)> {
        let (last, parents) = pointer.split_last()?;
        let mut inside = self;
        for key in parents {
            inside = match inside {
                Self::Object(object) => open(object, key)?,
                Self::List(list) => Self::of(item(list, key)?)?,
            };
        }
        Some((inside, last))
    }
}

fn open<'b, 'a>(object: &'b mut Object<'a>, key: &str) -> Option<Inside<'b, 'a>> {
    if object.open(key).is_some() {
        object.open(key).map(Inside::Object)
    } else {
        object.open_list(key).map(Inside::List)
    }
}

fn item<'b, 'a>(list: &'b mut List<'a>, key: &str) -> Option<&'b mut Value<'a>> {
    list.items().nth(key.parse().ok()?)
}
