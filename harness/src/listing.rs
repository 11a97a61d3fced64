//! `containment list`: what there is to run, what it shows, and what is left to show.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;

use crate::catalog::{self, Catalog, Selection};
use crate::cli::SelectionArgs;
use crate::project::Project;
use crate::requirement::{Environment, Level, Register, Requirement};
use crate::run::Error;

/// Prints the selected scenarios with the requirements they show, and per profile the requirements that have a
/// scenario, that have none, and that this tier can't show.
///
/// # Errors
/// When the project or a feature is broken, or nothing matches.
pub fn list(args: &SelectionArgs) -> Result<(), Error> {
    let (requirements, catalog) = catalog(args)?;
    let whole = args.profiles.is_empty() && args.tags.is_none() && args.name.is_none();
    let mut text = scenarios(&catalog);
    let shown = catalog
        .scenarios()
        .flat_map(|(feature, scenario)| {
            catalog::requirement_tags(feature.tags.iter().chain(&scenario.tags))
        })
        .collect();
    let profiles = catalog.profiles();
    let counts = |profile: &str| whole || profiles.iter().any(|own| own == profile);
    text.push_str(&coverage(
        &requirements,
        &shown,
        Environment::Embedded,
        counts,
    ));
    anstream::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Error::Setup(format!("cannot write: {error}")))
}

fn scenarios(catalog: &Catalog) -> String {
    let mut text = String::new();
    let mut feature_name = None;
    for (feature, scenario) in catalog.scenarios() {
        if feature_name != Some(&feature.name) {
            text.push_str(&format!("{}\n", feature.name));
            feature_name = Some(&feature.name);
        }
        let ids = catalog::requirement_tags(feature.tags.iter().chain(&scenario.tags));
        text.push_str(&format!("  {}  [{}]\n", scenario.name, ids.join(" ")));
    }
    text
}

/// Per profile, where each requirement stands. Whether a scenario passes is said by a run, not here.
fn coverage(
    requirements: &Register,
    shown: &BTreeSet<String>,
    environment: Environment,
    counts: impl Fn(&str) -> bool,
) -> String {
    let mut profiles: BTreeMap<&str, Vec<&Requirement>> = BTreeMap::new();
    for requirement in requirements.iter() {
        profiles
            .entry(&requirement.profile)
            .or_default()
            .push(requirement);
    }
    let mut text = String::new();
    for (profile, all) in profiles.into_iter().filter(|(profile, _)| counts(profile)) {
        let total = all.len();
        let (covered, rest): (Vec<&Requirement>, Vec<&Requirement>) =
            all.into_iter().partition(|one| shown.contains(&one.id));
        let (open, not_testable): (Vec<&Requirement>, Vec<&Requirement>) = rest
            .into_iter()
            .partition(|one| one.environments.contains(&environment));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\n{profile}: {} of {} requirements have a scenario",
            covered.len(),
            total
        );
        for (word, ids) in [
            ("shown", in_words(&covered)),
            ("open", in_words(&open)),
            (
                &format!("not testable in the {environment} environment"),
                in_words(&not_testable),
            ),
        ] {
            if !ids.is_empty() {
                let _ = writeln!(text, "  {word}: {ids}");
            }
        }
    }
    text
}

/// Ids; those that do not bind every system carry their level.
fn in_words(requirements: &[&Requirement]) -> String {
    let word = |one: &&Requirement| match one.level {
        Level::Core => one.id.clone(),
        Level::Extended => format!("{} (extended)", one.id),
        Level::Evasion => format!("{} (evasion)", one.id),
        Level::Question => format!("{} (question)", one.id),
    };
    requirements.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// The register of requirements and the selected scenarios, checked against it.
///
/// # Errors
/// When the project or a feature is broken, a register speaks of a scenario that is not there, or nothing matches.
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
    let whole = Catalog::load(&project.features(), &Selection::default())?;
    whole.check_claims(&requirements, &project.fault_register()?)?;
    Ok((requirements, catalog))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::path::Path;

    #[test]
    fn coverage_says_where_each_requirement_stands() {
        let text = "egress:
  EGR-01: {level: core, env: lkc, source: A, must: x}
  EGR-02: {level: question, env: lkc, source: A, must: x}
  EGR-03: {level: core, env: kc, source: A, must: x}
  EGR-04: {level: core, env: l, source: A, must: x}
runtime:
  RUN-01: {level: core, env: kc, source: C, must: x}
";
        let register = Register::parse(Path::new("r.yaml"), text).unwrap();
        let shown = ["EGR-01", "EGR-02"].map(str::to_owned).into();
        insta::assert_snapshot!(coverage(&register, &shown, Environment::Embedded, |_| true), @"
        egress: 2 of 4 requirements have a scenario
          shown: EGR-01 EGR-02 (question)
          open: EGR-04
          not testable in the embedded environment: EGR-03

        runtime: 0 of 1 requirements have a scenario
          not testable in the embedded environment: RUN-01
        ");
        let egress = coverage(&register, &shown, Environment::Embedded, |one| {
            one == "egress"
        });
        assert!(!egress.contains("RUN-01"), "{egress}");
    }
}
