//! `cargo wpk db`: looks at tuning records and brings them together.

use crate::Outcome;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use wpk_build::records::{FOLDER, Records};

#[derive(Args)]
pub struct DbArgs {
    /// The folder of records
    #[arg(long, default_value = FOLDER, global = true)]
    folder: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the records: device, time, family and problem
    Ls,
    /// Adds the records of other folders; of two for one problem the faster stays
    Merge {
        /// The other folders
        from: Vec<PathBuf>,
    },
    /// Removes files that are no records, as interrupted or foreign writers leave them
    Gc,
}

pub fn db(args: &DbArgs) -> Outcome {
    let records = Records::open(std::slice::from_ref(&args.folder));
    match &args.command {
        Command::Ls => {
            for r in records.iter() {
                println!("{:24} {:9.2} us  {:9} {}  ({} of {})", r.device, r.best[0].1 / 1e3, r.family, r.problem, r.search.0, r.search.1);
            }
            for (path, reason) in &records.unread {
                println!("not a record: {}: {reason}", path.display());
            }
            println!("{} records", records.iter().count());
        }
        Command::Merge { from } => {
            let mut merged = records;
            for folder in from {
                for record in Records::open(std::slice::from_ref(folder)).iter() {
                    merged.add(record.clone());
                }
            }
            merged.iter().try_for_each(|r| r.write(&args.folder).map(|_| ()))?;
            println!("{} records", merged.iter().count());
        }
        Command::Gc => {
            for (path, reason) in &records.unread {
                std::fs::remove_file(path)?;
                println!("removed {}: {reason}", path.display());
            }
        }
    }
    Ok(())
}
