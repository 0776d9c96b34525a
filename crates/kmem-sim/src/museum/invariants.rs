//! The invariants that exhibits break, in the words of docs/invariants.md, which a test compares.

/// What an invariant says; empty for one that no exhibit breaks.
pub fn statement(number: u8) -> &'static str {
    match number {
        1 => {
            "A listed cache has a slot for every CPU of P, from before it is listed until after it is unlisted \
             and no thread can reach it."
        }
        2 => "If k is in O and c is live, slot(c,k) can be used: it is enabled, or becomes so at the first miss.",
        8 => "When a CPU is dead, its slots are empty in every listed cache, and what they held is elsewhere.",
        9 => "Changing a magazine's capacity loses nothing, on any CPU of P.",
        11 => "No callback sees a listed cache with half-made slots.",
        12 => "A create that fails leaves nothing behind, whichever allocation failed.",
        14 => "From the first drained slot to the last, no CPU can begin to hold objects of the cache unnoticed.",
        16 => {
            "Destroy returns Busy if and only if a user holds an object. Objects in the slot of an offline CPU \
             are no reason."
        }
        18 => "The order is: shut out new slots, drain slots, drain depots, look, unlist, wait for readers, free.",
        19 => "No thread reaches a cache after its memory was released.",
        22 => "A preparation that fails at any point has no effect, and can be tried again.",
        23 => "Canceling and burying a CPU are valid after none, part, all or a repeated preparation.",
        25 => "A down that failed leaves the CPU as it was.",
        27 => "Upkeep of a CPU runs only while it is online, once a period, by one party.",
        29 => "Locks have one order, which debug builds assert at each acquire.",
        32 => "No thread waits for others while it holds the registry's lock or one below it.",
        36 => {
            "All of a CPU's accesses to its slot come before the drain that buries it, and that comes before the \
             slot is enabled again."
        }
        38 => "Draining and a section on the same slot behave as if one came after the other.",
        40 => "Transitions end, however many creates and destroys run beside them.",
        44 => "A node that lost its last CPU keeps its slabs, and frees to it succeed.",
        _ => "",
    }
}
