//! A provider that the configuration describes (`[[provider]]`), as the gateway hands it to the plugin that serves it.
//!
//! The gateway reads the block, checks everything about it and compiles it to a [`Description`]: templates are split,
//! names of members are held against the event's schema, every pointer is listed once. The plugin gets it as its
//! [`Options`] and only follows it. Both are of one build, so nothing here has to stay as it is.

#![warn(missing_docs)]

use std::{borrow::Cow, ops::Deref};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};

/// A description as the plugin's options. It is read again for every webhook, and as plain JSON it would cost more than all
/// else that the plugin does.
#[derive(Debug, Serialize, Deserialize)]
pub struct Options<'a> {
    #[serde(borrow)]
    scheme: Cow<'a, str>,
    #[serde(borrow)]
    mapping: Cow<'a, str>,
}

/// Why options are not those of a described provider.
#[derive(Debug)]
pub struct Unreadable;

/// A part of a description, decoded. Texts are borrowed from it.
#[derive(Debug)]
pub struct Part(Vec<u8>);

impl Part {
    fn decode(text: &str) -> Result<Self, Unreadable> {
        BASE64_STANDARD_NO_PAD.decode(text).map(Self).map_err(|_| Unreadable)
    }

    /// What it says.
    ///
    /// # Errors
    ///
    /// When the gateway and the plugin are not of one build.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Unreadable> {
        postcard::from_bytes(&self.0).map_err(|_| Unreadable)
    }
}

impl<'a> Options<'a> {
    /// Reads the options' JSON.
    ///
    /// # Errors
    ///
    /// When it is not that of a described provider.
    pub fn parse(json: &'a str) -> Result<Self, Unreadable> {
        serde_json::from_str(json).map_err(|_| Unreadable)
    }

    /// The [`Scheme`].
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn scheme(&self) -> Result<Part, Unreadable> {
        Part::decode(&self.scheme)
    }

    /// The [`Mapping`].
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn mapping(&self) -> Result<Part, Unreadable> {
        Part::decode(&self.mapping)
    }
}

/// A text, borrowed from where the description was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text<'_> {
    fn from(text: &str) -> Self {
        Self(Cow::Owned(text.to_owned()))
    }
}

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Description<'a> {
    /// What proves a webhook.
    pub scheme: Scheme<'a>,
    /// What becomes of it.
    pub mapping: Mapping<'a>,
}

impl Description<'_> {
    /// The JSON of the plugin's options.
    pub fn to_options(&self) -> String {
        let part = |part: postcard::Result<Vec<u8>>| {
            Cow::Owned(BASE64_STANDARD_NO_PAD.encode(part.expect("a description has nothing that cannot be written")))
        };
        let options = Options {
            scheme: part(postcard::to_allocvec(&self.scheme)),
            mapping: part(postcard::to_allocvec(&self.mapping)),
        };
        serde_json::to_string(&options).expect("two texts cannot fail to serialize")
    }
}

/// What proves that the provider sent a webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Scheme<'a> {
    /// A signature in a header.
    Signature(#[serde(borrow)] Signature<'a>),
    /// A shared value, presented as it is.
    Token(#[serde(borrow)] Token<'a>),
}

/// A signature, where it stands and what it is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signature<'a> {
    /// The name of the secret, or of the public key.
    #[serde(borrow)]
    pub secret: Text<'a>,
    /// How it was made.
    pub algorithm: Algorithm,
    /// How its bytes are written.
    pub encoding: Encoding,
    /// The header it stands in, in lower case.
    #[serde(borrow)]
    pub header: Text<'a>,
    /// How that header's value is put together.
    #[serde(borrow)]
    pub pattern: Pattern<'a>,
    /// What was signed, piece by piece.
    #[serde(borrow)]
    pub message: Vec<Piece<'a>>,
    /// When it was signed, where that is said.
    #[serde(borrow)]
    pub timestamp: Option<Timestamp<'a>>,
}

/// How a signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-1.
    HmacSha1,
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
    /// Ed25519, under a public key.
    Ed25519,
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// Two hexadecimal digits a byte, in either case.
    Hex,
    /// Base64 of the standard alphabet, padded.
    Base64,
}

/// How a header's value is put together: items in any order, each of them as often as it likes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pattern<'a> {
    /// What stands between two items; `None` when the whole value is one.
    pub separator: Option<char>,
    /// The items that matter.
    #[serde(borrow)]
    pub items: Vec<Item<'a>>,
}

/// One item of a header's value, such as `v0=…`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item<'a> {
    /// What stands before it.
    #[serde(borrow)]
    pub before: Text<'a>,
    /// What it is.
    pub holds: Placeholder,
    /// What stands after it.
    #[serde(borrow)]
    pub after: Text<'a>,
}

/// What an item of a header's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placeholder {
    /// The signature.
    Signature,
    /// When it was signed.
    Timestamp,
}

/// A piece of what is signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Piece<'a> {
    /// The same in every webhook.
    Text(#[serde(borrow)] Text<'a>),
    /// The value of a header, named in lower case.
    Header(#[serde(borrow)] Text<'a>),
    /// The time of signing, as it was sent.
    Timestamp,
    /// The body.
    Body,
}

/// When a webhook was signed, and how long ago that may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timestamp<'a> {
    /// The header that says it, in lower case; `None` when that of the signature does.
    #[serde(borrow)]
    pub header: Option<Text<'a>>,
    /// What it is written in.
    pub unit: Moment,
    /// How old it may be.
    pub old_seconds_max: u32,
    /// How far ahead of our clock it may be.
    pub ahead_seconds_max: u32,
}

/// How a point in time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// RFC 3339.
    Rfc3339,
    /// Seconds since the Unix epoch.
    Seconds,
    /// Milliseconds since the Unix epoch.
    Milliseconds,
}

/// A shared value, and where it is presented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token<'a> {
    /// The name of the secret.
    #[serde(borrow)]
    pub secret: Text<'a>,
    /// Where it stands.
    #[serde(borrow)]
    pub place: Place<'a>,
    /// What stands before it there, such as `Bearer `.
    #[serde(borrow)]
    pub prefix: Text<'a>,
}

/// Where a token is presented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Place<'a> {
    /// In this header, named in lower case.
    Header(#[serde(borrow)] Text<'a>),
    /// In this query parameter.
    Query(#[serde(borrow)] Text<'a>),
    /// In this member of the body.
    Body(#[serde(borrow)] Pointer<'a>),
}

/// A JSON Pointer (RFC 6901), split and without its escapes.
pub type Pointer<'a> = Vec<Text<'a>>;

/// What becomes of a webhook. Numbers of pointers are places in [`pointers`](Self::pointers).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mapping<'a> {
    /// Everything that is read, each place once.
    #[serde(borrow)]
    pub pointers: Vec<Pointer<'a>>,
    /// Their numbers in the order to read them in: outer places before inner ones.
    pub order: Vec<usize>,
    /// What names the event.
    pub event: usize,
    /// What tells an event from all others, together. Empty: its name and the id of what it is of, the block of its
    /// [`family`]; or for one without a name here everything it says.
    pub id: Vec<usize>,
    /// What an event of such a name becomes; the first that fits counts. Without one: `provider.other`.
    #[serde(borrow)]
    pub types: Vec<(Text<'a>, Becomes<'a>)>,
    /// When it happened.
    #[serde(borrow)]
    pub occurred_at: Option<Leaf<'a>>,
    /// Whether it is a test.
    #[serde(borrow)]
    pub test: Option<Leaf<'a>>,
    /// The members of the event's data.
    #[serde(borrow)]
    pub members: Vec<(Text<'a>, Node<'a>)>,
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Becomes<'a> {
    /// An event of this unified type.
    Type(#[serde(borrow)] Text<'a>),
    /// A call that is over, of the type that `call.outcome` says.
    ByOutcome,
    /// Nothing.
    Ignored,
}

/// A member of the event's data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Node<'a> {
    /// One value.
    Leaf(#[serde(borrow)] Leaf<'a>),
    /// An object, left out unless it has all that it requires.
    Object {
        /// The members without which there is no such object.
        #[serde(borrow)]
        required: Vec<Text<'a>>,
        /// Its members.
        #[serde(borrow)]
        members: Vec<(Text<'a>, Node<'a>)>,
    },
    /// A list: the first of these that is there.
    List(#[serde(borrow)] Vec<List<'a>>),
}

/// One value: the first of these that is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leaf<'a> {
    /// Where only some words are allowed, all of them.
    #[serde(borrow)]
    pub words: Vec<Text<'a>>,
    /// What to try, in order.
    #[serde(borrow)]
    pub rules: Vec<Rule<'a>>,
}

/// One way to a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule<'a> {
    /// Where it comes from.
    #[serde(borrow)]
    pub source: Source<'a>,
    /// What is made of it.
    pub conversion: Conversion,
    /// What has to hold.
    #[serde(borrow)]
    pub when: Vec<Condition<'a>>,
    /// What is written instead of which values; the first that fits counts. Where there are some, a value that none fits stands
    /// for nothing.
    #[serde(borrow)]
    pub values: Vec<(Text<'a>, Text<'a>)>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Source<'a> {
    /// The webhook.
    Pointer(usize),
    /// It is always this.
    Const(#[serde(borrow)] Text<'a>),
}

/// A value of the webhook and what it may be: patterns, of which one has to fit.
pub type Condition<'a> = (usize, Vec<Text<'a>>);

/// What a value becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Conversion {
    /// A text.
    Text,
    /// One of the words of the schema.
    Word,
    /// A party whose number is written with `+`.
    Number,
    /// A party whose number may begin with `00` instead.
    Number00,
    /// A party whose number begins with the country code, with or without `+`.
    NumberDigits,
    /// A point in time.
    Time(Moment),
    /// A length of time in units of so many milliseconds.
    Duration(u32),
    /// A length of time written as `mm:ss` or `hh:mm:ss`.
    Clock,
    /// The point in time so many units of so many milliseconds after the start of the call.
    IntoCall(u32),
    /// True or false.
    Boolean,
    /// A whole number that is not negative.
    Count,
    /// An object, as it is.
    Object,
    /// Anything, as it is.
    Any,
}

/// One way to a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct List<'a> {
    /// What it is made of.
    pub pointer: usize,
    /// What has to hold.
    #[serde(borrow)]
    pub when: Vec<Condition<'a>>,
    /// How.
    #[serde(borrow)]
    pub items: Items<'a>,
}

/// How a list is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Items<'a> {
    /// Of another list, item by item. Pointers are of the item.
    Each {
        /// Everything that is read of an item.
        #[serde(borrow)]
        pointers: Vec<Pointer<'a>>,
        /// Their numbers in the order to read them in.
        order: Vec<usize>,
        /// The members without which there is no item.
        #[serde(borrow)]
        required: Vec<Text<'a>>,
        /// What becomes of it.
        #[serde(borrow)]
        members: Vec<(Text<'a>, Node<'a>)>,
        /// When the call began, for times that are said relative to it. Pointers are of the webhook.
        #[serde(borrow)]
        start: Option<Leaf<'a>>,
    },
    /// Turns of a text whose lines begin with who speaks: labels and speakers.
    Labels(#[serde(borrow)] Vec<(Text<'a>, Text<'a>)>),
}

/// The blocks of an event's data that have an id of their own. What it is about, unless it is of another: the first of them.
pub const SUBJECTS: [&str; 6] = ["call", "message", "chat", "email", "lead", "campaign"];

/// What an event of this type is of: `call` of `call.ended`. One of the [`SUBJECTS`], or `provider`.
pub fn family(kind: &str) -> &str {
    kind.split_once('.').map_or(kind, |(family, _)| family)
}

/// Whether a text fits a pattern: the text itself, or its beginning and `*`.
pub fn fits(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => text.starts_with(beginning),
        None => pattern == text,
    }
}
