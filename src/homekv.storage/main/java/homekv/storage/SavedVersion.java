package homekv.storage;

/**
 * One version of a key as a snapshot file keeps it; its numbers are those of {@link Version}.
 *
 * @param value its bytes, never written to; null: a tombstone, whose other numbers but the revision are 0
 * @param lease the lease that it is attached to; 0: none
 */
record SavedVersion(long revision, long createRevision, long version, byte[] value, long lease) {}
