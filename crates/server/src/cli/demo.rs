//! `countersign demo`

use std::path::PathBuf;

use super::Outcome;
use crate::demo;

/// `countersign demo`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "An agent is told to clean up test records and proposes to delete 14,200 production rows.\n\
                        At a terminal the demo stops twice for your answer; without one it plays both parts.\n\
                        It leaves a folder that you can go on working with."
)]
pub(super) struct Demo {
    /// The folder to make
    #[arg(default_value = demo::FOLDER, value_name = "DIR")]
    folder: PathBuf,
}

impl Demo {
    pub(super) async fn run(self) -> Outcome {
        Ok(demo::run(&self.folder).await?)
    }
}
