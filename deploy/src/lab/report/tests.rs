//! A report as a whole: well-formed, self-contained, and with everything on it.

use super::{
    super::{
        LAG_KEY, VARIANT,
        measured::{Bucket, CAUSES, Predicted},
        rows::{Run, Status, equalise, tests::run},
    },
    *,
};

/// Three seeds of two variants at three lags, with everything measured.
fn grid() -> Vec<Run> {
    let mut runs = Vec::new();
    for seed in 1..=3 {
        for (variant, loss) in [("steady <&> \"quick\"", 1.0), ("fragile", 12.0)] {
            for (place, lag) in ["0", "8", "32"].into_iter().enumerate() {
                let end = 500.0 - loss * lag.parse::<f64>().unwrap() - seed as f64;
                let mut run = run(&[(VARIANT, variant), (LAG_KEY, lag)], seed, 153_600, end);
                let measured = &mut run.row.measured;
                let versions = lag.parse().unwrap();
                measured.lag.mean = Some(versions);
                measured.lag_causes = CAUSES
                    .iter()
                    .map(|cause| ((*cause).to_owned(), Some(versions / 7.0)))
                    .collect();
                measured.lag_buckets = vec![Bucket {
                    bucket: ["0", "5-8", "17-32"][place].to_owned(),
                    steps: 153_600.0,
                    ess: Some(1.0 - versions / 64.0),
                    clip_fraction: Some(versions / 100.0),
                    ..Bucket::default()
                }];
                measured.lag_predicted = Some(Predicted {
                    versions: Some(versions + 0.5),
                    ..Predicted::default()
                });
                measured.time = [("learner_busy", 0.6), ("actors_blocked", 0.9)]
                    .map(|(name, share)| (name.to_owned(), Some(share)))
                    .into();
                measured.network.received_bytes = Some(6e6);
                measured.network.sent_bytes = Some(1e6);
                runs.push(run);
            }
        }
    }
    equalise(&mut runs);
    runs
}

/// Asserts that every element is closed in its order and that no text breaks out of its element.
fn assert_well_formed(markup: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = markup;
    while let Some(at) = rest.find('<') {
        let (text, tag) = rest.split_at(at);
        assert!(
            !text.contains('>') || open.contains(&"style"),
            "a bare > in {text:?}"
        );
        let end = tag.find('>').expect("a tag ends");
        let (tag, after) = (&tag[1..end], &tag[end + 1..]);
        rest = after;
        assert_eq!(
            tag.matches('"').count() % 2,
            0,
            "quotation marks in <{tag}>"
        );
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes something else");
        } else if !tag.ends_with('/') && !matches!(name, "!DOCTYPE" | "meta") {
            open.push(name);
        }
    }
    assert_eq!(open, [""; 0], "left open");
}

/// Asserts that nothing is fetched and no program runs.
fn assert_self_contained(markup: &str) {
    for part in [
        "<script",
        "src=",
        "href=",
        "url(",
        "@import",
        "<link",
        "<iframe",
        "<foreignObject",
        " on",
    ] {
        let within_tags = markup
            .split('<')
            .map(|part| part.split('>').next().unwrap_or_default());
        let all: String = if part == " on" {
            within_tags
                .filter(|tag| tag.contains(" on") && tag.contains("=\"") && tag.contains(" onload"))
                .collect()
        } else {
            markup.to_owned()
        };
        assert!(!all.contains(part), "{part} in the page");
    }
    let addresses = markup.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    assert!(!addresses.contains("://"));
}

#[test]
fn the_report_of_a_grid_is_whole_well_formed_and_self_contained() {
    let mut runs = grid();
    let report = of_grid(&runs, "springbok lab\n  --sweep 'lag.inject=0,8,32'\n");
    assert_well_formed(&report.html);
    assert_self_contained(&report.html);
    let names: Vec<&str> = report.plots.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "frontier.svg",
            "return-at-equal-steps.svg",
            "return-at-equal-time.svg",
            "lag-causes.svg",
            "ess-by-lag.svg",
            "clip-by-lag.svg",
            "predicted.svg",
            "time-learner.svg",
            "time-actors.svg",
            "network.svg",
            "curves-1.svg",
            "curves-2.svg",
            "curves-3.svg",
        ]
    );
    for (name, svg) in &report.plots {
        assert_well_formed(svg);
        assert_self_contained(svg);
        assert!(svg.starts_with("<svg xmlns="), "{name}");
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{name}");
    }
    assert_eq!(report.html.matches("<svg").count(), names.len());
    for part in [
        "steady &lt;&amp;&gt; &quot;quick&quot;: return 498 (497 to 499, n = 3) at lag 0",
        "fragile: return 498 (497 to 499, n = 3) at lag 0, and 114 (113 to 115, n = 3) at lag 32, 23 % of it",
        "After 154k environment steps",
        "a machine",
    ] {
        assert!(report.html.contains(part), "{part:?} is not in the page");
    }

    runs[0].row.status = Status::Failed;
    runs[0].row.error = Some("</main><script>alert(1)</script> & \u{1b}[31m".to_owned());
    let report = of_grid(&runs, "");
    assert_well_formed(&report.html);
    assert!(report.html.contains("&lt;script&gt;alert(1)"));
    assert!(report.html.contains("1 failed") && !report.html.contains('\u{1b}'));
}

#[test]
fn whatever_was_not_measured_is_said_and_nothing_breaks() {
    let empty = of_grid(&[], "");
    assert_well_formed(&empty.html);
    assert!(empty.plots.is_empty() && empty.html.contains("No run has finished"));

    let mut bare = run(&[], 1, 0, f64::NAN);
    bare.row.measured = Default::default();
    bare.curve = Default::default();
    bare.config.clear();
    let report = of_grid(std::slice::from_ref(&bare), "");
    assert_well_formed(&report.html);
    assert!(report.plots.is_empty());
    assert!(
        report
            .html
            .contains("Not measured by these runs: Throughput against policy lag;")
    );
    let report = of_run(&bare);
    assert_well_formed(&report.html);
    assert!(report.html.contains("No episode has ended."));

    // Numbers of every kind of badness on one axis, and a single point on the other.
    let mut wild = run(&[(LAG_KEY, "8")], 1, 1000, f64::INFINITY);
    wild.row.measured.lag.mean = Some(-1.0);
    wild.row.measured.trained_steps_per_s = Some(1e300);
    wild.row
        .measured
        .lag_causes
        .insert("queue".to_owned(), Some(f64::NAN));
    let report = of_grid(std::slice::from_ref(&wild), "");
    for (name, svg) in report.plots {
        assert_well_formed(&svg);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
    }
}

#[test]
fn the_report_of_a_run_says_what_came_of_it() {
    let mut run = grid().swap_remove(4);
    run.row.settings.clear();
    run.row.measured.bottleneck = "learner".into();
    let report = of_run(&run);
    assert_well_formed(&report.html);
    assert_self_contained(&report.html);
    for part in [
        "The mean return was 403 at the end",
        "Bottleneck: learner.",
        "Learning curve",
        "Predicted were 8.5 versions",
    ] {
        assert!(report.html.contains(part), "{part:?} is not in the page");
    }
    assert!(
        report
            .plots
            .iter()
            .any(|(name, _)| name == "lag-causes.svg")
    );
    assert!(report.plots.iter().all(|(name, _)| name != "frontier.svg"));
}

#[test]
fn any_runs_are_compared_side_by_side_and_seeds_are_put_together() {
    let mut runs: Vec<Run> = (0..30)
        .map(|number: u64| {
            let mut run = run(
                &[("left", "over")],
                number,
                1000 + 10 * number,
                number as f64,
            );
            run.row.cell = "run".to_owned();
            // Three seeds of each; where it was written to makes no difference.
            run.config = vec![
                ("run.seed".to_owned(), number.to_string()),
                ("telemetry.http".to_owned(), format!("\"<{number}>\"")),
                ("algorithm.gamma".to_owned(), format!("0.{}", number / 3)),
                ("algorithm.lambda".to_owned(), "0.95".to_owned()),
            ];
            run
        })
        .collect();
    runs[29]
        .config
        .push(("algorithm.novel".to_owned(), "1".to_owned()));
    comparison::name(&mut runs);
    equalise(&mut runs);
    let labels: Vec<&str> = runs.iter().map(|run| run.row.setting(VARIANT)).collect();
    assert_eq!(labels[0], "run (+2 runs)");
    assert_eq!(labels[1], labels[0]);
    assert_eq!(labels[3], "run (4) (+2 runs)");
    assert_eq!(
        labels[29], "run (30)",
        "a key that others lack is a difference"
    );
    let report = of_comparison(&runs);
    assert_well_formed(&report.html);
    assert_self_contained(&report.html);
    for part in [
        "30 runs of CartPole-v1",
        "11 configurations;",
        "<td class=\"t\">algorithm.gamma</td><td class=\"n\">0.0</td>",
        "&lt;29&gt;",
        "run (4) (+2 runs): return",
    ] {
        assert!(report.html.contains(part), "{part:?} is not in the page");
    }
    let differences = report.html.split("What differs").nth(1).unwrap();
    let differences = differences.split("</section>").next().unwrap();
    assert!(differences.contains("algorithm.novel") && !differences.contains("algorithm.lambda"));
    let names: Vec<&str> = report.plots.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names[..3],
        ["curves.svg", "curves-over-time.svg", "steps-over-time.svg"]
    );
    // A curve for each configuration, and one for each run.
    for (plot, lines) in [(0, 11), (1, 30)] {
        let svg = &report.plots[plot].1;
        assert!(svg.matches("<path").count() >= lines || svg.matches("<polyline").count() >= lines);
    }
}

#[test]
fn marks_of_a_plot_stay_within_its_axes_and_notes_cover_nothing() {
    // Twenty marks at the same place: one note finds room on each of four sides at most.
    let runs: Vec<Run> = (0..20)
        .map(|count| run(&[("actor.count", &count.to_string())], 1, 1000, 5.0))
        .collect();
    let report = of_grid(&runs, "");
    let (_, frontier) = &report.plots[0];
    let notes = frontier.matches("text-anchor=\"middle\"").count();
    let ticks = frontier.matches("<text").count();
    assert!(notes < ticks && notes <= 4 + 9, "{notes} of {ticks}");
    for (_, svg) in &report.plots {
        let places = svg
            .split(" x=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap());
        for place in places {
            let place: f64 = place.parse().unwrap();
            assert!((0.0..=460.0).contains(&place), "{place}");
        }
    }
}
