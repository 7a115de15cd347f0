package homekv.storage;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Arrays;

/**
 * Writes a segment of the log: encodes records into a buffer, and appends them all at once.
 *
 * <p>For one thread. {@link #add} blocks never; it costs a copy of the record's bytes and their checksum. After an
 * IOException what the file holds is unknown, and nothing but {@link #close} makes sense any more.
 */
final class SegmentWriter implements AutoCloseable {
    private static final int FIRST_BUFFER_BYTES = 64 << 10;
    private static final byte[] NONE = new byte[0];

    private final DiskFile file;

    /** The salt, and room for the place of the record that is being encoded. */
    private final byte[] saltAndPlace = new byte[2 * Long.BYTES];

    private byte[] buffer = NONE;
    private int bufferedBytes;

    /** Of what is in the file. */
    private long size = SegmentHeader.BYTES;

    private SegmentWriter(DiskFile file, long salt) {
        this.file = file;
        Format.putLong(saltAndPlace, 0, salt);
    }

    /**
     * Creates a segment, in the place of one with this number that has no records. When this returns it is durable, without
     * records.
     */
    static SegmentWriter begin(Disk disk, SegmentHeader header) throws IOException {
        String name = FileNames.segment(header.number());
        DiskFile file = disk.create(name + FileNames.UNFINISHED);
        try {
            file.append(ByteBuffer.wrap(header.encode()));
            file.force();
            disk.rename(name + FileNames.UNFINISHED, name);
            disk.forceDirectory();
            return new SegmentWriter(file, header.salt());
        } catch (Throwable e) {
            file.close();
            throw e;
        }
    }

    /**
     * Encodes a record behind those that have not been appended yet. If this throws, it has changed nothing.
     *
     * @param sequence one more than that of the record before
     * @param forcedSequence up to which sequence number the log is known to be forced by now
     * @throws IllegalArgumentException if the record is longer than a record can be
     * @throws OutOfMemoryError if there is no room for it
     */
    void add(LogRecord record, long sequence, long forcedSequence) {
        long bodyBytes = RecordFormat.bodyBytes(record);
        long end = bufferedBytes + RecordFormat.HEADER_BYTES + bodyBytes;
        if (bodyBytes > Format.MAX_BODY_BYTES || end > Integer.MAX_VALUE - 64) {
            throw new IllegalArgumentException("a record of the log has at most " + Format.MAX_BODY_BYTES
                    + " bytes, and this command makes one of " + bodyBytes);
        }
        if (buffer.length < end) {
            long roomy = Math.min(2L * buffer.length, Format.KEPT_BUFFER_BYTES);
            buffer = Arrays.copyOf(buffer, (int) Math.max(Math.max(end, roomy), FIRST_BUFFER_BYTES));
        }
        int header = bufferedBytes;
        int body = header + RecordFormat.HEADER_BYTES;
        RecordFormat.encode(record, buffer, body);
        Format.putInt(buffer, header + RecordFormat.BODY_LENGTH_AT, (int) bodyBytes);
        Format.putLong(buffer, header + RecordFormat.SEQUENCE_AT, sequence);
        Format.putLong(buffer, header + RecordFormat.FORCED_SEQUENCE_AT, forcedSequence);
        Format.putInt(buffer, header + RecordFormat.BODY_CRC_AT, Format.crc(buffer, body, (int) bodyBytes));
        Format.putLong(saltAndPlace, Long.BYTES, size + header);
        Format.putInt(buffer, header, Format.placedCrc(buffer, header, RecordFormat.HEADER_BYTES, saltAndPlace));
        bufferedBytes = (int) end;
    }

    /** How many bytes have been encoded and not been appended yet. */
    int bufferedBytes() {
        return bufferedBytes;
    }

    /** Appends everything that has been added. Durable it is only after {@link #force}. */
    void flush() throws IOException {
        file.append(ByteBuffer.wrap(buffer, 0, bufferedBytes));
        size += bufferedBytes;
        bufferedBytes = 0;
        if (buffer.length > Format.KEPT_BUFFER_BYTES) {
            buffer = NONE;
        }
    }

    void force() throws IOException {
        file.force();
    }

    /** How many bytes the file has. */
    long size() {
        return size;
    }

    /** Closes the file; what has not been appended is lost. */
    @Override
    public void close() throws IOException {
        file.close();
    }
}
