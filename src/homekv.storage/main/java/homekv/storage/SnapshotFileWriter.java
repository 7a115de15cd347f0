package homekv.storage;

import java.io.IOException;
import java.io.OutputStream;
import java.util.Arrays;

/**
 * Writes a snapshot file: the leases, and then each key with its versions, block by block as the source is walked, so
 * that it needs no more memory than a block and the largest value.
 *
 * <p>For one thread, which need not have the turn. Each block costs one write to the stream.
 */
final class SnapshotFileWriter {
    /** A block ends with the first item that makes it this long. */
    private static final int BLOCK_BYTES = 256 << 10;

    private final OutputStream out;
    private final Runnable everyBlock;
    private final byte[] saltAndPlace = new byte[2 * Long.BYTES];
    private byte[] block = new byte[BLOCK_BYTES + (BLOCK_BYTES >> 2)];
    private int blockBytes = SnapshotItem.BLOCK_HEADER_BYTES;
    private long blocks;
    private long bytes;

    private SnapshotFileWriter(OutputStream out, long salt, Runnable everyBlock) {
        this.out = out;
        this.everyBlock = everyBlock;
        Format.putLong(saltAndPlace, 0, salt);
    }

    /**
     * Walks the source to its end and writes what it says. The stream is neither flushed nor closed.
     *
     * @param header with the revision, history and grants of the source
     * @param everyBlock runs after each block; what it throws ends the writing
     * @return with the name that a file of this number has; an empty one for a backup
     */
    static SnapshotFileInfo write(SnapshotSource source, SnapshotHeader header, OutputStream out, Runnable everyBlock)
            throws IOException {
        byte[] encoded = header.encode();
        out.write(encoded);
        SnapshotFileWriter writer = new SnapshotFileWriter(out, header.salt(), everyBlock);
        writer.bytes = encoded.length;
        long liveKeys = writer.write(source);
        return new SnapshotFileInfo(
                header.number() == 0 ? "" : FileNames.snapshotFile(header.number()),
                header.revision(),
                liveKeys,
                writer.bytes);
    }

    private long write(SnapshotSource source) throws IOException {
        for (LeaseLeft lease : source.leases()) {
            int at = item(SnapshotItem.LEASE, RecordFormat.LEASE_BYTES);
            end(RecordFormat.encode(lease, block, at));
        }
        long keys = 0;
        long versions = 0;
        long liveKeys = 0;
        while (source.next()) {
            byte[] key = source.key().unsafeArray();
            int at = item(SnapshotItem.KEY, Integer.BYTES + (long) key.length);
            at = Format.putInt(block, at, key.length);
            end(Format.putBytes(block, at, key));
            keys++;
            int count = source.versions();
            versions += count;
            for (int i = 0; i < count; i++) {
                SavedVersion version = source.version(i);
                write(version);
                liveKeys += i == 0 && version.value() != null ? 1 : 0;
            }
        }
        int at = item(SnapshotItem.END, 4 * Long.BYTES);
        at = Format.putLong(block, at, source.compactRevision());
        at = Format.putLong(block, at, keys);
        at = Format.putLong(block, at, versions);
        at = Format.putLong(block, at, liveKeys);
        blockBytes = at;
        endBlock();
        return liveKeys;
    }

    private void write(SavedVersion version) throws IOException {
        byte[] value = version.value();
        int at;
        if (value == null) {
            at = item(SnapshotItem.TOMBSTONE, Long.BYTES);
            at = Format.putLong(block, at, version.revision());
        } else {
            boolean leased = version.lease() != 0;
            at = item(
                    leased ? SnapshotItem.VERSION_WITH_LEASE : SnapshotItem.VERSION,
                    (leased ? 4 : 3) * Long.BYTES + Integer.BYTES + (long) value.length);
            at = Format.putLong(block, at, version.revision());
            at = Format.putLong(block, at, version.createRevision());
            at = Format.putLong(block, at, version.version());
            if (leased) {
                at = Format.putLong(block, at, version.lease());
            }
            at = Format.putInt(block, at, value.length);
            at = Format.putBytes(block, at, value);
        }
        end(at);
    }

    /** Begins an item, for which there is room in the block; where it goes on after its type. */
    private int item(byte type, long fieldBytes) {
        long end = blockBytes + 1 + fieldBytes;
        if (end > Format.MAX_BODY_BYTES) {
            throw new AssertionError("a key or value of " + fieldBytes + " bytes is more than any limit");
        }
        if (end > block.length) {
            block = Arrays.copyOf(block, (int) end);
        }
        block[blockBytes] = type;
        return blockBytes + 1;
    }

    private void end(int at) throws IOException {
        blockBytes = at;
        if (blockBytes >= BLOCK_BYTES) {
            endBlock();
        }
    }

    private void endBlock() throws IOException {
        int header = SnapshotItem.BLOCK_HEADER_BYTES;
        Format.putInt(block, SnapshotItem.PAYLOAD_LENGTH_AT, blockBytes - header);
        Format.putInt(block, SnapshotItem.PAYLOAD_CRC_AT, Format.crc(block, header, blockBytes - header));
        Format.putLong(saltAndPlace, Long.BYTES, blocks);
        Format.putInt(block, 0, Format.placedCrc(block, 0, header, saltAndPlace));
        out.write(block, 0, blockBytes);
        bytes += blockBytes;
        blocks++;
        blockBytes = header;
        if (block.length > Format.KEPT_BUFFER_BYTES) {
            block = new byte[BLOCK_BYTES + (BLOCK_BYTES >> 2)];
        }
        everyBlock.run();
    }
}
