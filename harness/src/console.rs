//! Live progress of a run, as a writer on the runner's event stream.
//!
//! On a terminal: one line per running scenario with the step it is at. Elsewhere: a plain line when a scenario
//! starts and one when it ends, so that a CI log tells where a run is. It decides nothing: the verdict it prints is
//! looked up, and the report does not depend on it.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use cucumber::event::{Cucumber, Feature, Scenario, Step};
use cucumber::{Event, Writer, cli, parser};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::catalog;
use crate::outcome::Outcome;
use crate::world::{Verdicts, World};

/// Progress lines on standard error.
pub struct Console {
    mode: Mode,
    verdicts: Verdicts,
    /// By location.
    running: BTreeMap<String, Running>,
}

enum Mode {
    Quiet,
    Plain,
    Live(MultiProgress),
}

struct Running {
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Console {
    /// `verdicts` is where finished scenarios leave what they came to.
    pub fn new(quiet: bool, verdicts: Verdicts) -> Self {
        let mode = match (
            quiet,
            std::io::stderr().is_terminal() && std::env::var_os("CI").is_none(),
        ) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Live(MultiProgress::new()),
            (false, false) => Mode::Plain,
        };
        Self {
            mode,
            verdicts,
            running: BTreeMap::new(),
        }
    }

    fn started(&mut self, location: String, name: &str) {
        let bar = match &self.mode {
            Mode::Live(bars) => {
                let style = ProgressStyle::with_template("  {spinner} {prefix}: {wide_msg}");
                let bar = bars.add(ProgressBar::new_spinner());
                if let Ok(style) = style {
                    bar.set_style(style);
                }
                bar.set_prefix(name.to_owned());
                bar.enable_steady_tick(Duration::from_millis(80));
                Some(bar)
            }
            Mode::Plain => {
                line(&format!("RUN   {name}"));
                None
            }
            Mode::Quiet => None,
        };
        let since = Instant::now();
        self.running.insert(location, Running { since, bar });
    }

    fn step(&self, location: &str, step: &str) {
        if let Some(bar) = self
            .running
            .get(location)
            .and_then(|running| running.bar.as_ref())
        {
            bar.set_message(step.to_owned());
        }
    }

    fn finished(&mut self, location: &str, name: &str) {
        let Some(running) = self.running.remove(location) else {
            return;
        };
        let verdict = self.verdicts.of(location).unwrap_or(Outcome::HarnessError);
        let text = format!(
            "{:<5} {name} ({:.2} s)",
            verdict.to_string().to_uppercase(),
            running.since.elapsed().as_secs_f64()
        );
        match (&self.mode, running.bar) {
            (Mode::Live(bars), Some(bar)) => {
                bar.finish_and_clear();
                // A terminal that went away does not make a run fail.
                let _ = bars.println(text);
            }
            (Mode::Plain, _) => line(&text),
            _ => {}
        }
    }
}

impl Writer<World> for Console {
    type Cli = cli::Empty;

    async fn handle_event(
        &mut self,
        event: parser::Result<Event<Cucumber<World>>>,
        _cli: &Self::Cli,
    ) {
        let Ok(Cucumber::Feature(feature, Feature::Scenario(scenario, event))) =
            event.map(Event::into_inner)
        else {
            return;
        };
        let location = catalog::location(&feature, &scenario);
        match event.event {
            Scenario::Started => self.started(location, &scenario.name),
            Scenario::Background(step, Step::Started) | Scenario::Step(step, Step::Started) => {
                self.step(&location, &format!("{}{}", step.keyword, step.value));
            }
            Scenario::Finished => self.finished(&location, &scenario.name),
            _ => {}
        }
    }
}

// Order of events is not relied on beyond one scenario's own, which every runner keeps.
impl cucumber::writer::Normalized for Console {}

fn line(text: &str) {
    // Standard error is where progress goes; a closed one does not make a run fail.
    let _ = writeln!(std::io::stderr(), "{text}");
}
