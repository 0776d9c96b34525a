//! Sections of a kind that this processor has none of: each is a miss. No mode that would need them is ever found
//! ([`mode`](crate::process::mode)).

/// Defines the four of them, of which some have a table that is an argument.
macro_rules! misses {
    ($($type:ty)?) => {
        /// A miss.
        ///
        /// # Safety
        /// None needed; sections of other processors have a contract.
        #[inline(always)]
        pub unsafe fn pop($(_: $type,)? _slot: SlotIndex) -> Option<NonNull<u8>> {
            None
        }

        /// A miss.
        ///
        /// # Safety
        /// None needed.
        #[inline(always)]
        pub unsafe fn push($(_: $type,)? _slot: SlotIndex, _object: NonNull<u8>) -> bool {
            false
        }

        /// A miss.
        ///
        /// # Safety
        /// None needed.
        #[inline(always)]
        pub unsafe fn pop_batch($(_: $type,)? _slot: SlotIndex, _out: &mut [usize]) -> usize {
            0
        }

        /// A miss.
        ///
        /// # Safety
        /// None needed.
        #[inline(always)]
        pub unsafe fn push_batch($(_: $type,)? _slot: SlotIndex, _objects: &[usize]) -> usize {
            0
        }
    };
}

/// Those on a table that is an argument.
pub mod given {
    use core::ptr::NonNull;

    use kmem_core::percpu::SlotIndex;
    use kmem_core::sync::AtomicPtr;

    misses!(*const AtomicPtr<u8>);
}

#[allow(unused_imports, reason = "only processors without any sections use it")]
pub(super) use misses;
