//! What a report says, in order, before it has a form.
//!
//! Does: bring warnings, environment, limits, goals and scenarios into the order of reading: first
//! what makes the numbers worth less, then what they were measured on, then the numbers.
//! Does not: know HTML or Markdown.
//! Invariants: a violated guard stands at the very top and again beside its numbers.
//! Apart so that the page and the summary say the same.

use crate::limits::PROBE_DISTURBED_SHARE_MAX;
use crate::outcome::load::Load;
use crate::outcome::probes::Limits;
use crate::report::figure::{self, Figure};
use crate::report::goals;
use crate::report::input::Source;
use crate::report::palette::Palette;
use crate::report::study::{Reservation, Studies, Study};
use crate::report::tables::{self, Table};
use crate::report::words;

/// A whole report.
#[derive(Debug)]
pub struct Content {
    /// Its name.
    pub title: String,
    /// When and from what.
    pub subtitle: String,
    /// What speaks against it, loudest first.
    pub warnings: Vec<Warning>,
    /// What a reader must know of all numbers.
    pub how_to_read: Vec<String>,
    /// In order.
    pub sections: Vec<Section>,
    /// Names of the files it was made from.
    pub files: Vec<String>,
}

/// Something that makes numbers worth less.
#[derive(Clone, Debug)]
pub struct Warning {
    /// In a word or four.
    pub loud: String,
    /// Why.
    pub text: String,
}

/// A part with a heading.
#[derive(Debug)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// Name within a page: letters, digits and dashes only.
    pub anchor: String,
    /// What speaks against this part.
    pub warnings: Vec<Warning>,
    /// Sentences before the tables.
    pub paragraphs: Vec<String>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Figures.
    pub figures: Vec<Figure>,
    /// Sentences after all.
    pub notes: Vec<String>,
}

impl Content {
    /// Puts together what the files say. Figures are drawn only where a page is wanted.
    #[must_use]
    pub fn of(sources: &[Source], is_drawn: bool) -> Self {
        let studies = Studies::of(sources);
        let palette = Palette::new(studies.system_names());
        let mut sections = vec![machine(&studies)];
        sections.extend(self_test(&studies));
        let verdicts = goals::judge(&studies);
        if verdicts.iter().any(|verdict| verdict.reached.is_some() || verdict.is_unresolved) {
            sections.push(goals_section(&verdicts, &studies));
        }
        let mut anchors = 0;
        for study in &studies.studies {
            anchors += 1;
            let figures = if is_drawn { figure::all(study, &palette) } else { Vec::new() };
            sections.push(scenario(study, figures, anchors));
        }
        let of_studies = studies.studies.iter().flat_map(gathered_warnings);
        let warnings = of_studies
            .chain(probed(&studies).flat_map(warnings_of_limits))
            .chain(studies.self_tests.iter().filter_map(warning_of_self_test))
            .chain(reservations(&studies))
            .collect();
        Self {
            title: "Benchmark report".to_owned(),
            subtitle: subtitle(&studies),
            warnings,
            how_to_read: how_to_read(),
            sections,
            files: sources.iter().map(|source| source.name.clone()).collect(),
        }
    }
}

fn how_to_read() -> Vec<String> {
    [
        "Durability classes are never mixed without saying so. D1: on stable media before the \
         acknowledgement. D0: in the page cache, a power cut may lose acknowledged records. D0m: at \
         most in the memory of the broker's process, whose crash may lose them too.",
        "Flumen's relaxed topics are D0m, stock Kafka is D0: what Kafka acknowledged survives a \
         SIGKILL of its process, what a relaxed topic acknowledged may not. A ratio of the two \
         is marked \"weaker promise\": Flumen promises less there and is to be read as such.",
        "Latency counts from the moment a request was due, not from the moment it was sent, so a \
         stalled broker cannot hide what it made others wait. Runs with one request in flight are \
         closed loops and are labelled so.",
        "A ratio is the geometric mean over pairs of neighbouring runs; brackets hold its 95 % \
         interval, or, for two or three pairs, the smallest and the largest of them. A handicap match compares a system with one that promises less than it does; \
         \"weaker promise\" is the reverse.",
        "Only ratios travel between machines; absolute numbers belong to the machine below.",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn subtitle(studies: &Studies) -> String {
    let moments = studies
        .studies
        .iter()
        .flat_map(|study| study.environments.iter())
        .chain(studies.limits.iter().map(|(_, limits)| &limits.environment))
        .map(|environment| environment.started_unix_ms);
    let (first, last) = (moments.clone().min().unwrap_or(0), moments.max().unwrap_or(0));
    let scenarios = studies.studies.len();
    let plural = if scenarios == 1 { "" } else { "s" };
    let (first, last) = (words::moment(first), words::moment(last));
    let when = if first == last { first } else { format!("{first} to {last}") };
    format!("{scenarios} scenario{plural}, measured {when}")
}

fn machine(studies: &Studies) -> Section {
    let [latencies, rates] = tables::limits(studies);
    let has_limits = latencies.has_numbers() || rates.has_numbers();
    let paragraph = if has_limits {
        "What no broker on this machine can beat, as probed beside the runs; each number is the \
         middle of its measurements."
    } else {
        "No probe of the machine's limits is among the files: run `flumen-bench limits`."
    };
    let mut unmeasured: Vec<String> = probed(studies)
        .flat_map(|(_, limits)| &limits.unmeasured)
        .map(|limit| format!("{} was not measured: {}", limit.name, limit.reason))
        .collect();
    unmeasured.sort();
    unmeasured.dedup();
    Section {
        title: "Machine and limits".to_owned(),
        anchor: "machine".to_owned(),
        warnings: probed(studies).flat_map(warnings_of_limits).collect(),
        paragraphs: vec![paragraph.to_owned()],
        tables: vec![tables::environments(studies), tables::systems(studies), latencies, rates],
        figures: Vec::new(),
        notes: unmeasured,
    }
}

/// Nothing where the generator was not measured alone.
fn self_test(studies: &Studies) -> Option<Section> {
    let loads: Vec<&Load> = studies.self_tests.iter().collect();
    let paragraph = "What the load generator itself costs, against a responder that keeps nothing: \
                     only what it has left over can be asked of a broker.";
    (!loads.is_empty()).then(|| Section {
        title: "Generator".to_owned(),
        anchor: "generator".to_owned(),
        warnings: loads.iter().filter_map(|load| warning_of_self_test(load)).collect(),
        paragraphs: vec![paragraph.to_owned()],
        tables: vec![tables::self_test(&loads)],
        figures: Vec::new(),
        notes: Vec::new(),
    })
}

fn warning_of_self_test(load: &Load) -> Option<Warning> {
    let percent = words::number(load.generator.cpu_share * 100.0);
    let said = format!("{}: it used {percent} % of its core", load.scenario.name);
    let broke = load.broken_off.as_ref().map(|why| format!("; it broke off: {why}"));
    (!tables::is_cheap(load)).then(|| Warning {
        loud: "The generator failed its self-test.".to_owned(),
        text: said + &broke.unwrap_or_default(),
    })
}

/// Every measurement of limits with what it belongs to.
fn probed(studies: &Studies) -> impl Iterator<Item = (&str, &Limits)> {
    let alone = studies.limits.iter().map(|(file, limits)| (file.as_str(), limits));
    let beside = studies.studies.iter().flat_map(|study| {
        study.limits.iter().flatten().map(|limits| (study.scenario.name.as_str(), limits))
    });
    alone.chain(beside)
}

fn warnings_of_limits((of, limits): (&str, &Limits)) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if limits.disturbed_share > PROBE_DISTURBED_SHARE_MAX {
        let percent = words::number(limits.disturbed_share * 100.0);
        warnings.push(Warning {
            loud: "Not to be believed.".to_owned(),
            text: format!("limits of {of}: others used {percent} % of the machine meanwhile"),
        });
    }
    if let Some(why) = &limits.broken_off {
        warnings.push(Warning {
            loud: "Partial.".to_owned(),
            text: format!("limits of {of}: broke off: {why}"),
        });
    }
    warnings
}

/// What holds for whole scenarios and stands beside their goals: once on top, by kind.
fn reservations(studies: &Studies) -> impl Iterator<Item = Warning> {
    let kinds = [
        (Reservation::OnePair, "One pair only.", "Nothing is known of the spread of"),
        (
            Reservation::NoControl,
            "No A/A control.",
            "How far a system is from itself is unknown in",
        ),
        (
            Reservation::NoLimits,
            "No limits beside it.",
            "Whether the machine changed is unknown in",
        ),
    ];
    kinds.into_iter().filter_map(|(kind, loud, what)| {
        let of_kind = studies.studies.iter().filter(|study| study.reservations().contains(&kind));
        let names: Vec<&str> = of_kind.map(|study| study.scenario.name.as_str()).collect();
        (!names.is_empty()).then(|| Warning {
            loud: loud.to_owned(),
            text: format!("{what} {}", names.join(", ")),
        })
    })
}

fn goals_section(verdicts: &[goals::Verdict], studies: &Studies) -> Section {
    let believed = || verdicts.iter().filter(|v| v.is_believable);
    let reached = |bar: usize| believed().filter(|v| v.reached.is_some_and(|r| r >= bar)).count();
    let reserved =
        believed().filter(|v| v.reached.is_some_and(|r| r >= 1) && !v.reservations.is_empty());
    let measured = verdicts.iter().filter(|verdict| verdict.reached.is_some()).count();
    let mut paragraphs = vec![format!(
        "Measured: {measured} of {} lines. Floor reached: {}; target: {}; moonshot: {}. With a \
         reservation (one pair, no control, …, see the table): {} of those.",
        verdicts.len(),
        reached(1),
        reached(2),
        reached(3),
        reserved.count()
    )];
    paragraphs.extend(goals::share::of_their_most(studies));
    Section {
        title: "Goals".to_owned(),
        anchor: "goals".to_owned(),
        warnings: Vec::new(),
        paragraphs,
        tables: vec![tables::goals(verdicts)],
        figures: Vec::new(),
        notes: shown_by(verdicts),
    }
}

/// Which scenario shows which goals.
fn shown_by(verdicts: &[goals::Verdict]) -> Vec<String> {
    let mut shown: Vec<(&str, Vec<&str>)> = Vec::new();
    let was_shown = |verdict: &&goals::Verdict| verdict.reached.is_some() || verdict.is_unresolved;
    for verdict in verdicts.iter().filter(was_shown) {
        match shown.iter_mut().find(|(scenarios, _)| *scenarios == verdict.scenarios) {
            Some((_, ids)) if ids.contains(&verdict.goal.id) => {}
            Some((_, ids)) => ids.push(verdict.goal.id),
            None => shown.push((&verdict.scenarios, vec![verdict.goal.id])),
        }
    }
    shown.iter().map(|(scenarios, ids)| format!("{}: {scenarios}", ids.join(", "))).collect()
}

/// What words mean where each request is a transaction.
const OF_TRANSACTIONS: &str = "Each produce request is a transaction of its own here, committed \
    before its producer begins the next one. Produce latency is that of the whole transaction, to \
    the answer to its end; requests are transactions.";

fn scenario(study: &Study, figures: Vec<Figure>, place: usize) -> Section {
    let mut notes = study.run_remarks();
    notes.extend(study.notes.iter().cloned());
    let candidates =
        [tables::speed(study), tables::cost(study), tables::beside(study), tables::ratios(study)];
    let mut shown: Vec<Table> = candidates.into_iter().filter(Table::has_numbers).collect();
    shown.extend(tables::guards(study));
    let mut paragraphs = vec![study.scenario.purpose.clone(), study.workload()];
    if study.scenario.is_transactional() {
        paragraphs.push(OF_TRANSACTIONS.to_owned());
    }
    Section {
        title: if study.is_believable() {
            study.scenario.name.clone()
        } else {
            format!("{} (not to be believed)", study.scenario.name)
        },
        anchor: format!("scenario-{place}"),
        warnings: warnings_of(study),
        paragraphs,
        tables: shown,
        figures,
        notes,
    }
}

/// For the top of a report: one line per scenario and kind, or many scenarios would fill a page.
fn gathered_warnings(study: &Study) -> Vec<Warning> {
    let mut gathered: Vec<Warning> = Vec::new();
    for warning in warnings_of(study) {
        match gathered.iter_mut().find(|known| known.loud == warning.loud) {
            Some(known) => known.text = format!("{}; {}", known.text, warning.text),
            None => gathered.push(Warning {
                text: format!("{}: {}", study.scenario.name, warning.text),
                ..warning
            }),
        }
    }
    gathered
}

fn warnings_of(study: &Study) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = study
        .violations()
        .iter()
        .map(|why| Warning { loud: "Not to be believed.".to_owned(), text: why.clone() })
        .collect();
    if let Some(why) = &study.broken_off {
        warnings.push(Warning { loud: "Partial.".to_owned(), text: format!("broke off: {why}") });
    } else if study.is_partial() {
        let count = study.runs.iter().filter(|run| run.load.broken_off.is_some()).count();
        let text = format!("{count} of {} runs broke off", study.runs.len());
        warnings.push(Warning { loud: "Partial.".to_owned(), text });
    }
    warnings
}
