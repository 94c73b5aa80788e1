use std::collections::BTreeSet;

use callfeed::simulate;
use harness::{Gateway, Setup};

pub(crate) const PROVIDERS: [&str; 5] = ["magpipe", "magnetis", "voxagent", "topcalls", "salpre"];
/// Magpipe forwards WhatsApp messages unsigned.
const UNSIGNED_ROUTE: &str = "magpipe-whatsapp";

/// A route for every provider; no subscriber yet.
pub(crate) fn every_route() -> Setup {
    let setup = PROVIDERS.into_iter().fold(Setup::new(), Setup::route);
    setup.route_with(UNSIGNED_ROUTE, "magpipe", "allow_unsigned = true")
}

/// Posts every sample of every provider once, and returns the ids of the events.
pub(crate) async fn post_every_sample(gateway: &Gateway) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for sample in PROVIDERS.into_iter().flat_map(simulate::samples) {
        let webhook = match sample.name {
            name @ "whatsapp-received" => gateway.sample(UNSIGNED_ROUTE, name).unsigned(),
            name => gateway.sample(sample.provider, name),
        };
        let accepted = gateway.post(&webhook).await.accepted();
        assert!(
            !accepted.is_empty(),
            "{} {} became no event",
            sample.provider,
            sample.name
        );
        for id in accepted {
            assert!(
                ids.insert(id),
                "{} {} is the same event as another sample",
                sample.provider,
                sample.name
            );
        }
    }
    ids
}
