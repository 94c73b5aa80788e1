use std::path::Path;

use super::*;

fn parse_text(text: &str) -> Result<Checked, Problems> {
    let env = |name: &str| (name == "SET").then(|| "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
    parse(text, "callfeed.toml", &env, Path::new(""))
}

#[test]
fn the_shortest_configuration_is_all_defaults() {
    let checked =
        parse_text("[[route]]\nname = \"acme\"\nprovider = \"acme\"\nsecrets.signing = { env = \"SET\" }").unwrap();
    let Config {
        server,
        admin,
        store,
        limits,
        routes,
        ..
    } = checked.config;
    assert_eq!((server, admin, store, limits), Default::default());
    assert_eq!(routes[0].path, "/hooks/acme");
    assert_eq!(routes[0].secrets.len(), 1);
    assert_eq!(routes[0].line, 1);
}
