//! A schedule as a sequence diagram for Mermaid, which Markdown pages of many sites draw: a lane for each CPU, a note
//! for each step, the step that kills in red, and an arrow where another thread takes its turn.

use std::fmt::Write;

use kmem_sim::race::Violation;

/// The diagram.
pub fn diagram(violation: &Violation) -> String {
    let scenario = violation.scenario;
    let mut out = String::from("sequenceDiagram\n");
    for cpu in 0..scenario.possible {
        let name = scenario
            .actors
            .iter()
            .find(|actor| actor.cpu == cpu)
            .map_or_else(String::new, |actor| format!(": {}", escaped(actor.name)));
        let _ = writeln!(out, "    participant C{cpu} as CPU {cpu}{name}");
    }
    let mut last: Option<(usize, &str)> = None;
    for step in violation.steps() {
        if let Some((cpu, thread)) = last
            && thread != step.thread
            && cpu != step.cpu
        {
            let _ = writeln!(out, "    C{cpu}-->>C{}: {}", step.cpu, escaped(step.thread));
        }
        let note = format!("Note over C{}: {}", step.cpu, escaped(&step.text));
        if step.fatal {
            let _ = writeln!(out, "    rect rgb(255, 190, 180)\n        {note}\n    end");
        } else {
            let _ = writeln!(out, "    {note}");
        }
        last = Some((step.cpu, step.thread));
    }
    let last_cpu = scenario.possible - 1;
    let _ = writeln!(out, "    Note over C0,C{last_cpu}: {}", escaped(&violation.what));
    out
}

/// Semicolons end statements there, and a number sign begins the code of a character.
fn escaped(text: &str) -> String {
    text.replace('#', "#35;").replace(';', "#59;").replace("#35#59;", "#35;")
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_would_end_a_statement_is_escaped() {
        assert_eq!(super::escaped("a; b #1"), "a#59; b #35;1");
    }
}
