//! When the next sample is due.
//!
//! Every byte that is allocated is as likely as every other to be the one that is sampled: one in `rate`. So the bytes
//! from one sample to the next have an exponential distribution, which has no memory: an interval may be drawn anew at
//! any time, when a thread begins or an object was longer than the interval, and nothing becomes more or less likely by
//! it. An object of `size` bytes is sampled with probability `1 - exp(-size / rate)`, and stands for the reciprocal of
//! that many: [`weight`].
//!
//! There is no libm here, so logarithm and exponential are series.

use core::f64::consts::{LN_2, SQRT_2};

use kmem_core::sync::{AtomicUsize, Ordering};

use crate::os::environment::random_words;

static DRAWN: AtomicUsize = AtomicUsize::new(0);

/// Bytes until the next sample, at least 1.
pub(super) fn draw(rate: usize) -> u32 {
    let number = DRAWN.fetch_add(1, Ordering::Relaxed) as u64;
    // In (0, 1].
    let uniform = ((mix(number.wrapping_add(random_words()[0])) >> 11) + 1) as f64 / (1u64 << 53) as f64;
    // A float that is too large becomes the largest integer.
    ((-ln(uniform) * rate as f64) as u32).saturating_add(1)
}

/// How many objects of `size` bytes a sampled one stands for.
pub fn weight(size: usize, rate: usize) -> f64 {
    1.0 / (1.0 - exp_of_minus(size.max(1) as f64 / rate as f64)).max(1e-18)
}

/// The last step of splitmix64.
fn mix(seed: u64) -> u64 {
    let seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let seed = (seed ^ seed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let seed = (seed ^ seed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    seed ^ seed >> 31
}

/// The natural logarithm of a positive, normal number.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if mantissa > SQRT_2 {
        (mantissa, exponent) = (mantissa / 2.0, exponent + 1);
    }
    // ln m = 2 artanh s, and |s| < 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let (square, mut power, mut sum) = (s * s, s, 0.0);
    for odd in [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0] {
        sum += power / odd;
        power *= square;
    }
    exponent as f64 * LN_2 + 2.0 * sum
}

/// `exp(-x)`, for `x` from 0 on.
fn exp_of_minus(x: f64) -> f64 {
    if x > 700.0 {
        return 0.0;
    }
    let halvings = (x / LN_2) as u64;
    let rest = -(x - halvings as f64 * LN_2);
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..20 {
        term *= rest / f64::from(n);
        sum += term;
    }
    sum * f64::from_bits((1023 - halvings) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_are_exact_enough() {
        for x in [1e-12, 1e-3, 0.1, 0.5, 0.7, 1.0, 1.5, 2.0, 10.0, 100.0] {
            assert!((ln(x) - f64::ln(x)).abs() < 1e-12, "ln {x}: {}", ln(x));
            assert!((exp_of_minus(x) - f64::exp(-x)).abs() < 1e-14, "exp -{x}: {}", exp_of_minus(x));
        }
        assert_eq!((exp_of_minus(0.0), exp_of_minus(800.0)), (1.0, 0.0));
    }

    #[test]
    fn intervals_have_the_mean_that_was_asked_for() {
        let (draws, rate) = (200_000, 512 << 10);
        let intervals = || (0..draws).map(|_| f64::from(draw(rate)));
        let mean = intervals().sum::<f64>() / f64::from(draws);
        assert!((mean / rate as f64 - 1.0).abs() < 0.02, "{mean}");
        // A fixed interval would have the mean too.
        let short = intervals().filter(|interval| *interval < rate as f64 / 10.0).count();
        assert!((short as f64 / f64::from(draws) - 0.0952).abs() < 0.005, "{short}");
    }

    #[test]
    fn a_sample_stands_for_what_was_not_sampled() {
        assert!((weight(16, 512 << 10) - 32768.5).abs() < 0.1);
        assert!((weight(64 << 20, 512 << 10) - 1.0).abs() < 1e-9);
        assert!((weight(1, 1) - 1.582).abs() < 0.001);
    }
}
