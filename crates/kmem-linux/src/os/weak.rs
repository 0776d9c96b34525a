//! Names of the C library that it may lack. A weak one leaves a null address then, and no call of dlsym, which may
//! allocate, is needed.

/// The address of a symbol, or null where no library has it.
#[doc(hidden)]
#[macro_export]
macro_rules! __weak_address {
    ($symbol:literal) => {{
        let address: *const ();
        // SAFETY: loads a word of the global offset table, which holds an address or null.
        unsafe {
            core::arch::asm!(
                concat!(".weak ", $symbol),
                concat!("mov {}, qword ptr [rip + ", $symbol, "@GOTPCREL]"),
                out(reg) address,
                options(nostack, preserves_flags, readonly),
            );
        }
        address
    }};
}

pub(crate) use __weak_address as weak;
