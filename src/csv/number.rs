//! Decimal and whole numbers of a text, eight digits at a time.

/// More digits may not fit into 64 bits.
const MOST_DIGITS: usize = 19;
/// Doubles hold all whole numbers below.
const WHOLE_BELOW: u64 = 1 << 53;
/// Doubles below are told apart by eight decimals.
const EIGHT_PLACES_BELOW: f64 = (1_u64 << 26) as f64;
/// Decimals of published numbers.
const PLACES: usize = 8;

const fn powers() -> [u64; MOST_DIGITS + 1] {
    let mut powers = [1; MOST_DIGITS + 1];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
}

const POWERS: [u64; MOST_DIGITS + 1] = powers();

/// Eight bytes from a position on, the first one lowest; those behind the end are 0.
#[inline(always)]
pub fn eight_bytes(text: &[u8], at: usize) -> u64 {
    let rest = text.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// A word that holds a byte eight times.
#[inline(always)]
pub const fn repeated(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// How many of eight bytes are digits, before the first other one.
#[inline(always)]
fn digit_count(word: u64) -> usize {
    let values = word ^ repeated(b'0');
    // A byte above 9 sets its highest bit, and can carry into later ones only.
    let others = (values.wrapping_add(repeated(0x76)) | values) & repeated(0x80);
    (others.trailing_zeros() / 8) as usize
}

/// The number that the first digits of eight bytes stand for; there is at least one.
#[inline(always)]
fn value_of(word: u64, count: usize) -> u64 {
    let digits = (word << (64 - 8 * count)) & repeated(0x0f);
    let pairs = (digits.wrapping_mul(10 * (1 << 8) + 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 * (1 << 16) + 1) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000 * (1 << 32) + 1) >> 32
}

/// Digits in a row.
#[derive(Clone, Copy, Default)]
struct Digits {
    value: u64,
    count: usize,
}

impl Digits {
    /// Adds the digits from a position on; None if there are too many.
    #[inline(always)]
    fn followed_by(mut self, text: &[u8], mut at: usize) -> Option<Self> {
        loop {
            let word = eight_bytes(text, at);
            let found = digit_count(word);
            if found == 0 {
                return Some(self);
            }
            self.count += found;
            if self.count > MOST_DIGITS {
                return None;
            }
            self.value = self.value * POWERS[found] + value_of(word, found);
            if found < 8 {
                return Some(self);
            }
            at += found;
        }
    }
}

/// A number without a sign and an exponent, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// The number without its point.
    pub mantissa: u64,
    /// Digits behind the point.
    pub places: usize,
    pub end: usize,
}

/// Reads digits, perhaps with a point among them.
#[inline(always)]
pub fn number(text: &[u8], at: usize) -> Option<Number> {
    let whole = Digits::default().followed_by(text, at)?;
    if whole.count == 0 {
        return None;
    }
    let end = at + whole.count;
    if text.get(end) != Some(&b'.') {
        return Some(Number { mantissa: whole.value, places: 0, end });
    }
    let all = whole.followed_by(text, end + 1)?;
    let places = all.count - whole.count;
    (places > 0).then_some(Number { mantissa: all.value, places, end: end + 1 + places })
}

/// Reads a whole number of 64 bits.
#[inline(always)]
pub fn whole(text: &[u8], at: usize) -> Option<(i64, usize)> {
    let digits = Digits::default().followed_by(text, at)?;
    let value = i64::try_from(digits.value).ok()?;
    (digits.count > 0).then_some((value, at + digits.count))
}

impl Number {
    /// The number as the double nearest to it, if that tells its decimals, which are eight at most.
    #[inline(always)]
    pub fn amount(self) -> Option<f64> {
        let Self { mut mantissa, mut places, .. } = self;
        while (places > PLACES || mantissa >= WHOLE_BELOW) && places > 0 && mantissa.is_multiple_of(10) {
            mantissa /= 10;
            places -= 1;
        }
        if places > PLACES || mantissa >= WHOLE_BELOW {
            return None;
        }
        let (power, numerator) = (POWERS[places], mantissa as f64);
        // Both are exact, so that their quotient is rounded once.
        let value = numerator / power as f64;
        (value < EIGHT_PLACES_BELOW || mantissa.is_multiple_of(power)).then_some(value)
    }

    /// The double nearest to the number, whose text begins at a position.
    #[inline(always)]
    pub fn nearest(self, text: &[u8], at: usize) -> Option<f64> {
        if self.mantissa < WHOLE_BELOW {
            return Some(self.mantissa as f64 / POWERS[self.places] as f64);
        }
        str::from_utf8(text.get(at..self.end)?).ok()?.parse().ok()
    }
}
