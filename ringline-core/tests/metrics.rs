//! A program that links the library finds its metrics in the metriken registry.
//!
//! The entries of the registry are statics that nothing refers to by name. This test is a program
//! of its own, so it shows that the linker keeps them.

use ringline_core as _;
use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../docs/metrics.md");

#[test]
fn every_documented_metric_is_in_the_registry_exactly_once() {
    let documented: BTreeSet<_> = DOCUMENT
        .lines()
        .filter(|line| line.starts_with("| `ringline/"))
        .filter_map(|line| line.split('`').nth(1))
        .collect();
    assert!(documented.contains("ringline/connections/accepted"), "the document has tables");
    let registry = metriken::metrics();
    let mut registered: Vec<_> = registry
        .iter()
        .map(metriken::MetricEntry::name)
        .filter(|name| name.starts_with("ringline/"))
        .collect();
    registered.sort_unstable();
    assert!(registered.iter().eq(&documented), "registered: {registered:#?}\ndocumented: {documented:#?}");
}

#[test]
fn every_metric_has_a_value_and_a_description_without_any_server() {
    let registry = metriken::metrics();
    for entry in registry.iter().filter(|entry| entry.name().starts_with("ringline/")) {
        assert!(entry.is_enabled(), "{}", entry.name());
        assert!(entry.description().is_some_and(|text| text.ends_with('.')), "{}", entry.name());
        match entry.value() {
            Some(metriken::Value::Counter(0) | metriken::Value::Gauge(0)) => {}
            Some(metriken::Value::Histogram(histogram)) => assert!(histogram.load().is_none()),
            _ => panic!("{} is not zero", entry.name()),
        }
    }
}
