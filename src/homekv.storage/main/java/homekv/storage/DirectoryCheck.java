package homekv.storage;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;

/**
 * Reads everything in a data directory, changes nothing, and says what is there and what opening it would come to.
 * Makes no store of it, so it needs no more memory than the largest record; what only a store can tell, that a record
 * names a lease which is there, it does not look at.
 */
final class DirectoryCheck {
    /** What one segment has turned out to hold; the error of its header, or null, and what is wrong with its end. */
    private record Segment(
            DataDirectoryException error,
            long firstSequence,
            long lastSequence,
            long firstRevision,
            long lastRevision,
            String badness,
            long goodBytes,
            long bytes,
            long laterForcedSequence) {}

    private final Disk disk;
    private final Consumer<String> lines;
    private final DirectoryFiles files;
    private final long storeIdentity;
    private final Map<Long, SnapshotHeader> wholeSnapshotFiles = new TreeMap<>();
    private final Map<Long, Segment> segments = new TreeMap<>();
    private boolean damaged;

    private DirectoryCheck(Disk disk, Consumer<String> lines) throws IOException {
        this.disk = disk;
        this.lines = lines;
        this.files = DirectoryFiles.of(disk);
        if (!files.hasIdentity()) {
            throw files.noIdentity(disk);
        }
        storeIdentity = DirectoryIdentity.read(disk).storeIdentity();
    }

    /** Whether all that opening the directory needs, and all else that is there, is whole. Closes the disk. */
    static boolean run(Disk disk, Consumer<String> lines) throws IOException {
        if (!disk.lock(true)) {
            throw Recovery.inUse(disk);
        }
        try (disk) {
            return new DirectoryCheck(disk, lines).run();
        }
    }

    private boolean run() throws IOException {
        lines.accept(disk.path("") + ": store " + FileNames.hex(storeIdentity) + ", format version " + Format.VERSION);
        for (long number : files.snapshotFiles()) {
            readSnapshotFile(number);
        }
        for (long number : files.segments()) {
            readSegment(number);
        }
        for (String name : files.unfinished()) {
            lines.accept(name + ": unfinished, and deleted when the directory is opened");
        }
        for (String name : files.others()) {
            lines.accept(name + ": not read");
        }
        boolean opens = conclude();
        return opens && !damaged;
    }

    private void readSnapshotFile(long number) throws IOException {
        String name = FileNames.snapshotFile(number);
        long bytes;
        try (DiskFile file = disk.open(name)) {
            bytes = file.size();
        }
        SnapshotContents contents = new SnapshotContents(lease -> {});
        try {
            SnapshotHeader header = SnapshotFileReader.load(disk, name, contents);
            requireIdentity(name, header.storeIdentity());
            wholeSnapshotFiles.put(number, header);
            lines.accept(String.format(
                    Locale.ROOT,
                    "%s: %s, revisions %d to %d, %,d keys, %,d versions, %,d leases, whole",
                    name,
                    Notices.megabytes(bytes),
                    contents.compactRevision,
                    header.revision(),
                    contents.keys,
                    contents.versions,
                    contents.leases));
        } catch (DataDirectoryException e) {
            damaged = true;
            lines.accept(name + ": " + Notices.megabytes(bytes) + ", DAMAGED: " + e.finding());
        }
    }

    private void requireIdentity(String name, long identity) throws DataDirectoryException {
        if (identity != storeIdentity) {
            throw Recovery.otherStore(disk, name, identity, storeIdentity);
        }
    }

    private void readSegment(long number) throws IOException {
        String name = FileNames.segment(number);
        try (SegmentReader reader = SegmentReader.open(disk, name)) {
            SegmentHeader header;
            try {
                header = reader.header();
                requireIdentity(name, header.storeIdentity());
            } catch (DataDirectoryException e) {
                segments.put(number, new Segment(e, 0, 0, 0, 0, null, 0, reader.size(), 0));
                damaged = true;
                lines.accept(
                        String.format(Locale.ROOT, "%s: %,d bytes, DAMAGED: %s", name, reader.size(), e.finding()));
                return;
            }
            Segment segment = read(reader, header, disk.path(name));
            segments.put(number, segment);
            long records = segment.lastSequence - segment.firstSequence + 1;
            lines.accept(String.format(
                    Locale.ROOT,
                    "%s: %,d bytes, %s, %,d record%s%s, %s",
                    name,
                    segment.bytes,
                    header.durability().name().toLowerCase(Locale.ROOT),
                    records,
                    records == 1 ? "" : "s",
                    (records == 0 ? "" : " (" + segment.firstSequence + " to " + segment.lastSequence + ")")
                            + (segment.lastRevision == 0
                                    ? ""
                                    : ", revisions " + segment.firstRevision + " to " + segment.lastRevision),
                    end(segment, number)));
        }
    }

    private Segment read(SegmentReader reader, SegmentHeader header, String path) throws IOException {
        long firstRevision = 0;
        long lastRevision = 0;
        DataDirectoryException error = null;
        while (reader.next()) {
            if (reader.record() instanceof LogRecord.Committed committed) {
                if (error == null && lastRevision != 0 && committed.revision() != next(lastRevision, committed)) {
                    error = DataDirectoryException.damaged(
                            path,
                            reader.offset(),
                            "revision " + committed.revision() + " follows revision " + lastRevision);
                }
                lastRevision = committed.revision();
                firstRevision = firstRevision != 0 || committed.writes().isEmpty() ? firstRevision : lastRevision;
            }
        }
        return new Segment(
                error,
                header.firstSequence(),
                reader.sequence(),
                firstRevision,
                lastRevision,
                reader.badness(),
                reader.offset(),
                reader.size(),
                reader.badness() == null ? -1 : reader.laterForcedSequence());
    }

    private static long next(long revision, LogRecord.Committed committed) {
        return committed.writes().isEmpty() ? revision : revision + 1;
    }

    private String end(Segment segment, long number) throws IOException {
        if (segment.error != null) {
            damaged = true;
            return "DAMAGED: " + segment.error.finding();
        }
        if (segment.badness == null) {
            return "whole";
        }
        String at = "at byte " + segment.goodBytes + " of " + segment.bytes + ": " + segment.badness;
        if (isCuttable(segment, number)) {
            return at + "; what is there had not been forced, as far as is known, and is cut off";
        }
        damaged = true;
        return "DAMAGED " + at;
    }

    private boolean isCuttable(Segment segment, long number) {
        return number == files.highest() && segment.laterForcedSequence <= segment.lastSequence;
    }

    // ---- What opening it would come to ----

    private boolean conclude() throws IOException {
        long last = files.highest();
        long before = files.segments().isEmpty() ? 0 : files.segments().first();
        for (long number : files.segments()) {
            missing(before, number - 1);
            before = number;
        }
        missing(before, last);
        List<Long> bases = new ArrayList<>(files.snapshotFilesNewestFirst());
        bases.add(0L);
        DataDirectoryException first = null;
        for (long base : bases) {
            DataDirectoryException why = problem(base, last);
            if (why == null) {
                lines.accept("would open: " + started(base, last));
                return true;
            }
            first = first != null ? first : why;
        }
        damaged = true;
        boolean nothingGood = wholeSnapshotFiles.isEmpty() && !files.segments().contains(1L);
        lines.accept(
                "would not open: " + (nothingGood ? DataDirectoryException.nothingGood(first) : first).getMessage());
        return false;
    }

    /** Says that the segments behind one and up to another are not there, if there are any between. */
    private void missing(long behind, long to) {
        if (behind < to) {
            long from = behind + 1;
            lines.accept(FileNames.segment(from) + (from == to ? "" : " to " + FileNames.segment(to)) + ": MISSING");
        }
    }

    /** Why the store could not be made of a snapshot file and the segments from it on; null: it could. */
    private DataDirectoryException problem(long base, long last) throws IOException {
        SnapshotHeader header = wholeSnapshotFiles.get(base);
        if (base > 0 && header == null) {
            return DataDirectoryException.damaged(disk.path(FileNames.snapshotFile(base)) + " is damaged", null);
        }
        DataDirectoryException missing = files.missing(disk, Math.max(base, 1), last);
        if (missing != null) {
            return missing;
        }
        long sequence = header == null ? 0 : header.sequence();
        long revision = header == null ? 0 : header.revision();
        for (long number = Math.max(base, 1); number <= last; number++) {
            Segment segment = segments.get(number);
            String path = disk.path(FileNames.segment(number));
            if (segment.error != null) {
                return segment.error;
            }
            if (segment.firstSequence != sequence + 1) {
                return DataDirectoryException.damaged(
                        path,
                        40,
                        "the segment begins with record " + segment.firstSequence + ", and record " + (sequence + 1)
                                + " is the next one");
            }
            if (segment.firstRevision != 0 && segment.firstRevision != revision + 1) {
                return DataDirectoryException.damaged(
                        path + ": revision " + segment.firstRevision + " follows revision " + revision, null);
            }
            if (segment.badness != null && !isCuttable(segment, number)) {
                return DataDirectoryException.damaged(path, segment.goodBytes, segment.badness);
            }
            sequence = segment.lastSequence;
            revision = segment.lastRevision == 0 ? revision : segment.lastRevision;
        }
        return null;
    }

    private String started(long base, long last) {
        long sequence = 0;
        long revision = 0;
        if (base > 0) {
            sequence = wholeSnapshotFiles.get(base).sequence();
            revision = wholeSnapshotFiles.get(base).revision();
        }
        long cutBytes = 0;
        for (long number = Math.max(base, 1); number <= last; number++) {
            Segment segment = segments.get(number);
            sequence = segment.lastSequence;
            revision = segment.lastRevision == 0 ? revision : segment.lastRevision;
            cutBytes = segment.bytes - segment.goodBytes;
        }
        long count = last - Math.max(base, 1) + 1;
        return "at revision " + revision + ", record " + sequence + ", from "
                + (base == 0 ? "no snapshot file" : FileNames.snapshotFile(base)) + " and " + count
                + (count == 1 ? " segment" : " segments")
                + (cutBytes == 0 ? "" : ", with the last " + cutBytes + " bytes cut off");
    }
}
