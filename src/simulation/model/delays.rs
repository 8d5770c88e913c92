//! How long messages waited, counted by the second: percentiles are exact.

/// Counts of messages by the seconds from their arrival to their processing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delays {
    /// Messages with so many seconds.
    seconds: Vec<u64>,
}

impl Delays {
    /// Messages were processed after so many seconds.
    pub fn processed(&mut self, after: u32, messages: u64) {
        let index = usize::try_from(after).unwrap_or(usize::MAX);
        if index >= self.seconds.len() {
            self.seconds.resize(index + 1, 0);
        }
        if let Some(count) = self.seconds.get_mut(index) {
            *count += messages;
        }
    }

    /// Messages by delay, without those delays that nobody had.
    pub fn counts(&self) -> impl Iterator<Item = (u32, u64)> {
        (0..).zip(self.seconds.iter().copied()).filter(|(_, messages)| *messages > 0)
    }

    /// All messages.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.seconds.iter().sum()
    }

    /// Messages that waited for longer than this.
    #[must_use]
    pub fn longer_than(&self, seconds: u32) -> u64 {
        self.counts().filter(|(delay, _)| *delay > seconds).map(|(_, messages)| messages).sum()
    }

    /// The delay that this share of the messages (0 to 1) did not exceed; absent without messages.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Option<u32> {
        let total = self.total();
        // Rounded up, so that half of 3 messages are 2 of them. Counts are far below what a f64 holds exactly.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let wanted = ((total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        self.counts().find_map(|(delay, messages)| {
            seen += messages;
            (seen >= wanted).then_some(delay)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let mut delays = Delays::default();
        for (seconds, messages) in [(0, 50), (1, 40), (7, 9), (100, 1)] {
            delays.processed(seconds, messages);
        }
        let of = |share| delays.percentile(share).unwrap();
        assert_eq!([of(0.0), of(0.5), of(0.51), of(0.9), of(0.99), of(1.0)], [0, 0, 1, 1, 7, 100]);
        assert_eq!((delays.longer_than(1), delays.longer_than(7)), (10, 1));
        assert_eq!(Delays::default().percentile(0.5), None);
    }
}
