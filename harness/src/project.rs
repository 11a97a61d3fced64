//! Where the project's data is: `features/` and `scenarios/` of the folder it is run in.

use std::path::{Path, PathBuf};

use fixtures::internet::{self, Internet};

use crate::fault::FaultRegister;
use crate::requirement::Register;
use crate::scenario_data::background::{self, Background};
use crate::scenario_data::platform::Platform;
use crate::scenario_data::tier_one::TierOne;
use crate::scenario_data::{self, ServerManifest};

/// Data that is missing or broken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No project here.
    #[error(
        "no features/ and scenarios/ in {start} or above it; run inside the project's folder or name it with --project-dir"
    )]
    NotFound {
        /// Where the search began.
        start: PathBuf,
    },
    /// The simulated internet.
    #[error(transparent)]
    Internet(#[from] internet::Error),
    /// A YAML file of the project.
    #[error(transparent)]
    Data(#[from] scenario_data::Error),
    /// A fault that nobody seeded.
    #[error("no seeded fault {name:?}; scenarios/faults.yaml has: {known}")]
    UnknownFault {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
}

/// A project's folder.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// The named folder, or the nearest one from here upwards that holds a project.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn find(named: Option<&Path>) -> Result<Self, Error> {
        let is_project =
            |folder: &Path| folder.join("features").is_dir() && folder.join("scenarios").is_dir();
        let start = match named {
            Some(named) => named.to_owned(),
            None => std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
        };
        let mut folders = start
            .ancestors()
            .take(if named.is_some() { 1 } else { usize::MAX });
        folders
            .find(|folder| is_project(folder))
            .map(|root| Self {
                root: root.to_owned(),
            })
            .ok_or(Error::NotFound {
                start: start.clone(),
            })
    }

    /// Declared background traffic.
    ///
    /// # Errors
    /// When `scenarios/background.yaml` is missing or broken.
    pub fn background(&self) -> Result<Vec<Background>, Error> {
        Ok(background::load(&self.scenarios())?)
    }

    /// The folder of the features.
    pub fn features(&self) -> PathBuf {
        self.root.join("features")
    }

    /// The folder of the data that features name.
    pub fn scenarios(&self) -> PathBuf {
        self.root.join("scenarios")
    }

    /// The simulated internet.
    ///
    /// # Errors
    /// When the file is missing or broken; names the line.
    pub fn internet(&self) -> Result<Internet, Error> {
        Ok(Internet::load(&self.scenarios().join("internet.yaml"))?)
    }

    /// The register of requirements.
    ///
    /// # Errors
    /// When the file is missing or broken; names the line.
    pub fn requirements(&self) -> Result<Register, Error> {
        Ok(Register::load(&self.scenarios())?)
    }

    /// The register of seeded faults.
    ///
    /// # Errors
    /// When the file is missing or broken; names the line.
    pub fn fault_register(&self) -> Result<FaultRegister, Error> {
        Ok(FaultRegister::load(
            &self.scenarios(),
            &self.requirements()?,
        )?)
    }

    /// The named faults, checked against the register; sorted, each once.
    ///
    /// # Errors
    /// [`Error::UnknownFault`].
    pub fn faults(&self, names: &[String]) -> Result<Vec<String>, Error> {
        let register = self.fault_register()?;
        if let Some(unknown) = names.iter().find(|name| register.find(name).is_none()) {
            let known: Vec<&str> = register.iter().map(|(name, _)| name).collect();
            return Err(Error::UnknownFault {
                name: unknown.clone(),
                known: known.join(", "),
            });
        }
        let mut names = names.to_vec();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The manifest of a server in `scenarios/servers/`.
    ///
    /// # Errors
    /// When there is none of that name or it is broken; names the line.
    pub fn server(&self, name: &str) -> Result<ServerManifest, Error> {
        Ok(ServerManifest::load(&self.scenarios(), name)?)
    }

    /// Permits of Tier 1 in `scenarios/tier-one/`.
    ///
    /// # Errors
    /// When there are none of that name or they are broken; names the file.
    pub fn tier_one(&self, name: &str) -> Result<TierOne, Error> {
        Ok(TierOne::load(&self.scenarios(), name)?)
    }

    /// The platform on a cloud, of `scenarios/platform/`, with the permits that it names.
    ///
    /// # Errors
    /// When there is none for that cloud or it is broken; names the file.
    pub fn platform(&self, cloud: &str) -> Result<Platform, Error> {
        Ok(Platform::load(&self.scenarios(), cloud)?)
    }

    /// Reads every manifest in `scenarios/servers/`, so that a broken one is found before anything runs.
    ///
    /// # Errors
    /// For the first broken one; names the line.
    pub fn check_servers(&self) -> Result<(), Error> {
        let folder = self.scenarios().join("servers");
        let unreadable = |source| scenario_data::Error::Unreadable {
            path: folder.clone(),
            source,
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                names.extend(
                    path.file_stem()
                        .map(|stem| stem.to_string_lossy().into_owned()),
                );
            }
        }
        names.sort();
        names
            .iter()
            .try_for_each(|name| self.server(name).map(drop))
    }
}
