//! A server under test: redis on a Unix socket, with this process as its client.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{Cost, Failure, Job, Running};

/// The server's arguments: no port, nothing on disk.
pub fn arguments(socket: &Path, folder: &Path) -> Vec<OsString> {
    let words: [OsString; 10] = [
        "--port".into(),
        "0".into(),
        "--save".into(),
        "".into(),
        "--appendonly".into(),
        "no".into(),
        "--unixsocket".into(),
        socket.into(),
        "--dir".into(),
        folder.into(),
    ];
    words.into()
}

/// Starts the server, has it evaluate the script repeatedly, and ends it. The time is that of the evaluations;
/// processor time and memory are the server's.
pub fn run(job: &Job, socket: &Path, script: &str, times: u32) -> Result<Cost, Failure> {
    let server = job.start()?;
    let asked = connect(&server, socket, job.patience).and_then(|mut stream| {
        let begun = Instant::now();
        for seed in 0..times {
            ask(&mut stream, &["EVAL", script, "0", &seed.to_string()])?;
        }
        let took = begun.elapsed();
        // It replies by closing the connection.
        stream.write_all(&command(&["SHUTDOWN", "NOSAVE"]))?;
        Ok(took)
    });
    match asked {
        Ok(wall) => Ok(Cost { wall, ..server.finish()? }),
        // Either the server has ended, and its exit status says more than the broken connection, or it is no longer of
        // use.
        Err(e) => match server.stop() {
            Err(failure) => Err(failure),
            Ok(_) => Err(Failure::NotStarted(socket.to_path_buf(), e)),
        },
    }
}

/// Connects as soon as the server accepts; an error if it has ended, or did not accept in time.
fn connect(server: &Running, socket: &Path, patience: Duration) -> io::Result<UnixStream> {
    let deadline = Instant::now() + patience.min(Duration::from_secs(10));
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => {
                stream.set_read_timeout(Some(patience))?;
                return Ok(stream);
            }
            Err(e) if server.has_ended() || Instant::now() > deadline => return Err(e),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Sends a command, whose reply must be a number: `:12`.
fn ask(stream: &mut UnixStream, words: &[&str]) -> io::Result<()> {
    stream.write_all(&command(words))?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n") {
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    if answer.starts_with(b":") {
        return Ok(());
    }
    Err(io::Error::other(format!("the server replies {:?}", String::from_utf8_lossy(&answer))))
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text += &format!("${}\r\n{word}\r\n", word.len());
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_counted() {
        assert_eq!(command(&["EVAL", "x", ""]), b"*3\r\n$4\r\nEVAL\r\n$1\r\nx\r\n$0\r\n\r\n");
    }

    #[test]
    fn a_server_that_ends_is_not_waited_for() {
        let arguments = ["-c", "exit 3"].map(OsString::from).into();
        let job = Job { program: "/bin/sh".into(), arguments, environment: vec![], patience: Duration::from_secs(60) };
        let begun = Instant::now();
        let Err(failure) = run(&job, Path::new("/no/such/socket"), "", 1) else { panic!("there is no server") };
        assert!(failure.to_string().contains("exit status: 3"), "{failure}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
