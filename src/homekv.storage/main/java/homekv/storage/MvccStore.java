package homekv.storage;

import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongSupplier;

/**
 * An in-memory, ordered, multi-version map from byte strings to byte strings, in which reads and writes never wait
 * for each other.
 *
 * <p>Changed only through a {@link CommandLog}, one command at a time. Any thread, virtual ones included, may read at
 * any time: {@link #get} for the present, {@link #snapshot} for a view that stays as it is. Readers take no lock, copy
 * nothing and never wait.
 *
 * <p>Every command that changes something takes the next revision of the store, and all its keys share it. An empty
 * store is at revision 0.
 *
 * <p>Cost: a read or write searches a {@link ConcurrentSkipListMap}, O(log n) comparisons of keys; a key costs about
 * 150 bytes of heap over its own bytes and its value's. Versions that no open snapshot can read are dropped when
 * their key is written next, and by a thread of the store's own for keys that nobody writes again.
 *
 * <p>Limits are those of {@link Limits}. When the account of the memory held would pass
 * {@link Limits#memoryBytes()}, the oldest snapshots expire if that helps, and otherwise puts are refused; reads and
 * deletions go on.
 *
 * <p>Source: multi-version concurrency control as in D. P. Reed, "Naming and Synchronization in a Decentralized
 * Computer System" (1978), chapter 4; revisions, create revisions and versions as in etcd's {@code mvcc} package.
 */
/*
 * For maintainers. DESIGN.md beside the sources numbers the invariants that are cited here (S1 ...).
 *
 * All changes happen in a turn: the thread that holds `turn` is the writer (S8). Applying a command has three steps.
 *
 *   1. Stage. Look up every key, make its new version, and put an empty chain into the map for a key that has none.
 *      Everything that can fail happens here. A failure leaves nothing but empty chains, which read as absent; the
 *      next sweep removes them.
 *   2. Commit. Link each new version to its chain, then publish: one volatile write of `published` (S2). Plain stores
 *      only; nothing is allocated. A failure in here (a stack that overflows) stops the store: what is linked is never
 *      published, and readers go on at the last revision.
 *   3. Reclaim. Drop from the written chains what no open snapshot can read (S6), by cutting links. The command is
 *      committed by now, so a failure to note a chain for later is made good by a sweep of the whole map.
 *
 * Example. Key k has the versions 7 and, pinned by a snapshot at revision 5, 3. A put at revision 9 links 9 -> 7 -> 3,
 * publishes 9, scans the open snapshots, finds {5}, and cuts to 9 -> 3. Once the snapshot is closed, the next write of
 * k or the sweep cuts to 9. A deletion at revision 10 makes it 10 (tombstone) -> 9; nothing is pinned, so 9 goes, and
 * a tombstone with nothing behind it takes its key out of the map.
 */
public final class MvccStore implements AutoCloseable {
    /** What the last command left behind. */
    private record Published(long revision, long keys, long keyBytes, long valueBytes, long sets, long dels) {}

    /** A version that is ready to be linked to its chain. */
    record Staged(Bytes key, VersionChain chain, Version version) {}

    /** The reason of a store that has been closed. */
    private static final Throwable CLOSED = new Throwable("closed");

    private final Limits limits;
    private final LongSupplier nanoClock;
    private final ConcurrentSkipListMap<Bytes, VersionChain> chains = new ConcurrentSkipListMap<>();
    private final OpenSnapshots openSnapshots;
    private final Reclaimer reclaimer;
    private final LongAdder gets = new LongAdder();

    /** The one publication point (S2). */
    private volatile Published published = new Published(0, 0, 0, 0, 0, 0);

    /** Held by the writer. Command logs take it; nothing that a reader does needs it. */
    final ReentrantLock turn = new ReentrantLock();

    /** Why the store takes no more commands, or null. The writer's own. */
    private Throwable stopped;

    /** An empty store. Closing it ends the thread that reclaims in the background. */
    public MvccStore(Limits limits) {
        this(limits, System::nanoTime, true);
    }

    /** For tests: with a clock of their own, and without a background thread where they sweep themselves. */
    MvccStore(Limits limits, LongSupplier nanoClock, boolean sweepInBackground) {
        this.limits = Objects.requireNonNull(limits);
        this.nanoClock = Objects.requireNonNull(nanoClock);
        this.openSnapshots =
                new OpenSnapshots(limits.openSnapshots(), Runtime.getRuntime().availableProcessors());
        this.reclaimer = new Reclaimer(chains, openSnapshots, turn, limits, nanoClock, sweepInBackground);
    }

    /** The limits that this store keeps. */
    public Limits limits() {
        return limits;
    }

    // ---- Reading: any thread, no lock ----

    /**
     * Opens a view of the store as it is now. Close it soon: what it can see stays in memory.
     *
     * @throws IllegalStateException if {@link Limits#openSnapshots()} are open
     */
    public Snapshot snapshot() {
        return open(new Snapshot(chains, openSnapshots, reclaimer, nanoClock.getAsLong(), true));
    }

    /** The entry of one key now, or null where it is absent. Counts as one get. */
    public Entry get(Bytes key) {
        return get(List.of(key)).entries().get(0);
    }

    /** The entries of several keys, all of one revision. Counts as one get. */
    public Reading get(List<Bytes> keys) {
        Reading reading = read(keys);
        countGet();
        return reading;
    }

    /** The same, not counted: for a server that may yet refuse to send what was found. */
    public Reading read(List<Bytes> keys) {
        try (Snapshot snapshot = open(new Snapshot(chains, openSnapshots, reclaimer, 0, false))) {
            return new Reading(snapshot.revision(), snapshot.get(keys));
        }
    }

    /** Counts a {@link #read} as a get. */
    public void countGet() {
        gets.increment();
    }

    /** Lets the snapshot pin the published revision, so that no version it can see is dropped from then on (S4). */
    private Snapshot open(Snapshot snapshot) {
        snapshot.pin(published.revision);
        if (!openSnapshots.add(snapshot)) {
            throw new IllegalStateException(
                    limits.openSnapshots() + " snapshots are open, and no more may be; close some");
        }
        for (long revision; (revision = published.revision) != snapshot.revision(); ) {
            snapshot.pin(revision);
        }
        return snapshot;
    }

    /** What the store holds and has done. */
    public Counters counters() {
        long getsSoFar = gets.sum();
        Published now = published;
        return new Counters(
                now.revision,
                now.keys,
                now.keyBytes,
                now.valueBytes,
                reclaimer.versions(),
                reclaimer.heldBytes(),
                getsSoFar,
                now.sets,
                now.dels);
    }

    // ---- Writing: in the writer's turn ----

    /**
     * Why there is no room for this command now, or null if there is. Before a command is ordered, since the answer
     * depends on which snapshots are open and {@link #apply} must not (S9).
     */
    Result.Refused admit(Command command) {
        requireTurn();
        requireGoing();
        if (!(command instanceof Command.Set set)) {
            return null;
        }
        boolean puts = false;
        long neededBytes = 0;
        for (Write write : set.writes()) {
            switch (write) {
                case Write.Put put -> {
                    puts = true;
                    neededBytes += reclaimer.addedBytes(put.key(), put.value(), null);
                }
                case Write.Delete delete -> neededBytes += Reclaimer.DELETION_BYTES;
            }
        }
        if (!puts || reclaimer.heldBytes() + neededBytes <= limits.memoryBytes()) {
            return null;
        }
        return admitExactly(lastWrites(set.writes()));
    }

    /** The exact form of {@link #admit}: whatever makes the store no larger is always taken. */
    private Result.Refused admitExactly(Iterable<Write> writes) {
        long addedBytes = 0;
        long replacedBytes = 0;
        long waitingBytes = 0; // What it takes besides while snapshots keep what is replaced.
        for (Write write : writes) {
            VersionChain chain = chains.get(write.key());
            Version newest = chain == null ? null : chain.newest;
            replacedBytes += reclaimer.replacedBytes(newest);
            switch (write) {
                case Write.Put put -> {
                    addedBytes += reclaimer.addedBytes(put.key(), put.value(), newest);
                    waitingBytes += newest == null ? 0 : Footprint.PENDING_BYTES;
                }
                case Write.Delete delete -> waitingBytes += Version.isLive(newest) ? Reclaimer.DELETION_BYTES : 0;
            }
        }
        long heldBytes = reclaimer.makeRoom(addedBytes, replacedBytes, waitingBytes);
        return heldBytes <= limits.memoryBytes() || addedBytes <= replacedBytes
                ? null
                : new Result.Refused(Limit.MEMORY_BYTES, heldBytes, limits.memoryBytes());
    }

    /**
     * Applies and publishes a command. Depends on nothing but the command and the versions that earlier commands
     * made, so that the same commands in the same order make the same store (S8).
     */
    Result.Applied apply(Command command) {
        requireTurn();
        requireGoing();
        Batch batch = stage(command);
        commit(batch);
        try {
            reclaimer.committed(batch.staged, batch.count);
        } catch (OutOfMemoryError | StackOverflowError e) {
            reclaimer.sweepWholeMap(); // The command is committed; what was not reclaimed now is reclaimed later.
        }
        return batch.result;
    }

    private Batch stage(Command command) {
        try {
            return switch (command) {
                case Command.Set set -> new Batch(set);
                case Command.Del del -> new Batch(del);
            };
        } catch (Throwable e) {
            reclaimer.sweepWholeMap(); // Takes the empty chains out again.
            throw e;
        }
    }

    /** Everything that a command is going to commit, made ready: what is left to do cannot run out of memory. */
    private final class Batch {
        final Staged[] staged;
        final Published next;
        final Result.Applied result;
        int count;

        private final Published last = published;
        private final long revision = last.revision + 1;
        private long keys = last.keys;
        private long keyBytes = last.keyBytes;
        private long valueBytes = last.valueBytes;
        private int deletedKeys;

        Batch(Command.Set set) {
            staged = new Staged[set.writes().size()];
            for (Write write : lastWrites(set.writes())) {
                switch (write) {
                    case Write.Put put -> put(put.key(), put.value().unsafeArray());
                    case Write.Delete delete -> delete(delete.key());
                }
            }
            next = next(1, 0);
            result = new Result.Applied(next.revision, deletedKeys);
        }

        Batch(Command.Del del) {
            staged = new Staged[del.keys().size()];
            for (Bytes key : del.keys().size() > 1 ? new LinkedHashSet<>(del.keys()) : del.keys()) {
                delete(key);
            }
            next = next(0, 1);
            result = new Result.Applied(next.revision, deletedKeys);
        }

        private void put(Bytes key, byte[] value) {
            VersionChain chain = chains.get(key);
            if (chain == null) {
                chain = new VersionChain();
                chains.put(key, chain);
            }
            Version newest = chain.newest;
            stage(key, chain, Version.put(revision, value, newest));
            valueBytes += value.length;
            if (Version.isLive(newest)) {
                valueBytes -= newest.value.length;
            } else {
                keys++;
                keyBytes += key.length();
            }
        }

        private void delete(Bytes key) {
            VersionChain chain = chains.get(key);
            Version newest = chain == null ? null : chain.newest;
            if (Version.isLive(newest)) {
                stage(key, chain, Version.tombstone(revision, newest));
                valueBytes -= newest.value.length;
                keys--;
                keyBytes -= key.length();
                deletedKeys++;
            }
        }

        private void stage(Bytes key, VersionChain chain, Version version) {
            staged[count++] = new Staged(key, chain, version);
        }

        /** A command that changes nothing takes no revision (S5), but it counts. */
        private Published next(int newSets, int newDels) {
            return new Published(
                    count > 0 ? revision : last.revision,
                    keys,
                    keyBytes,
                    valueBytes,
                    last.sets + newSets,
                    last.dels + newDels);
        }
    }

    private void commit(Batch batch) {
        try {
            if (published != batch.last) {
                throw new AssertionError("S8: another command was applied while this one was being staged");
            }
            for (int i = 0; i < batch.count; i++) {
                link(batch.staged[i]);
            }
            published = batch.next;
        } catch (Throwable e) {
            stopped = e; // Plain stores: there may be neither heap nor stack for anything else.
            reclaimer.frozen = true;
            throw e;
        }
    }

    private void link(Staged write) {
        VersionChain chain = write.chain;
        Version version = write.version;
        if (chain.newest != version.older) {
            throw new AssertionError("S5: a command gives " + write.key + " two versions");
        }
        if (version.older != null && version.older.revision >= version.revision) {
            throw new AssertionError(
                    "S3: revision " + version.revision + " follows " + version.older.revision + " in " + write.key);
        }
        chain.newest = version;
        reclaimer.add(write.key, version);
    }

    /** The last write of each key, so that a key gets one version a command (S5). */
    private static Iterable<Write> lastWrites(List<Write> writes) {
        if (writes.size() <= 1) {
            return writes;
        }
        Map<Bytes, Write> lastByKey = LinkedHashMap.newLinkedHashMap(writes.size());
        for (Write write : writes) {
            lastByKey.put(write.key(), write);
        }
        return lastByKey.size() == writes.size() ? writes : lastByKey.values();
    }

    private void requireGoing() {
        if (stopped != null) {
            throw stopped == CLOSED
                    ? new IllegalStateException("the store has been closed")
                    : new IllegalStateException(
                            "the store has stopped, because a command failed half-way: " + stopped
                                    + "; it can still be read, as it was before that command",
                            stopped);
        }
    }

    private void requireTurn() {
        if (!turn.isHeldByCurrentThread()) {
            throw new AssertionError("S8: a command outside of the writer's turn");
        }
    }

    /** Ends the thread that reclaims in the background and takes no more commands. Reading goes on. */
    @Override
    public void close() {
        reclaimer.close();
        turn.lock();
        try {
            stopped = stopped == null ? CLOSED : stopped;
        } finally {
            turn.unlock();
        }
    }

    // ---- For tests ----

    /** Looks at everything that waits to be reclaimed, as the background thread does. */
    void sweep() {
        reclaimer.sweepRound();
    }

    /** Walks the whole store in a turn and throws an AssertionError if what it finds breaks S1, S3, S6 or S7. */
    void checkInvariants() {
        turn.lock();
        try {
            Published now = published;
            reclaimer.check(now.revision, now.keys, now.keyBytes, now.valueBytes);
        } finally {
            turn.unlock();
        }
    }
}
