//! `containment report`: the report of a run, made again from its folder.

use std::path::Path;

use super::{Error, rebuild, write};
use crate::outcome::ExitCode;

/// Rebuilds the report of the run in `run_folder`, writes `report.json` and `junit.xml` to `output` or, without one, to the
/// run's folder, and prints the summary. It returns the exit code of the run.
///
/// # Errors
/// [`Error::Differs`] when the folder holds another report than the evidence makes: it is never overwritten.
pub fn report(run_folder: &Path, output: Option<&Path>, details: bool) -> Result<ExitCode, Error> {
    let rebuilt = rebuild(run_folder)?;
    let target = output.unwrap_or(run_folder);
    std::fs::create_dir_all(target).map_err(|source| Error::Write {
        path: target.to_owned(),
        source,
    })?;
    for (name, text) in rebuilt.files() {
        let path = target.join(name);
        match std::fs::read(&path) {
            Ok(found) if found == text.as_bytes() => {}
            Ok(_) => return Err(Error::Differs { path }),
            Err(_) => write(&path, text.as_bytes())?,
        }
    }
    rebuilt.print(run_folder, rebuilt.details || details);
    Ok(rebuilt.report.summary.exit_code())
}
