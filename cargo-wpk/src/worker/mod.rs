//! Measuring in a process of its own, which candidates may crash, hang or poison without harm: the one that did is recorded as failed,
//! the process started again, and the rest goes on. Requests and answers are lines of JSON.

mod planted;
mod serve;
mod simulated;

pub use serve::{WorkerArgs, serve};

use crate::measure::{Outcome, Surroundings};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use wpk_build::records::Timed;

/// How long a worker may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// While it opens the device and a problem, or compiles.
    pub preparing: Duration,
    /// While it checks and times one candidate.
    pub candidate: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { preparing: Duration::from_secs(120), candidate: Duration::from_secs(10) }
    }
}

/// The process, with what it says.
struct Running {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<Value>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A worker on a device, started when it is needed.
pub struct Worker {
    arguments: Vec<String>,
    limits: Limits,
    running: Option<Running>,
    /// The problem it is to know, as a request.
    problem: Option<Value>,
    /// What libraries said that proposed nothing.
    pub notes: BTreeSet<String>,
}

/// Why there is no answer.
enum Silence {
    /// The process ended.
    Ended,
    /// Nothing came in time.
    Late,
}

impl Worker {
    /// One that is started with some arguments.
    pub fn new(arguments: Vec<String>, limits: Limits) -> Self {
        Self { arguments, limits, running: None, problem: None, notes: BTreeSet::new() }
    }

    fn running(&mut self) -> Result<&mut Running, String> {
        if self.running.is_none() {
            let program = std::env::current_exe().map_err(|e| e.to_string())?;
            let mut command = Command::new(program);
            command.arg("worker").args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().map_err(|e| format!("the worker does not start: {e}"))?;
            let (Some(requests), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
                return Err("the worker has no pipes".to_owned());
            };
            let (send, answers) = channel();
            std::thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                lines.filter_map(|l| serde_json::from_str(&l).ok()).all(|v| send.send(v).is_ok())
            });
            self.running = Some(Running { child, requests, answers });
            if let Some(problem) = self.problem.clone() {
                self.ask(&problem, self.limits.preparing)?;
            }
        }
        self.running.as_mut().ok_or_else(|| "the worker is gone".to_owned())
    }

    fn say(&mut self, request: &Value) -> Result<(), String> {
        let running = self.running()?;
        let written = writeln!(running.requests, "{request}").and_then(|()| running.requests.flush());
        written.map_err(|e| {
            self.running = None;
            format!("the worker does not listen: {e}")
        })
    }

    fn hear(&mut self, limit: Duration) -> Result<Value, Silence> {
        let Some(running) = &self.running else { return Err(Silence::Ended) };
        let heard = running.answers.recv_timeout(limit).map_err(|e| match e {
            RecvTimeoutError::Timeout => Silence::Late,
            RecvTimeoutError::Disconnected => Silence::Ended,
        });
        if heard.is_err() {
            self.running = None;
        }
        heard
    }

    /// A request with one answer.
    fn ask(&mut self, request: &Value, limit: Duration) -> Result<Value, String> {
        self.say(request)?;
        let answer = self.hear(limit).map_err(|silence| match silence {
            Silence::Ended => "the worker ended".to_owned(),
            Silence::Late => format!("the worker did not answer within {} s", limit.as_secs()),
        })?;
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }

    /// The device's name.
    pub fn device(&mut self) -> Result<String, String> {
        let answer = self.ask(&json!({"what": "device"}), self.limits.preparing)?;
        answer["device"].as_str().map(str::to_owned).ok_or_else(|| "the worker has no device".to_owned())
    }

    /// Begins a problem, by its key.
    pub fn begin(&mut self, key: &str, around: Surroundings) -> Result<(), String> {
        let request = json!({"what": "problem", "key": key, "cold": around.cold, "early": around.early});
        self.problem = None;
        self.ask(&request, self.limits.preparing)?;
        self.problem = Some(request);
        Ok(())
    }

    /// The calls of libraries for the problem; what they say instead is kept in `notes`.
    pub fn calls(&mut self) -> Result<Vec<Timed>, String> {
        let answer = self.ask(&json!({"what": "calls"}), self.limits.preparing)?;
        self.notes.extend(answer["notes"].as_array().into_iter().flatten().filter_map(|n| n.as_str().map(str::to_owned)));
        Ok(answer["calls"].as_array().into_iter().flatten().filter_map(Timed::from_json).collect())
    }

    /// Measures candidates of the problem, each in so many rounds.
    ///
    /// # Errors
    /// Where the worker cannot be started any more.
    pub fn time(&mut self, candidates: &[Timed], rounds: usize) -> Result<Vec<Outcome>, String> {
        let mut outcomes: Vec<Outcome> = vec![];
        while outcomes.len() < candidates.len() {
            let rest: Vec<Value> = candidates[outcomes.len()..].iter().map(Timed::to_json).collect();
            self.say(&json!({"what": "time", "rounds": rounds, "candidates": rest}))?;
            let (before, mut begun) = (outcomes.len(), false);
            let failed = loop {
                // Behind an outcome more may be compiled; what begins has less time.
                match self.hear(if begun { self.limits.candidate } else { self.limits.preparing }) {
                    Ok(answer) if answer["done"] == true => break None,
                    Ok(answer) => {
                        begun = answer["begins"].is_u64();
                        let failed = answer["failed"].as_str().or(answer["error"].as_str());
                        outcomes.extend(answer["ns"].as_f64().map(Ok));
                        outcomes.extend(failed.map(|reason| Err(reason.to_owned())));
                    }
                    Err(Silence::Ended) => break Some("the process that measured it ended"),
                    Err(Silence::Late) => break Some("it did not end in time"),
                }
            };
            // Behind an outcome the process may end for that one's fault; the next is begun by another.
            if let Some(reason) = failed.filter(|_| begun || outcomes.len() == before) {
                outcomes.push(Err(reason.to_owned()));
            }
        }
        Ok(outcomes)
    }

    /// What a schedule of the problem was compiled to.
    pub fn cubin(&mut self, schedule: &Timed) -> Result<(u32, Vec<u8>), String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let path = folder.path().join("kernel.cubin");
        let answer = self.ask(&json!({"what": "cubin", "schedule": schedule.to_json(), "to": path}), self.limits.preparing)?;
        let capability = answer["capability"].as_u64().ok_or("no capability")? as u32;
        Ok((capability, std::fs::read(&path).map_err(|e| e.to_string())?))
    }

    /// Median nanoseconds of a whole plan, from a program and weights in files.
    pub fn plan(&mut self, program: &Path, weights: &Path) -> Result<f64, String> {
        let answer = self.ask(&json!({"what": "plan", "program": program, "weights": weights}), self.limits.preparing)?;
        answer["ns"].as_f64().ok_or_else(|| "the worker timed nothing".to_owned())
    }
}
