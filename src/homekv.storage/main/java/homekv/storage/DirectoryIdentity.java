package homekv.storage;

import java.io.IOException;
import java.nio.ByteBuffer;

/**
 * What a data directory is: a file that a new store begins with and that never changes. It has the same bytes at the same
 * places in all format versions, so that a directory of another one is told from a damaged one.
 *
 * @param storeIdentity a random number, which every other file repeats
 */
record DirectoryIdentity(long storeIdentity) {
    private static final int BYTES = 32;

    private static final long MAGIC = 0x486f6d654b566964L; // HomeKVid

    /** Makes the directory that of a store, durably. */
    static DirectoryIdentity create(Disk disk, long storeIdentity) throws IOException {
        byte[] bytes = new byte[BYTES];
        Format.putLong(bytes, 0, MAGIC);
        Format.putInt(bytes, 8, Format.VERSION);
        Format.putLong(bytes, 16, storeIdentity);
        Format.seal(bytes);
        String unfinished = FileNames.IDENTITY + FileNames.UNFINISHED;
        try (DiskFile file = disk.create(unfinished)) {
            file.append(ByteBuffer.wrap(bytes));
            file.force();
        }
        disk.rename(unfinished, FileNames.IDENTITY);
        disk.forceDirectory();
        return new DirectoryIdentity(storeIdentity);
    }

    /**
     * What the directory says that it is.
     *
     * @throws DataDirectoryException if it says so in another format version, or in no way that can be understood
     */
    static DirectoryIdentity read(Disk disk) throws IOException {
        String path = disk.path(FileNames.IDENTITY);
        ByteBuffer room = ByteBuffer.allocate(BYTES);
        try (DiskFile file = disk.open(FileNames.IDENTITY)) {
            if (file.size() > BYTES) {
                throw DataDirectoryException.damaged(path, BYTES, "the file is longer than " + BYTES + " bytes");
            }
            while (room.hasRemaining() && file.read(room, room.position()) >= 0) {
                // A read may bring less than was asked for.
            }
        }
        Format.requireHeader(room.array(), room.position(), MAGIC, path);
        return new DirectoryIdentity(Format.getLong(room.array(), 16));
    }
}
