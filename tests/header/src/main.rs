//! `kmem.h`, generated from the sources of the functions that it declares.
//!
//! ```text
//! header            prints it
//! header --update   writes it to its place
//! header --check    fails if what is in its place is not it
//! ```

use std::path::Path;
use std::process::ExitCode;

use cbindgen::{Builder, Config, DocumentationStyle, ItemType, Language, SortKey, Style};

const SOURCES: [&str; 4] = ["caches.rs", "accounts.rs", "memory.rs", "cpus.rs"];

const HEAD: &str = "\
/* kmem.h: what the allocator kmem offers to C programs beside malloc. Link with -lkmem_malloc, or with
 * libkmem_malloc.a; docs/c.md has examples. Generated from the library's sources: edit those.
 *
 * A function that fails says why by errno. A handle of a cache that is gone, a null pointer, an address that is not an
 * object's: each is refused with EINVAL, except where a comment says otherwise. Each function may be called where malloc
 * may be called, and none in a signal handler. None takes more than 2,048 bytes of its caller's stack,
 * beside what constructors and destructors take.
 */";

/// The one constant: its value in Rust has no name that the generator knows.
const UNCHANGED: &str = "\n/** For kmem_cache_tune: stays as it is. */\n#define KMEM_UNCHANGED SIZE_MAX";

/// Headings of the documentation, as they read in a comment of C.
const HEADINGS: [(&str, &str); 1] = [("# Safety", "The caller's part:")];

fn config() -> Config {
    let mut config = Config {
        language: Language::C,
        cpp_compat: true,
        include_guard: Some("KMEM_H".into()),
        header: Some(HEAD.into()),
        no_includes: true,
        sys_includes: vec!["stddef.h".into(), "stdint.h".into()],
        after_includes: Some(UNCHANGED.into()),
        usize_is_size_t: true,
        style: Style::Both,
        documentation_style: DocumentationStyle::Doxy,
        line_length: 120,
        ..Config::default()
    };
    config.function.sort_by = Some(SortKey::None);
    config.export.item_types = vec![ItemType::Functions, ItemType::Structs, ItemType::OpaqueItems, ItemType::Typedefs];
    config
}

fn generate(root: &Path) -> Result<String, cbindgen::Error> {
    let mut builder = Builder::new().with_config(config());
    for source in SOURCES {
        builder = builder.with_src(root.join("crates/kmem-malloc/src/api").join(source));
    }
    let mut text = Vec::new();
    builder.generate()?.write(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(HEADINGS.iter().fold(text, |text, (of_rust, of_c)| text.replace(of_rust, of_c)))
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let place = root.join("crates/kmem-malloc/include/kmem.h");
    let text = match generate(&root) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("header: {error}");
            return ExitCode::FAILURE;
        }
    };
    match std::env::args().nth(1).as_deref() {
        None => print!("{text}"),
        Some("--update") => std::fs::write(&place, text).expect("crates/kmem-malloc/include can be written to"),
        Some("--check") if std::fs::read_to_string(&place).is_ok_and(|found| found == text) => {}
        Some("--check") => {
            eprintln!("header: kmem.h is not what the sources say: '.ci/surface --update' writes it anew");
            return ExitCode::FAILURE;
        }
        Some(other) => {
            eprintln!("header: {other} is neither --update nor --check");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
