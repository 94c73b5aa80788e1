//! What the plugin does while it is being described.

use std::hint::black_box;

use callfeed_plugin::{
    Descriptor, SecretSpec,
    crypto::{self, Failure, Part},
    environment, kind,
};

use super::excess;

/// The scene's name, padded with spaces. The tests write another one of the same length over it in the built file.
static SCENE: &str = "scene: as it should be              ";

pub(crate) fn play(descriptor: Descriptor) -> Descriptor {
    let scene = black_box(SCENE).strip_prefix("scene: ").map(str::trim_end);
    match scene.expect("the mark is still there") {
        "spin" => excess::spin(),
        "grow" => excess::grow(),
        "recurse" => excess::recurse(),
        "panic" => panic!("out of spite"),
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(30)),
        "log-flood" => excess::flood_the_log(),
        "use-keys" => use_keys(),
        "provider" => {
            return Descriptor {
                provider: "Rogue/../\n".into(),
                ..descriptor
            };
        }
        "dash" => {
            return Descriptor {
                provider: "-rogue".into(),
                ..descriptor
            };
        }
        "no-provider" => {
            return Descriptor {
                provider: String::new(),
                ..descriptor
            };
        }
        "schema" => {
            return Descriptor {
                schema: "call-event/2".into(),
                ..descriptor
            };
        }
        "assurance" => return descriptor.assurance("none"),
        "no-methods" => {
            return Descriptor {
                methods: Vec::new(),
                ..descriptor
            };
        }
        "method" => {
            return Descriptor {
                methods: vec!["GET\r\nx-rogue: 1".into()],
                ..descriptor
            };
        }
        "type" => return descriptor.event("ended", "call.exploded"),
        "encoding" => return descriptor.secret(SecretSpec::utf8("other", "any text").encoding("rot13")),
        "same-secret-twice" => return descriptor.secret(SecretSpec::utf8("signing", "any text").encoding("hex")),
        "options-not-json" => return descriptor.options_schema("{"),
        "options-not-a-schema" => return descriptor.options_schema(r#"{"type":"rogue"}"#),
        "options-from-the-net" => {
            return descriptor.options_schema(r#"{"$ref":"http://127.0.0.1:1/options.schema.json"}"#);
        }
        "options-from-a-file" => return descriptor.options_schema(r#"{"$ref":"file:///etc/hostname"}"#),
        "header" => return descriptor.headers(&["x rogue\r\n"]),
        "10-mb" => {
            return Descriptor {
                display_name: "x".repeat(10_000_000),
                ..descriptor
            };
        }
        "3-mib" => {
            return Descriptor {
                display_name: "x".repeat(3 << 20),
                ..descriptor
            };
        }
        "100000-events" => {
            return (0..100_000).fold(descriptor, |descriptor, _| descriptor.event("e", kind::PROVIDER_OTHER));
        }
        _ => {}
    }
    descriptor
}

/// There is no webhook and no route: everything keyed is refused, and what is not stays harmless.
fn use_keys() {
    let refused = |result: Result<(), Failure>| assert!(matches!(result, Err(Failure::Refused(_))), "{result:?}");
    refused(crypto::verify_hmac("signing", "sha256", &[Part::Body], &[0; 32]));
    refused(crypto::verify_token("signing", b""));
    refused(crypto::hmac("answering", "sha256", &[]).map(drop));
    assert!(crypto::hash("sha256", &[Part::Body]).is_ok());
    assert_eq!(environment::options_json(), "{}");
    assert_eq!(environment::now_ms(), 0);
}
