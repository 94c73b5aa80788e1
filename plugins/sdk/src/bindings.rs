//! The contract with the gateway, generated from `schemas/plugin/v1`.
//!
//! A plugin author meets these types under the names this crate re-exports; only [`register!`](crate::register) needs
//! the module itself.

wit_bindgen::generate!({
    path: "../../schemas/plugin/v1",
    world: "provider",
    ownership: Borrowing { duplicate_if_necessary: false },
    additional_derives: [PartialEq, Eq],
    pub_export_macro: true,
    default_bindings_module: "callfeed_plugin::bindings",
});
