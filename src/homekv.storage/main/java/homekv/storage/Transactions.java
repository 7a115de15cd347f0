package homekv.storage;

import java.util.Iterator;
import java.util.Objects;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Function;
import java.util.function.LongUnaryOperator;

/**
 * Runs functions that must read before they know what to write, each as one serializable transaction.
 *
 * <p>Optimistic: the function runs against a snapshot and holds nothing up. Its writes are committed as one {@link Txn}
 * that checks that nothing which was read has changed; if something has, the function runs again on a newer snapshot,
 * after a pause that grows, a bounded number of times. So the function may run several times, and should do nothing else
 * that matters.
 *
 * <p>Any thread may run any number of transactions at once. A function that writes nothing never conflicts.
 *
 * <p>Source: H. T. Kung and J. T. Robinson, "On Optimistic Methods for Concurrency Control" (1981), backward validation.
 */
public final class Transactions {
    /** Where transactions read and commit: a store in this process, or a server. */
    public interface Source {
        /** Opens a view of the present. */
        View open();

        /** Carries out a transaction; anything but {@link Result.Transacted} is a refusal. */
        Result submit(Txn txn);
    }

    /** One revision, read by one thread. */
    public interface View extends AutoCloseable {
        /** The revision that is read. */
        long revision();

        /** The entry of a key, or null where it is absent. */
        Entry get(Bytes key);

        /** The entries of a range, read as the iterator goes on. */
        Iterator<Entry> scan(Range range, boolean descending);

        @Override
        void close();
    }

    /** How often a function is run before a conflict is the caller's to deal with. */
    public static final int DEFAULT_ATTEMPTS = 64;

    private static final int MAX_PAUSE_SHIFT = 7;

    /** A few commits of others in this process. */
    private static final long FIRST_PAUSE_NANOS = 20_000;

    private final Source source;
    private final int attempts;
    private final long firstPauseNanos;
    private final LongUnaryOperator random;

    /**
     * Transactions over a source.
     *
     * @param attempts how often a function is run at most
     * @param firstPauseNanos the longest pause after the first conflict; it doubles with each one that follows, seven
     *     times at the most
     */
    public Transactions(Source source, int attempts, long firstPauseNanos) {
        this(
                source,
                attempts,
                firstPauseNanos,
                bound -> ThreadLocalRandom.current().nextLong(bound));
    }

    /** For tests: with a source of randomness of their own, which is given a bound. */
    Transactions(Source source, int attempts, long firstPauseNanos, LongUnaryOperator random) {
        if (attempts < 1 || firstPauseNanos < 0) {
            throw new IllegalArgumentException("at least one attempt, and no negative pause");
        }
        this.source = Objects.requireNonNull(source);
        this.attempts = attempts;
        this.firstPauseNanos = firstPauseNanos;
        this.random = random;
    }

    /** Transactions over a store in this process, changed through {@code log}. */
    public Transactions(MvccStore store, CommandLog log) {
        this(store, log, DEFAULT_ATTEMPTS);
    }

    /** The same, with another bound on how often a function is run. */
    public Transactions(MvccStore store, CommandLog log, int attempts) {
        this(new Embedded(store, log), attempts, FIRST_PAUSE_NANOS);
    }

    private record Embedded(MvccStore store, CommandLog log) implements Source {
        Embedded {
            Objects.requireNonNull(store);
            Objects.requireNonNull(log);
        }

        @Override
        public View open() {
            Snapshot snapshot = store.snapshot();
            return new View() {
                @Override
                public long revision() {
                    return snapshot.revision();
                }

                @Override
                public Entry get(Bytes key) {
                    return snapshot.get(key);
                }

                @Override
                public Iterator<Entry> scan(Range range, boolean descending) {
                    return snapshot.scan(range, descending);
                }

                @Override
                public void close() {
                    snapshot.close();
                }
            };
        }

        @Override
        public Result submit(Txn txn) {
            return log.submit(txn);
        }
    }

    /**
     * Runs a function as one transaction and returns what it returned, once its writes are committed.
     *
     * @throws ConflictException if others were faster each time; nothing was changed
     * @throws TransactionRefusedException if its writes were refused; nothing was changed
     * @throws RuntimeException what the function or the source throws; in the function, nothing was changed
     */
    public <T> T run(Function<Transaction, T> function) {
        RuntimeException last = null;
        for (int attempt = 0; attempt < attempts; attempt++) {
            if (attempt > 0) {
                pause(attempt);
            }
            Txn txn;
            T returned;
            try (View view = source.open()) {
                Transaction transaction = new Transaction(view);
                try {
                    returned = function.apply(transaction);
                    txn = transaction.commit();
                } catch (Transaction.StaleException e) {
                    if (e.transaction != transaction) {
                        throw e; // Another's, which this function has used.
                    }
                    last = e;
                    continue;
                } finally {
                    transaction.end();
                }
            }
            if (txn == null) {
                return returned;
            }
            Result result = source.submit(txn);
            if (!(result instanceof Result.Transacted transacted)) {
                throw new TransactionRefusedException(result);
            }
            if (transacted.succeeded()) {
                return returned;
            }
        }
        throw new ConflictException(
                "the transaction conflicted with others " + attempts + " times; try again, or make it shorter", last);
    }

    private void pause(int attempt) {
        long longestNanos = firstPauseNanos << Math.min(attempt - 1, MAX_PAUSE_SHIFT);
        if (longestNanos > 0) {
            LockSupport.parkNanos(this, random.applyAsLong(longestNanos));
        }
    }
}
