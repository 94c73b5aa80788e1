//! What an event says: the `data` of the unified event, `schemas/event/v1`.
//!
//! Every member is optional unless its type says otherwise, and what is `None` is left out. Texts are borrowed from the
//! webhook wherever it has them. The gateway adds `provider`, `test`, `time_is_received` and `corrects`.

use std::borrow::Cow;

use serde::Serialize;

use crate::{
    json::{Object, RawValue, Word},
    phone,
    time::Time,
};

/// A text, borrowed from the webhook where possible.
pub type Text<'a> = Cow<'a, str>;

/// The `data` of an event: the blocks that apply, and what has no place in them.
#[derive(Debug, Default, Serialize)]
pub struct Data<'a> {
    /// The provider's own name for the event, as sent.
    pub provider_event: Text<'a>,
    /// The call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<Call<'a>>,
    /// The text message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Message<'a>>,
    /// The written conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat<'a>>,
    /// The e-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Email<'a>>,
    /// The lead, or the lead a call belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead: Option<Lead<'a>>,
    /// The campaign, or the campaign a call belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Campaign<'a>>,
    /// What brought the caller here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<Attribution<'a>>,
    /// What the customer gave the provider to carry along, an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<&'a RawValue>,
    /// What is left of the webhook, in the shape it had.
    #[serde(skip_serializing_if = "Object::is_empty")]
    pub extra: Object<'a>,
}

/// A call.
#[derive(Debug, Default, Serialize)]
pub struct Call<'a> {
    /// The provider's id of the call.
    pub id: Text<'a>,
    /// Seen from the provider's customer.
    pub direction: Direction,
    /// Where in its life the call is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<CallState>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<CallOutcome>,
    /// Who calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Party<'a>>,
    /// Who is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Party<'a>>,
    /// The line or device the call goes through, where it is neither end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<Party<'a>>,
    /// Where the call was passed on to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded_to: Option<Party<'a>>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time<'a>>,
    /// When somebody took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Time<'a>>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time<'a>>,
    /// From beginning to end, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<Seconds>,
    /// From the answer to the end, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub talk_seconds: Option<Seconds>,
    /// The agent, human or not, that handled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent<'a>>,
    /// What picked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<AnsweredBy>,
    /// The recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording<'a>>,
    /// What was said, in order; `None` when the provider sent no transcript, empty when it sent an empty one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Vec<Turn<'a>>>,
    /// What it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Text<'a>>,
    /// What the provider read out of the conversation: an object of the customer's own keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extracted: Option<&'a RawValue>,
    /// What the call went through, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step<'a>>,
    /// The result in the customer's own words, such as `booked_callback`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disposition: Option<Text<'a>>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error<'a>>,
}

/// A text message.
#[derive(Debug, Default, Serialize)]
pub struct Message<'a> {
    /// The provider's id of the message.
    pub id: Text<'a>,
    /// What it travels by.
    pub channel: Channel,
    /// Seen from the provider's customer.
    pub direction: Direction,
    /// Who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Party<'a>>,
    /// Whom it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Party<'a>>,
    /// What it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Text<'a>>,
    /// What comes with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media<'a>>,
    /// When it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Time<'a>>,
    /// When the provider received it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Time<'a>>,
    /// The conversation it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<Text<'a>>,
    /// The id of the message it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<Text<'a>>,
    /// The agent that handles the conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent<'a>>,
    /// Why the provider sent it, in its own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Text<'a>>,
}

/// A written conversation, as a whole.
#[derive(Debug, Default, Serialize)]
pub struct Chat<'a> {
    /// The provider's id of the conversation.
    pub id: Text<'a>,
    /// The provider's id of the visitor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visitor_id: Option<Text<'a>>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time<'a>>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time<'a>>,
    /// Why it is over, in the provider's own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_reason: Option<Text<'a>>,
    /// How many messages were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_count: Option<u64>,
    /// The agent, human or not, that handled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent<'a>>,
    /// What was written, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Vec<Turn<'a>>>,
    /// What it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Text<'a>>,
    /// What the provider read out of the conversation: an object of the customer's own keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extracted: Option<&'a RawValue>,
}

/// An e-mail. Addresses are as sent.
#[derive(Debug, Default, Serialize)]
pub struct Email<'a> {
    /// The provider's id of the e-mail.
    pub id: Text<'a>,
    /// Who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Text<'a>>,
    /// Whom it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Text<'a>>,
    /// Its subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Text<'a>>,
    /// What it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Text<'a>>,
    /// When the provider received it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Time<'a>>,
}

/// A lead.
#[derive(Debug, Default, Serialize)]
pub struct Lead<'a> {
    /// The provider's id of the lead.
    pub id: Text<'a>,
    /// What kind of thing it came from, in the provider's own word, such as `call`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_type: Option<Text<'a>>,
    /// The id of what it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_id: Option<Text<'a>>,
    /// The person's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Text<'a>>,
    /// The person's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<Party<'a>>,
    /// The person's e-mail address, as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Text<'a>>,
    /// When it became a lead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time<'a>>,
}

/// A campaign of calls.
#[derive(Debug, Default, Serialize)]
pub struct Campaign<'a> {
    /// The provider's id of the campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Text<'a>>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Text<'a>>,
    /// The id of this call's entry in the campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_id: Option<Text<'a>>,
    /// Its state in the provider's own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Text<'a>>,
    /// Why it is in that state, in the provider's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text<'a>>,
    /// How far it has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leads: Option<LeadCounts>,
}

/// How many people a campaign is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeadCounts {
    /// All of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Those it is done with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<u64>,
    /// Those it gave up on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<u64>,
    /// Those still to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<u64>,
}

/// What brought a caller: the marketing channel and the traces of a visit.
#[derive(Debug, Default, Serialize)]
pub struct Attribution<'a> {
    /// The channel's name as the customer calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<Text<'a>>,
    /// The channel's kind in the provider's own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_type: Option<Text<'a>>,
    /// Whether this caller was never heard of before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_time_caller: Option<bool>,
    /// Google's click id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gclid: Option<Text<'a>>,
    /// Microsoft's click id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msclkid: Option<Text<'a>>,
    /// Google Analytics' client id, as its cookie has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ga: Option<Text<'a>>,
    /// UTM parameters, in the order they came.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub utm: Vec<Parameter<'a>>,
    /// Query parameters of the page the visit began on: an object of the customer's own keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<&'a RawValue>,
}

/// A name and a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parameter<'a> {
    /// Its name, such as `utm_source`.
    pub key: Text<'a>,
    /// Its value.
    pub value: Text<'a>,
}

/// An end of a call or a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Party<'a> {
    /// E.164, or null when what was sent is no number or does not say which country it is in.
    pub number: Option<Text<'a>>,
    /// As sent.
    pub raw: Text<'a>,
    /// The name that goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Text<'a>>,
    /// The country, as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<Text<'a>>,
    /// The kind of line, as sent, such as `mobile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line_type: Option<Text<'a>>,
}

impl<'a> Party<'a> {
    /// A party whose number is written internationally, with `+`; another text is kept as it is, without a number.
    pub fn read(raw: Text<'a>) -> Self {
        Self::with_number(phone::e164(&raw), raw)
    }

    /// A party whose number may begin with `00` instead of `+`.
    pub fn read_00(raw: Text<'a>) -> Self {
        Self::with_number(phone::e164_from_00(&raw).or_else(|| phone::e164(&raw)), raw)
    }

    /// A party whose number begins with the country code, with or without `+`.
    pub fn read_digits(raw: Text<'a>) -> Self {
        Self::with_number(phone::e164_from_digits(&raw).or_else(|| phone::e164(&raw)), raw)
    }

    fn with_number(number: Option<String>, raw: Text<'a>) -> Self {
        Self {
            number: number.map(Cow::Owned),
            raw,
            ..Self::default()
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Turn<'a> {
    /// Who speaks.
    pub speaker: Speaker,
    /// What is said.
    pub text: Text<'a>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Time<'a>>,
}

/// Whoever handles calls for the customer, human or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Agent<'a> {
    /// The provider's id of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Text<'a>>,
    /// The agent's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Text<'a>>,
}

impl<'a> Agent<'a> {
    /// An agent of whom at least one thing is known.
    pub fn known(id: Option<Text<'a>>, name: Option<Text<'a>>) -> Option<Self> {
        (id.is_some() || name.is_some()).then_some(Self { id, name })
    }
}

/// A recording of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recording<'a> {
    /// Where it is.
    pub url: Text<'a>,
    /// Until when the address works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time<'a>>,
}

/// Something that comes with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Media<'a> {
    /// Where it is.
    pub url: Text<'a>,
    /// Its media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Text<'a>>,
    /// The text under it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caption: Option<Text<'a>>,
}

/// A station of a call.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Step<'a> {
    /// The provider's own name for it.
    pub name: Text<'a>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Time<'a>>,
    /// What the provider says about it, as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<&'a RawValue>,
}

/// What went wrong, in the provider's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Error<'a> {
    /// A sentence.
    pub message: Text<'a>,
    /// A code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Text<'a>>,
}

/// A length of time in seconds. Whole ones are written without a fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seconds(f64);

impl Seconds {
    /// `None` for what no length of time is: negative, or not finite.
    pub fn new(seconds: f64) -> Option<Self> {
        (seconds.is_finite() && seconds >= 0.0).then_some(Self(seconds))
    }

    /// From milliseconds.
    pub fn from_ms(ms: i64) -> Option<Self> {
        Self::new(ms as f64 / 1000.0)
    }
}

impl Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
        if self.0.fract() == 0.0 && self.0 < WHOLE_MAX {
            serializer.serialize_u64(self.0 as u64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// An enum whose variants are words of the schema, and its list of words for the test that compares the two.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every word, in order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
        }

        impl Word for $name {
            fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

words! {
    /// Which way a call or a message goes, seen from the provider's customer.
    #[derive(Default)]
    Direction {
        /// To the customer.
        Inbound = "inbound",
        /// From the customer.
        Outbound = "outbound",
        /// The provider does not say.
        #[default]
        Unknown = "unknown",
    }
}

words! {
    /// Where in its life a call is.
    CallState {
        /// Asked for, or being dialled.
        Initiated = "initiated",
        /// Ringing.
        Ringing = "ringing",
        /// Taken, and going on.
        Answered = "answered",
        /// Handed to somebody else.
        Transferred = "transferred",
        /// Over.
        Ended = "ended",
    }
}

words! {
    /// How a call ended.
    CallOutcome {
        /// It was held.
        Completed = "completed",
        /// Nobody at the customer's took it.
        Missed = "missed",
        /// The one called did not answer.
        NoAnswer = "no_answer",
        /// The line was busy.
        Busy = "busy",
        /// It was turned down.
        Rejected = "rejected",
        /// It was called off.
        Cancelled = "cancelled",
        /// It did not come about, or broke.
        Failed = "failed",
    }
}

words! {
    /// What picked up.
    AnsweredBy {
        /// A person.
        Human = "human",
        /// An answering machine.
        Voicemail = "voicemail",
        /// A menu of a telephone system.
        Ivr = "ivr",
        /// The provider could not tell.
        Unknown = "unknown",
    }
}

words! {
    /// Who speaks.
    #[derive(Default)]
    Speaker {
        /// The customer's side, human or not.
        Agent = "agent",
        /// The other side, also where it was called.
        Customer = "customer",
        /// Neither: an instruction or a notice.
        System = "system",
        /// The provider does not say, or says it in a word the plugin does not know.
        #[default]
        Unknown = "unknown",
    }
}

words! {
    /// What a message travels by.
    #[derive(Default)]
    Channel {
        /// SMS or MMS.
        #[default]
        Sms = "sms",
        /// WhatsApp.
        Whatsapp = "whatsapp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_have_no_fraction() {
        let text = |seconds| serde_json::to_string(&Seconds::new(seconds)).unwrap();
        assert_eq!(
            (text(127.0), text(94.6), text(0.0), text(0.1)),
            ("127".into(), "94.6".into(), "0".into(), "0.1".into())
        );
        assert_eq!((Seconds::new(-1.0), Seconds::new(f64::NAN)), (None, None));
        assert_eq!(Seconds::from_ms(1500), Seconds::new(1.5));
    }

    #[test]
    fn what_is_unknown_is_left_out_except_a_partys_number() {
        let data = Data {
            provider_event: "x".into(),
            call: Some(Call {
                id: "1".into(),
                to: Some(Party::read("anonymous".into())),
                ..Call::default()
            }),
            ..Data::default()
        };
        let expected =
            r#"{"provider_event":"x","call":{"id":"1","direction":"unknown","to":{"number":null,"raw":"anonymous"}}}"#;
        assert_eq!(serde_json::to_string(&data).unwrap(), expected);
    }
}
