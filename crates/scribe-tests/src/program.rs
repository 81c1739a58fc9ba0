//! A test program: what its comment says, and its compiled form.

use crate::process::End;
use crate::round::Case;
use crate::{cache_dir, repository};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, process};

/// A source file in `tests/programs` or `tests/races`.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file's name without extension.
    pub name: String,
    source: PathBuf,
    text: String,
}

impl Program {
    /// Reads the file.
    pub fn read(source: &Path) -> Program {
        let text =
            fs::read_to_string(source).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
        let name = source.file_stem().unwrap().to_str().unwrap().to_owned();
        Program {
            name,
            source: source.to_owned(),
            text,
        }
    }

    /// All programs of a directory under `tests/`, sorted.
    pub fn all(dir: &str) -> Vec<Program> {
        let path = repository().join("tests").join(dir);
        let entries = fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        files.retain(|f| {
            f.extension()
                .is_some_and(|x| ["c", "cpp", "S", "rs"].iter().any(|y| x == *y))
        });
        files.sort();
        files.iter().map(|f| Program::read(f)).collect()
    }

    /// The rest of a comment line that starts with this word.
    fn directive(&self, word: &str) -> Option<&str> {
        self.text.lines().take(20).find_map(|line| {
            let line = line
                .trim_start()
                .trim_start_matches('/')
                .trim_start_matches('#')
                .trim_start();
            line.strip_prefix(word).map(str::trim)
        })
    }

    /// Compiles it (or finds it compiled) and says how to run it.
    pub fn case(&self) -> Result<Case, String> {
        let binary = self.compile()?;
        let mut argv = vec![binary.into_os_string()];
        argv.extend(
            self.directive("args:")
                .unwrap_or("")
                .split_whitespace()
                .map(Into::into),
        );
        let expect = match self
            .directive("expect:")
            .map(|e| e.split_once(' ').unwrap_or((e, "")))
        {
            None => End::Exit(0),
            Some(("exit", code)) => End::Exit(code.trim().parse().map_err(|_| "bad expect: exit")?),
            Some(("signal", sig)) => {
                End::Signal(sig.trim().parse().map_err(|_| "bad expect: signal")?)
            }
            Some((other, _)) => return Err(format!("{}: bad expect: {other}", self.name)),
        };
        let seconds = match self.directive("timeout:") {
            Some(t) => t
                .parse()
                .map_err(|_| format!("{}: bad timeout", self.name))?,
            None => 60,
        };
        Ok(Case {
            name: self.name.clone(),
            argv,
            expect: self
                .directive("skip-native-compare")
                .is_none()
                .then_some(expect),
            limit: Duration::from_secs(seconds),
            ..Case::default()
        })
    }

    fn compile(&self) -> Result<PathBuf, String> {
        let include = repository().join("tests/programs");
        let public = repository().join("include");
        let flags: Vec<&str> = self
            .directive("cflags:")
            .unwrap_or("")
            .split_whitespace()
            .collect();
        let (compiler, fixed): (&str, &[&str]) =
            match self.source.extension().and_then(|e| e.to_str()) {
                Some("rs") => ("rustc", &["-O", "-g"]),
                Some("cpp") => ("g++", &["-O1", "-g", "-std=c++20", "-w"]),
                _ => ("gcc", &["-O1", "-g", "-std=gnu17", "-w"]),
            };
        let mut h = DefaultHasher::new();
        let shared = [
            include.join("check.h"),
            public.join("scribe.h"),
            self.source.with_file_name("bugs.h"),
        ];
        (&self.text, fixed, shared.map(|file| fs::read(file).ok())).hash(&mut h);
        let dir = cache_dir().join(format!("{:016x}", h.finish()));
        let binary = dir.join(&self.name);
        if binary.exists() {
            return Ok(binary);
        }
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let fresh = dir.join(format!("{}.{}", self.name, process::id()));
        let mut command = Command::new(compiler);
        command.args(fixed).arg("-o").arg(&fresh).arg(&self.source);
        if compiler == "rustc" {
            command.arg("--crate-name").arg(&self.name);
        } else {
            command.arg("-I").arg(&include).arg("-I").arg(&public);
        }
        let out = command
            .args(&flags)
            .output()
            .map_err(|e| format!("{compiler}: {e}"))?;
        if !out.status.success() {
            return Err(format!(
                "{} does not compile\n{}",
                self.source.display(),
                String::from_utf8_lossy(&out.stderr)
            ));
        }
        fs::rename(&fresh, &binary).map_err(|e| format!("{}: {e}", binary.display()))?;
        Ok(binary)
    }
}
