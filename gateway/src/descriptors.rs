//! How many files and sockets the process may have open at once.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{
    admin,
    config::{Config, Problem},
};

/// The store, its readers, the log, and what the system's libraries open.
const MARGIN: usize = 192;

/// Takes as many as the process may have. What it begins with is often a default from a time of programs that broke with
/// more.
pub(crate) fn raise() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}

/// What to say when the configuration allows more than the process may have.
pub(crate) fn shortage(config: &Config) -> Option<Problem> {
    let in_flight: usize = config
        .subscribers
        .iter()
        .map(|subscriber| subscriber.in_flight_max)
        .sum();
    let wanted = config.server.connections_max + in_flight + admin::CONNECTIONS_MAX + MARGIN;
    let allowed = getrlimit(Resource::Nofile)
        .maximum
        .filter(|allowed| *allowed < wanted as u64)?;
    Some(Problem::warning(
        0,
        "server.max_connections",
        format!(
            "with all connections, deliveries and files open at once the gateway needs {wanted} descriptors, and the \
             system allows it {allowed}"
        ),
        "raise the hard limit (ulimit -Hn, or LimitNOFILE= of the service), or lower server.max_connections",
    ))
}
