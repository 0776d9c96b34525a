use std::rc::Rc;

fn main() {
    let _ = kmem::Cache::builder("constructed").constructed_by(|| Rc::new(1));
}
