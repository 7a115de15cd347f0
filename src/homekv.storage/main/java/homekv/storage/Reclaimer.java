package homekv.storage;

import java.util.Arrays;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
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
 * What the history window needs is found through the history. When the compact revision passes a commit, each version
 * that the commit made is what its chain reads at the compact revision, so everything behind it can be cut, but for what
 * open snapshots pin. Nothing is searched for, and a version is looked at once on its way out, however long its chain is.
 *
 * A chain that keeps something behind that version, or a tombstone there, is in `pending` with it, once, unless a failure
 * has cut the bookkeeping short; then `wholeSweepDue` is set and a walk over the whole map makes it good. The chains in
 * `pending` are looked at
 *
 *   - by every command, two for each key it writes, so that the queue cannot outgrow what snapshots really need,
 *   - by the background thread, all of them in a round, in batches, after a snapshot has ended, and else with pauses
 *     ten times as long as it held turns,
 *   - when memory is short.
 *
 * Dropping a version takes no memory, since it only cuts links.
 */
final class Reclaimer implements AutoCloseable {
    /** How many waiting chains or changes a command looks at for every key that it writes: more than it can add. */
    private static final int SWEPT_PER_WRITTEN_KEY = 2;

    /** How many chains are looked at before other writers have their turn. */
    private static final int SWEEP_BATCH = 1_000;

    /**
     * How far over its bound a large history window may be before writers give something up, and how many commits they give
     * up at once then besides: what is fetched from memory for several of them is fetched at the same time.
     */
    private static final int WINDOW_SLACK_BYTES = 1 << 14;

    private static final int COMMITS_AT_ONCE = 64;

    /** How far before its newest version a tombstone is looked for that has to go. */
    private static final int TOMBSTONE_SEARCH = 8;

    private static final long MIN_PAUSE_NANOS = 20_000_000;

    private static final int PAUSE_PER_ROUND = 10;

    private static final long COURTESY_PAUSE_NANOS = 50_000;

    private static final int MAX_COURTESY_PAUSES = 20;

    private final Chains chains;
    private final OpenSnapshots openSnapshots;
    private final History history;
    private final WatchHub watches;
    private final Leases leases;
    private final ReentrantLock turn;
    private final Limits limits;
    private final Footprint footprint;
    private final long windowSlackBytes;
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
    private final AtomicLong shownVersions = new AtomicLong();
    private final AtomicLong shownHeldBytes = new AtomicLong();

    /** Live keys and their newest versions. */
    private long liveBytes;

    /** Live keys that have been put once and are not attached to a lease: those whose newest version is their first. */
    private long keysPutOnce;

    /** All other keys and versions. */
    private long supersededBytes;

    /** Commits in the history, without the versions in them. */
    private long commitBytes;

    /**
     * What the commits in the history keep: themselves, what they replaced, and the keys that they deleted, one that was
     * deleted twice counted twice.
     */
    private long windowBytes;

    /** How many changes of the oldest commit in the history have been dealt with. */
    private int changesDone;

    /** By chain, the version behind which something waits to be dropped: the one that the compact revision reads. */
    private final LinkedHashMap<VersionChain, Version> pending = new LinkedHashMap<>();

    private boolean wholeSweepDue;

    /** Set when the store stops half-way through a command: what is newest may not be published, so nothing is dropped. */
    boolean frozen;

    /** Where the walk over the whole map goes on. */
    private byte[] wholeSweepFrom = Chains.FIRST;

    /** How many waiting chains have yet to be looked at before expiring more snapshots can be judged necessary. */
    private int lookBeforeExpiring;

    /** Whether snapshots keep more than they may, and chains are being looked at because of it. */
    private boolean overSnapshotLimit;

    /** When the oldest commit leaves the history window, on the store's clock, as of the end of the last turn. */
    private final AtomicLong windowEndNanos = new AtomicLong();

    private volatile boolean windowKept;

    Reclaimer(
            Chains chains,
            OpenSnapshots openSnapshots,
            History history,
            WatchHub watches,
            Leases leases,
            ReentrantLock turn,
            Limits limits,
            LongSupplier nanoClock,
            boolean inBackground) {
        this.chains = chains;
        this.openSnapshots = openSnapshots;
        this.history = history;
        this.watches = watches;
        this.leases = leases;
        this.turn = turn;
        this.limits = limits;
        this.footprint = new Footprint(limits.compactHeaders(), limits.heapRegionBytes());
        this.windowSlackBytes = limits.historyBytes() < 1 << 20 ? 0 : WINDOW_SLACK_BYTES;
        this.nanoClock = nanoClock;
        this.sweeper = inBackground
                ? Thread.ofPlatform().daemon().name("homekv-sweeper").start(this::sweepInBackground)
                : null;
    }

    // ---- What is held ----

    /** Versions held, as of the end of the last turn. Any thread. */
    long versions() {
        return shownVersions.get();
    }

    /** The account of the heap held, as of the end of the last turn. Any thread. */
    long heldBytes() {
        return shownHeldBytes.get();
    }

    /**
     * What the writer holds against the limit: the account, and for keys that were put once what it comes to when they are
     * put again, since a key that has found room can be overwritten with a value no larger (S9).
     */
    long chargedBytes() {
        return held() + footprint.spareBytes() * keysPutOnce;
    }

    /** What a deletion may add to the account while snapshots keep what it deletes. */
    long deletionBytes() {
        return footprint.tombstoneBytes() + Footprint.PENDING_BYTES;
    }

    /** What a commit costs, without what it keeps. */
    long commitBytes(int changes) {
        return footprint.commitBytes(changes);
    }

    /**
     * What a put of a value of this length adds to what is charged, of a key whose newest version is {@code newest}. A
     * deleted key that is still there counts as one that is not, since it may be dropped to make room.
     */
    long addedBytes(Bytes key, int valueLength, long lease, Version newest) {
        return footprint.putBytes(valueLength, lease) + (Version.isLive(newest) ? 0 : footprint.keyBytes(key.length()));
    }

    /** What replacing the newest version of a key gives back of what is charged, once nobody needs it. */
    long replacedBytes(Version newest) {
        return Version.isLive(newest) ? footprint.putBytes(newest.value.length, newest.lease()) : 0;
    }

    /**
     * What is charged comes to with a command, after dropping what can be dropped if that is over the limit: first the
     * oldest revisions of the history window, then what snapshots keep.
     *
     * @param addedBytes what it writes
     * @param replacedBytes what that replaces
     * @param waitingBytes what it costs besides, as long as what is replaced is kept
     */
    long makeRoom(long addedBytes, long replacedBytes, long waitingBytes) {
        long allowedBytes = limits.memoryBytes() - addedBytes - waitingBytes;
        if (chargedBytes() <= allowedBytes) {
            return chargedBytes() + addedBytes + waitingBytes;
        }
        long atLeastBytes = chargedBytes() - superseded() + addedBytes - replacedBytes;
        if (atLeastBytes <= limits.memoryBytes() || addedBytes <= replacedBytes) {
            while (chargedBytes() > allowedBytes
                    && giveUp(SWEEP_BATCH, (revision, givenUpBytes) -> chargedBytes() - givenUpBytes > allowedBytes)
                            > 0) {}
            openSnapshots.scan();
            sweep(pending.size());
            while (chargedBytes() > allowedBytes && expireOldest(Long.MAX_VALUE)) {
                sweep(pending.size());
            }
            show();
        }
        return chargedBytes() + addedBytes - replacedBytes;
    }

    private long held() {
        return liveBytes + superseded() + leases.heldBytes();
    }

    /** Everything that is held beside live keys. */
    private long superseded() {
        return supersededBytes + commitBytes + (long) Footprint.PENDING_BYTES * pending.size();
    }

    /** What only open snapshots keep. */
    private long pinnedBytes() {
        return superseded() - windowBytes;
    }

    /** Takes a version that is being committed into the account. Allocates nothing. */
    void add(Version version) {
        VersionChain chain = version.chain();
        versions++;
        keysPutOnce += version == chain ? 1 : 0;
        Version older = version.older();
        if (Version.isLive(older)) {
            keysPutOnce -= older == chain ? 1 : 0;
            long olderBytes = footprint.keyBytes(version.key.length) + footprint.versionBytes(older);
            liveBytes -= olderBytes;
            supersededBytes += olderBytes;
        }
        // The key is among what is superseded now if it was in the account at all.
        if (version.isTombstone()) {
            supersededBytes += footprint.versionBytes(version);
        } else {
            supersededBytes -= older == null ? 0 : footprint.keyBytes(version.key.length);
            liveBytes += footprint.keyBytes(version.key.length) + footprint.versionBytes(version);
        }
    }

    /** What is kept because of a change until its commit leaves the history window, besides what that costs itself. */
    long keptBytes(Version made) {
        Version older = made.older();
        return (Version.isLive(older) ? footprint.versionBytes(older) : 0)
                + (made.isTombstone() ? footprint.versionBytes(made) + footprint.keyBytes(made.key.length) : 0);
    }

    /** Takes a commit into the account that is being taken into the history. Allocates nothing. */
    void keep(Commit commit, long keptBytes) {
        commitBytes += footprint.commitBytes(commit.size());
        windowBytes += keptBytes;
    }

    /** Takes a version out of the account that was not the newest one of a live key, and the value of a first version. */
    private void drop(Version version) {
        versions--;
        supersededBytes -= footprint.versionBytes(version);
        if (version instanceof VersionChain first) {
            first.dropFirst();
        }
    }

    /** After a command with so many changes: drops what has left the history window and what nobody pins any more. */
    void committed(int changes) {
        if (isWindowOver()) {
            keepWindow(SWEPT_PER_WRITTEN_KEY * changes + (windowSlackBytes > 0 ? COMMITS_AT_ONCE : 0));
        }
        if (!pending.isEmpty() || wholeSweepDue) {
            openSnapshots.scan();
            sweep(SWEPT_PER_WRITTEN_KEY * changes);
            keepSnapshotLimit();
        }
        show();
    }

    /** After the compact revision has been set: begins to drop what that gives up. */
    void compacted() {
        keepWindow(SWEEP_BATCH);
        show();
    }

    /** Shows the account to other threads, and has the background thread work if there is work. */
    void show() {
        shownVersions.lazySet(versions);
        shownHeldBytes.lazySet(held());
        Commit oldest = history.get(history.firstKept());
        boolean needed = !frozen && (wholeSweepDue || !pending.isEmpty() || oldest != null && isWindowOver());
        boolean kept = !frozen && oldest != null;
        boolean more = needed && !sweepNeeded || kept && !windowKept;
        if (oldest != null) {
            windowEndNanos.lazySet(history.nanos(history.firstKept()) + limits.historyMillis() * 1_000_000);
        }
        // What has not changed is not written again: each volatile write costs a command as much as many plain ones.
        if (needed != sweepNeeded) {
            sweepNeeded = needed;
        }
        if (kept != windowKept) {
            windowKept = kept;
        }
        if (more) {
            LockSupport.unpark(sweeper);
        }
    }

    // ---- The history window ----

    /** Decides whether a commit has to leave the window, when others that keep so much leave it before. */
    private interface Leaving {
        boolean mustLeave(long revision, long givenUpBytes);
    }

    private final Leaving overBounds = this::mustLeave;

    /** Deals with up to so many changes that have left the window, or have to; bounded, so that a turn is short. */
    private void keepWindow(int maxChanges) {
        giveUp(maxChanges, overBounds);
    }

    /** Whether writers have to give something up. They may let it come to several commits. */
    private boolean isWindowOver() {
        return history.firstKept() <= history.compactRevision()
                || windowBytes > limits.historyBytes() + windowSlackBytes
                || chargedBytes() > limits.memoryBytes();
    }

    private boolean mustLeave(long revision, long givenUpBytes) {
        return revision <= history.compactRevision()
                || windowBytes - givenUpBytes > limits.historyBytes()
                || chargedBytes() - givenUpBytes > limits.memoryBytes();
    }

    /**
     * Gives up the oldest commits of the window as far as they have to leave it, until it has dealt with so many changes
     * of theirs; returns with how many. The compact revision is raised for all of them at once, so that the open snapshots
     * have to be looked at once.
     */
    private int giveUp(int maxChanges, Leaving leaving) {
        if (frozen) {
            return 0;
        }
        long last = history.firstKept() - 1;
        long changes = -changesDone;
        long givenUpBytes = 0;
        for (Commit next;
                changes < maxChanges
                        && (next = history.get(last + 1)) != null
                        && leaving.mustLeave(last + 1, givenUpBytes); ) {
            last++;
            changes += Math.max(1, next.size());
            givenUpBytes += history.keptBytes(last);
        }
        if (last < history.firstKept()) {
            return 0;
        }
        if (last > history.compactRevision()) {
            watches.pass(last);
            history.compact(last);
        }
        openSnapshots.scan(); // After the compact revision has been set, before anything is cut (S4).
        int left = maxChanges;
        while (left > 0 && history.firstKept() <= last) {
            left -= giveUpOldest(left);
        }
        return maxChanges - left;
    }

    /** Deals with up to so many changes of the oldest commit; how many, at least 1. */
    private int giveUpOldest(int maxChanges) {
        Commit oldest = history.get(history.firstKept());
        int end = (int) Math.min(oldest.size(), (long) changesDone + maxChanges);
        int done = Math.max(1, end - changesDone);
        if (oldest.size() == 1 && dropReplaced(oldest)) {
            changesDone = end;
        }
        while (changesDone < end) {
            Version made = oldest.version(changesDone);
            reclaim(made.chain(), made);
            changesDone++;
        }
        if (end == oldest.size()) {
            changesDone = 0;
            commitBytes -= footprint.commitBytes(oldest.size());
            windowBytes -= history.keptBytes(history.firstKept());
            history.removeFirst();
        }
        return done;
    }

    /**
     * Drops what the one change of the oldest commit replaced, if nothing else can be there to drop, or to wait for: then
     * neither what was replaced nor, as a rule, the chain is fetched from memory. False if that is not sure.
     */
    private boolean dropReplaced(Commit oldest) {
        boolean isPinned = openSnapshots.firstPinnedBelow(history.firstKept(), 0) < openSnapshots.pinnedCount();
        Version made = oldest.version(0);
        if (isPinned || !pending.isEmpty() || wholeSweepDue || made.isTombstone()) {
            return false;
        }
        // Nothing waits, so what the compact revision has read of the key until now has nothing behind it (S6).
        long replacedBytes = history.keptBytes(history.firstKept()) - footprint.commitBytes(1);
        if (replacedBytes > 0 && made instanceof Version.Later later) {
            versions--;
            supersededBytes -= replacedBytes;
            if (later.older == later.chain) {
                later.chain.dropFirst();
            }
            later.older = null;
            return true;
        }
        return made instanceof VersionChain; // Else there may be a tombstone behind it.
    }

    /** Has what is older than the window may be leave it; a batch. Whether there may be more. */
    private boolean giveUpAged() {
        long nowNanos = nanoClock.getAsLong();
        long longestNanos = limits.historyMillis() * 1_000_000;
        return giveUp(
                        SWEEP_BATCH,
                        (revision, givenUpBytes) ->
                                nowNanos - history.nanos(revision) > longestNanos || mustLeave(revision, givenUpBytes))
                >= SWEEP_BATCH;
    }

    // ---- Dropping ----

    /** A failure has cut bookkeeping short: look at every chain once. Allocates nothing. */
    void sweepWholeMap() {
        wholeSweepDue = true;
        wholeSweepFrom = Chains.FIRST;
        show();
    }

    /** Looks at up to {@code maxChains} waiting chains again; the open snapshots have been scanned. */
    private void sweep(int maxChains) {
        if (frozen) {
            return;
        }
        for (int i = Math.min(maxChains, pending.size()); i > 0; i--) {
            Map.Entry<VersionChain, Version> first = pending.pollFirstEntry();
            lookBeforeExpiring--;
            reclaim(first.getKey(), first.getValue());
        }
        if (wholeSweepDue) {
            sweepMap(maxChains);
        }
    }

    private void sweepMap(int maxChains) {
        Iterator<VersionChain> rest = chains.up(wholeSweepFrom, null);
        int seen = 0;
        while (rest.hasNext()) {
            VersionChain chain = rest.next();
            if (seen++ == maxChains) {
                wholeSweepFrom = chain.key;
                return;
            }
            // What is newer waits for its commit to leave the window.
            Version read = chains.at(chain, changesDone > 0 ? history.firstKept() : reclaimedRevision());
            if (read != null || chains.newest(chain) == null) {
                reclaim(chain, read);
            }
        }
        wholeSweepDue = false;
        wholeSweepFrom = Chains.FIRST;
    }

    /** Everything that commits up to here have left behind has been dealt with, but for what is pending. */
    private long reclaimedRevision() {
        return history.firstKept() - 1;
    }

    /**
     * Drops what it can behind a version of a chain that the compact revision reads or has read, the whole key if it may,
     * and queues the chain if something has to wait. A chain without versions has none to give.
     */
    private void reclaim(VersionChain chain, Version read) {
        try {
            if (read instanceof Version.Later later && later.older != null) {
                cut(later);
            }
            if (read != null && read.older() != null) {
                pending.put(chain, read);
            } else {
                if (!pending.isEmpty()) {
                    pending.remove(chain);
                }
                if (read == null || read.isTombstone()) {
                    removeTombstone(chain, read);
                }
            }
        } catch (Throwable e) {
            wholeSweepDue = true; // It may be neither clean nor waiting now.
            wholeSweepFrom = Chains.FIRST;
            throw e;
        }
    }

    /** Drops a tombstone that nothing lies behind, and with it the key if nothing lies before it either. */
    private void removeTombstone(VersionChain chain, Version tombstone) {
        Version newer = chains.newest(chain);
        if (newer == tombstone) {
            remove(chain);
            return;
        }
        // If the key has been written much since, the tombstone stays until the next of these leaves the window.
        for (int i = 0; newer instanceof Version.Later later && i < TOMBSTONE_SEARCH; i++, newer = later.older) {
            if (later.older == tombstone) {
                drop(tombstone);
                later.older = null;
                return;
            }
        }
    }

    /**
     * Cuts out of a chain every version behind {@code read} that no pinned revision reads: pinned revision r reads the
     * newest version at or below r (S6). Tombstones at the end go too, since nothing there reads the same.
     */
    private void cut(Version.Later read) {
        Version kept = read;
        Version.Later lastLive = read;
        int pin = 0;
        while (kept instanceof Version.Later later) {
            pin = openSnapshots.firstPinnedBelow(later.revision, pin);
            Version next = later.older;
            while (next != null && (pin == openSnapshots.pinnedCount() || next.revision > openSnapshots.pinned(pin))) {
                drop(next);
                next = next.older();
                later.older = next;
            }
            if (!later.isTombstone()) {
                lastLive = later;
            }
            kept = next;
        }
        while (kept == null && lastLive.older != null) { // Else the chain ends with its first version, which is live.
            drop(lastLive.older);
            lastLive.older = lastLive.older.older();
        }
    }

    private void remove(VersionChain chain) {
        Version newest = chains.newest(chain);
        if (newest != null) {
            drop(newest);
            supersededBytes -= footprint.keyBytes(chain.key.length);
            chains.replace(newest, null); // Absent as before, whether or not the map gets rid of it now.
        }
        chains.remove(chain);
    }

    /** Takes a chain out of the map that a command has put there and then not used. */
    void removeIfEmpty(VersionChain chain) {
        try {
            if (chains.newest(chain) == null) {
                remove(chain);
            }
        } catch (OutOfMemoryError | StackOverflowError e) {
            sweepWholeMap();
        }
    }

    // ---- Expiring ----

    private void keepSnapshotLimit() {
        if (pinnedBytes() <= limits.snapshotBytes()) {
            overSnapshotLimit = false;
            return;
        }
        if (!overSnapshotLimit) {
            overSnapshotLimit = true;
            lookBeforeExpiring = pending.size(); // Perhaps nobody needs it any more.
        }
        sweep(SWEEP_BATCH);
        if (lookBeforeExpiring <= 0
                && pinnedBytes() > limits.snapshotBytes()
                && expireOldest(history.compactRevision())) {
            lookBeforeExpiring = pending.size();
            sweep(SWEEP_BATCH);
        }
    }

    /** Expires the older half of the snapshots that may be and lie below this revision; false if there is none. */
    private boolean expireOldest(long belowRevision) {
        List<Snapshot> candidates = openSnapshots.expirableBelow(belowRevision);
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

    /** Expires snapshots that have been open for too long and keep what the history window does not. */
    private void expireAged() {
        long nowNanos = nanoClock.getAsLong();
        for (Snapshot snapshot : openSnapshots.expirableBelow(history.compactRevision())) {
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
                boolean moreAged = giveUpAged();
                openSnapshots.scan();
                left = Math.min(left, pending.size()) - SWEEP_BATCH;
                sweep(SWEEP_BATCH);
                if (wholeSweepDue || moreAged) {
                    left = Math.max(left, 1);
                }
                show();
                heldNanos += System.nanoTime() - startNanos;
            } finally {
                turn.unlock();
            }
            letOthersWrite(turn);
        }
        return heldNanos;
    }

    /** Between two turns in the background: gives writers that wait theirs, since who unlocks is first to lock again. */
    static void letOthersWrite(ReentrantLock turn) {
        for (int i = 0; i < MAX_COURTESY_PAUSES && turn.hasQueuedThreads(); i++) {
            LockSupport.parkNanos(COURTESY_PAUSE_NANOS);
        }
    }

    private void sweepInBackground() {
        long heldNanos = 0;
        while (!closed) {
            try {
                if (!sweepNeeded) {
                    long idleNanos = windowKept ? windowEndNanos.get() - nanoClock.getAsLong() : Long.MAX_VALUE;
                    if (idleNanos > 0) {
                        LockSupport.parkNanos(this, idleNanos);
                        continue;
                    }
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

    /**
     * Counts everything again (S7), and looks whether chains are in order (S1, S3, S18), nothing is forgotten (S6), and keys are
     * attached to the leases that they name (S16).
     */
    void check(long revision, long keys, long keyBytes, long valueBytes) {
        long countedKeys = 0;
        long countedKeyBytes = 0;
        long countedValueBytes = 0;
        long countedVersions = 0;
        long countedAttached = 0;
        long countedHeldBytes = (long) Footprint.PENDING_BYTES * pending.size() + leases.heldBytes();
        long countedPutOnce = 0;
        Bytes last = null;
        chains.check();
        for (Iterator<VersionChain> up = chains.up(Chains.FIRST, null); up.hasNext(); ) {
            VersionChain chain = up.next();
            Bytes key = chain.key();
            Version newest = chains.newest(chain);
            last = key;
            boolean hasFirst = false;
            if (newest == null) {
                require(wholeSweepDue && chain.value == Version.DROPPED, "S6", key);
                continue;
            }
            require(newest.revision <= revision, "S2", key);
            Version read = chains.at(chain, reclaimedRevision());
            boolean clean = read == null || read.older() == null && (read != newest || !read.isTombstone());
            Version waiting = pending.get(chain);
            boolean waits =
                    waiting != null && (waiting == read || changesDone > 0 && waiting.revision == history.firstKept());
            require(clean || wholeSweepDue || waits, "S6", key);
            if (!newest.isTombstone()) {
                countedKeys++;
                countedPutOnce += newest == chain ? 1 : 0;
                countedKeyBytes += key.length();
                countedValueBytes += newest.value.length;
                if (newest.lease() != 0) {
                    countedAttached++;
                    Leases.Lease lease = leases.findAny(newest.lease());
                    require(lease != null && lease.attached.contains(chain), "S16", key);
                }
            }
            countedHeldBytes += footprint.keyBytes(key.length());
            for (Version version = newest; version != null; version = version.older()) {
                require(version.older() == null || version.older().revision < version.revision, "S3", key);
                hasFirst |= version == chain;
                countedVersions++;
                countedHeldBytes += footprint.versionBytes(version);
            }
            require(hasFirst == (chain.value != Version.DROPPED), "S6", key);
        }
        long countedWindowBytes = 0;
        for (long kept = history.firstKept(); kept <= revision; kept++) {
            Commit commit = history.get(kept);
            require(commit != null && commit.version(0).revision == kept, "S13", null);
            countedHeldBytes += footprint.commitBytes(commit.size());
            countedWindowBytes += history.keptBytes(kept);
        }
        require(countedKeys == keys, "S7: keys", last);
        require(countedKeyBytes == keyBytes, "S7: key bytes", last);
        require(countedValueBytes == valueBytes, "S7: value bytes", last);
        require(countedVersions == versions, "S7: versions", last);
        require(countedPutOnce == keysPutOnce, "S7: keys put once", last);
        require(countedHeldBytes == held(), "S7: held bytes", last);
        require(countedWindowBytes == windowBytes, "S7: window bytes", last);
        require(countedAttached == leases.attachedKeys(), "S16: attached keys", last);
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
