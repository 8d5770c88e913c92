//! Which partition of the temporary topic a record goes to.

use crate::drain::distribution::Ordering;

/// Chooses partitions.
#[derive(Clone, Debug)]
pub struct Spread {
    ordering: Ordering,
    partitions: u32,
    next: u32,
}

impl Spread {
    /// Spreads over so many partitions; `first` is where records without an order begin.
    #[must_use]
    pub fn new(ordering: Ordering, partitions: u32, first: u32) -> Self {
        let partitions = partitions.max(1);
        Self { ordering, partitions, next: first % partitions }
    }

    /// The partition of a record with this key.
    pub fn partition(&mut self, key: Option<&[u8]>) -> i32 {
        let partition = match (self.ordering, key) {
            (Ordering::PerKey, Some(key)) => of_key(key, self.partitions),
            _ => {
                let partition = self.next;
                self.next = (self.next + 1) % self.partitions;
                partition
            }
        };
        i32::try_from(partition).unwrap_or_default()
    }
}

/// The partition that Java's default partitioner chooses for a key: Kafka's `Utils.toPositive(Utils.murmur2(key)) % n`.
fn of_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// Kafka's `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a key is shorter than 2 GiB, and Java has the same limit"
    )]
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of `UtilsTest.testMurmur2` of Apache Kafka.
    const KNOWN: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];

    #[test]
    fn keys_are_hashed_as_java_does() {
        for (key, hash) in KNOWN {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn a_key_stays_in_one_partition_and_keys_spread() {
        let mut spread = Spread::new(Ordering::PerKey, 24, 0);
        let mut counts = [0_u32; 24];
        for key in 0..24_000_u32 {
            let key = format!("customer-{key}");
            let partition = spread.partition(Some(key.as_bytes()));
            assert_eq!(spread.partition(Some(key.as_bytes())), partition);
            counts[usize::try_from(partition).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn records_without_an_order_are_spread_evenly() {
        for (ordering, key) in [(Ordering::None, Some(&b"same"[..])), (Ordering::PerKey, None)] {
            let mut spread = Spread::new(ordering, 7, 5);
            let mut counts = [0_u32; 7];
            for _ in 0..7000 {
                counts[usize::try_from(spread.partition(key)).unwrap()] += 1;
            }
            assert_eq!(counts, [1000; 7]);
        }
    }

    #[test]
    fn an_empty_key_is_a_key() {
        let mut spread = Spread::new(Ordering::PerKey, 24, 0);
        let first = spread.partition(Some(b""));
        assert!((0..10).all(|_| spread.partition(Some(b"")) == first));
    }
}
