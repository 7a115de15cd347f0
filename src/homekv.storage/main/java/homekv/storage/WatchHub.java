package homekv.storage;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Wakes watches that wait for a change.
 *
 * <p>One thread goes through the commits as they are published and wakes those watches, of the ones that wait, that are
 * meant by them. All others sleep on, however many there are. The writer wakes that thread when it sleeps, and does its
 * work for commits that have to be given up before it has come to them; watches that do not wait, because their owner has
 * not taken what they found, cost nobody anything.
 */
/*
 * `passed` is the last commit that was held against everyone who waits; it can be any revision as long as nobody does. A
 * watch may only begin to wait if it has seen all up to there itself; what it has seen beyond is held against it again,
 * which wakes it for nothing at worst.
 *
 * Waking the thread: it sets `idle` and then reads the published revision; the writer publishes and then reads `idle`. All
 * four are volatile, so one of them sees the other.
 */
final class WatchHub implements AutoCloseable {
    /** How many commits are looked at before watches that want to begin or end waiting have their turn. */
    private static final int COMMITS_PER_ROUND = 512;

    /** After so many changes a round ends with the commit that it has come to. */
    private static final int CHANGES_PER_ROUND = 1 << 16;

    /** A round that took this long is followed by a pause, so that matching never takes more than a share of a core. */
    private static final long LONG_ROUND_NANOS = 200_000;

    private static final int PAUSE_PER_ROUND = 4;

    private static final long MAX_PAUSE_NANOS = TimeUnit.MILLISECONDS.toNanos(20);

    private final MvccStore store;
    private final History history;
    private final int maxWatches;

    /** Guards everything below; held for a round at the most. */
    private final ReentrantLock lock = new ReentrantLock();

    private final Map<Bytes, Set<Watch>> byKey = new HashMap<>();
    private final Set<Watch> byRange = new LinkedHashSet<>();
    private int waiting;
    private long passed;
    private boolean storeClosed;
    private volatile int open;
    private volatile Thread thread;

    /** Whether somebody waits and the thread sleeps because it has nothing to look at. */
    private volatile boolean idle;

    WatchHub(MvccStore store, History history, int maxWatches) {
        this.store = store;
        this.history = history;
        this.maxWatches = maxWatches;
    }

    /** A commit has been published. In the writer's turn; costs a read unless the thread has to be woken. */
    void published() {
        if (idle) {
            LockSupport.unpark(thread);
        }
    }

    int openWatches() {
        return open;
    }

    /** Takes a new watch in; false if as many are open as may be. */
    boolean open() {
        lock.lock();
        try {
            requireStoreOpen();
            if (open >= maxWatches) {
                return false;
            }
            if (thread == null) {
                thread = Thread.ofPlatform().daemon().name("homekv-watch").start(this::run);
            }
            open++;
            return true;
        } finally {
            lock.unlock();
        }
    }

    /** Ends a watch, and the wait of its owner. */
    void close(Watch watch) {
        lock.lock();
        try {
            if (watch.markClosed()) {
                open--;
                LockSupport.unpark(watch.waiter);
            }
        } finally {
            lock.unlock();
        }
    }

    /**
     * Waits until there may be something for the watch, or the time is over, or it is closed; returns the revision up to
     * which there is nothing for it. At once if commits that it has not seen have been passed already.
     */
    long await(Watch watch, long seen, long nanos) throws InterruptedException {
        long endNanos = System.nanoTime() + nanos;
        if (!begin(watch, seen)) {
            return seen;
        }
        try {
            while (stillWaiting(watch)) {
                long leftNanos = nanos == Long.MAX_VALUE ? nanos : endNanos - System.nanoTime();
                if (leftNanos <= 0) {
                    break;
                }
                LockSupport.parkNanos(watch, leftNanos);
                if (Thread.interrupted()) {
                    throw new InterruptedException();
                }
            }
        } finally {
            end(watch);
        }
        return Math.max(seen, watch.passed);
    }

    private boolean stillWaiting(Watch watch) {
        lock.lock();
        try {
            return watch.waiting && !watch.isClosed() && !storeClosed;
        } finally {
            lock.unlock();
        }
    }

    private boolean begin(Watch watch, long seen) {
        lock.lock();
        try {
            requireStoreOpen();
            if (waiting == 0) {
                passed = seen;
            }
            if (passed > seen) {
                return false;
            }
            watch.waiter = Thread.currentThread();
            watch.passed = seen;
            watch.waiting = true;
            waiting++;
            try {
                add(watch);
            } catch (Throwable e) {
                remove(watch); // A set that runs out of memory may have taken it in.
                throw e;
            }
            if (waiting == 1 || store.revision() > passed) {
                LockSupport.unpark(thread);
            }
            return true;
        } finally {
            lock.unlock();
        }
    }

    private void requireStoreOpen() {
        if (storeClosed) {
            throw new IllegalStateException("the store has been closed");
        }
    }

    private void add(Watch watch) {
        if (watch.range.isKey()) {
            byKey.computeIfAbsent(watch.range.from(), key -> new LinkedHashSet<>(2))
                    .add(watch);
        } else {
            byRange.add(watch);
        }
    }

    /** Nothing is held against the watch any more; all up to `passed` has been, unless it was woken by then. */
    private void end(Watch watch) {
        lock.lock();
        try {
            if (watch.waiting) {
                watch.passed = Math.max(watch.passed, passed);
                remove(watch);
            }
            watch.waiter = null;
        } finally {
            lock.unlock();
        }
    }

    private void remove(Watch watch) {
        watch.waiting = false;
        waiting--;
        if (!watch.range.isKey()) {
            byRange.remove(watch);
            return;
        }
        Set<Watch> others = byKey.get(watch.range.from());
        if (others != null) {
            others.remove(watch);
            if (others.isEmpty()) {
                byKey.remove(watch.range.from());
            }
        }
    }

    // ---- The thread ----

    private void run() {
        while (!isStoreClosed()) {
            try {
                long startNanos = System.nanoTime();
                if (!round()) {
                    sleep();
                    continue;
                }
                long roundNanos = System.nanoTime() - startNanos;
                if (roundNanos > LONG_ROUND_NANOS) {
                    LockSupport.parkNanos(this, Math.min(MAX_PAUSE_NANOS, PAUSE_PER_ROUND * roundNanos));
                }
            } catch (OutOfMemoryError e) {
                LockSupport.parkNanos(this, MAX_PAUSE_NANOS); // The same commits are looked at again.
            }
        }
    }

    private boolean isStoreClosed() {
        lock.lock();
        try {
            return storeClosed;
        } finally {
            lock.unlock();
        }
    }

    /** Holds the next commits against those who wait; false if there is nothing to do. */
    private boolean round() {
        lock.lock();
        try {
            long upTo = Math.min(store.revision(), passed + COMMITS_PER_ROUND);
            if (waiting == 0 || upTo <= passed) {
                return false;
            }
            hold(upTo);
            return true;
        } finally {
            lock.unlock();
        }
    }

    /**
     * The commits up to here are about to be given up: holds those against the watches that wait that have not been yet, so
     * that nobody who waits falls behind. In the writer's turn; costs a read unless the thread has been left behind.
     */
    void pass(long upTo) {
        if (open == 0) {
            return;
        }
        lock.lock();
        try {
            while (waiting > 0 && passed < upTo) {
                hold(upTo);
            }
        } finally {
            lock.unlock();
        }
    }

    /** Holds the next commits against those who wait, up to a revision or until there were enough changes. */
    private void hold(long upTo) {
        List<Bytes> changed = new ArrayList<>();
        long revision = passed;
        while (revision < upTo && changed.size() < CHANGES_PER_ROUND) {
            revision++;
            Commit commit = history.get(revision);
            if (commit == null) {
                throw new AssertionError("S15: commit " + revision + " was given up while watches wait behind it");
            }
            for (int i = 0; i < commit.size(); i++) {
                changed.add(commit.version(i).key());
            }
        }
        for (Bytes key : changed) {
            Set<Watch> watches = byKey.get(key);
            if (watches != null) {
                List.copyOf(watches).forEach(this::wake);
            }
        }
        wakeRanges(changed);
        passed = revision;
    }

    /** Wakes those whose range has one of the keys: a binary search each, however many keys there are. */
    private void wakeRanges(List<Bytes> changed) {
        if (byRange.isEmpty()) {
            return;
        }
        Bytes[] sorted = changed.toArray(Bytes[]::new);
        Arrays.sort(sorted);
        for (Watch watch : List.copyOf(byRange)) {
            int found = Arrays.binarySearch(sorted, watch.range.from());
            int first = found < 0 ? -found - 1 : found;
            if (first < sorted.length && watch.range.contains(sorted[first])) {
                wake(watch);
            }
        }
    }

    /** The watch looks for itself from here on. */
    private void wake(Watch watch) {
        watch.passed = Math.max(watch.passed, passed);
        remove(watch);
        LockSupport.unpark(watch.waiter);
    }

    private void wakeAll() {
        byKey.values().stream().flatMap(Set::stream).toList().forEach(this::wake);
        List.copyOf(byRange).forEach(this::wake);
    }

    private void sleep() {
        idle = waiting() > 0;
        if (!idle || store.revision() <= passed()) {
            LockSupport.park(this);
        }
        idle = false;
    }

    /** How many watches wait. */
    int waiting() {
        lock.lock();
        try {
            return waiting;
        } finally {
            lock.unlock();
        }
    }

    /** The last revision that was held against those who wait. */
    long passed() {
        lock.lock();
        try {
            return passed;
        } finally {
            lock.unlock();
        }
    }

    /** The store has been closed: nobody waits any more. */
    @Override
    public void close() {
        lock.lock();
        try {
            storeClosed = true;
            wakeAll();
            LockSupport.unpark(thread);
        } finally {
            lock.unlock();
        }
    }
}
