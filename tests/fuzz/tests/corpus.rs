//! The fuzz targets without a fuzzer: what is kept of inputs, a little damage to it, and many requests
//! for the differential.
//!
//! `FLUMEN_REGENERATE=1 cargo test -p flumen-fuzz` (or `scripts/fuzz.sh --seed`) writes the seeds anew; what else
//! lies beside them was found by fuzzing, and is kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use flumen_fuzz::targets::{TARGETS, Target, find};
use flumen_protocol::layout::sample::Dice;

/// Inputs of one target in the tree: one for each API, and some that were found.
const FILES_MAX: usize = 80;
/// Bytes of all of them.
const BYTES_MAX: usize = 300 << 10;
/// Requests of the differential.
const REQUESTS: u32 = 100_000;

/// Says which input it was when a target panics.
struct Trial<'t> {
    target: &'static str,
    input: &'t [u8],
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} panicked over {:02x?}", self.target, self.input);
        }
    }
}

fn try_one(target: &Target, input: &[u8]) {
    let _trial = Trial { target: target.name, input };
    (target.run)(input);
}

fn folder(target: &Target) -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.join("corpus").join(target.name)
}

fn kept(target: &Target) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder(target)) else { return Vec::new() };
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, fs::read(path).expect("an input can be read"))
    };
    let mut inputs: Vec<_> =
        entries.map(|entry| read(entry.expect("an entry of the corpus").path())).collect();
    inputs.sort();
    inputs
}

/// Replays what is kept of a target, then as many damaged inputs as its row says.
fn replay(name: &str) {
    let target = find(name);
    let inputs = kept(&target);
    assert!(!inputs.is_empty(), "{name} has no seeds: scripts/fuzz.sh --seed");
    inputs.iter().for_each(|(_, input)| try_one(&target, input));
    let mut dice = Dice::new(u64::from(target.tries) + name.len() as u64);
    for _ in 0..target.tries {
        let mut input = inputs[dice.below(inputs.len() as u64) as usize].1.clone();
        damage(&mut input, &inputs, &mut dice);
        try_one(&target, &input);
    }
}

fn damage(input: &mut Vec<u8>, inputs: &[(String, Vec<u8>)], dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let place = dice.below(input.len() as u64 + 1) as usize;
        match dice.below(6) {
            0 => input.truncate(place),
            1 => input.insert(place, dice.below(256) as u8),
            2 => {
                let other = &inputs[dice.below(inputs.len() as u64) as usize].1;
                let from = dice.below(other.len() as u64 + 1) as usize;
                input.truncate(place);
                input.extend(&other[from..]);
            }
            what => {
                let byte = [0xff, 0x7f, dice.below(256) as u8][what as usize - 3];
                if let Some(target) = input.get_mut(place) {
                    *target = byte;
                }
            }
        }
    }
}

macro_rules! replayed {
    ($($name:ident)*) => {
        /// One test for each target, named like it.
        mod replay {
            $(#[test]
            fn $name() {
                super::replay(stringify!($name));
            })*
        }

        #[test]
        fn every_target_is_replayed() {
            let here: BTreeSet<&str> = [$(stringify!($name)),*].into();
            let all: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!((here, all.len()), (all, TARGETS.len()));
        }
    };
}

replayed! {
    frame request differential produce fetch admin batch gzip snappy lz4 zstd offsets group metadata
    snapshot headers manifest index sieve journal folder config settings session
}

#[test]
fn a_hundred_thousand_requests_mean_the_same_to_the_codec_and_to_the_tables() {
    let target = find("differential");
    let mut dice = Dice::new(2026);
    for _ in 0..REQUESTS {
        let input: Vec<u8> = (0..24 + dice.below(120)).map(|_| dice.below(256) as u8).collect();
        try_one(&target, &input);
    }
}

#[test]
fn every_target_has_a_small_corpus() {
    let mut bytes = 0;
    for target in TARGETS {
        let name = |place: usize| format!("seed-{place:02}");
        let seeds = (target.seeds)();
        if std::env::var_os("FLUMEN_REGENERATE").is_some() {
            let stale = kept(target).into_iter().filter(|(name, _)| name.starts_with("seed-"));
            stale
                .for_each(|(name, _)| fs::remove_file(folder(target).join(name)).expect("removed"));
            fs::create_dir_all(folder(target)).expect("a folder for the corpus");
            for (place, seed) in seeds.iter().enumerate() {
                fs::write(folder(target).join(name(place)), seed).expect("a seed can be written");
            }
        }
        let inputs = kept(target);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        let missing = seeds.iter().position(|seed| inputs.iter().all(|(_, input)| input != seed));
        assert_eq!(missing, None, "a seed of {} is not kept: scripts/fuzz.sh --seed", target.name);
        assert!(inputs.len() <= FILES_MAX, "{} has {} inputs", target.name, inputs.len());
        bytes += inputs.iter().map(|(_, input)| input.len()).sum::<usize>();
    }
    assert!(bytes <= BYTES_MAX, "the corpus has {bytes} bytes");
}
