//! Vulkan devices for the tests: a software one from Debian, and a second, unrelated one where Chromium brought it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Where a Vulkan loader finds drivers, as Debian has it.
const DRIVERS: &str = "/usr/share/vulkan/icd.d";
/// Where Chromium's package has SwiftShader's description.
const SWIFTSHADER: &str = "/usr/lib/chromium/vk_swiftshader_icd.json";

/// Installs lavapipe and the loader where they are missing, and gives the environment in which drivers work.
/// Only Linux takes Vulkan: elsewhere the system has an interface of its own, or none.
pub(crate) fn prepare() -> anyhow::Result<Vec<(&'static str, String)>> {
    if !cfg!(target_os = "linux") {
        return Ok(vec![]);
    }
    let mut missing = vec![];
    if !has(Path::new(DRIVERS), "lvp_icd") {
        missing.push("mesa-vulkan-drivers");
    }
    if !loader() {
        missing.push("libvulkan1");
    }
    super::install_packages(&missing)?;
    let mut environment = vec![];
    if std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|path| !Path::new(&path).is_dir()) {
        let path = runtime_directory()?;
        environment.push(("XDG_RUNTIME_DIR", path.display().to_string()));
    }
    Ok(environment)
}

/// The environment in which SwiftShader is the only device, where Chromium brought it.
pub(crate) fn swiftshader() -> Option<[(&'static str, &'static str); 2]> {
    // Older loaders know the first name only.
    Path::new(SWIFTSHADER).is_file().then_some([("VK_ICD_FILENAMES", SWIFTSHADER), ("VK_DRIVER_FILES", SWIFTSHADER)])
}

/// Whether a directory has a file whose name begins like this.
fn has(directory: &Path, name: &str) -> bool {
    let Ok(files) = std::fs::read_dir(directory) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().starts_with(name))
}

/// Whether a directory of libraries has the loader.
fn loader() -> bool {
    let libraries = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(Path::new);
    let deeper = libraries.iter().filter_map(|path| std::fs::read_dir(path).ok()).flatten().flatten();
    let all = deeper.map(|entry| entry.path()).chain(libraries.map(Path::to_path_buf));
    all.filter(|path| path.is_dir()).any(|path| has(&path, "libvulkan.so.1"))
}

/// A directory that only this user reads, which drivers ask for.
fn runtime_directory() -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let path = std::env::current_dir()?.join(target).join("runtime");
    std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(path)
}
