//! What a run leaves behind: a number that tells two runs apart, and on demand its story.
//!
//! A run is first made without a story, because lines cost more than steps. When it fails, the same seed is run again
//! with the story on: it is the same run, which the number proves.

use std::collections::VecDeque;
use std::fmt;

/// Lines of the story that are kept: what happened right before the end is what explains it.
const STORY_LINES_MAX: usize = 400;

/// The record of one run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    story: Option<VecDeque<String>>,
    print: bool,
}

impl Trace {
    /// A record; with `story` lines are kept, with `print` they are also printed as they come.
    #[must_use]
    pub(super) fn new(story: bool, print: bool) -> Self {
        Trace { hash: 0, story: story.then(VecDeque::new), print }
    }

    /// Mixes a number into the run's number.
    pub(super) fn mix(&mut self, number: u64) {
        let mut hash = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
        self.hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (hash >> 32);
    }

    /// Adds a line to the story, if there is one.
    pub(super) fn line(&mut self, now_us: i64, text: impl FnOnce() -> String) {
        let Some(story) = &mut self.story else { return };
        let line = format!("{:>10.3} {}", now_us as f64 / 1000.0, text());
        if self.print {
            println!("{line}");
        }
        if story.len() == STORY_LINES_MAX {
            story.pop_front();
        }
        story.push_back(line);
    }

    /// The run's number.
    #[must_use]
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines of the story.
    #[must_use]
    pub(super) fn into_story(self) -> Vec<String> {
        self.story.unwrap_or_default().into()
    }
}

/// The short form of what is debugged: payloads are cut, so that a line stays a line.
pub(super) fn short(value: &impl fmt::Debug) -> String {
    const LINE_MAX: usize = 180;
    let mut text = format!("{value:?}");
    if let Some((at, _)) = text.char_indices().nth(LINE_MAX) {
        text.truncate(at);
        text.push('…');
    }
    text
}
