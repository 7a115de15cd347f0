package homekv.storage;

import homekv.storage.SubmissionQueue.Waiting;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.function.LongSupplier;

/**
 * The command log that writes what every command changes to a directory before anybody sees it, and from which the
 * store is there again when the directory is opened the next time.
 *
 * <p>Any number of threads, virtual ones included, may submit at once; they wait, and one thread of the log's own does
 * the rest. It takes all commands that wait, as a <em>group</em>, stages them, appends their effects to the log, forces
 * the log to the disk once, and then publishes the group and answers its callers. A command that comes alone does not
 * wait for others to join it. Interrupting a thread that submits changes nothing; it finds itself interrupted
 * afterwards.
 *
 * <p>{@link #open} reads the whole directory and blocks until the store is there; {@link #submit} blocks until the
 * command is as durable as {@link LogOptions#durability()} says; {@link #writeSnapshotFile} until the file is written;
 * {@link #close} until everything that was submitted before is done. Reads of {@link #store()} never wait for any of
 * it.
 *
 * <p>Cost: one force a group, whatever the number of its commands; about 60 bytes of log for a command, and 15 for each
 * of its writes, over its keys and values. A thread of its own writes snapshot files, as many bytes as the log at the
 * most.
 *
 * <p>Limits: a group is ended by 4 MiB of log, 10,000 commands, or answers of 100,000 parts. Where less of the disk is
 * free than {@link LogOptions#minFreeBytes()}, commands that put or grant are answered {@link Result.DiskFull}, below a
 * quarter of it all that would be logged; each is taken again once there is room.
 *
 * <p>Errors: if anything that the log writes fails, it stops for good, because after a failed force nobody can know
 * what the disk has, and trying again would not tell. Who waits gets a {@link LogStoppedException}; reads go on;
 * opening the directory anew brings back what was answered, whole. That a snapshot file cannot be written stops
 * nothing.
 *
 * <p>Source: D. J. DeWitt et al., "Implementation Techniques for Main Memory Database Systems" (1984), section 5, for
 * group commit; C. Mohan et al., "ARIES" (1992), for the log.
 */
/*
 * For maintainers. What is written below with "the log's own" belongs to the log's own thread, and needs no lock.
 *
 * A group, and what a failure after each step means:
 *
 *   1. Take the turn, which is kept until the group is published. Stage each command, and encode its effect. A command
 *      for which there is not enough memory is answered so alone. Anything else that is thrown stops the log: nothing
 *      was written.
 *   2. Append, force. A failure stops the log, and whether the group is on the disk is not known. Staged versions lie
 *      above the published revision, and as the store is stopped, nobody will ever see them.
 *   3. Commit and publish, in order. A failure stops the log and the store; the group is on the disk and will be there
 *      when the directory is opened again, so its outcome counts as unknown, too.
 *   4. Let the turn go, and wake those who wait.
 *
 * Example: a force takes 2 ms and 64 threads submit without end. While one group is being forced, those who were
 * answered before it submit again and wait; the next group takes all of them. So there are 500 forces a second, and
 * some 30,000 commands. One thread alone has 500 forces and 500 commands.
 */
public final class WriteAheadLog implements CommandLog, AutoCloseable {
    /** What ends a group: bytes of log, commands, and parts of answers, so that it does not hold the turn for long. */
    static final int GROUP_BYTES = 4 << 20;

    static final int GROUP_COMMANDS = 10_000;

    static final int GROUP_ANSWER_PARTS = 100_000;

    private final Disk disk;
    private final MvccStore store;
    private final LogOptions options;
    private final Consumer<String> notices;
    private final boolean inBackground;
    private final FreeSpace freeSpace;

    private final Thread logThread;
    private final SubmissionQueue queue;
    private final SnapshotFileSchedule snapshotFiles;
    private final LogWriter writer;

    // ---- The log's own ----

    private final ArrayList<Waiting> group = new ArrayList<>(GROUP_COMMANDS);
    private final ArrayList<Staged> staged = new ArrayList<>(GROUP_COMMANDS);

    /** Whether some of the group may be on the disk. */
    private boolean appending;

    // ---- The end ----

    private volatile String failure;
    private final FailureActions failureActions;
    private final ReentrantLock closeLock = new ReentrantLock();
    private boolean closed;

    // ---- Opening ----

    /**
     * Opens a data directory, which is created if it is not there, and recovers what it holds.
     *
     * @param notices is given a line for whatever somebody who runs a server may want to know: progress, what was
     *     recovered, cut off or given up, snapshot files that could not be written. Called by several threads, one at a
     *     time; must not block for long, and must not throw
     * @throws DataDirectoryException if the directory cannot be used as it is; the message is one line for its user
     * @throws IOException if reading or writing fails
     */
    public static WriteAheadLog open(Path directory, Limits limits, LogOptions options, Consumer<String> notices)
            throws IOException {
        return open(FileDisk.open(directory), limits, options, notices, System::nanoTime, RANDOM, true);
    }

    private static final LongSupplier RANDOM = () -> ThreadLocalRandom.current().nextLong();

    /**
     * The same on any disk, which it closes in the end.
     *
     * @param inBackground whether the log has threads of its own; else each group runs in the thread that submits it,
     *     and snapshot files are written by {@link #runSnapshotFile}
     */
    static WriteAheadLog open(
            Disk disk,
            Limits limits,
            LogOptions options,
            Consumer<String> notices,
            LongSupplier nanoClock,
            LongSupplier random,
            boolean inBackground)
            throws IOException {
        Objects.requireNonNull(limits);
        Objects.requireNonNull(options);
        Consumer<String> oneAtATime = Notices.oneAtATime(notices);
        if (!disk.lock(false)) {
            throw Recovery.inUse(disk); // It has nothing that would have to be closed.
        }
        MvccStore recovered = null;
        WriteAheadLog log = null;
        try {
            Recovery.Recovered from = Recovery.run(disk, limits, options, oneAtATime, nanoClock, random, inBackground);
            recovered = from.store();
            WriteAheadLog opened = new WriteAheadLog(disk, from, options, oneAtATime, nanoClock, random, inBackground);
            opened.start();
            log = opened; // From here on closing it closes all the rest.
            opened.expireLeases();
            return log;
        } finally {
            if (log == null) {
                try (disk) {
                    if (recovered != null) {
                        recovered.close();
                    }
                }
            }
        }
    }

    private WriteAheadLog(
            Disk disk,
            Recovery.Recovered recovered,
            LogOptions options,
            Consumer<String> notices,
            LongSupplier nanoClock,
            LongSupplier random,
            boolean inBackground)
            throws IOException {
        this.disk = disk;
        this.store = recovered.store();
        this.options = options;
        this.notices = notices;
        this.inBackground = inBackground;
        failureActions = new FailureActions(notices);
        freeSpace = new FreeSpace(disk, options.minFreeBytes(), nanoClock, notices);
        logThread =
                inBackground ? Thread.ofPlatform().daemon().name("homekv-log").unstarted(this::run) : null;
        queue = new SubmissionQueue(logThread);
        snapshotFiles =
                new SnapshotFileSchedule(disk, recovered, options, notices, nanoClock, random, freeSpace, logThread);
        writer = new LogWriter(disk, recovered, options, nanoClock, random);
    }

    private void start() throws IOException {
        if (inBackground) {
            try {
                logThread.start();
            } catch (Throwable e) {
                writer.close();
                throw e;
            }
        }
    }

    /** Once there is a thread that takes what the leases' own thread submits. */
    private void expireLeases() {
        try {
            store.changedThrough(this);
        } catch (Throwable e) {
            try {
                close();
            } catch (IOException again) {
                e.addSuppressed(again);
            }
            throw e;
        }
    }

    /**
     * Makes a new or empty directory one that holds what a backup holds, under an identity of its own. Then it can be
     * opened. If it fails, the directory is empty again; if it is cut short, opening the directory fails until a backup
     * has been restored into it.
     *
     * @throws DataDirectoryException if the directory is not empty, or the backup is not whole
     */
    public static void restore(Path directory, InputStream backup, Consumer<String> notices) throws IOException {
        Restore.run(FileDisk.open(directory), backup, notices, RANDOM);
    }

    /**
     * Reads everything in a data directory, changes nothing, and says what is there, line by line.
     *
     * @return whether all of it is whole, so that it could be opened without any loss
     * @throws DataDirectoryException if it is no data directory, or is in use
     */
    public static boolean check(Path directory, Consumer<String> lines) throws IOException {
        return DirectoryCheck.run(FileDisk.openReadOnly(directory), lines);
    }

    /** The store that this log changes. */
    public MvccStore store() {
        return store;
    }

    @Override
    public Durability durability() {
        return options.durability();
    }

    // ---- Any thread: submitting ----

    @Override
    public Result submit(Command command) {
        Result.Refused tooLarge = store.limits().check(command);
        if (tooLarge != null) {
            return tooLarge;
        }
        return (Result) await(enqueue(command));
    }

    @Override
    public SnapshotFileInfo writeSnapshotFile() throws IOException {
        Waiting waiting = enqueue(null);
        if (!inBackground) {
            runInThisThread();
            runSnapshotFile();
        }
        return (SnapshotFileInfo) await(waiting);
    }

    private Waiting enqueue(Command command) {
        Waiting waiting = new Waiting(command);
        if (!queue.enqueue(waiting)) {
            throw endedException(false);
        }
        return waiting;
    }

    /** Its answer, once it has it; throws what it has instead. */
    private Object await(Waiting waiting) {
        if (!inBackground && !waiting.isDone()) {
            runInThisThread();
        }
        waiting.await();
        if (waiting.isEnded()) {
            throw endedException(waiting.isOutcomeUnknown());
        }
        if (waiting.failure != null) {
            WriteAheadLog.<RuntimeException>rethrow(waiting.failure);
        }
        return waiting.answer;
    }

    @SuppressWarnings("unchecked")
    private static <E extends Throwable> void rethrow(Throwable failure) throws E {
        throw (E) failure;
    }

    private IllegalStateException endedException(boolean outcomeUnknown) {
        String reason = failure;
        return reason != null
                ? new LogStoppedException(reason, outcomeUnknown)
                : new IllegalStateException("the log has been closed");
    }

    @Override
    public String failure() {
        return failure;
    }

    @Override
    public void onFailure(Runnable action) {
        failureActions.add(action);
    }

    // ---- The log's own thread ----

    private void run() {
        try {
            while (!queue.isOver()) {
                if (queue.take() != null) {
                    runGroup();
                }
                doWhatIsDue();
                sleep();
            }
            end();
        } catch (Throwable e) {
            fail(e);
        }
    }

    /** In the thread that submits, where the log has none of its own. */
    private void runInThisThread() {
        try {
            while (queue.take() != null) {
                runGroup();
            }
            doWhatIsDue();
        } catch (Throwable e) {
            fail(e);
        }
    }

    /** Until somebody submits, closes, or has written a snapshot file, or until something is due. */
    private void sleep() {
        long waitNanos = Math.min(writer.untilForceNanos(), snapshotFiles.untilDueNanos(writer.sequence()));
        boolean nothingToDo = queue.isEmpty() && !snapshotFiles.isDone();
        if (nothingToDo && waitNanos == Long.MAX_VALUE) {
            LockSupport.park(this);
        } else if (nothingToDo && waitNanos > 0) {
            LockSupport.parkNanos(this, waitNanos);
        }
    }

    // ---- A group ----

    private void runGroup() throws IOException {
        snapshotFiles.lookAtFreeSpace();
        store.turn.lock();
        try {
            stageGroup();
            long bytes = writer.bufferedBytes();
            if (bytes > 0) {
                appending = true;
                writer.append();
                snapshotFiles.logged(bytes);
                freeSpace.logged(bytes);
                if (options.durability() == Durability.FORCED) {
                    writer.force();
                }
            }
            store.commit(staged);
        } catch (Throwable e) {
            store.stop(e); // While nobody else has had the turn, so that nothing is made of what is staged.
            throw e;
        } finally {
            store.turn.unlock();
        }
        for (int i = 0; i < group.size(); i++) {
            group.get(i).wake();
        }
        appending = false;
        group.clear();
        staged.clear();
        Reclaimer.letOthersWrite(store.turn);
    }

    private void stageGroup() {
        int answerParts = 0;
        while (group.size() < GROUP_COMMANDS
                && writer.bufferedBytes() < GROUP_BYTES
                && answerParts < GROUP_ANSWER_PARTS) {
            Waiting waiting = queue.take();
            if (waiting == null) {
                return;
            }
            if (waiting.command == null) {
                queue.remove();
                snapshotFiles.want(waiting);
                continue;
            }
            try {
                if (!store.fits(waiting.command)) {
                    return; // There is more that can be given up for it once the group has been published.
                }
            } catch (OutOfMemoryError e) {
                waiting.failure = e;
            }
            queue.remove();
            group.add(waiting);
            answerParts += waiting.failure == null ? stage(waiting) : 1;
        }
    }

    /** How much of an answer it has, which is kept until the group is published. */
    private int stage(Waiting waiting) {
        Staged one;
        try {
            waiting.answer = freeSpace.refuse(waiting.command);
            if (waiting.answer == null) {
                waiting.answer = store.admit(waiting.command);
            }
            if (waiting.answer != null) {
                return 1;
            }
            one = store.stage(waiting.command);
        } catch (OutOfMemoryError e) {
            waiting.failure = e;
            return 1;
        }
        try {
            LogRecord record = one.record();
            if (record != null) {
                writer.add(record);
                waiting.logged = true;
            }
            waiting.answer = one.result();
            staged.add(one);
        } catch (OutOfMemoryError | IllegalArgumentException e) {
            store.unstage(one);
            waiting.failure = e;
            return 1;
        }
        return one.answerParts();
    }

    // ---- Between two groups ----

    private void doWhatIsDue() throws IOException {
        if (writer.untilForceNanos() == 0) {
            writer.force();
        }
        if (snapshotFiles.isDone()) {
            snapshotFiles.end();
        }
        if (writer.isSegmentFull()) {
            writer.endSegment();
        }
        if (inBackground && !queue.isClosing() && snapshotFiles.untilDueNanos(writer.sequence()) == 0) {
            beginSnapshotFile();
        }
    }

    private void beginSnapshotFile() throws IOException {
        if (!snapshotFiles.answerWithLast(writer.sequence())) {
            writer.endSegment();
            snapshotFiles.begin(writer.segmentNumber(), writer.sequence());
        }
    }

    /** Where the log has no threads: writes the snapshot file that is due, step by step; false: none is. */
    boolean runSnapshotFile() {
        try {
            if (failure == null && snapshotFiles.untilDueNanos(writer.sequence()) == 0) {
                beginSnapshotFile();
                doWhatIsDue();
                return true;
            }
        } catch (Throwable e) {
            fail(e);
        }
        return false;
    }

    /** Where the log has no threads: commands that have all come before the first of them is taken. */
    List<Result> submitAll(List<Command> commands) {
        List<Waiting> all = new ArrayList<>();
        for (Command command : commands) {
            all.add(enqueue(command));
        }
        List<Result> results = new ArrayList<>();
        for (Waiting waiting : all) {
            results.add((Result) await(waiting));
        }
        return results;
    }

    // ---- The end ----

    /** After everything that was submitted: says how long the leases have left, and closes the segment. */
    private void end() throws IOException {
        snapshotFiles.close();
        store.close(); // From here on no lease is kept alive, so that the times that follow are the last ones (D9).
        store.turn.lock();
        try {
            writer.add(new LogRecord.Closed(store.leasesLeft()));
        } finally {
            store.turn.unlock();
        }
        writer.append();
        writer.force();
        writer.close();
    }

    /** Nothing is allocated before everybody who waits has been told. */
    private void fail(Throwable e) {
        String reason;
        try {
            reason = Notices.reason(e);
        } catch (OutOfMemoryError again) {
            reason = "out of memory";
        }
        failure = reason;
        snapshotFiles.abandon();
        store.turn.lock();
        try {
            store.stop(e);
        } finally {
            store.turn.unlock();
        }
        for (int i = 0; i < group.size(); i++) {
            Waiting each = group.get(i);
            if (!each.isDone()) {
                each.tellEnded(appending && each.logged);
            }
        }
        queue.end();
        snapshotFiles.tellEnded();
        failureActions.run();
        try {
            closeWriter(e);
            notices.accept("the log has stopped: " + reason
                    + "; no writes are taken any more, reads go on; mend the cause and start again");
        } catch (OutOfMemoryError again) {
            return; // Everybody who waits for it has been told.
        }
    }

    private void closeWriter(Throwable e) {
        try {
            writer.close();
        } catch (IOException again) {
            e.addSuppressed(again);
        }
    }

    /**
     * Takes no more commands, does what was submitted before, says so in the log, and closes the store, which can still
     * be read. Returns when the directory can be opened again. A snapshot file that is being written is given up.
     *
     * @throws IOException if the log has not been ended in order, so that leases have their whole time again when it is
     *     opened; what was answered is kept all the same
     */
    @Override
    public void close() throws IOException {
        closeLock.lock();
        try {
            if (closed) {
                return;
            }
            closed = true;
            String failureBefore = failure;
            queue.close();
            if (inBackground) {
                joinUninterruptibly(logThread);
            } else if (failureBefore == null) {
                queue.take();
                try {
                    end();
                } catch (Throwable e) {
                    fail(e);
                }
            }
            snapshotFiles.join();
            try (disk) {
                store.close();
            }
            if (failure != null && failureBefore == null) {
                throw new IOException(failure);
            }
        } finally {
            closeLock.unlock();
        }
    }

    static void joinUninterruptibly(Thread thread) {
        boolean interrupted = false;
        while (thread != null && thread.isAlive()) {
            try {
                thread.join();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
