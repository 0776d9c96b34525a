//! `kmem completions` and `kmem man`: shell completions and manual pages, generated from the argument parser.
//!
//! Both come from the description that parses the command line and prints `--help`, so they cannot disagree with it. A
//! distribution's package runs both once, when it is built.

#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

const NAME: &str = "kmem";

/// Arguments of `kmem completions`.
#[derive(Args)]
#[command(after_help = "For bash: kmem completions bash > ~/.local/share/bash-completion/completions/kmem")]
pub struct CompletionsArgs {
    /// The shell to complete in
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `kmem man`.
#[derive(Args)]
#[command(after_help = "For example: kmem man ~/.local/share/man/man1; then `man kmem-run` shows a page.")]
pub struct ManArgs {
    /// The folder to write one page per command to; it is created if it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes a shell's script to standard output.
pub fn completions(args: &CompletionsArgs, parser: &Command) -> ExitCode {
    // The hidden commands with which `kmem bench` calls itself are not completed; for man, clap leaves them out itself.
    let offered = parser.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut parser = Command::new(NAME).version(env!("CARGO_PKG_VERSION")).subcommands(offered);
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut parser, NAME, &mut script);
    let printed = crate::print(&String::from_utf8(script).expect("clap writes UTF-8"));
    ExitCode::from(u8::from(!printed))
}

/// Writes a page for the command and one for each subcommand.
pub fn man(args: &ManArgs, parser: Command) -> ExitCode {
    let folder = &args.folder;
    match fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(parser, folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kmem man: cannot write to {}: {error}; name a folder you can write to", folder.display());
            ExitCode::FAILURE
        }
    }
}
