//! Chance that repeats itself: the same seed gives the same run, on the same platform.
//!
//! The generator is PCG XSL RR 128/64 (MCG), whose output is part of its definition. What is made of its numbers is
//! written out here, because libraries of distributions may change theirs between versions.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;

/// Below this mean a Poisson number is drawn exactly, by inversion; from it on the normal distribution is close enough
/// (its error in the distribution function is below 2 %).
const NORMAL_FROM: f64 = 30.0;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    generator: Pcg64Mcg,
    /// The polar method makes two at a time.
    spare: Option<f64>,
}

impl Random {
    /// The stream with this number of a seed. Streams are independent, so that what one part of the model draws does
    /// not change what another one gets: two policies face the same arrivals.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut state = seed ^ stream.wrapping_mul(0xA24B_AED4_963E_E407);
        let high = u128::from(split_mix(&mut state));
        let low = u128::from(split_mix(&mut state));
        Self { generator: Pcg64Mcg::new(high << 64 | low), spare: None }
    }

    /// Uniform in `0.0..1.0`.
    #[allow(clippy::cast_precision_loss)] // 53 bits are what a f64 holds.
    pub fn uniform(&mut self) -> f64 {
        (self.generator.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `0..below`; 0 if there is nothing below.
    pub fn below(&mut self, below: u64) -> u64 {
        let wide = u128::from(self.generator.next_u64()) * u128::from(below);
        u64::try_from(wide >> 64).unwrap_or_default()
    }

    /// Normal with mean 0 and variance 1, by Marsaglia's polar method.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let scale = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(y * scale);
                return x * scale;
            }
        }
    }

    /// How many of a Poisson stream arrive.
    pub fn poisson(&mut self, mean: &Mean) -> u32 {
        if mean.value >= NORMAL_FROM {
            // Saturates; a negative number becomes 0.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            return (mean.value + mean.value.sqrt() * self.normal()).round() as u32;
        }
        let mut left = self.uniform();
        let mut number = 0_u32;
        for four in mean.first {
            // Once there is less than a probability left, there is less than nothing left for those after it: so they can
            // be counted without a branch for each, which nobody could predict.
            let mut more = 0;
            for probability in four {
                more += u32::from(left >= probability);
                left -= probability;
            }
            number += more;
            if more < 4 {
                return number;
            }
        }
        let mut probability = mean.next(number, mean.last);
        while left >= probability && probability > 0.0 {
            left -= probability;
            number += 1;
            probability = mean.next(number, probability);
        }
        number
    }
}

/// The mean of a Poisson number, with what drawing it needs every time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    value: f64,
    /// Probabilities of 0 and of the numbers after it, which are drawn far more often than a mean changes.
    first: [[f64; 4]; 2],
    /// The last of them.
    last: f64,
}

impl Default for Mean {
    /// A mean of 0.
    fn default() -> Self {
        // Then 0 has probability 1. A derived one would have only probabilities of 0, at none of which drawing stops: it
        // would count them all, every time.
        Self::new(0.0)
    }
}

impl Mean {
    /// A mean of 0 or more.
    #[must_use]
    pub fn new(value: f64) -> Self {
        let value = value.max(0.0);
        let mut mean = Self { value, first: [[0.0; 4]; 2], last: 0.0 };
        let (mut number, mut probability) = (0, (-value).exp());
        for place in mean.first.iter_mut().flatten() {
            (*place, mean.last) = (probability, probability);
            number += 1;
            probability *= value / f64::from(number);
        }
        mean
    }

    /// The probability of a number, from that of the number before it.
    fn next(&self, number: u32, before: f64) -> f64 {
        before * (self.value / f64::from(number))
    }

    /// The mean itself.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }
}

/// Spreads the bits of a seed (`SplitMix64`).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        let mut random = Random::new(1, 0);
        let numbers: Vec<u64> = (0..4).map(|_| random.below(1_000_000)).collect();
        assert_eq!(numbers, [51_926, 672_118, 613_305, 851_527], "recorded when it was written");
    }

    #[test]
    fn streams_of_a_seed_differ() {
        let (mut one, mut two) = (Random::new(1, 0), Random::new(1, 1));
        assert!((0..10).any(|_| one.below(1000) != two.below(1000)));
    }

    #[test]
    fn poisson_numbers_have_their_mean_and_variance() {
        for mean in [0.0, 0.02, 3.0, 29.0, 31.0, 400.0] {
            let (mut random, of) = (Random::new(7, 3), Mean::new(mean));
            let drawn: Vec<f64> = (0..20_000).map(|_| f64::from(random.poisson(&of))).collect();
            let average = drawn.iter().sum::<f64>() / 20_000.0;
            let variance = drawn.iter().map(|x| (x - average).powi(2)).sum::<f64>() / 20_000.0;
            // Five standard errors.
            assert!((average - mean).abs() <= 5.0 * (mean / 20_000.0).sqrt(), "mean {average} for {mean}");
            assert!((variance - mean).abs() <= 0.06 * mean.max(0.05), "variance {variance} for {mean}");
        }
    }

    #[test]
    fn nothing_is_drawn_while_no_mean_was_given() {
        let mut random = Random::new(7, 3);
        assert!((0..1000).all(|_| random.poisson(&Mean::default()) == 0));
    }
}
