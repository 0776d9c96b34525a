use super::*;
use crate::figures::{Machine, Measured, Served};

/// A workload that kmem loses to a peer with a malicious name, and one that it wins.
fn results() -> Results {
    let text = String::new;
    let machine = Machine {
        processor: "<script>alert(1)</script> & \"co\"".into(),
        cpus: 2,
        memory_mib: 1,
        kernel: text(),
        transparent_huge_pages: text(),
        kmem_mode: text(),
    };
    let served = |(allocator, median): (&str, f64)| Served {
        allocator: allocator.into(),
        failed: None,
        figures: [("ns".to_string(), Figure::of(vec![median]).unwrap())].into(),
    };
    let outcome = |name: &str, ours, theirs| Outcome {
        name: name.into(),
        about: "a < b".into(),
        unit: "object".into(),
        compared: "ns".into(),
        family: "core".into(),
        skipped: None,
        results: [("kmem", ours), ("p<eer", theirs)].map(served).into(),
    };
    let measured = |name: &str| Measured { name: name.into(), version: text(), how: text(), missing: None };
    Results {
        machine,
        quick: true,
        stopped: false,
        allocators: ["kmem", "p<eer"].map(measured).into(),
        workloads: vec![outcome("lost", 20.0, 10.0), outcome("won", 10.0, 40.0)],
    }
}

#[test]
fn the_page_shows_losses_beside_wins() {
    let results = results();
    let page = page(&results, &crate::targets::judge(&results));
    assert!(page.contains("2.00 times p&lt;eer</small>"), "{page}");
    assert!(page.contains("best; then p&lt;eer, 4.00 times"), "{page}");
    assert!(page.contains("<b class=\"bad\">1</b><span>workloads where one is</span>"));
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn tables_and_sentences_fit_a_terminal() {
    let mut results = results();
    for name in ["jemalloc-deb", "mimalloc", "tcmalloc", "snmalloc", "glibc"] {
        results.allocators.push(Measured { name: name.into(), ..results.allocators[1].clone() });
    }
    let verdicts = crate::targets::judge(&results);
    for width in [60, 80, 120] {
        let text = text(&results, &verdicts, Some(width));
        assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
        let heads: Vec<&str> = text.lines().filter(|line| line.starts_with(' ') && line.contains(" kmem")).collect();
        assert!(heads.len() >= 6usize.div_ceil(width / 13), "kmem is in each table: {text}");
        for allocator in &results.allocators {
            assert!(heads.iter().any(|head| head.contains(&allocator.name)), "{}", allocator.name);
        }
    }
    assert_eq!(text(&results, &[], None).lines().filter(|line| line.starts_with("won ")).count(), 1);
}

#[test]
fn nothing_in_it_is_taken_for_markup() {
    let results = results();
    let page = page(&results, &[]);
    let plot = plots::overview(&results).file(plots::OVERVIEW_WIDTH);
    for document in [&page, &plot] {
        assert!(!document.contains("<script") && !document.contains("p<eer") && !document.contains("a < b"));
    }
    assert!(markdown(&results, &[]).contains("a &lt; b"));
    assert!(plot.starts_with("<svg xmlns=") && plot.contains("<style>"));
}

#[test]
fn a_folder_has_a_page_plots_and_figures_that_are_read_again() {
    let folder = std::env::temp_dir().join(format!("kmem-report-{}", std::process::id()));
    write(&folder, &results(), &[]).unwrap();
    for name in ["index.html", "BENCHMARKS.md", "figures.csv", "plots/overview.svg", "plots/lost.svg"] {
        assert!(fs::metadata(folder.join(name)).unwrap().len() > 0, "{name}");
    }
    let read: Results = serde_json::from_str(&fs::read_to_string(folder.join("figures.json")).unwrap()).unwrap();
    assert_eq!(read.outcome("won").unwrap().median("kmem", "ns"), Some(10.0));
    fs::remove_dir_all(folder).unwrap();
}
