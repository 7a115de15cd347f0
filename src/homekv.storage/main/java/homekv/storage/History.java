package homekv.storage;

import java.util.Arrays;

/**
 * The commits that are kept, by revision, and the compact revision, below which nothing can be read any more.
 *
 * <p>The history window reaches from the compact revision to the published one: every revision in it can be read, and
 * every change after its first revision can be watched. The writer, in its turn, appends and removes. Any thread may
 * read a commit that has been published; it looks at the compact revision afterwards to learn whether what it saw was
 * whole (S13).
 *
 * <p>Revisions have no gaps, so a commit's place follows from its revision. Nothing is copied or linked: what is removed
 * is gone, whoever is still reading about it.
 */
final class History {
    private static final int SEGMENT_SHIFT = 10;
    private static final int SEGMENT_SIZE = 1 << SEGMENT_SHIFT;

    /** So many commits, and what the writer notes of each. */
    private static final class Segment {
        final Commit[] commits = new Commit[SEGMENT_SIZE];
        final long[] nanos = new long[SEGMENT_SIZE];
        final long[] keptBytes = new long[SEGMENT_SIZE];
    }

    /** Segments in order; the first holds the revisions from {@code firstSegment * SEGMENT_SIZE} on. Never changes. */
    private record Directory(long firstSegment, Segment[] segments) {
        /** The segment of a revision, or null. */
        Segment segment(long revision) {
            long segment = (revision >> SEGMENT_SHIFT) - firstSegment;
            return segment < 0 || segment >= segments.length ? null : segments[(int) segment];
        }
    }

    private volatile Directory directory = new Directory(0, new Segment[] {new Segment()});

    /** The first revision that can be read. */
    private volatile long compactRevision;

    /** The oldest revision whose commit has not been removed; the writer's own. */
    private long firstKept = 1;

    /** The first revision that can be read; changes after it can be watched. Any thread. */
    long compactRevision() {
        return compactRevision;
    }

    /** From now on nothing below {@code revision} can be read. Before anything that it needs is dropped. */
    void compact(long revision) {
        if (revision < compactRevision) {
            throw new AssertionError(
                    "S13: the compact revision would fall from " + compactRevision + " to " + revision);
        }
        compactRevision = revision;
    }

    /** Begins an empty history at a revision: the first that can be read, after which commits are appended. */
    void begin(long revision) {
        compactRevision = revision;
        firstKept = revision + 1;
        directory = new Directory(firstKept >> SEGMENT_SHIFT, new Segment[] {new Segment()});
    }

    /** Makes sure that {@link #append} of this revision takes no memory. */
    void reserve(long revision) {
        Directory now = directory;
        long index = (revision >> SEGMENT_SHIFT) - now.firstSegment;
        if (index == now.segments.length) {
            // Segments that have been emptied are left out here, once in SEGMENT_SIZE revisions.
            int emptied = (int) ((firstKept >> SEGMENT_SHIFT) - now.firstSegment);
            Segment[] segments = Arrays.copyOfRange(now.segments, emptied, now.segments.length + 1);
            segments[segments.length - 1] = new Segment();
            directory = new Directory(now.firstSegment + emptied, segments);
        }
    }

    /**
     * Adds the next commit, before it is published. Allocates nothing.
     *
     * @param nanos when, on the store's clock
     * @param keptBytes what the account keeps because of it, while it is here: itself and what it replaced
     */
    void append(Commit commit, long nanos, long keptBytes) {
        long revision = commit.version(0).revision;
        Segment segment = directory.segment(revision);
        int index = index(revision);
        segment.commits[index] = commit;
        segment.nanos[index] = nanos;
        segment.keptBytes[index] = keptBytes;
    }

    /** The commit of a published revision, or null if it has been removed. Any thread. */
    Commit get(long revision) {
        Segment segment = directory.segment(revision);
        return segment == null ? null : segment.commits[index(revision)];
    }

    /** When a commit was published that is kept. The writer's. */
    long nanos(long revision) {
        return directory.segment(revision).nanos[index(revision)];
    }

    /** What the account keeps because of a commit that is kept. The writer's. */
    long keptBytes(long revision) {
        return directory.segment(revision).keptBytes[index(revision)];
    }

    /** The oldest revision whose commit is kept, if there is one: else one above the newest revision. */
    long firstKept() {
        return firstKept;
    }

    /** Lets go of the oldest commit. */
    void removeFirst() {
        Directory now = directory;
        int segment = (int) ((firstKept >> SEGMENT_SHIFT) - now.firstSegment);
        now.segments[segment].commits[index(firstKept)] = null;
        firstKept++;
        if (index(firstKept) == 0) {
            now.segments[segment] = null; // All that were in it are gone; its place goes with the next reservation.
        }
    }

    private static int index(long revision) {
        return (int) revision & SEGMENT_SIZE - 1;
    }
}
