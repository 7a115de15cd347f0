package homekv.storage;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.function.Supplier;

/**
 * A read view of the store as it was at one revision, whatever is written meanwhile.
 *
 * <p>Opened by {@link MvccStore#snapshot}. Any number of threads may read one at once; all see the same. Nothing here
 * takes a lock, copies data or waits for a writer (S10).
 *
 * <p>Cost: a read is one look-up in a hash table, and a step for every version of the key that is newer than the
 * snapshot and still kept; a scan is one search, and a step for every key in its range. As long as it is open, the
 * versions that it can see are kept in memory, so close it.
 *
 * <p>Limits: a snapshot expires when it has kept old versions for longer than {@link Limits#snapshotMillis()}, when
 * what only snapshots keep grows over {@link Limits#snapshotBytes()} (the oldest first), or when new writes need the
 * memory. Reading it then fails with {@link SnapshotExpiredException}; it never answers wrong.
 */
public final class Snapshot implements AutoCloseable {
    private enum State {
        OPEN,
        CLOSED,
        EXPIRED
    }

    private static final VarHandle STATE;

    static {
        try {
            STATE = MethodHandles.lookup().findVarHandle(Snapshot.class, "state", State.class);
        } catch (ReflectiveOperationException e) {
            throw new ExceptionInInitializerError(e);
        }
    }

    private final Chains chains;
    private final OpenSnapshots openSnapshots;
    private final Reclaimer reclaimer;

    /** When it was opened, on the store's clock. */
    final long openedNanos;

    /** False for the store's own reads, which end by themselves soon. */
    final boolean expirable;

    /** Where it stands among the open snapshots. */
    int blockIndex;

    int slot;

    /** What it pins. Moves only while the snapshot is being opened (S4). */
    private volatile long revision;

    /** Leaves OPEN once, by compare and set; whoever does that gives the slot back. */
    private volatile State state = State.OPEN;

    Snapshot(Chains chains, OpenSnapshots openSnapshots, Reclaimer reclaimer, long openedNanos, boolean expirable) {
        this.chains = chains;
        this.openSnapshots = openSnapshots;
        this.reclaimer = reclaimer;
        this.openedNanos = openedNanos;
        this.expirable = expirable;
    }

    /** The revision that this snapshot reads. */
    public long revision() {
        return revision;
    }

    /** Pins another revision while the snapshot is being opened. */
    void pin(long newRevision) {
        revision = newRevision;
    }

    /**
     * The entry of one key, or null where the key is absent.
     *
     * @throws SnapshotExpiredException if the snapshot has expired
     * @throws IllegalStateException if it has been closed
     */
    public Entry get(Bytes key) {
        Entry entry = chains.entryAt(key, revision);
        requireOpen();
        return entry;
    }

    /**
     * The entries of several keys, in the order of {@code keys}, null where a key is absent.
     *
     * @throws SnapshotExpiredException if the snapshot has expired
     * @throws IllegalStateException if it has been closed
     */
    public List<Entry> get(List<Bytes> keys) {
        List<Entry> entries = chains.entriesAt(keys, revision);
        requireOpen();
        return entries;
    }

    /**
     * The entries of a range in the order of their keys, or against it, read as the iterator goes on: it takes the same
     * little memory for a range of any size. One thread at a time may use the iterator.
     *
     * @return an iterator whose methods throw {@link SnapshotExpiredException} if the snapshot has expired and
     *     {@link IllegalStateException} if it has been closed
     */
    public Iterator<Entry> scan(Range range, boolean descending) {
        ChainWalk walk = new ChainWalk(chains, range, descending);
        return iterator(() -> {
            for (Version version; (version = walk.next(revision)) != null; ) {
                Entry entry = Version.entry(version);
                if (entry != null) {
                    return entry;
                }
            }
            return null;
        });
    }

    /**
     * How many keys a range has.
     *
     * @throws SnapshotExpiredException if the snapshot has expired
     * @throws IllegalStateException if it has been closed
     */
    public long count(Range range) {
        ChainWalk walk = new ChainWalk(chains, range, false);
        long count = 0;
        for (Version version; (version = walk.next(revision)) != null; ) {
            count += version.isTombstone() ? 0 : 1;
        }
        requireOpen();
        return count;
    }

    /**
     * What is different here from an earlier snapshot of the same store, in the order of the keys. A key that has been
     * written is different even if its value is the same.
     *
     * @return an iterator as of {@link #scan}
     */
    public Iterator<Difference> differences(Snapshot earlier, Range range) {
        ChainWalk walk = new ChainWalk(chains, range, false);
        long newer = Math.max(earlier.revision, revision);
        return iterator(() -> {
            for (Version version; (version = walk.next(newer)) != null; ) {
                Version before = Version.at(version, earlier.revision);
                Version after = Version.at(version, revision);
                if (before != after && (Version.isLive(before) || Version.isLive(after))) {
                    Difference difference = new Difference(Version.entry(before), Version.entry(after));
                    earlier.requireOpen(); // Not before: the value may have been dropped until it was taken (S4).
                    return difference;
                }
            }
            earlier.requireOpen();
            return null;
        });
    }

    /** An iterator over what {@code find} returns until it returns null, each looked at only while this is open. */
    private <T> Iterator<T> iterator(Supplier<T> find) {
        return new Iterator<>() {
            private T next;

            @Override
            public boolean hasNext() {
                if (next == null) {
                    T found = find.get();
                    requireOpen();
                    next = found;
                }
                return next != null;
            }

            @Override
            public T next() {
                if (!hasNext()) {
                    throw new NoSuchElementException("the range has no more keys");
                }
                T found = next;
                next = null;
                return found;
            }
        };
    }

    /**
     * Checked after every read, never before: as long as the state is open after reading, nothing that the read
     * needed can have been dropped during it (S4). The fence keeps the plain reads of links before this one; on
     * the writer's side, the volatile reads of a fresh scan lie between a change of the state and the first cut.
     */
    void requireOpen() {
        VarHandle.acquireFence();
        switch (state) {
            case OPEN -> {}
            case CLOSED -> throw new IllegalStateException("the snapshot has been closed");
            case EXPIRED -> throw new SnapshotExpiredException(revision);
        }
    }

    /** Lets go of what the snapshot keeps. Never blocks; closing again does nothing. */
    @Override
    public void close() {
        end(State.CLOSED);
    }

    /** Whether nobody has begun to end it. */
    boolean isOpen() {
        return state == State.OPEN;
    }

    /** Ends the snapshot against its owner's will. */
    void expire() {
        end(State.EXPIRED);
    }

    private void end(State last) {
        if (STATE.compareAndSet(this, State.OPEN, last)) {
            openSnapshots.remove(this);
            if (expirable) {
                reclaimer.snapshotEnded();
            }
        }
    }
}
