//! Landscapes in files: one JSON object a line for a problem. A declared part of the family's space, each parameter cut to some values, is
//! walked with the last parameter fastest; a number is what the schedule took in nanoseconds, 0 one that failed, and a negative number
//! says how many in a row are not legal.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use wpk_kernels::family::Space;
use wpk_kernels::schedule::Param;

/// Schedules of a problem at most.
pub const MOST: usize = 512;

/// A part of a family's space: by parameter, the values that are walked.
pub type Part = Vec<Vec<u32>>;

/// Every schedule of a part.
pub fn walk(part: &Part) -> Vec<Vec<u32>> {
    part.iter()
        .fold(vec![vec![]], |all, values| all.iter().flat_map(|s| values.iter().map(move |&v| [s.as_slice(), &[v]].concat())).collect())
}

/// The part with the most legal schedules up to `most`, grown from the estimate's choice: parameters in turn take the value whose best
/// estimate is least.
pub fn part(space: &Space<'_>, most: usize) -> Part {
    let mut all = space.all();
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost).then_with(|| a.values.cmp(&b.values)));
    let Some(best) = all.first() else { return vec![] };
    let mut part: Part = best.values.iter().map(|&v| vec![v]).collect();
    let legal = |part: &Part| all.iter().filter(|c| c.values.iter().zip(part).all(|(v, p)| p.contains(v))).count();
    loop {
        let before = part.clone();
        for i in 0..part.len() {
            let next = all.iter().map(|c| c.values[i]).find(|v| !part[i].contains(v));
            let Some(value) = next else { continue };
            part[i].push(value);
            if legal(&part) > most {
                part[i].pop();
            }
        }
        if part == before {
            part.iter_mut().for_each(|values| values.sort_unstable());
            return part;
        }
    }
}

/// A line: the problem, whether blocks that share the depth of a tile were a cluster, and by schedule of the part how it ended, nothing where it is
/// not legal.
pub fn line(
    (problem, precision, clusters): (&str, &str, bool),
    (family, params): (&str, &[Param]),
    part: &Part,
    ends: &[Option<Option<f64>>],
) -> Value {
    let mut times: Vec<i64> = vec![];
    for end in ends {
        match (end, times.last_mut()) {
            (Some(ns), _) => times.push(ns.map_or(0, |ns| (ns as i64).max(1))),
            (None, Some(last)) if *last < 0 => *last -= 1,
            (None, _) => times.push(-1),
        }
    }
    let values: Vec<Value> = params.iter().zip(part).map(|(p, values)| json!([p.name, values])).collect();
    json!({"problem": problem, "precision": precision, "clusters": clusters, "family": family, "part": values, "times": times})
}

/// The schedules of a problem that gave right results, with their nanoseconds.
pub type Times = Vec<(Vec<u32>, f64)>;

/// What a file holds by problem and family.
pub type All = BTreeMap<(String, String), Times>;

/// The times of a file, and whether blocks were clusters. In files of before they were not.
///
/// # Errors
/// Where a line is none.
pub fn read(path: &Path) -> Result<(All, bool), Box<dyn std::error::Error>> {
    let (mut all, mut clusters) = (BTreeMap::new(), false);
    for line in BufReader::new(std::fs::File::open(path)?).lines() {
        let row: Value = serde_json::from_str(&line?)?;
        clusters |= row["clusters"] == true;
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let numbers = |v: &Value| v.as_array().into_iter().flatten().filter_map(Value::as_u64).map(|v| v as u32).collect::<Vec<u32>>();
        let part: Part = row["part"].as_array().into_iter().flatten().map(|p| numbers(&p[1])).collect();
        let mut schedules = walk(&part).into_iter();
        let mut times = vec![];
        for end in row["times"].as_array().into_iter().flatten().filter_map(Value::as_i64) {
            match end {
                ..0 => drop(schedules.nth(end.unsigned_abs() as usize - 1)),
                0 => drop(schedules.next()),
                ns => times.extend(schedules.next().map(|s| (s, ns as f64))),
            }
        }
        all.insert((text("problem"), text("family")), times);
    }
    Ok((all, clusters))
}

#[cfg(test)]
mod tests {
    use super::{line, read};
    use wpk_kernels::schedule::Param;

    #[test]
    fn what_is_written_is_read() {
        let params = [Param { name: "a", values: &[1, 2] }, Param { name: "b", values: &[4, 8, 16] }];
        let ends = [Some(Some(5.0)), None, None, Some(None), Some(Some(7.0)), None];
        let written = line(("p", "fp16", true), ("mma", &params), &vec![vec![1, 2], vec![4, 8, 16]], &ends);
        assert_eq!(written["times"].to_string(), "[5,-2,0,7,-1]");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), format!("{written}\n")).expect("it is written");
        let (found, clusters) = read(file.path()).expect("it is read");
        assert!(clusters);
        assert_eq!(found.values().collect::<Vec<_>>(), [&vec![(vec![1, 4], 5.0), (vec![2, 8], 7.0)]]);
    }
}
