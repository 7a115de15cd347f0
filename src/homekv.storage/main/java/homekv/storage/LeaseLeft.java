package homekv.storage;

/**
 * A lease as the disk keeps it, which has no deadlines, only time left.
 *
 * @param id its number
 * @param ttlMillis its time to live
 * @param leftMillis how much of that was left; 0: none
 * @param grant which of the store's grants it came from, counted from 1
 * @param ended whether it takes no more keys, and is only there until the last of its own is deleted
 */
record LeaseLeft(long id, long ttlMillis, long leftMillis, long grant, boolean ended) {}
