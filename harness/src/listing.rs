//! `containment list`: what there is to run, and what it shows.

use std::collections::BTreeSet;
use std::io::Write as _;

use crate::catalog::{self, Catalog, Selection};
use crate::cli::SelectionArgs;
use crate::project::Project;
use crate::requirement::Register;
use crate::run::Error;

/// Prints the selected scenarios with the requirements they show, and the profile's requirements that none shows.
///
/// # Errors
/// When the project or a feature is broken, or nothing matches.
pub fn list(args: &SelectionArgs) -> Result<(), Error> {
    let (requirements, catalog) = catalog(args)?;

    let mut out = anstream::stdout().lock();
    let mut print = |text: String| {
        writeln!(out, "{text}").map_err(|error| Error::Setup(format!("cannot write: {error}")))
    };
    let mut shown = BTreeSet::new();
    let mut feature_name = None;
    for (feature, scenario) in catalog.scenarios() {
        if feature_name != Some(&feature.name) {
            print(feature.name.clone())?;
            feature_name = Some(&feature.name);
        }
        let ids = catalog::requirement_tags(feature.tags.iter().chain(&scenario.tags));
        print(format!("  {}  [{}]", scenario.name, ids.join(" ")))?;
        shown.extend(ids);
    }
    print(String::new())?;
    for profile in catalog.profiles() {
        let of_profile = requirements
            .iter()
            .filter(|requirement| requirement.profile == profile);
        let (covered, open): (Vec<_>, Vec<_>) =
            of_profile.partition(|requirement| shown.contains(&requirement.id));
        print(format!(
            "{profile}: {} of {} requirements have a scenario.",
            covered.len(),
            covered.len() + open.len(),
        ))?;
        if !open.is_empty() {
            let ids: Vec<&str> = open
                .iter()
                .map(|requirement| requirement.id.as_str())
                .collect();
            print(format!("Open: {}", ids.join(" ")))?;
        }
    }
    Ok(())
}

/// The register of requirements and the selected scenarios, checked against it.
///
/// # Errors
/// When the project or a feature is broken, or nothing matches.
pub(crate) fn catalog(args: &SelectionArgs) -> Result<(Register, Catalog), Error> {
    let project = Project::find(args.project_dir.as_deref())?;
    let selection = Selection {
        profiles: args.profiles.clone(),
        tags: args.tags.clone(),
        name: args.name.clone(),
    };
    let catalog = Catalog::load(&project.features(), &selection)?;
    let requirements = project.requirements()?;
    catalog.check_requirements(&requirements)?;
    Ok((requirements, catalog))
}
