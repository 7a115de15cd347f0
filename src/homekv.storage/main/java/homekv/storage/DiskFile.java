package homekv.storage;

import java.io.IOException;
import java.nio.ByteBuffer;

/**
 * An open file of a {@link Disk}, for one thread at a time. An interrupt of a thread within a call may close it.
 */
interface DiskFile extends AutoCloseable {
    /** How many bytes it has. */
    long size() throws IOException;

    /**
     * Reads some bytes, at least one unless there is no room for any.
     *
     * @return how many; -1: the file ends at or before {@code position}
     */
    int read(ByteBuffer into, long position) throws IOException;

    /** Writes all that remains in the buffer at the end of the file. */
    void append(ByteBuffer from) throws IOException;

    /** Writes all that remains in the buffer over bytes that the file has, from {@code position} on. */
    void overwrite(ByteBuffer from, long position) throws IOException;

    /** Drops what lies behind the first {@code size} bytes. */
    void truncate(long size) throws IOException;

    /** Returns once all bytes and the size are durable. After a failure nobody knows which are, nor will another try say. */
    void force() throws IOException;

    @Override
    void close() throws IOException;
}
