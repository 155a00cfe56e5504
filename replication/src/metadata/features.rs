//! Features of the cluster whose behaviour has a level that all nodes agree on (KIP-584, KIP-778).
//!
//! Does: list them with the levels this version knows; judge changes by Kafka's rules.
//! Does not: change behaviour. A level says what a reader of the metadata and a client may count
//! on; but for `group.version`, nothing this version does differs between the levels it knows.
//! Invariants: a feature is in the list exactly when what it promises is served, since clients act
//! on it; `initial` of a feature never changes, because it is the level of logs that name none.
//! Apart because what exists is a table and the controller should not be one.

use super::command::{Direction, FeatureUpdate, MetadataRefusal, MetadataRule};
use super::image::Image;

/// A feature and its levels, in Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Kafka's name.
    pub name: &'static str,
    /// The lowest level known.
    pub min: i16,
    /// The highest.
    pub max: i16,
    /// The level of a cluster whose log names none.
    pub initial: i16,
    /// The lowest level that has the same metadata as the highest: below it a downgrade would
    /// lose some.
    pub lossless_since: i16,
}

/// Every feature, by name. `metadata.version` has the levels of Kafka 4.1, from 3.3-IV3 to
/// 4.1-IV1; the last that changed what stands in the metadata is 4.0-IV1.
///
/// `transaction.version` 2 means that every end of a transaction gives its producer another epoch
/// (KIP-890). It is for clients to act on: each tells with its requests which way it goes, so that
/// lower levels are served just the same. `group.version` 1 means that groups of the new kind (KIP-848)
/// are served. Clusters from before either was served have it at once, as new ones of Kafka 4.1 do:
/// nothing in them says otherwise.
pub const FEATURES: &[Feature] = &[
    Feature { name: GROUP_VERSION, min: 0, max: 1, initial: 1, lossless_since: 0 },
    Feature { name: "metadata.version", min: 7, max: 27, initial: 27, lossless_since: 23 },
    Feature { name: "transaction.version", min: 0, max: 2, initial: 2, lossless_since: 0 },
];

/// Kafka's name for the feature that brings groups of the new kind.
const GROUP_VERSION: &str = "group.version";

/// Whether groups of the new kind are served in this cluster.
#[must_use]
pub fn has_consumer_groups(image: &Image) -> bool {
    find(GROUP_VERSION).is_some_and(|feature| level(image, feature) >= 1)
}

/// The feature of this name, if there is one.
#[must_use]
pub fn find(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.name == name)
}

/// The level of a feature.
#[must_use]
pub fn level(image: &Image, feature: &Feature) -> i16 {
    image.features.get(feature.name).copied().unwrap_or(feature.initial)
}

/// Whether this version can live with a feature at this level.
pub(super) fn is_known(name: &str, level: i16) -> bool {
    find(name).is_some_and(|feature| (feature.min..=feature.max).contains(&level))
}

/// Whether a level may become another one.
///
/// # Errors
/// [`MetadataRule::FeatureLevel`].
pub(super) fn judge(image: &Image, update: &FeatureUpdate) -> Result<(), MetadataRefusal> {
    let FeatureUpdate { name, level: wanted, direction } = update;
    let invalid =
        |why: &str| refusal(format!("Invalid update version {wanted} for feature {name}. {why}"));
    let Some(direction) = direction else {
        return Err(invalid("The controller does not support the given upgrade type."));
    };
    if *wanted < 0 {
        return Err(invalid("A feature version cannot be less than 0."));
    }
    let Some(feature) = find(name) else {
        return Err(invalid("The controller does not support this feature."));
    };
    let (min, max) = (feature.min, feature.max);
    if !(min..=max).contains(wanted) {
        return Err(invalid(&format!("The controller only supports versions {min}-{max}")));
    }
    let current = level(image, feature);
    match direction {
        Direction::Upgrade if *wanted < current => Err(invalid(
            "Can't downgrade the version of this feature without setting the upgrade type to \
             either safe or unsafe downgrade.",
        )),
        Direction::SafeDowngrade | Direction::UnsafeDowngrade if *wanted > current => {
            Err(invalid("Can't downgrade to a newer version."))
        }
        Direction::Upgrade => Ok(()),
        Direction::SafeDowngrade | Direction::UnsafeDowngrade => {
            check_loss(feature, current, *wanted, *direction)
        }
    }
}

/// Kafka does not carry out the unsafe kind either.
fn check_loss(
    feature: &Feature,
    current: i16,
    wanted: i16,
    direction: Direction,
) -> Result<(), MetadataRefusal> {
    if wanted == current || wanted >= feature.lossless_since {
        return Ok(());
    }
    let why = if direction == Direction::UnsafeDowngrade {
        "Unsafe metadata downgrade is not supported in this version."
    } else {
        "Refusing to perform the requested downgrade because it might delete metadata information."
    };
    Err(refusal(format!("Invalid {} {wanted}. {why}", feature.name)))
}

fn refusal(message: String) -> MetadataRefusal {
    MetadataRefusal { kind: MetadataRule::FeatureLevel, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(name: &str, level: i16, direction: Option<Direction>) -> FeatureUpdate {
        FeatureUpdate { name: name.to_owned(), level, direction }
    }

    fn at(level: i16) -> Image {
        let mut image = Image::default();
        image.features.insert("metadata.version".to_owned(), level);
        image
    }

    fn why(image: &Image, level: i16, direction: Direction) -> String {
        let refused = judge(image, &update("metadata.version", level, Some(direction)));
        refused.map_or_else(|refusal| refusal.message, |()| "allowed".to_owned())
    }

    #[test]
    fn levels_lie_in_their_range() {
        for feature in FEATURES {
            let range = feature.min..=feature.max;
            assert!(range.contains(&feature.initial) && range.contains(&feature.lossless_since));
        }
    }

    #[test]
    fn a_cluster_begins_at_the_level_of_kafka_4_1() {
        let known = |name| find(name).expect("a feature");
        assert_eq!(level(&Image::default(), known("metadata.version")), 27);
        assert_eq!(level(&at(25), known("metadata.version")), 25);
        assert_eq!(level(&Image::default(), known("transaction.version")), 2);
        assert!(has_consumer_groups(&Image::default()));
    }

    #[test]
    fn down_goes_only_who_says_so_and_loses_nothing() {
        use Direction::{SafeDowngrade, UnsafeDowngrade, Upgrade};
        let latest = Image::default();
        assert!(why(&latest, 26, Upgrade).contains("without setting the upgrade type"));
        assert_eq!(why(&latest, 23, SafeDowngrade), "allowed");
        assert_eq!(why(&latest, 23, UnsafeDowngrade), "allowed");
        assert!(why(&latest, 22, SafeDowngrade).contains("might delete metadata"));
        assert!(why(&latest, 22, UnsafeDowngrade).contains("not supported in this version"));
        assert!(why(&at(25), 26, SafeDowngrade).contains("to a newer version"));
        assert_eq!(why(&at(25), 26, Upgrade), "allowed");
        for direction in [SafeDowngrade, UnsafeDowngrade, Upgrade] {
            assert_eq!(why(&at(25), 25, direction), "allowed");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_with_the_range() {
        use Direction::Upgrade;
        let latest = Image::default();
        assert!(why(&latest, 28, Upgrade).ends_with("only supports versions 7-27"));
        assert!(why(&latest, 6, Upgrade).ends_with("only supports versions 7-27"));
        assert!(why(&latest, -1, Upgrade).contains("less than 0"));
        for (name, direction, expected) in [
            ("kraft.version", Some(Upgrade), "does not support this feature"),
            ("metadata.version", None, "does not support the given upgrade type"),
        ] {
            let refused = judge(&latest, &update(name, 2, direction)).unwrap_err();
            assert_eq!(refused.kind, MetadataRule::FeatureLevel);
            assert!(refused.message.contains(expected), "{}", refused.message);
        }
    }
}
