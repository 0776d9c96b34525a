//! What the engine does before and after a fork.
//!
//! Every lock is taken before a fork, in the order of ranks, and released after it, in the parent and in the child.
//! [`sync::fork`](crate::sync) says how, and what happens with locks that are not available. While it holds the locks,
//! the thread may use the engine as usual: fork handlers of the program that allocate do so, whether they run before
//! this one or after it.
//!
//! In the child the other threads are gone, and their unfinished work is tidied up, except where the calling thread
//! itself is in the middle of it: a signal handler that forks may have interrupted the thread anywhere, and the thread
//! goes on there when the handler returns. A lock that the thread holds further up in its stack stays locked, and what
//! it guards is left alone; so are the slab that the thread has set aside, and its places in the gate.
//!
//! Forks take turns by a word of their own, and a thread that cannot take all locks lets other threads go first.
//!
//! Handlers run with all signals blocked (the embedder makes sure of that), so that a fork in a signal handler finds a
//! fork's locks either all taken or all free.

use crate::cache::CacheDesc;
use crate::engine::Engine;
use crate::platform::Platform;
use crate::sync::{Forker, OtherFirst, Word};

impl<P: Platform> Engine<P> {
    /// Whether the calling thread is between [`before_fork`](Self::before_fork) and its counterpart.
    pub fn is_forking(&self) -> bool {
        self.platform.held_ranks().is_some_and(|held| held.forks() > 0)
    }

    /// Takes every lock, in the order of ranks, so that a child made by fork finds the allocator between two
    /// operations. Locks that the thread holds already, inside a hotplug callback or in a signal handler, are left as
    /// they are. Returns whether this is the outermost fork of the thread: a fork in a signal handler between two fork
    /// handlers finds every lock taken.
    ///
    /// All signals are blocked meanwhile.
    #[cold]
    pub fn before_fork(&self) -> bool {
        if !self.platform.held_ranks().is_none_or(|held| held.begin_fork()) {
            return false;
        }
        let forker = Forker::new(&self.platform);
        while self.take_all(&forker).is_err() {
            self.give_all_back(&forker);
            forker.be_courteous(&self.forks);
        }
        true
    }

    fn take_all(&self, forker: &Forker<'_, P>) -> Result<(), OtherFirst> {
        forker.begin(&self.forks);
        self.platform.lock_outer();
        self.gate.lock_for_fork(forker)?;
        forker.take(self.registry.word())?;
        self.for_each_word(|word| forker.take(word))
    }

    /// Releases the locks that were taken so far; no lock after the registry's was taken without that one.
    fn give_all_back(&self, forker: &Forker<'_, P>) {
        if forker.has(self.registry.word()) {
            self.give_words_back(forker);
        }
        self.give_rest_back(forker);
    }

    fn give_words_back(&self, forker: &Forker<'_, P>) {
        let _ = self.for_each_word(|word| {
            forker.give_back(word);
            Ok(())
        });
    }

    fn give_rest_back(&self, forker: &Forker<'_, P>) {
        forker.give_back(self.registry.word());
        self.gate.unlock_after_fork(forker);
        // SAFETY: each way here comes from `take_all`, which called `lock_outer` first.
        unsafe { self.platform.unlock_outer() };
        forker.give_back(&self.forks);
    }

    /// Releases the locks of threads that do not exist in the child, and puts away what these left behind. Called in
    /// the child, before [`after_fork`](Self::after_fork). Batches that they were moving are lost to the child: some
    /// objects count as in use.
    ///
    /// # Safety
    /// The thread that the calling one was forked from has called `before_fork`.
    #[cold]
    pub unsafe fn inherit(&self) {
        let forker = Forker::new(&self.platform);
        let in_transition = self.gate.inherit(&forker);
        forker.inherit(self.registry.word());
        let _ = self.for_each_word(|word| {
            forker.inherit(word);
            Ok(())
        });
        forker.forget_waiters();
        self.cpus.settle(&self.platform, &self.table, in_transition);
        self.inside.forget_others(&self.platform);
        self.registry.forget_pins(&self.platform);
        // No thread of the child calls `decay`, until one does again.
        self.heap.expect_no_decay(&self.platform);
        let _ = self.registry.for_each_in_fork(&self.platform, &mut |cache| {
            cache.nodes().for_each(|node| node.slabs.take_back_aside(&self.platform));
            Ok(())
        });
    }

    /// Releases the locks of [`before_fork`](Self::before_fork), in the parent or in the child. Returns whether it did:
    /// the locks of an outer fork stay.
    ///
    /// # Safety
    /// The calling thread, or the one it was forked from, has called `before_fork`.
    #[cold]
    pub unsafe fn after_fork(&self) -> bool {
        if !self.platform.held_ranks().is_none_or(|held| held.end_fork()) {
            return false;
        }
        let forker = Forker::new(&self.platform);
        self.give_words_back(&forker);
        self.give_rest_back(&forker);
        true
    }

    /// The words of all locks after the registry's, which is held, in the order of ranks.
    fn for_each_word(&self, mut visit: impl FnMut(&Word) -> Result<(), OtherFirst>) -> Result<(), OtherFirst> {
        let caches = |visit: &mut dyn FnMut(&CacheDesc) -> Result<(), OtherFirst>| {
            self.registry.for_each_in_fork(&self.platform, visit)
        };
        caches(&mut |cache| visit(cache.life_word()))?;
        self.cpus.iter().try_for_each(|cpu| visit(cpu.lock.word()))?;
        caches(&mut |cache| cache.nodes().try_for_each(|node| visit(node.depot.word())))?;
        caches(&mut |cache| cache.nodes().try_for_each(|node| visit(node.slabs.word())))?;
        visit(self.heap.word())?;
        visit(self.meta.word())?;
        visit(self.listeners.word())?;
        visit(self.inside.word())?;
        // SAFETY: what is passed here takes the words by a `Forker`, or frees what one has taken.
        unsafe { self.platform.for_each_word(visit) }
    }
}
