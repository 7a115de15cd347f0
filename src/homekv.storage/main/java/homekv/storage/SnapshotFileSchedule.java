package homekv.storage;

import homekv.storage.SubmissionQueue.Waiting;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Locale;
import java.util.concurrent.CancellationException;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import java.util.function.LongSupplier;

/**
 * When a log writes a snapshot file; the one that is being written; and who waits for it. One is due when somebody wants
 * it, when there is as much log behind the last one as that has bytes, after a time in which anything was logged, or when
 * it would free room on a disk that is short of it.
 *
 * <p>For the log's own thread, but for {@link #join}. A thread that ends with the file writes it; that failing stops
 * nothing. Nothing blocks but {@link #close} and {@link #join}, until a block of the file has been written.
 */
/*
 * The log's thread sees what a task has come to once the task is done, which it says last and then wakes that thread.
 * Whoever wants a file gets one that is begun after that, so while one is being written there are two lists: who waits for
 * it, and who waits for the next.
 */
final class SnapshotFileSchedule {
    /** While the disk is short of room: after how long another snapshot file may free some, since old versions are gone. */
    private static final long FREEING_PAUSE_NANOS = 60_000_000_000L;

    private final Disk disk;
    private final MvccStore store;
    private final LogOptions options;
    private final Consumer<String> notices;
    private final LongSupplier nanoClock;
    private final LongSupplier random;
    private final long storeIdentity;
    private final FreeSpace freeSpace;

    /** Null: files are written in the thread that begins them. */
    private final Thread logThread;

    /** The one that is being written, or null; who waits for it, and who waits for one that is yet to be begun. */
    private Task task;

    private Waiting awaited;
    private Waiting wanted;

    private volatile Thread thread;
    private volatile boolean abandoned;

    private SnapshotFileInfo last;
    private long lastSequence;
    private long lastBytes;

    /** How much log there is behind the last one. */
    private long logBytes;

    /** How much of that there was, up to which record, and when it was, that one was last begun. */
    private long triedLogBytes;

    private long triedSequence;
    private long triedNanos;

    private boolean isShortOfSpace;
    private boolean freesSpace;

    /** @param logThread is woken when a file has been written; null: {@link #begin} writes it */
    SnapshotFileSchedule(
            Disk disk,
            Recovery.Recovered recovered,
            LogOptions options,
            Consumer<String> notices,
            LongSupplier nanoClock,
            LongSupplier random,
            FreeSpace freeSpace,
            Thread logThread) {
        this.disk = disk;
        this.store = recovered.store();
        this.options = options;
        this.notices = notices;
        this.nanoClock = nanoClock;
        this.random = random;
        this.freeSpace = freeSpace;
        this.logThread = logThread;
        storeIdentity = recovered.storeIdentity();
        logBytes = recovered.logBytes();
        lastBytes = recovered.snapshotFileBytes();
        lastSequence = recovered.snapshotFileSequence();
        triedSequence = lastSequence;
        triedNanos = nanoClock.getAsLong();
    }

    /** So much has been logged. */
    void logged(long bytes) {
        logBytes += bytes;
    }

    /** Has somebody answered with a file that is begun after this. */
    void want(Waiting waiting) {
        waiting.next = wanted;
        wanted = waiting;
    }

    /** Looks how much of the disk is free; has a file written that frees some, where that is little and it would. */
    void lookAtFreeSpace() {
        try {
            boolean wasShort = isShortOfSpace;
            isShortOfSpace = freeSpace.look();
            if (isShortOfSpace && (!wasShort || nanoClock.getAsLong() - triedNanos >= FREEING_PAUSE_NANOS)) {
                // A snapshot file takes the place of the log and of the last one, and has no more bytes than the store.
                // Only if it is sure to end well: it takes room before it gives any back.
                long mostBytes = store.counters().heldBytes();
                freesSpace = logBytes + lastBytes > mostBytes && freeSpace.isRoomFor(mostBytes);
            }
        } catch (OutOfMemoryError e) {
            return; // It is looked at again soon.
        }
    }

    /** How long until one has to be begun, where the log has come to this record; 0: now. */
    long untilDueNanos(long sequence) {
        if (task != null) {
            return Long.MAX_VALUE;
        }
        if (wanted != null) {
            return 0;
        }
        if (sequence == triedSequence) {
            return Long.MAX_VALUE;
        }
        if (freesSpace || logBytes - triedLogBytes >= Math.max(options.snapshotLogBytes(), lastBytes)) {
            return 0;
        }
        return options.snapshotIntervalMillis() == 0
                ? Long.MAX_VALUE
                : Math.max(0, triedNanos + options.snapshotIntervalMillis() * 1_000_000 - nanoClock.getAsLong());
    }

    // ---- One file ----

    /** Writes a snapshot file, in a thread of its own where the log has threads. */
    private final class Task implements Runnable {
        private static final long MAX_PAUSE_NANOS = 5_000_000;

        final SnapshotSource source;
        final SnapshotHeader header;
        final long logBytes;
        SnapshotFileInfo written;
        Throwable failure;
        private long wentOnNanos = System.nanoTime();

        /** Written last. */
        volatile boolean done;

        Task(SnapshotSource source, SnapshotHeader header, long logBytes) {
            this.source = source;
            this.header = header;
            this.logBytes = logBytes;
        }

        @Override
        public void run() {
            try (source) {
                written = SnapshotFiles.write(disk, source, header, this::goOn);
                if (!abandoned) { // Else the next start does it.
                    SnapshotFiles.deleteOlder(disk, header.number(), notices);
                }
            } catch (Throwable e) {
                failure = e;
            }
            done = true;
            LockSupport.unpark(logThread);
        }

        private void goOn() {
            if (abandoned) {
                throw new CancellationException("the log is being closed");
            }
            try {
                freeSpace.requireSome();
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            if (logThread != null) {
                // As long as the block took: who reads and writes meanwhile never waits for a processor for long.
                LockSupport.parkNanos(Math.min(MAX_PAUSE_NANOS, System.nanoTime() - wentOnNanos));
                wentOnNanos = System.nanoTime();
            }
        }
    }

    /** Answers who wants one with the last one, if nothing has been logged since; whether that is so. */
    boolean answerWithLast(long sequence) {
        if (last == null || sequence != lastSequence) {
            return false;
        }
        await();
        answer(last, null);
        return true;
    }

    /** Who has wanted one by now waits for the one that is being begun. */
    private void await() {
        awaited = wanted;
        wanted = null;
        freesSpace = false;
    }

    /**
     * Begins the one that holds all up to a record, with the number of the segment that goes on from there. If it cannot
     * be begun, who waits is told.
     */
    void begin(long number, long sequence) {
        await();
        triedLogBytes = logBytes;
        triedSequence = sequence;
        triedNanos = nanoClock.getAsLong();
        try {
            task = task(number, sequence);
            if (logThread != null) {
                thread = Thread.ofPlatform().daemon().name("homekv-snapshot").start(task);
            } else {
                task.run();
            }
        } catch (OutOfMemoryError | IllegalStateException e) {
            if (task != null) {
                task.source.close();
                task = null;
            }
            tellNone(e);
        }
    }

    private Task task(long number, long sequence) {
        store.turn.lock();
        try {
            SnapshotSource source = store.cut();
            try {
                SnapshotHeader header = new SnapshotHeader(
                        storeIdentity,
                        source.historyId(),
                        number,
                        source.revision(),
                        sequence,
                        source.grants(),
                        random.getAsLong());
                return new Task(source, header, logBytes);
            } catch (Throwable e) {
                source.close();
                throw e;
            }
        } finally {
            store.turn.unlock();
        }
    }

    /** Whether {@link #end} has to be called. */
    boolean isDone() {
        return task != null && task.done;
    }

    /** Takes note of the one that has been written, or has failed, and tells who waits. */
    void end() {
        Task ended = task;
        task = null;
        if (ended.failure != null) {
            tellNone(ended.failure);
            return;
        }
        last = ended.written;
        lastSequence = ended.header.sequence();
        lastBytes = ended.written.bytes();
        logBytes -= ended.logBytes;
        triedLogBytes -= ended.logBytes;
        answer(ended.written, null);
        try {
            notices.accept(String.format(
                    Locale.ROOT,
                    "wrote %s: %,d keys at revision %d, %s",
                    ended.written.name(),
                    ended.written.keys(),
                    ended.written.revision(),
                    Notices.megabytes(ended.written.bytes())));
        } catch (OutOfMemoryError e) {
            return; // A line that is not read is nothing to stop for.
        }
    }

    private void tellNone(Throwable e) {
        Throwable told = e;
        try {
            String line = "no snapshot file could be written: " + Notices.reason(e);
            told = new IOException(line, e);
            if (!abandoned) {
                notices.accept(line + "; the log goes on, and another one is tried later");
            }
        } catch (OutOfMemoryError again) {
            told = again;
        }
        answer(null, told);
    }

    private void answer(SnapshotFileInfo info, Throwable e) {
        Waiting each = awaited;
        awaited = null;
        while (each != null) {
            Waiting next = each.next;
            each.answer = info;
            each.failure = e;
            if (abandoned && e != null) {
                each.tellEnded(false);
            } else {
                each.wake();
            }
            each = next;
        }
    }

    // ---- The end ----

    /** The log stops: what is being written is given up, takes no name and deletes nothing. Does not wait for that. */
    void abandon() {
        abandoned = true;
    }

    /** Tells all who wait that the log has ended. Allocates nothing. */
    void tellEnded() {
        Waiting.tellEnded(awaited);
        awaited = null;
        Waiting.tellEnded(wanted);
        wanted = null;
    }

    /** Abandons what is being written, waits until that is so, and tells all who wait what has become of it. */
    void close() {
        abandon();
        while (task != null && !task.done) {
            LockSupport.park(this);
        }
        if (task != null) {
            end();
        }
        tellEnded();
    }

    /** Any thread, once the log's own has ended: returns when no thread writes any more. */
    void join() {
        WriteAheadLog.joinUninterruptibly(thread);
    }
}
