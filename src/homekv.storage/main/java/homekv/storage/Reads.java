package homekv.storage;

import java.lang.invoke.VarHandle;
import java.util.ArrayList;
import java.util.List;
import java.util.function.LongSupplier;

/**
 * Reads of the store: of the present, of a revision, of a key's history, and the opening of snapshots. Any thread, no lock.
 *
 * <p>A short read of the present pins nothing: it reads the published revision, and then looks whether the compact revision
 * has passed that meanwhile, and so something that it needed may have been dropped (S13). If that happens again, it pins
 * the revision, so that no read waits for the writer however fast that is (S10).
 */
final class Reads {
    /** How often the present is read without a pin. */
    private static final int UNPINNED_READS = 2;

    private final MvccStore store;
    private final Chains chains;
    private final OpenSnapshots openSnapshots;
    private final History history;
    private final Reclaimer reclaimer;
    private final LongSupplier nanoClock;

    Reads(
            MvccStore store,
            Chains chains,
            OpenSnapshots openSnapshots,
            History history,
            Reclaimer reclaimer,
            LongSupplier nanoClock) {
        this.store = store;
        this.chains = chains;
        this.openSnapshots = openSnapshots;
        this.history = history;
        this.reclaimer = reclaimer;
        this.nanoClock = nanoClock;
    }

    /** The entry of one key now, or null where it is absent. */
    Entry get(Bytes key) {
        for (int i = 0; i < UNPINNED_READS; i++) {
            long revision = store.revision();
            Entry entry = chains.entryAt(key, revision);
            if (isKept(revision)) {
                return entry;
            }
        }
        try (Snapshot snapshot = open(false)) {
            return snapshot.get(key);
        }
    }

    /** The entries of several keys now. */
    Reading get(List<Bytes> keys) {
        for (int i = 0; i < UNPINNED_READS; i++) {
            long revision = store.revision();
            List<Entry> entries = chains.entriesAt(keys, revision);
            if (isKept(revision)) {
                return new Reading(revision, entries);
            }
        }
        try (Snapshot snapshot = open(false)) {
            return new Reading(snapshot.revision(), snapshot.get(keys));
        }
    }

    /** The entries that several keys had at a revision, which must be in the window. */
    Reading get(List<Bytes> keys, long revision) {
        try (Snapshot snapshot = open(false, revision)) {
            return new Reading(revision, snapshot.get(keys));
        }
    }

    /** Whether what has been read without a pin counts: that nothing of it can have been dropped by then (S13). */
    private boolean isKept(long revision) {
        VarHandle.acquireFence();
        return history.compactRevision() <= revision;
    }

    /** What a key has been; see {@link MvccStore#history}. */
    List<Event> history(Bytes key, long from, int max) {
        if (max < 1) {
            throw new IllegalArgumentException("at least one is wanted, not " + max);
        }
        requireInRange(from);
        long last = store.revision();
        Version[] oldest = new Version[Math.min(max, 1 << 16)]; // A ring of those that were met last.
        int met = 0;
        Version version = Version.at(chains.find(key), last);
        while (version != null) {
            if (version.revision > from || !version.isTombstone()) {
                oldest[met++ % oldest.length] = version;
                if (met == 2 * oldest.length) {
                    met = oldest.length; // The same place in the ring, and no overflow.
                }
            }
            version = version.revision > from ? version.older() : null;
        }
        List<Event> events = new ArrayList<>(Math.min(met, oldest.length));
        for (int i = 1; i <= Math.min(met, oldest.length); i++) {
            events.add(oldest[(met - i) % oldest.length].event(null));
        }
        VarHandle.acquireFence();
        requireInRange(from); // Else some may have been dropped on the way (S13).
        return events;
    }

    private Snapshot snapshot(boolean expirable) {
        return new Snapshot(chains, openSnapshots, reclaimer, expirable ? nanoClock.getAsLong() : 0, expirable);
    }

    private void requireInRange(long revision) {
        long last = store.revision();
        long first = history.compactRevision();
        if (revision < first || revision > last) {
            throw new RevisionOutOfRangeException(revision, first, Math.max(first, last));
        }
    }

    /**
     * Opens a snapshot of the published revision: pins it, so that no version it can see is dropped from then on (S4).
     *
     * @param expirable false for the store's own reads, which end by themselves soon
     */
    Snapshot open(boolean expirable) {
        Snapshot snapshot = snapshot(expirable);
        long revision = store.revision();
        add(snapshot, revision);
        while (revision < history.compactRevision()) {
            revision = store.revision();
            snapshot.pin(revision);
        }
        return snapshot;
    }

    /** Opens a snapshot of a revision, which must be in the window. */
    Snapshot open(boolean expirable, long revision) {
        requireInRange(revision);
        Snapshot snapshot = snapshot(expirable);
        add(snapshot, revision);
        try {
            requireInRange(revision); // Once it is pinned, the compact revision may pass it (S4).
        } catch (Throwable e) {
            snapshot.close();
            throw e;
        }
        return snapshot;
    }

    private void add(Snapshot snapshot, long revision) {
        snapshot.pin(revision);
        if (!openSnapshots.add(snapshot)) {
            throw new IllegalStateException(
                    store.limits().openSnapshots() + " snapshots are open, and no more may be; close some");
        }
    }
}
