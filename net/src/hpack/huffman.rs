//! Huffman coded strings (RFC 7541 §5.2 and appendix B).
//!
//! The code is canonical: symbols of equal length have consecutive codes in symbol order. So the table of appendix B
//! is fully given by its 257 lengths, and everything else is derived from them at compile time. Decoding looks eight
//! bits up at once, which settles every letter, digit and most punctuation; the rest walks the lengths.

/// Appends the decoded form of `src` to `out`; at most 8/5 of its length.
///
/// Errors when the end-of-string symbol appears, or when the padding is longer than seven bits or not all ones.
pub fn decode(src: &[u8], out: &mut Vec<u8>) -> Result<(), HuffmanError> {
    out.reserve(src.len() * 8 / 5 + 1);
    let mut window = 0u64; // unread bits, left-aligned; only the first `bits` count
    let mut bits = 0u32;
    let mut rest = src;
    loop {
        if bits < LENGTH_MAX as u32 {
            refill(&mut window, &mut bits, &mut rest);
        }
        let short = SHORT[(window >> 56) as usize];
        let (symbol, length) =
            if short.length != 0 { (short.symbol, short.length) } else { long_code(window) };
        if u32::from(length) > bits {
            return if is_padding(window, bits) { Ok(()) } else { Err(HuffmanError) };
        }
        if symbol == EOS {
            return Err(HuffmanError);
        }
        out.push(symbol as u8);
        window <<= length;
        bits -= u32::from(length);
    }
}

/// Moves whole bytes from `rest` into `window` until at least 56 bits are there or none are left.
fn refill(window: &mut u64, bits: &mut u32, rest: &mut &[u8]) {
    if let Some(next) = rest.first_chunk::<8>() {
        // Bits of a byte that fits only in part come again with the next refill, the same.
        *window |= u64::from_be_bytes(*next) >> *bits;
        let bytes = (63 - *bits) / 8;
        *rest = &rest[bytes as usize..];
        *bits += bytes * 8;
        return;
    }
    while *bits <= 56
        && let Some((&byte, after)) = rest.split_first()
    {
        *window |= u64::from(byte) << (56 - *bits);
        *bits += 8;
        *rest = after;
    }
}

/// Appends the Huffman form of `src` to `out`, padded with ones.
pub fn encode(src: &[u8], out: &mut Vec<u8>) {
    let mut window = 0u64; // pending bits, right-aligned
    let mut bits = 0u32;
    for &byte in src {
        let length = u32::from(LENGTHS[byte as usize]);
        window = (window << length) | u64::from(code_of(byte));
        bits += length;
        while bits >= 8 {
            bits -= 8;
            out.push((window >> bits) as u8);
        }
        window &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(((window << (8 - bits)) as u8) | (0xff >> bits));
    }
}

/// Length in bytes of the Huffman form of `src`.
pub fn encoded_len(src: &[u8]) -> usize {
    src.iter().map(|&b| LENGTHS[b as usize] as usize).sum::<usize>().div_ceil(8)
}

/// The bytes are not a valid Huffman string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HuffmanError;

/// Whether the `bits` leading bits of `window` are legal padding: fewer than eight, all ones.
fn is_padding(window: u64, bits: u32) -> bool {
    bits < 8 && (bits == 0 || window >> (64 - bits) == (1 << bits) - 1)
}

/// Symbol and length of the code of nine bits or more at the front of `window`.
fn long_code(window: u64) -> (u16, u8) {
    let mut length = SHORT_BITS + 1;
    while length < LENGTH_MAX {
        let code = (window >> (64 - length)) as u32;
        let rank = code.wrapping_sub(CANON.first[length]);
        if rank < CANON.count[length] {
            return (CANON.symbols[(CANON.offset[length] + rank) as usize], length as u8);
        }
        length += 1;
    }
    // The four codes of the last length fill what is left of the code space, so it is one of them.
    let rank = ((window >> (64 - LENGTH_MAX)) as u32).wrapping_sub(CANON.first[LENGTH_MAX]) & 3;
    (CANON.symbols[(CANON.offset[LENGTH_MAX] + rank) as usize], LENGTH_MAX as u8)
}

fn code_of(byte: u8) -> u32 {
    let length = LENGTHS[byte as usize] as usize;
    let offset = CANON.offset[length] as usize;
    let of_length = &CANON.symbols[offset..offset + CANON.count[length] as usize];
    let rank =
        of_length.binary_search(&u16::from(byte)).expect("every symbol is listed under its own length");
    CANON.first[length] + rank as u32
}

const EOS: u16 = 256;
const SYMBOL_COUNT: usize = 257;
const LENGTH_MAX: usize = 30;
const SHORT_BITS: usize = 8;

/// Codes by length: the first code, how many there are, and where their symbols stand in `symbols`.
struct Canon {
    first: [u32; LENGTH_MAX + 1],
    count: [u32; LENGTH_MAX + 1],
    offset: [u32; LENGTH_MAX + 1],
    symbols: [u16; SYMBOL_COUNT],
}

static CANON: Canon = canon();

const fn canon() -> Canon {
    let mut canon = Canon {
        first: [0; LENGTH_MAX + 1],
        count: [0; LENGTH_MAX + 1],
        offset: [0; LENGTH_MAX + 1],
        symbols: [0; SYMBOL_COUNT],
    };
    let (mut code, mut listed, mut length) = (0u32, 0u32, 1);
    while length <= LENGTH_MAX {
        code <<= 1;
        canon.first[length] = code;
        canon.offset[length] = listed;
        let mut symbol = 0;
        while symbol < SYMBOL_COUNT {
            if LENGTHS[symbol] as usize == length {
                canon.symbols[listed as usize] = symbol as u16;
                listed += 1;
                code += 1;
            }
            symbol += 1;
        }
        canon.count[length] = listed - canon.offset[length];
        length += 1;
    }
    assert!(code == 1 << LENGTH_MAX, "the lengths do not fill the code space");
    canon
}

/// What the next eight bits begin with; length 0 when the code is longer.
#[derive(Clone, Copy)]
struct Short {
    symbol: u16,
    length: u8,
}

static SHORT: [Short; 1 << SHORT_BITS] = short();

const fn short() -> [Short; 1 << SHORT_BITS] {
    let canon = canon();
    let mut table = [Short { symbol: 0, length: 0 }; 1 << SHORT_BITS];
    let mut length = 1;
    while length <= SHORT_BITS {
        let mut rank = 0;
        while rank < canon.count[length] {
            let symbol = canon.symbols[(canon.offset[length] + rank) as usize];
            let start = ((canon.first[length] + rank) as usize) << (SHORT_BITS - length);
            let mut at = start;
            while at < start + (1 << (SHORT_BITS - length)) {
                table[at] = Short { symbol, length: length as u8 };
                at += 1;
            }
            rank += 1;
        }
        length += 1;
    }
    table
}

/// Code lengths of the 256 bytes and of the end-of-string symbol, in bits.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOL_COUNT] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn strings_of_rfc_7541_appendix_c() {
        let check = |coded: &str, plain: &str| {
            let mut out = Vec::new();
            decode(&hex(coded), &mut out).unwrap();
            assert_eq!(out, plain.as_bytes());
            out.clear();
            encode(plain.as_bytes(), &mut out);
            assert_eq!(out, hex(coded));
            assert_eq!(out.len(), encoded_len(plain.as_bytes()));
        };
        check("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com");
        check("a8eb10649cbf", "no-cache");
        check("25a849e95ba97d7f", "custom-key");
        check("25a849e95bb8e8b4bf", "custom-value");
        check("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT");
        check("9bd9ab", "gzip");
        check(
            "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        );
    }

    #[test]
    fn every_byte_round_trips() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        let (mut coded, mut plain) = (Vec::new(), Vec::new());
        encode(&all, &mut coded);
        decode(&coded, &mut plain).unwrap();
        assert_eq!(plain, all);
    }

    #[test]
    fn illegal_padding_and_end_of_string_are_refused() {
        for bad in ["ff", "1ffffffff0", "ffffffff", "ffffffffff", "18", "fffffffc"] {
            assert_eq!(decode(&hex(bad), &mut Vec::new()), Err(HuffmanError), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn round_trip(bytes: Vec<u8>) {
            let (mut coded, mut plain) = (Vec::new(), Vec::new());
            encode(&bytes, &mut coded);
            decode(&coded, &mut plain).unwrap();
            assert_eq!(plain, bytes);
        }

        #[test]
        fn garbage_never_panics_and_stays_bounded(bytes: Vec<u8>) {
            let mut plain = Vec::new();
            let _ = decode(&bytes, &mut plain);
            assert!(plain.len() <= bytes.len() * 8 / 5);
        }
    }
}
