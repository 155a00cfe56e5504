//! A report from made-up outcomes, from the command line to the bytes.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::outcome::comparison::{Comparison, Restarted};
use crate::outcome::load::{CrowdOutcome, Load};
use crate::outcome::{Durability, FORMAT};
use crate::scenario::Restart;

/// A folder of its own that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("report-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a temporary file");
        path
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.0)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn json(outcome: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(outcome).expect("an outcome is JSON")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).and_then(|()| packer.finish()).expect("a vector takes it")
}

/// An evening's files: two comparisons, a search, one to doubt, a load run, limits.
fn evening(folder: &Folder) -> Vec<PathBuf> {
    vec![
        folder.put("limits.json", &json(&made_up::limits())),
        folder.put("doubtful.json", &json(&made_up::doubtful())),
        folder.put("half.json.gz", &gzip(&json(&made_up::half_load()))),
        folder.put("throughput.json", &json(&made_up::throughput())),
        folder.put("knee.json", &json(&made_up::search())),
        folder.put("load.json", &json(&made_up::load())),
    ]
}

fn report(files: Vec<PathBuf>, into: &Path) -> Report {
    Report {
        files,
        html: Some(into.join("out.html")),
        markdown: Some(into.join("out.md")),
        keep: Some(into.join("raw")),
    }
}

fn made(name: &str) -> (Folder, String, String) {
    let folder = Folder::new(name);
    let files = evening(&folder);
    let done = run(&report(files, &folder.0));
    assert!(done.is_ok(), "{done:?}");
    let read = |name: &str| fs::read_to_string(folder.0.join(name)).expect("it was written");
    let (html, markdown) = (read("out.html"), read("out.md"));
    if let Ok(copy) = std::env::var("REPORT_SAMPLE") {
        fs::write(copy, &html).expect("a copy to look at");
    }
    (folder, html, markdown)
}

/// What lies between two texts, both found.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let start = text.find(from).unwrap_or_else(|| panic!("no {from}")) + from.len();
    let end = text[start..].find(to).unwrap_or_else(|| panic!("no {to}"));
    &text[start..start + end]
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_from_elsewhere() {
    let (_folder, html, _) = made("page");
    let body = format!("<body>{}</body>", between(&html, "<body>", "</body>"));
    let tree = roxmltree::Document::parse(&body).expect("the body is well-formed XML");
    let drawings = tree.descendants().filter(|node| node.has_tag_name("figure")).count();
    let svgs = tree
        .descendants()
        .filter(|node| node.tag_name().name() == "svg" && node.attribute("role").is_none());
    assert!(drawings >= 15, "{drawings} figures");
    assert!(svgs.count() > drawings, "a drawing and its keys in each figure");
    for foreign in ["<script", "<link", "src=", "@import", "url("] {
        assert!(!html.contains(foreign), "the page has {foreign}");
    }
    for title in [
        "Produce latency by percentile",
        "End-to-end latency by percentile",
        "Rate against latency",
        "Produce p99 by second",
        "Record bytes acknowledged by second",
        "Ratios between systems",
    ] {
        assert!(html.contains(title), "no figure: {title}");
    }
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let (first, html, markdown) = made("once");
    let (second, again, markdown_again) = made("twice");
    assert!(html == again && markdown == markdown_again);
    let kept = |folder: &Folder| fs::read(folder.0.join("raw/half.json.gz")).expect("kept");
    assert!(kept(&first) == kept(&second), "packed files carry no time");
}

#[test]
fn doubts_stand_on_top_and_beside_their_numbers() {
    let (_folder, html, markdown) = made("doubts");
    for text in [&html, &markdown] {
        assert_eq!(
            text.matches("Not to be believed.").count(),
            3,
            "two violations, once together on top"
        );
        let first = text.find("Not to be believed.").expect("a warning");
        assert!(first < text.find("Machine and limits").expect("a section"));
        assert!(text.contains("Partial."));
        assert!(text.contains("1 of") || text.contains("2, 1 partial"), "the run is marked");
        assert!(text.contains("the generator, not the broker, may have set the pace"));
        assert!(text.contains("&lt;allowed&gt;"), "words of a file stay words");
    }
    let goal = markdown.lines().find(|line| line.starts_with("| P24 |")).expect("a goal");
    assert!(goal.contains("not to be believed"), "{goal}");
}

#[test]
fn every_number_has_its_class_and_handicaps_are_marked() {
    let (_folder, _, markdown) = made("classes");
    let section = between(&markdown, "## b2-half-load-2core", "## b2-knee");
    let rows: Vec<&str> = section
        .lines()
        .filter(|line| line.starts_with("| flumen |") || line.starts_with("| kafka |"))
        .collect();
    assert_eq!(rows.len(), 8, "four systems in two tables");
    let classes = ["| D0m |", "| D0 |", "| D1 |"];
    assert!(rows.iter().all(|row| classes.iter().any(|class| row.contains(class))));
    let weaker = section.lines().find(|line| line.contains("| flumen D0m | kafka D0 |"));
    assert!(weaker.is_some_and(|line| line.contains("weaker promise")), "{weaker:?}");
    let ratio = section
        .lines()
        .find(|line| line.contains("| flumen D1 | kafka D0 |"))
        .expect("a ratio between classes");
    assert!(ratio.contains("handicap match") && ratio.contains("0.0505× [0.0388–0.0657]"));
}

#[test]
fn goals_are_judged_where_they_can_be() {
    let (_folder, _, markdown) = made("goals");
    let line = |start: &str| {
        let found = markdown.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no line {start}"))
    };
    assert!(line("| P1 |").contains("not measured"), "no closed loop was run");
    assert!(line("| P3 |").contains("moonshot"), "{}", line("| P3 |"));
    assert!(line("| P4 |").contains("D1 / D0 handicap match"));
    let p6 = line("| P6 |");
    assert!(p6.contains("floor") && p6.contains("1.8"), "computed from the runs: {p6}");
    assert!(line("| P8 |").contains("below floor"), "{}", line("| P8 |"));
    assert!(line("| P12 |").contains("not measured"));
    let p26 = line("| P26 |");
    assert!(
        p26.contains("108 µs") && p26.contains("no referee, generator was a limit"),
        "72 + 2 × 18: {p26}"
    );
}

/// The line of a goal in the summary of these outcomes, and the whole summary.
fn goal_of(comparisons: &[Comparison], goal: &str) -> (String, String) {
    let folder = Folder::new(&format!("goal-{}", goal.replace(['|', ' '], "")));
    let files = comparisons.iter().enumerate();
    let sources: Vec<input::Source> = files
        .map(|(place, outcome)| {
            let file = folder.put(&format!("{place}.json"), &json(outcome));
            input::read(&file).expect("an outcome")
        })
        .collect();
    let markdown = summary::render(&Content::of(&sources, false));
    let line = markdown.lines().find(|line| line.starts_with(goal)).map(str::to_owned);
    (line.unwrap_or_else(|| panic!("no line {goal}")), markdown)
}

#[test]
fn one_pair_without_control_and_limits_is_reached_with_reservations() {
    let mut lonely = made_up::half_load();
    lonely.rounds.retain(|round| round.pair == 0);
    lonely.guards.control.clear();
    lonely.limits_after = None;
    lonely.ratios.iter_mut().for_each(|ratio| {
        (ratio.interval.low, ratio.interval.high) = (ratio.interval.mean, ratio.interval.mean);
    });
    let (goal, markdown) = goal_of(&[lonely], "| P3 |");
    assert!(goal.contains("| moonshot, one pair, no control, no limits beside it |"), "{goal}");
    let top = between(&markdown, "# Benchmark", "## Machine");
    for loud in ["One pair only.", "No A/A control.", "No limits beside it."] {
        assert!(top.contains(loud), "{top}");
    }
    assert!(markdown.contains("one pair, no interval"), "{markdown}");
    assert!(markdown.contains("| A/A control | not measured |"), "{markdown}");
    assert!(markdown.contains("| change of the machine's limits | not measured |"));
}

#[test]
fn two_pairs_show_their_ends_and_no_confidence() {
    let mut two = made_up::half_load();
    two.rounds.retain(|round| round.pair < 2);
    let (goal, markdown) = goal_of(&[two], "| P4 |");
    assert!(goal.contains("0.0505× [0.0388–0.0657 min–max]"), "{goal}");
    assert!(markdown.contains("brackets hold the smallest and the largest"));
    let (goal, _) = goal_of(&[made_up::half_load()], "| P4 |");
    assert!(goal.contains("0.0505× [0.0388–0.0657]"), "{goal}");
}

#[test]
fn a_goal_against_the_machine_takes_the_smaller_limit_and_shows_kafka() {
    let mut moved = made_up::half_load();
    let after = moved.limits_after.as_mut().expect("limits");
    after.latencies.iter_mut().for_each(|limit| limit.spread.p99_us *= 3.0);
    let (goal, _) = goal_of(&[moved], "| P2 |");
    assert!(goal.contains("produce p99 at 2,000/s of 16 KiB (fixed rate)"), "{goal}");
    assert!(goal.contains("| 133 µs |"), "72 × 1.6 + 18: {goal}");
    assert!(goal.contains("| 170 ms |"), "Kafka's own p99: {goal}");
}

#[test]
fn what_share_of_its_most_a_fixed_rate_is_stands_beside_the_goals() {
    let (_, both) = goal_of(&[made_up::half_load(), made_up::throughput()], "| P2 |");
    assert!(both.contains("% of flumen D1's most ("), "{both}");
    assert!(both.contains("b2-throughput-2core)"), "{both}");
    let (_, searched) = goal_of(&[made_up::half_load(), made_up::search()], "| P2 |");
    assert!(searched.contains("b2-knee-2core)"), "{searched}");
    let (_, alone) = goal_of(&[made_up::half_load()], "| P2 |");
    assert!(alone.contains("of kafka D0's most it is not known which share"), "{alone}");
}

#[test]
fn memory_that_shrinks_with_its_load_is_not_resolved() {
    let idle = |name: &str, partitions: u32, rss_mib: f64| {
        let mut comparison = made_up::half_load();
        comparison.scenario.name = name.to_owned();
        comparison.scenario.producers = None;
        comparison.scenario.partitions = partitions;
        comparison.rounds.iter_mut().for_each(|round| round.cost.rss_mib = rss_mib);
        comparison
    };
    let empty = idle("b17-idle-empty", 1, 20.0);
    let (goal, _) = goal_of(&[empty.clone(), idle("b17-idle", 1_000, 19.0)], "| P20 |");
    assert!(goal.contains("not resolved") && goal.contains("-1.03 KiB"), "{goal}");
    let (goal, _) = goal_of(&[empty, idle("b17-idle", 1_000, 23.0)], "| P20 |");
    assert!(goal.contains("| **moonshot** |") && goal.contains("3.08 KiB"), "{goal}");
}

#[test]
fn what_only_some_workloads_have_stands_in_a_table() {
    let mut comparison = made_up::half_load();
    comparison.scenario.restart = Some(Restart::Clean);
    for round in &mut comparison.rounds {
        round.load.scenario.consumers.pause_seconds = 10;
        round.load.drain_seconds = Some(2.5);
        round.load.cold_bytes_per_second = 7.7e8;
        round.load.generator.cpu_share = 0.13;
        round.load.crowd =
            Some(CrowdOutcome { idle: 2_000, churned: 6_000, ..CrowdOutcome::default() });
        round.restart = Some(Restarted { stop_seconds: 0.44, ..Restarted::default() });
    }
    let lost = &mut comparison.rounds[1].load;
    lost.drain_seconds = None;
    lost.undelivered = vec![1_204];
    lost.crowd.as_mut().expect("a crowd").idle_lost = 3;
    let (_, markdown) = goal_of(&[comparison], "| P3 |");
    let heads: Vec<&str> = markdown.lines().filter(|line| line.starts_with("| system |")).collect();
    let has = |name: &str| heads.iter().any(|head| head.contains(&format!("| {name} |")));
    for name in [
        "Backlog drained in",
        "Cold read",
        "Idle connections lost",
        "Passing connections",
        "Passing, unanswered",
        "Generator's core",
        "Stop",
        "Memory, highest",
    ] {
        assert!(has(name), "no column {name}: {heads:?}");
    }
    assert!(!has("Passing, first answer p99"), "nothing was recorded, so there is no column");
    assert!(markdown.contains("| 2.5 s | 770 MB/s | 0 | 100 /s | 0 | 13 % |"), "{markdown}");
    assert!(markdown.contains("run 2 (flumen D0m): paused consumers never caught up"));
    assert!(markdown.contains("run 2 (flumen D0m): 3 idle connections were lost"));
    assert!(markdown.contains("up to 1204 are missing"));
}

#[test]
fn transactions_are_called_so_and_held_against_their_goal() {
    let transactions = |name: &str| {
        let mut comparison = made_up::throughput();
        comparison.scenario.name = name.to_owned();
        comparison.ratios.clear();
        let own = comparison.rounds.iter_mut().map(|round| &mut round.load.scenario);
        for scenario in own.chain([&mut comparison.scenario]) {
            scenario.producers.as_mut().expect("producers").transactional = true;
        }
        comparison
    };
    let (goal, markdown) = goal_of(&[transactions("b14-transactions-10-2core")], "| P29 |");
    // 7,200 over 8,800, made up, and some luck.
    assert!(goal.contains("below floor") && goal.contains("D1 / D0 handicap match"), "{goal}");
    assert!(goal.contains(" /s | 0.8"), "{goal}");
    assert!(markdown.contains("latency of whole transactions"), "{markdown}");
    assert!(markdown.contains("| transactions/s |"), "{markdown}");
    let others = [transactions("b14-transactions-100-2core"), made_up::half_load()];
    let (goal, _) = goal_of(&others, "| P29 |");
    assert!(goal.contains("not measured"), "{goal}");
}

#[test]
fn where_partitions_stand_still_fetches_are_counted() {
    let mut comparison = made_up::half_load();
    for round in &mut comparison.rounds {
        let scenario = &mut round.load.scenario;
        scenario.producers.as_mut().expect("producers").written_partitions = 10;
        scenario.consumers.sessionless = true;
        (round.load.fetches_per_second, round.cost.cpu_seconds) = (100.0, 0.6);
    }
    comparison.scenario = comparison.rounds[0].load.scenario.clone();
    let (_, markdown) = goal_of(&[comparison], "| P3 |");
    assert!(markdown.contains("| Fetches | CPU per fetch |"), "{markdown}");
    assert!(markdown.contains("| 100 /s | 100 µs |"), "0.6 s over 60 s of 100 each: {markdown}");
    assert!(markdown.contains("1 sessionless tail consumer"), "{markdown}");
    assert!(markdown.contains("10 of the partitions are written to"), "{markdown}");
}

#[test]
fn the_generators_self_test_is_read_and_a_failed_one_stands_on_top() {
    let folder = Folder::new("self-test");
    let read = |loads: &[Load]| {
        let file = folder.put("self-test.json", &json(&loads));
        let sources = [input::read(&file).expect("an outcome")];
        summary::render(&Content::of(&sources, false))
    };
    let mut cheap = made_up::load();
    cheap.generator.cpu_share = 0.11;
    let good = read(&[cheap.clone(), cheap.clone()]);
    assert!(good.contains("## Generator") && good.contains("| **11 %** |"), "{good}");
    assert!(!good.contains("failed its self-test"), "{good}");
    let bad = read(&[cheap, made_up::load()]);
    let top = between(&bad, "# Benchmark", "## Machine");
    assert!(top.contains("The generator failed its self-test.") && top.contains("97 %"), "{top}");
}

#[test]
fn a_restart_with_one_gib_is_not_held_against_a_bar_for_ten() {
    let mut killed = made_up::doubtful();
    killed.guards.violations.clear();
    let (goal, _) = goal_of(&[killed], "| P24 |");
    assert!(goal.contains("all leaders after SIGKILL, 1,000 partitions, 1 GiB"), "{goal}");
    assert!(goal.contains("| target, partial") && goal.contains("≤ 1 s with 10 GB (not judged"));
    assert!(goal.contains("| 372 ms |") && goal.contains("| 24 s |"), "all leaders: {goal}");
}

#[test]
fn whatever_order_the_referee_divided_in_the_own_system_is_on_top() {
    let folder = Folder::new("turned");
    let mut comparison = made_up::half_load();
    for ratio in &mut comparison.ratios {
        (ratio.of, ratio.to) = (ratio.to, ratio.of);
        let interval = ratio.interval;
        ratio.interval.mean = interval.mean.recip();
        (ratio.interval.low, ratio.interval.high) = (interval.high.recip(), interval.low.recip());
    }
    let plain = folder.put("plain.json", &json(&made_up::half_load()));
    let turned = folder.put("turned.json", &json(&comparison));
    let summary = |file: PathBuf| {
        let content = Content::of(&[input::read(&file).expect("an outcome")], false);
        summary::render(&content).replace("turned.json", "plain.json")
    };
    assert_eq!(summary(plain), summary(turned));
}

#[test]
fn limits_of_a_busy_machine_are_doubted_on_top() {
    let folder = Folder::new("busy");
    let mut limits = made_up::limits();
    limits.disturbed_share = 0.4;
    limits.broken_off = Some("interrupted".to_owned());
    let file = folder.put("limits.json", &json(&limits));
    let content = Content::of(&[input::read(&file).expect("an outcome")], false);
    let loud: Vec<&str> = content.warnings.iter().map(|warning| warning.loud.as_str()).collect();
    assert_eq!(loud, ["Not to be believed.", "Partial."]);
    assert!(content.warnings[0].text.contains("limits.json: others used 40 %"));
}

#[test]
fn limits_of_another_machine_are_not_those_of_this_one() {
    let folder = Folder::new("elsewhere");
    let mut elsewhere = made_up::limits();
    elsewhere.environment.cpu_model = "another".to_owned();
    let files = vec![
        folder.put("limits.json", &json(&elsewhere)),
        folder.put("load.json", &json(&made_up::load())),
    ];
    assert!(run(&report(files, &folder.0)).is_ok());
    let markdown = fs::read_to_string(folder.0.join("out.md")).expect("it was written");
    assert!(!markdown.contains("108 µs"), "a ratio to a foreign limit");
    assert!(markdown.contains("| another |") && markdown.contains("| AMD EPYC-Milan Processor |"));
}

#[test]
fn raw_files_are_kept_and_can_be_read_again() {
    let (folder, html, _) = made("kept");
    let raw = folder.0.join("raw");
    let names = ["limits", "doubtful", "half", "throughput", "knee", "load"];
    let files = names.map(|name| raw.join(format!("{name}.json.gz"))).to_vec();
    let again = Folder::new("kept-again");
    assert!(run(&report(files, &again.0)).is_ok());
    let twice = fs::read_to_string(again.0.join("out.html")).expect("it was written");
    let main = |page: &str| between(page, "<main>", "</main>").to_owned();
    assert_eq!(main(&html), main(&twice));
}

#[test]
fn what_is_too_much_to_keep_is_left_out_and_named() {
    let noise: String = (0..16_u64 << 20)
        .scan(7_u64, |dice, _| {
            *dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            Some(char::from(b'!' + ((*dice >> 33) % 90) as u8))
        })
        .collect();
    let source = |name: &str, json: String| input::Source {
        name: name.to_owned(),
        json,
        outcome: input::Outcome::Limits(Box::new(made_up::limits())),
    };
    let sources = [
        source("small.json", "{}".to_owned()),
        source("noise.json", noise),
        source("small.json", "[]".to_owned()),
    ];
    let kept = output::pack(&sources, Path::new("raw"));
    let paths: Vec<&Path> = kept.outputs.iter().map(|output| output.path.as_path()).collect();
    assert_eq!(paths, [Path::new("raw/small.json.gz"), Path::new("raw/small-2.json.gz")]);
    assert_eq!(kept.left_out.len(), 1);
    assert_eq!(kept.left_out[0].0, "noise.json");
}

#[test]
fn files_from_before_there_was_a_class_for_memory_are_read_with_it() {
    let folder = Folder::new("format-1");
    let mut old = made_up::half_load();
    old.format = 1;
    for system in &mut old.systems {
        if system.durability == Durability::D0m {
            system.durability = Durability::D0;
        }
    }
    old.ratios.iter_mut().for_each(|ratio| ratio.is_handicap &= ratio.of != 1);
    let file = folder.put("old.json", &json(&old));
    let input::Outcome::Comparison(read) = input::read(&file).expect("an outcome").outcome else {
        panic!("a comparison");
    };
    let classes: Vec<Durability> = read.systems.iter().map(|system| system.durability).collect();
    assert_eq!(classes, [Durability::D1, Durability::D0m, Durability::D1, Durability::D0]);
    assert!(read.rounds.iter().all(|round| round.load.durability == classes[round.system]));
    assert!(read.ratios.iter().any(|ratio| ratio.of == 1));
    assert!(read.ratios.iter().all(|ratio| ratio.of != 1 || ratio.is_handicap));
}

#[test]
fn bad_files_get_one_line_and_nothing_is_written() {
    let good = json(&made_up::half_load());
    let mut newer = made_up::limits();
    newer.format = FORMAT + 1;
    let mut stray = made_up::half_load();
    stray.rounds[0].system = 9;
    let cut_gzip = {
        let whole = gzip(&good);
        whole[..whole.len() / 2].to_vec()
    };
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("empty", Vec::new(), "is no outcome"),
        ("prose", b"hello".to_vec(), "is not JSON"),
        ("list", b"[1, 2]".to_vec(), "is no outcome"),
        ("empty list", b"[]".to_vec(), "is no outcome"),
        ("other", b"{\"format\": 1, \"name\": \"x\"}".to_vec(), "is no outcome"),
        ("binary", vec![0xff, 0xfe, 0, 1], "is not text"),
        ("cut", good[..good.len() / 2].to_vec(), "ends early"),
        ("cut gzip", cut_gzip, "is not whole gzip"),
        ("newer", json(&newer), "has format 3, newer than 2"),
        ("stray", json(&stray), "run 0 names system 9 of 4"),
    ];
    for (name, bytes, why) in cases {
        let folder = Folder::new("bad");
        let files = vec![folder.put("good.json", &good), folder.put("bad.json", &bytes)];
        let error = run(&report(files, &folder.0)).expect_err(name).to_string();
        assert!(error.contains("bad.json") && error.contains(why), "{name}: {error}");
        assert_eq!(error.lines().count(), 1, "{name}: {error}");
        assert_eq!(folder.names(), ["bad.json", "good.json"], "{name} left something");
    }
}

#[test]
fn a_folder_in_the_way_stops_the_report_without_leftovers() {
    let folder = Folder::new("way");
    let files = vec![folder.put("limits.json", &json(&made_up::limits()))];
    fs::create_dir(folder.0.join("out.md")).expect("a folder in the way");
    let error = run(&report(files, &folder.0)).expect_err("a folder is no file").to_string();
    assert!(error.contains("out.md: cannot be written"), "{error}");
    assert!(folder.names().iter().all(|name| !name.contains("draft")), "{:?}", folder.names());
}
