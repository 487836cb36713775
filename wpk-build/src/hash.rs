//! A fast 128-bit content hash for file names and shared weights. Not cryptographic; quick without optimization too.

/// Hash of bytes, as 32 hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    format!("{:032x}", hash(bytes))
}

/// Hash of bytes: two lanes of multiply-and-rotate over 64-bit words, mixed at the end.
pub fn hash(bytes: &[u8]) -> u128 {
    let (mut a, mut b) = (0x9e37_79b9_7f4a_7c15u64 ^ bytes.len() as u64, 0xc2b2_ae3d_27d4_eb4fu64);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        let w = u64::from_le_bytes(*word);
        a = (a ^ w).wrapping_mul(0x2127_599b_f432_5c37).rotate_left(29);
        b = (b ^ w.rotate_left(32)).wrapping_mul(0x8803_55f2_1e6d_1965).rotate_left(31);
    }
    for &byte in tail {
        a = (a ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(9);
    }
    u128::from(mix(a ^ b.rotate_left(17))) << 64 | u128::from(mix(b.wrapping_add(a)))
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_bit_matters() {
        let base = [7u8; 100];
        for bit in 0..800 {
            let mut other = base;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(super::hash(&base), super::hash(&other), "bit {bit}");
        }
        assert_ne!(super::hash(&base), super::hash(&base[..99]));
    }
}
