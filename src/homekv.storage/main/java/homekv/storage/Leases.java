package homekv.storage;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.NavigableSet;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongSupplier;

/**
 * The leases that there are, which keys are attached to each, and when each ends (S16).
 *
 * <p>Which leases there are and what is attached changes by commands alone, in the writer's turn. Deadlines are no part
 * of that: any thread may move one by keeping a lease alive, and the thread that finds one passed submits a command.
 */
/*
 * A deadline leaves the living once, by compare and set to EXPIRED; whoever does that revokes the lease, and from then on
 * it cannot be kept alive. So a lease that has been kept alive with success is not on its way to be revoked.
 */
final class Leases implements AutoCloseable {
    /** In place of a deadline: it has passed, and a command will end the lease. */
    private static final long EXPIRED = Long.MIN_VALUE;

    /** How long the store waits when the disk of its log has no room for ending a lease. */
    private static final long RETRY_NANOS = 1_000_000_000;

    /** How many keys of an ended lease one command deletes. */
    static final int KEYS_PER_REVOKE = 1_000;

    static final class Lease {
        final long id;
        final long ttlMillis;

        /** Nanoseconds since the store was opened, or EXPIRED. */
        final AtomicLong deadline;

        /** Live keys whose newest version names this lease, committed or not; the writer's own. */
        final NavigableSet<VersionChain> attached =
                new TreeSet<>((one, other) -> Arrays.compareUnsigned(one.key, other.key));

        /** Whether the command that grants it has been committed. */
        volatile boolean begun;

        /** Whether it takes no more keys; the writer's own. */
        boolean revoked;

        /** Whether the command that revokes it has been committed; the writer's own. */
        boolean ended;

        /** How many keys have it as far as anybody can see. */
        volatile int attachedCount;

        /** Which grant of the store's it comes from, since its number may be granted again when it has ended. */
        final long grant;

        /** The lease that takes its number, once it is over; the writer's own. */
        Lease successor;

        /** Its place among those that are due, under the lock; the deadline may have been moved on since. */
        long queuedDeadline;

        Lease(long id, long ttlMillis, long deadline, long grant) {
            this.id = id;
            this.ttlMillis = ttlMillis;
            this.deadline = new AtomicLong(deadline);
            this.grant = grant;
            this.queuedDeadline = deadline;
        }
    }

    private final Chains chains;
    private final ReentrantLock turn;
    private final LongSupplier nanoClock;
    private final long originNanos;
    private final boolean inBackground;
    private final ConcurrentHashMap<Long, Lease> byId = new ConcurrentHashMap<>();

    /** Guards what follows; never held while anything else is waited for. */
    private final ReentrantLock lock = new ReentrantLock();

    private final NavigableSet<Lease> due = new TreeSet<>(
            Comparator.comparingLong((Lease lease) -> lease.queuedDeadline).thenComparingLong(lease -> lease.grant));

    private Thread expirer;
    private volatile boolean closed;

    /** How many leases have been granted; the writer's own. */
    private long grants;

    /** How many there are that have begun and not ended. */
    private volatile long count;

    /** Where expired leases are revoked. */
    private volatile CommandLog log;

    Leases(Chains chains, ReentrantLock turn, LongSupplier nanoClock, boolean inBackground) {
        this.chains = chains;
        this.turn = turn;
        this.nanoClock = nanoClock;
        this.originNanos = nanoClock.getAsLong();
        this.inBackground = inBackground;
    }

    void revokeThrough(CommandLog commandLog) {
        lock.lock();
        try {
            log = commandLog;
            if (!due.isEmpty()) {
                wakeExpirer();
            }
        } finally {
            lock.unlock();
        }
    }

    /** Under the lock. */
    private void wakeExpirer() {
        if (inBackground && log != null && expirer == null && !closed) {
            expirer = Thread.ofPlatform().daemon().name("homekv-leases").start(this::expireInBackground);
        }
        LockSupport.unpark(expirer);
    }

    private long now() {
        return nanoClock.getAsLong() - originNanos;
    }

    // ---- In the writer's turn ----

    /** The lease if keys may be attached to it, else null. */
    Lease find(long id) {
        Lease lease = findAny(id);
        return lease == null || lease.revoked ? null : lease;
    }

    /** The lease, ended or not, or null; as commands that are staged leave it. */
    Lease findAny(long id) {
        Lease lease = byId.get(id);
        while (lease != null && lease.successor != null) {
            lease = lease.successor;
        }
        return lease;
    }

    /** A lease that begins once it is committed; null if there is one with this number. */
    Lease stage(long id, long ttlMillis) {
        Lease lease = new Lease(id, ttlMillis, now() + ttlMillis * 1_000_000, grants + 1);
        Lease before = findAny(id);
        if (before == null) {
            add(lease);
        } else if (isOver(before)) {
            queue(lease);
            before.successor = lease;
        } else {
            return null;
        }
        grants++;
        return lease;
    }

    /** Whether a lease is gone once the commands that are staged have been committed. */
    private boolean isOver(Lease lease) {
        if (!lease.revoked) {
            return false;
        }
        for (VersionChain chain : lease.attached) {
            if (Version.lease(chains.newest(chain)) == lease.id) {
                return false;
            }
        }
        return true;
    }

    /** A lease that was staged last and does not begin. */
    void takeBack(Lease lease) {
        if (!byId.remove(lease.id, lease)) {
            Lease before = byId.get(lease.id);
            while (before.successor != lease) {
                before = before.successor;
            }
            before.successor = null;
        }
        lock.lock();
        try {
            due.remove(lease);
        } finally {
            lock.unlock();
        }
        grants--;
    }

    private boolean add(Lease lease) {
        if (byId.putIfAbsent(lease.id, lease) != null) {
            return false;
        }
        try {
            queue(lease);
        } catch (Throwable e) {
            byId.remove(lease.id);
            throw e;
        }
        return true;
    }

    private void queue(Lease lease) {
        lock.lock();
        try {
            due.add(lease);
            wakeExpirer();
        } finally {
            lock.unlock();
        }
    }

    /** The lease's time begins now, and everybody can see it. */
    void begin(Lease lease) {
        if (byId.get(lease.id) != lease) {
            throw new AssertionError("S16: lease " + lease.id + " begins before the one that had its number is gone");
        }
        long deadline = lease.deadline.get();
        if (deadline != EXPIRED) {
            lease.deadline.compareAndSet(deadline, now() + lease.ttlMillis * 1_000_000);
        }
        lease.begun = true;
        count++;
    }

    /** A lease as it was kept; false if there is one with this number. */
    boolean restore(LeaseLeft left) {
        Lease lease = new Lease(left.id(), left.ttlMillis(), now() + left.leftMillis() * 1_000_000, left.grant());
        if (!add(lease)) {
            return false;
        }
        if (left.ended()) {
            lease.revoked = true;
            lease.ended = true;
            lease.deadline.set(EXPIRED);
        }
        grants = Math.max(grants, left.grant());
        lease.begun = true;
        count++;
        return true;
    }

    /** Sets how much time every lease has left that is among these, and for all others a whole time to live. */
    void resetTimes(List<LeaseLeft> known) {
        Map<Long, LeaseLeft> knownById = new HashMap<>();
        known.forEach(left -> knownById.put(left.id(), left));
        long now = now();
        for (Lease lease : byId.values()) {
            LeaseLeft left = knownById.get(lease.id);
            boolean same = left != null && left.grant() == lease.grant;
            if (lease.deadline.get() != EXPIRED) {
                lease.deadline.set(now + (same ? left.leftMillis() : lease.ttlMillis) * 1_000_000);
            }
        }
        lock.lock();
        try {
            // A deadline may have come to lie before that under which its lease is queued.
            due.clear();
            for (Lease lease : byId.values()) {
                lease.queuedDeadline = lease.deadline.get();
                due.add(lease);
            }
        } finally {
            lock.unlock();
        }
    }

    /** So many had been granted before the store was begun. */
    void grantedBefore(long earlierGrants) {
        grants = Math.max(grants, earlierGrants);
    }

    long grants() {
        return grants;
    }

    /** Every lease, and how much time each has left. */
    List<LeaseLeft> left() {
        List<LeaseLeft> all = new ArrayList<>();
        for (Lease lease : byId.values()) {
            if (lease.begun) {
                LeaseStatus status = status(lease);
                all.add(new LeaseLeft(lease.id, lease.ttlMillis, status.leftMillis(), lease.grant, lease.ended));
            }
        }
        return all;
    }

    /** A live key's newest version has come to name this lease. */
    void attach(long id, VersionChain chain) {
        if (id != 0) {
            Lease lease = findAny(id);
            boolean before = lease.attached.contains(chain);
            try {
                lease.attached.add(chain);
            } catch (Throwable e) {
                if (!before) {
                    lease.attached.remove(chain); // A set that runs out of memory may have taken it in.
                }
                throw e;
            }
        }
    }

    /** A key that can be seen has come to have this lease. */
    void hold(long id) {
        Lease lease = id == 0 ? null : byId.get(id);
        if (lease != null) {
            lease.attachedCount++;
        }
    }

    /** The key's newest version no longer names this lease. */
    void detach(long id, VersionChain chain) {
        detach(id == 0 ? null : findAny(id), chain);
    }

    private void detach(Lease lease, VersionChain chain) {
        if (lease != null) {
            lease.attached.remove(chain);
            removeIfOver(lease);
        }
    }

    /**
     * The key named this lease before the command that is being committed; perhaps one that is staged names it again, or
     * another one that takes its number.
     */
    void letGo(long id, VersionChain chain) {
        Lease lease = id == 0 ? null : byId.get(id);
        if (lease != null) {
            lease.attachedCount--;
            if (lease.successor != null || Version.lease(chains.newest(chain)) != id) {
                detach(lease, chain);
            }
        }
    }

    /** The lease takes no more keys, and is gone once it has none. */
    void revoke(Lease lease) {
        lease.revoked = true;
        lease.ended = true;
        lease.deadline.set(EXPIRED);
        removeIfOver(lease);
    }

    private void removeIfOver(Lease lease) {
        if (lease.ended && lease.attached.isEmpty()) {
            boolean removed = lease.successor == null
                    ? byId.remove(lease.id, lease)
                    : byId.replace(lease.id, lease, lease.successor); // Which takes no memory.
            if (removed) {
                count--;
            }
            lock.lock();
            try {
                due.remove(lease);
            } finally {
                lock.unlock();
            }
        }
    }

    /** What all leases without their keys cost. Any thread. */
    long heldBytes() {
        return (long) Footprint.LEASE_BYTES * byId.mappingCount();
    }

    /** How many keys are attached to leases; -1: what is shown of that is something else. With nothing staged. */
    long attachedKeys() {
        long keys = 0;
        for (Lease lease : byId.values()) {
            if (lease.attachedCount != lease.attached.size()) {
                return -1;
            }
            keys += lease.attached.size();
        }
        return keys;
    }

    // ---- Any thread ----

    long count() {
        return count;
    }

    /** Moves the deadline of a lease to a whole time to live from now; null if it has ended. */
    LeaseStatus keepAlive(long id) {
        Lease lease = begun(id);
        if (lease == null) {
            return null;
        }
        long renewed = now() + lease.ttlMillis * 1_000_000;
        for (long deadline; (deadline = lease.deadline.get()) < renewed; ) {
            if (deadline == EXPIRED) {
                return null;
            }
            if (lease.deadline.compareAndSet(deadline, renewed)) {
                break;
            }
        }
        return closed ? null : status(lease); // A log writes down the times once it is closed; this may come too late.
    }

    /** What is known of a lease; null if it has ended. */
    LeaseStatus status(long id) {
        Lease lease = begun(id);
        return lease == null ? null : status(lease);
    }

    private Lease begun(long id) {
        Lease lease = byId.get(id);
        return lease == null || !lease.begun ? null : lease;
    }

    private LeaseStatus status(Lease lease) {
        long deadline = lease.deadline.get();
        // Rounded up: whoever waits as long as this says finds it ended.
        long leftMillis = deadline == EXPIRED ? 0 : Math.max(1, Math.ceilDiv(deadline - now(), 1_000_000));
        return new LeaseStatus(lease.id, lease.ttlMillis, leftMillis, lease.attachedCount);
    }

    List<LeaseStatus> all() {
        return byId.values().stream()
                .filter(lease -> lease.begun)
                .map(this::status)
                .sorted(Comparator.comparingLong(LeaseStatus::id))
                .toList();
    }

    // ---- Expiring ----

    /**
     * Revokes every lease whose deadline has passed, a bounded number of keys a command. Not in a turn. Returns whether it
     * could; else it is worth trying again in a while.
     */
    boolean expire() {
        for (Lease lease; (lease = takeExpired()) != null; ) {
            if (revoke(lease.id, lease.grant) instanceof Result.DiskFull) {
                return false; // It stays first in the queue.
            }
            if (byId.get(lease.id) == lease) {
                throw new AssertionError("S16: lease " + lease.id + " has been revoked and is there");
            }
        }
        return true;
    }

    /** Revokes one lease through the log, with other writers' turns in between; what came of it. Not in a turn. */
    Result revoke(long id, long grant) {
        Result first = log.submit(new Command.Revoke(id, KEYS_PER_REVOKE, grant));
        if (!(first instanceof Result.Applied last)) {
            return first;
        }
        int deleted = last.deletedKeys();
        // The number may have been granted again meanwhile, but then it is another grant.
        for (Lease lease; (lease = byId.get(id)) != null && lease.grant == grant; ) {
            Reclaimer.letOthersWrite(turn);
            Result result = log.submit(new Command.Revoke(id, KEYS_PER_REVOKE, grant));
            if (result instanceof Result.DiskFull) {
                return result; // The keys that are left go when it is revoked again, or by themselves.
            }
            if (!(result instanceof Result.Applied next) || next.deletedKeys() == 0) {
                break;
            }
            deleted += next.deletedKeys();
            last = next;
        }
        return new Result.Applied(last.revision(), deleted);
    }

    /** The grant of a lease that has not ended; 0: there is none. */
    long grant(long id) {
        Lease lease = begun(id);
        return lease == null ? 0 : lease.grant;
    }

    /**
     * A lease that is marked as expired and not gone yet, or null. It stays first in the queue until it is gone, so that
     * whatever fails meanwhile, it is found again.
     */
    private Lease takeExpired() {
        lock.lock();
        try {
            while (!due.isEmpty() && due.first().queuedDeadline < now()) {
                Lease lease = due.first();
                long deadline = lease.deadline.get();
                if (deadline == EXPIRED
                        || deadline == lease.queuedDeadline && lease.deadline.compareAndSet(deadline, EXPIRED)) {
                    return lease;
                }
                if (deadline != lease.queuedDeadline) {
                    due.remove(lease); // Kept alive meanwhile.
                    lease.queuedDeadline = deadline;
                    due.add(lease);
                }
            }
            return null;
        } finally {
            lock.unlock();
        }
    }

    private void expireInBackground() {
        while (!closed) {
            try {
                boolean all = expire();
                lock.lock();
                long waitNanos;
                try {
                    waitNanos = !all
                            ? RETRY_NANOS
                            : due.isEmpty() ? Long.MAX_VALUE : due.first().queuedDeadline - now() + 1;
                } finally {
                    lock.unlock();
                }
                if (waitNanos > 0 && !closed) {
                    LockSupport.parkNanos(this, waitNanos);
                }
            } catch (OutOfMemoryError e) {
                LockSupport.parkNanos(this, 100_000_000); // The leases that are due are found again.
            } catch (IllegalStateException e) {
                return; // The log has stopped, or the store has been closed: nothing can be revoked any more.
            }
        }
    }

    @Override
    public void close() {
        closed = true;
        lock.lock();
        try {
            LockSupport.unpark(expirer);
        } finally {
            lock.unlock();
        }
    }
}
