//! A copy of the repository that may be broken, because nobody works in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Mutant;

/// The copy, and where its builds and logs go.
#[derive(Debug)]
pub(super) struct Copy {
    tree: PathBuf,
    place: PathBuf,
}

impl Copy {
    /// Copies what git knows of, or would be told of next, in its present state.
    pub(super) fn make(root: &Path, place: &Path) -> Result<Self, String> {
        let tree = place.join("tree");
        if tree.exists() {
            fs::remove_dir_all(&tree).map_err(|error| format!("{}: {error}", tree.display()))?;
        }
        for file in files(root)? {
            let (from, to) = (root.join(&file), tree.join(&file));
            // A file that was removed and not committed yet is still on the list.
            if from.is_file() {
                let folder = to.parent().unwrap_or(&tree);
                let copied = fs::create_dir_all(folder).and_then(|()| fs::copy(&from, &to));
                copied.map_err(|error| format!("{file}: {error}"))?;
            }
        }
        Ok(Self { tree, place: place.to_owned() })
    }

    /// Runs `then` while the copy is broken.
    pub(super) fn with<R>(
        &self,
        mutant: &Mutant,
        then: impl FnOnce() -> Result<R, String>,
    ) -> Result<R, String> {
        let path = self.tree.join(mutant.path());
        let fault = |error| format!("{}: {error}", path.display());
        let source = fs::read_to_string(&path).map_err(fault)?;
        fs::write(&path, mutant.apply(&source)?).map_err(fault)?;
        let result = then();
        fs::write(&path, source).map_err(fault)?;
        // What one breakage has taught the property tests must not help against the next.
        let _ = fs::remove_dir_all(self.tree.join("ringline-core/proptest-regressions"));
        result
    }

    pub(super) fn root(&self) -> &Path {
        &self.tree
    }

    /// For builds; kept from run to run.
    pub(super) fn target(&self) -> PathBuf {
        self.place.join("build")
    }

    /// What the last test program has printed.
    pub(super) fn log(&self) -> PathBuf {
        self.place.join("log")
    }
}

fn files(root: &Path) -> Result<Vec<String>, String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("git: {error}"))?;
    if !listed.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr)));
    }
    let names = String::from_utf8_lossy(&listed.stdout);
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}
