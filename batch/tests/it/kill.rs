use std::path::Path;
pub(crate) fn child_commits(_: &Path, _: bool) {}
