package homekv.storage;

import java.io.IOException;
import java.nio.ByteBuffer;

/**
 * Reads a segment of the log, record by record, up to its end or to the first bytes that are no record.
 *
 * <p>For one thread, and a file that nobody writes to. Whatever the bytes are, it ends with a record, with an end, with
 * bad bytes, or with a {@link DataDirectoryException}; other IOExceptions are the disk's. Needs a buffer of 1 MiB and as
 * much as the record at hand takes, for which there are never allocated more than the file has bytes.
 */
final class SegmentReader implements AutoCloseable {
    private static final int BUFFER_BYTES = 1 << 20;

    /** The shortest record: a header, and a body of a byte. */
    private static final int MIN_RECORD_BYTES = RecordFormat.HEADER_BYTES + 1;

    private final DiskFile file;
    private final String name;
    private final String path;
    private final long size;
    private SegmentHeader header;
    private final byte[] saltAndPlace = new byte[2 * Long.BYTES];

    /** Some bytes of the file, from {@code bufferStart} on. */
    private byte[] buffer;

    private long bufferStart;
    private int bufferedBytes;

    private long offset;
    private int recordBytes;
    private LogRecord record;
    private long sequence;
    private long forcedSequence;
    private String badness;

    /** Whether the bad bytes are what was written: their checksum matches, and they make no sense. */
    private boolean nonsense;

    private SegmentReader(DiskFile file, String name, String path, long size) {
        this.file = file;
        this.name = name;
        this.path = path;
        this.size = size;
        this.buffer = new byte[(int) Math.min(size, BUFFER_BYTES)];
    }

    /** Opens a segment, and reads nothing yet. */
    static SegmentReader open(Disk disk, String name) throws IOException {
        DiskFile file = disk.open(name);
        try {
            return new SegmentReader(file, name, disk.path(name), file.size());
        } catch (Throwable e) {
            file.close();
            throw e;
        }
    }

    /** How many bytes the file has. */
    long size() {
        return size;
    }

    /**
     * What the segment begins with.
     *
     * @throws DataDirectoryException if that is no header of a segment with this name
     */
    SegmentHeader header() throws IOException {
        if (header == null) {
            byte[] bytes = new byte[SegmentHeader.BYTES];
            int length = (int) Math.min(size, bytes.length);
            System.arraycopy(buffer, buffered(0, length), bytes, 0, length);
            SegmentHeader read = SegmentHeader.decode(bytes, length, path);
            if (read.number() != FileNames.segmentNumber(name)) {
                throw DataDirectoryException.damaged(
                        path, 0, "the header is that of segment " + FileNames.hex(read.number()));
            }
            header = read;
            Format.putLong(saltAndPlace, 0, header.salt());
            offset = SegmentHeader.BYTES;
            sequence = header.firstSequence() - 1;
        }
        return header;
    }

    /**
     * Moves to the next record.
     *
     * @return false: there is none, because the file ends here, or what is here is no record; see {@link #badness}
     * @throws DataDirectoryException if the segment's header is bad
     */
    boolean next() throws IOException {
        header();
        if (badness == null) {
            offset += recordBytes;
            recordBytes = 0;
            record = null;
            if (offset < size) {
                badness = read();
            }
        }
        return record != null;
    }

    /** Reads the record at the offset, or says what is wrong with it. */
    private String read() throws IOException {
        long rest = size - offset;
        if (rest < RecordFormat.HEADER_BYTES) {
            return "the file ends after " + rest + " bytes of a record's header";
        }
        int at = buffered(offset, RecordFormat.HEADER_BYTES);
        if (!isHeader(at, offset)) {
            return "the checksum of a record's header does not match";
        }
        int bodyBytes = Format.getInt(buffer, at + RecordFormat.BODY_LENGTH_AT);
        long readSequence = Format.getLong(buffer, at + RecordFormat.SEQUENCE_AT);
        long readForcedSequence = Format.getLong(buffer, at + RecordFormat.FORCED_SEQUENCE_AT);
        int bodyCrc = Format.getInt(buffer, at + RecordFormat.BODY_CRC_AT);
        if (readSequence != sequence + 1) {
            return nonsense("record " + readSequence + " is where record " + (sequence + 1) + " has to be");
        }
        if (readForcedSequence < 0 || readForcedSequence >= readSequence) {
            return nonsense("record " + readSequence + " says that record " + readForcedSequence
                    + " had been forced before it");
        }
        if (bodyBytes <= 0 || bodyBytes > Format.MAX_BODY_BYTES) {
            return nonsense("record " + readSequence + " has a body of " + bodyBytes + " bytes");
        }
        if (bodyBytes > rest - RecordFormat.HEADER_BYTES) {
            return "the file ends after " + rest + " of the " + (RecordFormat.HEADER_BYTES + (long) bodyBytes)
                    + " bytes of record " + readSequence;
        }
        int body = buffered(offset, RecordFormat.HEADER_BYTES + bodyBytes) + RecordFormat.HEADER_BYTES;
        if (bodyCrc != Format.crc(buffer, body, bodyBytes)) {
            return "the checksum of record " + readSequence + " does not match";
        }
        try {
            record = RecordFormat.decode(buffer, body, bodyBytes);
        } catch (IllegalArgumentException e) {
            return nonsense(
                    "the checksum of record " + readSequence + " matches, but not what it says: " + e.getMessage());
        }
        recordBytes = RecordFormat.HEADER_BYTES + bodyBytes;
        sequence = readSequence;
        forcedSequence = readForcedSequence;
        return null;
    }

    private String nonsense(String what) {
        nonsense = true;
        return what;
    }

    private boolean isHeader(int at, long place) {
        Format.putLong(saltAndPlace, Long.BYTES, place);
        return Format.getInt(buffer, at) == Format.placedCrc(buffer, at, RecordFormat.HEADER_BYTES, saltAndPlace);
    }

    /** The record that {@link #next} moved to. */
    LogRecord record() {
        return record;
    }

    /** The sequence number of the last good record; one less than the segment's first one, if there is none. */
    long sequence() {
        return sequence;
    }

    /** Up to which sequence number the log was known to be forced when the last good record was written. */
    long forcedSequence() {
        return forcedSequence;
    }

    /** Where the record begins that {@link #next} moved to; after it has returned false, where the good ones end. */
    long offset() {
        return offset;
    }

    /** What is wrong at {@link #offset}, in a line; null: nothing, so far or to the end. */
    String badness() {
        return badness;
    }

    /**
     * After a bad record: up to which sequence number the log was known to be forced when some record was written whose
     * header is here, at the bad place or behind it; -1 if there is none. Long.MAX_VALUE: the checksum at the bad place
     * matches what makes no sense, which no write that was torn leaves behind. Reads the rest of the file, and looks at
     * every byte of it. A whole body is not asked for: a header alone is as good a witness.
     */
    long laterForcedSequence() throws IOException {
        if (nonsense) {
            return Long.MAX_VALUE;
        }
        long highest = -1;
        // A file of this length has no record with a higher number; so the checksum is looked at rarely.
        long ahead = (size - offset) / MIN_RECORD_BYTES;
        for (long place = offset; place <= size - RecordFormat.HEADER_BYTES; ) {
            int at = buffered(place, RecordFormat.HEADER_BYTES);
            for (; at <= bufferedBytes - RecordFormat.HEADER_BYTES; at++, place++) {
                long readSequence = Format.getLong(buffer, at + RecordFormat.SEQUENCE_AT);
                if (Long.compareUnsigned(readSequence - sequence - 1, ahead) <= 0) {
                    long readForcedSequence = Format.getLong(buffer, at + RecordFormat.FORCED_SEQUENCE_AT);
                    if (readForcedSequence > highest && readForcedSequence < readSequence && isHeader(at, place)) {
                        highest = readForcedSequence;
                    }
                }
            }
        }
        return highest;
    }

    /** Sees to it that these bytes of the file are in the buffer; where in it they begin. */
    private int buffered(long from, int length) throws IOException {
        if (from < bufferStart || from + length > bufferStart + bufferedBytes) {
            int kept = from < bufferStart ? 0 : (int) Math.max(0, bufferStart + bufferedBytes - from);
            byte[] old = buffer;
            if (buffer.length < length || buffer.length > Format.KEPT_BUFFER_BYTES && length <= BUFFER_BYTES) {
                buffer = new byte[Math.max(length, (int) Math.min(size, BUFFER_BYTES))];
            }
            kept = Math.min(kept, buffer.length);
            System.arraycopy(old, kept == 0 ? 0 : (int) (from - bufferStart), buffer, 0, kept);
            bufferStart = from;
            bufferedBytes = kept;
            fill(length);
        }
        return (int) (from - bufferStart);
    }

    private void fill(int length) throws IOException {
        ByteBuffer room = ByteBuffer.wrap(buffer);
        room.limit((int) Math.min(buffer.length, size - bufferStart)).position(bufferedBytes);
        while (room.position() < length) {
            if (file.read(room, bufferStart + room.position()) < 0) {
                throw new IOException(path + " has become shorter while it was being read");
            }
            bufferedBytes = room.position();
        }
    }

    @Override
    public void close() throws IOException {
        file.close();
    }
}
