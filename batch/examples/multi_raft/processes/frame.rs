//! Frames: bytes behind their length, with a longest length.

use std::io::{self, ErrorKind, Read, Write};

use regionmeta::ClusterId;

/// Nothing that stores say to each other is longer: a region's snapshot in this example is a few kilobytes.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 20;

/// Begins every connection. Whoever gets something else there talks to another program, or to another cluster.
const GREETING: &[u8; 8] = b"mraft\0\0\x01";

/// What a frame carries is its first byte.
pub(crate) const LETTER: u8 = b'l';
pub(crate) const ORDER: u8 = b'o';
pub(crate) const DONE: u8 = b'd';
pub(crate) const NOT_DONE: u8 = b'n';

pub(crate) fn greet(stream: &mut impl Write, cluster: ClusterId) -> io::Result<()> {
    stream.write_all(&[*GREETING, cluster.get().to_be_bytes()].concat())
}

pub(crate) fn expect_greeting(stream: &mut impl Read, cluster: ClusterId) -> io::Result<()> {
    let mut found = [0; 16];
    stream.read_exact(&mut found)?;
    match found[..] == [*GREETING, cluster.get().to_be_bytes()].concat() {
        true => Ok(()),
        false => Err(io::Error::new(ErrorKind::InvalidData, "not a store of this cluster")),
    }
}

pub(crate) fn write(stream: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = body.len() + 1;
    let length = u32::try_from(length).ok().filter(|_| length <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "too long for a frame"))?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&[kind])?;
    stream.write_all(body)?;
    stream.flush()
}

/// The next frame's kind and body; `None` at the end of the stream. Memory grows with what comes, not with what was promised.
pub(crate) fn read(stream: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if !(1..=FRAME_BYTES_MAX).contains(&length) {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    let mut body = Vec::new();
    stream.take(length as u64 - 1).read_to_end(&mut body)?;
    match body.len() == length - 1 {
        true => Ok(Some((kind[0], body))),
        false => Err(ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_as_it_went() {
        let mut wire = Vec::new();
        for length in [0, 1, 255, 70_000] {
            write(&mut wire, LETTER, &vec![7; length]).unwrap();
        }
        let mut rest = &wire[..];
        for length in [0, 1, 255, 70_000] {
            assert_eq!(read(&mut rest).unwrap(), Some((LETTER, vec![7; length])));
        }
        assert_eq!(read(&mut rest).unwrap(), None);
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        let mut wire = Vec::new();
        write(&mut wire, ORDER, b"body").unwrap();
        for cut in 4..wire.len() {
            assert!(read(&mut &wire[..cut]).is_err(), "{cut} bytes");
        }
        assert!(read(&mut &0_u32.to_be_bytes()[..]).is_err());
        let too_long = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
        let error = read(&mut [&too_long.to_be_bytes()[..], &[LETTER; 100]].concat().as_slice()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let error = write(&mut wire, LETTER, &vec![0; FRAME_BYTES_MAX]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn another_cluster_is_not_greeted() {
        let mut wire = Vec::new();
        greet(&mut wire, 7.into()).unwrap();
        expect_greeting(&mut &wire[..], 7.into()).unwrap();
        assert!(expect_greeting(&mut &wire[..], 8.into()).is_err());
        wire[0] ^= 1;
        assert!(expect_greeting(&mut &wire[..], 7.into()).is_err());
        assert!(expect_greeting(&mut &wire[..15], 7.into()).is_err());
    }
}
