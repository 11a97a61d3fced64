//! `containment fuzz-policy`: drawn policies and flows, played in a real cluster, compared cell by cell with the model
//! of the documented policy.
//!
//! | module   | owns                                                          |
//! |----------|---------------------------------------------------------------|
//! | `case`   | a policy with the flows to try under it                       |
//! | `draw`   | cases out of a seed                                           |
//! | `field`  | one case in one cluster                                       |
//! | `shrink` | the smallest case that still differs                          |
//! | `table`  | a drawn case as a scenario has it: requirement by requirement |
//! | `matrix` | all of it as a table for people                               |
//!
//! The expectation is [`crate::judge::model`]'s, the observation [`crate::judge::model::observed`]'s; nothing here
//! knows the policy engine.

mod case;
mod draw;
mod field;
mod matrix;
mod shrink;
pub mod table;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cli::FuzzArgs;
use crate::judge::model::observed::Agreement;
use crate::outcome::ExitCode;
use crate::run::{Error, RunContext};
use case::Case;
use field::{CellResult, Played};

/// Draws, plays, compares and prints.
///
/// # Errors
/// When the machine can't run it or the system does not start. A disagreement is not an error but the returned code.
pub async fn fuzz_policy(args: &FuzzArgs, binary: PathBuf) -> Result<ExitCode, Error> {
    let context = Arc::new(RunContext::seeded(
        args.project_dir.as_deref(),
        binary,
        run_folder(&args.output_dir, args.seed),
        args.seed,
        &args.faults,
    )?);
    let case = draw::draw(
        args.seed,
        draw::MAX_SERVERS,
        usize::from(args.count),
        &context.internet,
    );
    let played = field::play(&context, &case, "drawn").await?;
    let mut told = format!("Policy drawn from seed {}:\n", args.seed);
    told += &matrix::render(&case, &played.results);
    told += &format!("\n{}\n", figures(&played));
    say(&told)?;
    if let Some(first) = played.results.iter().find(|result| result.differs()) {
        let smallest = smallest(&context, &case, first).await?;
        say(&smallest)?;
        told += &smallest;
    }
    let code = verdict(&played);
    let conclusion = conclusion(&context, &played, code);
    say(&conclusion)?;
    told += &format!("\n{conclusion}\n");
    let file = context.folder.join("matrix.txt");
    let plain = anstream::adapter::strip_str(&told).to_string();
    std::fs::write(&file, plain)
        .map_err(|error| Error::Setup(format!("cannot write {}: {error}", file.display())))?;
    Ok(code)
}

/// The first disagreement, shrunk and told.
async fn smallest(
    context: &Arc<RunContext>,
    case: &Case,
    first: &CellResult,
) -> Result<String, Error> {
    let began = Instant::now();
    let play = async |case: &Case, number: usize| {
        let played = field::play(context, case, &format!("smaller-{number:02}")).await?;
        // A broken system that does not differ is no smaller case.
        if let Some(broken) = played.broken.first() {
            return Err(Error::Setup(format!("while shrinking: {broken}")));
        }
        let again = played
            .results
            .iter()
            .any(|result| result.differs_like(first));
        if !again {
            // Evidence of what does not differ is worth nothing to anybody.
            let _ = std::fs::remove_dir_all(&played.folder);
        }
        Ok::<_, Error>(again.then_some(played))
    };
    let Some(shrunk) = shrink::shrink(case.only(first.cell), play).await? else {
        return Ok(
            "The first cell that differs does not differ when it is alone in a cluster: it depends on other flows."
                .to_owned(),
        );
    };
    let cut = if shrunk.cut {
        "; there may be a smaller one, but enough were played"
    } else {
        ""
    };
    let mut text = format!(
        "The smallest case that still differs ({} played in {}{cut}):\n",
        shrunk.played,
        seconds(began.elapsed())
    );
    text += &matrix::render(&shrunk.case, &shrunk.found.results);
    text += &format!("  evidence: {}\n", shrunk.found.folder.display());
    Ok(text)
}

fn run_folder(output: &Path, seed: u64) -> PathBuf {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ");
    output.join(format!("{now}-fuzz-policy-seed-{seed}"))
}

fn verdict(played: &Played) -> ExitCode {
    let is_unproven = |result: &CellResult| matches!(result.agreement, Agreement::Unproven(_));
    if played.results.iter().any(CellResult::differs) {
        ExitCode::CheckFailed
    } else if !played.broken.is_empty() {
        ExitCode::HarnessFault
    } else if played.control_broken.is_some() {
        ExitCode::ControlBroken
    } else if played.results.iter().any(is_unproven) {
        ExitCode::Incomplete
    } else {
        ExitCode::Conformant
    }
}

fn figures(played: &Played) -> String {
    let count = |wanted: fn(&CellResult) -> bool| {
        played
            .results
            .iter()
            .filter(|&result| wanted(result))
            .count()
    };
    format!(
        "{} probes in {} ({} agree, {} differ, {} unproven); set-up {}",
        played.results.len(),
        seconds(played.probing),
        count(|result| result.agreement == Agreement::Agrees),
        count(CellResult::differs),
        count(|result| matches!(result.agreement, Agreement::Unproven(_))),
        seconds(played.set_up),
    )
}

fn conclusion(context: &RunContext, played: &Played, code: ExitCode) -> String {
    let mut text = String::new();
    for broken in &played.broken {
        text += &format!("a part of the system broke: {broken}\n");
    }
    if let Some(why) = &played.control_broken {
        text += &format!(
            "the positive control did not pass, so that no denial means anything: {why}\n"
        );
    }
    if !context.faults.is_empty() {
        text += &format!("seeded faults were active: {}\n", context.faults.join(", "));
    }
    let words = match code {
        ExitCode::Conformant => "the system agrees with the documented policy in every cell",
        ExitCode::CheckFailed => "the system differs from the documented policy",
        ExitCode::Incomplete => "some cells are unproven",
        _ => "nothing is proven",
    };
    text + &format!(
        "evidence: {}\n{words} (exit code {})",
        played.folder.display(),
        u8::from(code)
    )
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

fn say(text: &str) -> Result<(), Error> {
    writeln!(anstream::stdout(), "{text}")
        .map_err(|error| Error::Setup(format!("cannot write: {error}")))
}
