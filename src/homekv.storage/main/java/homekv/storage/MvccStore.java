package homekv.storage;

import java.io.IOException;
import java.io.OutputStream;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Function;
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
 * <p>Cost: reading a key, or writing one that is there, is a look-up in a hash table; a key that is new, and the beginning
 * of a range, are searched for in an ordered map, O(log n) comparisons of keys. A key costs about 115 bytes of heap over
 * its own bytes and its value's, and about 48 more once it has been overwritten. Versions that neither the history
 * window nor an open snapshot can read are dropped by the writers that follow, and by a thread of the store's own.
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
 *   1. Stage. Look up every key, make its new version and put it before the older ones, where its revision, one above the
 *      published one, hides it from every reader; put a chain into the map for a key that has none. So the command's
 *      own reads see its writes by reading at its revision. Everything that can fail happens here. A failure unlinks
 *      what was linked, and leaves nothing but empty chains, which read as absent; the next sweep removes them.
 *   2. Commit. Take the new versions into the account and the commit into the history, then publish: one volatile
 *      write of `published` (S2). Plain stores only; nothing is allocated. A failure in here (a stack that overflows)
 *      stops the store: what is linked is never published, and readers go on at the last revision.
 *   3. Reclaim. Give up what has left the history window, and drop what nobody can read any more (S6), by cutting
 *      links. The command is committed by now, so a failure to note a chain for later is made good by a sweep of the
 *      whole map.
 *
 * Example, with a history window of two revisions. Key k has the versions 7 and, pinned by a snapshot at revision 5, 3.
 * A put at revision 9 links 9 -> 7 -> 3 and publishes 9. At revision 12 the compact revision comes to 10; k's version
 * at 9 is what it reads, so nothing behind 9 is needed but what is pinned: the writer finds {5} among the open
 * snapshots and cuts to 9 -> 3. Once the snapshot is closed, the sweep cuts to 9. A deletion at revision 13 makes it
 * 13 (tombstone) -> 9, and once 13 has left the window the key leaves the map.
 */
public final class MvccStore implements AutoCloseable {
    /** The reason of a store that has been closed. */
    private static final Throwable CLOSED = new Throwable("closed");

    private final long id;
    private final Limits limits;
    private final LongSupplier nanoClock;
    private final Chains chains = new Chains();
    private final History history = new History();
    private final Leases leases;
    private final WatchHub watches;
    private final Reclaimer reclaimer;
    private final Admission admission;
    private final Reads reads;
    private final LongAdder gets = new LongAdder();

    /** The one publication point (S2). */
    private volatile Published published = new Published(0, 0, 0, 0, 0, 0, 0);

    /** Held by the writer. Command logs take it; nothing that a reader does needs it. */
    final ReentrantLock turn = new ReentrantLock();

    /** What the last command that has been staged leaves behind, committed or not. The writer's own. */
    private Published staged = published;

    /** The highest revision that a command has compacted to, committed or not. The writer's own. */
    private long stagedCompactRevision;

    /** What the commands that have been staged and not committed may add to the account. The writer's own. */
    private long stagedBytes;

    /** Why the store takes no more commands, or null. The writer's own. */
    private Throwable stopped;

    /** An empty store. Closing it ends the thread that reclaims in the background. */
    public MvccStore(Limits limits) {
        this(limits, System::nanoTime, true, ThreadLocalRandom.current().nextLong());
    }

    /** For tests: with a clock of their own, and without a background thread where they sweep themselves. */
    MvccStore(Limits limits, LongSupplier nanoClock, boolean sweepInBackground) {
        this(limits, nanoClock, sweepInBackground, ThreadLocalRandom.current().nextLong());
    }

    /** An empty store with a number that it may have had before. */
    MvccStore(Limits limits, LongSupplier nanoClock, boolean sweepInBackground, long id) {
        this.id = id;
        this.limits = Objects.requireNonNull(limits);
        this.nanoClock = Objects.requireNonNull(nanoClock);
        OpenSnapshots openSnapshots =
                new OpenSnapshots(limits.openSnapshots(), Runtime.getRuntime().availableProcessors());
        this.leases = new Leases(chains, turn, nanoClock, sweepInBackground);
        this.watches = new WatchHub(this, history, limits.openWatches());
        this.reclaimer = new Reclaimer(
                chains, openSnapshots, history, watches, leases, turn, limits, nanoClock, sweepInBackground);
        this.admission = new Admission(chains, reclaimer, limits);
        this.reads = new Reads(this, chains, openSnapshots, history, reclaimer, nanoClock);
    }

    /** Says through which log the store is changed, so that leases that expire are revoked there, too. */
    void changedThrough(CommandLog log) {
        leases.revokeThrough(log);
    }

    /**
     * A random number that tells this store from every other one, whose revisions have nothing to do with those of this
     * one. Whoever keeps a revision for longer than a store may live keeps this with it. A store that is recovered has the
     * number that it had before if it has everything that anybody can have seen of it, and else a new one.
     */
    public long id() {
        return id;
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
        return reads.open(true);
    }

    /**
     * Opens a view of the store as it was at a revision. Close it soon: what it can see stays in memory.
     *
     * @throws RevisionOutOfRangeException if that revision is older than the history window, or has yet to come
     * @throws IllegalStateException if {@link Limits#openSnapshots()} are open
     */
    public Snapshot snapshot(long revision) {
        return reads.open(true, revision);
    }

    /** The entry of one key now, or null where it is absent. Counts as one get. */
    public Entry get(Bytes key) {
        countGet();
        return reads.get(key);
    }

    /** The entries of several keys, all of one revision. Counts as one get. */
    public Reading get(List<Bytes> keys) {
        Reading reading = read(keys);
        countGet();
        return reading;
    }

    /** The same, not counted: for a server that may yet refuse to send what was found. */
    public Reading read(List<Bytes> keys) {
        return reads.get(keys);
    }

    /**
     * The entries that several keys had at a revision. Not counted.
     *
     * @throws RevisionOutOfRangeException if that revision is older than the history window, or has yet to come
     */
    public Reading read(List<Bytes> keys, long revision) {
        return reads.get(keys, revision);
    }

    /**
     * Has what finding these keys takes fetched from memory, and what is found, for all of them at the same time: for somebody
     * who has several reads or writes to do at once, of a key each, and does this before the first. Gets, sets and deletions
     * of several keys need no such thing. Any thread; changes nothing, counts as nothing, never waits. Costs a third of
     * getting them, and saves more where they are not in the processor's cache.
     */
    public void fetch(List<Bytes> keys) {
        for (int i = 0; i < keys.size(); i += Chains.MOST_FETCHED) {
            chains.fetch(keys, Function.identity(), i);
        }
    }

    /** The same for the first keys that a command writes, before it has its turn. */
    void fetch(Command.Set set) {
        chains.fetch(set.writes(), Write::key, 0);
    }

    /** Counts a {@link #read} as a get. */
    public void countGet() {
        gets.increment();
    }

    /** The newest revision. */
    public long revision() {
        return published.revision();
    }

    /**
     * What a key has been, oldest first: what it was at a revision, if it was there, and every change after that. What
     * the changes replaced is left out.
     *
     * <p>Costs a step for every kept version of the key, however few are wanted.
     *
     * @param from a revision; {@link Counters#compactRevision()} is the first that there is
     * @param max how many to return at most; never more than 65,536
     * @throws RevisionOutOfRangeException if {@code from} is older than the history window, or has yet to come
     */
    public List<Event> history(Bytes key, long from, int max) {
        return reads.history(key, from, max);
    }

    /** What is known of a lease, or null if it has ended. */
    public LeaseStatus lease(long id) {
        return leases.status(id);
    }

    /** All leases that have not ended, in the order of their numbers. Costs as much as there are. */
    public List<LeaseStatus> leases() {
        return leases.all();
    }

    /**
     * Gives a lease its whole time to live again, from now on. No command, and no revision.
     *
     * @return what is known of it then, or null if it has ended or is being ended, or the store has been closed
     */
    public LeaseStatus keepAlive(long id) {
        return leases.keepAlive(id);
    }

    /**
     * Ends a lease and deletes the keys attached to it, through the store's log, a bounded number a revision, with other
     * writers' turns between them.
     *
     * @return {@link Result.Applied} with the revision of the last deletion and how many keys were deleted in all, or
     *     {@link Result.NoLease}
     */
    public Result revoke(long lease) {
        long grant = leases.grant(lease);
        return grant == 0 ? new Result.NoLease(lease) : leases.revoke(lease, grant);
    }

    /**
     * Begins to watch the changes of a range of keys.
     *
     * @param from the first revision whose changes are wanted, or 0 for those that are yet to come
     * @param puts whether puts are wanted
     * @param deletes whether deletions are wanted
     * @param previous whether to return what each key had before
     * @throws RevisionOutOfRangeException if {@code from} is not after the first revision that can be read, or more than
     *     one after the last
     * @throws IllegalStateException if {@link Limits#openWatches()} are open, or the store has been closed
     */
    public Watch watch(Range range, long from, boolean puts, boolean deletes, boolean previous) {
        long newest = published.revision();
        long first = history.compactRevision();
        if (from != 0 && (from <= first || from > newest + 1)) {
            throw new RevisionOutOfRangeException(from, first + 1, newest + 1);
        }
        if (!watches.open()) {
            throw new IllegalStateException(limits.openWatches() + " watches are open, and no more may be; close some");
        }
        return new Watch(this, history, watches, range, from == 0 ? newest : from - 1, puts, deletes, previous);
    }

    /** What the store holds and has done. */
    public Counters counters() {
        long getsSoFar = gets.sum();
        Published now = published;
        return new Counters(
                now.revision(),
                now.keys(),
                now.keyBytes(),
                now.valueBytes(),
                reclaimer.versions(),
                reclaimer.heldBytes(),
                getsSoFar,
                now.sets(),
                now.dels(),
                now.txns(),
                history.compactRevision(),
                leases.count(),
                watches.openWatches());
    }

    // ---- Writing: in the writer's turn ----

    /**
     * Whether a command can be staged beside those that have been and are not committed yet, without anything having to be
     * given up for it. True if there are none.
     */
    boolean fits(Command command) {
        requireTurn();
        return stagedBytes == 0 || admission.fits(command, stagedBytes);
    }

    /** Why there is no room for this command now, or null if there is; see {@link Admission}. Only if it fits. */
    Result.Refused admit(Command command) {
        requireTurn();
        requireGoing();
        return stagedBytes == 0 ? admission.admit(command) : null;
    }

    /** Stages, commits and publishes a command. */
    Result apply(Command command) {
        requireTurn();
        requireGoing();
        admission.forget();
        Staged one = evaluate(command);
        commit(one);
        reclaim(one);
        return one.result();
    }

    /**
     * Evaluates a command, and links what it writes where commands that follow see it and nobody else does (S2), until it
     * is committed. Depends on nothing but the command and what earlier commands made (S8).
     */
    Staged stage(Command command) {
        requireTurn();
        requireGoing();
        long mostBytes = admission.mostBytes(command);
        Staged one = evaluate(command);
        // How much there is to be deleted in a range has not been known before.
        stagedBytes += mostBytes
                + (one.batch() == null ? 0 : admission.deletionBytes(one.batch().deletedKeys()));
        return one;
    }

    /** Takes back the command that has been staged last, because the log cannot keep it. */
    void unstage(Staged last) {
        requireTurn();
        if (last.batch() != null) {
            last.batch().notOrdered();
            undo(last.batch());
            staged = last.batch().last();
        } else if (last.granted() != null) {
            leases.takeBack(last.granted());
        } else if (last.compactRevision() >= 0) {
            stagedCompactRevision = 0; // A lower one than others that are staged does nothing.
        }
    }

    private Staged evaluate(Command command) {
        return switch (command) {
            case Command.Compact compact -> stageCompact(compact.revision());
            case Command.Grant grant -> {
                Leases.Lease granted = leases.stage(grant.lease(), grant.ttlMillis());
                yield granted == null
                        ? Staged.answer(new Result.LeaseExists(grant.lease()))
                        : new Staged(new Result.Applied(staged.revision(), 0), null, granted, -1);
            }
            case Command.Set set -> stage(batch -> batch.set(set));
            case Command.Del del -> stage(batch -> batch.del(del));
            case Txn txn -> stage(batch -> batch.transact(txn));
            case Command.Revoke revoke -> stage(batch -> batch.revoke(revoke));
        };
    }

    private Staged stageCompact(long revision) {
        long first = Math.max(history.compactRevision(), stagedCompactRevision);
        long last = staged.revision();
        if (revision < first || revision > last) {
            return Staged.answer(new Result.OutOfRange(revision, first, last));
        }
        stagedCompactRevision = revision;
        return new Staged(new Result.Applied(last, 0), null, null, revision);
    }

    private Staged stage(Function<Batch, Result> command) {
        Batch batch = new Batch(staged, chains, leases, limits, reclaimer);
        Result result;
        try {
            result = command.apply(batch);
            batch.prepare(nanoClock);
            history.reserve(batch.next().revision());
        } catch (Batch.RefusedException e) {
            undo(batch);
            return Staged.answer(e.result);
        } catch (Throwable e) {
            undo(batch);
            reclaimer.sweepWholeMap(); // Takes out a chain that was put into the map and not used any more.
            throw e;
        }
        batch.ordered();
        staged = batch.next();
        return new Staged(result, batch, null, -1);
    }

    /** Commits and publishes commands in the order in which they were staged: all that have been. */
    void commit(List<Staged> group) {
        requireTurn();
        requireGoing();
        stagedBytes = 0; // Also what was taken back again counted till here.
        for (Staged one : group) {
            commit(one);
        }
        for (Staged one : group) {
            reclaim(one); // Not before: what is staged and not in the account yet counts on what it replaces.
        }
    }

    private void commit(Staged one) {
        if (one.batch() != null) {
            commit(one.batch());
            watches.published();
        } else if (one.granted() != null) {
            leases.begin(one.granted());
        } else if (one.compactRevision() > history.compactRevision()) {
            watches.pass(one.compactRevision());
            history.compact(one.compactRevision());
        }
    }

    /** What becomes of what a committed command leaves behind. It is committed all the same if that fails. */
    private void reclaim(Staged one) {
        try {
            if (one.batch() != null) {
                reclaimer.committed(one.batch().count());
            } else if (one.compactRevision() >= 0) {
                reclaimer.compacted();
            } else if (one.granted() != null) {
                reclaimer.show();
            }
        } catch (OutOfMemoryError | StackOverflowError e) {
            reclaimer.sweepWholeMap(); // What was not reclaimed now is reclaimed later.
        }
    }

    private void undo(Batch batch) {
        try {
            batch.undo();
        } catch (Throwable e) {
            stop(e);
            throw e;
        }
        for (int i = 0; i < batch.count(); i++) {
            reclaimer.removeIfEmpty(batch.touched(i));
        }
    }

    private void commit(Batch batch) {
        try {
            if (published != batch.last()) {
                throw new AssertionError("S8: commands are committed in another order than they were staged in");
            }
            Commit commit = batch.commit();
            if (commit != null) {
                for (int i = 0; i < commit.size(); i++) {
                    commit(commit.version(i), commit.size());
                }
                history.append(commit, batch.commitNanos(), batch.keptBytes());
                reclaimer.keep(commit, batch.keptBytes());
            }
            published = batch.next();
            letGoOfLeases(batch);
        } catch (Throwable e) {
            stop(e);
            throw e;
        }
    }

    private void commit(Version version, int changes) {
        Version older = version.older();
        // Of a single change there can be no other version.
        if (changes > 1 && chains.at(version.chain(), version.revision) != version) {
            throw new AssertionError("S5: a command gives " + version.key() + " two versions");
        }
        if (older != null && older.revision >= version.revision) {
            throw new AssertionError(
                    "S3: revision " + version.revision + " follows " + older.revision + " in " + version.key());
        }
        reclaimer.add(version);
    }

    /** After publishing, so that nobody finds a lease gone whose keys are still to be seen. */
    private void letGoOfLeases(Batch batch) {
        for (int i = 0; i < batch.count(); i++) {
            Version version = batch.commit().version(i);
            long before = Version.lease(version.older());
            if (before != version.lease()) {
                leases.hold(version.lease());
                leases.letGo(before, version.chain());
            }
        }
        if (batch.revoked() != null) {
            leases.revoke(batch.revoked());
        }
    }

    /**
     * Takes no more commands, and never shows what has been staged. Plain stores: there may be neither heap nor stack for
     * anything else.
     */
    void stop(Throwable failure) {
        stopped = failure;
        reclaimer.frozen = true;
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
        leases.close();
        watches.close();
        reclaimer.close();
        turn.lock();
        try {
            stopped = stopped == null ? CLOSED : stopped;
        } finally {
            turn.unlock();
        }
    }

    // ---- For logs that keep it ----

    /**
     * Does to the store what a record says a command has done to it before. In the turn.
     *
     * @throws IllegalArgumentException if the record does not follow what is there; the message says why
     */
    void replay(LogRecord record) {
        requireTurn();
        requireGoing();
        switch (record) {
            case LogRecord.Committed committed -> {
                Staged one = stage(batch -> batch.replay(committed));
                commit(one);
                reclaim(one);
            }
            case LogRecord.Granted granted -> {
                if (!leases.restore(new LeaseLeft(
                        granted.lease(), granted.ttlMillis(), granted.ttlMillis(), granted.grant(), false))) {
                    throw new IllegalArgumentException("lease " + granted.lease() + " is granted twice");
                }
                reclaimer.show();
            }
            case LogRecord.Compacted compacted -> {
                if (compacted.revision() > published.revision()) {
                    throw new IllegalArgumentException("revision " + compacted.revision()
                            + " is compacted, after revision " + published.revision());
                }
                Staged one = new Staged(null, null, null, compacted.revision());
                commit(one);
                reclaim(one);
            }
            case LogRecord.Closed closed -> {}
        }
    }

    /** What a snapshot file holds of the store as it is now. In the turn, with nothing staged; close it soon. */
    SnapshotSource cut() {
        requireTurn();
        return cut(reads.open(false));
    }

    private SnapshotSource cut(Snapshot snapshot) {
        try {
            return new SnapshotSource(id, history, chains, snapshot, leases.left(), leases.grants());
        } catch (Throwable e) {
            snapshot.close();
            throw e;
        }
    }

    /**
     * Writes a snapshot file of the store as it is now to a stream, from which another store can be begun
     * ({@link WriteAheadLog#restore}). Any thread; blocks it until all is written. Reads and writes go on meanwhile;
     * versions that the file needs are kept until then, within the limits that every {@link Snapshot} has.
     *
     * @throws IOException what the stream throws
     * @throws SnapshotExpiredException if the stream takes too long; what has been written is of no use
     * @throws IllegalStateException if {@link Limits#openSnapshots()} are open; nothing has been written
     */
    public SnapshotFileInfo backup(OutputStream out) throws IOException {
        SnapshotSource source;
        turn.lock();
        try {
            source = cut(snapshot());
        } finally {
            turn.unlock();
        }
        try (source) {
            long salt = ThreadLocalRandom.current().nextLong();
            SnapshotHeader header = new SnapshotHeader(id, id, 0, source.revision(), 0, source.grants(), salt);
            return SnapshotFileWriter.write(source, header, out, () -> {});
        }
    }

    /** Fills this store, which is empty, with what a snapshot file holds. In the turn. */
    StoreLoader loader() {
        requireTurn();
        return new StoreLoader(chains, leases, history, reclaimer, nanoClock, saved -> {
            staged = saved;
            published = saved;
        });
    }

    /** Every lease, and how much time each has left. In the turn. */
    List<LeaseLeft> leasesLeft() {
        requireTurn();
        return leases.left();
    }

    /** After recovery: the time that these leases have left; all others have a whole time to live again. */
    void resetLeaseTimes(List<LeaseLeft> known) {
        requireTurn();
        leases.resetTimes(known);
    }

    // ---- For tests ----

    /** Revokes the leases whose deadline has passed, as the background thread does. */
    void expireLeases() {
        leases.expire();
    }

    /** How many watches wait for a change. */
    int waitingWatches() {
        return watches.waiting();
    }

    /** Up to which revision all commits have been held against the watches that wait. */
    long watchedUpTo() {
        return watches.passed();
    }

    /** Looks at everything that waits to be reclaimed, as the background thread does. */
    void sweep() {
        reclaimer.sweepRound();
    }

    /** Walks the whole store in a turn and throws an AssertionError if what it finds breaks S1, S3, S6 or S7. */
    void checkInvariants() {
        turn.lock();
        try {
            Published now = published;
            reclaimer.check(now.revision(), now.keys(), now.keyBytes(), now.valueBytes());
        } finally {
            turn.unlock();
        }
    }
}
