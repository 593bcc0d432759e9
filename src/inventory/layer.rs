//! How a layer of values is laid over a lower one: maps merge by key, everything else replaces.

use std::collections::BTreeMap;

/// Takes from a lower layer what this one does not say.
pub(super) trait Layer {
    /// The default is for whatever stands as a whole: what is said wins.
    fn fill(&mut self, _lower: &Self) {}
}

impl<T: Layer + Clone> Layer for Option<T> {
    fn fill(&mut self, lower: &Self) {
        match (self, lower) {
            (Some(own), Some(lower)) => own.fill(lower),
            (own @ None, Some(lower)) => *own = Some(lower.clone()),
            (_, None) => {}
        }
    }
}

impl<K: Ord + Clone, V: Layer + Clone> Layer for BTreeMap<K, V> {
    fn fill(&mut self, lower: &Self) {
        for (key, value) in lower {
            match self.get_mut(key) {
                Some(own) => own.fill(value),
                None => drop(self.insert(key.clone(), value.clone())),
            }
        }
    }
}

/// Lists replace.
impl<T> Layer for Vec<T> {}

impl Layer for serde_json::Value {
    fn fill(&mut self, lower: &Self) {
        if let (serde_json::Value::Object(own), serde_json::Value::Object(lower)) = (self, lower) {
            for (key, value) in lower {
                match own.get_mut(key) {
                    Some(own) => own.fill(value),
                    None => drop(own.insert(key.clone(), value.clone())),
                }
            }
        }
    }
}

macro_rules! whole {
    ($($type:ty),* $(,)?) => { $(impl Layer for $type {})* };
}

whole!(
    String,
    bool,
    u16,
    u32,
    f64,
    super::leaf::Length,
    super::leaf::Pause,
    super::raw::RawFormat,
    super::raw_auth::Method,
    super::raw_auth::Flow,
    super::raw_auth::TokenAuth,
    super::raw_auth::Algorithm,
    super::raw_auth::TokenCache,
    super::reference::RawSecret,
    super::reference::RawHeaderValue,
    super::reference::RawCanary,
    super::raw_transport::RawTlsVersion,
    super::raw_later::Policy,
    super::raw_later::Level,
    super::raw_later::Compress,
    super::raw_later::RawPeriod,
    super::raw_later::ChannelType,
    super::raw_later::When,
    super::raw_later::Percentile,
    super::reference::RawAbove,
);
