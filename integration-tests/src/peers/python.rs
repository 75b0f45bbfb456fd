//! Our small Python programs around kazoo.

use super::Program;
use crate::availability::{kazoo_home, programs};

/// A Python program of ours by the name of its file: `smoke.py`, `lock_contender.py`.
pub fn program<S: AsRef<str>>(file: &str, args: impl IntoIterator<Item = S>) -> Program {
    let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    Program::new(format!("python3 {file} {}", args.join(" ")), "python3")
        // Compiled files would be written into the sources.
        .args(["-B"])
        .args([programs().join("python").join(file)])
        .args(args)
        .env("PYTHONPATH", kazoo_home())
}
