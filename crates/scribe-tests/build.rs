//! Writes one `#[test]` for each file in `tests/programs` and `tests/races`.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../tests");
    let out = env::var("OUT_DIR").unwrap();
    println!("cargo::rerun-if-changed=build.rs");
    for dir in ["programs", "races"] {
        let path = root.join(dir);
        println!("cargo::rerun-if-changed={}", path.display());
        let mut names: Vec<String> = fs::read_dir(&path)
            .into_iter()
            .flatten()
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .filter(|n| [".c", ".cpp", ".S", ".rs"].iter().any(|x| n.ends_with(x)))
            .collect();
        names.sort();
        let mut text = String::new();
        for file in names {
            let name = file.split('.').next().unwrap().replace('-', "_");
            writeln!(
                text,
                "#[test]\nfn {name}() {{ scribe_tests::check_program(\"{dir}/{file}\"); }}"
            )
            .unwrap();
        }
        fs::write(Path::new(&out).join(format!("{dir}.rs")), text).unwrap();
    }
}
