//! The host side of `.ci/guest`: it builds an image, runs an emulator and reads the verdict.
//!
//! Tests cannot take CPUs away from the machine that they run on, so this happens in a guest: a kernel of the
//! distribution, in QEMU, with a file system in memory that holds our own process 1 (`init/main.rs`) and the programs
//! under test, with their libraries. Process 1 runs the checks and prints their results on the serial line; this
//! program reads and judges them.
//!
//! ```text
//! arch     the processor that is emulated, and how
//! kernel   the ELF file inside a vmlinuz, which QEMU starts without firmware (PVH)
//! image    the file system, an archive in the format `newc` of cpio
//! boot     one emulator: its serial line and a time limit
//! ```
//!
//! Everything is emulated (TCG): tests cannot count on KVM, and their results must not depend on it. Two guests run
//! side by side, on one processor of the host each:
//!
//! - **blocks**: the emulator as it is. Fast, but it takes interrupts only between translated blocks, so it hardly ever
//!   interrupts a restartable sequence.
//! - **steps**: one instruction per block. Interrupts come anywhere, and a negative control shows that this matters:
//!   without the fences, objects must be allocated twice.

#![forbid(unsafe_code)]

mod arch;
mod boot;
mod image;
mod kernel;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use arch::Arch;
use boot::{Boot, Pace};
use image::Image;

/// Boot a kernel with the given programs, take its CPUs away, and report whether all checks held
#[derive(Parser)]
#[command(name = "kmem-guest")]
struct Args {
    /// The processor of the guest
    #[arg(long, value_enum, default_value_t = Arch::Amd64)]
    arch: Arch,
    /// Run only the guest of this pace
    #[arg(long, value_enum)]
    pace: Option<Pace>,
    /// The kernel: a vmlinuz of a distribution
    #[arg(long, value_name = "VMLINUZ")]
    kernel: PathBuf,
    /// Process 1: kmem-guest-init, linked statically
    #[arg(long, value_name = "FILE")]
    init: PathBuf,
    /// The directory for the decompressed kernel and the file system
    #[arg(long, value_name = "DIRECTORY")]
    work: PathBuf,
    /// Time limit of a guest in seconds
    #[arg(long, value_name = "S", default_value_t = 420)]
    limit: u64,
    /// Run only checks whose name contains this
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Instead of the checks, shrink and grow a container under a server in a guest with 8 CPUs, and write the samples
    /// to this file, a line of JSON each
    #[arg(long, value_name = "FILE", conflicts_with = "pace")]
    elastic: Option<PathBuf>,
    /// Programs for the guest's /bin; their libraries are included
    #[arg(value_name = "FILE", required = true)]
    programs: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("kmem-guest: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every guest ended with a verdict without failures.
fn run(args: &Args) -> Result<bool, String> {
    let kernel = args.work.join("vmlinux");
    let initrd = args.work.join("image.cpio");
    let vmlinuz = read(&args.kernel)?;
    let unpacked = match args.arch {
        Arch::Amd64 => kernel::unpack(&vmlinuz).map_err(|e| format!("{}: {e}", args.kernel.display()))?,
        // The emulator takes it as it is.
        Arch::Arm64 => vmlinuz,
    };
    write(&kernel, &unpacked)?;
    write(&initrd, &image(args)?.finish())?;
    let only = args.only.as_deref().unwrap_or_default();
    let guests = match args.elastic {
        Some(_) => vec![(Pace::Blocks, (8, 1024), format!("elastic {only}"))],
        None => {
            let paces = [Pace::Blocks, Pace::Steps].into_iter();
            let wanted = paces.filter(|pace| args.pace.is_none_or(|only| only == *pace));
            wanted.map(|pace| (pace, (4, 512), format!("{pace} {only}"))).collect()
        }
    };
    let guests: Vec<Boot> = guests
        .into_iter()
        .map(|(pace, size, checks)| Boot {
            arch: args.arch,
            pace,
            kernel: kernel.clone(),
            initrd: initrd.clone(),
            limit: Duration::from_secs(args.limit),
            size,
            checks,
        })
        .collect();
    let verdicts = std::thread::scope(|scope| {
        let running: Vec<_> = guests.iter().map(|guest| scope.spawn(|| guest.run())).collect();
        let verdict =
            |guest: std::thread::ScopedJoinHandle<'_, _>| guest.join().expect("a guest's thread does not panic");
        running.into_iter().map(verdict).collect::<Vec<_>>()
    });
    let (mut good, mut held) = (true, 0);
    for (guest, verdict) in guests.iter().zip(verdicts) {
        match verdict {
            Ok((checks, samples)) => {
                held += checks;
                if let Some(file) = &args.elastic {
                    write(file, (samples.join("\n") + "\n").as_bytes())?;
                }
            }
            Err((why, log)) => {
                good = false;
                println!("---- the serial line of the guest '{}'\n{log}\n---- {}: {why}", guest.pace, guest.pace);
            }
        }
    }
    if good && held == 0 {
        return Err("nothing was checked: no check's name contains this".into());
    }
    Ok(good)
}

/// Process 1, the programs, their libraries, and a console.
fn image(args: &Args) -> Result<Image, String> {
    let mut image = Image::default();
    image.console();
    image.file("/init", &read(&args.init)?);
    for program in &args.programs {
        let name = program.file_name().ok_or_else(|| format!("{} names no file", program.display()))?;
        image.file(&format!("/bin/{}", name.to_string_lossy()), &read(program)?);
        for library in image::libraries(program)? {
            image.file(&library.to_string_lossy(), &read(&library)?);
        }
    }
    Ok(image)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &PathBuf, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()))
}
