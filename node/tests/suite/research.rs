//! The search edits text, learns, and finds more than chance does.

use cairn_node::research::{Curve, Ended, Goal, Head, Pace, Search, Space, Try, report, summary};
use cairn_protocol::{Claim, GraphId, ReportStatus, hash};

const SOURCE: &str = "\
# A program.
WIDTH = 16           # 8..48 step 8
HEADS = 4            # one of 1, 2, 4, 8
BATCH = 32           # 8..128 log step 8
LR = 1e-2            # 1e-3..1e-1 log
WARMUP = 0.0         # 0..0.3
BETA2 = 0.99         # 0.9..0.999
BETAS = (0.9, 0.99)  # the usual ones
DECAY = 0.1          # 0..0.3
INIT = 0.08          # 0.01..0.5 log
ACT = \"relu\"         # one of relu, gelu, silu
TIED = True
DEPTH = 2

def model(x):
    return x * LR    # LR = 1
";

const MARGIN: i64 = 1 << 18;
const BASE: i64 = 2 << 24;

fn goal(metric: i64) -> Goal {
    Goal { record: Claim { metric, test: metric }, margin: MARGIN }
}

fn graph(source: &str) -> GraphId {
    GraphId(hash("test graph", &[source.as_bytes()]))
}

fn head(source: &str) -> Head {
    Head { parent: None, source: source.into(), graph: graph(source) }
}

fn started(seed: u64) -> Search {
    let mut search = Search::new(seed, goal(BASE));
    search.start(head(SOURCE), goal(BASE));
    search
}

/// A smooth landscape with an optimum away from the head, and noise of a seed.
fn landscape(what: &Try) -> i64 {
    let number = |name: &str| -> f64 { what.literals[name].parse().unwrap() };
    let bowl = |x: f64, best: f64, weight: f64| weight * (x - best) * (x - best);
    let value = bowl(number("LR").log10(), -1.5, 0.2)
        + bowl(number("WIDTH") / 16.0, 2.0, 0.08)
        + bowl(number("BATCH").log2(), 4.0, 0.03)
        + bowl(number("INIT").log10(), -0.7, 0.1)
        + bowl(number("WARMUP"), 0.1, 2.0)
        + bowl(number("DECAY"), 0.0, 1.0)
        + if what.literals["ACT"] == "\"gelu\"" { 0.0 } else { 0.06 };
    let noise = (f64::from(hash("noise", &[&what.seed.to_be_bytes()])[0]) / 255.0 - 0.5) * 0.01;
    BASE + ((value - 0.25 + noise) * f64::from(1 << 24)) as i64
}

fn run(search: &mut Search, what: &Try) -> i64 {
    let metric = landscape(what);
    let id = graph(&what.source);
    if search.worth_running(what, id) {
        search.learn(what, Some(id), Ended::Done { metric, test: metric });
    }
    metric
}

#[test]
fn an_edit_changes_the_literals_it_names_and_nothing_else() {
    let space = Space::of(SOURCE);
    let mut literals = space.literals();
    for (name, new) in [("LR", "0.003"), ("BETAS[1]", "0.95"), ("ACT", "\"silu\""), ("TIED", "False")] {
        assert!(literals.insert(name.into(), new.into()).is_some(), "{name}");
    }
    let expected = SOURCE
        .replace("LR = 1e-2 ", "LR = 0.003 ")
        .replace("(0.9, 0.99)", "(0.9, 0.95)")
        .replace("\"relu\" ", "\"silu\" ")
        .replace("TIED = True", "TIED = False");
    assert_eq!(space.edit(&literals), expected);
    assert_eq!(space.edit(&space.literals()), SOURCE);
}

#[test]
fn every_proposal_is_new_keeps_comments_and_tells_what_it_changes() {
    for seed in 0..4 {
        let mut search = started(seed);
        let mut sources = std::collections::BTreeSet::new();
        let comments = |source: &str| -> Vec<String> {
            source.lines().filter_map(|l| l.split_once('#')).map(|(_, comment)| comment.to_string()).collect()
        };
        for _ in 0..60 {
            let what = search.propose().expect("a large space is not exhausted");
            let space = Space::of(SOURCE);
            let changes = summary::read(&what.summary).expect("a summary can be read back");
            assert_eq!(changes, space.changes(&what.literals));
            assert!((1..=6).contains(&changes.len()), "{}", what.summary);
            assert_eq!(comments(&what.source), comments(SOURCE), "{}", what.summary);
            assert_eq!(Space::of(&what.source).literals(), what.literals, "{}", what.summary);
            assert!(what.again || sources.insert(what.source.clone()), "tried twice: {}", what.summary);
            run(&mut search, &what);
        }
    }
}

#[test]
fn hints_bound_what_is_proposed() {
    let mut search = started(7);
    for _ in 0..80 {
        let Some(what) = search.propose() else { break };
        let number = |name: &str| -> f64 { what.literals[name].parse().unwrap() };
        assert!((1e-3..=1e-1).contains(&number("LR")), "{}", what.summary);
        assert!((8.0..=48.0).contains(&number("WIDTH")) && number("WIDTH") % 8.0 == 0.0, "{}", what.summary);
        assert!((0.0..=0.3).contains(&number("WARMUP")), "{}", what.summary);
        assert!((0.9..=0.999).contains(&number("BETA2")), "{}", what.summary);
        assert!([1.0, 2.0, 4.0, 8.0].contains(&number("HEADS")), "{}", what.summary);
        assert!(number("BETAS[1]") < 1.0 && number("BETAS[0]") < 1.0, "{}", what.summary);
        run(&mut search, &what);
    }
}

#[test]
fn one_seed_gives_one_search() {
    let tries = |seed| {
        let mut search = started(seed);
        (0..40)
            .map(|_| {
                let what = search.propose().unwrap();
                run(&mut search, &what);
                (what.summary, what.seed)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(tries(3), tries(3));
    assert_ne!(tries(3), tries(4));
}

/// The best of `count` tries of a search that learns, and of one that is told nothing.
fn best(seed: u64, count: usize, learns: bool) -> i64 {
    let mut search = started(seed);
    let mut best = i64::MAX;
    for _ in 0..count {
        let Some(what) = search.propose() else { break };
        best = best.min(landscape(&what));
        if learns {
            run(&mut search, &what);
        }
    }
    best
}

#[test]
fn learning_beats_chance() {
    let sum =
        |learns| (0..12).map(|seed| best(seed, 50, learns) - BASE).sum::<i64>() as f64 / 12.0 / f64::from(1 << 24);
    let (learnt, blind) = (sum(true), sum(false));
    println!("mean best of 50: {learnt:.4} with learning, {blind:.4} without");
    assert!(learnt < blind - 0.03, "{learnt} against {blind}");
}

#[test]
fn reports_of_others_help() {
    let mut helped = 0;
    for seed in 0..10 {
        let mut teacher = started(seed);
        let mut reports = Vec::new();
        for _ in 0..60 {
            let what = teacher.propose().unwrap();
            let metric = run(&mut teacher, &what);
            let ended = Ended::Done { metric, test: metric };
            reports.push(report(&what, Some(graph(&what.source)), ended));
        }
        let bests = |taught: bool| {
            let mut pupil = started(seed + 100);
            // A record that the teacher's results do not beat, so that they are believable.
            pupil.start(head(SOURCE), goal(BASE - (1 << 23)));
            if taught {
                reports.iter().for_each(|report| pupil.hear(report, false));
                assert!(pupil.known_results() > 30, "only {} reports were understood", pupil.known_results());
            }
            let mut best = i64::MAX;
            for _ in 0..12 {
                let what = pupil.propose().unwrap();
                best = best.min(run(&mut pupil, &what));
            }
            best
        };
        helped += i32::from(bests(true) < bests(false));
    }
    assert!(helped >= 8, "helped {helped} of 10");
}

#[test]
fn reports_that_claim_the_impossible_or_speak_of_another_base_are_not_believed() {
    let mut search = started(1);
    let what = search.propose().unwrap();
    let before = search.known_results();
    let too_good = report(&what, Some(graph("x")), Ended::Done { metric: BASE - 2 * MARGIN, test: 0 });
    search.hear(&too_good, false);
    let mut elsewhere = report(&what, Some(graph("x")), Ended::Done { metric: BASE, test: 0 });
    elsewhere.base = graph("another program");
    search.hear(&elsewhere, false);
    let mut wrong = report(&what, Some(graph("x")), Ended::Done { metric: BASE, test: 0 });
    wrong.summary = "LR 0.5 → 0.6".try_into().unwrap();
    search.hear(&wrong, false);
    wrong.summary = "a person's words, not ours".try_into().unwrap();
    search.hear(&wrong, false);
    assert_eq!(search.known_results(), before);
}

#[test]
fn a_report_waits_for_its_base() {
    let mut search = Search::new(1, goal(BASE));
    let what = started(5).propose().unwrap();
    search.hear(&report(&what, Some(graph("x")), Ended::Done { metric: BASE, test: BASE }), false);
    assert_eq!(search.known_results(), 0);
    search.start(head(SOURCE), goal(BASE));
    // The head's own record, and the report.
    assert_eq!(search.known_results(), 2);
}

#[test]
fn a_win_is_run_again_with_a_fresh_seed_before_it_is_claimed_and_claimed_once() {
    let mut search = started(2);
    let first = search.propose().unwrap();
    let id = graph(&first.source);
    let win = Ended::Done { metric: BASE - 2 * MARGIN, test: BASE };
    assert!(search.worth_running(&first, id));
    assert_eq!(search.learn(&first, Some(id), win), None);
    let second = search.propose().unwrap();
    assert!(second.again && second.source == first.source && second.seed != first.seed);
    assert!(search.worth_running(&second, id));
    let draft = search.learn(&second, Some(id), win).expect("two wins are worth a claim");
    assert_eq!((draft.graph, draft.source.as_str()), (id, first.source.as_str()));
    assert_eq!(draft.title.as_str(), first.summary);
    assert_eq!(search.take_effort(), 2);
    assert!(!search.worth_running(&first, id), "a claimed graph is not run again");
    assert!(!search.propose().unwrap().again);
}

#[test]
fn a_win_that_a_claim_under_way_will_beat_is_not_pursued() {
    let mut search = started(2);
    let first = search.propose().unwrap();
    let id = graph(&first.source);
    let win = Ended::Done { metric: BASE - 2 * MARGIN, test: BASE };
    search.learn(&first, Some(id), win);
    search.aim(goal(BASE - MARGIN / 2));
    assert!(search.propose().unwrap().again, "still good enough");
    search.aim(goal(BASE - 2 * MARGIN));
    assert!(!search.propose().unwrap().again);
}

#[test]
fn luck_and_a_worse_test_metric_are_not_claimed() {
    let lucky = Ended::Done { metric: BASE - 2 * MARGIN, test: BASE };
    let usual = Ended::Done { metric: BASE - MARGIN / 2, test: BASE };
    let overfit = Ended::Done { metric: BASE - 2 * MARGIN, test: BASE + 2 * MARGIN };
    for second_run in [usual, overfit, Ended::Diverged, Ended::Stopped] {
        let mut search = started(2);
        let first = search.propose().unwrap();
        let id = graph(&first.source);
        search.learn(&first, Some(id), lucky);
        let second = search.propose().unwrap();
        assert!(second.again);
        assert_eq!(search.learn(&second, Some(id), second_run), None, "{second_run:?}");
        assert!(!search.propose().unwrap().again, "{second_run:?}");
    }
}

#[test]
fn the_same_graph_is_run_once_and_refusals_are_reported() {
    let mut search = started(9);
    let a = search.propose().unwrap();
    let b = search.propose().unwrap();
    assert!(search.worth_running(&a, graph("same")));
    assert!(!search.worth_running(&b, graph("same")));
    search.learn(&a, None, Ended::Refused);
    let refused = report(&a, None, Ended::Refused);
    assert_eq!((refused.status, refused.graph), (ReportStatus::Refused, GraphId::default()));
}

#[test]
fn a_new_head_is_the_next_start() {
    let mut search = started(4);
    for _ in 0..10 {
        let what = search.propose().unwrap();
        run(&mut search, &what);
    }
    let next = SOURCE.replace("LR = 1e-2", "LR = 0.03");
    search.start(head(&next), goal(BASE - (1 << 20)));
    for _ in 0..20 {
        let what = search.propose().unwrap();
        assert_eq!(what.base, graph(&next));
        assert!(what.source.contains("LR = 0.03") || what.summary.contains("LR 0.03 → "), "{}", what.summary);
        assert_ne!(what.source, SOURCE, "the old head is not tried");
        run(&mut search, &what);
    }
}

#[test]
fn a_program_without_constants_gives_no_tries() {
    let mut search = Search::new(1, goal(BASE));
    assert_eq!(search.propose(), None);
    search.start(head("def model(x):\n    return x\n"), goal(BASE));
    assert_eq!(search.propose(), None);
    search.start(head("this is ( no program"), goal(BASE));
    assert_eq!(search.propose(), None);
}

fn curve(loss: impl Fn(u64) -> f32) -> Curve {
    let mut pace = Pace::new(None);
    (1..=200).for_each(|step| assert!(pace.step(step, 200, loss(step))));
    pace.curve()
}

#[test]
fn a_run_that_is_far_behind_stops_and_others_do_not() {
    let usual = |step: u64| 3.0 - step as f32 / 200.0;
    let best = curve(usual);
    let stopped_at = |loss: &dyn Fn(u64) -> f32| {
        let mut pace = Pace::new(Some(best.clone()));
        (1..=200).find(|step| !pace.step(*step, 200, loss(*step)))
    };
    assert_eq!(stopped_at(&usual), None);
    let at = stopped_at(&|step| usual(step) + 0.5).expect("far behind");
    assert!((80..=110).contains(&at), "stopped at {at}");
    assert_eq!(stopped_at(&|step| usual(step) + 0.1), None, "a little behind");
    assert_eq!(stopped_at(&|step| if step < 50 { 9.0 } else { usual(step) }), None, "a slow start");
    assert_eq!(stopped_at(&|step| if (100..115).contains(&step) { 9.0 } else { usual(step) }), None, "one bad moment");
}
