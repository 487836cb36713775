//! `cargo wpk db`: looks at tuning records and brings them together.

use crate::Outcome;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;
use wpk_build::records::{FOLDER, Record, Records, Timed, write_whole};

#[derive(Args)]
pub struct DbArgs {
    /// The folder of records
    #[arg(long, default_value = FOLDER, global = true)]
    folder: PathBuf,
    /// Prints one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the records: device, time, family and problem
    Ls,
    /// Adds the records of other folders; two for one problem become one, with the fastest of both
    Merge {
        /// The other folders
        from: Vec<PathBuf>,
    },
    /// Git's merge driver for `.wpk/**`, as `cargo wpk db driver %O %A %B`: both sides' records become one in the second file
    Driver {
        /// What both sides began with
        base: PathBuf,
        /// This side, which is written
        ours: PathBuf,
        /// The other side
        theirs: PathBuf,
    },
    /// Removes files that are no records, as interrupted or foreign writers leave them
    Gc,
}

pub fn db(args: &DbArgs) -> Outcome {
    let records = Records::open(std::slice::from_ref(&args.folder));
    match &args.command {
        Command::Ls => list(args, &records),
        Command::Merge { from } => {
            let mut merged = records;
            for folder in from {
                for record in Records::open(std::slice::from_ref(folder)).iter() {
                    merged.add(record.clone());
                }
            }
            merged.iter().try_for_each(|r| r.write(&args.folder).map(|_| ()))?;
            let count = merged.iter().count();
            if args.json { println!("{}", json!({"records": count})) } else { println!("{count} records") }
        }
        Command::Driver { ours, theirs, .. } => {
            let read = |path: &PathBuf| -> Result<Record, String> {
                let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
                Record::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
            };
            let merged = read(ours)?.merged(read(theirs)?).ok_or("the two are of different problems")?;
            write_whole(ours, merged.text().as_bytes())?;
        }
        Command::Gc => {
            for (path, reason) in &records.unread {
                std::fs::remove_file(path)?;
                println!("removed {}: {reason}", path.display());
            }
            for path in records.strays() {
                std::fs::remove_file(&path)?;
                println!("removed {}: its record is another's or gone", path.display());
            }
        }
    }
    Ok(())
}

fn list(args: &DbArgs, records: &Records) {
    if args.json {
        let all: Vec<_> = records
            .iter()
            .map(|r| json!({"device": r.device, "arch": r.arch, "problem": r.problem, "best": r.best.iter().map(Timed::to_json).collect::<Vec<_>>(), "search": r.search.0, "measured": r.search.1}))
            .collect();
        let unread: Vec<_> = records.unread.iter().map(|(path, reason)| json!({"path": path, "reason": reason})).collect();
        return println!("{}", json!({"records": all, "unread": unread}));
    }
    for r in records.iter() {
        println!("{:24} {:9.2} us  {:9} {}  ({} of {})", r.device, r.best[0].ns / 1e3, r.best[0].family, r.problem, r.search.0, r.search.1);
    }
    for (path, reason) in &records.unread {
        println!("not a record: {}: {reason}", path.display());
    }
    println!("{} records", records.iter().count());
}
