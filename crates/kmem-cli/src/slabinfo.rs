//! The caches of a process as text in the form of `/proc/slabinfo`, version 2.1.
//!
//! The columns are slab.c's, which slabtop and scripts know. What has no meaning here is 0, as SLUB has it: tunables
//! are those of a magazine (`limit` is what a new one holds, `batchcount` half of that), and no slab is between two
//! CPUs. A name has no blank there, so one that has is written with `_`.

#![forbid(unsafe_code)]

use std::fmt::Write;

use crate::holdings::Holdings;

/// The two lines at the top.
const HEAD: &str = "slabinfo - version: 2.1\n\
    # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> \
    <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n";

/// The text.
pub fn text(held: &Holdings) -> String {
    let mut out = HEAD.to_string();
    for cache in &held.caches {
        let name: String =
            cache.name.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).collect();
        let _ = writeln!(
            out,
            "{name:<17} {:>6} {:>6} {:>6} {:>4} {:>4} : tunables {:>4} {:>4} {:>4} : slabdata {:>6} {:>6} {:>6}",
            cache.active_objects,
            cache.total_objects,
            cache.object_size,
            cache.objects_per_slab,
            cache.pages_per_slab,
            cache.magazine,
            cache.magazine.div_ceil(2),
            0,
            cache.active_slabs,
            cache.total_slabs,
            0
        );
    }
    out
}
