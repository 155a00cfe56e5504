//! Requests of the attack, by hand: the encoding that all versions before the compact ones have.
//!
//! Does: write the bodies that the attacks send again and again.
//! Does not: decide how often, or look at answers.
//! Invariants: each is a sound request; what is wrong with it is its size or its number.
//! Apart because attacks share them.

use flumen_tests::wire::{CREATE_TOPICS, METADATA, PRODUCE, request};

const LIST_OFFSETS: i16 = 2;
const OFFSET_COMMIT: i16 = 8;
const JOIN_GROUP: i16 = 11;
const DELETE_TOPICS: i16 = 20;
const INIT_PRODUCER_ID: i16 = 22;
/// Ten seconds.
const TIMEOUT: [u8; 4] = 10_000_i32.to_be_bytes();
/// As short as a session may be.
const SESSION: [u8; 4] = 6_000_i32.to_be_bytes();

/// A text, cut where its length would not fit.
pub fn text(text: &str) -> Vec<u8> {
    let bytes = &text.as_bytes()[..text.len().min(i16::MAX as usize)];
    [&(bytes.len() as i16).to_be_bytes()[..], bytes].concat()
}

/// A count, and what is counted.
pub fn array(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<Vec<u8>> = items.into_iter().collect();
    [(items.len() as i32).to_be_bytes().to_vec(), items.concat()].concat()
}

/// A topic of so many partitions with these settings; only tried when `only_try`.
pub fn create(name: &str, partitions: i32, settings: &[(&str, &str)], only_try: bool) -> Vec<u8> {
    let settings = settings.iter().map(|(name, value)| [text(name), text(value)].concat());
    let topic = [
        text(name),
        partitions.to_be_bytes().to_vec(),
        vec![0, 1], // replicas
        array([]),  // assignments
        array(settings),
    ];
    let body = [array([topic.concat()]), TIMEOUT.to_vec(), vec![u8::from(only_try)]].concat();
    request(CREATE_TOPICS, 2, 1, &body)
}

/// No topic of this name any more.
pub fn delete(name: &str) -> Vec<u8> {
    request(DELETE_TOPICS, 1, 1, &[array([text(name)]), TIMEOUT.to_vec()].concat())
}

/// What is known of so many topics that do not exist, without making them.
pub fn unknown_topics(count: usize) -> Vec<u8> {
    let names = array((0..count).map(|number| text(&format!("unknown-{number}"))));
    request(METADATA, 4, 1, &[names, vec![0]].concat())
}

/// The offset of a time of partition 0: the broker has to look into batches for it.
pub fn offset_of_time(topic: &str, time: i64) -> Vec<u8> {
    let partition = [vec![0; 4], time.to_be_bytes().to_vec()].concat();
    let topics = array([[text(topic), array([partition])].concat()]);
    request(LIST_OFFSETS, 1, 1, &[vec![0xff; 4], topics].concat())
}

/// A batch for partition 0, with acks=all.
pub fn produce(topic: &str, batch: &[u8]) -> Vec<u8> {
    let records = [&[0; 4][..], &(batch.len() as i32).to_be_bytes(), batch].concat();
    let topics = array([[text(topic), array([records])].concat()]);
    request(PRODUCE, 3, 1, &[vec![0xff; 4], TIMEOUT.to_vec(), topics].concat())
}

/// A new producer id, for nothing.
pub fn producer_id() -> Vec<u8> {
    request(INIT_PRODUCER_ID, 0, 1, &[vec![0xff; 2], TIMEOUT.to_vec()].concat())
}

/// A group with one member, which is never heard of again.
pub fn join(group: &str) -> Vec<u8> {
    let protocol = [text("range"), 32_i32.to_be_bytes().to_vec(), vec![7; 32]].concat();
    let body = [text(group), SESSION.to_vec(), text(""), text("consumer"), array([protocol])];
    request(JOIN_GROUP, 0, 1, &body.concat())
}

/// A group without members, which has an offset of partition 0.
pub fn commit(group: &str, topic: &str) -> Vec<u8> {
    let partition = [vec![0; 4], 1_i64.to_be_bytes().to_vec(), text("")].concat();
    let topics = array([[text(topic), array([partition])].concat()]);
    // Neither generation nor member; kept for as long as the broker keeps any.
    let body = [text(group), vec![0xff; 4], text(""), vec![0xff; 8], topics].concat();
    request(OFFSET_COMMIT, 2, 1, &body)
}
