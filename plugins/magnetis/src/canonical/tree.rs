//! A document as PHP holds it: order kept, integers apart from floats, and no key twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// Refuses a document in which an object has the same key twice: what it says would depend on the reader.
    pub fn from_json(text: &str) -> Result<Tree, serde_json::Error> {
        serde_json::from_str(text)
    }

    pub fn is_nested(&self) -> bool {
        matches!(self, Tree::List(_) | Tree::Object(_))
    }
}

/// A top-level member of a JSON body, with the bytes its value had there.
#[derive(Debug)]
pub struct Member<'a> {
    pub key: String,
    pub value: Tree,
    pub text: &'a str,
}

/// The top-level members of a JSON object, in the order sent.
pub(crate) fn members(text: &str) -> Result<Vec<Member<'_>>, serde_json::Error> {
    let Raw(members) = serde_json::from_str(text)?;
    members
        .into_iter()
        .map(|(key, raw)| {
            Ok(Member {
                key,
                value: Tree::from_json(raw.get())?,
                text: raw.get(),
            })
        })
        .collect()
}

struct Raw<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                entries(map).map(Raw)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }

            fn visit_unit<E: Error>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Integer(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Tree, E> {
                // json_decode without JSON_BIGINT_AS_STRING: what does not fit an integer becomes a float.
                Ok(i64::try_from(value).map_or(Tree::Float(value as f64), Tree::Integer))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Float(value))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }

            fn visit_string<E: Error>(self, value: String) -> Result<Tree, E> {
                Ok(Tree::Text(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Tree::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tree, A::Error> {
                entries(map).map(Tree::Object)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

fn entries<'de, A: MapAccess<'de>, V: Deserialize<'de>>(mut map: A) -> Result<Vec<(String, V)>, A::Error> {
    let mut entries: Vec<(String, V)> = Vec::new();
    while let Some(entry) = map.next_entry()? {
        entries.push(entry);
    }
    let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(A::Error::custom("a key occurs twice"));
    }
    Ok(entries)
}
