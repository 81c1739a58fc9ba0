//! Files of a living program that are its own: over each directory of the root lies an overlay, in the
//! namespace of mounts of the replay. What the program changes goes to a directory of its own.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// File systems that hold data (their names in /proc/filesystems); others are left as they are.
const DATA: [&str; 9] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "f2fs", "zfs",
];

/// What became of it.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// Directories that could not be covered, and why.
    pub open: Vec<String>,
}

/// A line of /proc/self/mountinfo: mount point and type.
fn mounts() -> Vec<(String, String)> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let parse = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        Some((point, after.split(' ').next()?.to_owned()))
    };
    text.lines().filter_map(parse).collect()
}

/// The directories to be covered: those of the root that are not mounts of something else, and mounts
/// that hold data; outer ones first.
fn directories() -> Vec<String> {
    let mounts = mounts();
    let mut found: Vec<String> = Vec::new();
    let kind = |path: &str| {
        let mut mounts = mounts.iter().rev();
        mounts
            .find(|(point, _)| point == path)
            .map(|(_, kind)| kind.as_str())
    };
    let data = |path: &str| kind(path).is_none_or(|kind| DATA.contains(&kind));
    for entry in fs::read_dir("/").into_iter().flatten().flatten() {
        let path = format!("/{}", entry.file_name().to_string_lossy());
        let own = ["/proc", "/sys", "/dev"].contains(&path.as_str());
        if !own && entry.file_type().is_ok_and(|kind| kind.is_dir()) && data(&path) {
            found.push(path);
        }
    }
    for (point, kind) in &mounts {
        let below = point.matches('/').count() > 1;
        let system = ["/proc/", "/sys/"].iter().any(|dir| point.starts_with(dir));
        if below && !system && DATA.contains(&kind.as_str()) && Path::new(point).is_dir() {
            found.push(point.clone());
        }
    }
    found.sort();
    found.dedup();
    found
}

fn mount(what: &str, at: &str, kind: &str, options: &str) -> io::Result<()> {
    let [what, at, kind, options] = [what, at, kind, options].map(CString::new);
    let (what, at, kind, options) = (what?, at?, kind?, options?);
    // SAFETY: valid strings.
    let done = unsafe {
        libc::mount(
            what.as_ptr(),
            at.as_ptr(),
            kind.as_ptr(),
            0,
            options.as_ptr().cast(),
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Covers all directories. Changes go to `dir`/upper, by their paths.
pub(super) fn cover(dir: &Path) -> io::Result<Overlay> {
    // SAFETY: no arguments.
    let user = unsafe { libc::geteuid() } != 0 || in_user_namespace();
    let mut result = Overlay::default();
    // All are opened before anything is covered: they lie below one another.
    let mut wanted = Vec::new();
    for path in directories() {
        let name = path.trim_start_matches('/').replace('/', "\\");
        let upper = dir.join("upper").join(&name);
        let work = dir.join("work").join(&name);
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        let opened = [Path::new(&path), &upper, &work].map(fs::File::open);
        match opened {
            [Ok(lower), Ok(upper), Ok(work)] => {
                if let Ok(meta) = lower.metadata() {
                    // The covered directory looks as it did.
                    use std::os::unix::fs::PermissionsExt;
                    let mode = fs::Permissions::from_mode(meta.mode() & 0o7777);
                    let _ = upper.set_permissions(mode);
                    let _ = std::os::unix::fs::fchown(&upper, Some(meta.uid()), Some(meta.gid()));
                }
                wanted.push((path, lower, upper, work));
            }
            // What its user cannot read is not the program's to change.
            [Err(error), ..] if error.kind() == io::ErrorKind::PermissionDenied => {}
            [Err(error), ..] | [_, Err(error), _] | [_, _, Err(error)] => {
                result.open.push(format!("{path}: {error}"));
            }
        }
    }
    for (path, lower, upper, work) in &wanted {
        let [lower, upper, work] =
            [lower, upper, work].map(|f| format!("/proc/self/fd/{}", f.as_raw_fd()));
        let mut options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        if user {
            options.push_str(",userxattr");
        }
        if let Err(error) = mount("overlay", path, "overlay", &options) {
            result.open.push(format!("{path}: {error}"));
        }
    }
    Ok(result)
}

/// Whether ids are mapped (user_namespaces(7)): the first namespace maps all.
fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().nth(2) != Some("4294967295")
}
