//! Progress on stderr: bars on a terminal, a line a phase elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Where the demo stands.
pub(super) struct Progress {
    bar: ProgressBar,
    seconds: u64,
    on_terminal: bool,
}

impl Progress {
    pub(super) fn new(regions: u64, seconds: u64) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let bar = if on_terminal { ProgressBar::new(regions) } else { ProgressBar::hidden() };
        let progress = Self { bar, seconds, on_terminal };
        progress.phase(&format!("splitting into {regions} regions"), "{msg:32} {wide_bar} {pos}/{len}");
        progress
    }

    pub(super) fn grown(&self, regions: u64) {
        self.bar.set_position(regions);
    }

    pub(super) fn serving(&self) {
        self.phase(&format!("serving for {} s", self.seconds), "{msg:32} {spinner} {elapsed}");
        self.bar.reset_elapsed();
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    pub(super) fn recovering(&self) {
        self.phase("killed -9; recovering", "{msg:32} {spinner}");
    }

    pub(super) fn proving(&self) {
        self.phase("proving", "{msg:32} {spinner}");
    }

    fn phase(&self, message: &str, template: &str) {
        if !self.on_terminal {
            eprintln!("{message}");
        }
        // A template that cannot be read only costs looks.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar.set_style(style);
        self.bar.set_message(message.to_owned());
    }
}

/// However the demo ends, its bar leaves the terminal before the next line is written.
impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
