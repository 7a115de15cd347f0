package homekv.storage;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BooleanSupplier;
import java.util.function.LongSupplier;

/**
 * Keeps the account of what the store holds, and drops what nobody can read any more (S6, S7).
 *
 * <p>Belongs to the writer: everything but {@link #versions()} and {@link #heldBytes()} is called in a turn. A thread
 * of its own takes turns to look after chains that nobody writes again.
 */
/*
 * A chain is clean when it holds nothing but the newest version of a live key. Every other chain is in `pending`,
 * once, unless a failure has cut the bookkeeping short; then `wholeSweepDue` is set and a walk over the whole map
 * makes it good. Chains wait in `pending` because an open snapshot needs a version of theirs. They are looked at
 *
 *   - when their key is written,
 *   - by every command, two for each key it writes, so that the queue cannot outgrow what snapshots really need,
 *   - by the background thread, all of them in a round, in batches, after a snapshot has ended, and else with pauses
 *     ten times as long as it held turns,
 *   - when memory is short.
 *
 * Dropping a version takes no memory, since it only cuts links.
 */
final class Reclaimer implements AutoCloseable {
    /** How many waiting chains a command looks at for every key that it writes: more than it can add. */
    private static final int SWEPT_PER_WRITTEN_KEY = 2;

    /** How many chains are looked at before other writers have their turn. */
    private static final int SWEEP_BATCH = 1_000;

    /** What a deletion may add to the account while snapshots keep what it deletes. */
    static final long DELETION_BYTES = Footprint.VERSION_OVERHEAD_BYTES + Footprint.PENDING_BYTES;

    private static final long MIN_PAUSE_NANOS = 20_000_000;

    private static final int PAUSE_PER_ROUND = 10;

    private final ConcurrentSkipListMap<Bytes, VersionChain> chains;
    private final OpenSnapshots openSnapshots;
    private final ReentrantLock turn;
    private final Limits limits;
    private final Footprint footprint;
    private final LongSupplier nanoClock;

    /** The background thread, or null where there is none. */
    private final Thread sweeper;

    private volatile boolean closed;

    /** Whether there is anything that the background thread could do. */
    private volatile boolean sweepNeeded;

    /** Whether a snapshot has ended since the last round, so that another one is likely to be worth it. */
    private volatile boolean snapshotEnded;

    // The account. Written in a turn and shown to others at its end.

    private long versions;
    private volatile long shownVersions;
    private volatile long shownHeldBytes;

    /** Keys and the newest versions of live ones. */
    private long liveBytes;

    /** All other versions. */
    private long supersededBytes;

    private final LinkedHashMap<Bytes, VersionChain> pending = new LinkedHashMap<>();
    private boolean wholeSweepDue;

    /** Set when the store stops half-way through a command: what is newest may not be published, so nothing is dropped. */
    boolean frozen;

    /** Where the walk over the whole map goes on; null: at its beginning. */
    private Bytes wholeSweepFrom;

    /** How many waiting chains have yet to be looked at before expiring more snapshots can be judged necessary. */
    private int lookBeforeExpiring;

    /** Whether history is over its limit, and chains are being looked at because of it. */
    private boolean overHistory;

    Reclaimer(
            ConcurrentSkipListMap<Bytes, VersionChain> chains,
            OpenSnapshots openSnapshots,
            ReentrantLock turn,
            Limits limits,
            LongSupplier nanoClock,
            boolean inBackground) {
        this.chains = chains;
        this.openSnapshots = openSnapshots;
        this.turn = turn;
        this.limits = limits;
        this.footprint = new Footprint(limits.heapRegionBytes());
        this.nanoClock = nanoClock;
        this.sweeper = inBackground
                ? Thread.ofPlatform().daemon().name("homekv-sweeper").start(this::sweepInBackground)
                : null;
    }

    // ---- What is held ----

    /** Versions held, as of the end of the last turn. Any thread. */
    long versions() {
        return shownVersions;
    }

    /** The account of the heap held, as of the end of the last turn. Any thread. */
    long heldBytes() {
        return shownHeldBytes;
    }

    /** What a put of this value adds to the account of a key whose newest version is {@code newest} (null: none). */
    long addedBytes(Bytes key, Bytes value, Version newest) {
        return footprint.versionBytes(value.unsafeArray()) + (newest == null ? footprint.keyBytes(key.length()) : 0);
    }

    /** What replacing the newest version of a key gives back, once no snapshot needs it. */
    long replacedBytes(Version newest) {
        return Version.isLive(newest) ? footprint.versionBytes(newest.value) : 0;
    }

    /**
     * What the account comes to with a command, after dropping what can be dropped if that is over the limit.
     *
     * @param addedBytes what it writes
     * @param replacedBytes what that replaces
     * @param waitingBytes what it costs besides, as long as snapshots keep what is replaced
     */
    long makeRoom(long addedBytes, long replacedBytes, long waitingBytes) {
        long allowedBytes = limits.memoryBytes() - addedBytes - waitingBytes;
        if (held() <= allowedBytes) {
            return held() + addedBytes + waitingBytes;
        }
        if (liveBytes + addedBytes - replacedBytes <= limits.memoryBytes() || addedBytes <= replacedBytes) {
            openSnapshots.scan();
            sweep(pending.size());
            while (held() > allowedBytes && expireOldest()) {
                sweep(pending.size());
            }
            show();
        }
        return held() + addedBytes - replacedBytes;
    }

    private long held() {
        return liveBytes + history();
    }

    private long history() {
        return supersededBytes + (long) Footprint.PENDING_BYTES * pending.size();
    }

    /** Takes a version that is being committed into the account. Allocates nothing. */
    void add(Bytes key, Version version) {
        versions++;
        if (version.older == null) {
            liveBytes += footprint.keyBytes(key.length());
        } else if (!version.older.isTombstone()) {
            long olderBytes = footprint.versionBytes(version.older.value);
            liveBytes -= olderBytes;
            supersededBytes += olderBytes;
        }
        if (version.isTombstone()) {
            supersededBytes += footprint.versionBytes(null);
        } else {
            liveBytes += footprint.versionBytes(version.value);
        }
    }

    /** Takes a version out of the account that was not the newest one of a live key. */
    private void drop(Version version) {
        long bytes = footprint.versionBytes(version.value);
        versions--;
        supersededBytes -= bytes;
    }

    /** Drops what a command that has just been published replaces, as far as no open snapshot needs it. */
    void committed(MvccStore.Staged[] staged, int count) {
        openSnapshots.scan();
        for (int i = 0; i < count; i++) {
            reclaim(staged[i].key(), false, staged[i].chain());
        }
        if (sweepNeeded) {
            sweep(SWEPT_PER_WRITTEN_KEY * count);
        }
        keepHistoryLimit();
        show();
    }

    private void show() {
        shownVersions = versions;
        shownHeldBytes = held();
        boolean needed = !frozen && (wholeSweepDue || !pending.isEmpty());
        if (needed != sweepNeeded) {
            sweepNeeded = needed;
            LockSupport.unpark(sweeper);
        }
    }

    // ---- Dropping ----

    /** A failure has cut bookkeeping short: look at every chain once. Allocates nothing. */
    void sweepWholeMap() {
        wholeSweepDue = true;
        wholeSweepFrom = null;
        show();
    }

    /** Looks at up to {@code maxChains} waiting chains again; the open snapshots have been scanned. */
    private void sweep(int maxChains) {
        if (frozen) {
            return;
        }
        for (int i = Math.min(maxChains, pending.size()); i > 0; i--) {
            Map.Entry<Bytes, VersionChain> first = pending.pollFirstEntry();
            lookBeforeExpiring--;
            reclaim(first.getKey(), true, first.getValue());
        }
        if (wholeSweepDue) {
            sweepMap(maxChains);
        }
    }

    private void sweepMap(int maxChains) {
        Map<Bytes, VersionChain> rest = wholeSweepFrom == null ? chains : chains.tailMap(wholeSweepFrom);
        int seen = 0;
        for (Map.Entry<Bytes, VersionChain> entry : rest.entrySet()) {
            if (seen++ == maxChains) {
                wholeSweepFrom = entry.getKey();
                return;
            }
            reclaim(entry.getKey(), true, entry.getValue());
        }
        wholeSweepDue = false;
        wholeSweepFrom = null;
    }

    /** Drops what it can of one chain, of the whole key if it may, and queues the chain if something has to wait. */
    private void reclaim(Bytes key, boolean mapsOwnKey, VersionChain chain) {
        try {
            Version newest = chain.newest;
            if (newest != null && newest.older != null) {
                cut(newest);
            }
            boolean empty = newest == null || newest.isTombstone() && newest.older == null;
            if (empty) {
                remove(key, chain);
            }
            if (!empty && newest.older != null) {
                if (pending.get(key) != chain) {
                    // The map's own key: the command's would be a second copy, which nobody accounts for.
                    pending.put(mapsOwnKey ? key : chains.ceilingKey(key), chain);
                }
            } else if (!pending.isEmpty()) {
                pending.remove(key);
            }
        } catch (Throwable e) {
            wholeSweepDue = true; // It may be neither clean nor waiting now.
            wholeSweepFrom = null;
            throw e;
        }
    }

    /**
     * Cuts out of a chain every version but the newest that no pinned revision reads: pinned revision r reads the
     * newest version at or below r (S6). Tombstones at the end go too, since nothing there reads the same.
     */
    private void cut(Version newest) {
        Version kept = newest;
        Version lastLive = newest;
        int pin = 0;
        while (kept != null) {
            while (pin < openSnapshots.pinnedCount() && openSnapshots.pinned(pin) >= kept.revision) {
                pin++;
            }
            Version next = kept.older;
            while (next != null && (pin == openSnapshots.pinnedCount() || next.revision > openSnapshots.pinned(pin))) {
                drop(next);
                next = next.older;
                kept.older = next;
            }
            if (!kept.isTombstone()) {
                lastLive = kept;
            }
            kept = next;
        }
        while (lastLive.older != null) {
            drop(lastLive.older);
            lastLive.older = lastLive.older.older;
        }
    }

    private void remove(Bytes key, VersionChain chain) {
        if (chain.newest != null) {
            long keyBytes = footprint.keyBytes(key.length());
            drop(chain.newest);
            liveBytes -= keyBytes;
            chain.newest = null; // Absent as before, whether or not the map gets rid of it now.
        }
        chains.remove(key, chain);
    }

    // ---- Expiring ----

    private void keepHistoryLimit() {
        if (history() <= limits.historyBytes()) {
            overHistory = false;
            return;
        }
        if (!overHistory) {
            overHistory = true;
            lookBeforeExpiring = pending.size(); // Perhaps nobody needs it any more.
        }
        sweep(SWEEP_BATCH);
        if (lookBeforeExpiring <= 0 && history() > limits.historyBytes() && expireOldest()) {
            lookBeforeExpiring = pending.size();
            sweep(SWEEP_BATCH);
        }
    }

    /** Expires the older half of the snapshots that may be; false if there is none. Scans again. */
    private boolean expireOldest() {
        List<Snapshot> candidates = openSnapshots.expirable();
        long[] revisions = new long[candidates.size()]; // One reading each: those being opened still move.
        for (int i = 0; i < revisions.length; i++) {
            revisions[i] = candidates.get(i).revision();
        }
        long[] sorted = revisions.clone();
        Arrays.sort(sorted);
        for (int i = 0; i < revisions.length; i++) {
            if (revisions[i] <= sorted[(sorted.length - 1) / 2]) {
                candidates.get(i).expire();
            }
        }
        openSnapshots.scan();
        return !candidates.isEmpty();
    }

    /** Expires snapshots that have been open for too long. */
    private void expireAged() {
        long nowNanos = nanoClock.getAsLong();
        for (Snapshot snapshot : openSnapshots.expirable()) {
            if (nowNanos - snapshot.openedNanos > limits.snapshotMillis() * 1_000_000) {
                snapshot.expire();
            }
        }
    }

    // ---- In the background ----

    /** Looks at every waiting chain once, a batch a turn, and returns how long it held turns. Not in a turn. */
    long sweepRound() {
        expireAged();
        long heldNanos = 0;
        int left = Integer.MAX_VALUE;
        while (left > 0 && !frozen) {
            turn.lock();
            try {
                long startNanos = System.nanoTime();
                openSnapshots.scan();
                left = Math.min(left, pending.size()) - SWEEP_BATCH;
                sweep(SWEEP_BATCH);
                if (wholeSweepDue) {
                    left = Math.max(left, 1);
                }
                show();
                heldNanos += System.nanoTime() - startNanos;
            } finally {
                turn.unlock();
            }
        }
        return heldNanos;
    }

    private void sweepInBackground() {
        long heldNanos = 0;
        while (!closed) {
            try {
                if (!sweepNeeded) {
                    LockSupport.park(this);
                    continue;
                }
                pauseUnless(() -> closed, Math.max(MIN_PAUSE_NANOS, heldNanos));
                pauseUnless(() -> closed || snapshotEnded, PAUSE_PER_ROUND * heldNanos);
                snapshotEnded = false;
                heldNanos = sweepRound();
            } catch (OutOfMemoryError e) {
                heldNanos = 0; // Nothing is lost by it: the next round looks at the same chains.
            }
        }
    }

    private void pauseUnless(BooleanSupplier wanted, long nanos) {
        long endNanos = System.nanoTime() + nanos;
        for (long left = nanos; left > 0 && !wanted.getAsBoolean(); left = endNanos - System.nanoTime()) {
            LockSupport.parkNanos(this, left);
        }
    }

    /** Says that a snapshot which may have kept much has ended. Any thread; costs a read when nothing waits. */
    void snapshotEnded() {
        if (sweepNeeded) {
            snapshotEnded = true;
            LockSupport.unpark(sweeper);
        }
    }

    /** Counts everything again (S7), and looks whether chains are in order (S1, S3) and nothing is forgotten (S6). */
    void check(long revision, long keys, long keyBytes, long valueBytes) {
        long countedKeys = 0;
        long countedKeyBytes = 0;
        long countedValueBytes = 0;
        long countedVersions = 0;
        long countedHeldBytes = (long) Footprint.PENDING_BYTES * pending.size();
        Bytes previousKey = null;
        for (Map.Entry<Bytes, VersionChain> entry : chains.entrySet()) {
            Bytes key = entry.getKey();
            Version newest = entry.getValue().newest;
            require(previousKey == null || previousKey.compareTo(key) < 0, "S1", key);
            previousKey = key;
            if (newest == null) {
                require(wholeSweepDue, "S6", key);
                continue;
            }
            require(newest.revision <= revision, "S2", key);
            boolean clean = newest.older == null && !newest.isTombstone();
            require(clean || wholeSweepDue || pending.get(key) == entry.getValue(), "S6", key);
            if (!newest.isTombstone()) {
                countedKeys++;
                countedKeyBytes += key.length();
                countedValueBytes += newest.value.length;
            }
            countedHeldBytes += footprint.keyBytes(key.length());
            for (Version version = newest; version != null; version = version.older) {
                require(version.older == null || version.older.revision < version.revision, "S3", key);
                countedVersions++;
                countedHeldBytes += footprint.versionBytes(version.value);
            }
        }
        require(countedKeys == keys, "S7: keys", previousKey);
        require(countedKeyBytes == keyBytes, "S7: key bytes", previousKey);
        require(countedValueBytes == valueBytes, "S7: value bytes", previousKey);
        require(countedVersions == versions, "S7: versions", previousKey);
        require(countedHeldBytes == held(), "S7: held bytes", previousKey);
    }

    private static void require(boolean holds, String invariant, Bytes key) {
        if (!holds) {
            throw new AssertionError(invariant + " is broken at " + key);
        }
    }

    /** Ends the background thread. */
    @Override
    public void close() {
        closed = true;
        LockSupport.unpark(sweeper);
    }
}
