package homekv.storage;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.Consumer;
import java.util.function.LongSupplier;

/**
 * Makes the store of what a data directory holds, and leaves the directory such that the log can go on. In the thread
 * that opens the log, before anybody else knows the store.
 *
 * <p>Reads every byte once, with a buffer of a few MiB beside the store; the last segment twice if its records were not
 * promised to be forced, and its end again to write it anew. A snapshot file at the speed of the disk; the log at that of
 * the store, two searches of its map for a new key.
 */
/*
 * The store is the newest whole snapshot file and the segments from its number on. Nothing in the directory is changed
 * before all of that has been read and found good; then, in this order: the end of the last segment is written over
 * with what it holds, its tail is cut off, and it is forced; the directory is forced, so that the name of the snapshot
 * file is durable; files that are not needed are deleted, and the directory is forced again. A crash between any two of
 * these steps, or in one, leaves a directory from which the same store is made again.
 *
 * What was read from the last segment may have been only in the page cache, and must be durable before anybody can see
 * it (D1). Forcing is not enough for that: after a force that failed, the kernel takes pages for clean that never
 * reached the disk. So what no record says had been forced is written again, with the same bytes, which can do no harm
 * when it tears.
 *
 * Where the first damage is accepted, the store is written to a snapshot file with a number above all others, so that
 * nothing that was damaged is read again, before the damaged files get other names. Not the other way round: what is good
 * of a damaged file is nowhere else until then. If it is cut short in between, the next start goes by the snapshot file,
 * and deletes the damaged files with all that it replaces.
 */
final class Recovery {
    /**
     * What was recovered.
     *
     * @param sequence the last record that the store holds the effect of
     * @param nextSegment the number of the segment with which the log goes on; there is none with it
     * @param logBytes how much log there is behind the snapshot file
     * @param snapshotFileSequence the last record that the snapshot file holds the effect of; 0: there is none
     * @param snapshotFileBytes its length
     */
    record Recovered(
            MvccStore store,
            long storeIdentity,
            long sequence,
            long nextSegment,
            long logBytes,
            long snapshotFileSequence,
            long snapshotFileBytes) {}

    private static final int COURTESY_RECORDS = 1_024;
    private static final int COPY_BYTES = 1 << 20;
    private static final long PROGRESS_NANOS = 1_000_000_000;

    private final Disk disk;
    private final Limits limits;
    private final LogOptions options;
    private final Consumer<String> notices;
    private final LongSupplier nanoClock;
    private final LongSupplier random;
    private final boolean inBackground;
    private final long startNanos;

    private DirectoryFiles files;
    private long storeIdentity;

    // What the attempt under way has come to.

    private MvccStore store;

    /** The snapshot file that it began with; 0: with none. */
    private long base;

    private String baseName;
    private long baseBytes;
    private long baseSequence;
    private long sequence;
    private long logBytes;
    private long progressNanos;

    /** What the log was closed with, if nothing follows it. */
    private LogRecord.Closed closed;

    /** Of the last segment: how much of it is good, how many bytes are not and why; and whether it has any record. */
    private long lastGoodBytes;

    private long lastBytes;
    private String lastBadness;
    private boolean lastIsEmpty;

    /** From where on nothing in it says that it had been forced, or earlier. */
    private long lastUnforcedOffset;

    private Recovery(
            Disk disk,
            Limits limits,
            LogOptions options,
            Consumer<String> notices,
            LongSupplier nanoClock,
            LongSupplier random,
            boolean inBackground) {
        this.disk = disk;
        this.limits = limits;
        this.options = options;
        this.notices = notices;
        this.nanoClock = nanoClock;
        this.random = random;
        this.inBackground = inBackground;
        this.startNanos = nanoClock.getAsLong();
        this.progressNanos = startNanos;
    }

    static DataDirectoryException inUse(Disk disk) {
        return new DataDirectoryException(disk.path("") + " is in use: another HomeKV has locked its file "
                + FileNames.LOCK + "; stop that one, or give another directory");
    }

    /** Recovers from a directory that is locked; one that is empty becomes that of a new store. */
    static Recovered run(
            Disk disk,
            Limits limits,
            LogOptions options,
            Consumer<String> notices,
            LongSupplier nanoClock,
            LongSupplier random,
            boolean inBackground)
            throws IOException {
        Recovery recovery = new Recovery(disk, limits, options, notices, nanoClock, random, inBackground);
        boolean done = false;
        try {
            Recovered recovered = recovery.run();
            done = true;
            return recovered;
        } catch (OutOfMemoryError e) {
            recovery.forget();
            throw new DataDirectoryException(disk.path("") + " holds more than fits the heap of "
                    + Notices.megabytes(Runtime.getRuntime().maxMemory()) + "; start with a larger one");
        } finally {
            if (!done) {
                recovery.forget();
            }
        }
    }

    private void forget() {
        if (store != null) {
            store.close();
            store = null;
        }
    }

    private Recovered run() throws IOException {
        files = DirectoryFiles.of(disk);
        if (files.isNew()) {
            deleteUnfinished();
            DirectoryIdentity made = DirectoryIdentity.create(disk, random.getAsLong());
            notices.accept(disk.path("") + " was empty, and is that of a new store now, "
                    + FileNames.hex(made.storeIdentity()));
            files = DirectoryFiles.of(disk);
        }
        try {
            storeIdentity = identity();
            return recover();
        } catch (DataDirectoryException e) {
            if (!e.isDamage() || !options.recoverToLastGood()) {
                throw e;
            }
            forget();
            return recoverToLastGood(e);
        }
    }

    private long identity() throws IOException {
        if (!files.hasIdentity()) {
            throw files.noIdentity(disk);
        }
        return DirectoryIdentity.read(disk).storeIdentity();
    }

    private void begin(long historyId) {
        forget();
        store = new MvccStore(limits, nanoClock, inBackground, historyId);
        base = 0;
        baseName = null;
        baseBytes = 0;
        baseSequence = 0;
        sequence = 0;
        logBytes = 0;
        closed = null;
        lastBadness = null;
    }

    // ---- All of it, or nothing ----

    private Recovered recover() throws IOException {
        long last = files.highest();
        long historyId = historyId(last);
        loadWhole(last, historyId);
        for (long number = Math.max(base, 1); number <= last; number++) {
            replay(number, number == last);
        }
        finishTimes();
        finishFiles(last);
        summary();
        // One without records is replaced, so that a server which crashes again and again does not fill its directory.
        return recovered(lastIsEmpty ? last : last + 1);
    }

    /**
     * The history goes on as long as nothing that was visible can have been lost: whatever is visible is forced before,
     * or the log was closed after it.
     */
    private long historyId(long last) throws IOException {
        if (last > 0 && files.segments().contains(last)) {
            try (SegmentReader reader = SegmentReader.open(disk, FileNames.segment(last))) {
                SegmentHeader header = reader.header();
                boolean whole = header.durability() == Durability.FORCED;
                if (!whole) {
                    boolean isClosed = false;
                    while (reader.next()) {
                        isClosed = reader.record() instanceof LogRecord.Closed;
                    }
                    whole = isClosed && reader.badness() == null;
                }
                if (whole) {
                    return header.historyId();
                }
            }
        }
        return random.getAsLong();
    }

    /** Loads the newest snapshot file that is whole and behind which the log is; none where the log begins with 1. */
    private void loadWhole(long last, long historyId) throws IOException {
        List<DataDirectoryException> passed = new ArrayList<>();
        boolean someMayBeWhole = false;
        for (long number : files.snapshotFilesNewestFirst()) {
            boolean loading = false;
            try {
                requireSegments(number, last);
                loading = true;
                load(number, historyId);
                tell(passed, "going back to " + baseName);
                return;
            } catch (DataDirectoryException e) {
                if (!e.isDamage()) {
                    throw e;
                }
                someMayBeWhole |= !loading;
                passed.add(e);
            }
        }
        try {
            requireSegments(1, last);
        } catch (DataDirectoryException e) {
            DataDirectoryException first = passed.isEmpty() ? e : passed.get(0);
            throw someMayBeWhole || files.segments().contains(1L) ? first : DataDirectoryException.nothingGood(first);
        }
        begin(historyId);
        tell(passed, "going back to the beginning of the log");
    }

    private void tell(List<DataDirectoryException> passed, String what) {
        passed.forEach(each -> notices.accept(each.finding() + "; " + what));
    }

    private void requireSegments(long from, long last) throws DataDirectoryException {
        DataDirectoryException missing = files.missing(disk, from, last);
        if (missing != null) {
            throw missing;
        }
    }

    private void load(long number, long historyId) throws IOException {
        begin(historyId);
        String name = FileNames.snapshotFile(number);
        store.turn.lock();
        try {
            SnapshotHeader header = SnapshotFileReader.load(disk, name, new Progress(name, store.loader()));
            requireIdentity(name, header.storeIdentity());
            base = number;
            baseName = name;
            sequence = header.sequence();
            baseSequence = sequence;
        } finally {
            store.turn.unlock();
        }
        try (DiskFile file = disk.open(name)) {
            baseBytes = file.size();
        }
    }

    private void requireIdentity(String name, long identity) throws DataDirectoryException {
        if (identity != storeIdentity) {
            throw otherStore(disk, name, identity, storeIdentity);
        }
    }

    static DataDirectoryException otherStore(Disk disk, String name, long found, long wanted) {
        return DataDirectoryException.damaged(
                disk.path(name),
                16,
                "the file is of store " + FileNames.hex(found) + ", and the directory of " + FileNames.hex(wanted));
    }

    /** Says once a second how far it has come. */
    private final class Progress implements SnapshotVisitor {
        private final String name;
        private final StoreLoader loader;
        private long keys;

        Progress(String name, StoreLoader loader) {
            this.name = name;
            this.loader = loader;
        }

        @Override
        public void lease(LeaseLeft lease) {
            loader.lease(lease);
        }

        @Override
        public void key(Bytes key, List<SavedVersion> newestFirst) {
            loader.key(key, newestFirst);
            if ((++keys & COURTESY_RECORDS - 1) == 0 && isProgressDue()) {
                notices.accept(String.format(Locale.ROOT, "recovering: %,d keys of %s so far", keys, name));
            }
        }

        @Override
        public void finish(long revision, long compactRevision, long grants) {
            loader.finish(revision, compactRevision, grants);
        }
    }

    private boolean isProgressDue() {
        long nanos = nanoClock.getAsLong();
        if (nanos - progressNanos < PROGRESS_NANOS) {
            return false;
        }
        progressNanos = nanos;
        return true;
    }

    /** Does again what a segment says, up to its end or to where it may be cut. */
    private void replay(long number, boolean mayBeCut) throws IOException {
        String name = FileNames.segment(number);
        String path = disk.path(name);
        try (SegmentReader reader = SegmentReader.open(disk, name)) {
            SegmentHeader header = reader.header();
            requireIdentity(name, header.storeIdentity());
            if (header.firstSequence() != sequence + 1) {
                throw DataDirectoryException.damaged(
                        path,
                        40,
                        "the segment begins with record " + header.firstSequence() + ", and record " + (sequence + 1)
                                + " is the next one");
            }
            closed = null; // Whoever began this segment may have kept leases alive, if nothing else.
            lastIsEmpty = true;
            lastUnforcedOffset = 0;
            long forcedSequence = -1;
            long forcedOffset = 0;
            while (reader.next()) {
                replay(reader, path);
                lastIsEmpty = false;
                if (reader.forcedSequence() > forcedSequence) {
                    forcedSequence = reader.forcedSequence();
                    lastUnforcedOffset =
                            forcedOffset; // What was forced by now reaches at least to where it last was said.
                    forcedOffset = reader.offset();
                }
                sequence = reader.sequence();
                if ((sequence & COURTESY_RECORDS - 1) == 0) {
                    progress(name, reader);
                    Reclaimer.letOthersWrite(store.turn);
                }
            }
            lastGoodBytes = reader.offset();
            lastBytes = reader.size();
            lastBadness = reader.badness();
            logBytes += lastGoodBytes;
            if (lastBadness != null) {
                requireCuttable(reader, path, mayBeCut);
            }
        }
    }

    private void replay(SegmentReader reader, String path) throws DataDirectoryException {
        LogRecord record = reader.record();
        closed = record instanceof LogRecord.Closed last ? last : null;
        store.turn.lock();
        try {
            store.replay(record);
        } catch (IllegalArgumentException e) {
            throw DataDirectoryException.damaged(
                    path,
                    reader.offset(),
                    "record " + reader.sequence() + " does not follow those before it: " + e.getMessage(),
                    e);
        } finally {
            store.turn.unlock();
        }
    }

    private void progress(String name, SegmentReader reader) {
        if (isProgressDue()) {
            notices.accept(String.format(
                    Locale.ROOT,
                    "recovering: %s of log read, at %s of %s in %s, revision %d",
                    Notices.megabytes(logBytes + reader.offset()),
                    Notices.megabytes(reader.offset()),
                    Notices.megabytes(reader.size()),
                    name,
                    store.revision()));
        }
    }

    /** A bad record can be what is left of one that was never forced; but not where it is known to have been. */
    private static void requireCuttable(SegmentReader reader, String path, boolean mayBeCut) throws IOException {
        if (!mayBeCut) {
            throw DataDirectoryException.damaged(
                    path, reader.offset(), reader.badness() + ", and there is a later segment");
        }
        long forced = reader.laterForcedSequence();
        if (forced > reader.sequence()) {
            throw DataDirectoryException.damaged(
                    path,
                    reader.offset(),
                    reader.badness()
                            + (forced == Long.MAX_VALUE
                                    ? ""
                                    : ", and a later record says that the log had been forced up to record " + forced));
        }
    }

    private void finishTimes() {
        store.turn.lock();
        try {
            store.resetLeaseTimes(closed == null ? List.of() : closed.leases());
        } finally {
            store.turn.unlock();
        }
    }

    private void finishFiles(long last) throws IOException {
        if (last > 0) {
            String name = FileNames.segment(last);
            try (DiskFile file = disk.open(name)) {
                writeAgain(file, lastUnforcedOffset, lastGoodBytes);
                if (lastBadness != null) {
                    file.truncate(lastGoodBytes);
                }
                file.force();
            }
            if (lastBadness != null) {
                notices.accept(cut(name));
            }
        }
        deleteUnfinished();
        if (base > 0) {
            disk.forceDirectory(); // Whoever wrote the snapshot file may have died before its name was durable (D6).
        }
        for (long number : files.segments()) {
            if (number < base) {
                disk.delete(FileNames.segment(number));
            }
        }
        for (long number : files.snapshotFiles()) {
            if (number < base) {
                disk.delete(FileNames.snapshotFile(number));
            }
        }
        disk.forceDirectory();
    }

    private static void writeAgain(DiskFile file, long from, long end) throws IOException {
        ByteBuffer buffer = ByteBuffer.allocate((int) Math.min(COPY_BYTES, end - from));
        for (long at = from; at < end; at += buffer.limit()) {
            buffer.clear().limit((int) Math.min(buffer.capacity(), end - at));
            while (buffer.hasRemaining()) {
                if (file.read(buffer, at + buffer.position()) < 0) {
                    throw new IOException("the last segment has become shorter while it was being recovered");
                }
            }
            file.overwrite(buffer.flip(), at);
        }
    }

    private String cut(String name) {
        return disk.path(name) + " at byte " + lastGoodBytes + ": " + lastBadness + "; cut off the "
                + (lastBytes - lastGoodBytes) + " bytes from there on, of which nothing says that they had been forced";
    }

    private void deleteUnfinished() throws IOException {
        for (String name : files.unfinished()) {
            disk.delete(name);
        }
    }

    private Recovered recovered(long nextSegment) {
        MvccStore made = store;
        store = null;
        return new Recovered(made, storeIdentity, sequence, nextSegment, logBytes, baseSequence, baseBytes);
    }

    private void summary() {
        double seconds = Math.max(1e-9, (nanoClock.getAsLong() - startNanos) / 1e9);
        Counters counters = store.counters();
        notices.accept(String.format(
                Locale.ROOT,
                "recovered %,d keys at revision %d: %s and %s of log in %.1f s (%.0f MB/s, %,.0f keys/s)",
                counters.keys(),
                store.revision(),
                baseName == null ? "no snapshot file" : baseName + " (" + Notices.megabytes(baseBytes) + ")",
                Notices.megabytes(logBytes),
                seconds,
                (baseBytes + logBytes) / 1e6 / seconds,
                counters.keys() / seconds));
    }

    // ---- What is good of it ----

    private Recovered recoverToLastGood(DataDirectoryException damage) throws IOException {
        notices.accept("recovering to the last good record: " + damage.finding());
        long historyId = random.getAsLong();
        deleteUnfinished(); // Of one that was doing this, perhaps.
        files = DirectoryFiles.of(disk);
        makeIdentity();
        List<String> givenUp = new ArrayList<>();
        begin(historyId);
        for (long number : files.snapshotFilesNewestFirst()) {
            try {
                load(number, historyId);
                break;
            } catch (DataDirectoryException e) {
                if (!e.isDamage()) {
                    throw e;
                }
                notices.accept(e.finding());
                givenUp.add(FileNames.snapshotFile(number));
                begin(historyId);
            }
        }
        if (base == 0 && !files.segments().contains(1L)) {
            throw DataDirectoryException.nothingGood(damage);
        }
        long number = replayGood();
        for (long each : files.segments()) {
            if (each >= number) {
                givenUp.add(FileNames.segment(each));
                closed = null; // Whoever wrote it may have kept leases alive (D9).
            }
        }
        finishTimes();
        long next = files.highest() + 1;
        keep(next, historyId);
        for (String name : givenUp) {
            disk.rename(name, name + FileNames.DAMAGED);
            notices.accept("gave up " + disk.path(name) + ": it is now " + name + FileNames.DAMAGED);
        }
        disk.forceDirectory();
        SnapshotFiles.deleteOlder(disk, next, notices);
        summary();
        logBytes = 0;
        baseSequence = sequence;
        return recovered(next + 1);
    }

    /** If what the directory says of itself is damaged or gone, its files say the same. */
    private void makeIdentity() throws IOException {
        try {
            storeIdentity = identity();
            return;
        } catch (DataDirectoryException e) {
            if (!e.isDamage()) {
                throw e;
            }
        }
        for (long number : files.segments()) {
            try (SegmentReader reader = SegmentReader.open(disk, FileNames.segment(number))) {
                storeIdentity = reader.header().storeIdentity();
                DirectoryIdentity.create(disk, storeIdentity);
                notices.accept("made " + disk.path(FileNames.IDENTITY) + " anew, of store "
                        + FileNames.hex(storeIdentity) + " as " + FileNames.segment(number) + " says");
                files = DirectoryFiles.of(disk);
                return;
            } catch (DataDirectoryException e) {
                if (!e.isDamage()) {
                    throw e;
                }
            }
        }
        throw new DataDirectoryException(disk.path(FileNames.IDENTITY)
                + " is damaged or missing, and there is no segment that says which store it was; restore a backup"
                + " into an empty directory");
    }

    /** Replays up to the first damage; the number of the segment that has it, or of the first one that is not there. */
    private long replayGood() throws IOException {
        long number = Math.max(base, 1);
        try {
            for (; files.segments().contains(number); number++) {
                replay(number, !files.segments().contains(number + 1));
            }
        } catch (DataDirectoryException e) {
            if (!e.isDamage()) {
                throw e;
            }
            notices.accept(e.finding());
            return told(number);
        }
        if (lastBadness != null) {
            notices.accept(cut(FileNames.segment(number - 1)));
        }
        return told(number);
    }

    private long told(long number) {
        notices.accept("the last good record is " + sequence + ", at revision " + store.revision());
        return number;
    }

    /** Writes what there is to a snapshot file, and begins its segment. */
    private void keep(long number, long historyId) throws IOException {
        long salt = random.getAsLong();
        SegmentWriter.begin(
                        disk,
                        new SegmentHeader(storeIdentity, historyId, number, sequence + 1, salt, options.durability()))
                .close();
        store.turn.lock();
        SnapshotSource source;
        try {
            source = store.cut();
        } finally {
            store.turn.unlock();
        }
        try (source) {
            SnapshotHeader header = new SnapshotHeader(
                    storeIdentity, historyId, number, source.revision(), sequence, source.grants(), random.getAsLong());
            baseBytes = SnapshotFiles.write(disk, source, header, () -> {}).bytes();
        }
    }
}
