package homekv.storage;

import java.lang.invoke.VarHandle;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/**
 * A cursor over the changes of a range of keys, commit by commit, each change exactly once (S14, S15).
 *
 * <p>Opened by {@link MvccStore#watch}. One thread at a time calls {@link #next}; any thread may close it, which ends a
 * call that waits. Nothing is kept for a watch: it reads the store's own history, so a slow one costs no memory and holds
 * up nobody, and falls behind once the history window has left it.
 *
 * <p>Cost: one hash lookup a change for each watch of a single key that waits, a comparison of keys for each of a range.
 */
/*
 * `seen` is all that a watch has of its own. While it waits, WatchHub looks at the commits in its place, and says up to
 * which of them there was nothing for it, so that an idle watch never falls behind.
 */
public final class Watch implements AutoCloseable {
    /** After so many commits a watch lets other virtual threads have their turn. */
    private static final int COMMITS_BEFORE_YIELD = 4_096;

    final Range range;

    private final MvccStore store;
    private final History history;
    private final WatchHub hub;
    private final boolean puts;
    private final boolean deletes;
    private final boolean previous;

    /** Every wanted change up to here has been returned. */
    private volatile long seen;

    // ---- WatchHub's, under its lock, while this waits ----

    Thread waiter;
    boolean waiting;

    /** There is nothing for this up to here. */
    long passed;

    private volatile boolean closed;

    Watch(
            MvccStore store,
            History history,
            WatchHub hub,
            Range range,
            long seen,
            boolean puts,
            boolean deletes,
            boolean previous) {
        this.store = store;
        this.history = history;
        this.hub = hub;
        this.range = Objects.requireNonNull(range);
        this.seen = seen;
        this.puts = puts;
        this.deletes = deletes;
        this.previous = previous;
    }

    /** Every change that is watched and has this revision or an earlier one has been returned by {@link #next}. */
    public long revision() {
        return seen;
    }

    /**
     * The next changes: of one commit or of several that follow each other, each commit's together. Waits for one if there
     * is none yet.
     *
     * @param maxBytes how many bytes of keys and values are enough, after which no other commit is added
     * @param maxWaitNanos how long to wait at the most
     * @return the changes, or none when the wait was over; {@link #revision()} may have moved on all the same
     * @throws RevisionOutOfRangeException if the history window has left this watch behind; a new one may begin with the
     *     first revision that the exception names, and will have missed changes
     * @throws IllegalStateException if the watch or the store has been closed
     */
    public List<Event> next(long maxBytes, long maxWaitNanos) throws InterruptedException {
        long endNanos = System.nanoTime() + maxWaitNanos;
        while (true) {
            List<Event> events = collect(maxBytes);
            if (!events.isEmpty()) {
                return events;
            }
            long leftNanos = endNanos - System.nanoTime();
            if (leftNanos <= 0 && maxWaitNanos < Long.MAX_VALUE) {
                return events;
            }
            seen = hub.await(this, seen, maxWaitNanos == Long.MAX_VALUE ? Long.MAX_VALUE : leftNanos);
        }
    }

    private List<Event> collect(long maxBytes) {
        List<Event> events = new ArrayList<>();
        long newest = store.revision();
        long collected = seen; // Moves on only with what is returned (S14).
        long bytes = 0;
        for (int commits = 1; collected < newest && (events.isEmpty() || bytes < maxBytes); commits++) {
            requireOpen();
            long revision = collected + 1;
            int before = events.size();
            Commit commit = history.get(revision);
            if (commit != null) {
                if (commit.version(0).revision != revision) {
                    throw new AssertionError(
                            "S14: commit " + commit.version(0).revision + " in the place of " + revision);
                }
                bytes += collect(commit, events);
            }
            VarHandle.acquireFence();
            if (history.compactRevision() >= revision) {
                if (before == 0) {
                    throw new RevisionOutOfRangeException(
                            revision, history.compactRevision() + 1, store.revision() + 1);
                }
                events = events.subList(0, before); // These are whole; the next call finds out.
                break;
            }
            collected = revision;
            if (commits % COMMITS_BEFORE_YIELD == 0) {
                Thread.yield();
            }
        }
        requireOpen();
        seen = collected;
        return events;
    }

    /** Adds the changes of a commit that are wanted; how many bytes they have. */
    private long collect(Commit commit, List<Event> events) {
        long bytes = 0;
        for (int i = 0; i < commit.size(); i++) {
            Version version = commit.version(i);
            boolean wanted = version.isTombstone() ? deletes : puts;
            if (!wanted || !range.contains(version.key())) {
                continue;
            }
            Version older = version.older();
            if (version.isTombstone() && !Version.isLive(older)) {
                continue; // Put and deleted by the same command: nobody has seen it.
            }
            Entry before = previous ? Version.entry(older) : null;
            bytes += version.key.length
                    + (version.isTombstone() ? 0 : version.value.length)
                    + (before == null ? 0 : before.value().length());
            events.add(version.event(before));
        }
        return bytes;
    }

    private void requireOpen() {
        if (closed) {
            throw new IllegalStateException("the watch has been closed");
        }
    }

    boolean isClosed() {
        return closed;
    }

    /** Ends the watch, and a call of {@link #next} that waits. Closing again does nothing. */
    @Override
    public void close() {
        if (!closed) {
            hub.close(this);
        }
    }

    /** True the first time. Under the hub's lock. */
    boolean markClosed() {
        boolean first = !closed;
        closed = true;
        return first;
    }
}
