use kmem_core::platform::{Defences, PageSource, Park};
use kmem_linux::Linux;

struct Home;

impl Defences for Home {}

fn main() {
    let _ = Linux::discover();
    let home = kmem_linux::engine().unwrap().platform();
    home.reaches(usize::MAX);
    let _ = home.for_each_word(|word| {
        word.free();
        Ok(())
    });
    home.unlock_outer();
    home.take_back(home.lend());
}
