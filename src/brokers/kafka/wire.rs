//! Reads the fields of a response out of one frame. Pure, and the only code that believes bytes of a broker.
//!
//! Requests are written by the `kafka-protocol` codec. Its decoders are not used, because they allocate as many elements
//! as a length field claims: four bytes of a hostile server ask for hundreds of GiB and abort the process. Here a
//! length is checked against what is left of the frame, nothing is allocated before its bytes have been seen, and what
//! nobody reads (replicas, members' metadata) is passed over without a copy.

/// The frame is not the response that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The frame ends inside of a field.
    #[error("the response is cut short")]
    Truncated,
    /// A length or index is negative or exceeds the frame.
    #[error("the response contains an impossible length")]
    Length,
    /// A string is null where it must not be, or not UTF-8.
    #[error("the response contains a broken string")]
    Text,
}

/// What is left to read of a frame.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Fields<'a> {
    /// The fields of a frame. `flexible`: the version uses compact lengths and tagged fields (KIP-482).
    #[must_use]
    pub fn new(frame: &'a [u8], flexible: bool) -> Self {
        Self { rest: frame, flexible }
    }

    /// The bytes not yet read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Passes over `count` bytes.
    ///
    /// # Errors
    /// The frame is shorter.
    pub fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(|_| ())
    }

    /// A boolean, which is one byte.
    ///
    /// # Errors
    /// The frame ends before it.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.fixed::<1>()? != [0])
    }

    /// A 16 bit integer.
    ///
    /// # Errors
    /// The frame ends before it.
    pub fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    /// A 32 bit integer.
    ///
    /// # Errors
    /// The frame ends before it.
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// A 64 bit integer.
    ///
    /// # Errors
    /// The frame ends before it.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    /// So many bytes.
    ///
    /// # Errors
    /// The frame ends before them.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// A string.
    ///
    /// # Errors
    /// It is null, not UTF-8 or longer than the frame.
    pub fn string(&mut self) -> Result<&'a str, Malformed> {
        self.nullable_string()?.ok_or(Malformed::Text)
    }

    /// A string or null.
    ///
    /// # Errors
    /// It is not UTF-8 or longer than the frame.
    pub fn nullable_string(&mut self) -> Result<Option<&'a str>, Malformed> {
        let length = if self.flexible { self.compact_length()? } else { length(self.i16()?.into())? };
        let bytes = length.map(|length| self.take(length)).transpose()?;
        bytes.map(std::str::from_utf8).transpose().map_err(|_| Malformed::Text)
    }

    /// Bytes; null is empty.
    ///
    /// # Errors
    /// They are longer than the frame.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = if self.flexible { self.compact_length()? } else { length(self.i32()?)? };
        self.take(length.unwrap_or(0))
    }

    /// The length of an array, whose elements follow; null is empty.
    ///
    /// # Errors
    /// More elements than bytes are left.
    pub fn array(&mut self) -> Result<usize, Malformed> {
        let length = if self.flexible { self.compact_length()? } else { length(self.i32()?)? };
        // Every element of every array in the protocol takes at least a byte.
        Some(length.unwrap_or(0)).filter(|length| *length <= self.rest.len()).ok_or(Malformed::Length)
    }

    /// The length of an array of which every element answers to one of so many that were asked for.
    ///
    /// # Errors
    /// It is longer than that, or than the frame.
    pub fn array_up_to(&mut self, asked: usize) -> Result<usize, Malformed> {
        Some(self.array()?).filter(|length| *length <= asked).ok_or(Malformed::Length)
    }

    /// Passes over an array of 32 bit integers.
    ///
    /// # Errors
    /// It is longer than the frame.
    pub fn skip_i32_array(&mut self) -> Result<(), Malformed> {
        let count = self.array()?;
        self.skip(count * 4)
    }

    /// Passes over the tagged fields that end every structure of a flexible version.
    ///
    /// # Errors
    /// They are longer than the frame.
    pub fn tags(&mut self) -> Result<(), Malformed> {
        if self.flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let length = self.varint()?;
                self.skip(usize::try_from(length).map_err(|_| Malformed::Length)?)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn compact_length(&mut self) -> Result<Option<usize>, Malformed> {
        match self.varint()? {
            0 => Ok(None),
            more => usize::try_from(more - 1).map(Some).map_err(|_| Malformed::Length),
        }
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Length)
    }
}

fn length(given: i32) -> Result<Option<usize>, Malformed> {
    match given {
        -1 => Ok(None),
        _ => usize::try_from(given).map(Some).map_err(|_| Malformed::Length),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_beyond_the_frame_is_refused() {
        for (frame, flexible) in [
            (&[0x7f, 0xff, 0xff, 0xff, 0][..], false),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f, 0][..], true),
            (&[0x80, 0, 0, 0][..], false),
        ] {
            assert_eq!(Fields::new(frame, flexible).array(), Err(Malformed::Length), "{frame:?}");
            assert!(Fields::new(frame, flexible).bytes().is_err(), "{frame:?}");
        }
    }

    #[test]
    fn null_is_no_string_but_an_empty_array() {
        assert_eq!(Fields::new(&[0xff, 0xff], false).string(), Err(Malformed::Text));
        assert_eq!(Fields::new(&[0xff, 0xff], false).nullable_string(), Ok(None));
        assert_eq!(Fields::new(&[0], true).nullable_string(), Ok(None));
        assert_eq!(Fields::new(&[0xff; 4], false).array(), Ok(0));
        assert_eq!(Fields::new(&[0], true).array(), Ok(0));
    }

    #[test]
    fn tagged_fields_are_passed_over() {
        let mut fields = Fields::new(&[2, 0, 1, 9, 0x81, 1, 2, 9, 9, 42], true);
        fields.tags().unwrap();
        assert_eq!(fields.rest(), [42]);
    }

    proptest! {
        #[test]
        fn strings_are_read_back(text in ".{0,300}", after in any::<i32>()) {
            let mut plain = i16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
            plain.extend(text.as_bytes());
            plain.extend(after.to_be_bytes());
            let mut fields = Fields::new(&plain, false);
            prop_assert_eq!(fields.string(), Ok(text.as_str()));
            prop_assert_eq!(fields.i32(), Ok(after));
        }
    }
}
