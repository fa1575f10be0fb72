//! The page itself. It is written so that a parser of XML understands it too, which is how the tests look at it.

use std::fmt::Write;

use super::bars::bars;
use super::curves::curves;
use super::latency::Distribution;
use super::{Report, Row, class, escape, family, short};
use crate::Workload;
use crate::measure::Effort;
use crate::pool::{self, Pool};

const STYLE: &str = include_str!("page.css");

pub(super) fn page(report: &Report) -> String {
    let mut html = String::new();
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n\
         <meta name=\"color-scheme\" content=\"light dark\" />\n\
         <title>Memory pools, measured</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    head(&mut html, report);
    html.push_str("<h2 id=\"workloads\">What a block costs</h2>\n");
    report.rows.iter().for_each(|row| workload(&mut html, row));
    latency(&mut html, report);
    starts(&mut html, report);
    ending(&mut html);
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn head(html: &mut String, report: &Report) {
    html.push_str(
        "<h1>Memory pools, measured</h1>\n\
         <p>fibra's pools, bare floors, and the allocators that people use today: the same workloads, in one program, in \
         turns, on one machine. Look at the ratios; the figures themselves are this machine's.</p>\n",
    );
    if report.effort == Effort::Quick {
        html.push_str("<p class=\"warning\"><strong>A quick run.</strong> It shows that everything works; its figures mean little.</p>\n");
    }
    html.push_str("<nav aria-label=\"On this page\"><ul>\n");
    for row in &report.rows {
        let name = row.workload.name();
        let _ = writeln!(html, "<li><a href=\"#{name}\">{name}</a></li>");
    }
    html.push_str(
        "<li><a href=\"#latency\">latency</a></li>\n<li><a href=\"#start\">start and overhead</a></li>\n\
         <li><a href=\"#pools\">who takes part</a></li>\n<li><a href=\"#how\">how it is measured</a></li>\n\
         <li><a href=\"#unfair\">what is unfair</a></li>\n</ul></nav>\n",
    );
    html.push_str("<h2 id=\"machine\">The machine</h2>\n<table>\n<caption>Where and with what this was measured</caption>\n<tbody>\n");
    for (what, value) in &report.machine.facts {
        let _ = writeln!(html, "<tr><th scope=\"row\">{what}</th><td>{}</td></tr>", escape(value));
    }
    html.push_str("</tbody>\n</table>\n");
    html.push_str(
        "<p class=\"legend\">In the drawings: <span class=\"key ours\">fibra</span>, filled, its names in bold; \
         <span class=\"key floor\">bare floors</span>, dashed, which are not pools that one could use; \
         <span class=\"key foreign\">in use today</span>, pale.</p>\n",
    );
}

fn workload(html: &mut String, row: &Row) {
    let (name, unit) = (row.workload.name(), row.workload.unit());
    let about = about(row.workload);
    let _ = writeln!(html, "<section aria-labelledby=\"{name}\">\n<h3 id=\"{name}\">{name}</h3>\n<p>{about}</p>");
    let _ = writeln!(html, "<figure>\n{}", bars(&format!("{name}-bars"), name, unit, &row.values));
    let _ = writeln!(html, "<figcaption>{}; shorter is better.</figcaption>\n</figure>", escape(unit));
    let first = row.values.first().map_or(1.0, |(_, value)| *value);
    let compared = row.values.first().map_or("", |(pool, _)| pool.name);
    let lines = row.values.iter().map(|(pool, value)| (*pool, vec![short(*value), format!("{:.2}", value / first)]));
    let ratio = format!("divided by {compared}'s");
    table(html, &format!("{name}: {unit}"), &[unit, &ratio], lines);
    html.push_str("</section>\n");
}

fn about(workload: Workload) -> &'static str {
    match workload {
        Workload::PoolTight => "A block of 64 bytes is taken, written and given back at once.",
        Workload::PoolInOrder => {
            "A thousand blocks of 64 bytes are taken and written, then given back, the first one first."
        }
        Workload::PoolReversed => "The same, the last one first.",
        Workload::PoolRandom => "The same, in random order.",
        Workload::PoolChurn => {
            "A thousand blocks of 16 to 1024 bytes are live. One at random is given back, and one of another size taken and \
             written in its place. For pools of several sizes."
        }
        Workload::PoolTwoThreads => {
            "Two threads, each on a processor of its own, take a thousand blocks of 64 bytes each and give them back in random \
             order. Time on the wall. For pools that threads can share."
        }
        Workload::PoolHandover => {
            "One thread takes and writes blocks of 64 bytes, another one, on another processor, gives them back; a ring of 1024 \
             places is between them. Time on the wall. For pools that threads can share."
        }
        Workload::PoolCold => {
            "64 MiB of blocks of 64 bytes are taken, given back in random order, and taken again: what taking one of them \
             costs, the median. A pool that reuses the last one first is led through memory at random, and each block's \
             link is in no cache."
        }
        Workload::PoolColdBulk => {
            "The same, without a look at single blocks: how long taking and writing all of them takes. The median of single \
             blocks hides it where one in a few pays for the others."
        }
        _ => "",
    }
}

/// A table with a line for each pool, folded away.
fn table(html: &mut String, caption: &str, columns: &[&str], lines: impl Iterator<Item = (Pool, Vec<String>)>) {
    let caption = escape(caption);
    let _ = write!(
        html,
        "<details>\n<summary>As a table</summary>\n<div class=\"scroll\">\n<table>\n<caption>{caption}</caption>\n<thead><tr>"
    );
    html.push_str("<th scope=\"col\">pool</th><th scope=\"col\">whose</th>");
    for column in columns {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escape(column));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (pool, values) in lines {
        let (class, family) = (class(pool.family), family(pool.family));
        let _ = write!(html, "<tr class=\"{class}\"><th scope=\"row\">{}</th><td>{family}</td>", escape(pool.name));
        for value in values {
            let _ = write!(html, "<td class=\"number\">{value}</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table>\n</div>\n</details>\n");
}

fn latency(html: &mut String, report: &Report) {
    html.push_str(
        "<section aria-labelledby=\"latency\">\n<h2 id=\"latency\">Latency of single operations</h2>\n\
         <p>The churn again (a pool of one size is asked for 64 bytes always), each operation between two stamps, from the \
         first one in a fresh process on: with what a pool does when it meets memory for the first time. Every pass does the same operations, so of each the least time of all passes counts, and what else the \
         machine did falls out; \u{201c}longest seen\u{201d} is with all that. Real-time programs look at the right end.</p>\n",
    );
    let take: Vec<(Pool, &Distribution)> =
        report.profiles.iter().map(|(pool, profile)| (*pool, &profile.take)).collect();
    let give_back: Vec<(Pool, &Distribution)> =
        report.profiles.iter().map(|(pool, profile)| (*pool, &profile.give_back)).collect();
    for (id, title, pools) in [("latency-take", "Allocations", take), ("latency-give-back", "Releases", give_back)] {
        let _ = writeln!(
            html,
            "<h3 id=\"{id}\">{title}</h3>\n<figure>\n{}",
            curves(&format!("{id}-curves"), title, &pools)
        );
        html.push_str("<figcaption>Nanoseconds that all but the slowest operations take; lower is better.</figcaption>\n</figure>\n");
        let columns = ["50 %", "99 %", "99.9 %", "99.99 %", "longest", "longest seen"];
        let lines = pools.into_iter().map(|(pool, times)| {
            let mut values: Vec<String> =
                [0.5, 0.01, 0.001, 0.0001, 0.0].map(|share| format!("{:.0}", times.all_but(share))).into();
            values.push(format!("{:.0}", times.longest_seen));
            (pool, values)
        });
        table(html, &format!("{title}: nanoseconds"), &columns, lines);
    }
    html.push_str("</section>\n");
}

fn starts(html: &mut String, report: &Report) {
    let blocks = report.blocks;
    let each = |bytes: u64| bytes as f64 / blocks as f64;
    let columns: [(&str, &str, fn(&pool::Start, u64) -> f64); 3] = [
        ("start-make", "Making the pool, in microseconds", |start, _| start.make.as_secs_f64() * 1e6),
        (
            "start-fill",
            "Taking each block for the first time and writing all of it, in nanoseconds per block",
            |start, blocks| start.fill.as_secs_f64() * 1e9 / blocks as f64,
        ),
        ("start-bytes", "Resident bytes per block of 64 bytes", |start, blocks| {
            start.full_bytes as f64 / blocks as f64
        }),
    ];
    let _ = writeln!(
        html,
        "<section aria-labelledby=\"start\">\n<h2 id=\"start\">Start and overhead</h2>\n\
         <p>A pool that can have {blocks} blocks of 64 bytes is made in a fresh process, and filled. Time on the wall.</p>"
    );
    for (id, title, value) in columns {
        let values: Vec<(Pool, f64)> =
            report.starts.iter().map(|(pool, start)| (*pool, value(start, blocks))).collect();
        let _ = writeln!(html, "<figure>\n{}", bars(id, title, title, &values));
        let _ = writeln!(html, "<figcaption>{title}; shorter is better.</figcaption>\n</figure>");
    }
    let lines = report.starts.iter().map(|(pool, start)| {
        let make = short(start.make.as_secs_f64() * 1e6);
        let fill = short(start.fill.as_secs_f64() * 1e9 / blocks as f64);
        let bytes = each(start.full_bytes);
        let values = vec![
            make,
            (start.made_bytes / 1024).to_string(),
            fill,
            format!("{bytes:.1}"),
            format!("{:.1}", bytes - 64.0),
        ];
        (*pool, values)
    });
    let columns =
        ["make (µs)", "resident then (KiB)", "fill (ns per block)", "resident bytes per block", "of which overhead"];
    table(html, &format!("Making a pool of {blocks} blocks and filling it"), &columns, lines);
    html.push_str("</section>\n");
}

fn ending(html: &mut String) {
    html.push_str("<h2 id=\"pools\">Who takes part</h2>\n<div class=\"scroll\"><table>\n<caption>All pools</caption>\n<thead><tr><th scope=\"col\">pool</th><th scope=\"col\">whose</th><th scope=\"col\">what</th></tr></thead>\n<tbody>\n");
    for pool in pool::ALL {
        let (name, about) = (escape(pool.name), escape(pool.about));
        let (class, family) = (class(pool.family), family(pool.family));
        let _ =
            writeln!(html, "<tr class=\"{class}\"><th scope=\"row\">{name}</th><td>{family}</td><td>{about}</td></tr>");
    }
    html.push_str("</tbody>\n</table></div>\n");
    html.push_str("<h2 id=\"how\">How it is measured</h2>\n<ul>\n");
    for point in HOW {
        let _ = writeln!(html, "<li>{point}</li>");
    }
    html.push_str("</ul>\n<h2 id=\"unfair\">What is unfair</h2>\n<ul>\n");
    for point in UNFAIR {
        let _ = writeln!(html, "<li>{point}</li>");
    }
    if env!("FIBRA_CXX_ASSERTS") == "true" {
        html.push_str("<li><strong>In this build snmalloc has its assertions on</strong>, which doubles its times: it was compiled outside of fibra's workspace, whose configuration switches them off.</li>\n");
    }
    html.push_str("</ul>\n");
}

const HOW: [&str; 6] = [
    "Contenders take turns, each round beginning with another one; a value is the median of the rounds. One thread is timed by \
     the processor time that it uses, two by the clock on the wall, in samples so short that few are disturbed.",
    "A workload's text is written once and compiled for each pool, so calls are direct, and inlined where the pool allows it. \
     No flags for a particular processor.",
    "A block's first word is written when it is taken, through a pointer that the compiler cannot follow. All values, or those \
     of one block or batch in 64, are read again and their sum is compared: a block that two users got would show.",
    "Pools are made before the time starts, and warmed up, except where their start is measured.",
    "Arenas come from the system page by page. Class sizes are the same for fibra and the floors: 12 from 16 to 1024 bytes.",
    "Processor clocks may advance in steps of ten nanoseconds or more. Single latencies are that coarse; the median in the cold \
     workload is interpolated between the steps.",
];

const UNFAIR: [&str; 10] = [
    "fibra's pools and the floors are made for a known number of blocks. malloc, mimalloc, jemalloc, snmalloc and rusty_alloc \
     grow, serve any size, and find out a block's size from its address; fibra is told the size again, as Rust does.",
    "malloc and its like serve all threads, always. In the workloads of one thread, fibra and floor do not, and pay for no \
     atomics; those that do have names of their own.",
    "The allocators in C and C++ cannot be inlined into Rust; those in Rust are. All are what their crates build by default, in \
     release mode without assertions: mimalloc without its secure mode, snmalloc by its crate's own build of C++.",
    "mimalloc's interface in Rust always asks for an alignment, which costs it a little.",
    "talc and rlsf split and join blocks of one arena, and fibra does not: they waste less where sizes are not known. Their \
     spinning forms have one lock for all sizes.",
    "heapless's pool is global, serves one type, and compares and swaps 16 bytes, through a pointer to code that fits the \
     processor.",
    "The floors check nothing and count nothing; those with caches keep them in static variables of the thread, which only one \
     pool can do. They say what a design costs, not what a pool could cost.",
    "A pool that does not touch a block before it gives it out, as fibra's, leaves the page fault to the block's user, where the \
     latency of single operations does not show it. One that writes beside its blocks, or sorts them beforehand, shows it.",
    "fibra-fifo goes round through all blocks of a class before it reuses one. Here a pool has ten times the blocks that are \
     live, and more, so its blocks are in no near cache.",
    "Blocks are 64 bytes, mostly, and memory is plenty. Programs that do something between two allocations see less of \
     a difference.",
];
