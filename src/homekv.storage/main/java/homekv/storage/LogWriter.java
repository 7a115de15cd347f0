package homekv.storage;

import java.io.IOException;
import java.util.function.LongSupplier;

/**
 * The end of the log that is written: its last segment, and how far all of the log has been written. A segment is forced
 * whole before the next one is begun.
 *
 * <p>For the log's own thread alone, since an interrupt of any other would close the segment's channel. What appends,
 * forces or begins a segment blocks for the disk. After any IOException nobody may go on with it: what the disk has then
 * cannot be known.
 */
final class LogWriter implements AutoCloseable {
    private final Disk disk;
    private final long storeIdentity;
    private final long historyId;
    private final LogOptions options;
    private final LongSupplier nanoClock;
    private final LongSupplier random;

    private SegmentWriter segment;
    private long segmentNumber;

    /** The numbers of the newest records: before the segment, of all, of those appended, and of those forced. */
    private long sequenceBeforeSegment;

    private long sequence;
    private long appendedSequence;
    private long forcedSequence;

    /** When what has been appended and not forced has to be forced, if there is such a time. */
    private long forceDueNanos;

    /** Begins the segment with which the log goes on. */
    LogWriter(Disk disk, Recovery.Recovered recovered, LogOptions options, LongSupplier nanoClock, LongSupplier random)
            throws IOException {
        this.disk = disk;
        this.options = options;
        this.nanoClock = nanoClock;
        this.random = random;
        storeIdentity = recovered.storeIdentity();
        historyId = recovered.store().id();
        sequence = recovered.sequence();
        appendedSequence = sequence;
        forcedSequence = sequence;
        beginSegment(recovered.nextSegment());
    }

    // ---- Records ----

    /** Encodes the next record. If this throws, as {@link SegmentWriter#add} does, it has changed nothing. */
    void add(LogRecord record) {
        segment.add(record, sequence + 1, forcedSequence);
        sequence++;
    }

    /** How many bytes have been encoded and not been appended yet. */
    int bufferedBytes() {
        return segment.bufferedBytes();
    }

    /** Appends everything that has been added. */
    void append() throws IOException {
        if (forcedSequence == appendedSequence) {
            forceDueNanos = nanoClock.getAsLong() + options.forceIntervalMillis() * 1_000_000;
        }
        segment.flush();
        appendedSequence = sequence;
    }

    /** Returns once everything that has been appended is durable. */
    void force() throws IOException {
        segment.force();
        forcedSequence = appendedSequence;
    }

    /** How long until {@link #force} has to be called. */
    long untilForceNanos() {
        return options.durability() == Durability.INTERVAL && forcedSequence < appendedSequence
                ? Math.max(0, forceDueNanos - nanoClock.getAsLong())
                : Long.MAX_VALUE;
    }

    /** The number of the newest record. */
    long sequence() {
        return sequence;
    }

    // ---- Segments ----

    private void beginSegment(long number) throws IOException {
        segment = SegmentWriter.begin(
                disk,
                new SegmentHeader(
                        storeIdentity, historyId, number, sequence + 1, random.getAsLong(), options.durability()));
        segmentNumber = number;
        sequenceBeforeSegment = sequence;
    }

    /** Whether the segment is as long as one should be. */
    boolean isSegmentFull() {
        return segment.size() >= options.segmentBytes();
    }

    /** Begins the next segment, after this one has been forced whole; none if there is no record in this one. */
    void endSegment() throws IOException {
        if (sequence == sequenceBeforeSegment) {
            return;
        }
        if (forcedSequence < appendedSequence) {
            force();
        }
        segment.close();
        beginSegment(segmentNumber + 1);
    }

    long segmentNumber() {
        return segmentNumber;
    }

    /** Closes the segment; what has not been appended is lost. */
    @Override
    public void close() throws IOException {
        segment.close();
    }
}
