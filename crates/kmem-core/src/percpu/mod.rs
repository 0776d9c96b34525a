//! What each CPU holds: an area with a slot for every cache, and in each slot a magazine.
//!
//! # The fast path
//! ```text
//! pop:   area = TABLE[cpu]; c = area.slot.cursor; w = word before c; w odd -> miss
//!        commit cursor = c - 8; w is the object
//! push:  area = TABLE[cpu]; e = area.slot.end; c = area.slot.cursor; c >= e -> miss
//!        word at c = object; commit cursor = c + 8
//! ```
//! It tests no state. A CPU that is not prepared, is stopped, or does not exist has [`CpuTable::empty`] for its area,
//! and so has a thread without a CPU number; in that area every slot is disabled. A disabled slot is zero, and a zero
//! slot is empty *and* full (I3): its cursor names the word before the area, which is odd, and its end is not above its
//! cursor. So 'no per-CPU cache here', which killed the kernel of 2004, is an ordinary miss.
//!
//! # Slots
//! A slot is `Disabled` (zero) or `Enabled` (it has a magazine). It is enabled on the first miss on that CPU, under the
//! CPU's control, and only while the CPU is online and the cache is live; it is disabled by [`stop`](crate::cpu)ping
//! the CPU. Cursor and end are offsets from the area, so that a zero page is a valid area of disabled slots, and areas
//! cost memory only where they are used.
//!
//! Enabling needs no fence: the writer stores the cursor, then (release) the end. A push reads the end first (acquire),
//! so a push that sees the new end sees the new cursor, and one that sees the old end misses. A pop sees either cursor
//! (acquire; in assembly the address of the word that it reads next comes from the cursor, which orders as much), and
//! before each is an odd word. Without this order the model `the_first_area_of_a_cpu_against_sections` fails.
//!
//! # Taking a magazine away
//! ```text
//! lock(cpu); area = TABLE[cpu]; TABLE[cpu] = EMPTY; fence(cpu)
//! ... the area is private ...
//! TABLE[cpu] = area; unlock
//!
//! thread on CPU 1: reads TABLE[1], gets A     |  drainer: TABLE[1] = EMPTY
//! thread on CPU 1: reads the cursor           |  drainer: fence(1) -> the section is aborted, and misses
//!                                             |  drainer: reads the cursor; it can no longer move
//! ```
//! Without the fence the thread commits after the drainer has read the cursor, and one object is handed out twice. The
//! test `without_the_fence_an_object_is_handed_out_twice` shows it.

pub(crate) mod area;
pub mod section;
mod table;

pub use crate::meta::READABLE;
pub use area::{Area, Slot, SlotIndex};
pub use section::Sections;
pub use table::CpuTable;
