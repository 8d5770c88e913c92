//! A small map by topic. Nearly every interest has one topic, for which a `BTreeMap` sets a whole node aside: ten times
//! the memory, for each of thousands of interests. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::Arc;

/// Values by topic, in the order of the topics' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicMap<T>(Vec<(Arc<str>, T)>);

impl<T> Default for TopicMap<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> TopicMap<T> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    pub(super) fn contains(&self, topic: &str) -> bool {
        self.find(topic).is_ok()
    }

    pub(super) fn get(&self, topic: &str) -> Option<&T> {
        let index = self.find(topic).ok()?;
        self.0.get(index).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, topic: &str) -> Option<&mut T> {
        let index = self.find(topic).ok()?;
        self.0.get_mut(index).map(|(_, value)| value)
    }

    /// The value of a topic, which is added if it is not there. Absent: never.
    pub(super) fn get_or_insert_with(
        &mut self,
        topic: &Arc<str>,
        value: impl FnOnce() -> T,
    ) -> Option<&mut T> {
        let index = match self.find(topic) {
            Ok(index) => index,
            Err(index) => {
                self.0.reserve_exact(1);
                self.0.insert(index, (Arc::clone(topic), value()));
                index
            }
        };
        self.0.get_mut(index).map(|(_, value)| value)
    }

    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&Arc<str>) -> bool) {
        self.0.retain(|(topic, _)| keeps(topic));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &T)> {
        self.0.iter().map(|(topic, value)| (topic, value))
    }

    fn find(&self, topic: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(topic))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_sorted_map_does(names in prop::collection::vec("[a-e]{1,2}", 0..30), kept in "[a-e]") {
            let (mut small, mut model) = (TopicMap::default(), BTreeMap::new());
            for (number, name) in names.iter().enumerate() {
                let name: Arc<str> = name.as_str().into();
                let value = *small.get_or_insert_with(&name, || number).unwrap();
                prop_assert_eq!(value, *model.entry(name).or_insert(number));
            }
            prop_assert!(small.iter().eq(model.iter()));
            small.retain(|name| name.starts_with(kept.as_str()));
            model.retain(|name, _| name.starts_with(kept.as_str()));
            prop_assert!(small.iter().eq(model.iter()));
            prop_assert_eq!(small.len(), model.len());
            for name in &names {
                prop_assert_eq!(small.get(name), model.get(name.as_str()));
                prop_assert_eq!(small.contains(name), small.get_mut(name).is_some());
            }
        }
    }
}
