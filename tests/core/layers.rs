//! Dependencies of the layers.

use std::fs;
use std::path::Path;

fn sources(folder: &Path, out: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else {
            out.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

fn assert_unknown(folders: &[&str], words: &[&str]) {
    let mut files = Vec::new();
    for folder in folders {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder), &mut files);
    }
    assert!(!files.is_empty());
    for (path, text) in files {
        for word in words {
            assert!(!text.contains(word), "{path} mentions `{word}`");
        }
    }
}

#[test]
fn the_core_knows_neither_polars_nor_python() {
    assert_unknown(&["core", "features", "journal"], &["use polars", "use pyo3", "polars::", "pyo3::"]);
}

#[test]
fn the_core_has_no_clock_and_no_input_or_output() {
    assert_unknown(
        &["core", "features", "journal"],
        &["std::time", "std::fs", "std::io", "std::net", "std::env", "println!"],
    );
}

#[test]
fn the_two_entry_points_are_independent() {
    assert_unknown(&["plugin"], &["crate::python"]);
}
