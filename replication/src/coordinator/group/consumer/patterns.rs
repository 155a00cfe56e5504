//! Regular expressions as subscriptions: which topics they stand for.
//!
//! Does: look through the topics a few at a time.
//! Does not: read patterns; `pattern` does. Does not decide when to look, or write down what comes out.
//! Invariants: a look is of one image, whatever comes meanwhile.
//! Apart because it outlives the request that began it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::coordinator::pattern::Pattern;
use crate::limits::PATTERN_MATCHES_PER_STEP;
use crate::metadata::image::Image;

/// A look through all topics that is under way.
#[derive(Clone, Debug)]
pub(in crate::coordinator::group) struct Resolving {
    searches: Vec<Search>,
    image: Arc<Image>,
    /// The last topic looked at.
    after: String,
}

#[derive(Clone, Debug)]
struct Search {
    pattern: String,
    /// `None`: a pattern of an older log that this crate does not take; it matches nothing.
    matcher: Option<Pattern>,
    topics: BTreeSet<String>,
}

impl Resolving {
    /// Begins to look for what these patterns stand for.
    pub(super) fn new<'p>(patterns: impl Iterator<Item = &'p String>, image: Arc<Image>) -> Self {
        let search = |pattern: &String| Search {
            pattern: pattern.clone(),
            matcher: Pattern::new(pattern).ok(),
            topics: BTreeSet::new(),
        };
        Self { searches: patterns.map(search).collect(), image, after: String::new() }
    }

    /// Looks at the next topics; whether those were the last.
    pub(super) fn step(&mut self) -> bool {
        let count = (PATTERN_MATCHES_PER_STEP / self.searches.len().max(1)).max(1);
        let mut seen = 0;
        let mut last = None;
        for topic in self.image.topics_after(&self.after).take(count) {
            seen += 1;
            for search in &mut self.searches {
                if search.matcher.as_ref().is_some_and(|matcher| matcher.matches(&topic.name)) {
                    search.topics.insert(topic.name.clone());
                }
            }
            last = Some(topic.name.clone());
        }
        if let Some(last) = last {
            self.after = last;
        }
        seen < count
    }

    /// The version of the image that was looked at.
    pub(super) fn version(&self) -> u64 {
        self.image.version
    }

    /// What was found, pattern by pattern.
    pub(super) fn into_found(self) -> impl Iterator<Item = (String, BTreeSet<String>)> {
        self.searches.into_iter().map(|search| (search.pattern, search.topics))
    }
}
