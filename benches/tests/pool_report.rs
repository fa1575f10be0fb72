//! The page that `pool-report` writes.

use std::path::PathBuf;
use std::process::Command;

use fibra_benches::{Workload, pool};

fn pool_report() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pool-report"))
}

/// A page from a quick run.
fn page() -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pools.html");
    let output = pool_report().arg("--quick").arg(&path).output().expect("it can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), path.to_string_lossy());
    std::fs::read_to_string(path).expect("a page was written")
}

#[test]
fn a_quick_page_has_everything() {
    let page = page();
    assert_well_formed(&page);
    assert_stands_alone(&page);

    for workload in Workload::ALL.into_iter().filter(|workload| workload.is_pool()) {
        let name = workload.name();
        let (_, section) = page.split_once(&format!("<section aria-labelledby=\"{name}\">")).expect(name);
        let (section, _) = section.split_once("</section>").expect(name);
        let [drawing, table] = ["svg", "table"].map(|element| inside(section, element));
        for contender in workload.contenders() {
            let drawn = format!(">{}</text>", contender.name);
            assert!(drawing.contains(&drawn), "{name}: {} is not drawn", contender.name);
            let row = format!("<th scope=\"row\">{}</th>", contender.name);
            assert_eq!(table.matches(&row).count(), 1, "{name}: {} in the table", contender.name);
        }
        assert!(section.contains(workload.unit()), "{name} has no unit");
    }
    for id in ["latency", "start"] {
        let (_, section) = page.split_once(&format!("<section aria-labelledby=\"{id}\">")).expect(id);
        let (section, _) = section.split_once("</section>").expect(id);
        for pool in pool::ALL {
            let row = format!("<th scope=\"row\">{}</th>", pool.name);
            assert!(inside(section, "table").contains(&row), "{id}: {} is missing", pool.name);
        }
    }
    for title in ["The machine", "How it is measured", "What is unfair"] {
        assert!(page.contains(&format!(">{title}</h2>")), "{title}");
    }
    assert!(page.contains("A quick run."), "a quick page says so");
    assert!(!page.contains("NaN") && !page.contains("inf "), "a figure is none");
}

#[test]
fn arguments_that_mean_nothing() {
    for arguments in [&["--slow"][..], &["a.html", "b.html"]] {
        let output = pool_report().args(arguments).output().expect("it can be started");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: pool-report"));
    }
}

/// From the first such element's beginning to its end.
fn inside<'a>(html: &'a str, element: &str) -> &'a str {
    let start = html.find(&format!("<{element}")).unwrap_or_else(|| panic!("no {element}"));
    let end = html[start..].find(&format!("</{element}>")).unwrap_or_else(|| panic!("no end of {element}"));
    &html[start..start + end]
}

/// Every element that begins ends, in order; attributes are quoted; what is text has no marks in it; names are unique.
fn assert_well_formed(html: &str) {
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("a document type");
    let mut open: Vec<&str> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    while let Some(start) = rest.find('<') {
        let (text, tag) = rest.split_at(start);
        assert!(!text.contains('>') || open.last() == Some(&"style"), "a stray mark: {text}");
        let (tag, after) = tag[1..].split_once('>').expect("a tag ends");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "an end without a beginning");
            continue;
        }
        let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
        let (attributes, empty) = match attributes.strip_suffix('/') {
            Some(attributes) => (attributes, true),
            None => (attributes, false),
        };
        let quotes: Vec<&str> = attributes.split('"').collect();
        assert!(quotes.len() % 2 == 1, "an attribute is not quoted: {tag}");
        for attribute in quotes.chunks_exact(2) {
            assert!(attribute[0].ends_with('='), "an attribute is no assignment: {tag}");
            if attribute[0].trim() == "id=" {
                assert!(!names.contains(&attribute[1]), "{} is there twice", attribute[1]);
                names.push(attribute[1]);
            }
        }
        if !empty {
            open.push(name);
        }
    }
    assert!(rest.trim().is_empty() && open.is_empty(), "not closed: {open:?}");
    let (_, body) = html.split_once("<body>").expect("a body");
    for link in body.split("href=\"#").skip(1) {
        let (target, _) = link.split_once('"').expect("a link ends");
        assert!(names.contains(&target), "nothing is called {target}");
    }
}

/// Nothing is fetched from anywhere.
fn assert_stands_alone(html: &str) {
    for outside in ["http:", "https:", "src=", "url(", "@import", "<script", "<link", "<iframe", "<img"] {
        assert!(!html.contains(outside), "the page has {outside}");
    }
}
