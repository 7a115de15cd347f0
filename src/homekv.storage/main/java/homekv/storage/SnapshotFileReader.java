package homekv.storage;

import java.io.BufferedInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.UnaryOperator;

/**
 * Reads a snapshot file from its beginning to its end, and tells a {@link SnapshotVisitor} what it holds. Only once it has
 * been read whole is it known to be sound: whoever is told something before that has to be able to forget it.
 *
 * <p>For one thread. Whatever the bytes are, it ends, with the header or with a {@link DataDirectoryException}; other
 * IOExceptions are the disk's or the stream's. Needs a buffer of 1 MiB, one for a block, and the versions of a key; and
 * never more of them than has really been read, and as much again.
 */
final class SnapshotFileReader {
    private static final int BUFFER_BYTES = 1 << 20;
    private static final int END_BYTES = 4 * Long.BYTES;

    private final InputStream in;
    private final String path;
    /** Null: nobody is told. */
    private final SnapshotVisitor visitor;

    /** Where the blocks are copied to, or null. */
    private final OutputStream copy;

    private SnapshotHeader header;
    private final byte[] saltAndPlace = new byte[2 * Long.BYTES];
    private byte[] block = new byte[BUFFER_BYTES];

    /** Where the block at hand begins. */
    private long offset;

    private long keys;
    private long versions;
    private long liveKeys;
    private long compactRevision;
    private Bytes key;
    private List<SavedVersion> newestFirst = new ArrayList<>();

    private SnapshotFileReader(InputStream in, String path, SnapshotVisitor visitor, OutputStream copy) {
        this.in = new BufferedInputStream(in, BUFFER_BYTES);
        this.path = path;
        this.visitor = visitor;
        this.copy = copy;
    }

    /**
     * Reads a file of the directory.
     *
     * @param visitor null: nobody is told, the file is only verified
     * @throws DataDirectoryException if anything in it is not as it was written, or it has another number than its name
     */
    static SnapshotHeader load(Disk disk, String name, SnapshotVisitor visitor) throws IOException {
        try (DiskFile file = disk.open(name)) {
            String path = disk.path(name);
            SnapshotFileReader reader = new SnapshotFileReader(new FileInput(file), path, visitor, null);
            SnapshotHeader header = reader.readHeader();
            if (header.number() != FileNames.snapshotFileNumber(name)) {
                throw DataDirectoryException.damaged(
                        path, 0, "the header is that of snapshot file " + FileNames.hex(header.number()));
            }
            reader.readBlocks();
            return header;
        }
    }

    /**
     * Reads a backup, to the end of the stream.
     *
     * @param path what to call it in messages
     * @param visitor null: nobody is told, the backup is only verified
     * @throws DataDirectoryException if anything in it is not as it was written
     */
    static SnapshotHeader load(InputStream in, String path, SnapshotVisitor visitor) throws IOException {
        SnapshotFileReader reader = new SnapshotFileReader(in, path, visitor, null);
        SnapshotHeader header = reader.readHeader();
        reader.readBlocks();
        return header;
    }

    /**
     * Copies a backup under another header, and verifies it meanwhile. What has been written when this throws is worth
     * nothing.
     *
     * @param path what to call it in messages
     * @param changed makes the header of the copy, with the same salt, revision and grants
     * @param visitor null: nobody is told
     * @return the header of the copy
     * @throws DataDirectoryException if anything in it is not as it was written
     */
    static SnapshotHeader copy(
            InputStream in,
            String path,
            UnaryOperator<SnapshotHeader> changed,
            SnapshotVisitor visitor,
            OutputStream out)
            throws IOException {
        SnapshotFileReader reader = new SnapshotFileReader(in, path, visitor, out);
        SnapshotHeader header = changed.apply(reader.readHeader());
        if (header.salt() != reader.header.salt()
                || header.revision() != reader.header.revision()
                || header.grants() != reader.header.grants()) {
            throw new AssertionError("what the blocks depend on must not change");
        }
        out.write(header.encode());
        reader.readBlocks();
        return header;
    }

    private SnapshotHeader readHeader() throws IOException {
        byte[] bytes = new byte[SnapshotHeader.BYTES];
        int length = in.readNBytes(bytes, 0, bytes.length);
        header = SnapshotHeader.decode(bytes, length, path);
        Format.putLong(saltAndPlace, 0, header.salt());
        offset = length;
        return header;
    }

    private void readBlocks() throws IOException {
        boolean ended = false;
        for (long number = 0; !ended; number++) {
            int payloadBytes = readBlock(number);
            try {
                ended = visit(new FieldReader(block, SnapshotItem.BLOCK_HEADER_BYTES, payloadBytes));
            } catch (IllegalArgumentException e) {
                throw nonsense(e);
            }
            int blockBytes = SnapshotItem.BLOCK_HEADER_BYTES + payloadBytes;
            if (copy != null) {
                copy.write(block, 0, blockBytes);
            }
            offset += blockBytes;
        }
        if (in.read() >= 0) {
            throw damaged("the file goes on after its end mark", null);
        }
        if (visitor != null) {
            try {
                visitor.finish(header.revision(), compactRevision, header.grants());
            } catch (IllegalArgumentException e) {
                throw nonsense(e);
            }
        }
    }

    private DataDirectoryException nonsense(IllegalArgumentException e) {
        return damaged("the checksum of a block matches, but not what it says: " + e.getMessage(), e);
    }

    private DataDirectoryException damaged(String found, Throwable cause) {
        return DataDirectoryException.damaged(path, offset, found, cause);
    }

    /** Reads a block with its header into the buffer; how long its payload is. */
    private int readBlock(long number) throws IOException {
        if (block.length > Format.KEPT_BUFFER_BYTES) {
            block = new byte[BUFFER_BYTES];
        }
        int length = in.readNBytes(block, 0, SnapshotItem.BLOCK_HEADER_BYTES);
        if (length < SnapshotItem.BLOCK_HEADER_BYTES) {
            throw damaged(
                    length == 0
                            ? "the file ends without its end mark"
                            : "the file ends after " + length + " bytes of a block's header",
                    null);
        }
        Format.putLong(saltAndPlace, Long.BYTES, number);
        if (Format.getInt(block, 0) != Format.placedCrc(block, 0, SnapshotItem.BLOCK_HEADER_BYTES, saltAndPlace)) {
            throw damaged("the checksum of a block's header does not match", null);
        }
        int payloadBytes = Format.getInt(block, SnapshotItem.PAYLOAD_LENGTH_AT);
        int payloadCrc = Format.getInt(block, SnapshotItem.PAYLOAD_CRC_AT);
        if (payloadBytes <= 0 || payloadBytes > Format.MAX_BODY_BYTES) {
            throw damaged("a block has " + payloadBytes + " bytes", null);
        }
        int end = SnapshotItem.BLOCK_HEADER_BYTES + payloadBytes;
        for (int at = SnapshotItem.BLOCK_HEADER_BYTES; at < end; ) {
            if (at == block.length) {
                block = Arrays.copyOf(block, (int) Math.min(end, 2L * block.length));
            }
            int asked = Math.min(end, block.length) - at;
            int read = in.readNBytes(block, at, asked);
            if (read < asked) {
                throw damaged("the file ends within a block of " + payloadBytes + " bytes", null);
            }
            at += read;
        }
        if (payloadCrc != Format.crc(block, SnapshotItem.BLOCK_HEADER_BYTES, payloadBytes)) {
            throw damaged("the checksum of a block does not match", null);
        }
        return payloadBytes;
    }

    /** Goes through the items of a block; whether the last one is the end mark. */
    private boolean visit(FieldReader items) {
        while (items.remaining() > 0) {
            byte type = items.readByte();
            switch (type) {
                case SnapshotItem.LEASE -> {
                    require(key == null, "a lease behind a key");
                    LeaseLeft lease = RecordFormat.decodeLease(items);
                    if (visitor != null) {
                        visitor.lease(lease);
                    }
                }
                case SnapshotItem.KEY -> {
                    Bytes next = items.readKey(items.readInt());
                    endKey();
                    require(key == null || key.compareTo(next) < 0, "keys that are out of order");
                    key = next;
                    keys++;
                }
                case SnapshotItem.VERSION -> add(items.readLong(1), items.readLong(1), items.readLong(1), 0, items);
                case SnapshotItem.VERSION_WITH_LEASE ->
                    add(items.readLong(1), items.readLong(1), items.readLong(1), items.readLong(1), items);
                case SnapshotItem.TOMBSTONE -> add(new SavedVersion(items.readLong(1), 0, 0, null, 0));
                case SnapshotItem.END -> {
                    endKey();
                    end(items);
                    return true;
                }
                default -> throw new IllegalArgumentException("an item of type " + type + ", which there is not");
            }
        }
        return false;
    }

    private static void require(boolean condition, String what) {
        if (!condition) {
            throw new IllegalArgumentException(what);
        }
    }

    private void add(long revision, long createRevision, long version, long lease, FieldReader items) {
        require(createRevision <= revision, "a version that is older than its key");
        add(new SavedVersion(revision, createRevision, version, items.readBytes(items.readInt()), lease));
    }

    private void add(SavedVersion version) {
        require(key != null, "a version without a key");
        require(version.revision() <= header.revision(), "a version that is newer than the file");
        require(
                newestFirst.isEmpty() || newestFirst.getLast().revision() > version.revision(),
                "versions that are out of order");
        if (newestFirst.isEmpty() && version.value() != null) {
            liveKeys++;
        }
        newestFirst.add(version);
        versions++;
    }

    private void endKey() {
        if (key != null) {
            require(!newestFirst.isEmpty(), "a key without versions");
            if (visitor != null) {
                visitor.key(key, newestFirst.size() == 1 ? List.of(newestFirst.getFirst()) : newestFirst);
            }
            if (newestFirst.size() == 1) {
                newestFirst.clear();
            } else {
                newestFirst = new ArrayList<>();
            }
        }
    }

    private void end(FieldReader items) {
        require(items.remaining() == END_BYTES, "an end mark that is not the end");
        compactRevision = items.readLong(0);
        require(compactRevision <= header.revision(), "a compact revision that is newer than the file");
        require(items.readLong() == keys, "another number of keys than its end mark says");
        require(items.readLong() == versions, "another number of versions than its end mark says");
        require(items.readLong() == liveKeys, "another number of live keys than its end mark says");
    }

    /** A file of a disk from its beginning on. */
    private static final class FileInput extends InputStream {
        private final DiskFile file;
        private long position;

        FileInput(DiskFile file) {
            this.file = file;
        }

        @Override
        public int read() throws IOException {
            byte[] one = new byte[1];
            return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
        }

        @Override
        public int read(byte[] bytes, int offset, int length) throws IOException {
            int read = length == 0 ? 0 : file.read(ByteBuffer.wrap(bytes, offset, length), position);
            position += Math.max(read, 0);
            return read;
        }
    }
}
