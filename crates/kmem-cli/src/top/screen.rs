//! The terminal: drawing, keys, and how the command ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::Paragraph;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::choice::{self, Running};
use super::view::{Sort, View, help};
use crate::inspect::{Inspected, inspect};
use crate::remote_status::OutsideError;

/// How soon a signal is noticed.
const SOON: Duration = Duration::from_millis(100);

/// Why the command ends.
#[derive(Debug)]
pub enum End {
    /// A key.
    Quit,
    /// Ctrl-C, or a signal.
    Stopped,
    /// The process ended.
    Over(u32),
    /// It cannot be read.
    Failed(OutsideError),
    /// The terminal is gone.
    Terminal(io::Error),
}

/// The next event within `patience`. The library's own wait never ends, and never rests, where the terminal is gone.
fn next_event(patience: Duration) -> io::Result<Option<Event>> {
    let input = io::stdin();
    let mut wanted = [PollFd::new(&input, PollFlags::IN)];
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    match poll(&mut wanted, Some(&patience)) {
        // The window has another size, perhaps: the library knows.
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    if wanted[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the terminal is gone"));
    }
    event::poll(Duration::ZERO)?.then(event::read).transpose()
}

/// The terminal, ours until this is dropped.
pub struct Screen {
    terminal: DefaultTerminal,
    stopped: Arc<AtomicBool>,
    /// Rows that scrolled off at the top.
    from: usize,
    help: bool,
    /// Whether keys are a filter's text.
    typing: bool,
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What a key asks for.
enum Asked {
    End(End),
    /// Draw again.
    Draw,
    /// Look again.
    Look,
    /// The chosen line.
    Choose,
}

impl Screen {
    /// Takes the terminal. A panic gives it back first.
    pub fn open() -> io::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        // Not SIGHUP: where the terminal is gone there is nothing to give back.
        for signal in [SIGINT, SIGTERM] {
            flag::register(signal, Arc::clone(&stopped))?;
        }
        let terminal = ratatui::try_init()?;
        Ok(Self { terminal, stopped, from: 0, help: false, typing: false })
    }

    /// Shows a process until something ends that.
    pub fn show(&mut self, pid: u32, mut view: View, delay: Duration) -> End {
        self.from = 0;
        loop {
            let seen = match inspect(pid, None) {
                Ok(seen) => seen,
                Err(OutsideError::NoSuchProcess(_)) if view.has_looked() => return End::Over(pid),
                Err(_) if super::is_over(pid) && view.has_looked() => return End::Over(pid),
                Err(error) => return End::Failed(error),
            };
            view.note(&seen);
            let until = Instant::now() + delay;
            loop {
                if let Err(error) = self.draw(&seen, &view) {
                    return End::Terminal(error);
                }
                match self.wait(until, &mut view) {
                    Asked::End(end) => return end,
                    Asked::Look => break,
                    Asked::Draw | Asked::Choose => {}
                }
            }
        }
    }

    /// Lets a process be chosen.
    pub fn choose(&mut self, running: Vec<Running>) -> Result<u32, End> {
        let mut view = View::new(Sort::Bytes, String::new(), false);
        let lines = choice::lines(&running);
        loop {
            self.from = self.from.min(running.len().saturating_sub(1));
            let marked = self.from + 1;
            let line = |(place, text): (usize, &String)| {
                let style = if place == marked { Modifier::REVERSED } else { Modifier::empty() };
                Line::styled(text.clone(), Style::default().add_modifier(style))
            };
            let mut text: Vec<Line<'_>> = lines.iter().enumerate().map(line).collect();
            let room = self.terminal.size().map_or(24, |size| usize::from(size.height)).saturating_sub(2).max(2);
            text.drain(1..1 + marked.saturating_sub(room));
            text.truncate(room);
            text.push(Line::raw("Up and Dn choose, Enter shows, q quits"));
            let drawn = self.terminal.draw(|frame| frame.render_widget(Paragraph::new(Text::from(text)), frame.area()));
            drawn.map_err(End::Terminal)?;
            match self.wait(Instant::now() + Duration::from_secs(3600), &mut view) {
                Asked::End(end) => return Err(end),
                Asked::Choose => {
                    if let Some(process) = running.get(self.from) {
                        return Ok(process.pid);
                    }
                }
                _ => {}
            }
        }
    }

    fn draw(&mut self, seen: &Inspected, view: &View) -> io::Result<()> {
        let size = self.terminal.size()?;
        let lines = view.lines(seen, usize::from(size.width));
        let room = usize::from(size.height).saturating_sub(lines.head.len() + 1).max(1);
        self.from = self.from.min(lines.rows.len().saturating_sub(room));
        let bold = Style::default().add_modifier(Modifier::BOLD);
        let heads = lines.head.len();
        let mut text: Vec<Line<'_>> = Vec::new();
        if self.help {
            text.extend(help().into_iter().map(Line::raw));
        } else {
            for (place, line) in lines.head.into_iter().enumerate() {
                let style = if place + 1 == heads { Style::default().add_modifier(Modifier::REVERSED) } else { bold };
                text.push(Line::styled(line, if place + 1 == heads || place == 0 { style } else { Style::default() }));
            }
            for (line, grew) in lines.rows.into_iter().skip(self.from).take(room) {
                text.push(Line::styled(line, if grew { bold } else { Style::default() }));
            }
            if self.typing {
                text.resize(usize::from(size.height).saturating_sub(1), Line::raw(""));
                text.push(Line::raw(format!("show only: {}_", view.filter)));
            }
        }
        self.terminal.draw(|frame| frame.render_widget(Paragraph::new(Text::from(text)), frame.area()))?;
        Ok(())
    }

    /// Waits for a key, a signal, or the time of the next look.
    fn wait(&mut self, until: Instant, view: &mut View) -> Asked {
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return Asked::End(End::Stopped);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Asked::Look;
            }
            match next_event(left.min(SOON)) {
                Ok(Some(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
                        return Asked::End(End::Stopped);
                    }
                    return self.key(key.code, view);
                }
                Ok(Some(Event::Resize(..))) => return Asked::Draw,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Asked::End(End::Terminal(error)),
            }
        }
    }

    fn key(&mut self, key: KeyCode, view: &mut View) -> Asked {
        if self.typing {
            match key {
                KeyCode::Enter => self.typing = false,
                KeyCode::Esc => (self.typing, view.filter) = (false, String::new()),
                KeyCode::Backspace => drop(view.filter.pop()),
                KeyCode::Char(letter) => view.filter.push(letter),
                _ => {}
            }
            return Asked::Draw;
        }
        let page = self.terminal.size().map_or(10, |size| usize::from(size.height) / 2);
        match key {
            KeyCode::Char('q') => return Asked::End(End::Quit),
            KeyCode::Char('h' | '?') => self.help = !self.help,
            KeyCode::Esc => self.help = false,
            KeyCode::Char(' ') => return Asked::Look,
            KeyCode::Char('1') => (view.cpus, self.from) = (!view.cpus, 0),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Up => self.from = self.from.saturating_sub(1),
            KeyCode::Down => self.from += 1,
            KeyCode::PageUp => self.from = self.from.saturating_sub(page),
            KeyCode::PageDown => self.from += page,
            KeyCode::Enter => return Asked::Choose,
            KeyCode::Char(letter) => {
                if let Some(sort) = Sort::of_key(letter) {
                    view.sort = sort;
                }
            }
            _ => {}
        }
        Asked::Draw
    }
}
