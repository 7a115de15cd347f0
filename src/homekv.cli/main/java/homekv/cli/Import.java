package homekv.cli;

import homekv.rpc.HomeKvClient;
import homekv.rpc.HomeKvException;
import homekv.storage.Bytes;
import homekv.storage.Write;
import java.io.IOException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Sets the pairs of a reader, many in one request and several requests at once, and knows at any time how many lines are
 * in for sure: all those of requests that were answered before which there is none that was not.
 *
 * <p>A key is in one request under way at a time, so that its last pair is the last to be set. A request that the server
 * has no room for beside the others is sent again when it is the only one, and one with a pair that the server does not
 * take is divided until that pair stands alone.
 *
 * <p>One thread reads and waits, a virtual thread for each request sends. Takes as much memory as the requests under way:
 * {@value #MAX_BYTES} bytes and a pair.
 */
final class Import {
    private static final int BATCH_PAIRS = 1_000;
    private static final long BATCH_BYTES = 1 << 20;
    private static final int MAX_BATCHES = 8;
    private static final long MAX_BYTES = 32 << 20;

    /** How often a request is sent again that alone finds no room either, in a good second. */
    private static final int MAX_ATTEMPTS = 6;

    private static final long FIRST_PAUSE_MILLIS = 20;

    /** Pairs of lines that follow each other, set at once where the server takes them so. */
    private static final class Batch {
        final long firstLine;
        final List<Write> writes = new ArrayList<>();
        long bytes;

        // Guarded by the lock of the import.
        int set;
        boolean waits;

        Batch(long firstLine) {
            this.firstLine = firstLine;
        }

        boolean hasRoom(Pair pair) {
            return writes.isEmpty() || writes.size() < BATCH_PAIRS && bytes + bytes(pair) <= BATCH_BYTES;
        }

        void add(Pair pair) {
            writes.add(new Write.Put(pair.key(), pair.value()));
            bytes += bytes(pair);
        }

        private static long bytes(Pair pair) {
            return (long) pair.key().length() + pair.value().length();
        }

        boolean isDone() {
            return set == writes.size();
        }
    }

    private final HomeKvClient client;
    private final PairReader reader;
    private final Progress progress;
    private final long totalBytes;

    private Pair ahead;
    private long leases;

    private final ReentrantLock lock = new ReentrantLock();
    private final Condition changed = lock.newCondition();

    // Guarded by the lock.
    /** Those that have been begun, in the order of their lines, from the first on that is not done. */
    private final Deque<Batch> begun = new ArrayDeque<>();

    private final Set<Bytes> keysUnderWay = new HashSet<>();
    private int underWay;
    private long bytesUnderWay;
    private int maxBatches = MAX_BATCHES;
    private long linesIn;
    private Throwable failure;

    /**
     * An import of what a reader has from here on.
     *
     * @param totalBytes what the reader has in all; 0: nobody knows
     */
    Import(HomeKvClient client, PairReader reader, Progress progress, long totalBytes) {
        this.client = client;
        this.reader = reader;
        this.progress = progress;
        this.totalBytes = totalBytes;
        this.linesIn = reader.lines();
    }

    /** How many lines from the first on are in for sure, those that were skipped included. Any thread. */
    long linesIn() {
        lock.lock();
        try {
            return linesIn;
        } finally {
            lock.unlock();
        }
    }

    /** How many pairs had a lease, which was left out. */
    long leases() {
        return leases;
    }

    /**
     * Sets all pairs. When it fails, no request is under way any more.
     *
     * @throws IOException if the lines cannot be read
     * @throws HomeKvException if the server could not be reached or refused
     * @throws PairReader.WrongLineException if a line is wrong, or the server does not take its pair
     */
    void run() throws IOException, PairReader.WrongLineException, InterruptedException {
        try {
            ahead = reader.next();
            while (ahead != null) {
                Batch batch = read();
                if (!begin(batch)) {
                    break;
                }
                progress.show("import", reader.bytes(), totalBytes, reader.lines(), reader.bytes());
            }
        } finally {
            awaitAll();
        }
        throwFailure();
    }

    private Batch read() throws IOException, PairReader.WrongLineException {
        Batch batch = new Batch(reader.lines());
        while (ahead != null && batch.hasRoom(ahead)) {
            batch.add(ahead);
            leases += ahead.lease() != 0 ? 1 : 0;
            ahead = reader.next();
        }
        return batch;
    }

    /** Sends a batch when there is room for it; false if that is over because another has failed. */
    private boolean begin(Batch batch) throws InterruptedException {
        lock.lock();
        try {
            while (failure == null && !hasRoom(batch)) {
                changed.await();
            }
            if (failure != null) {
                return false;
            }
            begun.add(batch);
            underWay++;
            bytesUnderWay += batch.bytes;
            batch.writes.forEach(write -> keysUnderWay.add(write.key()));
        } finally {
            lock.unlock();
        }
        Thread.ofVirtual().name("import-line-" + batch.firstLine).start(() -> send(batch));
        return true;
    }

    private boolean hasRoom(Batch batch) {
        return underWay == 0
                || underWay < maxBatches
                        && begun.stream().noneMatch(other -> other.waits)
                        && bytesUnderWay + batch.bytes <= MAX_BYTES
                        && batch.writes.stream().noneMatch(write -> keysUnderWay.contains(write.key()));
    }

    private void send(Batch batch) {
        Throwable why = null;
        try {
            set(batch, batch.writes);
        } catch (PairReader.WrongLineException | InterruptedException | RuntimeException | Error e) {
            why = e; // Thrown by the thread that waits.
        }
        lock.lock();
        try {
            failure = failure == null ? why : failure;
            underWay--;
            bytesUnderWay -= batch.bytes;
            batch.writes.forEach(write -> keysUnderWay.remove(write.key()));
            while (!begun.isEmpty() && begun.peek().isDone()) {
                begun.remove();
            }
            changed.signalAll();
        } finally {
            lock.unlock();
        }
    }

    /** Sets the next pairs of a batch. */
    private void set(Batch batch, List<Write> writes) throws PairReader.WrongLineException, InterruptedException {
        try {
            setWhereThereIsRoom(batch, writes);
        } catch (HomeKvException e) {
            if (e.reason() != HomeKvException.Reason.INVALID) {
                throw e;
            }
            if (writes.size() == 1) {
                throw new PairReader.WrongLineException(
                        reader.at(batch.firstLine + batch.set) + Text.oneLine(e.getMessage()), e);
            }
            int half = writes.size() / 2;
            set(batch, writes.subList(0, half));
            set(batch, writes.subList(half, writes.size()));
            return;
        }
        lock.lock();
        try {
            batch.set += writes.size();
            countLinesIn();
        } finally {
            lock.unlock();
        }
    }

    private void setWhereThereIsRoom(Batch batch, List<Write> writes) throws InterruptedException {
        for (int attempt = 0; ; attempt++) {
            try {
                client.set(writes);
                return;
            } catch (HomeKvException e) {
                if (e.reason() != HomeKvException.Reason.NO_ROOM
                        || attempt == MAX_ATTEMPTS
                        || !waitedForOthers(batch)) {
                    throw e;
                }
                // What others took is given back a moment after they were answered.
                Thread.sleep(FIRST_PAUSE_MILLIS << attempt);
            }
        }
    }

    /** Waits until a batch is the first and the others have ended or wait as well; false if one of them has failed. */
    private boolean waitedForOthers(Batch batch) throws InterruptedException {
        lock.lock();
        try {
            maxBatches = Math.max(1, maxBatches / 2);
            batch.waits = true;
            changed.signalAll();
            while (failure == null && !isAlone(batch)) {
                changed.await();
            }
            batch.waits = false;
            return failure == null;
        } finally {
            lock.unlock();
        }
    }

    private boolean isAlone(Batch batch) {
        for (Batch other : begun) {
            if (!other.isDone() && other != batch && (!other.waits || other.firstLine < batch.firstLine)) {
                return false;
            }
        }
        return true;
    }

    private void countLinesIn() {
        for (Batch batch : begun) {
            linesIn = batch.firstLine - 1 + batch.set;
            if (!batch.isDone()) {
                return;
            }
        }
    }

    private void awaitAll() throws InterruptedException {
        lock.lock();
        try {
            while (underWay > 0) {
                changed.await();
            }
        } finally {
            lock.unlock();
        }
    }

    private void throwFailure() throws PairReader.WrongLineException, InterruptedException {
        switch (failure) {
            case null -> {}
            case PairReader.WrongLineException e -> throw e;
            case InterruptedException e -> throw e;
            case RuntimeException e -> throw e;
            case Error e -> throw e;
            default -> throw new AssertionError(failure);
        }
    }
}
