package homekv.storage;

/**
 * What a snapshot file begins with. What follows depends on nothing in it but the salt.
 *
 * @param storeIdentity the store that it is of
 * @param historyId the history that its revisions are of, see {@link MvccStore#id}
 * @param number it holds everything that lies in segments below this one; 0: it is a backup, and there are no segments
 * @param revision the newest revision that it holds
 * @param sequence the last record that it holds the effect of; 0: none
 * @param grants how many leases had been granted
 * @param salt a random number, which every block's checksum includes
 */
record SnapshotHeader(
        long storeIdentity, long historyId, long number, long revision, long sequence, long grants, long salt) {
    static final int BYTES = 80;

    private static final long MAGIC = 0x486f6d654b56736eL; // HomeKVsn

    byte[] encode() {
        byte[] header = new byte[BYTES];
        Format.putLong(header, 0, MAGIC);
        Format.putInt(header, 8, Format.VERSION);
        Format.putLong(header, 16, storeIdentity);
        Format.putLong(header, 24, historyId);
        Format.putLong(header, 32, number);
        Format.putLong(header, 40, revision);
        Format.putLong(header, 48, sequence);
        Format.putLong(header, 56, grants);
        Format.putLong(header, 64, salt);
        return Format.seal(header);
    }

    /** The header in an array of its length, of which so many bytes were there to be read. */
    static SnapshotHeader decode(byte[] header, int bytes, String path) throws DataDirectoryException {
        Format.requireHeader(header, bytes, MAGIC, path);
        for (int offset = 32; offset < 64; offset += Long.BYTES) {
            if (Format.getLong(header, offset) < 0) {
                throw DataDirectoryException.damaged(path, offset, "the header has a negative number there");
            }
        }
        return new SnapshotHeader(
                Format.getLong(header, 16),
                Format.getLong(header, 24),
                Format.getLong(header, 32),
                Format.getLong(header, 40),
                Format.getLong(header, 48),
                Format.getLong(header, 56),
                Format.getLong(header, 64));
    }
}
