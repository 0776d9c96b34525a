//! `kmem completions` and `kmem man`: what the parser of the arguments knows, for shells and for man.
//!
//! Both are made of the same description that parses the command line and prints `--help`, so they cannot say anything
//! else. A package of a distribution runs both once, when it is built.

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
    /// The shell that completes
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `kmem man`.
#[derive(Args)]
#[command(after_help = "For example: kmem man ~/.local/share/man/man1; then `man kmem-run` shows a page.")]
pub struct ManArgs {
    /// The folder that gets a page of each command; it is made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes a shell's script to standard output.
pub fn completions(args: &CompletionsArgs, parser: &Command) -> ExitCode {
    // Not completed are the commands that `kmem bench` calls itself by; for man, clap leaves them out by itself.
    let offered = parser.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut parser = Command::new(NAME).version(env!("CARGO_PKG_VERSION")).subcommands(offered);
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut parser, NAME, &mut script);
    let printed = crate::print(&String::from_utf8(script).expect("clap writes UTF-8"));
    ExitCode::from(u8::from(!printed))
}

/// Writes a page of the command and of each of its commands.
pub fn man(args: &ManArgs, parser: Command) -> ExitCode {
    let folder = &args.folder;
    match fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(parser, folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kmem man: cannot write to {}: {error}; name a folder that you may write to", folder.display());
            ExitCode::FAILURE
        }
    }
}
