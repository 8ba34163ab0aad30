//! `metrics.jsonl` of a run that goes on: rows of updates after the checkpoint are undone, and so are torn ones.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, ErrorKind},
    path::Path,
};

use serde::Deserialize;

use crate::{error::LearnerError, output};

/// What is read of a row.
#[derive(Deserialize)]
struct Numbered {
    #[serde(rename = "charts/updates")]
    updates: f64,
}

/// Cuts off all rows from the first on that is torn or comes after update `version`. Gives the updates that were cut off.
///
/// # Errors
/// [`LearnerError::Output`].
pub fn cut_metrics(path: &Path, version: u64) -> Result<u64, LearnerError> {
    try_cut(path, version).map_err(|source| output::failed(path, source))
}

fn try_cut(path: &Path, version: u64) -> io::Result<u64> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let (mut reader, mut row) = (BufReader::new(file), Vec::new());
    let (mut kept_bytes, mut cutting, mut last) = (0_u64, false, version);
    loop {
        row.clear();
        let length = reader.read_until(b'\n', &mut row)? as u64;
        if length == 0 {
            break;
        }
        let number = serde_json::from_slice::<Numbered>(&row).ok();
        let number = number.filter(|_| row.ends_with(b"\n"));
        let updates = number.map(|row| row.updates as u64);
        last = last.max(updates.unwrap_or(0));
        cutting |= updates.is_none_or(|updates| updates > version);
        if !cutting {
            kept_bytes += length;
        }
    }
    if cutting {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(kept_bytes)?;
        file.sync_all()?;
    }
    Ok(last - version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(content: &str, version: u64) -> (u64, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        std::fs::write(&path, content).unwrap();
        let lost = cut_metrics(&path, version).unwrap();
        (lost, std::fs::read_to_string(&path).unwrap())
    }

    #[test]
    fn rows_after_the_checkpoint_and_torn_ones_go() {
        let row = |n: u64| format!("{{\"global_step\":1.0,\"charts/updates\":{n}.0,\"x\":2}}\n");
        let rows = |range: std::ops::RangeInclusive<u64>| range.map(row).collect::<String>();
        assert_eq!(cut(&rows(1..=5), 3), (2, rows(1..=3)));
        assert_eq!(cut(&rows(1..=3), 3), (0, rows(1..=3)));
        assert_eq!(cut(&(rows(1..=2) + "{\"charts/upd"), 3), (0, rows(1..=2)));
        // Without its end a row may be a part of a longer number.
        let open = rows(1..=2) + "{\"charts/updates\":3}";
        assert_eq!(cut(&open, 3), (0, rows(1..=2)));
        let missing = Path::new("/nonexistent/metrics.jsonl");
        assert_eq!(cut_metrics(missing, 3).unwrap(), 0);
    }
}
