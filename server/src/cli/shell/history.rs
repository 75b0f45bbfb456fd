//! PURE. The lines that were carried out, by number.

/// Lines that are kept. Older ones are forgotten, their numbers stay.
const LINES_MAX: usize = 10_000;
/// How many lines before the newest `history` shows.
const SHOWN: u64 = 10;

/// What was typed.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The newest is last; it is under way between `begin` and `end`.
    lines: std::collections::VecDeque<String>,
    /// The number of the line that is under way or comes next.
    number: u64,
}

impl History {
    /// The number of the line that is under way or comes next.
    pub(crate) fn next_number(&self) -> u64 {
        self.number
    }

    /// A line begins.
    pub(crate) fn begin(&mut self, line: &str) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }

    /// The line has ended.
    pub(crate) fn end(&mut self) {
        self.number += 1;
    }

    fn line(&self, number: u64) -> Option<&String> {
        let back = usize::try_from(self.number.checked_sub(number)?).ok()?;
        self.lines.get(self.lines.len().checked_sub(back + 1)?)
    }

    /// The last lines and the one under way, with their numbers.
    pub(crate) fn last_lines(&self) -> String {
        let first = self.number.saturating_sub(SHOWN);
        (first..=self.number)
            .filter_map(|number| Some(format!("{number} - {}\n", self.line(number)?)))
            .collect()
    }

    /// The line to be done again; it takes the place of the one under way.
    ///
    /// # Errors
    /// There is no such line, or it is itself a redo.
    pub(crate) fn redo(&mut self, number: i64) -> Result<String, String> {
        let number = u64::try_from(number).ok().filter(|number| *number < self.number);
        let line = number.and_then(|number| self.line(number)).cloned();
        let line = line.ok_or_else(|| "Command index out of range".to_owned())?;
        if line.split_whitespace().next() == Some("redo") {
            return Err("No redoing redos".to_owned());
        }
        if let Some(current) = self.lines.back_mut() {
            current.clone_from(&line);
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(history: &mut History, line: &str) {
        history.begin(line);
        history.end();
    }

    #[test]
    fn the_last_eleven_lines_are_shown() {
        let mut history = History::default();
        history.begin("history");
        assert_eq!(history.last_lines(), "0 - history\n");
        history.end();
        for number in 1..20 {
            run(&mut history, &format!("ls /{number}"));
        }
        history.begin("history");
        let shown = history.last_lines();
        assert_eq!(shown.lines().next(), Some("10 - ls /10"));
        assert_eq!(shown.lines().last(), Some("20 - history"));
    }

    #[test]
    fn a_redo_becomes_the_line_that_it_repeats() {
        let mut history = History::default();
        run(&mut history, "ls /");
        history.begin("redo 0");
        assert_eq!(history.redo(0).as_deref(), Ok("ls /"));
        assert_eq!(history.last_lines(), "0 - ls /\n1 - ls /\n");
        history.end();
        history.begin("redo 2");
        for number in [2, 1000, -1] {
            assert_eq!(history.redo(number), Err("Command index out of range".to_owned()));
        }
    }

    #[test]
    fn redos_are_not_redone_and_old_lines_are_forgotten() {
        let mut history = History::default();
        run(&mut history, "redo 5");
        history.begin("redo 0");
        assert_eq!(history.redo(0), Err("No redoing redos".to_owned()));
        history.end();
        for _ in 0..LINES_MAX {
            run(&mut history, "ls /");
        }
        history.begin("redo 1");
        assert_eq!(history.lines.len(), LINES_MAX);
        assert_eq!(history.redo(1), Err("Command index out of range".to_owned()));
        assert!(history.redo(3).is_ok());
    }
}
