//! Instruction sets, chosen when the program runs.

use std::sync::OnceLock;

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

/// `WPK_ISA=portable|avx2|avx512` forces a lower instruction set.
pub(crate) fn forced() -> &'static str {
    static FORCED: OnceLock<String> = OnceLock::new();
    FORCED.get_or_init(|| std::env::var("WPK_ISA").unwrap_or_default())
}

/// The best instruction set of this machine, or the one that is forced.
pub(crate) fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| {
        let forced = forced();
        if forced == "portable" {
            return Isa::Portable;
        }
        #[cfg(target_arch = "x86_64")]
        {
            if forced != "avx2"
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("fma")
            {
                return Isa::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
                return Isa::Avx2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Isa::Neon;
        }
        Isa::Portable
    })
}

/// Compiles a function for every instruction set and calls the one for this machine. The body must be `#[inline(always)]`.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident $(<$($g:ident : $bound:path),*>)? ($($arg:ident : $T:ty),* $(,)?) $(-> $R:ty)? = $body:path) => {
        $(#[$meta])*
        $vis unsafe fn $name $(<$($g: $bound),*>)? ($($arg: $T),*) $(-> $R)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            unsafe fn avx512 $(<$($g: $bound),*>)? ($($arg: $T),*) $(-> $R)? {
                unsafe { $body($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2 $(<$($g: $bound),*>)? ($($arg: $T),*) $(-> $R)? {
                unsafe { $body($($arg),*) }
            }
            match $crate::cpu::isa::isa() {
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::isa::Isa::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::isa::Isa::Avx2 => unsafe { avx2($($arg),*) },
                _ => unsafe { $body($($arg),*) },
            }
        }
    };
}
pub(crate) use dispatch;

/// What a macro makes of the lanes of this machine and the features they need: `$compiled!(lanes, "features")`.
macro_rules! lanes {
    ($compiled:ident) => {
        match $crate::cpu::isa::isa() {
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::isa::Isa::Avx512 => $compiled!($crate::cpu::simd::x86::Avx512, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"),
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::isa::Isa::Avx2 => $compiled!($crate::cpu::simd::x86::Avx2, "avx2,fma,f16c"),
            #[cfg(target_arch = "aarch64")]
            $crate::cpu::isa::Isa::Neon => $compiled!($crate::cpu::simd::arm::Neon, "neon"),
            $crate::cpu::isa::Isa::Portable => $compiled!($crate::cpu::simd::Plain),
        }
    };
}
pub(crate) use lanes;
