//! Which events a subscriber wants.

use crate::{
    config::Filter,
    event::{ERASED, Kept},
};

/// Whether a subscriber wants an event.
pub(super) fn passes(filter: &Filter, event: &Kept) -> bool {
    let Filter {
        types,
        routes,
        numbers,
        min_duration,
        test,
    } = filter;
    let facts = &event.facts;
    event.kind != ERASED
        && (types.is_empty() || types.iter().any(|pattern| pattern.matches(&event.kind)))
        && (routes.is_empty() || routes.contains(&event.route))
        && (numbers.is_empty()
            || facts
                .numbers
                .iter()
                .any(|number| numbers.iter().any(|pattern| pattern.matches(number))))
        && min_duration.is_none_or(|min| {
            facts
                .duration_seconds
                .is_some_and(|seconds| seconds >= min.as_secs_f64())
        })
        && test.is_none_or(|test| facts.test == test)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{config::Pattern, outbound::tests};

    #[test]
    fn the_filter_holds_all_its_conditions() {
        let mut event = tests::event(1, "a");
        event.facts.numbers = vec!["+16045550123".into(), "+33123456789".into()];
        event.facts.duration_seconds = Some(12.5);
        let filter = |change: fn(&mut Filter)| {
            let mut filter = Filter::default();
            change(&mut filter);
            filter
        };
        for (wanted, filter) in [
            (true, filter(|_| {})),
            (true, filter(|it| it.types = vec![Pattern::Prefix("call.".into())])),
            (
                false,
                filter(|it| it.types = vec![Pattern::Exact("call.missed".into())]),
            ),
            (true, filter(|it| it.routes = vec!["other".into(), "magpipe".into()])),
            (false, filter(|it| it.routes = vec!["other".into()])),
            (true, filter(|it| it.numbers = vec![Pattern::Prefix("+1604".into())])),
            (false, filter(|it| it.numbers = vec![Pattern::Exact("+1604".into())])),
            (true, filter(|it| it.min_duration = Some(Duration::from_millis(12_500)))),
            (false, filter(|it| it.min_duration = Some(Duration::from_secs(13)))),
            (true, filter(|it| it.test = Some(false))),
            (false, filter(|it| it.test = Some(true))),
        ] {
            assert_eq!(passes(&filter, &event), wanted, "{filter:?}");
        }
        event.facts.duration_seconds = None;
        assert!(!passes(&filter(|it| it.min_duration = Some(Duration::ZERO)), &event));
    }
}
